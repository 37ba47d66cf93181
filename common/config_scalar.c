/* SPDX-License-Identifier: MIT */
/*
 * The scalar types of settings: each turns text into a field and back. A
 * default is read by the same function as the operator's value.
 */
#include "common/config_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/str.h"

static const char *const strategy_names[STRATEGY_MAX] = {
	[STRATEGY_ROUND_ROBIN] = "round-robin",
	[STRATEGY_WEIGHTED] = "weighted-round-robin",
	[STRATEGY_FILL_FIRST] = "fill-first",
	[STRATEGY_SESSION_HASH] = "session-hash",
};

static const char *const action_names[] = {
	[ERROR_ACTION_STOP] = "stop",
	[ERROR_ACTION_STOP_AND_COOLDOWN] = "stop-and-cooldown",
	[ERROR_ACTION_CONTINUE] = "continue",
	[ERROR_ACTION_CONTINUE_AND_COOLDOWN] = "continue-and-cooldown",
};

void
config_write_string(struct buf *out, const char *s)
{
	buf_putc(out, '"');
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f) {
			buf_printf(out, "\\x%02x", (unsigned char)*s);
			continue;
		}
		if (*s == '"' || *s == '\\')
			buf_putc(out, '\\');
		buf_putc(out, *s);
	}
	buf_putc(out, '"');
}

void
config_write_value(
    const struct config_row *row, int show, const char *value, struct buf *out)
{
	bool hidden = (row->flags & CONFIG_SECRET) != 0 &&
		      show == CONFIG_DUMP_PEOPLE && *value != '\0';

	config_write_string(out, hidden ? "***" : value);
}

static int
string_from_text(
    const struct config_row *row UNUSED, const char *text, void *field)
{
	char **s = field;

	secret_free(*s);
	*s = xstrdup(text);
	return 0;
}

static void
string_write(
    const struct config_row *row, const void *field, int show, struct buf *out)
{
	const char *const *s = field;

	config_write_value(row, show, *s != NULL ? *s : "", out);
}

static void
string_clear(const struct config_row *row UNUSED, void *field)
{
	char **s = field;

	secret_free(*s);
	*s = NULL;
}

/* A base URL: http or https with a host, kept without a trailing slash. */
static int
url_from_text(const struct config_row *row, const char *text, void *field)
{
	const char *host;
	char **s = field;
	size_t len;

	if (*text == '\0')
		return string_from_text(row, text, field);
	if (strncmp(text, "http://", 7) == 0)
		host = text + 7;
	else if (strncmp(text, "https://", 8) == 0)
		host = text + 8;
	else
		return -EINVAL;
	if (*host == '\0' || *host == '/' || *host == ':' ||
	    strpbrk(host, " \t\r\n?#@") != NULL)
		return -EINVAL;
	(void)string_from_text(row, text, field);
	for (len = strlen(*s); len > 0 && (*s)[len - 1] == '/'; len--)
		(*s)[len - 1] = '\0';
	return 0;
}

/* Spaces and slashes at the ends do not count; inside, a slash is refused. */
static int
prefix_from_text(const struct config_row *row, const char *text, void *field)
{
	size_t len;
	char **s = field;

	text += strspn(text, " /");
	(void)string_from_text(row, text, field);
	for (len = strlen(*s); len > 0 && strchr(" /", (*s)[len - 1]); len--)
		(*s)[len - 1] = '\0';
	return strchr(*s, '/') == NULL ? 0 : -EINVAL;
}

static int
encoding_from_text(const struct config_row *row, const char *text, void *field)
{
	if (strcmp(text, "") != 0 && strcmp(text, "form") != 0 &&
	    strcmp(text, "json") != 0)
		return -EINVAL;
	return string_from_text(row, text, field);
}

static int
bool_from_text(
    const struct config_row *row UNUSED, const char *text, void *field)
{
	*(bool *)field = strcmp(text, "true") == 0;
	return 0;
}

static void
bool_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	buf_puts(out, *(const bool *)field ? "true" : "false");
}

static int
tristate_from_text(
    const struct config_row *row UNUSED, const char *text, void *field)
{
	enum tristate *t = field;

	if (*text == '\0')
		*t = TRI_UNSET;
	else
		*t = strcmp(text, "true") == 0 ? TRI_TRUE : TRI_FALSE;
	return 0;
}

static void
tristate_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	const enum tristate *t = field;

	if (*t != TRI_UNSET)
		buf_puts(out, *t == TRI_TRUE ? "true" : "false");
}

static int
int_from_text(const struct config_row *row, const char *text, void *field)
{
	int64_t v;
	int rc;

	rc = str_to_int(text, row->min, row->max, &v);
	if (rc == 0)
		*(int *)field = (int)v;
	return rc;
}

static void
int_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	buf_printf(out, "%d", *(const int *)field);
}

/* A weight of zero or less keeps a credential out of weighted routing. */
static int
weight_from_text(const struct config_row *row, const char *text, void *field)
{
	int rc = int_from_text(row, text, field);

	if (rc == 0 && *(int *)field < 0)
		*(int *)field = 0;
	return rc;
}

static int
int64_from_text(const struct config_row *row, const char *text, void *field)
{
	return str_to_int(text, row->min, row->max, field);
}

static void
int64_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	buf_printf(out, "%" PRId64, *(const int64_t *)field);
}

static int
in_range(const struct config_row *row, int rc, int64_t v, void *field)
{
	if (rc < 0)
		return rc;
	if (v < row->min || v > row->max)
		return -ERANGE;
	*(int64_t *)field = v;
	return 0;
}

static int
duration_from_text(const struct config_row *row, const char *text, void *field)
{
	int64_t v = 0;
	int rc = str_to_duration_ms(text, &v);

	return in_range(row, rc, v, field);
}

static void
duration_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	char text[64];

	str_from_duration_ms(*(const int64_t *)field, text, sizeof(text));
	config_write_string(out, text);
}

static int
lead_from_text(const struct config_row *row, const char *text, void *field)
{
	if (*text == '\0') {
		*(int64_t *)field = -1;
		return 0;
	}
	return duration_from_text(row, text, field);
}

static void
lead_write(
    const struct config_row *row, const void *field, int show, struct buf *out)
{
	if (*(const int64_t *)field >= 0)
		duration_write(row, field, show, out);
}

static int
size_from_text(const struct config_row *row, const char *text, void *field)
{
	int64_t v = 0;
	int rc = str_to_size(text, &v);

	return in_range(row, rc, v, field);
}

static void
size_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	char text[32];

	str_from_size(*(const int64_t *)field, text, sizeof(text));
	config_write_string(out, text);
}

static int
word_from_text(const char *const *names, size_t n, const char *text, int *value)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (strcmp(names[i], text) == 0) {
			*value = (int)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int
level_from_text(
    const struct config_row *row UNUSED, const char *text, void *field)
{
	return word_from_text(log_level_names, LOG_LEVEL_MAX, text, field);
}

static void
level_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	config_write_string(
	    out, log_level_names[*(const enum log_level *)field]);
}

static int
strategy_from_text(
    const struct config_row *row UNUSED, const char *text, void *field)
{
	return word_from_text(strategy_names, STRATEGY_MAX, text, field);
}

static void
strategy_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	config_write_string(
	    out, strategy_names[*(const enum strategy_id *)field]);
}

static int
action_from_text(
    const struct config_row *row UNUSED, const char *text, void *field)
{
	return word_from_text(
	    action_names, ARRAY_LEN(action_names), text, field);
}

static void
action_write(const struct config_row *row UNUSED, const void *field,
    int show UNUSED, struct buf *out)
{
	config_write_string(
	    out, action_names[*(const enum error_action *)field]);
}

static void
nothing_clear(const struct config_row *row UNUSED, void *field UNUSED)
{
}

/* ---- the types */

#define SCALAR(what, kinds, from, to)                                          \
	{                                                                      \
		what, kinds, from, config_read_scalar, to, nothing_clear       \
	}
#define TEXT(what, from)                                                       \
	{                                                                      \
		what, TAKES_STRING, from, config_read_scalar, string_write,    \
		    string_clear                                               \
	}
const struct config_type config_string_type =
    TEXT("a string", string_from_text);
const struct config_type config_url_type =
    TEXT("a URL: http:// or https:// with a host", url_from_text);
const struct config_type config_prefix_type =
    TEXT("a string without an inner slash", prefix_from_text);
const struct config_type config_encoding_type =
    TEXT("\"form\" or \"json\"", encoding_from_text);
const struct config_type config_bool_type =
    SCALAR("true or false", TAKES_BOOL, bool_from_text, bool_write);
const struct config_type config_tristate_type =
    SCALAR("true or false", TAKES_BOOL, tristate_from_text, tristate_write);
const struct config_type config_int_type =
    SCALAR("an integer", TAKES_INT, int_from_text, int_write);
const struct config_type config_weight_type =
    SCALAR("an integer", TAKES_INT, weight_from_text, int_write);
const struct config_type config_int64_type = SCALAR(
    "an integer", TAKES_INT | TAKES_STRING, int64_from_text, int64_write);
const struct config_type config_duration_type =
    SCALAR("a duration such as \"90s\" or \"1h30m\"", TAKES_INT | TAKES_STRING,
	duration_from_text, duration_write);
const struct config_type config_lead_type =
    SCALAR("a duration such as \"90s\" or \"1h30m\"", TAKES_INT | TAKES_STRING,
	lead_from_text, lead_write);
const struct config_type config_size_type = SCALAR("a size such as \"64M\"",
    TAKES_INT | TAKES_STRING, size_from_text, size_write);
const struct config_type config_level_type =
    SCALAR("\"error\", \"warn\", \"notice\", \"info\" or \"debug\"",
	TAKES_STRING, level_from_text, level_write);
const struct config_type config_strategy_type =
    SCALAR("\"round-robin\", \"weighted-round-robin\", \"fill-first\" or "
	   "\"session-hash\"",
	TAKES_STRING, strategy_from_text, strategy_write);
const struct config_type config_action_type =
    SCALAR("\"stop\", \"continue\", \"stop-and-cooldown\" or "
	   "\"continue-and-cooldown\"",
	TAKES_STRING, action_from_text, action_write);
