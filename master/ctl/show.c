/* SPDX-License-Identifier: MIT */
#include "master/ctl/show.h"

#include <stdio.h>
#include <string.h>

#include "common/attr.h"
#include "common/buf.h"
#include "master/ctl/table.h"

/* An id is what other verbs ask for: it is the last thing to be cut. */
enum {
	VALUE_MAX = 64 * 1024,
	KEY_SHOWN = 12,
	ID_SHOWN = 56,
	ID_BESIDE = 20, /* where the id is not what the table is about */
	SHOWN = 8
};

static const struct table_column worker_columns[] = {
	{ .title = "WORKER", .field = "slot", .right = true },
	{ .title = "PID", .field = "pid", .right = true },
	{ .title = "GENERATION", .field = "generation", .right = true },
	{ .title = "STATE", .field = "state" },
	{ .title = "REQUESTS", .field = "requests", .right = true },
	{ .title = "STREAMS", .field = "streams", .right = true },
	{ .title = "CONNECTIONS", .field = "connections", .right = true },
};

static const struct table_column credential_columns[] = {
	{ .title = "CREDENTIAL", .field = "id", .cut_to = ID_SHOWN },
	{ .title = "PROVIDER", .field = "provider", .cut_to = SHOWN },
	{ .title = "STATE", .field = "state" },
	{ .title = "REASON", .field = "reason", .cut_to = 6 },
	{ .title = "OUT", .field = "models_out", .right = true },
	{ .title = "PRI", .field = "priority", .right = true },
	{ .title = "BUSY", .field = "in_flight", .right = true },
	{ .title = "SESS", .field = "sessions", .right = true },
	{ .title = "OK", .field = "succeeded", .right = true },
	{ .title = "FAIL", .field = "failed", .right = true },
};

static const struct table_column model_columns[] = {
	{ .title = "MODEL", .field = "id", .cut_to = ID_SHOWN },
	{ .title = "PROVIDERS", .field = "providers", .cut_to = SHOWN },
	{ .title = "CANDIDATES", .field = "candidates", .right = true },
	{ .title = "READY", .field = "ready", .right = true },
};

/* As many digits of a key as it takes to name it. */
static void
write_key(const cJSON *value, struct buf *out)
{
	const char *key = cJSON_GetStringValue(value);

	if (key != NULL)
		buf_append(out, key, strnlen(key, KEY_SHOWN));
}

static const struct table_column session_columns[] = {
	{ .title = "KEY", .field = "key", .write = write_key },
	{ .title = "SESSION", .field = "session" },
	{ .title = "MODEL", .field = "model", .cut_to = SHOWN },
	{ .title = "CREDENTIAL", .field = "credential", .cut_to = ID_BESIDE },
	{ .title = "AGE",
	    .field = "age_s",
	    .write = table_write_seconds,
	    .right = true },
	{ .title = "EXPIRES",
	    .field = "expires_s",
	    .write = table_write_seconds,
	    .right = true },
};

static const struct table_column setting_columns[] = {
	{ .title = "SETTING", .field = "name" },
	{ .title = "OLD", .field = "old", .cut_to = SHOWN },
	{ .title = "NEW", .field = "new", .cut_to = SHOWN },
};

static const struct table_column attempt_columns[] = {
	{ .title = "ATTEMPT AT", .field = "credential", .cut_to = ID_SHOWN },
	{ .title = "STATUS", .field = "status", .right = true },
	{ .title = "OUTCOME", .field = "outcome" },
	{ .title = "MS", .field = "ms", .right = true },
};

static const struct table_column passed_columns[] = {
	{ .title = "PASSED OVER", .field = "credential", .cut_to = ID_SHOWN },
	{ .title = "WHY", .field = "why" },
};

#define PRINT_TABLE(columns, rows)                                             \
	table_print(stdout, (columns), ARRAY_LEN(columns), (rows))

static const cJSON *
member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItem(object, name);
}

static const char *
string(const cJSON *object, const char *name)
{
	const char *s = cJSON_GetStringValue(member(object, name));

	return s != NULL ? s : "";
}

static double
number(const cJSON *object, const char *name)
{
	const cJSON *n = member(object, name);

	return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

static void
show_head(const cJSON *answer)
{
	const cJSON *reloads = member(answer, "reloads");
	struct buf uptime = BUF_INIT(64);

	if (strcmp(string(answer, "state"), "stopped") == 0) {
		(void)printf("fairlead: stopped, generation %.0f\n"
			     "%.0f sessions, %.0f models\n\n",
		    number(answer, "generation"), number(answer, "sessions"),
		    number(answer, "models"));
		return;
	}
	table_write_seconds(member(answer, "uptime_s"), &uptime);
	(void)printf("fairlead %s: %s, pid %.0f, generation %.0f, up %s\n",
	    string(answer, "version"), string(answer, "state"),
	    number(answer, "pid"), number(answer, "generation"),
	    buf_string(&uptime));
	(void)printf("%.0f requests, %.0f sessions, %.0f models, "
		     "%.0f reloads (%.0f failed)\n\n",
	    number(answer, "requests_total"), number(answer, "sessions"),
	    number(answer, "models"),
	    number(reloads, "ok") + number(reloads, "failed"),
	    number(reloads, "failed"));
	buf_fini(&uptime);
}

void
show_status(const cJSON *answer)
{
	show_head(answer);
	PRINT_TABLE(worker_columns, member(answer, "workers"));
	(void)putchar('\n');
	show_credentials(answer);
}

void
show_credentials(const cJSON *answer)
{
	const cJSON *rows = member(answer, "credentials");

	if (cJSON_GetArraySize(rows) == 0)
		(void)puts("no credentials");
	PRINT_TABLE(credential_columns, rows);
}

void
show_credential(const cJSON *answer)
{
	struct buf text = BUF_INIT(VALUE_MAX);
	const cJSON *item;

	cJSON_ArrayForEach (item, member(answer, "credential")) {
		buf_clear(&text);
		table_write_value(item, &text);
		(void)printf("%-12s %s\n", item->string, buf_string(&text));
	}
	buf_fini(&text);
}

void
show_models(const cJSON *answer)
{
	const cJSON *rows = member(answer, "models");

	if (cJSON_GetArraySize(rows) == 0)
		(void)puts("no models");
	PRINT_TABLE(model_columns, rows);
}

void
show_session(const cJSON *answer)
{
	PRINT_TABLE(session_columns, member(answer, "sessions"));
}

void
show_sessions(const cJSON *answer)
{
	const cJSON *rows = member(answer, "sessions");
	const cJSON *item;
	int listed = cJSON_GetArraySize(rows);

	(void)printf("%.0f sessions\n", number(answer, "total"));
	cJSON_ArrayForEach (item, member(answer, "by_credential"))
		(void)printf("%8.0f  %s\n", item->valuedouble, item->string);
	if (listed > 0)
		(void)putchar('\n');
	show_session(answer);
	if (member(answer, "next") != NULL &&
	    !cJSON_IsNull(member(answer, "next")))
		(void)printf("(%d are shown; the rest with after=%s)\n", listed,
		    string(answer, "next"));
}

static void
show_names(const cJSON *group, const char *of, const char *what)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, member(group, what))
		(void)printf("%s %s: %s\n", of, what,
		    cJSON_IsString(item) ? item->valuestring : "?");
}

static bool
changes_nothing(const cJSON *answer)
{
	static const char *const lists[] = { "added", "removed", "changed" };
	static const char *const groups[] = { "credentials", "models" };
	int n = cJSON_GetArraySize(member(answer, "settings"));
	size_t i, k;

	for (i = 0; i < ARRAY_LEN(groups); i++) {
		for (k = 0; k < ARRAY_LEN(lists); k++)
			n += cJSON_GetArraySize(
			    member(member(answer, groups[i]), lists[k]));
	}
	return n == 0;
}

static void
show_changes(const cJSON *answer, const char *move)
{
	static const struct {
		const char *member, *of;
	} groups[] = {
		{ "credentials", "credential" },
		{ "models", "model" },
	};
	size_t i;

	PRINT_TABLE(setting_columns, member(answer, "settings"));
	for (i = 0; i < ARRAY_LEN(groups); i++) {
		show_names(
		    member(answer, groups[i].member), groups[i].of, "added");
		show_names(
		    member(answer, groups[i].member), groups[i].of, "removed");
		show_names(
		    member(answer, groups[i].member), groups[i].of, "changed");
	}
	if (number(answer, "sessions_moved") > 0)
		(void)printf("sessions that %s: %.0f\n", move,
		    number(answer, "sessions_moved"));
}

void
show_reload(const cJSON *answer)
{
	if (member(answer, "summary") != NULL) {
		show_changes(answer, "move");
		(void)printf("reloaded: %s\n", string(answer, "summary"));
	} else if (changes_nothing(answer)) {
		(void)puts("nothing would change");
	} else {
		show_changes(answer, "would move");
	}
}

void
show_upgrade(const cJSON *answer)
{
	(void)printf("upgraded: fairlead %s, generation %.0f\n",
	    string(answer, "version"), number(answer, "generation"));
}

static void
show_line(const char *name, const cJSON *value)
{
	struct buf text = BUF_INIT(VALUE_MAX);

	table_write_value(value, &text);
	(void)printf("%-10s %s\n", name, buf_string(&text));
	buf_fini(&text);
}

void
show_why(const cJSON *answer)
{
	static const char *const lines[] = { "request_id", "time", "dialect",
		"model", "decision", "pin", "tier" };
	const cJSON *session = member(answer, "session");

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		show_line(lines[i], member(answer, lines[i]));
	show_line("session", member(session, "id"));
	show_line("source", member(session, "source"));
	(void)putchar('\n');
	PRINT_TABLE(attempt_columns, member(answer, "attempts"));
	if (cJSON_GetArraySize(member(answer, "attempts")) > 0)
		(void)putchar('\n');
	PRINT_TABLE(passed_columns, member(answer, "passed_over"));
}

/* "812", "45.2k", "3.1M": four digits say enough to people. */
static void
write_count(const cJSON *value, struct buf *out)
{
	static const char units[] = " kMGT";
	double n = cJSON_IsNumber(value) ? value->valuedouble : 0;
	size_t unit = 0;

	if (n < 100000) {
		buf_printf(out, "%.0f", n);
		return;
	}
	for (; n >= 1000 && units[unit + 1] != '\0'; unit++)
		n /= 1000;
	buf_printf(out, "%.1f%c", n, units[unit]);
}

static const struct table_column usage_columns[] = {
	{ .title = "DAY", .field = "day" },
	{ .title = "CREDENTIAL", .field = "credential", .cut_to = SHOWN },
	{ .title = "MODEL", .field = "model", .cut_to = SHOWN },
	{ .title = "CLIENT", .field = "client" },
	{ .title = "REQ",
	    .field = "requests",
	    .write = write_count,
	    .right = true },
	{ .title = "FAIL",
	    .field = "failed",
	    .write = write_count,
	    .right = true },
	{ .title = "INPUT",
	    .field = "input",
	    .write = write_count,
	    .right = true },
	{ .title = "CACHED",
	    .field = "cached",
	    .write = write_count,
	    .right = true },
	{ .title = "OUTPUT",
	    .field = "output",
	    .write = write_count,
	    .right = true },
	{ .title = "TOTAL",
	    .field = "total",
	    .write = write_count,
	    .right = true },
};

/* What all rows lack was added up: it is not shown. */
static bool
is_shown(const cJSON *rows, const struct table_column *column)
{
	const cJSON *row;

	cJSON_ArrayForEach (row, rows)
		if (!cJSON_IsNull(member(row, column->field)))
			return true;
	return false;
}

/* The counts of tokens beside the others, where a table finds them. */
static void
lift_tokens(cJSON *row)
{
	cJSON *tokens = cJSON_DetachItemFromObject(row, "tokens"), *item;

	while (tokens != NULL && (item = tokens->child) != NULL) {
		(void)cJSON_DetachItemViaPointer(tokens, item);
		(void)cJSON_AddItemToObject(row, item->string, item);
	}
	cJSON_Delete(tokens);
}

void
show_usage(const cJSON *answer)
{
	struct table_column shown[ARRAY_LEN(usage_columns)];
	cJSON *rows = cJSON_Duplicate(member(answer, "rows"), true), *row;
	size_t n = 0;

	if (cJSON_GetArraySize(rows) == 0)
		(void)puts("no usage");
	cJSON_ArrayForEach (row, rows)
		lift_tokens(row);
	for (size_t i = 0; i < ARRAY_LEN(usage_columns); i++)
		if (is_shown(rows, &usage_columns[i]))
			shown[n++] = usage_columns[i];
	table_print(stdout, shown, n, rows);
	cJSON_Delete(rows);
}

void
show_nothing(const cJSON *answer UNUSED)
{
}
