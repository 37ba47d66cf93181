/* SPDX-License-Identifier: MIT */
/*
 * The totals of usage records, by credential, model, client and day (of UTC):
 * table `usage` of the environment `ledger`.
 */
#ifndef FL_MASTER_USAGE_TOTALS_H
#define FL_MASTER_USAGE_TOTALS_H

#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <lmdb.h>

#include "common/attr.h"
#include "common/store.h"
#include "master/usage/usage_read.h"

/* Adds one record. 0 or negative errno. */
int totals_add(struct store *store, MDB_txn *txn,
    const struct usage_line *line) MUST_CHECK;

/* What stays apart in a report; everything else is added up. */
enum {
	TOTALS_CREDENTIAL = 1,
	TOTALS_MODEL = 2,
	TOTALS_DAY = 4,
	TOTALS_CLIENT = 8,
	TOTALS_USUAL = TOTALS_CREDENTIAL | TOTALS_MODEL | TOTALS_DAY
};

/*
 * An array of {credential, model, day, client, requests, failed, tokens}, in
 * the order of day, credential, model, client; what was added up is null.
 * since: the first day, "" for all of them. 0 or negative errno.
 */
int totals_report(struct store *store, unsigned by, const char *since,
    cJSON **out) MUST_CHECK;

#endif
