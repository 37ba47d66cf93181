/* SPDX-License-Identifier: MIT */
#include "master/usage/search.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "common/buf.h"
#include "common/str.h"
#include "common/usage_line.h"
#include "master/usage/usage_read.h"

enum {
	STEP = 1 << 20,
	BACK_MAX = 64 << 20,
	SLACK_S = 2 /* between a record's time and its place in the file */
};

/* A piece of the file that begins where a line does, or at its begin. */
struct piece {
	char *p;
	size_t len;
};

static bool
is_record_of(struct span line, const struct board_attempt *a)
{
	struct usage_line read;

	return usage_line_read(&read, line.p, line.len) &&
	       read.attempt == a->number &&
	       strcmp(read.request_id, a->request_id) == 0;
}

/* The line around a place, without its end; empty if it has none. */
static struct span
line_around(const struct piece *piece, const char *at)
{
	const char *start = memrchr(piece->p, '\n', (size_t)(at - piece->p));
	const char *end =
	    memchr(at, '\n', piece->len - (size_t)(at - piece->p));

	start = start != NULL ? start + 1 : piece->p;
	if (end == NULL)
		return SPAN("");
	return (struct span){ start, (size_t)(end - start) };
}

static bool
piece_has(
    const struct piece *piece, const struct board_attempt *a, struct span id)
{
	const char *at = piece->p, *end = piece->p + piece->len;

	while ((at = memmem(at, (size_t)(end - at), id.p, id.len)) != NULL) {
		if (is_record_of(line_around(piece, at), a))
			return true;
		at += id.len;
	}
	return false;
}

/* Whether the first whole line of a piece is older than the record can be. */
static bool
is_older(const struct piece *piece, int64_t record_s)
{
	static const struct span head = SPAN(USAGE_LINE_HEAD);
	const char *at = memmem(piece->p, piece->len, head.p, head.len);
	char earliest[32];

	str_from_time(record_s - SLACK_S, earliest, sizeof(earliest));
	if (at == NULL ||
	    piece->len - (size_t)(at - piece->p) < head.len + strlen(earliest))
		return false;
	return memcmp(at + head.len, earliest, strlen(earliest)) < 0;
}

static bool
search_back(int fd, int64_t size, const struct board_attempt *a, struct span id)
{
	/* A piece and what the one behind it may lack of its first line. */
	AUTO_FREE char *room = xmalloc(STEP + USAGE_LINE_MAX);
	int64_t floor = size > BACK_MAX ? size - BACK_MAX : 0;
	int64_t end = size, start;
	struct piece piece = { .p = room };
	ssize_t n;

	for (; end > floor; end = start) {
		start = end > STEP ? end - STEP : 0;
		n = pread(fd, room, (size_t)(end - start) + USAGE_LINE_MAX,
		    (off_t)start);
		if (n <= 0)
			return false;
		piece.len = (size_t)n;
		if (piece_has(&piece, a, id))
			return true;
		if (is_older(&piece, a->record_s))
			return false;
	}
	return false;
}

bool
search_record(int fd, const struct board_attempt *a)
{
	struct buf id = BUF_INIT(USAGE_LINE_MAX);
	struct stat st;
	bool found = false;

	usage_line_put_id(&id, a);
	if (!id.failed && fstat(fd, &st) == 0)
		found = search_back(
		    fd, st.st_size, a, (struct span){ id.data, id.len });
	buf_fini(&id);
	return found;
}
