/* SPDX-License-Identifier: MIT */
/*
 * Threads share one struct with the loop: two lists of jobs under a mutex,
 * and an eventfd(2) that wakes the loop. Questions and what is known of names
 * belong to the loop alone, so a cancelled question costs nothing and waits
 * for nobody. A thread that is still inside getaddrinfo(3) when the resolver
 * goes keeps the struct alive and frees it when it returns.
 */
#include "worker/upstream/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/str.h"

enum {
	KEEP_MS = 60 * 1000,
	NAMES_MAX = 512,
	JOBS_MAX = 128,
	THREADS_MAX = 4,
	STACK_BYTES = 256 * 1024
};

/* One call of getaddrinfo(3). */
struct job {
	STAILQ_ENTRY(job) link;
	struct name *name; /* the loop's; a thread does not look at it */
	char *host;
	struct endpoints found;
	const char *why; /* a static text, if nothing was found */
};

STAILQ_HEAD(job_list, job);

struct shared {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct job_list todo, done;
	int wake_fd;
	unsigned threads, idle;
	bool stop; /* the loop is gone; the last thread frees this */
};

/* What is known of a name. */
struct name {
	TAILQ_ENTRY(name) link; /* the last used first */
	char *host;
	struct job *job; /* under way, or NULL */
	TAILQ_HEAD(, question) questions;
	struct endpoints found;
	int64_t until_ms; /* 0: nothing is known */
};

TAILQ_HEAD(name_list, name);

struct resolver {
	struct event wake;
	struct shared *shared;
	struct name_list names;
	size_t nnames;
	size_t njobs;
};

/* ---- addresses */

socklen_t
endpoint_len(const union endpoint *a)
{
	return a->sa.sa_family == AF_INET6 ? sizeof(a->in6) : sizeof(a->in);
}

void
endpoint_set_port(union endpoint *a, uint16_t port)
{
	if (a->sa.sa_family == AF_INET6)
		a->in6.sin6_port = htons(port);
	else
		a->in.sin_port = htons(port);
}

bool
endpoint_parse(union endpoint *a, const char *host)
{
	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, host, &a->in.sin_addr) == 1) {
		a->sa.sa_family = AF_INET;
		return true;
	}
	if (inet_pton(AF_INET6, host, &a->in6.sin6_addr) == 1) {
		a->sa.sa_family = AF_INET6;
		return true;
	}
	return false;
}

static void
add_address(struct endpoints *list, const struct addrinfo *ai)
{
	union endpoint *a = &list->at[list->n];

	if (list->n == ENDPOINTS_MAX || ai->ai_addrlen > sizeof(*a))
		return;
	memset(a, 0, sizeof(*a));
	memcpy(a, ai->ai_addr, ai->ai_addrlen);
	list->n++;
}

static const struct addrinfo *
next_of_family(const struct addrinfo *ai, int family)
{
	while (ai != NULL && ai->ai_family != family)
		ai = ai->ai_next;
	return ai;
}

/* In the system's order, but the families take turns. */
static void
take_found(struct endpoints *list, const struct addrinfo *first)
{
	int families[2] = { AF_INET, AF_INET6 };
	const struct addrinfo *next[2];

	if (first->ai_family == AF_INET6) {
		families[0] = AF_INET6;
		families[1] = AF_INET;
	}
	for (int i = 0; i < 2; i++)
		next[i] = next_of_family(first, families[i]);
	for (int i = 0; next[0] != NULL || next[1] != NULL; i = !i) {
		if (next[i] == NULL)
			continue;
		add_address(list, next[i]);
		next[i] = next_of_family(next[i]->ai_next, families[i]);
	}
}

static bool
is_localhost(const char *host)
{
	static const struct span suffix = SPAN("localhost");
	struct span s = span_of(host);

	if (s.len > 0 && s.p[s.len - 1] == '.')
		s.len--;
	if (s.len < suffix.len ||
	    strncasecmp(s.p + s.len - suffix.len, suffix.p, suffix.len) != 0)
		return false;
	return s.len == suffix.len || s.p[s.len - suffix.len - 1] == '.';
}

static bool
known_by_itself(const char *host, struct endpoints *out)
{
	if (endpoint_parse(&out->at[0], host)) {
		out->n = 1;
		return true;
	}
	if (!is_localhost(host))
		return false;
	(void)endpoint_parse(&out->at[0], "127.0.0.1");
	(void)endpoint_parse(&out->at[1], "::1");
	out->n = 2;
	return true;
}

/* ---- threads */

static void
job_free(struct job *job)
{
	free(job->host);
	free(job);
}

static void
jobs_free(struct job_list *list)
{
	struct job *job;

	while ((job = STAILQ_FIRST(list)) != NULL) {
		STAILQ_REMOVE_HEAD(list, link);
		job_free(job);
	}
}

static void
shared_free(struct shared *s)
{
	jobs_free(&s->todo);
	jobs_free(&s->done);
	(void)pthread_cond_destroy(&s->work);
	(void)pthread_mutex_destroy(&s->lock);
	(void)close(s->wake_fd);
	free(s);
}

static void
job_run(struct job *job)
{
	const struct addrinfo hints = {
		.ai_flags = AI_ADDRCONFIG,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(job->host, NULL, &hints, &found);

	if (rc != 0) {
		job->why = gai_strerror(rc);
		return;
	}
	take_found(&job->found, found);
	freeaddrinfo(found);
	if (job->found.n == 0)
		job->why = "it has no address";
}

/* With the lock held, but for the time of the question itself. */
static void
work_once(struct shared *s)
{
	struct job *job = STAILQ_FIRST(&s->todo);
	static const uint64_t one = 1;

	STAILQ_REMOVE_HEAD(&s->todo, link);
	(void)pthread_mutex_unlock(&s->lock);
	job_run(job);
	(void)pthread_mutex_lock(&s->lock);
	STAILQ_INSERT_TAIL(&s->done, job, link);
	(void)!write(s->wake_fd, &one, sizeof(one));
}

static void *
thread_main(void *arg)
{
	struct shared *s = arg;
	bool last;

	(void)pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		if (!STAILQ_EMPTY(&s->todo)) {
			work_once(s);
			continue;
		}
		s->idle++;
		(void)pthread_cond_wait(&s->work, &s->lock);
		s->idle--;
	}
	last = --s->threads == 0;
	(void)pthread_mutex_unlock(&s->lock);
	if (last)
		shared_free(s);
	return NULL;
}

/* Signals are for the loop's thread. */
static int
thread_start(struct shared *s)
{
	pthread_attr_t attr;
	sigset_t all, before;
	pthread_t thread;
	int rc;

	(void)sigfillset(&all);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attr, thread_main, s);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return -rc;
}

/* Hands a job over; 0 or negative errno when nobody is there to take it. */
static int
shared_add(struct shared *s, struct job *job)
{
	int rc = 0;

	(void)pthread_mutex_lock(&s->lock);
	STAILQ_INSERT_TAIL(&s->todo, job, link);
	if (s->idle > 0) {
		(void)pthread_cond_signal(&s->work);
	} else if (s->threads < THREADS_MAX) {
		rc = thread_start(s);
		if (rc == 0)
			s->threads++;
		else if (s->threads > 0)
			rc = 0;
		else
			STAILQ_REMOVE(&s->todo, job, job, link);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

static struct shared *
shared_new(void)
{
	struct shared *s = xcalloc(1, sizeof(*s));

	STAILQ_INIT(&s->todo);
	STAILQ_INIT(&s->done);
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->work, NULL);
	s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return s;
}

/* ---- names */

static void
name_free(struct resolver *r, struct name *name)
{
	TAILQ_REMOVE(&r->names, name, link);
	r->nnames--;
	free(name->host);
	free(name);
}

static void
name_touch(struct resolver *r, struct name *name)
{
	TAILQ_REMOVE(&r->names, name, link);
	TAILQ_INSERT_HEAD(&r->names, name, link);
}

/* The one not used for the longest that nobody waits for. */
static bool
make_room(struct resolver *r)
{
	struct name *name;

	if (r->nnames < NAMES_MAX)
		return true;
	TAILQ_FOREACH_REVERSE(name, &r->names, name_list, link)
	if (name->job == NULL)
		break;
	if (name != NULL)
		name_free(r, name);
	return name != NULL;
}

static struct name *
name_get(struct resolver *r, const char *host)
{
	struct name *name;

	TAILQ_FOREACH (name, &r->names, link) {
		if (strcasecmp(name->host, host) != 0)
			continue;
		name_touch(r, name);
		return name;
	}
	if (!make_room(r))
		return NULL;
	name = xcalloc(1, sizeof(*name));
	name->host = xstrdup(host);
	TAILQ_INIT(&name->questions);
	TAILQ_INSERT_HEAD(&r->names, name, link);
	r->nnames++;
	return name;
}

static int
name_look_up(struct resolver *r, struct name *name)
{
	struct job *job;
	int rc;

	if (r->njobs >= JOBS_MAX)
		return -EAGAIN;
	job = xcalloc(1, sizeof(*job));
	job->name = name;
	job->host = xstrdup(name->host);
	rc = shared_add(r->shared, job);
	if (rc != 0) {
		job_free(job);
		return rc;
	}
	name->job = job;
	r->njobs++;
	return 0;
}

/* Everybody who waits is told; one may cancel another's question meanwhile. */
static void
name_tell(struct name *name, const char *why)
{
	struct question *q;

	while ((q = TAILQ_FIRST(&name->questions)) != NULL) {
		resolver_cancel(q);
		q->answered(q, why == NULL ? &name->found : NULL, why);
	}
}

static void
job_done(struct resolver *r, struct job *job)
{
	struct name *name = job->name;

	r->njobs--;
	name->until_ms = 0;
	if (job->why == NULL) {
		name->found = job->found;
		name->until_ms = clock_boot_ms() + KEEP_MS;
	}
	/* Under way until all are told, so that it is not let go meanwhile. */
	name_tell(name, job->why);
	name->job = NULL;
	job_free(job);
}

static void
resolver_collect(struct resolver *r)
{
	struct shared *s = r->shared;
	struct job_list done = STAILQ_HEAD_INITIALIZER(done);
	struct job *job;
	uint64_t count;

	(void)!read(s->wake_fd, &count, sizeof(count));
	(void)pthread_mutex_lock(&s->lock);
	STAILQ_CONCAT(&done, &s->done);
	(void)pthread_mutex_unlock(&s->lock);
	while ((job = STAILQ_FIRST(&done)) != NULL) {
		STAILQ_REMOVE_HEAD(&done, link);
		job_done(r, job);
	}
}

static void
on_wake(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	resolver_collect(arg);
}

/* ---- the face */

struct resolver *
resolver_new(struct event_base *base)
{
	struct resolver *r = xcalloc(1, sizeof(*r));

	TAILQ_INIT(&r->names);
	r->shared = shared_new();
	if (r->shared->wake_fd < 0 ||
	    event_assign(&r->wake, base, r->shared->wake_fd,
		EV_READ | EV_PERSIST, on_wake, r) != 0 ||
	    event_add(&r->wake, NULL) != 0) {
		shared_free(r->shared);
		free(r);
		return NULL;
	}
	return r;
}

void
resolver_free(struct resolver *r)
{
	struct shared *s;
	bool last;

	if (r == NULL)
		return;
	s = r->shared;
	(void)event_del(&r->wake);
	while (!TAILQ_EMPTY(&r->names))
		name_free(r, TAILQ_FIRST(&r->names));
	(void)pthread_mutex_lock(&s->lock);
	s->stop = true;
	last = s->threads == 0;
	(void)pthread_cond_broadcast(&s->work);
	(void)pthread_mutex_unlock(&s->lock);
	if (last)
		shared_free(s);
	free(r);
}

int
resolver_ask(struct resolver *r, const char *host, struct question *q,
    struct endpoints *out)
{
	struct name *name;
	int rc = 0;

	q->name = NULL;
	if (known_by_itself(host, out))
		return 0;
	name = name_get(r, host);
	if (name == NULL)
		return -EAGAIN;
	if (name->until_ms > clock_boot_ms()) {
		*out = name->found;
		return 0;
	}
	if (name->job == NULL)
		rc = name_look_up(r, name);
	if (rc != 0)
		return rc;
	q->name = name;
	TAILQ_INSERT_TAIL(&name->questions, q, link);
	return RESOLVE_LATER;
}

void
resolver_cancel(struct question *q)
{
	if (q->name == NULL)
		return;
	TAILQ_REMOVE(&q->name->questions, q, link);
	q->name = NULL;
}
