/* SPDX-License-Identifier: MIT */
/*
 * The reader of usage records: whatever a line holds, what is read is within
 * bounds, and what it says of an attempt can be written and read again.
 */
#include <string.h>

#include "common/attr.h"
#include "common/str.h"
#include "common/usage_line.h"
#include "master/usage/usage_read.h"
#include "tests/fuzz/fuzz.h"

static struct board_attempt
attempt_of(const struct usage_line *l)
{
	struct board_attempt a = { .number = (uint8_t)(l->attempt % 255 + 1) };

	(void)str_copy(a.request_id, sizeof(a.request_id), l->request_id);
	(void)str_copy(a.model, sizeof(a.model), l->model);
	(void)str_copy(a.id, sizeof(a.id), l->credential);
	return a;
}

/* Bytes that are not UTF-8 and some that are not text are written otherwise. */
static bool
is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static void
write_and_read(const struct usage_line *l)
{
	struct board_attempt a = attempt_of(l);
	const struct usage_end end = { .time_s = 1,
		.failed = l->failed,
		.outcome = "ok",
		.error = "",
		.tokens = l->has_tokens ? &l->tokens : NULL };
	struct buf b = BUF_INIT(USAGE_LINE_MAX);
	struct usage_line again;

	usage_line_put(&b, &a, &end);
	require(!b.failed && memchr(b.data, '\n', b.len) == b.data + b.len - 1);
	require(usage_line_read(&again, b.data, b.len - 1));
	require(again.attempt == a.number && again.failed == l->failed);
	require(again.has_tokens == l->has_tokens);
	if (is_plain(l->model))
		require(strcmp(again.model, l->model) == 0);
	require(memcmp(&again.tokens, &l->tokens, sizeof(l->tokens)) == 0);
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *copy = malloc(size + 1);
	struct usage_line line;

	require(copy != NULL);
	memcpy(copy, data, size);
	if (!usage_line_read(&line, copy, size))
		return 0;
	require(str_is_day(line.day) && line.day[10] == '\0');
	require(memchr(line.model, '\0', sizeof(line.model)) != NULL);
	require(memchr(line.client, '\0', sizeof(line.client)) != NULL);
	write_and_read(&line);
	return 0;
}
