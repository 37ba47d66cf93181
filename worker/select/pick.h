/* SPDX-License-Identifier: MIT */
/*
 * Which credential serves one attempt of a request: the one its session is
 * bound to, or what the strategy chooses, which the session is then bound to.
 * Reads `state`, `bindings` and the board; raises no words, knows no HTTP.
 *
 * A bound pick reads the binding, the credential and two words, never the
 * route. A live binding outranks priority, and is replaced only when its
 * credential cannot serve or is the one that has just failed.
 */
#ifndef FL_WORKER_SELECT_PICK_H
#define FL_WORKER_SELECT_PICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/bindings.h"
#include "common/board.h"
#include "common/config.h"
#include "common/provider.h"
#include "common/state.h"
#include "common/store.h"
#include "worker/select/ready.h"

struct strategy;

/* Where a credential's record lies as long as nothing is committed. */
struct pick_record {
	size_t txn_id;
	const struct state_credential *record;
};

/* What all picks of a worker have in common; borrowed, one per worker. */
struct picker {
	struct store *state;
	struct store *bindings;
	struct board *board;
	const struct strategy *strategy;
	bool affinity;
	int64_t ttl_ms;
	struct pick_record *records; /* by slot */
	struct ready_views ready;
};

/* Takes the routing group of the configuration; undone by picker_fini(). */
void picker_init(struct picker *picker, struct store *state,
    struct store *bindings, struct board *board, const struct config *config);

void picker_fini(struct picker *picker);

/*
 * One attempt of a request. Everything is borrowed for the call of
 * pick_begin().
 */
struct pick_ask {
	const char *model; /* canonical: without prefix and suffix */
	size_t model_len;

	/*
	 * The client's dialect, whose cursor is moved, and the set of
	 * DIALECT_BITs of which the credential must speak one.
	 */
	enum dialect dialect;
	uint8_t dialects;

	/*
	 * The session, NULL: none. Its keys are made of the canonical model.
	 * alias: a second key of the same session, whose binding is inherited
	 * when the first has none, or NULL. source and session_short are kept
	 * for people (struct session_id, session_id_shorten()); may be NULL.
	 */
	const struct binding_key *session;
	const struct binding_key *alias;

	/*
	 * The session that started this one, of the same model, or NULL: a
	 * first bind prefers the credential that serves it.
	 */
	const struct binding_key *parent;
	const char *source;
	const char *session_short;

	/*
	 * Board slots of credentials that this request may not use again, each
	 * once; one more after each attempt that failed.
	 */
	const uint32_t *excluded;
	size_t nexcluded;

	/*
	 * Upstream models of pools that it may not use again, by their cells;
	 * and the credential whose pool goes on: while that has another one,
	 * it is picked, and with stay_only nobody else. NULL: none.
	 */
	const uint32_t *tried;
	size_t ntried;
	const char *stay;
	bool stay_only;

	/*
	 * The credential that has just failed with an outcome that counts, so
	 * that the session moves away from it; NULL at the first attempt, and
	 * when nothing was held against it.
	 */
	const char *expected;

	/*
	 * The round over the credentials, the first is 0: a credential takes
	 * part in as many further ones as its own request-retry says, or else
	 * request_retry.
	 */
	unsigned round;
	int request_retry;

	/*
	 * The credential that alone can serve the request, NULL: any can.
	 * hard_pin: rather nobody than another.
	 */
	const char *pin;
	bool hard_pin;

	int64_t now_ms; /* clock_now_ms() */

	/*
	 * How long the request would wait for its bound credential to come out
	 * of a cooldown; 0: not at all, the session moves at once.
	 */
	int64_t wait_ms;
};

enum pick_outcome {
	PICK_OK,            /* p->credential and p->model are set */
	PICK_UNKNOWN_MODEL, /* nobody knows the model: 404 */
	PICK_DIALECT,       /* known, but nobody speaks the dialect: 400 */
	PICK_COOLING,       /* all wait for their quota, until_ms: 429 */
	PICK_BLOCKED,       /* none is usable, until_ms may be 0: 503 */
	PICK_EXHAUSTED,     /* only excluded ones are left: the last error */
	PICK_WAIT,          /* bound and cooling until until_ms, within
			     * wait_ms: ask again then */
	PICK_PINNED         /* the one it is pinned to cannot, see pin_why */
};

/* How the credential was found: the decision of "why". */
enum pick_decision {
	PICK_DECISION_NONE,    /* without a session, or unbound for now */
	PICK_DECISION_HIT,     /* the binding */
	PICK_DECISION_NEW,     /* chosen, and bound */
	PICK_DECISION_ADOPTED, /* another request's binding, or an alias's */
	PICK_DECISION_MOVED    /* chosen, and bound in place of another */
};

/* Why a credential was not taken. */
enum pick_why {
	PICK_WHY_EXCLUDED, /* tried before by this request */
	PICK_WHY_ROUNDS,   /* takes part in no further round */
	PICK_WHY_DIALECT,  /* does not speak it */
	PICK_WHY_WEIGHT,   /* weighs nothing, where weights count */
	PICK_WHY_COOLING,  /* quota, until until_ms */
	PICK_WHY_BLOCKED,  /* any other failure, until until_ms */
	PICK_WHY_DISABLED,
	PICK_WHY_PROXY,   /* its proxy is invalid: it fails closed */
	PICK_WHY_MODEL,   /* bound, and no longer serves the model */
	PICK_WHY_UNBOUND, /* bound, and was unbound or replaced since */
	PICK_WHY_GONE,    /* bound, and was removed since */
	PICK_WHY_MAX
};

/*
 * PICK_PASSED_LARGE: once so many were passed over, those of a tier of more
 * than READY_SMALL members are no longer looked at one by one.
 */
enum { PICK_PASSED_MAX = 16, PICK_PASSED_LARGE = 4, PICK_HINTS_MAX = 4 };

struct pick_passed {
	char credential[64]; /* id, cut */
	uint32_t slot;       /* on the board; BOARD_NONE: removed */
	enum pick_why why;
	int64_t until_ms; /* 0: not a matter of time */
};

/*
 * A pick. What its pointers lead to is valid until pick_end(), which must
 * come before the event callback returns: a read transaction is open. One
 * pick at a time per process.
 */
struct pick {
	const struct state_credential *credential;
	const struct state_model *model; /* as that credential serves it */
	enum pick_decision decision;
	int64_t until_ms; /* PICK_COOLING, _BLOCKED, _WAIT, _PINNED */
	/* With PICK_DECISION_MOVED: the credential that is left, and why. */
	char left[64];
	enum pick_why left_why;

	bool pinned; /* the pin decided */
	enum pick_why pin_why;

	/* The credentials that were passed over, the first of them. */
	struct pick_passed passed[PICK_PASSED_MAX];
	size_t npassed;

	/* private to pick.c */
	const struct state_route *route; /* once it was read */
	struct picker *picker;
	const struct pick_ask *ask;
	MDB_txn *txn;
	size_t txn_id;
	uint64_t model_hash;
	bool thorough; /* records are looked at before they are chosen */
	bool kept;     /* an older view of a tier was used */
	bool fresh;    /* and none is to be */
	int refusal;   /* why no credential could be chosen to be bound */

	/* Slots to be preferred at a first bind, the best one first. */
	uint32_t hints[PICK_HINTS_MAX];
	size_t nhints;
};

/*
 * Picks. A positive enum pick_outcome, PICK_OK, or negative errno: -EBADMSG
 * for a damaged record.
 *
 * A session that is bound for the first time prefers the credential that
 * serves it with another model, the one used last, then the one that serves
 * its parent, if that is ready in the best tier that is.
 *
 * Waits at most PICK_LOCK_WAIT_MS for another writer of `bindings`; when that
 * is in vain, or the store is full, the request is served unbound, by
 * rendezvous hash of its session over the best tier that is ready, and the
 * session is marked on the board: whoever binds it later chooses the same way,
 * so that parallel requests and later turns agree.
 */
enum { PICK_LOCK_WAIT_MS = 3 };
int pick_begin(struct pick *p, struct picker *picker,
    const struct pick_ask *ask) MUST_CHECK;

/* After every pick_begin(), whatever it returned. */
void pick_end(struct pick *p);

/* "hit", "new", "adopted", "moved", "none". */
const char *pick_decision_name(enum pick_decision decision);

/* "excluded", "cooling", ...: what passed_over shows. */
const char *pick_why_name(enum pick_why why);

#endif
