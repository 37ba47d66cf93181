/* SPDX-License-Identifier: MIT */
/* What the files of the direct carrier share. */
#ifndef FL_WORKER_UPSTREAM_DIRECT_H
#define FL_WORKER_UPSTREAM_DIRECT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event_struct.h>

#include "worker/upstream/direct_pool.h"

struct event_base;
struct resolver;
struct tls_client;

enum {
	/* What one read takes: more would only wait for a slow client. */
	DIRECT_READ = 32 * 1024,
	/* The largest record of TLS. */
	DIRECT_RECORD = 16 * 1024
};

struct direct {
	struct event_base *base;
	struct resolver *resolver;
	struct tls_client *tls; /* made for the first origin that needs it */
	struct pool pool;
	TAILQ_HEAD(direct_call_list, direct_call) calls, due;
	struct event again; /* takes up the calls that are due */
	char read[DIRECT_READ];
	char record[DIRECT_RECORD];
};

#endif
