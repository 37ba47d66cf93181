/* SPDX-License-Identifier: MIT */
/*
 * What carries the calls of upstream.h. There are two: our own client for
 * direct connections (direct.c), and libcurl for those through a proxy
 * (upstream_curl.c). upstream.c chooses by the request.
 */
#ifndef FL_WORKER_UPSTREAM_CARRIER_H
#define FL_WORKER_UPSTREAM_CARRIER_H

#include <stddef.h>

#include "common/str.h"
#include "worker/upstream/upstream.h"

struct carrier;

/* The front of each carrier's own call. */
struct upstream_call {
	const struct carrier *carrier;
};

/* Start that leaves the request to the other carrier. */
enum { CARRIER_CANNOT = 1 };

/* Contracts as those of the functions of upstream.h that they serve. */
struct carrier {
	void *(*open)(struct worker *w);
	void (*close)(void *carrier);
	int (*start)(void *carrier, const struct upstream_request *req,
	    const struct upstream_events *events, void *ctx,
	    struct upstream_call **out);
	/* The field lines of the answer, each with its line end. */
	struct span (*fields)(const struct upstream_call *call);
	size_t (*sent_bytes)(const struct upstream_call *call);
	void (*pause)(struct upstream_call *call);
	void (*resume)(struct upstream_call *call);
	void (*cancel)(struct upstream_call *call);
	void (*trim)(void *carrier);
};

extern const struct carrier curl_carrier;
extern const struct carrier direct_carrier;

/* An upstream that has one carrier for everything, to try it by itself. */
struct upstream *
upstream_new_over(struct worker *w, const struct carrier *carrier);

#endif
