/* SPDX-License-Identifier: MIT */
/*
 * The control socket, runtime-dir/control.sock: one request, a line of JSON
 * {"verb": "status", "args": []}, and one answer, a line of JSON, per
 * connection. Only root and the user of the daemon are let in. What a client
 * sends and what it leaves unread is bounded, in bytes and in time. What the
 * verbs do stands in control_verbs.c.
 */
#ifndef FL_MASTER_CONTROL_CONTROL_H
#define FL_MASTER_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "master/reload.h"

enum {
	CONTROL_CLIENTS_MAX = 64,
	CONTROL_REQUEST_MAX = 4096,
	CONTROL_ARGS_MAX = 8
};

struct master;
struct control;
struct control_client;

/* A request as it was read; the strings live as long as the client. */
struct control_request {
	const char *verb;
	const char *args[CONTROL_ARGS_MAX];
	size_t nargs;
};

/*
 * Reads a line into a request whose strings belong to *parsed, which the
 * caller deletes. 0, or -EINVAL with *parsed NULL.
 */
int control_parse(const char *line, size_t len, cJSON **parsed,
    struct control_request *request) MUST_CHECK;

/*
 * Listens in that directory; the socket of a dead daemon is replaced, since
 * the lock says that it is dead. 0 or negative errno.
 */
int control_open(
    struct master *master, const char *dir, struct control **out) MUST_CHECK;

/*
 * For an upgrade in place: the socket and the clients that wait for the
 * upgrade, and the same taken over; control_open() if there is none.
 */
void control_hand_over(const struct control *control, cJSON *into);
int control_inherit(struct master *master, const char *dir, const cJSON *from,
    struct control **out) MUST_CHECK;

/* Clients that wait for the end of the daemon, and have to be told last. */
struct control_farewell {
	int fds[CONTROL_CLIENTS_MAX];
	unsigned n;
};

/* Closes; what has been answered is sent as far as it goes. */
void control_close(struct control *control, struct control_farewell *farewell);

/* Tells them that it has ended. */
void control_say_ended(struct control_farewell *farewell);

/* Answers; takes the object and adds "schema". Once per client. */
void control_answer(struct control_client *client, cJSON *answer);

/* Answers {"ok": true}. */
void control_accept(struct control_client *client);

/* Answers {"ok": false, "error": TEXT}. */
void control_refuse(struct control_client *client, const char *fmt, ...)
    PRINTF(2, 3);

/* Answers when the reload that this asks for has its outcome. */
void control_wait_for_reload(struct control_client *client);

/* Answers by control_upgraded(), perhaps in the program that comes next. */
void control_wait_for_upgrade(struct control_client *client);

/*
 * Before an exec: takes no new client until control_upgraded(), and says
 * whether those that are there have their answers.
 */
bool control_is_quiet(struct control *control);

/* The upgrade is done, or failed and why, to all who wait for it. */
void control_upgraded(struct control *control, const char *failure);
/*
 * The answer comes later, from somebody who keeps the client in *holder: that
 * becomes NULL should the client leave before.
 */
void
control_defer(struct control_client *client, struct control_client **holder);

/*
 * Answers when the refresh that this asks for has its outcome. 0, or what
 * refresh_by_hand() says, and then the caller answers.
 */
int control_wait_for_refresh(
    struct control_client *client, const char *id) MUST_CHECK;

/* Answers when the daemon has ended. */
void control_wait_for_end(struct control_client *client);

#endif
