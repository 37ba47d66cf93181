/* SPDX-License-Identifier: MIT */
/*
 * What the failure of an attempt means: is it the request's own fault, what
 * does it cost the credential, and who is asked next. One table, first match
 * (fairlead-internals(7), "Outcomes"). Pure: raises no word, sends nothing.
 */
#ifndef FL_WORKER_RELAY_OUTCOME_H
#define FL_WORKER_RELAY_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#include "common/board.h"
#include "common/config.h"
#include "common/provider.h"
#include "common/str.h"

/* How an attempt ended; names are those of usage records. */
enum attempt_end {
	ATTEMPT_OK,
	ATTEMPT_STATUS,  /* a status that is not 2xx */
	ATTEMPT_IN_BAND, /* an error, or nothing at all, inside a 200 */
	ATTEMPT_NETWORK, /* no status: resolve, connect, TLS, reset */
	ATTEMPT_TIMEOUT, /* connected, and too long silent */
	ATTEMPT_CLIENT_GONE,
	ATTEMPT_END_MAX
};

struct failure {
	enum attempt_end end;
	int status;       /* of HTTP, or what an in-band error stands for */
	struct span text; /* the error's body or message, for phrases */
	const char *code; /* as it says of itself; never NULL */
	const char *type;
	enum operation operation;
	const char *model;      /* as it was named upstream */
	int64_t retry_after_ms; /* RETRY_AFTER_NONE: not said */
	bool account;           /* a quota of the whole credential */
	bool challenge;         /* a header says that it is one */
	bool ruled;             /* a rule of the configuration holds: */
	enum error_action rule;
};

/* What the credential's settings say of cooling. */
struct cooling {
	bool disabled;
	bool own_path; /* its proxy or origin is its alone */
	int64_t transient_ms;
	int64_t max_ms;
};

enum outcome_action {
	OUTCOME_PASS_ON, /* the request is at fault: the client, at once */
	OUTCOME_OTHER,   /* another credential */
	OUTCOME_AGAIN    /* the same credential, after a pause */
};

struct outcome {
	enum outcome_action action;
	enum cool_reason reason; /* COOL_NONE: costs nothing */
	enum board_kind kind;
	bool ladder;         /* as long as the quota ladder says */
	int64_t cooldown_ms; /* else this long, 0: not at all; with the
			      * ladder: at least */
	bool account;        /* for every model of the credential */
};

struct outcome outcome_of(const struct failure *f, const struct cooling *c);

/*
 * The upstream cannot read encrypted content that the request brought: it is
 * another account's.
 */
bool outcome_is_sealed(const struct failure *f);

/* "ok", "status", "in_band", "network", "timeout", "client_gone". */
const char *outcome_end_name(enum attempt_end end);

#endif
