/* SPDX-License-Identifier: MIT */
#include "worker/http/http_head.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define REFUSE(h, phrase, result) ((h)->error = (phrase), (result))
#define BAD(h, phrase)            REFUSE(h, phrase, HTTP_HEAD_BAD)

enum { PHASE_FRONT, PHASE_REQUEST, PHASE_FIELDS, PHASE_DONE };

enum {
	SEEN_HOST = 1 << 0,
	SEEN_LENGTH = 1 << 1,
	SEEN_CODING = 1 << 2,
	SEEN_CLOSE = 1 << 3,
	SEEN_KEEP_ALIVE = 1 << 4,
	SEEN_UPGRADE = 1 << 5, /* as an option of Connection */
	SEEN_WEBSOCKET = 1 << 6,
	SEEN_CONTINUE = 1 << 7
};

/* What a byte may be part of. */
enum {
	IN_TOKEN = 1 << 0,
	IN_VALUE = 1 << 1,
	IN_TARGET = 1 << 2,
	IN_HOST = 1 << 3
};

enum {
	CTL = 0,
	TAB = IN_VALUE,
	SPC = IN_VALUE,
	ALL = IN_TOKEN | IN_VALUE | IN_TARGET | IN_HOST,
	TOK = IN_TOKEN | IN_VALUE | IN_TARGET, /* but no part of a host */
	FRG = IN_TOKEN | IN_VALUE,             /* '#' ends a target */
	HST = IN_VALUE | IN_TARGET | IN_HOST,
	VIS = IN_VALUE | IN_TARGET,
	OBS = IN_VALUE
};

static const uint8_t byte_class[256] = {
	/* clang-format off */
	CTL, CTL, CTL, CTL, CTL, CTL, CTL, CTL,
	CTL, TAB, CTL, CTL, CTL, CTL, CTL, CTL,
	CTL, CTL, CTL, CTL, CTL, CTL, CTL, CTL,
	CTL, CTL, CTL, CTL, CTL, CTL, CTL, CTL,
	/*       !    "    #    $    %    &    '  */
	SPC, ALL, VIS, FRG, ALL, ALL, ALL, ALL,
	/* (     )    *    +    ,    -    .    /  */
	HST, HST, ALL, ALL, VIS, ALL, ALL, VIS,
	/* 0                                   7  */
	ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	/* 8     9    :    ;    <    =    >    ?  */
	ALL, ALL, HST, HST, VIS, HST, VIS, VIS,
	/* @     A                             G  */
	VIS, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	/* X     Y    Z    [    \    ]    ^    _  */
	ALL, ALL, ALL, HST, VIS, HST, TOK, ALL,
	/* `     a                             g  */
	TOK, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	/* x     y    z    {    |    }    ~   DEL */
	ALL, ALL, ALL, VIS, TOK, VIS, ALL, CTL,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	OBS, OBS, OBS, OBS, OBS, OBS, OBS, OBS,
	/* clang-format on */
};

static const struct {
	struct span name;
	enum http_method method;
} methods[] = {
	{ SPAN("POST"), HTTP_POST },
	{ SPAN("GET"), HTTP_GET },
	{ SPAN("HEAD"), HTTP_HEAD },
	{ SPAN("PUT"), HTTP_PUT },
	{ SPAN("DELETE"), HTTP_DELETE },
	{ SPAN("OPTIONS"), HTTP_OPTIONS },
	{ SPAN("PATCH"), HTTP_PATCH },
	{ SPAN("TRACE"), HTTP_TRACE },
	{ SPAN("CONNECT"), HTTP_CONNECT },
};

/* The length of the run of bytes of a class at p. */
static size_t
run_of(uint8_t class, const char *p, size_t len)
{
	size_t n = 0;

	while (n < len && (byte_class[(unsigned char)p[n]] & class) != 0)
		n++;
	return n;
}

bool
http_is_token(const char *p, size_t len)
{
	return len > 0 && run_of(IN_TOKEN, p, len) == len;
}

#ifdef __SSE2__
/* How many of the 16-byte blocks at p hold nothing but bytes of a value. */
static size_t
clean_blocks(const char *p, size_t len)
{
	const __m128i top = _mm_set1_epi8(0x1f);
	const __m128i tab = _mm_set1_epi8('\t');
	const __m128i del = _mm_set1_epi8(0x7f);
	__m128i block, low, wrong;
	size_t n = 0;

	for (; len - n >= sizeof(block); n += sizeof(block)) {
		block = _mm_loadu_si128((const __m128i *)(const void *)(p + n));
		low = _mm_cmpeq_epi8(_mm_min_epu8(block, top), block);
		wrong = _mm_or_si128(
		    _mm_andnot_si128(_mm_cmpeq_epi8(block, tab), low),
		    _mm_cmpeq_epi8(block, del));
		if (_mm_movemask_epi8(wrong) != 0)
			break;
	}
	return n;
}
#else
static size_t
clean_blocks(const char *p, size_t len)
{
	(void)p;
	(void)len;
	return 0;
}
#endif

bool
http_is_field_value(const char *p, size_t len)
{
	size_t n = clean_blocks(p, len);

	return n + run_of(IN_VALUE, p + n, len - n) == len;
}

/* Two bytes of a name, in lower case, that tell it from most others. */
static uint16_t
name_tag(const char *name, size_t len)
{
	unsigned int first = (unsigned char)name[0] | 0x20;
	unsigned int last = (unsigned char)name[len - 1] | 0x20;

	return (uint16_t)(first | last << 8);
}

/*
 * Takes the next element of a comma-separated list off its front, trimmed,
 * perhaps empty. Returns false at the end of the list.
 */
static bool
list_next(struct span *list, struct span *item)
{
	const char *comma;
	size_t len;

	if (list->p == NULL)
		return false;
	comma = memchr(list->p, ',', list->len);
	len = comma != NULL ? (size_t)(comma - list->p) : list->len;
	*item = span_trim((struct span){ list->p, len });
	if (comma == NULL)
		*list = (struct span){ NULL, 0 };
	else
		*list = (struct span){ comma + 1, list->len - len - 1 };
	return true;
}

static enum http_head_result
take_host(struct http_head *h, struct span value)
{
	if (h->seen & SEEN_HOST)
		return BAD(h, "more than one Host");
	if (run_of(IN_HOST, value.p, value.len) != value.len)
		return BAD(h, "Host is not a host");
	h->seen |= SEEN_HOST;
	return HTTP_HEAD_DONE;
}

static enum http_head_result
take_length(struct http_head *h, struct span value)
{
	int64_t length = 0;
	size_t i;

	if (h->seen & SEEN_LENGTH)
		return BAD(h, "more than one Content-Length");
	if (value.len == 0)
		return BAD(h, "Content-Length is empty");
	for (i = 0; i < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return BAD(h, "Content-Length is not a number");
		if (__builtin_mul_overflow(length, 10, &length) ||
		    __builtin_add_overflow(length, value.p[i] - '0', &length))
			return BAD(h, "Content-Length is out of range");
	}
	h->seen |= SEEN_LENGTH;
	h->content_length = length;
	return HTTP_HEAD_DONE;
}

static enum http_head_result
take_coding(struct http_head *h, struct span value)
{
	struct span item;
	bool other = false;

	if (h->seen & SEEN_CODING)
		return BAD(h, "more than one Transfer-Encoding");
	h->seen |= SEEN_CODING;
	while (list_next(&value, &item)) {
		if (!http_is_token(item.p, item.len))
			return BAD(h, "Transfer-Encoding is not a coding");
		if (h->chunked)
			return BAD(h, "chunked is not the last coding");
		if (span_equal_nocase(item, SPAN("chunked")))
			h->chunked = true;
		else
			other = true;
	}
	if (other)
		return REFUSE(h, "unknown transfer coding", HTTP_HEAD_CODING);
	return HTTP_HEAD_DONE;
}

static enum http_head_result
take_connection(struct http_head *h, struct span value)
{
	struct span item;

	while (list_next(&value, &item)) {
		if (span_equal_nocase(item, SPAN("keep-alive")))
			h->seen |= SEEN_KEEP_ALIVE;
		else if (span_equal_nocase(item, SPAN("close")))
			h->seen |= SEEN_CLOSE;
		else if (span_equal_nocase(item, SPAN("upgrade")))
			h->seen |= SEEN_UPGRADE;
	}
	return HTTP_HEAD_DONE;
}

static enum http_head_result
take_upgrade(struct http_head *h, struct span value)
{
	struct span item;

	while (list_next(&value, &item)) {
		if (span_equal_nocase(item, SPAN("websocket")))
			h->seen |= SEEN_WEBSOCKET;
	}
	return HTTP_HEAD_DONE;
}

static enum http_head_result
take_expect(struct http_head *h, struct span value)
{
	if (span_equal_nocase(value, SPAN("100-continue")))
		h->seen |= SEEN_CONTINUE;
	return HTTP_HEAD_DONE;
}

/* The fields that say how the message is framed and the connection kept. */
static const struct {
	struct span name;
	enum http_head_result (*take)(struct http_head *, struct span);
} known_fields[] = {
	{ SPAN("host"), take_host },
	{ SPAN("content-length"), take_length },
	{ SPAN("transfer-encoding"), take_coding },
	{ SPAN("connection"), take_connection },
	{ SPAN("upgrade"), take_upgrade },
	{ SPAN("expect"), take_expect },
};

static enum http_head_result
take_known(struct http_head *h, struct span name, struct span value)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(known_fields); i++) {
		if (name.len == known_fields[i].name.len &&
		    span_equal_nocase(name, known_fields[i].name))
			return known_fields[i].take(h, value);
	}
	return HTTP_HEAD_DONE;
}

static struct http_ref
ref_of(const struct http_head *h, struct span s)
{
	return (struct http_ref){ (uint32_t)(s.p - h->base), (uint32_t)s.len };
}

static enum http_head_result
refuse_name(struct http_head *h, struct span line, size_t name_len)
{
	if (line.p[0] == ' ' || line.p[0] == '\t')
		return BAD(h, "folded field line");
	if (name_len == line.len)
		return BAD(h, "field line without a colon");
	if (line.p[name_len] == ' ' || line.p[name_len] == '\t')
		return BAD(h, "white space in a field name");
	if (name_len == 0)
		return BAD(h, "empty field name");
	return BAD(h, "invalid byte in a field name");
}

static enum http_head_result
parse_field(struct http_head *h, struct span line)
{
	size_t name_len = run_of(IN_TOKEN, line.p, line.len);
	struct span name = { line.p, name_len };
	struct span value;
	struct http_field *field;

	if (name_len == 0 || name_len == line.len || line.p[name_len] != ':')
		return refuse_name(h, line, name_len);
	value = span_trim(
	    (struct span){ line.p + name_len + 1, line.len - name_len - 1 });
	if (!http_is_field_value(value.p, value.len))
		return BAD(h, "control character in a field value");
	if (h->count == HTTP_HEAD_FIELDS || name_len > UINT16_MAX)
		return REFUSE(h, "too many fields", HTTP_HEAD_TOO_LARGE);

	field = &h->fields[h->count++];
	field->name_at = (uint32_t)(name.p - h->base);
	field->name_len = (uint16_t)name_len;
	field->tag = name_tag(name.p, name_len);
	field->value = ref_of(h, value);
	return take_known(h, name, value);
}

static enum http_method
method_of(struct span verb)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(methods); i++) {
		if (span_equal(verb, methods[i].name))
			return methods[i].method;
	}
	return HTTP_METHOD_OTHER;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static enum http_head_result
parse_version(struct http_head *h, struct span version)
{
	if (version.len != 8 || !span_starts(version, SPAN("HTTP/")) ||
	    !is_digit(version.p[5]) || version.p[6] != '.' ||
	    !is_digit(version.p[7]))
		return BAD(h, "request line without an HTTP version");
	if (version.p[5] != '1')
		return REFUSE(h, "unsupported HTTP version", HTTP_HEAD_VERSION);
	h->minor = version.p[7] != '0';
	return HTTP_HEAD_DONE;
}

/*
 * Takes "http://host:port" off the front of an absolute target. What it
 * names is nothing to us: it must only be unambiguous.
 */
static enum http_head_result
skip_authority(struct http_head *h, struct span *target)
{
	static const struct span schemes[] = {
		SPAN("http://"),
		SPAN("https://"),
	};
	struct span rest;
	size_t i;
	size_t n;

	for (i = 0; i < ARRAY_LEN(schemes); i++) {
		n = schemes[i].len;
		if (target->len < n ||
		    strncasecmp(target->p, schemes[i].p, n) != 0)
			continue;
		rest = (struct span){ target->p + n, target->len - n };
		n = run_of(IN_HOST, rest.p, rest.len);
		if (n == 0 || rest.p[0] == ':')
			return BAD(h, "absolute target without a host");
		if (n < rest.len && rest.p[n] != '/' && rest.p[n] != '?')
			return BAD(h, "authority of the target is not a host");
		*target = (struct span){ rest.p + n, rest.len - n };
		return HTTP_HEAD_DONE;
	}
	return BAD(h, "target is neither a path nor an http URL");
}

static enum http_head_result
parse_target(struct http_head *h, struct span target)
{
	enum http_head_result r = HTTP_HEAD_DONE;
	const char *mark;

	if (target.len == 0 ||
	    run_of(IN_TARGET, target.p, target.len) != target.len)
		return BAD(h, "invalid byte in the target");
	h->target = ref_of(h, target);
	if (target.p[0] != '/' &&
	    !(h->method == HTTP_OPTIONS && span_equal(target, SPAN("*"))))
		r = skip_authority(h, &target);
	if (r != HTTP_HEAD_DONE)
		return r;

	mark = memchr(target.p, '?', target.len);
	h->path = ref_of(h, target);
	h->query = (struct http_ref){ h->path.at + h->path.len, 0 };
	if (mark != NULL) {
		h->path.len = (uint32_t)(mark - target.p);
		h->query.at = h->path.at + h->path.len + 1;
		h->query.len = (uint32_t)target.len - h->path.len - 1;
	}
	return HTTP_HEAD_DONE;
}

static enum http_head_result
parse_request_line(struct http_head *h, struct span line)
{
	size_t verb_len = run_of(IN_TOKEN, line.p, line.len);
	struct span verb = { line.p, verb_len };
	struct span target;
	const char *space;
	enum http_head_result r;

	if (verb_len == 0 || verb_len == line.len || line.p[verb_len] != ' ')
		return BAD(h, "request line without a method");
	target.p = line.p + verb_len + 1;
	target.len = line.len - verb_len - 1;
	space = memchr(target.p, ' ', target.len);
	if (space == NULL)
		return BAD(h, "request line without an HTTP version");
	r = parse_version(h, (struct span){ space + 1,
				 target.len - (size_t)(space + 1 - target.p) });
	if (r != HTTP_HEAD_DONE)
		return r;
	target.len = (size_t)(space - target.p);
	h->verb = ref_of(h, verb);
	h->method = method_of(verb);
	return parse_target(h, target);
}

/* The empty line is there: what the fields mean together. */
static enum http_head_result
finish(struct http_head *h, size_t size)
{
	h->has_host = (h->seen & SEEN_HOST) != 0;
	if (!h->has_host && h->minor > 0)
		return BAD(h, "Host is missing");
	if (h->chunked && h->content_length >= 0)
		return BAD(h, "Content-Length beside Transfer-Encoding");
	if (h->chunked && h->minor == 0)
		return BAD(h, "Transfer-Encoding on HTTP/1.0");
	h->keep_alive = (h->seen & SEEN_CLOSE) == 0 &&
			(h->minor > 0 || (h->seen & SEEN_KEEP_ALIVE) != 0);
	h->expect_continue = h->minor > 0 && (h->seen & SEEN_CONTINUE) != 0;
	h->websocket = h->minor > 0 && h->method == HTTP_GET &&
		       (h->seen & SEEN_UPGRADE) != 0 &&
		       (h->seen & SEEN_WEBSOCKET) != 0;
	h->size = size;
	h->phase = PHASE_DONE;
	return HTTP_HEAD_DONE;
}

/*
 * The next whole line, without its CRLF. HTTP_HEAD_MORE when it is not there
 * yet, and then what has been searched is not searched again.
 */
static enum http_head_result
next_line(struct http_head *h, size_t len, struct span *line)
{
	const char *from = h->base + h->scanned;
	const char *lf = memchr(from, '\n', len - h->scanned);

	if (lf == NULL) {
		h->scanned = (uint32_t)len;
		return HTTP_HEAD_MORE;
	}
	line->p = h->base + h->line;
	if (lf == line->p || lf[-1] != '\r')
		return BAD(h, "line ends in a bare LF");
	line->len = (size_t)(lf - line->p) - 1;
	h->line = (uint32_t)(lf + 1 - h->base);
	h->scanned = h->line;
	return HTTP_HEAD_DONE;
}

static enum http_head_result
take_line(struct http_head *h, struct span line)
{
	if (h->phase == PHASE_FIELDS)
		return parse_field(h, line);
	if (line.len == 0 && h->phase == PHASE_FRONT) {
		h->phase = PHASE_REQUEST;
		return HTTP_HEAD_DONE;
	}
	h->phase = PHASE_FIELDS;
	return parse_request_line(h, line);
}

/* Nothing that can become a request: a TLS hello need not time out. */
static bool
is_hopeless(const struct http_head *h, size_t len)
{
	unsigned char c;

	if (h->phase == PHASE_FIELDS || h->line == len)
		return false;
	c = (unsigned char)h->base[h->line];
	return c != '\r' && (byte_class[c] & IN_TOKEN) == 0;
}

void
http_head_init(struct http_head *h)
{
	/* The fields are read up to count only. */
	memset(h, 0, offsetof(struct http_head, fields));
	h->line = 0;
	h->scanned = 0;
	h->seen = 0;
	h->phase = PHASE_FRONT;
	h->content_length = -1;
}

enum http_head_result
http_head_parse(struct http_head *h, const char *buf, size_t len)
{
	enum http_head_result r;
	struct span line;

	assert(h->phase != PHASE_DONE);
	assert(len <= UINT32_MAX && len >= h->scanned);
	h->base = buf;
	while ((r = next_line(h, len, &line)) == HTTP_HEAD_DONE) {
		if (line.len == 0 && h->phase == PHASE_FIELDS)
			return finish(h, h->line);
		r = take_line(h, line);
		if (r != HTTP_HEAD_DONE)
			return r;
	}
	if (r == HTTP_HEAD_MORE && is_hopeless(h, len))
		return BAD(h, "not an HTTP request");
	return r;
}

int
http_head_status(enum http_head_result result)
{
	static const int statuses[] = {
		[HTTP_HEAD_DONE] = 200,
		[HTTP_HEAD_MORE] = 408,
		[HTTP_HEAD_BAD] = 400,
		[HTTP_HEAD_VERSION] = 505,
		[HTTP_HEAD_CODING] = 501,
		[HTTP_HEAD_TOO_LARGE] = 431,
	};

	return statuses[result];
}

int
http_head_find(const struct http_head *h, const char *name, int from)
{
	size_t len = strlen(name);
	uint16_t tag = name_tag(name, len);
	const struct http_field *f;
	uint32_t i;

	for (i = (uint32_t)from; i < h->count; i++) {
		f = &h->fields[i];
		if (f->name_len == len && f->tag == tag &&
		    strncasecmp(h->base + f->name_at, name, len) == 0)
			return (int)i;
	}
	return -1;
}

struct span
http_head_get(const struct http_head *h, const char *name)
{
	int i = http_head_find(h, name, 0);

	return i < 0 ? (struct span){ NULL, 0 } : http_head_value(h, i);
}

bool
http_head_lists(const struct http_head *h, const char *name, struct span token)
{
	struct span list;
	struct span item;
	int i;

	for (i = http_head_find(h, name, 0); i >= 0;
	     i = http_head_find(h, name, i + 1)) {
		list = http_head_value(h, i);
		while (list_next(&list, &item)) {
			if (span_equal_nocase(item, token))
				return true;
		}
	}
	return false;
}

struct span
http_head_path(const struct http_head *h)
{
	return h->path.len == 0 ? SPAN("/") : http_head_span(h, h->path);
}
