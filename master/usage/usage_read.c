/* SPDX-License-Identifier: MIT */
#include "master/usage/usage_read.h"

#include <string.h>

#include "common/attr.h"
#include "common/str.h"
#include "common/usage_line.h"

struct reader {
	const char *p, *end;
	bool bad;
};

enum field_kind { FIELD_TEXT, FIELD_NUMBER, FIELD_FLAG, FIELD_TOKENS };

struct field {
	struct span name;
	enum field_kind kind;
	size_t at, size;
};

#define FIELD(name, kind, member)                                              \
	{                                                                      \
		SPAN(name), FIELD_##kind, offsetof(struct usage_line, member), \
		    sizeof(((struct usage_line *)0)->member)                   \
	}

static const struct field record_fields[] = {
	FIELD("time", TEXT, day),
	FIELD("request_id", TEXT, request_id),
	FIELD("attempt", NUMBER, attempt),
	FIELD("model", TEXT, model),
	FIELD("credential", TEXT, credential),
	FIELD("client", TEXT, client),
	FIELD("failed", FLAG, failed),
	FIELD("tokens", TOKENS, tokens),
};

static bool
take(struct reader *r, char c)
{
	if (r->bad || r->p == r->end || *r->p != c) {
		r->bad = true;
		return false;
	}
	r->p++;
	return true;
}

static bool
next_is(const struct reader *r, char c)
{
	return !r->bad && r->p < r->end && *r->p == c;
}

static bool
take_word(struct reader *r, struct span word)
{
	if (r->bad || (size_t)(r->end - r->p) < word.len ||
	    memcmp(r->p, word.p, word.len) != 0)
		return false;
	r->p += word.len;
	return true;
}

/* The text between the quotes, escapes as they stand. */
static struct span
take_quoted(struct reader *r)
{
	const char *start;

	if (!take(r, '"'))
		return SPAN("");
	for (start = r->p; r->p < r->end && *r->p != '"'; r->p++)
		if (*r->p == '\\' && ++r->p == r->end)
			break;
	if (r->p == r->end) {
		r->bad = true;
		return SPAN("");
	}
	return (struct span){ start, (size_t)(r->p++ - start) };
}

static int
hex_value(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c != '\0' ? strchr(digits, c | 0x20) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

/* We write \u for control characters alone; anything else is not ours. */
static char
control_of(struct span digits)
{
	int value = 0;

	for (size_t i = 0; i < digits.len; i++) {
		int digit = hex_value(digits.p[i]);

		if (digit < 0)
			return '?';
		value = value * 16 + digit;
	}
	return value > 0 && value < 0x20 ? (char)value : '?';
}

/* Undoes the escapes; what does not fit is cut. */
static void
keep_text(struct span s, char *to, size_t size)
{
	static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
	size_t out = 0;

	for (size_t i = 0; i < s.len && out + 1 < size; i++) {
		const char *at;

		if (s.p[i] != '\\' || i + 1 == s.len) {
			to[out++] = s.p[i];
			continue;
		}
		i++;
		at = s.p[i] != '\0' ? strchr(from, s.p[i]) : NULL;
		if (s.p[i] == 'u' && s.len - i > 4) {
			to[out++] = control_of((struct span){ s.p + i + 1, 4 });
			i += 4;
		} else {
			to[out++] = at != NULL ? into[at - from] : s.p[i];
		}
	}
	to[out] = '\0';
}

/* Of a number the natural part; -1 for null. */
static int64_t
take_number(struct reader *r)
{
	int64_t n = 0;
	const char *start = r->p;

	if (take_word(r, SPAN("null")))
		return -1;
	for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, *r->p - '0', &n))
			r->bad = true;
	if (r->p == start)
		r->bad = true;
	if (next_is(r, '.'))
		for (r->p++; r->p < r->end && *r->p >= '0' && *r->p <= '9';)
			r->p++;
	return n;
}

static bool
take_flag(struct reader *r)
{
	if (take_word(r, SPAN("true")))
		return true;
	if (!take_word(r, SPAN("false")))
		r->bad = true;
	return false;
}

/* The values of lines of ours that nobody asks for. */
static void
skip_value(struct reader *r)
{
	if (next_is(r, '"'))
		(void)take_quoted(r);
	else if (next_is(r, 't') || next_is(r, 'f'))
		(void)take_flag(r);
	else
		(void)take_number(r);
}

static void
take_count(struct reader *r, struct span name, struct tokens *tokens)
{
	int64_t n = take_number(r);

	for (int i = 0; i < TOKENS_MAX; i++)
		if (span_equal(name, span_of(token_kind_names[i])))
			tokens->n[i] = n;
}

static bool
take_tokens(struct reader *r, struct tokens *tokens)
{
	if (take_word(r, SPAN("null")))
		return false;
	if (!take(r, '{'))
		return false;
	do {
		struct span name = take_quoted(r);

		if (take(r, ':'))
			take_count(r, name, tokens);
	} while (next_is(r, ',') && take(r, ','));
	return take(r, '}');
}

static void
take_text(struct reader *r, char *to, size_t size)
{
	if (take_word(r, SPAN("null")))
		to[0] = '\0';
	else
		keep_text(take_quoted(r), to, size);
}

static void
take_field(struct reader *r, struct span name, struct usage_line *line)
{
	const struct field *f = record_fields;
	const struct field *end = f + ARRAY_LEN(record_fields);
	char *to;

	while (f < end && !span_equal(f->name, name))
		f++;
	if (f == end) {
		if (!take_word(r, SPAN("null")))
			skip_value(r);
		return;
	}
	to = (char *)line + f->at;
	switch (f->kind) {
	case FIELD_TEXT:
		take_text(r, to, f->size);
		break;
	case FIELD_NUMBER:
		line->attempt = take_number(r);
		break;
	case FIELD_FLAG:
		line->failed = take_flag(r);
		break;
	case FIELD_TOKENS:
		line->has_tokens = take_tokens(r, &line->tokens);
		break;
	}
}

static bool
read_record(struct usage_line *line, struct span text)
{
	struct reader r = { text.p, text.p + text.len, false };

	memset(line, 0, sizeof(*line));
	for (int i = 0; i < TOKENS_MAX; i++)
		line->tokens.n[i] = -1;
	if (!take(&r, '{'))
		return false;
	do {
		struct span name = take_quoted(&r);

		if (take(&r, ':'))
			take_field(&r, name, line);
	} while (next_is(&r, ',') && take(&r, ','));
	return take(&r, '}') && r.p == r.end && str_is_day(line->day) &&
	       line->request_id[0] != '\0' && line->attempt > 0;
}

/* Where the last record of a line begins. */
static struct span
last_record(struct span line)
{
	static const struct span head = SPAN(USAGE_LINE_HEAD);
	const char *end = line.p + line.len, *at = line.p, *p;

	while ((p = memmem(at, (size_t)(end - at), head.p, head.len)) != NULL) {
		line = (struct span){ p, (size_t)(end - p) };
		at = p + head.len;
	}
	return line;
}

bool
usage_line_read(struct usage_line *line, const char *p, size_t len)
{
	return read_record(line, last_record((struct span){ p, len }));
}
