/* SPDX-License-Identifier: MIT */
/*
 * What is too long for one answer: "sessions" is asked for page after page,
 * each of a size that neither end notices, and printed as it comes.
 */
#ifndef FL_MASTER_CTL_PAGES_H
#define FL_MASTER_CTL_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "common/attr.h"

struct pages_ask {
	const char *socket;
	int timeout_s;     /* for each page */
	char *const *args; /* "limit=N", "after=KEY", filters */
	size_t nargs;
	bool json; /* one object, else for people */
};

/*
 * Prints. 0; or as client_ask() says; or PAGES_REFUSED with the answer that
 * says why in *refusal, which the caller deletes.
 */
enum { PAGES_REFUSED = 3, PAGES_USAGE = 4 /* the limit is no number */ };
int pages_sessions(const struct pages_ask *ask, cJSON **refusal) MUST_CHECK;

#endif
