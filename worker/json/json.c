/* SPDX-License-Identifier: MIT */
/*
 * The grammar of JSON over one text: the pull interface for what a caller
 * wants, one loop without recursion for what it skips. Strings, where nearly
 * all bytes of a request are, are json_string's.
 */
#include "worker/json/json.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "worker/json/json_string.h"

#if defined(__SSE2__) && !defined(JSON_NO_SIMD)
#include <emmintrin.h>
#define USE_SSE2 1
#else
#define USE_SSE2 0
#endif

/* Where skip() takes up the grammar. */
enum place {
	AT_VALUE,
	AT_FIRST,    /* just inside a container */
	BEHIND_VALUE /* within a container */
};

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static const char *
long_space_end(const char *p, const char *end)
{
#if USE_SSE2
	while (end - p >= 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		__m128i space = _mm_or_si128(
		    _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(' ')),
			_mm_cmpeq_epi8(v, _mm_set1_epi8('\n'))),
		    _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\r')),
			_mm_cmpeq_epi8(v, _mm_set1_epi8('\t'))));
		unsigned other = ~(unsigned)_mm_movemask_epi8(space) & 0xffffU;

		if (other != 0)
			return p + __builtin_ctz(other);
		p += 16;
	}
#endif
	while (p < end && is_space(*p))
		p++;
	return p;
}

/* Mostly there is none, or one. */
static inline const char *
space_end(const char *p, const char *end)
{
	if (p == end || (unsigned char)*p > ' ')
		return p;
	p += is_space(*p);
	if (p == end || (unsigned char)*p > ' ')
		return p;
	return long_space_end(p, end);
}

static const char *
digits_end(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* NULL when there is not one digit. */
static const char *
some_digits_end(const char *p, const char *end)
{
	const char *q = digits_end(p, end);

	return q > p ? q : NULL;
}

static const char *
exponent_end(const char *p, const char *end)
{
	if (p < end && (*p == '+' || *p == '-'))
		p++;
	return some_digits_end(p, end);
}

static const char *
number_end(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else
		p = some_digits_end(p, end);
	if (p != NULL && p < end && *p == '.')
		p = some_digits_end(p + 1, end);
	if (p != NULL && p < end && (*p == 'e' || *p == 'E'))
		p = exponent_end(p + 1, end);
	return p;
}

static const char *
literal_end(const char *p, const char *end, const char *word, size_t len)
{
	if ((size_t)(end - p) < len || memcmp(p, word, len) != 0)
		return NULL;
	return p + len;
}

/* Anything but a string or container; NULL when it is none. p < end. */
static const char *
scalar_end(const char *p, const char *end)
{
	switch (*p) {
	case 't':
		return literal_end(p, end, "true", 4);
	case 'f':
		return literal_end(p, end, "false", 5);
	case 'n':
		return literal_end(p, end, "null", 4);
	default:
		return number_end(p, end);
	}
}

/*
 * The end of the string at p, a quote. Most strings are short names and words:
 * those end within the first 16 bytes, without anything special before.
 */
static inline const char *
string_end(struct json_reader *r, const char *p)
{
	p++;
#if USE_SSE2
	if (r->end - p >= 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		__m128i special =
		    _mm_or_si128(_mm_cmplt_epi8(v, _mm_set1_epi8(0x20)),
			_mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
			    _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))));
		unsigned mask = (unsigned)_mm_movemask_epi8(special);

		if (mask != 0 && p[__builtin_ctz(mask)] == '"')
			return p + __builtin_ctz(mask) + 1;
	}
#endif
	return json_string_end(r->text, p, r->end, &r->escaped);
}

/* The error, at p, is final. Returns NULL for the caller to pass on. */
static const char *
fail(struct json_reader *r, const char *p, enum json_outcome outcome)
{
	r->outcome = outcome;
	r->at = p;
	return NULL;
}

/* Whether one more level fits. */
static inline bool
push(struct json_reader *r, char opener)
{
	if (r->depth == JSON_MAX_DEPTH)
		return false;
	/* In ASCII each closing bracket follows its opening one by two. */
	r->closer[r->depth++] = (char)(opener + 2);
	return true;
}

static inline bool
at_closer(const struct json_reader *r, const char *p)
{
	return p < r->end && *p == r->closer[r->depth - 1];
}

static inline bool
in_object(const struct json_reader *r)
{
	return r->closer[r->depth - 1] == '}';
}

/* From a member's name to where its value begins, or NULL. */
static inline const char *
name_end(struct json_reader *r, const char *p)
{
	const char *q;

	if (p == r->end || *p != '"' || (q = string_end(r, p)) == NULL)
		return fail(r, p, JSON_INVALID);
	q = space_end(q, r->end);
	if (q == r->end || *q != ':')
		return fail(r, q, JSON_INVALID);
	return space_end(q + 1, r->end);
}

/*
 * Validate from p, which stands at the given place, until a value has ended
 * with the reader base levels deep. Returns the address behind it; NULL on an
 * error, which is set.
 */
static const char *
skip(struct json_reader *r, const char *p, unsigned base, enum place place)
{
	const char *const end = r->end;
	const char *q;

	if (place == AT_FIRST)
		goto first;
	if (place == BEHIND_VALUE)
		goto behind;
value:
	if (p == end)
		return fail(r, p, JSON_INVALID);
	if (*p == '{' || *p == '[') {
		if (!push(r, *p))
			return fail(r, p, JSON_TOO_DEEP);
		p++;
		goto first;
	}
	q = *p == '"' ? string_end(r, p) : scalar_end(p, end);
	if (q == NULL)
		return fail(r, p, JSON_INVALID);
	p = q;
behind:
	if (r->depth == base)
		return p;
	p = space_end(p, end);
	if (p < end && *p == ',') {
		p = space_end(p + 1, end);
		goto next;
	}
	if (!at_closer(r, p))
		return fail(r, p, JSON_INVALID);
	p++;
	r->depth--;
	goto behind;
first:
	p = space_end(p, end);
	if (at_closer(r, p)) {
		p++;
		r->depth--;
		goto behind;
	}
next:
	if (in_object(r) && (p = name_end(r, p)) == NULL)
		return NULL;
	goto value;
}

void
json_reader_init(struct json_reader *reader, const char *text, size_t len)
{
	reader->text = text;
	reader->at = text;
	reader->end = text + len;
	reader->outcome = JSON_OK;
	reader->depth = 0;
	reader->first = false;
	reader->escaped = false;
}

enum json_type
json_peek(struct json_reader *reader)
{
	static const unsigned char types[256] = {
		['{'] = JSON_OBJECT,
		['['] = JSON_ARRAY,
		['"'] = JSON_STRING,
		['t'] = JSON_TRUE,
		['f'] = JSON_FALSE,
		['n'] = JSON_NULL,
		['-'] = JSON_NUMBER,
		['0'] = JSON_NUMBER,
		['1'] = JSON_NUMBER,
		['2'] = JSON_NUMBER,
		['3'] = JSON_NUMBER,
		['4'] = JSON_NUMBER,
		['5'] = JSON_NUMBER,
		['6'] = JSON_NUMBER,
		['7'] = JSON_NUMBER,
		['8'] = JSON_NUMBER,
		['9'] = JSON_NUMBER,
	};

	if (reader->outcome != JSON_OK)
		return JSON_NONE;
	reader->at = space_end(reader->at, reader->end);
	if (reader->at == reader->end)
		return JSON_NONE;
	return (enum json_type)types[(unsigned char)*reader->at];
}

bool
json_read(struct json_reader *reader, struct json_value *value)
{
	enum json_type type = json_peek(reader);
	const char *start = reader->at;
	const char *p;

	if (reader->outcome != JSON_OK)
		return false;
	reader->escaped = false;
	p = skip(reader, start, reader->depth, AT_VALUE);
	if (p == NULL)
		return false;
	reader->at = p;
	if (value != NULL) {
		value->at = (size_t)(start - reader->text);
		value->len = (size_t)(p - start);
		value->type = type;
		value->escaped = type == JSON_STRING && reader->escaped;
	}
	return true;
}

bool
json_enter(struct json_reader *reader)
{
	enum json_type type = json_peek(reader);

	if (reader->outcome != JSON_OK)
		return false;
	if (type != JSON_OBJECT && type != JSON_ARRAY) {
		(void)fail(reader, reader->at, JSON_INVALID);
		return false;
	}
	if (!push(reader, *reader->at)) {
		(void)fail(reader, reader->at, JSON_TOO_DEEP);
		return false;
	}
	reader->at++;
	reader->first = true;
	return true;
}

bool
json_enter_if(struct json_reader *reader, enum json_type type)
{
	if (json_peek(reader) == type)
		return json_enter(reader);
	(void)json_read(reader, NULL);
	return false;
}

/* To the next member or element; false: the container is left, or broken. */
static bool
advance(struct json_reader *r, char closer)
{
	const char *p;

	if (r->outcome != JSON_OK)
		return false;
	assert(r->depth > 0 && r->closer[r->depth - 1] == closer);
	p = space_end(r->at, r->end);
	if (at_closer(r, p)) {
		r->at = p + 1;
		r->depth--;
		r->first = false;
		return false;
	}
	if (!r->first) {
		if (p == r->end || *p != ',') {
			(void)fail(r, p, JSON_INVALID);
			return false;
		}
		p = space_end(p + 1, r->end);
	}
	r->at = p;
	r->first = false;
	return true;
}

bool
json_member(struct json_reader *reader, struct json_value *name)
{
	const char *start, *value, *p;

	if (!advance(reader, '}'))
		return false;
	start = reader->at;
	reader->escaped = false;
	value = name_end(reader, start);
	if (value == NULL)
		return false;
	reader->at = value;
	for (p = value - 1; *p != '"'; p--)
		;
	name->at = (size_t)(start - reader->text);
	name->len = (size_t)(p + 1 - start);
	name->type = JSON_STRING;
	name->escaped = reader->escaped;
	return true;
}

bool
json_element(struct json_reader *reader)
{
	return advance(reader, ']');
}

bool
json_leave(struct json_reader *reader)
{
	const char *p;

	if (reader->outcome != JSON_OK)
		return false;
	assert(reader->depth > 0);
	p = skip(reader, reader->at, reader->depth - 1,
	    reader->first ? AT_FIRST : BEHIND_VALUE);
	if (p == NULL)
		return false;
	reader->at = p;
	reader->first = false;
	return true;
}

enum json_outcome
json_finish(struct json_reader *reader)
{
	if (reader->outcome != JSON_OK)
		return reader->outcome;
	assert(reader->depth == 0);
	reader->at = space_end(reader->at, reader->end);
	if (reader->at != reader->end)
		reader->outcome = JSON_INVALID;
	return reader->outcome;
}

size_t
json_offset(const struct json_reader *reader)
{
	return (size_t)(reader->at - reader->text);
}

void
json_decoder_init(struct json_decoder *decoder, const char *text,
    const struct json_value *value)
{
	assert(value->type == JSON_STRING && value->len >= 2);
	decoder->at = text + value->at + 1;
	decoder->end = text + value->at + value->len - 1;
}

/* The four digits behind \u. */
static unsigned
code_unit(const char *p)
{
	unsigned unit = 0;
	int i;

	for (i = 0; i < 4; i++)
		unit = unit << 4 | (unsigned)json_hex_digit(p[i]);
	return unit;
}

/*
 * The character at p, which points behind a \u, with the low surrogate that
 * may follow; *p moves behind what was used.
 */
static unsigned
code_point(const char **p, const char *end)
{
	unsigned high = code_unit(*p), low;

	*p += 4;
	if (high < 0xd800 || high > 0xdfff)
		return high;
	if (high > 0xdbff || end - *p < 6 || memcmp(*p, "\\u", 2) != 0)
		return 0xfffd;
	low = code_unit(*p + 2);
	if (low < 0xdc00 || low > 0xdfff)
		return 0xfffd;
	*p += 6;
	return 0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff);
}

static size_t
put_utf8(char *buf, unsigned c)
{
	static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	size_t n, i;

	if (c < 0x80) {
		buf[0] = (char)c;
		return 1;
	}
	n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (i = n - 1; i > 0; i--) {
		buf[i] = (char)(0x80 | (c & 0x3f));
		c >>= 6;
	}
	buf[0] = (char)(lead[n] | c);
	return n;
}

/* Decode the escape at the decoder into buf; 1 to 4 bytes. */
static size_t
decode_escape(struct json_decoder *d, char *buf)
{
	static const char plain[256] = {
		['"'] = '"',
		['\\'] = '\\',
		['/'] = '/',
		['b'] = '\b',
		['f'] = '\f',
		['n'] = '\n',
		['r'] = '\r',
		['t'] = '\t',
	};
	char c = d->at[1];

	d->at += 2;
	if (c == 'u')
		return put_utf8(buf, code_point(&d->at, d->end));
	buf[0] = plain[(unsigned char)c];
	return 1;
}

size_t
json_decode(struct json_decoder *decoder, char *buf, size_t cap)
{
	size_t out = 0, run;
	const char *stop;

	assert(cap > JSON_DECODE_SLACK);
	while (decoder->at < decoder->end && out < cap) {
		if (*decoder->at == '\\') {
			if (cap - out <= JSON_DECODE_SLACK)
				break;
			out += decode_escape(decoder, buf + out);
			continue;
		}
		run = (size_t)(decoder->end - decoder->at);
		if (run > cap - out)
			run = cap - out;
		stop = memchr(decoder->at, '\\', run);
		if (stop != NULL)
			run = (size_t)(stop - decoder->at);
		memcpy(buf + out, decoder->at, run);
		decoder->at += run;
		out += run;
	}
	return out;
}

bool
json_equals_decoded(const char *text, const struct json_value *value,
    const char *bytes, size_t len)
{
	struct json_decoder decoder;
	char piece[64];
	size_t n;

	json_decoder_init(&decoder, text, value);
	while ((n = json_decode(&decoder, piece, sizeof(piece))) > 0) {
		if (n > len || memcmp(piece, bytes, n) != 0)
			return false;
		bytes += n;
		len -= n;
	}
	return len == 0;
}

bool
json_is_any(
    const char *text, const struct json_value *value, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (json_is(text, value, *words))
			return true;
	}
	return false;
}

static size_t
text_of_raw(const char *raw, size_t len, char *buf, size_t cap)
{
	memcpy(buf, raw, len < cap ? len : cap);
	return len <= cap ? len : cap + 1;
}

size_t
json_text(
    const char *text, const struct json_value *value, char *buf, size_t cap)
{
	struct json_decoder decoder;
	char piece[64];
	size_t out = 0, n;

	if (value->type == JSON_NONE || value->type == JSON_NULL)
		return 0;
	if (value->type != JSON_STRING)
		return text_of_raw(text + value->at, value->len, buf, cap);
	if (!value->escaped)
		return text_of_raw(
		    text + value->at + 1, value->len - 2, buf, cap);
	json_decoder_init(&decoder, text, value);
	while ((n = json_decode(&decoder, piece, sizeof(piece))) > 0) {
		if (n > cap - out) {
			memcpy(buf + out, piece, cap - out);
			return cap + 1;
		}
		memcpy(buf + out, piece, n);
		out += n;
	}
	return out;
}
