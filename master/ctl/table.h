/* SPDX-License-Identifier: MIT */
/*
 * Tables for people: columns as wide as what is in them, 80 in all, of which
 * some may be cut to make room.
 */
#ifndef FL_MASTER_CTL_TABLE_H
#define FL_MASTER_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <cjson/cJSON.h>

#include "common/buf.h"

enum { TABLE_WIDTH = 80, TABLE_COLUMNS_MAX = 12 };

struct table_column {
	const char *title;
	const char *field; /* of the row */
	/* How it is written; NULL: strings and numbers as they are. */
	void (*write)(const cJSON *value, struct buf *out);
	bool right;
	size_t cut_to; /* characters that are shown at least; 0: all */
};

/* Title and rows; nothing for no rows. */
void table_print(FILE *out, const struct table_column *columns, size_t ncolumns,
    const cJSON *rows);

/* A value as a cell shows it: "-" for none, lists joined by commas. */
void table_write_value(const cJSON *value, struct buf *out);

/* Seconds as "1h2m3s". */
void table_write_seconds(const cJSON *value, struct buf *out);

#endif
