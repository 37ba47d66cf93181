/* SPDX-License-Identifier: MIT */
/*
 * Watches a few members of a JSON text as it passes in pieces of any size:
 * whether they are there with a value that says something, and the text of
 * those that are asked for. Constant memory, no tree. It does not validate:
 * of a broken text it makes what it can.
 */
#ifndef FL_WORKER_JSON_JSON_WATCH_H
#define FL_WORKER_JSON_JSON_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/str.h"

enum {
	JSON_WATCH_LEVELS = 10, /* nothing is watched below */
	JSON_WATCH_KEY_MAX = 32
};

/*
 * A member of interest. Arrays are transparent: the elements of a watched
 * array are watched as the member itself. `members` are those of the object
 * that is its value, ended by a row without a key; NULL: none. The key "*"
 * stands last and matches any name.
 *
 * The fact is noted when the value is a string that is not empty, a number,
 * true, or an object, not when it is null, false, "" or an empty array.
 */
struct json_watch_row {
	const char *key;
	uint8_t fact; /* its bit; 0: none */
	bool text;    /* strings and numbers are handed to on_text() */
	const struct json_watch_row *members;
};

/*
 * A slice of the text of a value with `text` set: a string without its
 * quotes, its escapes as they stand, or a number. `first` begins a value.
 */
typedef void json_watch_text_fn(
    void *ctx, uint8_t fact, const char *p, size_t len, bool first);

struct json_watch {
	const struct json_watch_row *root;
	/* The member whose value each open container is; NULL: nobody's. */
	const struct json_watch_row *level[JSON_WATCH_LEVELS];
	const struct json_watch_row *row; /* of the value at hand, or NULL */
	uint64_t facts;                   /* bits of what has been found */
	uint64_t enough;  /* when all of these are, the rest is not read */
	uint32_t depth;   /* of open containers */
	uint16_t objects; /* which of the levels are objects, as bits */
	uint8_t state;
	uint8_t key_len;
	bool want_key; /* the next string is a name */
	bool first;    /* no slice of this value was handed out yet */
	char key[JSON_WATCH_KEY_MAX];
};

#define JSON_WATCH_BIT(fact) (UINT64_C(1) << (fact))

/* root: a row whose members are those of the outermost object. */
void json_watch_init(struct json_watch *w, const struct json_watch_row *root);

/* Begins a new text with the same rows. */
void json_watch_reset(struct json_watch *w);

/*
 * Reads len bytes at p; returns how many it has read. Fewer than len only
 * when *unit: the outermost object, or an object that is an element of the
 * outermost array, has just ended. Its facts stay until they are forgotten.
 */
size_t json_watch_feed(struct json_watch *w, const char *p, size_t len,
    json_watch_text_fn *on_text, void *ctx, bool *unit);

/* Forgets the facts of a unit; what follows is another one. */
void json_watch_forget(struct json_watch *w);

#endif
