/* SPDX-License-Identifier: MIT */
/*
 * Reads usage records back (common/usage_line.h writes them). A line that a
 * full disk or a death cut short is followed by the next one without a line
 * end between them: what counts is the last record that begins in a line and
 * is whole.
 */
#ifndef FL_MASTER_USAGE_USAGE_READ_H
#define FL_MASTER_USAGE_USAGE_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/tokens.h"

/* What totals are made of. Strings that were null are "". */
struct usage_line {
	char day[11]; /* "2026-11-22" */
	char request_id[24];
	int64_t attempt;
	char model[128];
	char credential[256];
	char client[16];
	bool failed;
	bool has_tokens;
	struct tokens tokens;
};

/* A line without its end. False: it holds no record. */
bool usage_line_read(struct usage_line *line, const char *p, size_t len);

#endif
