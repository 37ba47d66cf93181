/* SPDX-License-Identifier: MIT */
#include "master/ctl/pages.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "common/buf.h"
#include "common/str.h"
#include "master/ctl/client.h"
#include "master/ctl/show.h"

enum {
	PAGE_ROWS = 1000,
	PAGE_BYTES = 16 << 20,
	ARGS_MAX = 8,
	LIMIT_PEOPLE = 100,
	LIMIT_JSON = 10000
};

struct pages {
	const struct pages_ask *ask;
	int64_t rows_left;
	bool printed;  /* a row, as JSON */
	char *after;   /* where the next page begins; NULL: at the start */
	bool listed;   /* a row: there is something to be continued */
	char *stopped; /* where the rows end, NULL: they do not */
	cJSON *sum;    /* total, by_credential and, for people, sessions */
};

/* The value of the last "name=value" among the arguments, or NULL. */
static const char *
value_of(const struct pages_ask *ask, const char *name)
{
	size_t len = strlen(name);
	const char *value = NULL;

	for (size_t i = 0; i < ask->nargs; i++)
		if (strncmp(ask->args[i], name, len) == 0 &&
		    ask->args[i][len] == '=')
			value = ask->args[i] + len + 1;
	return value;
}

static int
ask_page(struct pages *p, cJSON **page)
{
	const struct pages_ask *ask = p->ask;
	int64_t rows = p->rows_left < PAGE_ROWS ? p->rows_left : PAGE_ROWS;
	AUTO_FREE char *limit = xasprintf("limit=%lld", (long long)rows);
	AUTO_FREE char *after =
	    xasprintf("after=%s", p->after != NULL ? p->after : "");
	struct buf text = BUF_INIT(PAGE_BYTES);
	char *args[ARGS_MAX];
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < ask->nargs && n < ARGS_MAX - 2; i++)
		args[n++] = ask->args[i];
	/* The later ones count. */
	args[n++] = limit;
	if (p->after != NULL)
		args[n++] = after;
	rc = client_ask(
	    ask->socket, "sessions", args, n, ask->timeout_s, &text, page);
	buf_fini(&text);
	if (rc == 0 && cJSON_GetObjectItem(*page, "error") != NULL)
		rc = PAGES_REFUSED;
	return rc;
}

static void
add_to(cJSON *object, const char *name, double n)
{
	cJSON *number = cJSON_GetObjectItemCaseSensitive(object, name);

	if (number == NULL)
		(void)cJSON_AddNumberToObject(object, name, n);
	else
		(void)cJSON_SetNumberValue(number, number->valuedouble + n);
}

static void
print_row(struct pages *p, const cJSON *row)
{
	char *text = cJSON_PrintUnformatted(row);

	(void)printf("%s%s", p->printed ? "," : "{\"sessions\":[",
	    text != NULL ? text : "{}");
	p->printed = true;
	cJSON_free(text);
}

static void
take_rows(struct pages *p, cJSON *rows)
{
	cJSON *row;

	while ((row = cJSON_DetachItemFromArray(rows, 0)) != NULL) {
		p->rows_left--;
		p->listed = true;
		if (p->ask->json) {
			print_row(p, row);
			cJSON_Delete(row);
		} else {
			(void)cJSON_AddItemToArray(
			    cJSON_GetObjectItem(p->sum, "sessions"), row);
		}
	}
}

/* Whether there are more. */
static bool
take_page(struct pages *p, cJSON *page)
{
	const cJSON *item;
	const char *next;

	take_rows(p, cJSON_GetObjectItem(page, "sessions"));
	item = cJSON_GetObjectItem(page, "total");
	add_to(p->sum, "total", cJSON_IsNumber(item) ? item->valuedouble : 0);
	cJSON_ArrayForEach (item, cJSON_GetObjectItem(page, "by_credential"))
		add_to(cJSON_GetObjectItem(p->sum, "by_credential"),
		    item->string, item->valuedouble);
	next = cJSON_GetStringValue(cJSON_GetObjectItem(page, "next"));
	free(p->after);
	p->after = next != NULL ? xstrdup(next) : NULL;
	if (p->listed && p->rows_left == 0 && p->stopped == NULL &&
	    next != NULL)
		p->stopped = xstrdup(next);
	return next != NULL;
}

static void
add_next(struct pages *p)
{
	if (p->stopped != NULL)
		(void)cJSON_AddStringToObject(p->sum, "next", p->stopped);
	else
		(void)cJSON_AddNullToObject(p->sum, "next");
}

/* What is left of the object whose rows were printed. */
static void
end_json(struct pages *p)
{
	char *text;

	(void)cJSON_AddNumberToObject(p->sum, "schema", 1);
	text = cJSON_PrintUnformatted(p->sum);
	(void)printf("%s],%s\n", p->printed ? "" : "{\"sessions\":[",
	    text != NULL ? text + 1 : "}");
	cJSON_free(text);
}

static int
ask_all(struct pages *p, cJSON **refusal)
{
	bool more = true;
	cJSON *page = NULL;
	int rc;

	while (more) {
		rc = ask_page(p, &page);
		if (rc == PAGES_REFUSED)
			*refusal = page;
		else if (rc != 0)
			cJSON_Delete(page);
		if (rc != 0)
			return rc;
		more = take_page(p, page);
		cJSON_Delete(page);
	}
	return 0;
}

int
pages_sessions(const struct pages_ask *ask, cJSON **refusal)
{
	const char *after = value_of(ask, "after");
	const char *limit = value_of(ask, "limit");
	struct pages p = {
		.ask = ask,
		.rows_left = ask->json ? LIMIT_JSON : LIMIT_PEOPLE,
		.after = after != NULL ? xstrdup(after) : NULL,
		.sum = cJSON_CreateObject(),
	};
	int rc = 0;

	*refusal = NULL;
	if (limit != NULL)
		rc = str_to_int(limit, 0, INT64_MAX, &p.rows_left);
	(void)cJSON_AddNumberToObject(p.sum, "total", 0);
	(void)cJSON_AddObjectToObject(p.sum, "by_credential");
	if (!ask->json)
		(void)cJSON_AddArrayToObject(p.sum, "sessions");
	rc = rc == 0 ? ask_all(&p, refusal) : PAGES_USAGE;
	add_next(&p);
	if (rc == 0 && ask->json)
		end_json(&p);
	else if (rc == 0)
		show_sessions(p.sum);
	cJSON_Delete(p.sum);
	free(p.after);
	free(p.stopped);
	return rc;
}
