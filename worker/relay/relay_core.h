/* SPDX-License-Identifier: MIT */
/*
 * The state of a relay, open to its files and nobody else: relay.c has its
 * life and its clock, relay_request.c what was asked, relay_try.c whom to ask,
 * relay_pins.c who alone can be asked, relay_why.c what is kept of that,
 * relay_round.c when those are asked
 * again that failed, relay_refuse.c what is said when nobody can be asked,
 * relay_answer.c what comes back, relay_tell.c what the client is told.
 * Each event is one function; whatever ends the relay detaches it from its
 * exchange first and leaves the memory to the end of the turn, because callers
 * up the stack still hold it.
 */
#ifndef FL_WORKER_RELAY_RELAY_CORE_H
#define FL_WORKER_RELAY_RELAY_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event_struct.h>

#include "common/bindings.h"
#include "common/buf.h"
#include "common/pins.h"
#include "common/spares.h"
#include "worker/client/exchange.h"
#include "worker/client/respond.h"
#include "worker/dialect/collect.h"
#include "worker/dialect/dialect_stream.h"
#include "worker/dialect/pin_scan.h"
#include "worker/relay/attempt.h"
#include "worker/relay/renewal.h"
#include "worker/relay/reply.h"
#include "worker/relay/rewrite.h"
#include "worker/relay/usage.h"
#include "worker/select/pick.h"
#include "worker/session/facts.h"
#include "worker/session/session.h"

/* As much of an answer is held back, and of an error kept. */
enum { RELAY_HOLD = 64 * 1024 };

/* So many pins of an answer are kept back to be put together. */
enum { RELAY_PINS_MAX = 8 };

enum relay_state {
	RELAY_HELD,    /* the client has got nothing yet */
	RELAY_OPENED,  /* it has got our own head, and pings */
	RELAY_SPLICED, /* it is getting the upstream's answer */
	RELAY_DONE     /* detached; waits to be freed */
};

/* What is done when wake_us has come. No attempt is under way until then. */
enum relay_wake {
	WAKE_SAME, /* the credential of the last attempt is asked again */
	WAKE_PICK  /* somebody is picked */
};

/* What the answer of the current attempt is taken for. */
enum answer_kind {
	ANSWER_NONE,   /* there is no head yet */
	ANSWER_ERROR,  /* not 2xx: its body is collected */
	ANSWER_WHOLE,  /* held until all of it, or RELAY_HOLD, is there */
	ANSWER_STREAM, /* read frame by frame, held until it has content */
	ANSWER_RAW,    /* encoded in spite of us: passed on unread */
	ANSWER_COLLECT /* a stream that is told as one answer */
};

/* A line of the log that is not repeated for every request. */
struct quiet {
	int64_t until_us;
	unsigned kept_back; /* requests it would have been about */
};

struct relays {
	struct worker *worker;
	struct picker picker;
	struct renewals *renewals;
	TAILQ_HEAD(relay_list, relay) live, dead;
	struct event reaper;
	struct quiet quiet[16]; /* by model */
	struct spares spares;   /* of relays */

	/* Pins that could not be put when they were told. */
	STAILQ_HEAD(late_pins_list, late_pins) late;
	size_t nlate;
	struct event late_timer;
};

struct relay {
	TAILQ_ENTRY(relay) link;
	struct relays *all;
	struct worker *worker;
	struct exchange *x; /* NULL once done */
	enum relay_state state;

	/* What was asked. */
	char *asked;  /* the model as spelled */
	char *model;  /* canonical */
	bool stream;  /* the client wants one */
	bool counted; /* among the streams of the board */
	bool pings;   /* silence may be filled: it wants events */
	bool codex;   /* the client is Codex */
	struct rewrite_places places;
	bool has_session, has_alias, has_parent;
	struct binding_key session, alias, parent;
	const char *source; /* of the session; NULL: none */
	char session_short[SESSION_SHORT_BYTES];

	/* Who alone can be asked. */
	enum pin_kind pin_kind;
	struct pin_key pin_key;
	char *pin;     /* credential; NULL: anyone */
	bool sealed;   /* it has encrypted reasoning */
	bool unsealed; /* which is left out since somebody could not read it */

	/* Whom to ask. */
	struct attempt attempt;
	bool trying;            /* attempt is under way */
	bool parked;            /* it was refused, which is not charged yet */
	struct outcome refusal; /* what it will cost then */
	struct renewal_wait renewal; /* for a new token of its credential */
	uint32_t *renewed;           /* slots that were waited for, once */
	size_t nrenewed, renewed_cap;
	unsigned attempts;  /* made, those that are no outcome left out */
	unsigned round;     /* over the credentials; the first is 0 */
	unsigned spent;     /* credentials used up in this round */
	bool stale_once;    /* a dead connection was forgiven already */
	bool unbound;       /* failures that cost nothing: leave the session */
	uint32_t *excluded; /* slots, in this round */
	size_t nexcluded, excluded_cap;
	uint32_t *tried; /* cells of upstream models of pools, likewise */
	size_t ntried, tried_cap;
	bool pooled;    /* the attempt's model is one of several of its name */
	bool stays;     /* another one of them is asked for */
	char *expected; /* the credential that failed last, at its cost */
	int failed_status; /* of the last failure; 0: it had none */
	unsigned pauses;   /* so far, on paths that are shared */
	enum relay_wake wake;
	int64_t wake_us;             /* when that is; 0: nothing is due */
	int64_t patience_ms;         /* waits for its credential till then */
	enum pick_decision decision; /* of the first pick, or MOVED */
	struct reply *last;          /* the last error, if any */
	int64_t retry_at_ms;         /* the first of them is back; 0: none */
	int64_t last_at_ms;  /* the last that failed is; 0: not benched */
	uint64_t why_number; /* of its record in the ring */
	int why_index;       /* of the attempt there; -1: none */

	/* What comes back. */
	enum answer_kind answer;
	struct dialect_stream frames;
	struct buf held;
	struct collect *collect; /* ANSWER_COLLECT */
	struct pin_scan *scan;   /* NULL: no pins in answers of this dialect */
	struct pin_key found[RELAY_PINS_MAX];
	size_t nfound;    /* of them, to be put before more is told */
	bool charged;     /* an error inside it was booked */
	bool released;    /* the request body was given back */
	bool paused;      /* the upstream waits for the client */
	uint64_t bytes;   /* of body told to the client */
	int64_t first_us; /* when it got the first of them */

	/* Clocks, of clock_mono_us(). */
	int64_t begun_us; /* when the request was complete */
	struct event timer;
	int64_t armed_us; /* when it fires; 0: not set */
	int64_t heard_us; /* last byte of the upstream's body */
	int64_t told_us;  /* last byte to the client, or the start */
};

/* ---- relay.c */

/* Sets the timer for what is due next, if it is not set for sooner. */
void relay_arm(struct relay *r);

/*
 * The ways to end. Each writes the access line, detaches from the exchange
 * and ends it; the attempt must have been booked. status is for the log where
 * the client was told one before.
 */
void relay_answer(struct relay *r, int status, const struct header *headers,
    size_t nheaders, const void *body, size_t len);
void relay_finish(struct relay *r);
void relay_break(struct relay *r);
void relay_refuse(struct relay *r, enum respond_error error,
    int64_t retry_after_ms, const char *fmt, ...) PRINTF(4, 5);

/* ---- relay_request.c */

/*
 * Reads what was asked, from head, path and body. False: it was refused, and
 * the exchange has ended.
 */
bool relay_read_request(struct relay *r);

/* ---- relay_pins.c */

/* The credential that the request is pinned to, by what it brings back. */
void relay_take_pin(struct relay *r, const struct facts *f);

/* An answer of 2xx begins; reads its next bytes, before they are told. */
void relay_watch_pins(struct relay *r);
void relay_read_pins(struct relay *r, const char *p, size_t len);

/*
 * Pins that could not be put before they were told, because the lock was not
 * to be had, are put by a timer of the worker. False: no memory for it.
 */
bool relay_late_pins_init(struct relays *rs) MUST_CHECK;
/* A last attempt; what cannot be put now either is lost. */
void relay_late_pins_fini(struct relays *rs);

/* Puts what was found: to be called before any of it is told. */
void relay_commit_pins(struct relay *r);
void relay_forget_pins(struct relay *r);

/* Tells the client that the one credential that can serve it does not. */
void relay_refuse_pinned(struct relay *r, enum pick_why why, int64_t until_ms);

/*
 * Whether the failure is that reasoning could not be read; then the request
 * is on its way again without it, once.
 */
bool relay_unseal(struct relay *r, const struct failure *f);

/* ---- relay_why.c */

void relay_why_begin(struct relay *r);

/* After each pick; found: it yielded a credential. Before it is asked. */
void relay_why_picked(struct relay *r, const struct pick *p, bool found);

void relay_why_attempt(struct relay *r);
void relay_why_failed(struct relay *r, const struct failure *f);
void
relay_why_ended(struct relay *r, enum attempt_end end, int status, int64_t us);

/* The attempt was none. */
void relay_why_stale(struct relay *r);

/* ---- relay_try.c */

/* Asks somebody, or tells the client that nobody is left. */
void relay_try(struct relay *r);

/* Does what was left for later. */
void relay_woken(struct relay *r);

/* Leaves something for later, in place of what was. */
void relay_wake_in(struct relay *r, enum relay_wake wake, int64_t ms);

/*
 * The attempt failed while the client has got nothing of it; why stands in
 * r->last. Books it and decides what comes next.
 */
void relay_failed(struct relay *r, const struct failure *f);

/*
 * The attempt failed and nobody else is asked: if that counts, its session is
 * unbound where it still is bound to that credential.
 */
void relay_release_session(struct relay *r, const struct outcome *o);

/* Forgets that a new token is waited for. */
void relay_unpark(struct relay *r);

/* A reused connection was dead: no outcome, once. */
void relay_stale(struct relay *r);

/* The attempt is over: its usage record, and its resources. */
void relay_close_attempt(struct relay *r, enum attempt_end end, int status);
void relay_succeeded(struct relay *r);

/* ---- relay_round.c */

/*
 * Begins another round over the credentials, at once or after a wait, if
 * status, that of the last failure, and their settings allow one
 * (fairlead.conf(5), request-retry). Whether it does.
 */
bool relay_next_round(struct relay *r, int status);

/* ---- relay_refuse.c */

/*
 * Nobody could be asked, not even once: refusal is a positive enum
 * pick_outcome. Tells the client, and ends.
 */
void relay_refuse_pick(struct relay *r, int refusal, int64_t until_ms);

/*
 * Nobody is left to be asked: a line of the log names the candidates with
 * what benches them and for how long, once in a while.
 */
void relay_warn_nobody(struct relay *r);

/* ---- relay_answer.c */

extern const struct upstream_events relay_events;

/* Forgets what was held of an answer; the next attempt starts clean. */
void relay_forget_answer(struct relay *r);

/* The attempt is silent for too long. */
void relay_timed_out(struct relay *r);

/* ---- relay_tell.c */

/* The headers of the current answer that go back; valid as the call's. */
size_t relay_headers(struct relay *r, struct header headers[HEADERS_BACK_MAX]);

/* Content-Length of the current answer, -1 if it has none. */
int64_t relay_content_length(struct relay *r);

/*
 * From here on the upstream's answer is the client's: its head unless one of
 * ours is out, what is held, and p. length: of the body; -1: not known.
 */
void relay_splice(struct relay *r, int64_t length, const char *p, size_t len);

/* More of a spliced answer. */
void relay_pass_on(struct relay *r, const char *p, size_t len);

/* Fills a silence, where bytes of ours may stand now. */
void relay_ping(struct relay *r);

/* The error to be told, made when first asked for. */
struct reply *relay_last(struct relay *r);

/* Keeps an error of ours there. */
void
relay_note(struct relay *r, int status, const char *code, const char *message);

/* Tells it, as a body or as an event, and ends. Nothing was spliced. */
void relay_tell_last(struct relay *r);

/*
 * A spliced answer broke off: tells it as an event where it has events;
 * anything else must not look complete. Ends.
 */
void relay_break_off(struct relay *r);

#endif
