/* SPDX-License-Identifier: MIT */
#include "worker/client/body.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/board.h"

/* What a body of unknown size begins with; it doubles from there. */
enum { BODY_FIRST = 64 * 1024 };

/* A body that is complete gives back room beyond this. */
enum { BODY_SLACK = 16 * 1024 };

static uint64_t
body_limit(const struct body *b)
{
	return (uint64_t)b->worker->config->limits.body;
}

/* Reserves before it allocates: cap bytes in all. */
static enum body_result
resize(struct body *b, size_t cap)
{
	struct worker *w = b->worker;
	char *data;

	if (cap <= b->cap)
		return BODY_MORE;
	if (!board_bodies_take(w->board, w->slot, cap - b->reserved,
		(uint64_t)w->config->limits.bodies_total))
		return BODY_OVERLOADED;
	b->reserved = cap;
	data = realloc(b->data, cap);
	if (data == NULL)
		return BODY_OVERLOADED;
	b->data = data;
	b->cap = cap;
	return BODY_MORE;
}

/* Right-sizes a body of unknown size that is complete. */
static enum body_result
finish(struct body *b)
{
	char *data;

	if (b->len == 0 || b->cap - b->len <= BODY_SLACK)
		return BODY_DONE;
	data = realloc(b->data, b->len);
	if (data == NULL)
		return BODY_DONE;
	b->data = data;
	b->cap = b->len;
	board_bodies_give(
	    b->worker->board, b->worker->slot, b->reserved - b->cap);
	b->reserved = b->cap;
	return BODY_DONE;
}

/* Room for at least one more byte of a body whose size is not known. */
static enum body_result
grow(struct body *b)
{
	uint64_t limit = body_limit(b);
	uint64_t cap = b->cap == 0 ? BODY_FIRST : (uint64_t)b->cap * 2;

	if (b->len < b->cap)
		return BODY_MORE;
	if (b->cap >= limit)
		return BODY_TOO_LARGE;
	return resize(b, cap < limit ? cap : limit);
}

enum body_result
body_begin(struct body *b, struct worker *w, const struct http_head *head)
{
	int rc;

	*b = (struct body){ .worker = w, .chunked = head->chunked };
	if (!head->chunked && head->content_length <= 0)
		return BODY_DONE;
	rc = decoder_new(http_head_get(head, "content-encoding"), &b->decoder);
	if (rc == DECODER_UNKNOWN)
		return BODY_UNKNOWN_CODING;
	if (rc < 0)
		return BODY_OVERLOADED;
	http_chunk_init(&b->chunk, body_limit(b));
	if (head->chunked)
		return BODY_MORE;
	b->left = (uint64_t)head->content_length;
	if (b->left > body_limit(b))
		return BODY_TOO_LARGE;
	return b->decoder == NULL ? resize(b, (size_t)b->left) : BODY_MORE;
}

char *
body_room(struct body *b, size_t *len)
{
	*len = b->chunked || b->decoder != NULL ? 0 : (size_t)b->left;
	return b->data + b->len;
}

enum body_result
body_added(struct body *b, size_t len)
{
	assert(len <= b->left && len <= b->cap - b->len);
	b->len += len;
	b->left -= len;
	return b->left == 0 ? BODY_DONE : BODY_MORE;
}

static enum body_result
append(struct body *b, const char *p, size_t len)
{
	enum body_result result;
	size_t n;

	while (len > 0) {
		result = grow(b);
		if (result != BODY_MORE)
			return result;
		n = b->cap - b->len < len ? b->cap - b->len : len;
		memcpy(b->data + b->len, p, n);
		b->len += n;
		p += n;
		len -= n;
	}
	return BODY_MORE;
}

/*
 * Room for at most n decoded bytes. At the limit there is room for one that
 * may not come: what ends a coding (a checksum) must still be read.
 */
static enum body_result
decode_room(struct body *b, size_t n, char *spill, char **to, size_t *room)
{
	enum body_result result = grow(b);

	if (result == BODY_TOO_LARGE) {
		*to = spill;
		*room = 1;
		return BODY_MORE;
	}
	*to = b->data + b->len;
	*room = b->cap - b->len < n ? b->cap - b->len : n;
	return result;
}

/*
 * Decodes until the input is used, the coding ends or the slice is full. Even
 * without input: output may wait inside the decoder.
 */
static enum body_result
decode(struct body *b, const char *p, size_t len, size_t *used)
{
	size_t taken, made, room, slice = 0;
	enum body_result result;
	enum decoder_result rc;
	char spill, *to;

	*used = 0;
	do {
		result = decode_room(b, BODY_SLICE - slice, &spill, &to, &room);
		if (result != BODY_MORE)
			return result;
		rc = decoder_run(b->decoder, p + *used, len - *used, &taken, to,
		    room, &made);
		if (rc == DECODER_BAD)
			return BODY_BAD_ENCODING;
		if (to == &spill && made > 0)
			return BODY_TOO_LARGE;
		*used += taken;
		b->len += made;
		slice += made;
		b->ended = rc == DECODER_END;
		if (*used == len && (b->ended || made < room))
			return BODY_MORE;
	} while (slice < BODY_SLICE);
	return BODY_YIELD;
}

/* Input that left its framing; last: the framing is complete. */
static enum body_result
take(struct body *b, const char *p, size_t len, size_t *used, bool last)
{
	enum body_result result;

	if (b->decoder == NULL) {
		*used = len;
		result = append(b, p, len);
		return result == BODY_MORE && last ? finish(b) : result;
	}
	result = decode(b, p, len, used);
	b->waits = result == BODY_YIELD;
	if (result != BODY_MORE || !last)
		return result;
	return b->ended ? finish(b) : BODY_BAD_ENCODING;
}

static enum body_result
feed_length(struct body *b, char *p, size_t len, size_t *used)
{
	size_t n = len < b->left ? len : (size_t)b->left;
	enum body_result result;

	result = take(b, p, n, used, n == b->left);
	b->left -= *used;
	return result;
}

/* Takes new input out of its chunks; *plain bytes of it stand at p. */
static enum body_result
unchunk(struct body *b, char *p, size_t len, size_t *used, size_t *plain)
{
	enum http_chunk_result rc;

	rc = http_chunk_decode(&b->chunk, p, len, used, plain);
	if (rc == HTTP_CHUNK_BAD)
		return BODY_BAD;
	if (rc == HTTP_CHUNK_TOO_LARGE)
		return BODY_TOO_LARGE;
	b->last = rc == HTTP_CHUNK_DONE;
	return BODY_MORE;
}

/*
 * What the decoder leaves for the next turn is plain already: it is moved up
 * to the input behind it, and counted, so that the next call begins with it.
 */
static enum body_result
feed_plain(struct body *b, char *p, size_t plain, size_t *used)
{
	enum body_result result;
	size_t taken;

	result = take(b, p, plain, &taken, b->last);
	b->plain = plain - taken;
	*used -= b->plain;
	memmove(p + *used, p + taken, b->plain);
	return result;
}

static enum body_result
feed_chunked(struct body *b, char *p, size_t len, size_t *used)
{
	enum body_result result = BODY_MORE;
	size_t plain, n;

	*used = 0;
	do {
		n = plain = b->plain;
		if (plain == 0 && !b->last)
			result = unchunk(b, p + *used, len - *used, &n, &plain);
		if (result == BODY_MORE)
			result = feed_plain(b, p + *used, plain, &n);
		*used += n;
	} while (result == BODY_MORE && *used < len);
	return result;
}

bool
body_waits(const struct body *b)
{
	return b->waits;
}

enum body_result
body_feed(struct body *b, char *p, size_t len, size_t *used)
{
	return b->chunked ? feed_chunked(b, p, len, used)
			  : feed_length(b, p, len, used);
}

void
body_release(struct body *b)
{
	if (b->worker == NULL)
		return;
	decoder_free(b->decoder);
	free(b->data);
	if (b->reserved > 0)
		board_bodies_give(
		    b->worker->board, b->worker->slot, b->reserved);
	*b = (struct body){ 0 };
}
