/* SPDX-License-Identifier: MIT */
/*
 * Folds the records of a usage file into the totals. How far a file has been
 * folded is stored in the same transaction, under its inode and its first
 * bytes, so that totals are the sum of the records whenever anything dies,
 * and a file that only has the number of one that is gone is not taken for it.
 */
#ifndef FL_MASTER_USAGE_FOLD_H
#define FL_MASTER_USAGE_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/store.h"

enum {
	FOLD_STEP = 1 << 20,  /* bytes of a file in one transaction */
	FOLD_FILES_KEPT = 64, /* of which it is remembered how far */
	FOLD_HEAD = 96        /* bytes that tell files apart */
};

struct fold {
	int fd;
	bool only_known; /* not at all, unless it was begun before */
	int64_t size;    /* when it was looked at */
	int64_t offset;  /* folded up to here */
	uint64_t records;
	uint64_t broken; /* lines that hold none */
};

/*
 * One step: 0, or negative errno with nothing changed. There is more to do
 * while *more; a line that has no end yet is left for later.
 */
int fold_step(struct store *store, struct fold *f, bool *more) MUST_CHECK;

#endif
