/* SPDX-License-Identifier: MIT */
/*
 * What `ledger` knows of a credential's refresh, by its id. A record is
 * written before the request goes out, and deleted when the new tokens are in
 * the file; so one that is found at a start says that an answer was lost.
 */
#ifndef FL_MASTER_REFRESH_RECORD_H
#define FL_MASTER_REFRESH_RECORD_H

#include <stdint.h>

#include "common/attr.h"
#include "common/secret.h"
#include "common/store.h"

enum refresh_kind {
	REFRESH_NOTHING, /* never stored */
	REFRESH_INTENT,  /* a request is on its way */
	REFRESH_LOST,    /* and was, but no answer came */
	REFRESH_LOGIN    /* refused for good */
};

struct refresh_record {
	uint32_t kind;
	uint32_t reserved;
	int64_t at_ms; /* Unix time */
	/* INTENT and LOST are void for a file with another refresh token,
	 * LOGIN for one that was changed. */
	struct digest refresh_token;
	struct digest identity;
	char reason[80]; /* for people */
};

/* One transaction, on the ledger's thread. 0 or negative errno. */
int refresh_record_put(struct store *ledger, const char *id,
    const struct refresh_record *record) MUST_CHECK;
int refresh_record_delete(struct store *ledger, const char *id) MUST_CHECK;

typedef void refresh_record_fn(
    void *ctx, const char *id, const struct refresh_record *record);
int refresh_record_each(
    struct store *ledger, refresh_record_fn *fn, void *ctx) MUST_CHECK;

#endif
