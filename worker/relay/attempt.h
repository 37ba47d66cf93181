/* SPDX-License-Identifier: MIT */
/*
 * One try of a request at one upstream with one credential: the call, what
 * of the credential is needed while it lasts, and what its end means for the
 * board and the master. It does not decide what comes next.
 */
#ifndef FL_WORKER_RELAY_ATTEMPT_H
#define FL_WORKER_RELAY_ATTEMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/bindings.h"
#include "common/state.h"
#include "worker/client/exchange.h"
#include "worker/relay/outcome.h"
#include "worker/relay/renewal.h"
#include "worker/relay/rewrite.h"
#include "worker/upstream/upstream.h"

struct attempt {
	struct worker *worker;
	struct upstream_call *call;
	bool ended;      /* its done event has come: not to be cancelled */
	unsigned number; /* 1 is the first of its request */
	bool collects;   /* a stream is made of a request for none */
	int status;      /* of the answer; 0: none yet */
	int64_t start_us;
	int64_t wait_us;  /* since when the first byte is waited for */
	int64_t first_us; /* the first byte of the body; 0: none yet */
	size_t sent_mark; /* bytes of the request sent when last looked at */

	/* The credential; its record may change meanwhile. */
	char credential[BINDING_ID_MAX]; /* public id */
	char provider[64];
	char *model; /* as named upstream */
	char *secret;
	uint32_t slot, cell;
	uint16_t incarnation;
	bool oauth;
	bool has_rules; /* its section has, about errors */
	enum provider_id provider_id;
	struct renewal_token token; /* valid if it can be renewed */
	bool renewable;
	struct cooling cooling;
	uint64_t word;  /* of the cell when it started */
	uint64_t whole; /* of the credential's */

	char *body;      /* with edits; NULL: the exchange's own */
	size_t body_len; /* of what is sent */
	int index;       /* among the attempts in flight on the board */
	struct board_attempt *noted; /* there, or ours if there is no room */
};

struct attempt_ask {
	struct exchange *x;
	const struct state_credential *credential; /* both of a transaction */
	const struct state_model *model;
	struct span asked;     /* the model as the client spelled it */
	const char *canonical; /* the model */
	const char *session;   /* shortened, or "" */
	const struct rewrite_places *places; /* of the body */
	bool stream;                         /* the client wants one */
	bool unseal; /* leave out reasoning that is encrypted */
	unsigned number;
};

/*
 * Starts; nothing of it happens within the call. 0; OUTGOING_NO_PATH; -EINVAL
 * for a URL or proxy that cannot be; -E2BIG for headers that are too many or
 * too large; -ENOMEM. Unless 0, there is nothing to end.
 */
int attempt_start(struct attempt *a, const struct attempt_ask *ask,
    const struct upstream_events *events, void *ctx) MUST_CHECK;

/*
 * Cancels what is in flight; what is needed to charge it stays until
 * attempt_end(), which does the same first and gives everything back.
 */
void attempt_stop(struct attempt *a);
void attempt_end(struct attempt *a);

/*
 * All of the request has gone out and the answer has begun: the body is not
 * needed any more. The exchange's own is the caller's to release.
 */
bool attempt_sent(const struct attempt *a);
void attempt_release_body(struct attempt *a);

/*
 * Finds the operator's rule for a failure, those of the credential's section
 * first, and notes it there.
 */
void attempt_find_rule(struct attempt *a, struct failure *f);

/*
 * Books a failure: counts it, raises the word of the credential's model, or
 * of the whole credential, at once and tells the master, as the outcome table
 * says. *until_ms: when the credential is back, 0 if it was not benched.
 */
struct outcome
attempt_charge(struct attempt *a, const struct failure *f, int64_t *until_ms);

/* The same in two steps: what it means, and booking it. */
struct outcome attempt_judge(const struct attempt *a, const struct failure *f);
void attempt_charge_as(
    struct attempt *a, int status, const struct outcome *o, int64_t *until_ms);

/* Books a success; tells the master if that ends a series of failures. */
void attempt_credit(struct attempt *a);

#endif
