/* SPDX-License-Identifier: MIT */
/*
 * Shards, their timers and their sockets.
 *
 * Sockets are kept registered with epoll while libcurl does not ask for them
 * (an idle pooled connection, a paused transfer): taking them out and putting
 * them back in again costs a quarter of a small request. An event that nobody
 * asked for takes the socket out then. This is safe only for sockets whose
 * closing we see, so libcurl opens and closes them through us; the ones it
 * makes by itself (the resolver's) are taken out at once.
 */
#include "worker/upstream/upstream_multi.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"

enum {
	SHARD_ACTIVE = 48,                    /* transfers of one multi */
	SHARD_CONNECTIONS = 2 * SHARD_ACTIVE, /* beyond active and idle ones, or
					       * finished ones are closed */
	SHARD_IDLE_MS = 60 * 1000
};

struct shard {
	struct shards *all;
	CURLM *multi;
	struct event timer;
	unsigned active;
	int64_t idle_since_ms; /* valid while active is 0 */
};

/* The shards of one proxy. */
struct lane {
	TAILQ_ENTRY(lane) link;
	char *proxy;
	struct shard **shards;
	size_t nshards, cap;
};

struct sock {
	struct event event;
	struct shard *shard;
	short armed;  /* EV_* registered with libevent */
	short wanted; /* EV_* that libcurl asks for */
	bool ours;    /* opened and closed through us */
};

TAILQ_HEAD(lane_list, lane);

struct shards {
	struct event_base *base;
	struct shards_events events;
	void *ctx;
	struct lane_list lanes; /* the last used first */
	struct sock **socks;    /* by descriptor */
	size_t nsocks;
};

/* After every return from libcurl that may have moved transfers. */
static void
shard_turn(struct shard *s)
{
	struct shards *ss = s->all;
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(s->multi, &left)) != NULL)
		if (msg->msg == CURLMSG_DONE)
			ss->events.done(
			    ss->ctx, msg->easy_handle, msg->data.result);
	ss->events.turn(ss->ctx);
}

static void
shard_act(struct shard *s, curl_socket_t fd, int bits)
{
	int running;
	CURLMcode rc = curl_multi_socket_action(s->multi, fd, bits, &running);

	if (rc != CURLM_OK)
		log_error("libcurl: %s", curl_multi_strerror(rc));
	shard_turn(s);
}

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	shard_act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int
on_timer_change(CURLM *multi UNUSED, long timeout_ms, void *arg)
{
	struct shard *s = arg;
	struct timeval tv = {
		.tv_sec = timeout_ms / 1000,
		.tv_usec = timeout_ms % 1000 * 1000,
	};

	if (timeout_ms < 0)
		return event_del(&s->timer);
	return event_add(&s->timer, &tv);
}

static void
sock_disarm(struct sock *sock)
{
	if (sock->armed != 0)
		(void)event_del(&sock->event);
	sock->armed = 0;
}

static void
sock_ready(struct sock *sock, evutil_socket_t fd, short what)
{
	int bits = 0;

	if ((what & sock->wanted) == 0) {
		sock_disarm(sock);
		return;
	}
	if (what & EV_READ)
		bits |= CURL_CSELECT_IN;
	if (what & EV_WRITE)
		bits |= CURL_CSELECT_OUT;
	shard_act(sock->shard, fd, bits);
}

static void
on_sock(evutil_socket_t fd, short what, void *arg)
{
	sock_ready(arg, fd, what);
}

static struct sock *
sock_find(struct shards *ss, curl_socket_t fd)
{
	return (size_t)fd < ss->nsocks ? ss->socks[fd] : NULL;
}

static void
sock_free(struct shards *ss, curl_socket_t fd)
{
	struct sock *sock = sock_find(ss, fd);

	if (sock == NULL)
		return;
	sock_disarm(sock);
	ss->socks[fd] = NULL;
	free(sock);
}

static struct sock *
sock_new(struct shards *ss, curl_socket_t fd, bool ours)
{
	size_t at = (size_t)fd;
	size_t n = ss->nsocks;

	if (at >= n) {
		while (n <= at)
			n = n == 0 ? 256 : n * 2;
		ss->socks = xreallocarray(ss->socks, n, sizeof(ss->socks[0]));
		memset(ss->socks + ss->nsocks, 0,
		    (n - ss->nsocks) * sizeof(ss->socks[0]));
		ss->nsocks = n;
	}
	sock_free(ss, fd);
	ss->socks[at] = xcalloc(1, sizeof(struct sock));
	ss->socks[at]->ours = ours;
	return ss->socks[at];
}

static curl_socket_t
on_socket_open(
    void *arg, curlsocktype purpose UNUSED, struct curl_sockaddr *address)
{
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
	    address->protocol);

	if (fd < 0)
		return CURL_SOCKET_BAD;
	(void)sock_new(arg, fd, true);
	return fd;
}

static int
on_socket_close(void *arg, curl_socket_t fd)
{
	sock_free(arg, fd);
	return close(fd);
}

/* Makes libevent wait for what libcurl wants; keeps what is there anyway. */
static int
sock_want(struct sock *sock, struct shard *s, curl_socket_t fd, short wanted)
{
	sock->shard = s;
	sock->wanted = wanted;
	if (sock->armed == (wanted | EV_PERSIST))
		return 0;
	sock_disarm(sock);
	if (event_assign(&sock->event, s->all->base, fd, wanted | EV_PERSIST,
		on_sock, sock) != 0 ||
	    event_add(&sock->event, NULL) != 0)
		return -1;
	sock->armed = wanted | EV_PERSIST;
	return 0;
}

static int
on_socket_change(CURL *easy UNUSED, curl_socket_t fd, int what, void *arg,
    void *sockp UNUSED)
{
	struct shard *s = arg;
	struct sock *sock = sock_find(s->all, fd);
	short wanted = 0;

	if (what == CURL_POLL_REMOVE) {
		if (sock != NULL && sock->ours)
			sock->wanted = 0;
		else
			sock_free(s->all, fd);
		return 0;
	}
	if (sock == NULL)
		sock = sock_new(s->all, fd, false);
	if (what & CURL_POLL_IN)
		wanted |= EV_READ;
	if (what & CURL_POLL_OUT)
		wanted |= EV_WRITE;
	return sock_want(sock, s, fd, wanted);
}

static void
shard_free(struct shard *s)
{
	if (s->multi != NULL)
		(void)curl_multi_cleanup(s->multi);
	(void)event_del(&s->timer);
	free(s);
}

static struct shard *
shard_new(struct shards *ss)
{
	struct shard *s = xcalloc(1, sizeof(*s));

	s->all = ss;
	if (evtimer_assign(&s->timer, ss->base, on_timer, s) != 0) {
		free(s);
		return NULL;
	}
	s->multi = curl_multi_init();
	if (s->multi == NULL) {
		shard_free(s);
		return NULL;
	}
	curl_multi_setopt(s->multi, CURLMOPT_SOCKETFUNCTION, on_socket_change);
	curl_multi_setopt(s->multi, CURLMOPT_SOCKETDATA, s);
	curl_multi_setopt(s->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
	curl_multi_setopt(s->multi, CURLMOPT_TIMERDATA, s);
	curl_multi_setopt(s->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	curl_multi_setopt(
	    s->multi, CURLMOPT_MAXCONNECTS, (long)SHARD_CONNECTIONS);
	return s;
}

static struct lane *
lane_get(struct shards *ss, const char *proxy)
{
	struct lane *lane;

	TAILQ_FOREACH (lane, &ss->lanes, link)
		if (strcmp(lane->proxy, proxy) == 0)
			break;
	if (lane == NULL) {
		lane = xcalloc(1, sizeof(*lane));
		lane->proxy = xstrdup(proxy);
		TAILQ_INSERT_HEAD(&ss->lanes, lane, link);
	} else if (lane != TAILQ_FIRST(&ss->lanes)) {
		TAILQ_REMOVE(&ss->lanes, lane, link);
		TAILQ_INSERT_HEAD(&ss->lanes, lane, link);
	}
	return lane;
}

static void
lane_free(struct shards *ss, struct lane *lane)
{
	TAILQ_REMOVE(&ss->lanes, lane, link);
	for (size_t i = 0; i < lane->nshards; i++)
		shard_free(lane->shards[i]);
	free(lane->shards);
	free(lane->proxy);
	free(lane);
}

/* The lowest shard with room, so that the others run empty. */
static struct shard *
lane_shard(struct shards *ss, struct lane *lane)
{
	struct shard *s;

	for (size_t i = 0; i < lane->nshards; i++)
		if (lane->shards[i]->active < SHARD_ACTIVE)
			return lane->shards[i];
	s = shard_new(ss);
	if (s == NULL)
		return NULL;
	xgrow(&lane->shards, &lane->cap, lane->nshards, sizeof(*lane->shards));
	lane->shards[lane->nshards++] = s;
	return s;
}

static void
lane_trim(struct lane *lane, int64_t now_ms)
{
	size_t kept = 0;

	for (size_t i = 0; i < lane->nshards; i++) {
		struct shard *s = lane->shards[i];

		if (s->active == 0 && now_ms - s->idle_since_ms > SHARD_IDLE_MS)
			shard_free(s);
		else
			lane->shards[kept++] = s;
	}
	lane->nshards = kept;
}

struct shards *
shards_new(
    struct event_base *base, const struct shards_events *events, void *ctx)
{
	struct shards *ss = xcalloc(1, sizeof(*ss));

	ss->base = base;
	ss->events = *events;
	ss->ctx = ctx;
	TAILQ_INIT(&ss->lanes);
	return ss;
}

void
shards_free(struct shards *ss)
{
	if (ss == NULL)
		return;
	while (!TAILQ_EMPTY(&ss->lanes))
		lane_free(ss, TAILQ_FIRST(&ss->lanes));
	for (size_t fd = 0; fd < ss->nsocks; fd++)
		sock_free(ss, (curl_socket_t)fd);
	free(ss->socks);
	free(ss);
}

int
shards_prepare(struct shards *ss, CURL *easy)
{
	if (curl_easy_setopt(
		easy, CURLOPT_OPENSOCKETFUNCTION, on_socket_open) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, ss) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION,
		on_socket_close) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, ss) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

int
shards_add(struct shards *ss, const char *proxy, CURL *easy, struct shard **out)
{
	struct shard *s = lane_shard(ss, lane_get(ss, proxy));

	if (s == NULL || curl_multi_add_handle(s->multi, easy) != CURLM_OK)
		return -ENOMEM;
	s->active++;
	*out = s;
	return 0;
}

void
shards_remove(struct shard *s, CURL *easy)
{
	(void)curl_multi_remove_handle(s->multi, easy);
	if (--s->active == 0)
		s->idle_since_ms = clock_boot_ms();
}

void
shards_trim(struct shards *ss)
{
	int64_t now_ms = clock_boot_ms();
	struct lane *lane = TAILQ_FIRST(&ss->lanes);

	while (lane != NULL) {
		struct lane *next = TAILQ_NEXT(lane, link);

		lane_trim(lane, now_ms);
		if (lane->nshards == 0)
			lane_free(ss, lane);
		lane = next;
	}
}
