/* SPDX-License-Identifier: MIT */
#include "worker/http/http_chunk.h"

#include <assert.h>
#include <string.h>

#include "worker/http/http_head.h"

/* Sixteen digits fill 64 bits; more would only be zeros or overflow. */
enum { SIZE_DIGITS_MAX = 16 };

/* Where the decoder stands; the comment is what has to come next. */
enum {
	AT_SIZE, /* a digit of the size, or its CR */
	AT_EXTENSION,
	AT_SIZE_LF,
	AT_DATA,
	AT_DATA_CR, /* behind the data */
	AT_DATA_LF,
	AT_TRAILER,      /* a field line, or the CR of the empty line */
	AT_TRAILER_NAME, /* its name or colon */
	AT_TRAILER_VALUE,
	AT_TRAILER_LF,
	AT_LAST_LF,
	AT_END
};

void
http_chunk_init(struct http_chunk *c, uint64_t max_bytes)
{
	*c = (struct http_chunk){ .max_bytes = max_bytes, .state = AT_SIZE };
}

void
http_chunk_init_answer(struct http_chunk *c)
{
	http_chunk_init(c, UINT64_MAX);
	c->extensions = true;
}

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

static enum http_chunk_result
take_size(struct http_chunk *c, char byte)
{
	int digit = hex_value(byte);

	if (byte == '\r' && c->digits > 0) {
		c->state = AT_SIZE_LF;
		return HTTP_CHUNK_MORE;
	}
	if (c->extensions && c->digits > 0 &&
	    (byte == ';' || byte == ' ' || byte == '\t')) {
		c->state = AT_EXTENSION;
		return HTTP_CHUNK_MORE;
	}
	if (digit < 0 || c->digits == SIZE_DIGITS_MAX)
		return HTTP_CHUNK_BAD;
	c->digits++;
	c->left = c->left << 4 | (uint64_t)digit;
	return HTTP_CHUNK_MORE;
}

static enum http_chunk_result
take_extension(struct http_chunk *c, char byte)
{
	if (++c->extra_bytes > HTTP_CHUNK_TRAILER_MAX)
		return HTTP_CHUNK_BAD;
	if (byte == '\r')
		c->state = AT_SIZE_LF;
	else if (!http_is_field_value(&byte, 1))
		return HTTP_CHUNK_BAD;
	return HTTP_CHUNK_MORE;
}

/* The line with the size is complete: is there room for what it announces? */
static enum http_chunk_result
begin_chunk(struct http_chunk *c)
{
	c->digits = 0;
	c->extra_bytes = 0;
	if (c->left == 0) {
		c->state = AT_TRAILER;
		return HTTP_CHUNK_MORE;
	}
	if (c->left > c->max_bytes - c->total)
		return HTTP_CHUNK_TOO_LARGE;
	c->total += c->left;
	c->state = AT_DATA;
	return HTTP_CHUNK_MORE;
}

static enum http_chunk_result
expect(struct http_chunk *c, char byte, char wanted, uint8_t next)
{
	if (byte != wanted)
		return HTTP_CHUNK_BAD;
	c->state = next;
	return HTTP_CHUNK_MORE;
}

static enum http_chunk_result
take_trailer_name(struct http_chunk *c, char byte)
{
	if (byte == ':')
		c->state = AT_TRAILER_VALUE;
	else if (http_is_token(&byte, 1))
		c->state = AT_TRAILER_NAME;
	else
		return HTTP_CHUNK_BAD;
	return HTTP_CHUNK_MORE;
}

static enum http_chunk_result
take_trailer_value(struct http_chunk *c, char byte)
{
	if (byte == '\r')
		c->state = AT_TRAILER_LF;
	else if (!http_is_field_value(&byte, 1))
		return HTTP_CHUNK_BAD;
	return HTTP_CHUNK_MORE;
}

static enum http_chunk_result
take_trailer(struct http_chunk *c, char byte)
{
	if (++c->extra_bytes > HTTP_CHUNK_TRAILER_MAX)
		return HTTP_CHUNK_BAD;
	switch (c->state) {
	case AT_TRAILER:
		if (byte == '\r') {
			c->state = AT_LAST_LF;
			return HTTP_CHUNK_MORE;
		}
		if (byte == ':')
			return HTTP_CHUNK_BAD;
		return take_trailer_name(c, byte);
	case AT_TRAILER_NAME:
		return take_trailer_name(c, byte);
	case AT_TRAILER_VALUE:
		return take_trailer_value(c, byte);
	default:
		return expect(c, byte, '\n', AT_TRAILER);
	}
}

/* One byte that is not data. */
static enum http_chunk_result
take_byte(struct http_chunk *c, char byte)
{
	switch (c->state) {
	case AT_SIZE:
		return take_size(c, byte);
	case AT_EXTENSION:
		return take_extension(c, byte);
	case AT_SIZE_LF:
		return byte == '\n' ? begin_chunk(c) : HTTP_CHUNK_BAD;
	case AT_DATA_CR:
		return expect(c, byte, '\r', AT_DATA_LF);
	case AT_DATA_LF:
		return expect(c, byte, '\n', AT_SIZE);
	case AT_LAST_LF:
		if (byte != '\n')
			return HTTP_CHUNK_BAD;
		c->state = AT_END;
		return HTTP_CHUNK_DONE;
	default:
		return take_trailer(c, byte);
	}
}

/* Moves what there is of the chunk's data to the decoded bytes. */
static size_t
take_data(struct http_chunk *c, char *to, const char *from, size_t len)
{
	size_t n = len < c->left ? len : (size_t)c->left;

	if (to != from)
		memmove(to, from, n);
	c->left -= n;
	if (c->left == 0)
		c->state = AT_DATA_CR;
	return n;
}

enum http_chunk_result
http_chunk_decode(
    struct http_chunk *c, char *buf, size_t len, size_t *used, size_t *made)
{
	enum http_chunk_result r = HTTP_CHUNK_MORE;
	size_t i = 0;
	size_t out = 0;
	size_t n;

	assert(c->state != AT_END);
	while (i < len && r == HTTP_CHUNK_MORE) {
		if (c->state == AT_DATA) {
			n = take_data(c, buf + out, buf + i, len - i);
			out += n;
			i += n;
			continue;
		}
		r = take_byte(c, buf[i++]);
	}
	*used = i;
	*made = out;
	return r;
}
