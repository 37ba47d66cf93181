/* SPDX-License-Identifier: MIT */
#include "worker/json/json_watch.h"

#include <assert.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
	AT_STRUCTURE, /* between values, or in one that is of no interest */
	AT_KEY,
	AT_KEY_ESCAPE,
	AT_STRING,
	AT_STRING_ESCAPE,
	AT_NUMBER,
	AT_REST /* enough is known */
};

/* What a byte means between values. */
enum { NOTHING, QUOTE, OPEN, CLOSE, COMMA, DIGIT, TRUE };

static const uint8_t byte_class[256] = {
	['"'] = QUOTE,
	['{'] = OPEN,
	['['] = OPEN,
	['}'] = CLOSE,
	[']'] = CLOSE,
	[','] = COMMA,
	['-'] = DIGIT,
	['0'] = DIGIT,
	['1'] = DIGIT,
	['2'] = DIGIT,
	['3'] = DIGIT,
	['4'] = DIGIT,
	['5'] = DIGIT,
	['6'] = DIGIT,
	['7'] = DIGIT,
	['8'] = DIGIT,
	['9'] = DIGIT,
	['t'] = TRUE,
};

struct sink {
	json_watch_text_fn *on_text;
	void *ctx;
};

void
json_watch_init(struct json_watch *w, const struct json_watch_row *root)
{
	memset(w, 0, sizeof(*w));
	w->root = root;
	w->row = root;
}

void
json_watch_reset(struct json_watch *w)
{
	w->row = w->root;
	w->facts = 0;
	w->enough = 0;
	w->depth = 0;
	w->objects = 0;
	w->state = AT_STRUCTURE;
	w->want_key = false;
}

void
json_watch_forget(struct json_watch *w)
{
	w->facts = 0;
}

static void
note(struct json_watch *w, const struct json_watch_row *row)
{
	if (row->fact != 0)
		w->facts |= JSON_WATCH_BIT(row->fact);
}

/* A value is complete. */
static void
end_value(struct json_watch *w)
{
	w->row = NULL;
	w->state = AT_STRUCTURE;
	if (w->enough != 0 && (w->facts & w->enough) == w->enough)
		w->state = AT_REST;
}

static void
hand_out(
    struct json_watch *w, const struct sink *sink, const char *p, size_t len)
{
	if (w->row == NULL || len == 0)
		return;
	note(w, w->row);
	if (w->row->text)
		sink->on_text(sink->ctx, w->row->fact, p, len, w->first);
	w->first = false;
}

/* The row of the innermost container; NULL where nothing is watched. */
static const struct json_watch_row *
container(const struct json_watch *w)
{
	if (w->depth == 0 || w->depth > JSON_WATCH_LEVELS)
		return NULL;
	return w->level[w->depth - 1];
}

static bool
in_object(const struct json_watch *w)
{
	return (w->objects >> (w->depth - 1) & 1) != 0;
}

static void
open_container(struct json_watch *w, bool object)
{
	const struct json_watch_row *row = w->row;

	if (object && row != NULL) {
		note(w, row);
		if (row->members == NULL)
			row = NULL;
	}
	w->depth++;
	if (w->depth > JSON_WATCH_LEVELS)
		row = NULL;
	else
		w->level[w->depth - 1] = row;
	if (row != NULL && object)
		w->objects |= 1u << (w->depth - 1);
	else if (row != NULL)
		w->objects &= ~(1u << (w->depth - 1));
	w->want_key = object && row != NULL;
	w->row = object ? NULL : row;
}

/* Returns whether a unit has ended. */
static bool
close_container(struct json_watch *w)
{
	bool object = container(w) != NULL && in_object(w);

	if (w->depth == 0)
		return false;
	w->depth--;
	w->want_key = false;
	w->row = w->depth == 0 ? w->root : NULL;
	return object &&
	       (w->depth == 0 ||
		   (w->depth == 1 && container(w) != NULL && !in_object(w)));
}

static void
next_member(struct json_watch *w)
{
	const struct json_watch_row *row = container(w);

	w->want_key = row != NULL && in_object(w);
	w->row = w->want_key ? NULL : row;
}

static void
begin_number(struct json_watch *w)
{
	if (w->row == NULL)
		return;
	w->first = true;
	w->state = AT_NUMBER;
}

/* Reads one byte between values; sets *unit when it ends one. */
static void
take_structure(struct json_watch *w, char c, bool *unit)
{
	switch (byte_class[(unsigned char)c]) {
	case QUOTE:
		w->state = w->want_key ? AT_KEY : AT_STRING;
		w->key_len = 0;
		w->first = true;
		break;
	case OPEN:
		open_container(w, c == '{');
		break;
	case CLOSE:
		*unit = close_container(w);
		break;
	case COMMA:
		next_member(w);
		break;
	case TRUE:
		if (w->row != NULL) {
			note(w, w->row);
			end_value(w);
		}
		break;
	default:
		break;
	}
}

static size_t
at_structure(struct json_watch *w, const char *p, size_t len, bool *unit)
{
	size_t n = 0;
	uint8_t class;

	while (n < len && w->state == AT_STRUCTURE && !*unit) {
		class = byte_class[(unsigned char)p[n]];
		if (class == DIGIT) {
			begin_number(w);
			if (w->state == AT_NUMBER)
				break;
		} else if (class != NOTHING) {
			take_structure(w, p[n], unit);
		}
		n++;
	}
	return n;
}

#ifdef __SSE2__
/* Goes over whole blocks up to a quote, a backslash or a last rest. */
static size_t
skip_blocks(const char *p, size_t len)
{
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i escape = _mm_set1_epi8('\\');
	__m128i block, hits;
	unsigned int mask;
	size_t n = 0;

	for (; len - n >= sizeof(block); n += sizeof(block)) {
		block = _mm_loadu_si128((const __m128i *)(const void *)(p + n));
		hits = _mm_or_si128(_mm_cmpeq_epi8(block, quote),
		    _mm_cmpeq_epi8(block, escape));
		mask = (unsigned int)_mm_movemask_epi8(hits);
		if (mask != 0)
			return n + (unsigned int)__builtin_ctz(mask);
	}
	return n;
}
#else
static size_t
skip_blocks(const char *p, size_t len)
{
	(void)p;
	(void)len;
	return 0;
}
#endif

/* The bytes in front of the next quote or backslash. */
static size_t
plain_run(const char *p, size_t len)
{
	size_t n = skip_blocks(p, len);

	while (n < len && p[n] != '"' && p[n] != '\\')
		n++;
	return n;
}

static bool
is_key(const struct json_watch_row *row, struct span key)
{
	return key.len > 0 && row->key[0] == key.p[0] &&
	       strlen(row->key) == key.len &&
	       memcmp(row->key, key.p, key.len) == 0;
}

static void
find_member(struct json_watch *w, struct span key)
{
	const struct json_watch_row *row = container(w)->members;

	while (row->key != NULL && row->key[0] != '*' && !is_key(row, key))
		row++;
	w->row = row->key != NULL ? row : NULL;
	w->want_key = false;
	w->state = AT_STRUCTURE;
}

/* What does not fit is cut: a key that fills the array is no key of a row. */
static void
keep_key(struct json_watch *w, const char *p, size_t len)
{
	size_t room = JSON_WATCH_KEY_MAX - w->key_len;
	size_t n = len < room ? len : room;

	memcpy(w->key + w->key_len, p, n);
	w->key_len += n;
}

static size_t
at_key(struct json_watch *w, const char *p, size_t len)
{
	size_t n = plain_run(p, len);

	if (n < len && p[n] == '"' && w->key_len == 0) {
		find_member(w, (struct span){ p, n });
		return n + 1;
	}
	keep_key(w, p, n);
	if (n == len)
		return n;
	if (p[n] == '"') {
		find_member(w, (struct span){ w->key, w->key_len });
	} else {
		/* No row has a name that needs an escape. */
		w->key_len = JSON_WATCH_KEY_MAX;
		w->state = AT_KEY_ESCAPE;
	}
	return n + 1;
}

/*
 * The bytes up to the closing quote, which is not one of them, or to the end
 * of what there is; *escape says that this end is within an escape.
 */
static size_t
rest_of_string(const char *p, size_t len, bool *escape)
{
	size_t n = 0;

	*escape = false;
	while (n < len) {
		n += plain_run(p + n, len - n);
		if (n == len || p[n] == '"')
			return n;
		if (n + 1 == len) {
			*escape = true;
			return len;
		}
		n += 2;
	}
	return n;
}

static size_t
at_string(
    struct json_watch *w, const struct sink *sink, const char *p, size_t len)
{
	bool escape;
	size_t n = rest_of_string(p, len, &escape);

	hand_out(w, sink, p, n);
	if (escape)
		w->state = AT_STRING_ESCAPE;
	if (n == len)
		return n;
	end_value(w);
	return n + 1;
}

static bool
in_number(char c)
{
	return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' ||
	       c == 'e' || c == 'E';
}

static size_t
at_number(
    struct json_watch *w, const struct sink *sink, const char *p, size_t len)
{
	size_t n = 0;

	while (n < len && in_number(p[n]))
		n++;
	hand_out(w, sink, p, n);
	if (n < len)
		end_value(w);
	return n;
}

static size_t
step(struct json_watch *w, const struct sink *sink, const char *p, size_t len,
    bool *unit)
{
	switch (w->state) {
	case AT_STRUCTURE:
		return at_structure(w, p, len, unit);
	case AT_KEY:
		return at_key(w, p, len);
	case AT_KEY_ESCAPE:
		w->state = AT_KEY;
		return 1;
	case AT_STRING:
		return at_string(w, sink, p, len);
	case AT_STRING_ESCAPE:
		hand_out(w, sink, p, 1);
		w->state = AT_STRING;
		return 1;
	case AT_NUMBER:
		return at_number(w, sink, p, len);
	default:
		assert(w->state == AT_REST);
		return len;
	}
}

size_t
json_watch_feed(struct json_watch *w, const char *p, size_t len,
    json_watch_text_fn *on_text, void *ctx, bool *unit)
{
	struct sink sink = { on_text, ctx };
	size_t n = 0;

	*unit = false;
	while (n < len && !*unit)
		n += step(w, &sink, p + n, len - n, unit);
	return n;
}
