/* SPDX-License-Identifier: MIT */
#include "worker/http/sse.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Where the scanner stands in a line. */
enum {
	AT_LINE,  /* in front of its first byte */
	AT_FIELD, /* in the name of the field */
	AT_SPACE, /* behind the colon: one space is not part of the value */
	AT_VALUE,
	AT_BLANK_CR /* a blank line of a stream of CRLF: its LF is to come */
};

enum { FIELD_OTHER, FIELD_DATA, FIELD_EVENT };

enum { END_NONE, END_LF, END_CR, END_CRLF };

static const struct span line_break = SPAN("\n");

void
sse_init(struct sse *s)
{
	memset(s, 0, sizeof(*s));
}

struct span
sse_name(const struct sse *s)
{
	return (struct span){ s->name, s->name_len };
}

bool
sse_at_boundary(const struct sse *s)
{
	return !s->in_frame && s->state == AT_LINE;
}

#ifdef __SSE2__
/* Goes over whole blocks up to a CR, a LF or a last rest. */
static size_t
skip_blocks(const char *p, size_t len)
{
	const __m128i cr = _mm_set1_epi8('\r');
	const __m128i lf = _mm_set1_epi8('\n');
	__m128i block, hits;
	unsigned int mask;
	size_t n = 0;

	for (; len - n >= sizeof(block); n += sizeof(block)) {
		block = _mm_loadu_si128((const __m128i *)(const void *)(p + n));
		hits = _mm_or_si128(
		    _mm_cmpeq_epi8(block, cr), _mm_cmpeq_epi8(block, lf));
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

static bool
is_end(char c)
{
	return c == '\n' || c == '\r';
}

/* The bytes in front of the next CR or LF. */
static size_t
rest_of_line(const char *p, size_t len)
{
	size_t n = skip_blocks(p, len);

	while (n < len && !is_end(p[n]))
		n++;
	return n;
}

static void
end_line(struct sse *s, char end)
{
	s->last_end = end == '\n' ? END_LF : END_CR;
	s->state = AT_LINE;
}

/* A blank line: the frame, if there is one, is complete. */
static enum sse_result
end_frame(struct sse *s)
{
	bool told = s->in_frame;

	s->state = AT_LINE;
	s->in_frame = false;
	return told ? SSE_FRAME : SSE_MORE;
}

static void
begin_line(struct sse *s)
{
	if (!s->in_frame) {
		s->in_frame = true;
		s->has_data = false;
		s->name_len = 0;
	}
	s->field_len = 0;
	s->state = AT_FIELD;
}

static enum sse_result
at_line(struct sse *s, const char *p, size_t *used)
{
	if (!is_end(*p)) {
		begin_line(s);
		return SSE_MORE;
	}
	*used = 1;
	if (*p == '\n' && s->last_end == END_CR) {
		s->last_end = END_CRLF;
		return SSE_MORE;
	}
	if (*p == '\r' && s->last_end == END_CRLF) {
		s->state = AT_BLANK_CR;
		return SSE_MORE;
	}
	end_line(s, *p);
	return end_frame(s);
}

/*
 * Where CRLF is the custom, a frame is not over between its last CR and LF.
 * If none comes, it was over with the CR.
 */
static enum sse_result
at_blank_cr(struct sse *s, const char *p, size_t *used)
{
	s->last_end = END_CR;
	if (*p == '\n') {
		s->last_end = END_CRLF;
		*used = 1;
	}
	return end_frame(s);
}

static uint8_t
field_of(const struct sse *s)
{
	struct span name = { s->field_name, s->field_len };

	if (span_equal(name, SPAN("data")))
		return FIELD_DATA;
	if (span_equal(name, SPAN("event")))
		return FIELD_EVENT;
	return FIELD_OTHER;
}

/* The name of the field is complete. */
static enum sse_result
begin_value(struct sse *s, struct span *data)
{
	s->field = field_of(s);
	if (s->field == FIELD_EVENT)
		s->name_len = 0;
	if (s->field != FIELD_DATA)
		return SSE_MORE;
	if (s->has_data) {
		*data = line_break;
		return SSE_DATA;
	}
	s->has_data = true;
	return SSE_MORE;
}

static void
add_to_field_name(struct sse *s, char c)
{
	/* A name that fills the array is none that we know. */
	if (s->field_len < SSE_FIELD_MAX)
		s->field_name[s->field_len++] = c;
}

static enum sse_result
at_field(
    struct sse *s, const char *p, size_t len, size_t *used, struct span *data)
{
	size_t n = 0;

	while (n < len && p[n] != ':' && !is_end(p[n]))
		add_to_field_name(s, p[n++]);
	*used = n;
	if (n == len)
		return SSE_MORE;
	if (p[n] == ':') {
		*used = n + 1;
		s->state = AT_SPACE;
	} else {
		s->state = AT_VALUE;
	}
	return begin_value(s, data);
}

static enum sse_result
at_space(struct sse *s, const char *p, size_t *used)
{
	*used = *p == ' ' ? 1 : 0;
	s->state = AT_VALUE;
	return SSE_MORE;
}

static void
add_to_name(struct sse *s, const char *p, size_t len)
{
	size_t room = SSE_NAME_MAX - s->name_len;
	size_t n = len < room ? len : room;

	memcpy(s->name + s->name_len, p, n);
	s->name_len = (uint8_t)(s->name_len + n);
}

static enum sse_result
at_value(
    struct sse *s, const char *p, size_t len, size_t *used, struct span *data)
{
	size_t n = rest_of_line(p, len);

	if (n == 0) {
		end_line(s, *p);
		*used = 1;
		return SSE_MORE;
	}
	*used = n;
	if (s->field == FIELD_DATA) {
		*data = (struct span){ p, n };
		return SSE_DATA;
	}
	if (s->field == FIELD_EVENT)
		add_to_name(s, p, n);
	return SSE_MORE;
}

static enum sse_result
step(struct sse *s, const char *p, size_t len, size_t *used, struct span *data)
{
	*used = 0;
	switch (s->state) {
	case AT_LINE:
		return at_line(s, p, used);
	case AT_FIELD:
		return at_field(s, p, len, used, data);
	case AT_SPACE:
		return at_space(s, p, used);
	case AT_VALUE:
		return at_value(s, p, len, used, data);
	default:
		return at_blank_cr(s, p, used);
	}
}

enum sse_result
sse_next(
    struct sse *s, const char *buf, size_t len, size_t *used, struct span *data)
{
	enum sse_result r = SSE_MORE;
	size_t i = 0;
	size_t n;

	while (i < len && r == SSE_MORE) {
		r = step(s, buf + i, len - i, &n, data);
		i += n;
	}
	*used = i;
	return r;
}
