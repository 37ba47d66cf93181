/* SPDX-License-Identifier: MIT */
/*
 * The log files: the master opens them and hands descriptors to the workers,
 * so that a rotation is one signal and a full path is known in one process.
 */
#ifndef FL_MASTER_LOGFILE_H
#define FL_MASTER_LOGFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/config.h"
#include "common/ipc.h"

struct logfile;

/* The name of the spool in state-dir. */
#define LOGFILE_SPOOL "usage.spool"

/*
 * Opens what the configuration names. An empty log.file means stderr in the
 * foreground, and syslog otherwise. 0, or -errno with the reason in why.
 */
int logfile_open(const struct config *config, bool foreground,
    struct logfile **out, struct buf *why) MUST_CHECK;
void logfile_close(struct logfile *logs);

/* Makes this process log there from now on; in the background stderr too. */
void logfile_apply(const struct logfile *logs);

/*
 * Opens all files again. 0, or -errno with the reason, and then the old
 * descriptors stay in use.
 */
int logfile_reopen(struct logfile *logs, struct buf *why) MUST_CHECK;

/*
 * The usage file alone. Where the configuration names none there is a spool
 * in state-dir, and this is its name.
 */
int logfile_reopen_usage(struct logfile *logs, struct buf *why) MUST_CHECK;
const char *logfile_usage_path(const struct logfile *logs);
bool logfile_has_spool(const struct logfile *logs);

/* Which usage file this is: see usage.h. 0: not said yet. */
uint64_t logfile_usage_epoch(const struct logfile *logs);
void logfile_set_usage_epoch(struct logfile *logs, uint64_t epoch);

/* What a worker is to use as stderr. Borrowed. */
int logfile_stderr(const struct logfile *logs);

/* What an IPC_LOG_FD message of that kind carries; -1: none. Borrowed. */
int logfile_fd(const struct logfile *logs, enum ipc_log_kind kind);

/* Logs a text line by line: logfile_lines(log_warn, "one\ntwo\n"). */
void logfile_lines(void (*log)(const char *fmt, ...), const char *text);

#endif
