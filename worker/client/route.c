/* SPDX-License-Identifier: MIT */
#include "worker/client/route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/utf8.h"

#define BIT(method) (1u << (method))

enum { GET = BIT(HTTP_GET), HEAD = BIT(HTTP_HEAD), POST = BIT(HTTP_POST) };

/*
 * Gemini's methods, and the models of all dialects, in the shape that the
 * client knows. A suffix stands in front of the bare id of the same prefix.
 */
#define GEMINI_METHOD(root, method, what, streams)                             \
	{                                                                      \
		.path = root "/", .suffix = method, .methods = POST,           \
		.dialect = DIALECT_GEMINI, .operation = what,                  \
		.needs_key = true, .stream = streams                           \
	}
#define GEMINI_ROWS(root)                                                      \
	GEMINI_METHOD(root, ":generateContent", OPERATION_GENERATE, false),    \
	    GEMINI_METHOD(root, ":streamGenerateContent",                      \
		OPERATION_STREAM_GENERATE, true),                              \
	    GEMINI_METHOD(                                                     \
		root, ":countTokens", OPERATION_GEMINI_COUNT, false),          \
	    { .path = root "/",                                                \
		    .suffix = "",                                              \
		    .methods = GET,                                            \
		    .kind = ROUTE_MODEL,                                       \
		    .needs_key = true },                                       \
	{                                                                      \
		.path = root, .methods = GET, .kind = ROUTE_MODELS,            \
		.needs_key = true                                              \
	}

static const struct route_row rows[] = {
	{ .path = "/v1/chat/completions",
	    .methods = POST,
	    .dialect = DIALECT_OPENAI,
	    .operation = OPERATION_CHAT,
	    .needs_key = true },
	{ .path = "/v1/completions",
	    .methods = POST,
	    .dialect = DIALECT_OPENAI,
	    .operation = OPERATION_COMPLETIONS,
	    .needs_key = true },
	{ .path = "/v1/embeddings",
	    .methods = POST,
	    .dialect = DIALECT_OPENAI,
	    .operation = OPERATION_EMBEDDINGS,
	    .needs_key = true },
	{ .path = "/v1/messages",
	    .methods = POST,
	    .dialect = DIALECT_CLAUDE,
	    .operation = OPERATION_MESSAGES,
	    .needs_key = true },
	{ .path = "/v1/messages/count_tokens",
	    .methods = POST,
	    .dialect = DIALECT_CLAUDE,
	    .operation = OPERATION_COUNT_TOKENS,
	    .needs_key = true },
	{ .path = "/v1/responses",
	    .methods = POST,
	    .dialect = DIALECT_RESPONSES,
	    .operation = OPERATION_RESPONSES,
	    .needs_key = true,
	    .websocket = true },
	{ .path = "/v1/responses/compact",
	    .methods = POST,
	    .dialect = DIALECT_RESPONSES,
	    .operation = OPERATION_COMPACT,
	    .needs_key = true },
	{ .path = "/backend-api/codex/responses",
	    .methods = POST,
	    .dialect = DIALECT_RESPONSES,
	    .operation = OPERATION_RESPONSES,
	    .needs_key = true,
	    .websocket = true },
	{ .path = "/backend-api/codex/responses/compact",
	    .methods = POST,
	    .dialect = DIALECT_RESPONSES,
	    .operation = OPERATION_COMPACT,
	    .needs_key = true },
	GEMINI_ROWS("/v1beta/models"),
	GEMINI_ROWS("/v1/models"),
	{ .path = "/healthz", .methods = GET | HEAD, .kind = ROUTE_HEALTH },
	{ .path = "/", .methods = GET, .kind = ROUTE_BANNER },
	{ .path = "/", .methods = HEAD, .kind = ROUTE_PROBE },
	{ .path = "/api/hello", .methods = HEAD, .kind = ROUTE_PROBE },
};

/* Paths and headers that betray a dialect where no row tells. */
static const struct {
	struct span prefix;
	enum dialect dialect;
} path_hints[] = {
	{ SPAN("/v1beta"), DIALECT_GEMINI },
	{ SPAN("/v1/messages"), DIALECT_CLAUDE },
	{ SPAN("/v1/responses"), DIALECT_RESPONSES },
	{ SPAN("/backend-api/codex"), DIALECT_RESPONSES },
};

static const struct {
	const char *name;
	struct span prefix;
	enum dialect dialect;
} header_hints[] = {
	{ "anthropic-version", SPAN(""), DIALECT_CLAUDE },
	{ "user-agent", SPAN("claude-cli"), DIALECT_CLAUDE },
	{ "x-goog-api-key", SPAN(""), DIALECT_GEMINI },
	{ "x-goog-api-client", SPAN(""), DIALECT_GEMINI },
};

static const struct {
	unsigned int bit;
	const char *name;
} method_names[] = { { GET, "GET" }, { HEAD, "HEAD" }, { POST, "POST" } };

/* Our own keys, as a query may carry them. */
static const char *const key_parameters[] = { "key", "auth_token" };

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * Takes one byte off the front, with %XX undone; the byte, or -1 for a broken
 * escape, of which nothing is taken.
 */
static int
take_decoded(struct span *s)
{
	int high;
	int low;

	if (s->p[0] != '%') {
		s->p++;
		s->len--;
		return (unsigned char)s->p[-1];
	}
	if (s->len < 3)
		return -1;
	high = hex_value(s->p[1]);
	low = hex_value(s->p[2]);
	if (high < 0 || low < 0)
		return -1;
	s->p += 3;
	s->len -= 3;
	return high << 4 | low;
}

static bool
is_model_text(const char *p, size_t len)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t i = 0;
	size_t n;

	while (i < len) {
		if (u[i] <= ' ' || u[i] == 0x7f ||
		    strchr("?#%\\", u[i]) != NULL)
			return false;
		n = utf8_sequence(u + i, len - i);
		if (n == 0)
			return false;
		i += n;
	}
	return len > 0;
}

/* Segments that someone behind us might resolve as a path are refused. */
static bool
has_odd_segment(struct span path)
{
	struct span segment;
	const char *slash;

	for (;;) {
		slash = memchr(path.p, '/', path.len);
		segment = path;
		if (slash != NULL)
			segment.len = (size_t)(slash - path.p);
		if (segment.len == 0 || span_equal(segment, SPAN(".")) ||
		    span_equal(segment, SPAN("..")))
			return true;
		if (slash == NULL)
			return false;
		path.len -= segment.len + 1;
		path.p = slash + 1;
	}
}

static bool
decode_model(struct span raw, struct route_match *m)
{
	size_t n = 0;
	int c;

	while (raw.len > 0) {
		c = take_decoded(&raw);
		if (c < 0 || n == sizeof(m->model) - 1)
			return false;
		m->model[n++] = (char)c;
	}
	m->model[n] = '\0';
	m->model_len = n;
	return is_model_text(m->model, n) &&
	       !has_odd_segment((struct span){ m->model, n });
}

/* The id between the prefix of a row and its suffix; false if it has none. */
static bool
split_pattern(const struct route_row *row, struct span path, struct span *id)
{
	struct span prefix = span_of(row->path);
	struct span suffix = span_of(row->suffix);

	if (!span_starts(path, prefix) || path.len <= prefix.len + suffix.len ||
	    memcmp(path.p + path.len - suffix.len, suffix.p, suffix.len) != 0)
		return false;
	id->p = path.p + prefix.len;
	id->len = path.len - prefix.len - suffix.len;
	return true;
}

/* "models/M:unknownMethod" is no model M:unknownMethod to whoever posts it. */
static bool
is_unknown_method(
    const struct route_row *row, unsigned int method, struct span id)
{
	return row->suffix[0] == '\0' && (row->methods & method) == 0 &&
	       memchr(id.p, ':', id.len) != NULL;
}

static bool
row_matches(const struct route_row *row, struct span path, unsigned int method,
    struct route_match *m)
{
	struct span id;

	if (row->suffix == NULL)
		return span_equal(path, span_of(row->path));
	return split_pattern(row, path, &id) &&
	       !is_unknown_method(row, method, id) && decode_model(id, m);
}

static void
list_methods(unsigned int methods, char *out, size_t size)
{
	size_t at = 0;
	size_t i;

	out[0] = '\0';
	for (i = 0; i < ARRAY_LEN(method_names); i++) {
		if (methods & method_names[i].bit)
			at += (size_t)snprintf(out + at, size - at, "%s%s",
			    at > 0 ? ", " : "", method_names[i].name);
	}
}

static enum route_result
matched(const struct route_row *row, const struct http_head *h,
    struct route_match *m)
{
	m->row = row;
	m->dialect =
	    row->kind == ROUTE_FORWARD ? row->dialect : route_guess_dialect(h);
	return ROUTE_MATCH;
}

enum route_result
route_match(const struct http_head *h, struct route_match *m)
{
	struct span path = http_head_path(h);
	unsigned int method = BIT(h->method);
	unsigned int allowed = 0;
	const struct route_row *row;

	memset(m, 0, offsetof(struct route_match, model) + 1);
	for (row = rows; row < rows + ARRAY_LEN(rows); row++) {
		if (!row_matches(row, path, method, m))
			continue;
		if (row->websocket && h->websocket) {
			m->dialect = row->dialect;
			return ROUTE_UPGRADE;
		}
		if (row->methods & method)
			return matched(row, h, m);
		allowed |= row->methods;
		if (row->suffix != NULL)
			break;
	}
	m->dialect = route_guess_dialect(h);
	list_methods(allowed, m->allow, sizeof(m->allow));
	return allowed != 0 ? ROUTE_NOT_ALLOWED : ROUTE_NOT_FOUND;
}

static bool
header_hints_at(const struct http_head *h, const char *name, struct span prefix)
{
	struct span value = http_head_get(h, name);

	return value.p != NULL && value.len >= prefix.len && value.len > 0 &&
	       strncasecmp(value.p, prefix.p, prefix.len) == 0;
}

enum dialect
route_guess_dialect(const struct http_head *h)
{
	struct span path = http_head_path(h);
	size_t i;

	for (i = 0; i < ARRAY_LEN(path_hints); i++) {
		if (span_starts(path, path_hints[i].prefix))
			return path_hints[i].dialect;
	}
	for (i = 0; i < ARRAY_LEN(header_hints); i++) {
		if (header_hints_at(
			h, header_hints[i].name, header_hints[i].prefix))
			return header_hints[i].dialect;
	}
	return DIALECT_OPENAI;
}

/* The next parameter of a query, without its '&'. */
static bool
next_parameter(struct span *query, struct span *parameter)
{
	const char *mark;

	if (query->p == NULL)
		return false;
	mark = memchr(query->p, '&', query->len);
	*parameter = *query;
	if (mark == NULL) {
		*query = (struct span){ NULL, 0 };
		return true;
	}
	parameter->len = (size_t)(mark - query->p);
	query->p = mark + 1;
	query->len -= parameter->len + 1;
	return true;
}

/*
 * Whether a parameter, decoded, has that name; *value is then what follows
 * its '='.
 */
static bool
parameter_is(struct span parameter, const char *name, struct span *value)
{
	const char *mark = memchr(parameter.p, '=', parameter.len);
	struct span raw = parameter;
	size_t len;

	if (mark != NULL)
		raw.len = (size_t)(mark - parameter.p);
	len = raw.len + (mark != NULL ? 1 : 0);
	*value = (struct span){ parameter.p + len, parameter.len - len };
	while (raw.len > 0 && *name != '\0') {
		if (take_decoded(&raw) != (unsigned char)*name++)
			return false;
	}
	return raw.len == 0 && *name == '\0';
}

static bool
is_key_parameter(struct span parameter)
{
	struct span value;
	size_t i;

	for (i = 0; i < ARRAY_LEN(key_parameters); i++) {
		if (parameter_is(parameter, key_parameters[i], &value))
			return true;
	}
	return false;
}

size_t
route_query_strip(struct span query, char *out)
{
	struct span parameter;
	bool first = true;
	size_t len = 0;

	while (next_parameter(&query, &parameter)) {
		if (is_key_parameter(parameter))
			continue;
		if (!first)
			out[len++] = '&';
		memcpy(out + len, parameter.p, parameter.len);
		len += parameter.len;
		first = false;
	}
	return len;
}

static enum route_query_result
decode_value(struct span raw, char *out, size_t size, size_t *len)
{
	size_t n = 0;
	bool plus;
	int c;

	while (raw.len > 0) {
		plus = raw.p[0] == '+';
		c = take_decoded(&raw);
		if (c <= 0 || n + 1 >= size)
			return ROUTE_QUERY_BAD;
		out[n++] = plus ? ' ' : (char)c;
	}
	out[n] = '\0';
	*len = n;
	return ROUTE_QUERY_FOUND;
}

enum route_query_result
route_query_get(
    struct span query, const char *name, char *out, size_t size, size_t *len)
{
	struct span parameter;
	struct span value;

	while (next_parameter(&query, &parameter)) {
		if (parameter_is(parameter, name, &value))
			return decode_value(value, out, size, len);
	}
	return ROUTE_QUERY_ABSENT;
}
