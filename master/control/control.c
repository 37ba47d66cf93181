/* SPDX-License-Identifier: MIT */
#include "master/control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "build.h"
#include "common/alloc.h"
#include "common/log.h"
#include "common/str.h"
#include "common/utf8.h"
#include "master/control/control_verbs.h"
#include "master/master.h"
#include "master/refresh/refresh.h"
#include "master/upgrade/handover.h"

enum { READ_TIMEOUT_S = 5, WRITE_TIMEOUT_S = 10, BACKLOG = 16 };

enum client_state {
	CLIENT_READING,         /* its request */
	CLIENT_WAITING,         /* for a reload */
	CLIENT_WAITING_REFRESH, /* for a refresh */
	CLIENT_UPGRADING,       /* for an upgrade */
	CLIENT_WAITING_END,     /* for the end of the daemon */
	CLIENT_DEFERRED,        /* for whoever holds it */
	CLIENT_ANSWERED         /* the answer is being sent */
};

struct control_client {
	TAILQ_ENTRY(control_client) entry;
	struct control *control;
	struct bufferevent *bev;
	enum client_state state;
	struct reload_waiter waiter;    /* listed while CLIENT_WAITING */
	struct refresh_waiter refresh;  /* while CLIENT_WAITING_REFRESH */
	struct control_client **holder; /* while CLIENT_DEFERRED */
};

TAILQ_HEAD(clients, control_client);

struct control {
	struct master *master;
	char *path;
	int fd;
	struct event *readable;
	struct clients clients;
	unsigned nclients;
};

static void
client_free(struct control_client *c)
{
	struct control *control = c->control;

	if (c->state == CLIENT_WAITING)
		reload_forget(control->master->reload, &c->waiter);
	if (c->state == CLIENT_WAITING_REFRESH)
		refresh_forget(control->master->refresher, &c->refresh);
	if (c->state == CLIENT_DEFERRED)
		*c->holder = NULL;
	TAILQ_REMOVE(&control->clients, c, entry);
	control->nclients--;
	bufferevent_free(c->bev);
	free(c);
}

static void
send_json(struct control_client *c, cJSON *answer)
{
	const struct timeval limit = { WRITE_TIMEOUT_S, 0 };
	char *text;

	(void)cJSON_AddNumberToObject(answer, "schema", 1);
	text = cJSON_PrintUnformatted(answer);
	/* Names that peers gave may be cut, or were no UTF-8 to begin with. */
	if (text != NULL)
		utf8_mend(text);
	if (text != NULL &&
	    bufferevent_write(c->bev, text, strlen(text)) == 0 &&
	    bufferevent_write(c->bev, "\n", 1) == 0)
		(void)bufferevent_set_timeouts(c->bev, NULL, &limit);
	else
		log_error("control: out of memory for an answer");
	cJSON_free(text);
}

void
control_answer(struct control_client *c, cJSON *answer)
{
	c->state = CLIENT_ANSWERED;
	(void)bufferevent_disable(c->bev, EV_READ);
	send_json(c, answer);
	cJSON_Delete(answer);
}

void
control_accept(struct control_client *c)
{
	cJSON *answer = cJSON_CreateObject();

	(void)cJSON_AddTrueToObject(answer, "ok");
	control_answer(c, answer);
}

static void
refuse(struct control_client *c, const char *text)
{
	cJSON *answer = cJSON_CreateObject();

	(void)cJSON_AddFalseToObject(answer, "ok");
	(void)cJSON_AddStringToObject(answer, "error", text);
	control_answer(c, answer);
}

void
control_refuse(struct control_client *c, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	refuse(c, text != NULL ? text : "out of memory");
}

/* Of several who wait each gets them all. */
static void
add_changes(cJSON *answer, const cJSON *changes)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, changes) {
		if (!cJSON_HasObjectItem(answer, item->string))
			(void)cJSON_AddItemToObject(
			    answer, item->string, cJSON_Duplicate(item, true));
	}
}

static void
tell_outcome(struct control_client *c, const struct reload_outcome *outcome)
{
	const struct master *m = c->control->master;
	cJSON *answer;

	if (!outcome->ok) {
		refuse(c, outcome->text);
		return;
	}
	answer = cJSON_CreateObject();
	(void)cJSON_AddTrueToObject(answer, "ok");
	(void)cJSON_AddNumberToObject(
	    answer, "generation", (double)m->generation);
	(void)cJSON_AddBoolToObject(answer, "respawned", outcome->respawned);
	(void)cJSON_AddStringToObject(answer, "summary", outcome->text);
	add_changes(answer, outcome->changes);
	control_answer(c, answer);
}

static void
on_outcome(struct reload_waiter *w, const struct reload_outcome *outcome)
{
	tell_outcome(
	    (struct control_client *)((char *)w -
				      offsetof(struct control_client, waiter)),
	    outcome);
}

void
control_wait_for_reload(struct control_client *c)
{
	c->state = CLIENT_WAITING;
	c->waiter.done = on_outcome;
	(void)bufferevent_set_timeouts(c->bev, NULL, NULL);
	reload_request(c->control->master->reload, &c->waiter);
}

void
control_wait_for_upgrade(struct control_client *c)
{
	c->state = CLIENT_UPGRADING;
	(void)bufferevent_set_timeouts(c->bev, NULL, NULL);
}

static void
tell_upgraded(struct control_client *c, const char *failure)
{
	cJSON *answer;

	if (failure != NULL) {
		refuse(c, failure);
		return;
	}
	answer = cJSON_CreateObject();
	(void)cJSON_AddTrueToObject(answer, "ok");
	(void)cJSON_AddStringToObject(answer, "version", FAIRLEAD_VERSION);
	(void)cJSON_AddNumberToObject(
	    answer, "generation", (double)c->control->master->generation);
	control_answer(c, answer);
}

bool
control_is_quiet(struct control *control)
{
	const struct control_client *c;

	(void)event_del(control->readable);
	TAILQ_FOREACH (c, &control->clients, entry) {
		if (c->state == CLIENT_READING || c->state == CLIENT_ANSWERED)
			return false;
	}
	return true;
}

void
control_upgraded(struct control *control, const char *failure)
{
	struct control_client *c;

	(void)event_add(control->readable, NULL);
	TAILQ_FOREACH (c, &control->clients, entry) {
		if (c->state == CLIENT_UPGRADING)
			tell_upgraded(c, failure);
	}
}

static void
on_refreshed(struct refresh_waiter *w, const char *error)
{
	struct control_client *c =
	    (struct control_client *)((char *)w -
				      offsetof(struct control_client, refresh));

	if (error == NULL)
		control_accept(c);
	else
		control_refuse(
		    c, "credential \"%s\" is not refreshed: %s", w->id, error);
}

int
control_wait_for_refresh(struct control_client *c, const char *id)
{
	int rc;

	c->refresh.done = on_refreshed;
	rc = refresh_by_hand(c->control->master->refresher, id, &c->refresh);
	if (rc != 0)
		return rc;
	/* Unless it has been told already. */
	if (c->state != CLIENT_ANSWERED) {
		c->state = CLIENT_WAITING_REFRESH;
		(void)bufferevent_set_timeouts(c->bev, NULL, NULL);
	}
	return 0;
}

void
control_defer(struct control_client *c, struct control_client **holder)
{
	c->state = CLIENT_DEFERRED;
	c->holder = holder;
	*holder = c;
	(void)bufferevent_set_timeouts(c->bev, NULL, NULL);
}

void
control_wait_for_end(struct control_client *c)
{
	c->state = CLIENT_WAITING_END;
	(void)bufferevent_set_timeouts(c->bev, NULL, NULL);
}

int
control_parse(const char *line, size_t len, cJSON **parsed,
    struct control_request *request)
{
	const cJSON *args, *arg;

	*request = (struct control_request){ 0 };
	*parsed = cJSON_ParseWithLength(line, len);
	request->verb =
	    cJSON_GetStringValue(cJSON_GetObjectItem(*parsed, "verb"));
	args = cJSON_GetObjectItem(*parsed, "args");
	cJSON_ArrayForEach (arg, args) {
		if (!cJSON_IsString(arg) ||
		    request->nargs == CONTROL_ARGS_MAX) {
			request->verb = NULL;
			break;
		}
		request->args[request->nargs++] = arg->valuestring;
	}
	if (request->verb != NULL)
		return 0;
	cJSON_Delete(*parsed);
	*parsed = NULL;
	return -EINVAL;
}

static void
run_line(struct control_client *c, const char *line, size_t len)
{
	struct control_request request;
	cJSON *parsed;

	if (control_parse(line, len, &parsed, &request) < 0) {
		control_refuse(c, "this is no request");
		return;
	}
	control_run(c, c->control->master, &request);
	cJSON_Delete(parsed);
}

/* at_end: the client sends no more, so what is there is all of it. */
static void
read_request(struct control_client *c, bool at_end)
{
	struct evbuffer *input = bufferevent_get_input(c->bev);
	size_t len = evbuffer_get_length(input);
	AUTO_FREE char *line = evbuffer_readln(input, NULL, EVBUFFER_EOL_LF);

	if (line != NULL)
		run_line(c, line, strlen(line));
	else if (len >= CONTROL_REQUEST_MAX || (at_end && len > 0))
		control_refuse(c, "this is no request");
	else if (at_end)
		client_free(c);
}

static void
on_read(struct bufferevent *bev UNUSED, void *arg)
{
	struct control_client *c = arg;

	if (c->state == CLIENT_READING)
		read_request(c, false);
}

/* All is sent: with a watermark of 0 it is called then and only then. */
static void
on_written(struct bufferevent *bev UNUSED, void *arg)
{
	struct control_client *c = arg;

	if (c->state == CLIENT_ANSWERED)
		client_free(c);
}

static void
on_event(struct bufferevent *bev UNUSED, short what, void *arg)
{
	struct control_client *c = arg;

	if (c->state == CLIENT_READING && (what & BEV_EVENT_EOF) != 0)
		read_request(c, true);
	else
		client_free(c);
}

static bool
is_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

static struct control_client *
client_new(struct control *control, int fd)
{
	const struct timeval limit = { READ_TIMEOUT_S, 0 };
	struct control_client *c = xcalloc(1, sizeof(*c));

	c->control = control;
	c->bev = bufferevent_socket_new(
	    control->master->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (c->bev == NULL)
		fatalx("out of memory");
	TAILQ_INSERT_TAIL(&control->clients, c, entry);
	control->nclients++;
	bufferevent_setcb(c->bev, on_read, on_written, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, CONTROL_REQUEST_MAX);
	(void)bufferevent_set_timeouts(c->bev, &limit, NULL);
	(void)bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	return c;
}

static void
take_client(struct control *control)
{
	int fd = accept4(control->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (control->nclients >= CONTROL_CLIENTS_MAX || !is_allowed(fd)) {
		(void)close(fd);
		return;
	}
	(void)client_new(control, fd);
}

static void
on_readable(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	take_client(arg);
}

static int
bind_socket(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, rc = 0;

	if (!str_copy(sun.sun_path, sizeof(sun.sun_path), path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)unlink(path);
	/* Nobody can connect before listen(2), so no moment is too open. */
	if (bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    chmod(path, 0600) < 0 || listen(fd, BACKLOG) < 0)
		rc = -errno;
	if (rc < 0)
		(void)close(fd);
	return rc < 0 ? rc : fd;
}

static struct control *
control_new(struct master *master, const char *dir, int fd)
{
	struct control *control = xcalloc(1, sizeof(*control));

	control->master = master;
	control->path = xasprintf("%s/control.sock", dir);
	control->fd = fd;
	TAILQ_INIT(&control->clients);
	control->readable = event_new(
	    master->base, fd, EV_READ | EV_PERSIST, on_readable, control);
	if (control->readable == NULL || event_add(control->readable, NULL) < 0)
		fatalx("out of memory");
	return control;
}

int
control_open(struct master *master, const char *dir, struct control **out)
{
	AUTO_FREE char *path = xasprintf("%s/control.sock", dir);
	int fd = bind_socket(path);

	*out = fd >= 0 ? control_new(master, dir, fd) : NULL;
	return fd < 0 ? fd : 0;
}

void
control_hand_over(const struct control *control, cJSON *into)
{
	cJSON *rows = cJSON_AddArrayToObject(into, "clients"), *row;
	const struct control_client *c;

	handover_put_fd(into, "socket", control->fd);
	TAILQ_FOREACH (c, &control->clients, entry) {
		if (c->state != CLIENT_UPGRADING)
			continue;
		row = cJSON_CreateObject();
		handover_put_fd(row, "fd", bufferevent_getfd(c->bev));
		(void)cJSON_AddItemToArray(rows, row);
	}
}

int
control_inherit(struct master *master, const char *dir, const cJSON *from,
    struct control **out)
{
	int fd = handover_take_fd(from, "socket");
	const cJSON *row;

	if (fd < 0)
		return control_open(master, dir, out);
	*out = control_new(master, dir, fd);
	/* Whoever asks something now waits until there is an answer. */
	(void)event_del((*out)->readable);
	cJSON_ArrayForEach (row, cJSON_GetObjectItem(from, "clients")) {
		fd = handover_take_fd(row, "fd");
		if (fd >= 0)
			control_wait_for_upgrade(client_new(*out, fd));
	}
	return 0;
}

/* The loop has ended: what the socket takes at once is what arrives. */
static void
flush(struct control_client *c)
{
	struct evbuffer *output = bufferevent_get_output(c->bev);

	(void)bufferevent_disable(c->bev, EV_WRITE);
	(void)evbuffer_unfreeze(output, 1);
	(void)evbuffer_write(output, bufferevent_getfd(c->bev));
}

static void
keep_for_end(struct control_client *c, struct control_farewell *farewell)
{
	int fd = fcntl(bufferevent_getfd(c->bev), F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		farewell->fds[farewell->n++] = fd;
}

void
control_close(struct control *control, struct control_farewell *farewell)
{
	struct control_client *c;

	*farewell = (struct control_farewell){ 0 };
	if (control == NULL)
		return;
	while ((c = TAILQ_FIRST(&control->clients)) != NULL) {
		if (c->state == CLIENT_WAITING_END)
			keep_for_end(c, farewell);
		else
			flush(c);
		client_free(c);
	}
	event_free(control->readable);
	(void)close(control->fd);
	(void)unlink(control->path);
	free(control->path);
	free(control);
}

void
control_say_ended(struct control_farewell *farewell)
{
	static const char text[] = "{\"ok\":true,\"schema\":1}\n";
	unsigned i;

	for (i = 0; i < farewell->n; i++) {
		/* Nobody is left to be told that it did not arrive. */
		(void)send(farewell->fds[i], text, sizeof(text) - 1,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)close(farewell->fds[i]);
	}
	farewell->n = 0;
}
