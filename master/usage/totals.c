/* SPDX-License-Identifier: MIT */
#include "master/usage/totals.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/str.h"

struct total {
	uint64_t requests;
	uint64_t failed;
	uint64_t tokens[TOKENS_MAX];
};

/* A key: these, each with its terminating zero. */
enum part { PART_DAY, PART_CREDENTIAL, PART_MODEL, PART_CLIENT, PARTS };

static const struct {
	const char *name;
	unsigned by;
} parts[PARTS] = {
	[PART_DAY] = { "day", TOTALS_DAY },
	[PART_CREDENTIAL] = { "credential", TOTALS_CREDENTIAL },
	[PART_MODEL] = { "model", TOTALS_MODEL },
	[PART_CLIENT] = { "client", TOTALS_CLIENT },
};

struct key {
	char text[511]; /* LMDB's limit */
	size_t len;
};

_Static_assert(sizeof(((struct usage_line *)0)->day) +
		       sizeof(((struct usage_line *)0)->credential) +
		       sizeof(((struct usage_line *)0)->model) +
		       sizeof(((struct usage_line *)0)->client) <=
		   sizeof(((struct key *)0)->text),
    "all parts fit into a key");

static void
add_part(struct key *k, const char *text)
{
	size_t size = strlen(text) + 1;

	memcpy(k->text + k->len, text, size);
	k->len += size;
}

static struct key
key_of(const struct usage_line *line)
{
	struct key k = { .len = 0 };

	add_part(&k, line->day);
	add_part(&k, line->credential);
	add_part(&k, line->model);
	add_part(&k, line->client);
	return k;
}

static void
add_line(struct total *t, const struct usage_line *line)
{
	t->requests++;
	t->failed += line->failed;
	for (int i = 0; line->has_tokens && i < TOKENS_MAX; i++)
		if (line->tokens.n[i] > 0)
			t->tokens[i] += (uint64_t)line->tokens.n[i];
}

int
totals_add(struct store *store, MDB_txn *txn, const struct usage_line *line)
{
	struct key key = key_of(line);
	struct total total = { 0 };
	MDB_val k = { key.len, key.text }, v;
	int rc = mdb_get(txn, store->tables[LEDGER_USAGE], &k, &v);

	if (rc == 0 && v.mv_size == sizeof(total))
		memcpy(&total, v.mv_data, sizeof(total));
	else if (rc != 0 && rc != MDB_NOTFOUND)
		return store_errno(rc);
	add_line(&total, line);
	v = (MDB_val){ sizeof(total), &total };
	return store_errno(
	    mdb_put(txn, store->tables[LEDGER_USAGE], &k, &v, 0));
}

/* ---- reports */

/* A row of a report; parts that were added up are empty. */
struct row {
	char *parts[PARTS];
	struct total total;
};

struct report {
	unsigned by;
	const char *since;
	struct row *rows;
	size_t n, cap;
};

static bool
split(const MDB_val *k, const char *out[PARTS])
{
	const char *p = k->mv_data, *end = p + k->mv_size;

	for (int i = 0; i < PARTS; i++) {
		out[i] = p;
		p = memchr(p, '\0', (size_t)(end - p));
		if (p == NULL)
			return false;
		p++;
	}
	return p == end;
}

static int
compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int order = 0;

	for (int i = 0; i < PARTS && order == 0; i++)
		order = strcmp(x->parts[i], y->parts[i]);
	return order;
}

static void
sum(struct total *into, const struct total *from)
{
	into->requests += from->requests;
	into->failed += from->failed;
	for (int i = 0; i < TOKENS_MAX; i++)
		into->tokens[i] += from->tokens[i];
}

static void
free_row(struct row *row)
{
	for (int i = 0; i < PARTS; i++)
		free(row->parts[i]);
}

/* Sorts, and makes one of rows that are alike. */
static void
merge(struct report *r)
{
	size_t kept = 0;

	if (r->n == 0)
		return;
	qsort(r->rows, r->n, sizeof(r->rows[0]), compare);
	for (size_t i = 1; i < r->n; i++) {
		if (compare(&r->rows[kept], &r->rows[i]) == 0) {
			sum(&r->rows[kept].total, &r->rows[i].total);
			free_row(&r->rows[i]);
		} else {
			r->rows[++kept] = r->rows[i];
		}
	}
	r->n = kept + 1;
}

static void
add_row(struct report *r, const MDB_val *k, const MDB_val *v)
{
	const char *text[PARTS];
	struct row *row;

	if (v->mv_size != sizeof(row->total) || !split(k, text) ||
	    strcmp(text[PART_DAY], r->since) < 0)
		return;
	/* Merged each time the room is used up, it holds few more than are. */
	if (r->n == r->cap)
		merge(r);
	xgrow(&r->rows, &r->cap, r->n, sizeof(*r->rows));
	row = &r->rows[r->n++];
	for (int i = 0; i < PARTS; i++)
		row->parts[i] =
		    xstrdup((r->by & parts[i].by) != 0 ? text[i] : "");
	memcpy(&row->total, v->mv_data, sizeof(row->total));
}

static int
collect(struct report *r, struct store *store, MDB_txn *txn)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc = mdb_cursor_open(txn, store->tables[LEDGER_USAGE], &cursor);

	if (rc != 0)
		return store_errno(rc);
	while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
		add_row(r, &k, &v);
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
}

/* A part that was added up is null; one that was never known is too. */
static void
add_text(cJSON *row, const char *name, const char *text)
{
	if (text[0] != '\0')
		(void)cJSON_AddStringToObject(row, name, text);
	else
		(void)cJSON_AddNullToObject(row, name);
}

static cJSON *
row_json(const struct row *row)
{
	cJSON *out = cJSON_CreateObject(), *tokens;

	add_text(out, "credential", row->parts[PART_CREDENTIAL]);
	add_text(out, "model", row->parts[PART_MODEL]);
	add_text(out, "day", row->parts[PART_DAY]);
	add_text(out, "client", row->parts[PART_CLIENT]);
	(void)cJSON_AddNumberToObject(
	    out, "requests", (double)row->total.requests);
	(void)cJSON_AddNumberToObject(out, "failed", (double)row->total.failed);
	tokens = cJSON_AddObjectToObject(out, "tokens");
	for (int i = 0; i < TOKENS_MAX; i++)
		(void)cJSON_AddNumberToObject(
		    tokens, token_kind_names[i], (double)row->total.tokens[i]);
	return out;
}

int
totals_report(struct store *store, unsigned by, const char *since, cJSON **out)
{
	struct report r = { .by = by, .since = since };
	MDB_txn *txn;
	int rc = store_read(store, &txn);

	*out = NULL;
	if (rc < 0)
		return rc;
	rc = collect(&r, store, txn);
	store_read_end(store);
	merge(&r);
	if (rc == 0)
		*out = cJSON_CreateArray();
	for (size_t i = 0; i < r.n; i++) {
		if (rc == 0)
			(void)cJSON_AddItemToArray(*out, row_json(&r.rows[i]));
		free_row(&r.rows[i]);
	}
	free(r.rows);
	return rc;
}
