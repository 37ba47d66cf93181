/* SPDX-License-Identifier: MIT */
#include "master/upgrade/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "build.h"
#include "common/alloc.h"
#include "common/log.h"
#include "master/control/control.h"
#include "master/listen.h"
#include "master/master.h"
#include "master/privdrop.h"
#include "master/refresh/refresh.h"
#include "master/reload.h"
#include "master/slot.h"
#include "master/start.h"
#include "master/upgrade/handover.h"
#include "master/upgrade/probe.h"
#include "master/workers.h"

enum {
	ARGS_MAX = 16,
	WHY_MAX = 64 * 1024,
	QUIET_LOOK_MS = 10,
	CLIENT_LOOKS = 50
};

/* What the new program is asked before it is trusted. */
enum question { ASK_LAYOUTS, ASK_CONFIG, QUESTIONS };

struct upgrade {
	struct master *master;
	enum question question;
	struct probe *probe; /* NULL: none is under way */
	struct event *quiet; /* looks whether there is something to await */
	int looks;           /* while there were only clients */
	bool refreshes_end;  /* none begins any more */
	bool refreshed;      /* and none is under way */
};

static void ask(struct upgrade *u, enum question question);
static void on_refreshed(void *ctx);
static void on_quiet(evutil_socket_t fd, short what, void *arg);

struct upgrade *
upgrade_new(struct master *master)
{
	struct upgrade *u = xcalloc(1, sizeof(*u));

	u->master = master;
	u->quiet = evtimer_new(master->base, on_quiet, u);
	if (u->quiet == NULL)
		fatalx("out of memory");
	return u;
}

void
upgrade_free(struct upgrade *u)
{
	if (u == NULL)
		return;
	probe_free(u->probe);
	event_free(u->quiet);
	free(u);
}

static void
fail(struct upgrade *u, const char *why)
{
	probe_free(u->probe);
	u->probe = NULL;
	(void)evtimer_del(u->quiet);
	log_error("upgrade failed, fairlead " FAIRLEAD_VERSION
		  " serves on: %.*s",
	    (int)strcspn(why, "\n"), why);
	u->refreshes_end = false;
	refresh_resume(u->master->refresher);
	control_upgraded(u->master->control, why);
}

/* ---- the exec */

/* As it was started; what is relative was made absolute then. */
static void
make_arguments(const struct options *o, char **argv)
{
	static char foreground[] = "-f", config[] = "-c", pidfile[] = "-p",
		    verbose[] = "-v";
	int i, n = 0;

	argv[n++] = o->program_path;
	if (o->foreground)
		argv[n++] = foreground;
	argv[n++] = config;
	argv[n++] = o->config_path;
	if (o->pid_path != NULL) {
		argv[n++] = pidfile;
		argv[n++] = o->pid_path;
	}
	for (i = 0; i < o->verbose && n < ARGS_MAX; i++)
		argv[n++] = verbose;
	argv[n] = NULL;
}

static cJSON *
describe(const struct master *m)
{
	cJSON *doc = cJSON_CreateObject();

	handover_prepare();
	handover_put_number(doc, "handover", HANDOVER_VERSION);
	(void)cJSON_AddStringToObject(doc, "version", FAIRLEAD_VERSION);
	start_hand_over(m, doc);
	reload_hand_over(m->reload, doc);
	listen_hand_over(
	    m->listeners, cJSON_AddArrayToObject(doc, "listeners"));
	workers_hand_over(m->workers, doc);
	control_hand_over(m->control, cJSON_AddObjectToObject(doc, "control"));
	return doc;
}

/* Executes a program; returns only if that failed. Negative errno. */
static int
execute(struct master *m, const cJSON *doc, int program)
{
	char *argv[ARGS_MAX + 1];
	int rc;

	make_arguments(m->options, argv);
	privileges_keep_over_exec();
	rc = handover_exec(doc, program, m->options->program_path, argv);
	privileges_end_keeping();
	return rc;
}

static void
put_way_back(const struct master *m, cJSON *doc, int own)
{
	cJSON *previous = cJSON_AddObjectToObject(doc, "previous");

	handover_put_fd(previous, "program", own);
	handover_put_fd(previous, "workers", workers_program(m->workers));
}

/* The databases are closed: if need be this program starts again. */
static NORETURN void
replace_with(struct master *m, cJSON *doc, int own)
{
	AUTO_FREE char *why = NULL;
	int rc;

	put_way_back(m, doc, own);
	rc = execute(m, doc, -1);
	why = xasprintf(
	    "cannot execute %s: %s", m->options->program_path, strerror(-rc));
	(void)cJSON_AddStringToObject(doc, "failure", why);
	cJSON_DeleteItemFromObject(doc, "previous");
	handover_put_fd(doc, "workers", workers_program(m->workers));
	rc = execute(m, doc, own);
	fatal_e(rc, "cannot execute this program again");
}

static void
replace(struct upgrade *u)
{
	struct master *m = u->master;
	int own = open("/proc/self/exe", O_PATH | O_CLOEXEC);

	if (own < 0) {
		fail(u, "this program cannot be opened, to go back to it");
		return;
	}
	probe_free(u->probe);
	u->probe = NULL;
	log_notice("upgrade: %s takes over", m->options->program_path);
	start_quiesce(m);
	replace_with(m, describe(m), own);
}

/*
 * A reload that began meanwhile has its end, refreshes that are on their way
 * too, and clients of the control socket their answers, unless they take too
 * long.
 */
static bool
is_quiet(struct upgrade *u)
{
	struct master *m = u->master;

	if (reload_is_busy(m->reload))
		return false;
	if (!u->refreshes_end) {
		u->refreshes_end = true;
		u->refreshed = refresh_end(m->refresher, on_refreshed, u);
	}
	return u->refreshed &&
	       (control_is_quiet(m->control) || ++u->looks > CLIENT_LOOKS);
}

static void
on_refreshed(void *ctx)
{
	((struct upgrade *)ctx)->refreshed = true;
}

static void
replace_when_quiet(struct upgrade *u)
{
	const struct timeval soon = { 0, QUIET_LOOK_MS * 1000 };

	if (is_quiet(u))
		replace(u);
	else
		(void)evtimer_add(u->quiet, &soon);
}

static void
on_quiet(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	replace_when_quiet(arg);
}

/* ---- before it */

static void
take_answer(struct upgrade *u, int status, const char *text)
{
	char layouts[HANDOVER_LAYOUTS_MAX];
	const char *path = u->master->options->program_path;
	struct buf why = BUF_INIT(WHY_MAX);

	handover_layouts(layouts, sizeof(layouts));
	if (status != 0)
		buf_printf(&why, "%s is not fit to take over: %s", path,
		    *text != '\0' ? text : "it ended without a word");
	else if (u->question == ASK_LAYOUTS && strstr(text, layouts) == NULL)
		buf_printf(&why,
		    "%s cannot take over from this program (it has other "
		    "layouts than \"%s\"): stop and start instead",
		    path, layouts);
	if (why.len > 0)
		fail(u, buf_string(&why));
	else if (u->question + 1 < QUESTIONS)
		ask(u, u->question + 1);
	else
		replace_when_quiet(u);
	buf_fini(&why);
}

static void
on_answer(void *ctx, int status, const char *text)
{
	take_answer(ctx, status, text);
}

static void
ask(struct upgrade *u, enum question question)
{
	static char versions[] = "-V", test[] = "-t", config[] = "-c";
	const struct options *o = u->master->options;
	char *const layouts[] = { o->program_path, versions, NULL };
	char *const configs[] = { o->program_path, test, config, o->config_path,
		NULL };
	int rc;

	probe_free(u->probe);
	u->question = question;
	rc = probe_start(u->master->base,
	    question == ASK_LAYOUTS ? layouts : configs, on_answer, u,
	    &u->probe);
	if (rc < 0)
		fail(u, strerror(-rc));
}

int
upgrade_begin(struct upgrade *u, struct buf *why)
{
	struct master *m = u->master;

	if (u->probe != NULL)
		buf_puts(why, "an upgrade is under way");
	else if (m->state != MASTER_SERVING)
		buf_puts(why, "the daemon is starting or ending");
	if (why->len > 0)
		return -EBUSY;
	u->looks = 0;
	ask(u, ASK_LAYOUTS);
	return 0;
}

void
upgrade_abort(struct upgrade *u)
{
	if (u != NULL && u->probe != NULL)
		fail(u, "the daemon is ending");
}

void
upgrade_child_ended(struct upgrade *u, pid_t pid, int status)
{
	if (u != NULL && u->probe != NULL)
		probe_child_ended(u->probe, pid, status);
}

/* ---- after it */

static void
close_way_back(cJSON *handover)
{
	const cJSON *previous = cJSON_GetObjectItem(handover, "previous");
	int program = handover_take_fd(previous, "program");
	int workers = handover_take_fd(previous, "workers");

	if (program >= 0)
		(void)close(program);
	if (workers >= 0)
		(void)close(workers);
}

void
upgrade_served(struct master *m)
{
	const char *failure;

	if (m->handover == NULL)
		return;
	failure = handover_string(m->handover, "failure");
	if (*failure == '\0') {
		close_way_back(m->handover);
		log_notice("upgraded from fairlead %s to " FAIRLEAD_VERSION,
		    handover_string(m->handover, "version"));
		control_upgraded(m->control, NULL);
	} else {
		log_error("upgrade failed, fairlead " FAIRLEAD_VERSION
			  " serves on: %s",
		    failure);
		control_upgraded(m->control, failure);
	}
	cJSON_Delete(m->handover);
	m->handover = NULL;
}

/* Descriptors that were taken are open over the next exec again. */
static void
keep_open(const cJSON *item)
{
	const char *const names[] = { "fd", "control", "socket", "state_lock",
		"runtime_lock", "workers", "program" };
	const cJSON *child;
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++) {
		if (handover_take_fd(item, names[i]) >= 0)
			(void)fcntl(
			    (int)handover_number(item, names[i]), F_SETFD, 0);
	}
	cJSON_ArrayForEach (child, item)
		keep_open(child);
}

/*
 * What the program before left is still all there if the set-up was not
 * completed; after that workers may have died, and it is written anew.
 */
static cJSON *
describe_again(struct master *m)
{
	cJSON *doc;

	if (m->upgrade == NULL) {
		doc = cJSON_Duplicate(m->handover, true);
		handover_prepare();
		keep_open(doc);
	} else {
		doc = describe(m);
	}
	cJSON_DeleteItemFromObject(doc, "previous");
	return doc;
}

void
upgrade_go_back(struct master *m, const char *why)
{
	const cJSON *previous = cJSON_GetObjectItem(m->handover, "previous");
	int program = handover_take_fd(previous, "program");
	cJSON *doc;
	int rc;

	if (program < 0)
		return;
	log_error("upgrade: %.*s; the program before takes over again",
	    (int)strcspn(why, "\n"), why);
	doc = describe_again(m);
	(void)cJSON_AddStringToObject(doc, "failure", why);
	handover_put_fd(doc, "workers", handover_take_fd(previous, "workers"));
	if (m->upgrade != NULL)
		start_quiesce(m);
	rc = execute(m, doc, program);
	log_error_e(rc, "cannot execute the program before");
	cJSON_Delete(doc);
}
