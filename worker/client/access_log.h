/* SPDX-License-Identifier: MIT */
/*
 * The access log: one line per request, one write(2) per line, so that
 * workers share the file. Words are "name=value"; what a client chose is
 * percent-escaped, so that a line cannot be forged. Queries and session ids
 * do not appear, credentials by their public id.
 */
#ifndef FL_WORKER_CLIENT_ACCESS_LOG_H
#define FL_WORKER_CLIENT_ACCESS_LOG_H

#include <stdint.h>

#include "worker/client/exchange.h"

/* What a client that left is written down as having been told. */
enum { STATUS_CLIENT_GONE = 499 };

struct access_line {
	int status;             /* as told to the client */
	const char *code;       /* of a local error, or NULL */
	const char *model;      /* as asked for, or NULL */
	const char *credential; /* that served last, or NULL */
	const char *session;    /* where the session came from, or NULL */
	const char *decision;   /* "hit", "new", "adopted", "moved", "none" */
	unsigned attempts;
	enum provider_id provider; /* of the last attempt, if there was one */
	uint64_t bytes;            /* of the body of the answer */
	int64_t ttft_us;           /* from start to the first byte; -1: none */
	int64_t added_us; /* from the whole request to the last attempt */
};

/* Does nothing where no access log is set. */
void access_log_write(const struct exchange *x, const struct access_line *a);

#endif
