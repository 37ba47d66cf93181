/* SPDX-License-Identifier: MIT */
/* One function for each state; each takes what it can and says how much. */
#include "tests/bench/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define UNTIL_CLOSE UINT64_MAX

void
answer_init(struct answer *a)
{
	memset(a, 0, offsetof(struct answer, head));
}

/* The value of a header, or NULL. */
static const char *
answer_header(const struct answer *a, const char *name)
{
	size_t len = strlen(name);
	const char *line;

	for (line = strchr(a->head, '\n'); line != NULL;
	     line = strchr(line, '\n')) {
		line++;
		if (strncasecmp(line, name, len) != 0 || line[len] != ':')
			continue;
		line += len + 1;
		return line + strspn(line, " \t");
	}
	return NULL;
}

static void
answer_frame_body(struct answer *a)
{
	const char *encoding = answer_header(a, "Transfer-Encoding");
	const char *length = answer_header(a, "Content-Length");
	const char *connection = answer_header(a, "Connection");

	a->closes =
	    connection != NULL && strncasecmp(connection, "close", 5) == 0;
	if (encoding != NULL) {
		a->state = ANSWER_CHUNK_SIZE;
		return;
	}
	a->left = length != NULL ? strtoull(length, NULL, 10) : UNTIL_CLOSE;
	a->closes = a->closes || length == NULL;
	a->state = a->left > 0 ? ANSWER_BODY : ANSWER_DONE;
}

static int
answer_parse_head(struct answer *a)
{
	if (strncmp(a->head, "HTTP/1.1 ", 9) != 0)
		return -EPROTO;
	a->status = atoi(a->head + 9);
	answer_frame_body(a);
	return 0;
}

/* What the head does not need is left for the next state. */
static ssize_t
answer_take_head(struct answer *a, const char *data, size_t len)
{
	size_t had = a->head_len;
	size_t room = sizeof(a->head) - 1 - had;
	size_t from = had > 3 ? had - 3 : 0;
	char *end;

	if (room == 0)
		return -EPROTO;
	if (len > room)
		len = room;
	memcpy(a->head + had, data, len);
	a->head_len += len;
	end = memmem(a->head + from, a->head_len - from, "\r\n\r\n", 4);
	if (end == NULL)
		return (ssize_t)len;
	a->head_len = (size_t)(end + 4 - a->head);
	a->head[a->head_len] = '\0';
	if (answer_parse_head(a) < 0)
		return -EPROTO;
	return (ssize_t)(a->head_len - had);
}

/* Bytes of a body or a chunk; moves on when there are no more. */
static ssize_t
answer_take_bytes(struct answer *a, size_t len, enum answer_state next)
{
	if (len > a->left)
		len = (size_t)a->left;
	a->body_bytes += len;
	if (a->left != UNTIL_CLOSE)
		a->left -= len;
	if (a->left == 0)
		a->state = next;
	return (ssize_t)len;
}

/* Collects up to a line end; the line is whole when 1 is stored. */
static ssize_t
answer_take_line(struct answer *a, const char *data, size_t len, bool *whole)
{
	const char *end = memchr(data, '\n', len);
	size_t used = end != NULL ? (size_t)(end + 1 - data) : len;
	size_t room = sizeof(a->line) - 1 - a->line_len;
	size_t kept = used < room ? used : room;

	memcpy(a->line + a->line_len, data, kept);
	a->line_len += kept;
	a->line[a->line_len] = '\0';
	*whole = end != NULL;
	return (ssize_t)used;
}

static ssize_t
answer_take_chunk_size(struct answer *a, const char *data, size_t len)
{
	bool whole;
	ssize_t used = answer_take_line(a, data, len, &whole);
	char *end;

	if (!whole)
		return used;
	a->left = strtoull(a->line, &end, 16);
	if (end == a->line)
		return -EPROTO;
	a->line_len = 0;
	a->state = a->left > 0 ? ANSWER_CHUNK_DATA : ANSWER_TRAILER;
	a->left += strlen("\r\n");
	return used;
}

static ssize_t
answer_take_trailer(struct answer *a, const char *data, size_t len)
{
	bool whole;
	ssize_t used = answer_take_line(a, data, len, &whole);

	if (whole && strcmp(a->line, "\r\n") == 0)
		a->state = ANSWER_DONE;
	if (whole)
		a->line_len = 0;
	return used;
}

static ssize_t
answer_take(struct answer *a, const char *data, size_t len)
{
	switch (a->state) {
	case ANSWER_HEAD:
		return answer_take_head(a, data, len);
	case ANSWER_BODY:
		return answer_take_bytes(a, len, ANSWER_DONE);
	case ANSWER_CHUNK_SIZE:
		return answer_take_chunk_size(a, data, len);
	case ANSWER_CHUNK_DATA:
		return answer_take_bytes(a, len, ANSWER_CHUNK_SIZE);
	case ANSWER_TRAILER:
		return answer_take_trailer(a, data, len);
	case ANSWER_DONE:
		break;
	}
	return -EPROTO;
}

int
answer_feed(struct answer *a, const char *data, size_t len)
{
	ssize_t used;

	while (len > 0) {
		used = answer_take(a, data, len);
		if (used < 0)
			return (int)used;
		data += used;
		len -= (size_t)used;
	}
	return 0;
}

bool
answer_ends_by_close(const struct answer *a)
{
	return a->state == ANSWER_BODY && a->left == UNTIL_CLOSE;
}
