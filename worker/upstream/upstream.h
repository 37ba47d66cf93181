/* SPDX-License-Identifier: MIT */
/*
 * One HTTP exchange with a provider, whatever carries it: our own client for
 * direct connections, libcurl for those through a proxy (carrier.h).
 *
 * Events come from the event loop, never from within a call made here.
 * upstream_cancel() may be called from any event; after it, and after done,
 * no event comes and the handle must not be used.
 */
#ifndef FL_WORKER_UPSTREAM_UPSTREAM_H
#define FL_WORKER_UPSTREAM_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/str.h"

struct worker;
struct upstream;
struct upstream_call;

struct upstream_header {
	const char *name;
	const char *value;
};

struct upstream_request {
	const char *method;
	const char *url;
	const char *proxy;                     /* "" is direct */
	const struct upstream_header *headers; /* copied */
	size_t nheaders;
	const char *body; /* borrowed until done or cancel */
	size_t body_len;
	int64_t connect_timeout_ms;
};

/* How a call ended. */
enum upstream_end {
	UPSTREAM_COMPLETE,   /* the whole answer came */
	UPSTREAM_NO_CONNECT, /* resolve, connect, proxy or TLS: never sent */
	UPSTREAM_BROKEN,     /* the connection died after the request */
	UPSTREAM_STALE,      /* a reused connection died before its first
			      * byte: no outcome at all, send it again */
	UPSTREAM_TOO_LARGE,  /* the head went beyond its bound */
	UPSTREAM_STARVED     /* no descriptor was left to connect with: ours
			      * is the fault, nobody was asked */
};

struct upstream_events {
	/* Status and headers are there; header() reads them until done. */
	void (*head)(void *ctx, int status);
	/* Body bytes, valid during the call. */
	void (*data)(void *ctx, const char *p, size_t len);
	void (*done)(void *ctx, enum upstream_end end, const char *detail);
};

/* NULL with a log line when it cannot be set up. */
struct upstream *upstream_new(struct worker *w);
void upstream_free(struct upstream *u);

/*
 * 0 and *out, or negative errno (-EINVAL: what a proxy, URL, method or header
 * cannot be).
 */
int upstream_start(struct upstream *u, const struct upstream_request *req,
    const struct upstream_events *events, void *ctx,
    struct upstream_call **out);

/*
 * A header of the answer by lower-case name; empty span if absent. What a
 * span leads to stays until the event in which the call ended returns.
 */
struct span upstream_header_get(struct upstream_call *call, const char *name);

/* All headers of the answer, in order; NULL name ends the walk. */
bool upstream_header_next(struct upstream_call *call, size_t *cursor,
    struct span *name, struct span *value);

/*
 * Bytes of the request's body that have gone out. Once that is all of them
 * and the head event has come, the body may be given back before the end.
 */
size_t upstream_sent_bytes(const struct upstream_call *call);

/* While paused no data event comes, and what was read waits, as does done. */
void upstream_pause(struct upstream_call *call);
void upstream_resume(struct upstream_call *call);

/* Takes the call back: its connection is closed if anything is in flight. */
void upstream_cancel(struct upstream_call *call);

/*
 * Idle connections and pooled handles that are due are let go. From a timer,
 * as often as one likes; never from an event of a call.
 */
void upstream_trim(struct upstream *u);

#endif
