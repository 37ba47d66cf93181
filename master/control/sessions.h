/* SPDX-License-Identifier: MIT */
/*
 * Sessions as the control socket shows them: read from the bindings that
 * workers write, counted by credential, found by what people type.
 */
#ifndef FL_MASTER_CONTROL_SESSIONS_H
#define FL_MASTER_CONTROL_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/bindings.h"
#include "master/credential/name_map.h"

struct master;
struct registry_set;

/* Beyond, counting takes too long to be done in passing. */
enum { SESSIONS_COUNT_QUICK = 50000 };

/* How many live bindings there are, and on which credentials. */
struct sessions {
	bool counted; /* by credential */
	int64_t total;
	struct name_map credentials;
};

/*
 * Counts, but by credential only if there are no more than max bindings.
 * sessions_fini() frees.
 */
void sessions_count(struct sessions *s, struct master *m, int64_t max);
void sessions_fini(struct sessions *s);

bool sessions_are_counted(const struct sessions *s);
int64_t sessions_total(const struct sessions *s);

/* A registry_sessions_fn over a struct sessions. */
int64_t sessions_of_credential(void *sessions, const char *id);

/*
 * How many sessions are bound to a credential that by that set would no longer
 * serve them, so that their next request finds another. -1 where there are too
 * many bindings to look at all.
 */
int64_t sessions_moved_by(struct master *m, const struct registry_set *set);

/*
 * Which sessions are asked for, and which page of them: filters are NULL or
 * what has to be equal, source what it has to begin with.
 */
struct sessions_query {
	const char *credential, *source, *model;
	int64_t limit; /* rows of this page */
	uint8_t begin[BINDING_KEY_LEN];
	const char *limit_text, *after_text; /* private */
};

/* From "name=value"; false if one of them makes no sense. Borrows them. */
bool sessions_query_read(
    struct sessions_query *q, const char *const *args, size_t nargs) MUST_CHECK;

/*
 * Adds a page: "sessions"; "total" and "by_credential", of this page alone;
 * and "next", where the next one begins, or null. A page is as long as can be
 * read in a few milliseconds, and ends with the last row that was asked for.
 */
void sessions_list(
    struct master *m, const struct sessions_query *query, cJSON *answer);

/*
 * Adds the bindings of a session to an array: id is its key as shown, or the
 * beginning of it, its id as the client sends it, with its prefix, or, among
 * no more than SESSIONS_COUNT_QUICK, its shortened id. How many there are.
 */
size_t sessions_find(struct master *m, const char *id, cJSON *rows);

enum {
	SESSIONS_UNKNOWN = 1,
	SESSIONS_AMBIGUOUS = 2, /* more than one session answers to it */
	SESSIONS_BUSY = 3
};

/*
 * Removes the bindings of one session, of all its models; where it is told by
 * its whole id, those of every client that has one of that id.
 */
int sessions_unbind(struct master *m, const char *id) MUST_CHECK;

#endif
