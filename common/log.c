/* SPDX-License-Identifier: MIT */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/utf8.h"

enum log_sink { SINK_STDERR, SINK_FD, SINK_SYSLOG };

const char *const log_level_names[LOG_LEVEL_MAX] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_NOTICE] = "notice",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static const int priorities[LOG_LEVEL_MAX] = {
	[LOG_LEVEL_ERROR] = LOG_ERR,
	[LOG_LEVEL_WARN] = LOG_WARNING,
	[LOG_LEVEL_NOTICE] = LOG_NOTICE,
	[LOG_LEVEL_INFO] = LOG_INFO,
	[LOG_LEVEL_DEBUG] = LOG_DEBUG,
};

static struct {
	char role[32];
	enum log_level level;
	enum log_sink sink;
	int fd;
	const char *request;
} self = { .role = "fairlead", .level = LOG_LEVEL_INFO, .fd = STDERR_FILENO };

void
log_init(const char *role)
{
	(void)snprintf(self.role, sizeof(self.role), "%s", role);
}

void
log_set_level(enum log_level level)
{
	self.level = level;
}

enum log_level
log_get_level(void)
{
	return self.level;
}

void
log_to_fd(int fd)
{
	if (self.sink == SINK_FD && self.fd != fd)
		(void)close(self.fd);
	self.sink = SINK_FD;
	self.fd = fd;
}

void
log_to_syslog(void)
{
	if (self.sink == SINK_FD)
		(void)close(self.fd);
	self.sink = SINK_SYSLOG;
	openlog("fairlead", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void
log_set_request(const char *request_id)
{
	self.request = request_id;
}

bool
log_enabled(enum log_level level)
{
	return level <= self.level;
}

static size_t
stamp(char *line, size_t size)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(
		       line + n, size - n, ".%03ldZ ", ts.tv_nsec / 1000000);
}

/* A peer's text in a message must not forge a second line. */
static void
flatten(char *text)
{
	char *start = text;

	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
	utf8_mend(start);
}

static void
emit(enum log_level level, char *text)
{
	char line[2304];
	size_t n = 0;
	int more;

	flatten(text);
	if (self.sink == SINK_SYSLOG) {
		syslog(priorities[level], "%s: %s%s%s%s", self.role,
		    self.request != NULL ? "[" : "",
		    self.request != NULL ? self.request : "",
		    self.request != NULL ? "] " : "", text);
		return;
	}
	n = stamp(line, sizeof(line));
	more = snprintf(line + n, sizeof(line) - n - 1, "%s[%ld] %s: %s%s%s%s",
	    self.role, (long)getpid(), log_level_names[level],
	    self.request != NULL ? "[" : "",
	    self.request != NULL ? self.request : "",
	    self.request != NULL ? "] " : "", text);
	n += (size_t)more < sizeof(line) - n - 1 ? (size_t)more
						 : sizeof(line) - n - 2;
	line[n++] = '\n';
	/* There is nowhere to report a log that cannot be written. */
	if (write(self.fd, line, n) < 0)
		return;
}

static void
vlog(enum log_level level, int error, const char *fmt, va_list ap)
{
	char text[2048];
	size_t n;
	int len;

	if (!log_enabled(level))
		return;
	len = vsnprintf(text, sizeof(text), fmt, ap);
	if (len < 0)
		return;
	n = (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
	if (error != 0) {
		(void)snprintf(text + n, sizeof(text) - n, ": %s",
		    strerror(error < 0 ? -error : error));
	}
	emit(level, text);
}

#define LOG_AT(level, error)                                                   \
	do {                                                                   \
		va_list ap;                                                    \
		va_start(ap, fmt);                                             \
		vlog((level), (error), fmt, ap);                               \
		va_end(ap);                                                    \
	} while (0)

void
log_error(const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_ERROR, 0);
}

void
log_warn(const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_WARN, 0);
}

void
log_notice(const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_NOTICE, 0);
}

void
log_info(const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_INFO, 0);
}

void
log_debug(const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_DEBUG, 0);
}

void
log_error_e(int error, const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_ERROR, error);
}

void
log_warn_e(int error, const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_WARN, error);
}

void
fatalx(const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_ERROR, 0);
	exit(1);
}

void
fatal_e(int error, const char *fmt, ...)
{
	LOG_AT(LOG_LEVEL_ERROR, error);
	exit(1);
}
