/* SPDX-License-Identifier: MIT */
/*
 * Edits of a request body, by the offsets that the one pass over it found:
 * everything but the edited values goes upstream byte for byte. Nothing is
 * parsed or printed here.
 */
#ifndef FL_WORKER_RELAY_REWRITE_H
#define FL_WORKER_RELAY_REWRITE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"
#include "worker/json/json.h"
#include "worker/session/facts.h"

/* What of the facts outlives them: where edits may go. */
struct rewrite_places {
	struct json_value model, stream, store, input;
	size_t inside; /* behind the opening brace */
	bool empty;    /* the object has no members */
};

void rewrite_places_of(struct rewrite_places *places, const struct facts *f);

/* Beyond, nothing more is edited: a body of that many edits is no client's. */
enum { REWRITE_EDITS_MAX = 16384 };

struct rewrite_edit {
	size_t at, len;   /* what is replaced; len 0: inserted */
	const char *text; /* borrowed */
	size_t text_len;
};

/* The edits of one attempt, in the order of the body. */
struct rewrite {
	const struct rewrite_places *places;
	struct rewrite_edit *edits;
	size_t n, cap;
};

void rewrite_init(struct rewrite *r, const struct rewrite_places *places);
void rewrite_fini(struct rewrite *r);

/* The model's value becomes this JSON string, which has its quotes. */
void rewrite_model(struct rewrite *r, const char *json, size_t len);

/* stream:true and store:false, where they are not already so. */
void rewrite_for_codex(struct rewrite *r);

/*
 * Takes the reasoning items with encrypted content out of a Responses `input`,
 * each with a comma beside it. How many.
 */
size_t rewrite_unseal(struct rewrite *r, const char *body, size_t len);

/*
 * The body with all edits, for free(3). 0; -ENOMEM. With no edits: 0 and
 * *out NULL, the body itself is to be sent.
 */
int rewrite_apply(const struct rewrite *r, const char *body, size_t len,
    char **out, size_t *out_len) MUST_CHECK;

#endif
