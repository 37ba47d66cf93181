/* SPDX-License-Identifier: MIT */
/* Watching auth-dir and models-file by inotify(7); see watch.h. */
#include "master/credential/watch.h"

#include <errno.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/credential/credfile.h"
#include "master/credential/name_map.h"

enum {
	GATHER_MS = 100, /* events wait for one to two of these */
	LOOK_MS = 2000,  /* between looks for a directory that is gone */
	POLL_MS = 60000, /* without inotify */
	EVENT_BYTES = 65536
};

static const uint32_t watch_mask =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
    IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;

/* Before the second, third, ... try of what could not be read. */
static const int retry_ms[] = { 250, 1000, 4000, 15000, 60000 };

/* Something to do at a time, and how often it was tried. */
struct job {
	bool wanted;
	int64_t due_ms; /* of the monotonic clock */
	unsigned tries;
};

/* A name in auth-dir that something happened to. */
struct dirty {
	char *name; /* first: the key of maps */
	bool unlinked;
	struct job job;
};

/* A directory, by its path. */
struct folder {
	char *path; /* NULL: none yet */
	int wd;     /* -1: not watched now */
};

struct watch {
	struct registry *registry;
	int fd;
	struct event *readable;
	struct event *timer;
	struct folder auth;
	struct folder models;
	char *models_name; /* in its folder */
	struct name_map dirty;
	struct job rescan;
	struct job catalog;
	struct job look; /* for directories that are not watched */
	bool poll;       /* inotify has no room: look at everything instead */
	bool held;
};

static int64_t
now_ms(void)
{
	return clock_mono_us() / 1000;
}

/* ---- jobs */

/* On a grid, so that what happens together is done together. */
static void
job_want(struct job *job)
{
	if (job->wanted && job->tries == 0)
		return;
	*job = (struct job){
		.wanted = true,
		.due_ms = (now_ms() / GATHER_MS + 2) * GATHER_MS,
	};
}

static bool
job_is_due(const struct job *job, int64_t now)
{
	return job->wanted && job->due_ms <= now;
}

/*
 * After a try. A transaction that failed is tried for ever, a file that
 * cannot be read until the delays are used up; then it takes an event.
 */
static void
job_done(struct job *job, int result)
{
	size_t last = ARRAY_LEN(retry_ms) - 1;

	if (result >= 0 && result != REGISTRY_RETRY) {
		job->wanted = false;
		return;
	}
	if (result == REGISTRY_RETRY && job->tries > last) {
		job->wanted = false;
		return;
	}
	job->due_ms =
	    now_ms() + retry_ms[job->tries < last ? job->tries : last];
	job->tries++;
}

static void
earliest(const struct job *job, int64_t *due_ms)
{
	if (job->wanted && (*due_ms < 0 || job->due_ms < *due_ms))
		*due_ms = job->due_ms;
}

/* Sets the timer to the first job that is due. */
static void
arm(struct watch *w)
{
	const struct dirty *d;
	struct timeval tv;
	int64_t due_ms = -1;
	int64_t wait_ms;
	size_t i;

	(void)event_del(w->timer);
	if (w->held)
		return;
	earliest(&w->rescan, &due_ms);
	earliest(&w->catalog, &due_ms);
	earliest(&w->look, &due_ms);
	for (i = 0; i < w->dirty.n; i++) {
		d = w->dirty.v[i];
		earliest(&d->job, &due_ms);
	}
	if (due_ms < 0)
		return;
	wait_ms = due_ms - now_ms();
	if (wait_ms < 0)
		wait_ms = 0;
	tv.tv_sec = wait_ms / 1000;
	tv.tv_usec = wait_ms % 1000 * 1000;
	(void)event_add(w->timer, &tv);
}

static void
dirty_free(struct dirty *d)
{
	if (d == NULL)
		return;
	free(d->name);
	free(d);
}

static void
forget_dirty(struct watch *w)
{
	size_t i;

	for (i = 0; i < w->dirty.n; i++)
		dirty_free(w->dirty.v[i]);
	name_map_fini(&w->dirty);
}

static void
mark(struct watch *w, const char *name, bool unlinked)
{
	struct dirty *d = name_map_find(&w->dirty, name);

	if (d == NULL) {
		d = xcalloc(1, sizeof(*d));
		d->name = xstrdup(name);
		(void)name_map_put(&w->dirty, d);
	}
	d->unlinked = d->unlinked || unlinked;
	job_want(&d->job);
}

/* ---- directories */

static void
unwatch(struct watch *w, struct folder *f)
{
	int wd = f->wd;

	f->wd = -1;
	if (wd >= 0 && w->auth.wd != wd && w->models.wd != wd)
		(void)inotify_rm_watch(w->fd, wd);
}

/* 0, also if it is not there and will be looked for; or negative errno. */
static int
watch_folder(struct watch *w, struct folder *f)
{
	if (f->path == NULL || f->wd >= 0)
		return 0;
	f->wd = inotify_add_watch(w->fd, f->path, watch_mask);
	if (f->wd >= 0)
		return 0;
	w->look.wanted = true;
	w->look.due_ms = now_ms() + LOOK_MS;
	if (errno != ENOSPC && errno != ENOMEM)
		return 0;
	w->look.due_ms = now_ms() + POLL_MS;
	w->poll = true;
	return -errno;
}

/* Of a directory that is watched again nothing is known. */
static void
look(struct watch *w)
{
	bool auth_was = w->auth.wd >= 0;
	bool models_was = w->models.wd >= 0;

	w->look.wanted = false;
	w->poll = false;
	(void)watch_folder(w, &w->auth);
	(void)watch_folder(w, &w->models);
	if (w->poll || (w->auth.wd >= 0 && !auth_was))
		job_want(&w->rescan);
	if (w->poll || (w->models.wd >= 0 && !models_was))
		job_want(&w->catalog);
}

static void
lose(struct watch *w, struct folder *f)
{
	log_notice("%s was removed or replaced", f->path);
	unwatch(w, f);
	w->look.wanted = true;
	w->look.due_ms = now_ms() + GATHER_MS;
}

/* Whether the path is another than before. */
static bool
change_folder(struct watch *w, struct folder *f, const char *path)
{
	if (f->path != NULL && strcmp(f->path, path) == 0)
		return false;
	unwatch(w, f);
	free(f->path);
	f->path = xstrdup(path);
	return true;
}

static void
follow_auth(struct watch *w, const char *dir)
{
	bool first = w->auth.path == NULL;

	if (!change_folder(w, &w->auth, dir))
		return;
	forget_dirty(w);
	if (!first)
		job_want(&w->rescan);
}

static void
follow_models(struct watch *w, const char *path)
{
	AUTO_FREE char *dir_text = xstrdup(path);
	AUTO_FREE char *base_text = xstrdup(path);
	const char *name = basename(base_text);
	bool first = w->models.path == NULL;
	bool same = !first && strcmp(w->models_name, name) == 0;

	if (!change_folder(w, &w->models, dirname(dir_text)) && same)
		return;
	free(w->models_name);
	w->models_name = xstrdup(name);
	if (!first)
		job_want(&w->catalog);
}

int
watch_follow(struct watch *w, const struct config *config)
{
	int rc, models_rc;

	follow_auth(w, config->auth_dir);
	follow_models(w, config->models_file);
	w->poll = false;
	rc = watch_folder(w, &w->auth);
	models_rc = watch_folder(w, &w->models);
	arm(w);
	return rc < 0 ? rc : models_rc;
}

/* ---- events */

/*
 * A file that was only made comes again when it is closed. What is made whole
 * is a link, symbolic or hard.
 */
static bool
is_made_whole(const struct watch *w, const char *name)
{
	AUTO_FREE char *path = xasprintf("%s/%s", w->auth.path, name);
	struct stat st;

	return lstat(path, &st) == 0 &&
	       (S_ISLNK(st.st_mode) || st.st_nlink > 1);
}

static void
on_auth_event(struct watch *w, const char *name, uint32_t mask)
{
	/* Links to credentials may lead through one that was replaced. */
	if (strncmp(name, "..", 2) == 0 && (mask & IN_MOVED_TO) != 0)
		job_want(&w->rescan);
	if (!credfile_is_name(name) || (mask & IN_ISDIR) != 0)
		return;
	if ((mask & IN_CREATE) != 0 && !is_made_whole(w, name))
		return;
	mark(w, name, (mask & IN_DELETE) != 0);
}

static void
on_folder_event(
    struct watch *w, struct folder *f, const struct inotify_event *e)
{
	if ((e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0) {
		lose(w, f);
		return;
	}
	if (e->len == 0)
		return;
	if (f == &w->auth)
		on_auth_event(w, e->name, e->mask);
	else if (strcmp(e->name, w->models_name) == 0)
		job_want(&w->catalog);
}

static void
on_inotify_event(struct watch *w, const struct inotify_event *e)
{
	int wd = e->wd;

	if ((e->mask & IN_Q_OVERFLOW) != 0) {
		log_notice("file events were lost: looking at all files");
		job_want(&w->rescan);
		job_want(&w->catalog);
		return;
	}
	/* Both folders may be the same directory. */
	if (w->auth.wd == wd)
		on_folder_event(w, &w->auth, e);
	if (w->models.wd == wd)
		on_folder_event(w, &w->models, e);
}

static void
read_events(struct watch *w)
{
	char buf[EVENT_BYTES] __attribute__((aligned(8)));
	const struct inotify_event *e;
	const char *p;
	ssize_t n;

	while ((n = read(w->fd, buf, sizeof(buf))) > 0) {
		for (p = buf; p < buf + n; p += sizeof(*e) + e->len) {
			e = (const void *)p;
			on_inotify_event(w, e);
		}
	}
	arm(w);
}

static void
on_readable(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	read_events(arg);
}

/* ---- doing what is due */

static struct registry_change *
collect_due(const struct watch *w, int64_t now, size_t *n)
{
	struct registry_change *changes = xcalloc(w->dirty.n, sizeof(*changes));
	const struct dirty *d;
	size_t i;

	*n = 0;
	for (i = 0; i < w->dirty.n; i++) {
		d = w->dirty.v[i];
		if (job_is_due(&d->job, now))
			changes[(*n)++] =
			    (struct registry_change){ .name = d->name,
				    .unlinked = d->unlinked };
	}
	return changes;
}

static void
do_files(struct watch *w, int64_t now)
{
	struct registry_change *changes;
	struct dirty *d;
	size_t i, n;
	int rc;

	changes = collect_due(w, now, &n);
	rc = registry_files_changed(w->registry, changes, n);
	if (rc < 0)
		log_warn_e(rc, "cannot publish changed credentials");
	for (i = 0; i < n; i++) {
		d = name_map_find(&w->dirty, changes[i].name);
		job_done(&d->job, rc < 0 ? rc : changes[i].result);
		if (!d->job.wanted)
			dirty_free(name_map_remove(&w->dirty, d->name));
	}
	free(changes);
}

static void
do_rescan(struct watch *w)
{
	int rc = registry_rescan(w->registry);

	if (rc < 0)
		log_warn_e(rc, "cannot publish changed credentials");
	job_done(&w->rescan, rc);
}

static void
do_catalog(struct watch *w)
{
	int rc = registry_catalog_changed(w->registry);

	if (rc < 0)
		log_warn_e(rc, "cannot publish a changed models-file");
	job_done(&w->catalog, rc);
}

static void
do_due(struct watch *w)
{
	int64_t now = now_ms();

	if (job_is_due(&w->look, now))
		look(w);
	if (job_is_due(&w->rescan, now))
		do_rescan(w);
	do_files(w, now);
	if (job_is_due(&w->catalog, now))
		do_catalog(w);
	arm(w);
}

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	do_due(arg);
}

void
watch_hold(struct watch *w)
{
	w->held = true;
	arm(w);
}

void
watch_release(struct watch *w)
{
	w->held = false;
	arm(w);
}

static int
open_events(struct watch *w, struct event_base *base)
{
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0)
		return -errno;
	w->readable =
	    event_new(base, w->fd, EV_READ | EV_PERSIST, on_readable, w);
	w->timer = event_new(base, -1, 0, on_timer, w);
	if (w->readable == NULL || w->timer == NULL ||
	    event_add(w->readable, NULL) < 0)
		return -ENOMEM;
	return 0;
}

int
watch_new(
    struct event_base *base, struct registry *registry, struct watch **out)
{
	struct watch *w = xcalloc(1, sizeof(*w));
	int rc;

	w->registry = registry;
	w->auth.wd = -1;
	w->models.wd = -1;
	w->held = true;
	rc = open_events(w, base);
	if (rc < 0) {
		watch_free(w);
		return rc;
	}
	*out = w;
	return 0;
}

void
watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	if (w->readable != NULL)
		event_free(w->readable);
	if (w->timer != NULL)
		event_free(w->timer);
	if (w->fd >= 0)
		(void)close(w->fd);
	forget_dirty(w);
	free(w->auth.path);
	free(w->models.path);
	free(w->models_name);
	free(w);
}
