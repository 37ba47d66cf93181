/* SPDX-License-Identifier: MIT */
/*
 * Why a request went where it went: the last WHY_RECORDS requests of a worker
 * in a ring, runtime-dir/why.SLOT, which the worker maps and writes with plain
 * stores and the master reads. It outlives the worker, and goes on with the
 * next one on that slot.
 *
 * A record is filled as things happen, so that a request in flight can be
 * asked about, too. It has a number; whoever writes or reads looks whether it
 * is still the same one. Codes of the worker's enumerations are stored, and
 * the words for them once in the head, so that the reader need not know them.
 */
#ifndef FL_COMMON_WHY_H
#define FL_COMMON_WHY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

enum {
	WHY_RECORDS = 10000,
	WHY_ATTEMPTS = 8, /* the first of a request */
	WHY_PASSED = 16,  /* likewise */
	WHY_WORDS = 16,
	WHY_WORD_SIZE = 24,
	WHY_REQUEST_SIZE = 24,
	WHY_MODEL_SIZE = 64,
	WHY_SOURCE_SIZE = 32,
	WHY_SESSION_SIZE = 24,
	WHY_ID_SIZE = 116 /* longer ids of credentials are cut */
};

/* What the codes are of. */
enum why_words {
	WHY_DIALECT,
	WHY_DECISION,
	WHY_PIN,
	WHY_OUTCOME,
	WHY_PASSED_OVER,
	WHY_KINDS
};

struct why;

/*
 * The worker's way in: maps the ring of its slot, or makes it anew where it is
 * absent or of another layout. All of it is set aside in the file system,
 * since to touch a hole of a full one is SIGBUS. 0 or negative errno; without
 * a ring everything below takes NULL and does nothing.
 */
int why_open(const char *dir, unsigned slot, struct why **out) MUST_CHECK;
void why_close(struct why *w);

/* The word for a code, before the first request. */
void
why_word(struct why *w, enum why_words kind, unsigned code, const char *word);

/* A request; strings are cut to fit and may be NULL. */
struct why_request {
	const char *request_id;
	const char *model;
	const char *source, *session; /* of the session; NULL: none */
	unsigned dialect;
};

/* Begins a record, in place of the oldest. Its number; 0 without a ring. */
uint64_t why_begin(struct why *w, const struct why_request *request);

/* How the credential was found. tier: its priority. */
void why_decided(struct why *w, uint64_t number, unsigned decision,
    unsigned pin, int32_t tier);

/* A credential was passed over; told once per request. */
void why_passed_over(
    struct why *w, uint64_t number, const char *credential, unsigned why);

/* An attempt; the index for its end, -1 if there were too many. */
int why_attempt_begin(struct why *w, uint64_t number, const char *credential);

/* status: 0 if there was none. */
void why_attempt_end(struct why *w, uint64_t number, int index, int status,
    unsigned outcome, int64_t us);

/* It was none after all. */
void why_attempt_drop(struct why *w, uint64_t number, int index);

/* ---- reading */

struct why_found {
	int64_t time_s; /* of Unix */
	char request_id[WHY_REQUEST_SIZE];
	char model[WHY_MODEL_SIZE];
	char source[WHY_SOURCE_SIZE]; /* "": no session */
	char session[WHY_SESSION_SIZE];
	char dialect[WHY_WORD_SIZE];
	char decision[WHY_WORD_SIZE]; /* "": nothing was decided yet */
	char pin[WHY_WORD_SIZE];
	int32_t tier;
	bool orphaned; /* the process that wrote it has gone */
	size_t nattempts, npassed;
	struct {
		char credential[WHY_ID_SIZE];
		int status; /* 0: none */
		bool ended;
		char outcome[WHY_WORD_SIZE];
		double ms;
	} attempts[WHY_ATTEMPTS];
	struct {
		char credential[WHY_ID_SIZE];
		char why[WHY_WORD_SIZE];
	} passed[WHY_PASSED];
};

enum { WHY_MISS = 1 };

/*
 * Looks a request up in the ring of a slot: 0, WHY_MISS, or negative errno. pid
 * is of the process on that slot, 0: none.
 */
int why_find(const char *dir, unsigned slot, int pid, const char *request_id,
    struct why_found *out) MUST_CHECK;

#endif
