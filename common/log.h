/* SPDX-License-Identifier: MIT */
/*
 * The error log: to stderr, to a descriptor that the master opened, or to
 * syslog. One line is one write(2), so that processes share a file. Text is
 * "what: why", lower case, without a newline; secrets never come here.
 *
 * log_* logs; the forms with "e" append the text of an error number, which
 * may be given as errno or as a negative return value.
 */
#ifndef FL_COMMON_LOG_H
#define FL_COMMON_LOG_H

#include <stdbool.h>

#include "common/attr.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_MAX
};

/* The word of the configuration: "error", "warn", "notice", "info", "debug". */
extern const char *const log_level_names[LOG_LEVEL_MAX];

/* role: "master", "worker 2"; copied. Starts on stderr at level info. */
void log_init(const char *role);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/*
 * Writes to fd from now on and closes the descriptor it replaces. Lines bear
 * a time stamp. The descriptor belongs to the log.
 */
void log_to_fd(int fd);

/* Writes to syslog (facility daemon) from now on. */
void log_to_syslog(void);

/* Prefixes each line with a request id until called with NULL; borrowed. */
void log_set_request(const char *request_id);

bool log_enabled(enum log_level level);

void log_error(const char *fmt, ...) PRINTF(1, 2);
void log_warn(const char *fmt, ...) PRINTF(1, 2);
void log_notice(const char *fmt, ...) PRINTF(1, 2);
void log_info(const char *fmt, ...) PRINTF(1, 2);
void log_debug(const char *fmt, ...) PRINTF(1, 2);
void log_error_e(int error, const char *fmt, ...) PRINTF(2, 3);
void log_warn_e(int error, const char *fmt, ...) PRINTF(2, 3);

/* Logs and exits 1: out of memory, a broken environment, a failed start. */
void fatalx(const char *fmt, ...) PRINTF(1, 2) NORETURN;
void fatal_e(int error, const char *fmt, ...) PRINTF(2, 3) NORETURN;

#endif
