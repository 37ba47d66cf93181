/* SPDX-License-Identifier: MIT */
#include "master/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"

enum { NLOGS = IPC_LOG_USAGE + 1 };

struct logfile {
	struct {
		char *path; /* "" where there is none */
		int fd;
	} logs[NLOGS];
	int null; /* stderr of workers while the error log is syslog */
	bool foreground;
	bool spool; /* the usage file is ours, in state-dir */
	uint64_t usage_epoch;
};

/*
 * The usage file is read back by the master, where it may be; what others
 * named may be a pipe.
 */
static int
open_log(const struct logfile *l, int kind, struct buf *why)
{
	const int flags = O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
	const char *path = l->logs[kind].path;
	bool usage = kind == IPC_LOG_USAGE;
	int fd = -1;

	if (usage)
		fd = open(path, O_RDWR | flags, l->spool ? 0600 : 0640);
	if (fd < 0 && (!usage || errno == EACCES))
		fd = open(path, O_WRONLY | flags, 0640);
	if (fd >= 0)
		return fd;
	fd = -errno;
	buf_printf(why, "cannot open log file %s: %s", path, strerror(-fd));
	return fd;
}

static void
close_all(const int *fds)
{
	int i;

	for (i = 0; i < NLOGS; i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
}

/* All from the first to the last kind, or none. */
static int
reopen(struct logfile *l, int first, int last, struct buf *why)
{
	int fds[NLOGS] = { -1, -1, -1 };
	int i, old;

	for (i = first; i <= last; i++) {
		if (*l->logs[i].path == '\0')
			continue;
		fds[i] = open_log(l, i, why);
		if (fds[i] < 0) {
			old = fds[i];
			close_all(fds);
			return old;
		}
	}
	for (i = first; i <= last; i++) {
		old = l->logs[i].fd;
		l->logs[i].fd = fds[i];
		fds[i] = old;
	}
	close_all(fds);
	return 0;
}

int
logfile_reopen(struct logfile *l, struct buf *why)
{
	return reopen(l, 0, NLOGS - 1, why);
}

int
logfile_reopen_usage(struct logfile *l, struct buf *why)
{
	return reopen(l, IPC_LOG_USAGE, IPC_LOG_USAGE, why);
}

const char *
logfile_usage_path(const struct logfile *l)
{
	return l->logs[IPC_LOG_USAGE].path;
}

bool
logfile_has_spool(const struct logfile *l)
{
	return l->spool;
}

uint64_t
logfile_usage_epoch(const struct logfile *l)
{
	return l->usage_epoch;
}

void
logfile_set_usage_epoch(struct logfile *l, uint64_t epoch)
{
	l->usage_epoch = epoch;
}

static bool
has_file(const struct logfile *l)
{
	return *l->logs[IPC_LOG_ERROR].path != '\0';
}

static bool
is_syslog(const struct logfile *l)
{
	return !has_file(l) && !l->foreground;
}

static int
open_null(struct logfile *l, struct buf *why)
{
	l->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (l->null >= 0)
		return 0;
	buf_printf(why, "cannot open /dev/null: %s", strerror(errno));
	return -errno;
}

int
logfile_open(const struct config *config, bool foreground, struct logfile **out,
    struct buf *why)
{
	struct logfile *l = xcalloc(1, sizeof(*l));
	int i, rc;

	*out = NULL;
	l->foreground = foreground;
	l->null = -1;
	l->logs[IPC_LOG_ERROR].path = xstrdup(config->log.file);
	l->logs[IPC_LOG_ACCESS].path = xstrdup(config->log.access_file);
	l->spool = *config->log.usage_file == '\0';
	l->logs[IPC_LOG_USAGE].path =
	    l->spool ? xasprintf("%s/" LOGFILE_SPOOL, config->state_dir)
		     : xstrdup(config->log.usage_file);
	for (i = 0; i < NLOGS; i++)
		l->logs[i].fd = -1;
	rc = logfile_reopen(l, why);
	if (rc == 0 && is_syslog(l))
		rc = open_null(l, why);
	if (rc < 0)
		logfile_close(l);
	else
		*out = l;
	return rc;
}

void
logfile_close(struct logfile *l)
{
	int i;

	if (l == NULL)
		return;
	for (i = 0; i < NLOGS; i++) {
		if (l->logs[i].fd >= 0)
			(void)close(l->logs[i].fd);
		free(l->logs[i].path);
	}
	if (l->null >= 0)
		(void)close(l->null);
	free(l);
}

void
logfile_apply(const struct logfile *l)
{
	int fd = logfile_stderr(l);

	/* What the C library or a sanitizer says of us goes there too. */
	if (!l->foreground)
		(void)dup2(fd, STDERR_FILENO);
	if (is_syslog(l)) {
		log_to_syslog();
		return;
	}
	fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (fd >= 0)
		log_to_fd(fd);
}

int
logfile_stderr(const struct logfile *l)
{
	if (has_file(l))
		return l->logs[IPC_LOG_ERROR].fd;
	return is_syslog(l) ? l->null : STDERR_FILENO;
}

int
logfile_fd(const struct logfile *l, enum ipc_log_kind kind)
{
	if (kind == IPC_LOG_ERROR && !has_file(l) && !is_syslog(l))
		return STDERR_FILENO;
	return l->logs[kind].fd;
}

void
logfile_lines(void (*log)(const char *fmt, ...), const char *text)
{
	size_t len;

	for (; *text != '\0'; text += len + (text[len] == '\n')) {
		len = strcspn(text, "\n");
		if (len > 0)
			log("%.*s", (int)len, text);
	}
}
