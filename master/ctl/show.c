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

void
show_nothing(const cJSON *answer UNUSED)
{
}
