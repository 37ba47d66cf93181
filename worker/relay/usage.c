/* SPDX-License-Identifier: MIT */
#include "worker/relay/usage.h"

#include <errno.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/worker.h"

/* 0 or negative errno. What is cut short is not a record to any reader. */
static int
append(int fd, const struct buf *line)
{
	ssize_t n;

	if (line->failed)
		return -ENOMEM;
	do
		n = write(fd, line->data, line->len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == line->len ? 0 : -ENOSPC;
}

static void
note_failure(struct worker *w, int rc)
{
	if (rc < 0) {
		(void)atomic_fetch_add(&w->slot->counters.usage_lost, 1);
		if (!w->usage_failing)
			log_error_e(rc, "cannot write usage records");
	}
	w->usage_failing = rc < 0;
}

void
usage_write(struct attempt *a, const struct usage_end *end)
{
	static struct buf line = BUF_INIT(USAGE_LINE_MAX);
	struct worker *w = a->worker;

	if (end->tokens != NULL)
		traffic_add_tokens(&a->worker->slot->counters.traffic,
		    a->provider_id, end->tokens);
	if (w->usage_fd < 0)
		return;
	buf_clear(&line);
	usage_line_put(&line, a->noted, end);
	board_attempt_record(w->slot, a->index, end->time_s);
	note_failure(w, append(w->usage_fd, &line));
}
