/* SPDX-License-Identifier: MIT */
#include "master/usage/usage.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "common/usage_line.h"
#include "master/ledger.h"
#include "master/master.h"
#include "master/usage/fold.h"
#include "master/usage/search.h"
#include "master/usage/totals.h"
#include "master/workers.h"

/* Of a report and of the end: all there is. */
enum { REPORT_STEPS = 4096 };

/* A file with records. */
struct source {
	TAILQ_ENTRY(source) entry;
	int fd;
	dev_t dev;
	ino_t ino;
	uint64_t epoch; /* the largest under which workers got it */
	int64_t offset; /* folded up to here; -1: not looked at yet */
	int64_t size;   /* when that was all of it; -1: it was not */
	bool in_use;    /* new records go there */
	bool renamed;   /* it may be one that others have renamed */
	char *spool;    /* path of a spool, or NULL */
};

TAILQ_HEAD(sources, source);

struct usage {
	struct master *master;
	char *state_dir;
	struct logfile *logs;
	struct sources sources;
	struct source *current; /* NULL: what cannot be read back */
	struct event *tick;     /* each second */
	unsigned jobs;          /* in the hands of the ledger */
	bool folding;           /* one of them is the tick's */
	bool fold_failed;       /* said once, until it works again */
	bool write_failed;
	bool rotate_failed;
};

/* Folds, and then reports if that was asked for. */
struct job {
	struct ledger_job ledger;
	struct usage *usage;
	size_t n;
	struct part {
		struct source *source;
		struct fold fold;
		bool more;
	} * parts;
	unsigned steps; /* of each file, at most */
	int rc;

	usage_report_fn *fn; /* NULL: no report */
	void *ctx;
	unsigned by;
	char since[16];
	cJSON *rows;
};

/* ---- sources */

static struct source *
source_new(struct usage *u, int fd, uint64_t epoch, const struct stat *st)
{
	struct source *s = xcalloc(1, sizeof(*s));

	s->fd = fd;
	s->dev = st->st_dev;
	s->ino = st->st_ino;
	s->epoch = epoch;
	s->offset = -1;
	TAILQ_INSERT_TAIL(&u->sources, s, entry);
	return s;
}

static void
source_free(struct usage *u, struct source *s)
{
	TAILQ_REMOVE(&u->sources, s, entry);
	(void)close(s->fd);
	free(s->spool);
	free(s);
}

static struct source *
find_source(struct usage *u, const struct stat *st)
{
	struct source *s;

	TAILQ_FOREACH (s, &u->sources, entry)
		if (s->dev == st->st_dev && s->ino == st->st_ino)
			return s;
	return NULL;
}

static bool
is_folded(const struct source *s)
{
	struct stat st;

	if (s->offset < 0)
		return false;
	/* What is behind the offset and does not grow is no whole line. */
	return fstat(s->fd, &st) < 0 || st.st_size == s->size;
}

/* Whether nobody can write to the file any more. */
static bool
is_quiet(const struct usage *u, const struct source *s)
{
	struct board *board = u->master->board;
	uint32_t used = atomic_load(&board->slots_used);
	uint64_t epoch;

	if (s->in_use)
		return false;
	for (uint32_t i = 0; i < used && i < BOARD_SLOTS; i++) {
		epoch = atomic_load(&board->slots[i].usage_epoch);
		if (epoch != 0 && epoch <= s->epoch)
			return false;
	}
	return true;
}

static void
remove_spool(const struct source *s)
{
	struct stat st;

	if (s->spool == NULL || stat(s->spool, &st) < 0 ||
	    st.st_dev != s->dev || st.st_ino != s->ino)
		return;
	if (unlink(s->spool) < 0)
		log_warn_e(-errno, "cannot remove %s", s->spool);
}

/* Lets go of files that are of no use any more. */
static void
retire_sources(struct usage *u)
{
	struct source *s, *next;

	if (u->jobs > 0)
		return;
	for (s = TAILQ_FIRST(&u->sources); s != NULL; s = next) {
		next = TAILQ_NEXT(s, entry);
		/* In this order: first nobody writes, then all is folded. */
		if (!is_quiet(u, s) || !is_folded(s))
			continue;
		remove_spool(s);
		source_free(u, s);
	}
}

static uint64_t
next_epoch(struct usage *u)
{
	return atomic_fetch_add(&u->master->board->usage_epoch, 1) + 1;
}

void
usage_follow(struct usage *u, struct logfile *logs)
{
	int fd = logfile_fd(logs, IPC_LOG_USAGE);
	struct source *s = NULL;
	struct stat st;

	u->logs = logs;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		s = find_source(u, &st);
	else
		st.st_mode = 0;
	if (s != NULL && s == u->current) {
		logfile_set_usage_epoch(logs, s->epoch);
		return;
	}
	logfile_set_usage_epoch(logs, next_epoch(u));
	if (s == NULL && st.st_mode != 0) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fd >= 0)
			s = source_new(u, fd, 0, &st);
	}
	if (u->current != NULL)
		u->current->in_use = false;
	u->current = s;
	if (s == NULL) {
		log_warn("%s cannot be read back: there are no totals of usage",
		    logfile_usage_path(logs));
		return;
	}
	s->in_use = true;
	s->renamed = false;
	s->epoch = logfile_usage_epoch(logs);
	free(s->spool);
	s->spool =
	    logfile_has_spool(logs) ? xstrdup(logfile_usage_path(logs)) : NULL;
}

/* ---- the spool */

static void
report_once(bool *failed, int rc, const char *what)
{
	if (rc < 0 && !*failed)
		log_error_e(rc, "cannot %s", what);
	*failed = rc < 0;
}

static int
rotate_spool(struct usage *u, struct source *s)
{
	AUTO_FREE char *path = xasprintf("%s.%" PRIu64, s->spool, s->epoch);
	struct buf why = BUF_INIT(4096);
	int rc;

	if (rename(s->spool, path) < 0)
		return -errno;
	rc = logfile_reopen_usage(u->logs, &why);
	buf_fini(&why);
	if (rc < 0) {
		(void)rename(path, s->spool);
		return rc;
	}
	free(s->spool);
	s->spool = path;
	path = NULL;
	usage_follow(u, u->logs);
	workers_send_logs(u->master->workers, u->logs);
	return 0;
}

static void
rotate_if_large(struct usage *u)
{
	struct source *s = u->current;
	struct stat st;

	if (s == NULL || s->spool == NULL || fstat(s->fd, &st) < 0 ||
	    st.st_size < USAGE_SPOOL_MAX)
		return;
	report_once(&u->rotate_failed, rotate_spool(u, s),
	    "begin a new spool of usage records");
}

/* The number behind the name of a spool that was rotated; 0: it is none. */
static uint64_t
epoch_of_name(const char *name)
{
	static const struct span prefix = SPAN(LOGFILE_SPOOL ".");
	int64_t epoch;

	if (!span_starts(span_of(name), prefix) ||
	    str_to_int(name + prefix.len, 1, INT64_MAX, &epoch) < 0)
		return 0;
	return (uint64_t)epoch;
}

static void
take_up(struct usage *u, const char *name, uint64_t epoch)
{
	char *path = xasprintf("%s/%s", u->state_dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		log_warn_e(-errno, "cannot read %s", path);
		if (fd >= 0)
			(void)close(fd);
		free(path);
		return;
	}
	source_new(u, fd, epoch, &st)->spool = path;
	/* No epoch is given twice, also on a new board. */
	if (atomic_load(&u->master->board->usage_epoch) < epoch)
		atomic_store(&u->master->board->usage_epoch, epoch);
}

static void
take_up_spools(struct usage *u)
{
	DIR *dir = opendir(u->state_dir);
	struct dirent *entry;
	uint64_t epoch;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		epoch = epoch_of_name(entry->d_name);
		if (epoch != 0)
			take_up(u, entry->d_name, epoch);
	}
	if (dir != NULL)
		(void)closedir(dir);
}

/*
 * Files beside the usage file that begin with its name: one that was renamed
 * while it was in use, just before the master before this one was killed, has
 * an end that was not folded. Of the others not a line is.
 */
static void
take_up_renamed(struct usage *u)
{
	AUTO_FREE char *dir_path = xstrdup(logfile_usage_path(u->logs));
	char *name = strrchr(dir_path, '/');
	struct dirent *entry;
	struct stat st;
	unsigned n = 0;
	DIR *dir;
	int fd;

	if (logfile_has_spool(u->logs) || name == NULL)
		return;
	*name++ = '\0';
	dir = opendir(dir_path);
	while (dir != NULL && n < FOLD_FILES_KEPT &&
	       (entry = readdir(dir)) != NULL) {
		if (!span_starts(span_of(entry->d_name), span_of(name)))
			continue;
		fd = openat(dirfd(dir), entry->d_name,
		    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		    find_source(u, &st) != NULL) {
			(void)close(fd);
			continue;
		}
		source_new(u, fd, logfile_usage_epoch(u->logs), &st)->renamed =
		    true;
		n++;
	}
	if (dir != NULL)
		(void)closedir(dir);
}

/* ---- folding, on the thread of the ledger */

static void
fold_part(struct job *j, struct part *part, struct store *store)
{
	part->more = true;
	for (unsigned i = 0; i < j->steps && part->more && j->rc == 0; i++)
		j->rc = fold_step(store, &part->fold, &part->more);
}

static void
run_job(struct ledger_job *ledger, struct store *store)
{
	struct job *j = (struct job *)ledger;

	for (size_t i = 0; i < j->n; i++)
		fold_part(j, &j->parts[i], store);
	if (j->fn != NULL && j->rc == 0)
		j->rc = totals_report(store, j->by, j->since, &j->rows);
}

/* ---- and on the loop */

static void
job_free(struct job *j)
{
	free(j->parts);
	free(j);
}

/* Whether there is more to do. */
static bool
take_progress(const struct job *j)
{
	uint64_t broken = 0;
	bool more = false;

	for (size_t i = 0; i < j->n; i++) {
		const struct part *part = &j->parts[i];

		part->source->offset = part->fold.offset;
		part->source->size = part->more ? -1 : part->fold.size;
		broken += part->fold.broken;
		more |= part->more;
	}
	if (broken > 0)
		log_warn(
		    "%" PRIu64 " lines of usage records are broken", broken);
	return more;
}

static void fold_soon(struct usage *u);

static void
job_done(struct ledger_job *ledger)
{
	struct job *j = (struct job *)ledger;
	struct usage *u = j->usage;
	bool report = j->fn != NULL, more = false;

	u->jobs--;
	if (!report)
		u->folding = false;
	report_once(&u->fold_failed, j->rc, "fold usage records");
	if (j->rc == 0)
		more = take_progress(j);
	if (report)
		j->fn(j->ctx, j->rows, j->rc);
	job_free(j);
	if (more && u->tick != NULL)
		fold_soon(u);
	retire_sources(u);
}

static struct job *
job_new(struct usage *u, unsigned steps)
{
	struct job *j = xcalloc(1, sizeof(*j));
	struct source *s;
	size_t n = 0;

	TAILQ_FOREACH (s, &u->sources, entry)
		n++;
	*j = (struct job){
		.ledger = { .run = run_job, .done = job_done },
		.usage = u,
		.parts = xcalloc(n + 1, sizeof(j->parts[0])),
		.steps = steps,
	};
	TAILQ_FOREACH (s, &u->sources, entry) {
		if (is_folded(s))
			continue;
		j->parts[j->n++] = (struct part){ .source = s,
			.fold = { .fd = s->fd,
			    .only_known = s->renamed,
			    .offset = s->offset < 0 ? 0 : s->offset } };
	}
	return j;
}

static void
submit(struct usage *u, struct job *j)
{
	u->jobs++;
	ledger_submit(u->master->ledger, &j->ledger);
}

/* One at a time, and a step each, so that others get their turn. */
static void
fold_soon(struct usage *u)
{
	struct job *j;

	if (u->folding)
		return;
	j = job_new(u, 1);
	if (j->n == 0) {
		job_free(j);
		return;
	}
	u->folding = true;
	submit(u, j);
}

void
usage_report(struct usage *u, unsigned by, const char *since,
    usage_report_fn *fn, void *ctx)
{
	struct job *j = job_new(u, REPORT_STEPS);

	j->fn = fn;
	j->ctx = ctx;
	j->by = by;
	(void)str_copy(j->since, sizeof(j->since), since);
	submit(u, j);
}

static void
on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct usage *u = arg;

	rotate_if_large(u);
	fold_soon(u);
	retire_sources(u);
}

/* ---- workers that died */

static bool
is_written(struct usage *u, const struct board_attempt *a)
{
	struct source *s;

	TAILQ_FOREACH_REVERSE(s, &u->sources, sources, entry)
	if (search_record(s->fd, a))
		return true;
	return false;
}

static void
put_lost(struct buf *lines, const struct board_attempt *a, int64_t time_s)
{
	int64_t age_ms = clock_now_ms() - a->start_ms;
	const struct usage_end end = {
		.time_s = time_s,
		.failed = true,
		.outcome = "worker_died",
		.error = "the worker process died",
		.latency_us = age_ms > 0 ? age_ms * 1000 : 0,
		.ttft_us = -1,
	};

	usage_line_put(lines, a, &end);
}

static int
write_lines(int fd, const struct buf *lines)
{
	ssize_t n;

	if (lines->failed)
		return -ENOMEM;
	do
		n = write(fd, lines->data, lines->len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == lines->len ? 0 : -ENOSPC;
}

/*
 * One line a write, so that a death of this process leaves the board right
 * about all but one, which its successor looks for.
 */
static void
record_lost(struct usage *u, struct board_slot *slot, struct board_attempt *a)
{
	struct buf line = BUF_INIT(USAGE_LINE_MAX);
	uint32_t state = atomic_load(&a->state);
	int rc;

	if (state == ATTEMPT_FREE ||
	    (state == ATTEMPT_RECORDING && is_written(u, a)))
		return;
	a->record_s = time(NULL);
	atomic_store(&a->state, ATTEMPT_RECORDING);
	put_lost(&line, a, a->record_s);
	rc = write_lines(logfile_fd(u->logs, IPC_LOG_USAGE), &line);
	if (rc < 0)
		(void)atomic_fetch_add(&slot->counters.usage_lost, 1);
	report_once(&u->write_failed, rc, "write usage records");
	buf_fini(&line);
}

void
usage_bury(struct usage *u, struct board_slot *slot)
{
	for (size_t i = 0; i < BOARD_ATTEMPTS; i++) {
		record_lost(u, slot, &slot->attempts[i]);
		atomic_store(&slot->attempts[i].state, ATTEMPT_FREE);
	}
}

/* ---- birth and death */

struct usage *
usage_new(struct master *master, const char *state_dir)
{
	const struct timeval second = { 1, 0 };
	struct usage *u = xcalloc(1, sizeof(*u));

	u->master = master;
	u->state_dir = xstrdup(state_dir);
	TAILQ_INIT(&u->sources);
	take_up_spools(u);
	usage_follow(u, master->logs);
	take_up_renamed(u);
	u->tick = event_new(master->base, -1, EV_PERSIST, on_tick, u);
	if (u->tick == NULL || event_add(u->tick, &second) < 0)
		fatalx("out of memory");
	return u;
}

void
usage_finish(struct usage *u)
{
	struct job *j;

	if (u == NULL)
		return;
	event_free(u->tick);
	u->tick = NULL;
	j = job_new(u, REPORT_STEPS);
	submit(u, j);
}

void
usage_free(struct usage *u)
{
	struct source *s;

	if (u == NULL)
		return;
	assert(u->jobs == 0);
	while ((s = TAILQ_FIRST(&u->sources)) != NULL)
		source_free(u, s);
	free(u->state_dir);
	free(u);
}
