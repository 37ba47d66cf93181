/* SPDX-License-Identifier: MIT */
#include "master/ledger.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"

STAILQ_HEAD(jobs, ledger_job);

struct ledger {
	struct store *store;
	struct event *event; /* of the descriptor: jobs have run */
	int fd;
	pthread_t thread;

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t work;
	struct jobs waiting, finished;
	bool stopping;
};

static void
tell_loop(struct ledger *l)
{
	const uint64_t one = 1;

	/* It cannot fill up: the loop takes all of it at once. */
	(void)!write(l->fd, &one, sizeof(one));
}

static struct ledger_job *
take_job(struct ledger *l)
{
	struct ledger_job *job;

	(void)pthread_mutex_lock(&l->lock);
	while ((job = STAILQ_FIRST(&l->waiting)) == NULL && !l->stopping)
		(void)pthread_cond_wait(&l->work, &l->lock);
	if (job != NULL)
		STAILQ_REMOVE_HEAD(&l->waiting, entry);
	(void)pthread_mutex_unlock(&l->lock);
	return job;
}

static void *
work(void *arg)
{
	struct ledger *l = arg;
	struct ledger_job *job;

	while ((job = take_job(l)) != NULL) {
		job->run(job, l->store);
		(void)pthread_mutex_lock(&l->lock);
		STAILQ_INSERT_TAIL(&l->finished, job, entry);
		(void)pthread_mutex_unlock(&l->lock);
		tell_loop(l);
	}
	return NULL;
}

static void
deliver(struct ledger *l)
{
	struct jobs finished = STAILQ_HEAD_INITIALIZER(finished);
	struct ledger_job *job;

	(void)pthread_mutex_lock(&l->lock);
	STAILQ_CONCAT(&finished, &l->finished);
	(void)pthread_mutex_unlock(&l->lock);
	while ((job = STAILQ_FIRST(&finished)) != NULL) {
		STAILQ_REMOVE_HEAD(&finished, entry);
		job->done(job);
	}
}

static void
on_finished(evutil_socket_t fd, short what UNUSED, void *arg)
{
	uint64_t count;

	(void)!read(fd, &count, sizeof(count));
	deliver(arg);
}

/* Signals are the loop's: the thread takes none. */
static int
start_thread(struct ledger *l)
{
	sigset_t all, before;
	int error;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&l->thread, NULL, work, l);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

static void
ledger_free(struct ledger *l)
{
	event_free(l->event);
	(void)close(l->fd);
	(void)pthread_cond_destroy(&l->work);
	(void)pthread_mutex_destroy(&l->lock);
	free(l);
}

int
ledger_start(struct event_base *base, struct store *store, struct ledger **out)
{
	struct ledger *l;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	*out = NULL;
	if (fd < 0)
		return -errno;
	l = xcalloc(1, sizeof(*l));
	l->store = store;
	l->fd = fd;
	STAILQ_INIT(&l->waiting);
	STAILQ_INIT(&l->finished);
	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_cond_init(&l->work, NULL);
	l->event = event_new(base, fd, EV_READ | EV_PERSIST, on_finished, l);
	if (l->event == NULL || event_add(l->event, NULL) < 0)
		fatalx("out of memory");
	rc = start_thread(l);
	if (rc < 0)
		ledger_free(l);
	else
		*out = l;
	return rc;
}

void
ledger_submit(struct ledger *l, struct ledger_job *job)
{
	(void)pthread_mutex_lock(&l->lock);
	STAILQ_INSERT_TAIL(&l->waiting, job, entry);
	(void)pthread_cond_signal(&l->work);
	(void)pthread_mutex_unlock(&l->lock);
}

void
ledger_stop(struct ledger *l)
{
	struct ledger_job *job;

	if (l == NULL)
		return;
	(void)pthread_mutex_lock(&l->lock);
	l->stopping = true;
	(void)pthread_cond_signal(&l->work);
	(void)pthread_mutex_unlock(&l->lock);
	(void)pthread_join(l->thread, NULL);
	deliver(l);
	/* What these asked for, with nobody left to wait for. */
	while ((job = take_job(l)) != NULL) {
		job->run(job, l->store);
		job->done(job);
	}
	ledger_free(l);
}
