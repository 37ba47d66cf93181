/* SPDX-License-Identifier: MIT */
/*
 * Names to addresses, by getaddrinfo(3) on a few helper threads, so that
 * whatever nsswitch.conf(5) says holds and the event loop never waits. What
 * was found is kept for a minute. Numeric addresses and localhost (RFC 6761
 * 6.3) are answered without asking.
 */
#ifndef FL_WORKER_UPSTREAM_RESOLVE_H
#define FL_WORKER_UPSTREAM_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include "common/attr.h"

enum { ENDPOINTS_MAX = 8 };

union endpoint {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* In the order to try them in: families take turns (RFC 8305 4). */
struct endpoints {
	size_t n;
	union endpoint at[ENDPOINTS_MAX]; /* the port is 0 */
};

struct event_base;
struct resolver;
struct name;

/* Embedded in whoever waits. */
struct question {
	TAILQ_ENTRY(question) link;
	struct name *name; /* NULL: nothing is waited for */
	/* From the event loop; found is NULL with a reason why. */
	void (*answered)(
	    struct question *q, const struct endpoints *found, const char *why);
};

enum {
	RESOLVE_LATER = 1 /* the question will be answered */
};

/* NULL: out of memory or descriptors. Threads start when they are needed. */
struct resolver *resolver_new(struct event_base *base) MUST_CHECK;

/* No question may be open. Does not wait for a thread that waits. */
void resolver_free(struct resolver *r);

/*
 * 0 and *out; RESOLVE_LATER; -EAGAIN when too many names are being asked for.
 * q is set up by the caller but for name and link.
 */
int resolver_ask(struct resolver *r, const char *host, struct question *q,
    struct endpoints *out) MUST_CHECK;

/* The question is not answered any more; fine if it is not open. */
void resolver_cancel(struct question *q);

/* The bytes and the family's length of an address. */
socklen_t endpoint_len(const union endpoint *a);

void endpoint_set_port(union endpoint *a, uint16_t port);

/* Whether the host is an address already. */
bool endpoint_parse(union endpoint *a, const char *host);

#endif
