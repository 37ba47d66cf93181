/* SPDX-License-Identifier: MIT */
#include "master/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/address.h"
#include "common/alloc.h"
#include "common/str.h"
#include "master/upgrade/handover.h"

/* The kernel cuts it to net.core.somaxconn. */
enum { BACKLOG = 4096 };

struct listen_socket {
	unsigned refs; /* sets it is in */
	int fd;
	bool listening;
	struct address wanted; /* as configured: port 0 stays 0 */
	struct stat file;      /* of a unix listener, to know it again */
};

struct listen_entry {
	struct listen_socket *socket;
	enum ipc_listener_role role;
	unsigned number; /* of the sockets of its address */
};

struct listen_set {
	struct listen_entry *entries;
	int *fds;
	size_t n;
};

static struct listen_socket *
socket_new(int fd, const struct address *wanted)
{
	struct listen_socket *s = xcalloc(1, sizeof(*s));

	s->fd = fd;
	s->wanted = *wanted;
	return s;
}

static const char *
unix_path(const struct address *a)
{
	return ((const struct sockaddr_un *)&a->sa)->sun_path;
}

/* Somebody else's socket may have taken the place of ours by now. */
static void
remove_file(const struct listen_socket *s)
{
	const char *path = unix_path(&s->wanted);
	struct stat st;

	if (lstat(path, &st) == 0 && st.st_dev == s->file.st_dev &&
	    st.st_ino == s->file.st_ino)
		(void)unlink(path);
}

static void
socket_unref(struct listen_socket *s)
{
	if (--s->refs > 0)
		return;
	if (s->wanted.is_unix)
		remove_file(s);
	(void)close(s->fd);
	free(s);
}

static void
set_add(struct listen_set *set, struct listen_socket *socket,
    enum ipc_listener_role role, unsigned number)
{
	struct listen_entry entry = { socket, role, number };

	set->entries =
	    xreallocarray(set->entries, set->n + 1, sizeof(set->entries[0]));
	set->fds = xreallocarray(set->fds, set->n + 1, sizeof(set->fds[0]));
	set->entries[set->n] = entry;
	set->fds[set->n] = socket->fd;
	set->n++;
	socket->refs++;
}

void
listen_close(struct listen_set *set)
{
	size_t i;

	if (set == NULL)
		return;
	for (i = 0; i < set->n; i++)
		socket_unref(set->entries[i].socket);
	free(set->entries);
	free(set->fds);
	free(set);
}

static bool
same_address(const struct address *a, const struct address *b)
{
	return a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

static bool
set_has(const struct listen_set *set, const struct address *a)
{
	size_t i;

	for (i = 0; i < set->n; i++) {
		if (same_address(&set->entries[i].socket->wanted, a))
			return true;
	}
	return false;
}

static bool
has_any_port(const struct address *a)
{
	if (a->sa.ss_family == AF_INET)
		return ((const struct sockaddr_in *)&a->sa)->sin_port == 0;
	return ((const struct sockaddr_in6 *)&a->sa)->sin6_port == 0;
}

/* A bound TCP socket; shared: with others of our own. Or negative errno. */
static int
bind_tcp(const struct address *a, bool shared)
{
	const int on = 1;
	int fd = socket(a->sa.ss_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on,
			   sizeof(on)) < 0) ||
	    (a->sa.ss_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) <
		    0) ||
	    /* Accepted sockets inherit it. */
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0)
		rc = -errno;
	if (rc < 0)
		(void)close(fd);
	return rc < 0 ? rc : fd;
}

/*
 * SO_REUSEPORT would let us share the port of a stranger that runs as the
 * same user and sets it too. Without it the bind fails then.
 */
static int
refuse_strangers(const struct address *a)
{
	int fd;

	if (has_any_port(a))
		return 0;
	fd = bind_tcp(a, false);
	if (fd < 0)
		return fd;
	(void)close(fd);
	return 0;
}

/* Adds sockets until there are `count`; the first ones may be there. */
static int
fill_tcp(struct listen_set *set, const struct address *wanted,
    enum ipc_listener_role role, unsigned have, unsigned count)
{
	struct address bound = *wanted;
	int fd;

	for (; have < count; have++) {
		if (have > 0 &&
		    getsockname(set->fds[set->n - 1],
			(struct sockaddr *)&bound.sa, &bound.len) < 0)
			return -errno;
		fd = bind_tcp(&bound, true);
		if (fd < 0)
			return fd;
		set_add(set, socket_new(fd, wanted), role, have);
	}
	return 0;
}

/*
 * Whether a socket file is left over: nobody listens, or only orphans of a
 * master that is dead. The peer of a listening socket is the process that
 * called listen(2).
 */
static bool
is_stale(const struct address *a)
{
	AUTO_CLOSE int fd =
	    socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct stat st;
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0 || lstat(unix_path(a), &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	if (connect(fd, (const struct sockaddr *)&a->sa, a->len) < 0)
		return errno == ECONNREFUSED;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       kill(peer.pid, 0) < 0 && errno == ESRCH;
}

static int
bind_unix(const struct address *a)
{
	const struct sockaddr *sa = (const struct sockaddr *)&a->sa;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (bind(fd, sa, a->len) < 0) {
		rc = -errno;
		if (rc == -EADDRINUSE && is_stale(a) &&
		    unlink(unix_path(a)) == 0)
			rc = bind(fd, sa, a->len) < 0 ? -errno : 0;
	}
	/* Clients show keys; who may reach it the directory decides. */
	if (rc == 0 && chmod(unix_path(a), 0666) < 0)
		rc = -errno;
	if (rc < 0)
		(void)close(fd);
	return rc < 0 ? rc : fd;
}

static int
fill_unix(struct listen_set *set, const struct address *wanted,
    enum ipc_listener_role role)
{
	struct listen_socket *s;
	int fd = bind_unix(wanted);

	if (fd < 0)
		return fd;
	s = socket_new(fd, wanted);
	(void)lstat(unix_path(wanted), &s->file);
	set_add(set, s, role, 0);
	return 0;
}

/* Takes over the sockets of an unchanged address; how many. */
static unsigned
share(struct listen_set *set, const struct listen_set *old,
    const struct address *a, enum ipc_listener_role role)
{
	unsigned count = 0;
	size_t i;

	for (i = 0; old != NULL && i < old->n; i++) {
		if (same_address(&old->entries[i].socket->wanted, a))
			set_add(set, old->entries[i].socket, role, count++);
	}
	return count;
}

static int
open_address(struct listen_set *set, const struct listen_set *old,
    const struct address *a, enum ipc_listener_role role, unsigned nworkers,
    bool leftovers)
{
	unsigned have = share(set, old, a, role);
	int rc = 0;

	if (a->is_unix)
		return have == 0 ? fill_unix(set, a, role) : 0;
	if (have == 0 && !leftovers)
		rc = refuse_strangers(a);
	return rc < 0 ? rc : fill_tcp(set, a, role, have, nworkers);
}

struct opener {
	struct listen_set *set;
	const struct listen_set *old;
	unsigned nworkers;
	bool leftovers;
	struct buf *why;
};

static int
open_text(struct opener *o, const char *text, enum ipc_listener_role role)
{
	struct address a;
	int rc = address_parse(text, &a);

	if (rc == 0 && set_has(o->set, &a)) {
		buf_printf(o->why, "%s is listed twice as a listener", text);
		return -EINVAL;
	}
	if (rc == 0)
		rc = open_address(
		    o->set, o->old, &a, role, o->nworkers, o->leftovers);
	if (rc < 0)
		buf_printf(
		    o->why, "cannot listen on %s: %s", text, strerror(-rc));
	return rc;
}

int
listen_open(const struct config *config, const struct listen_set *old,
    bool leftovers, struct listen_set **out, struct buf *why)
{
	struct opener o = { xcalloc(1, sizeof(struct listen_set)), old,
		(unsigned)config->workers, leftovers, why };
	size_t i;
	int rc = 0;

	*out = NULL;
	for (i = 0; i < config->listen.n && rc == 0; i++)
		rc = open_text(&o, config->listen.v[i], IPC_LISTENER_CLIENTS);
	if (rc == 0 && *config->admin_listen != '\0')
		rc = open_text(&o, config->admin_listen, IPC_LISTENER_ADMIN);
	if (rc < 0)
		listen_close(o.set);
	else
		*out = o.set;
	return rc;
}

int
listen_activate(struct listen_set *set, struct buf *why)
{
	struct listen_socket *s;
	size_t i;
	int rc;

	for (i = 0; i < set->n; i++) {
		s = set->entries[i].socket;
		if (s->listening)
			continue;
		if (listen(s->fd, BACKLOG) < 0) {
			rc = -errno;
			buf_printf(why, "cannot listen: %s", strerror(-rc));
			return rc;
		}
		s->listening = true;
	}
	return 0;
}

const int *
listen_fds(const struct listen_set *set, size_t *n)
{
	*n = set->n;
	return set->fds;
}

enum ipc_listener_role
listen_role(const struct listen_set *set, size_t index)
{
	return set->entries[index].role;
}

bool
listen_polled_by(const struct listen_set *set, size_t index, unsigned worker,
    unsigned nworkers)
{
	const struct listen_entry *e = &set->entries[index];

	return e->socket->wanted.is_unix || e->number % nworkers == worker;
}

bool
listen_is_alone(const struct listen_set *set, size_t index, unsigned worker,
    unsigned nworkers)
{
	return !set->entries[index].socket->wanted.is_unix &&
	       listen_polled_by(set, index, worker, nworkers);
}

void
listen_hand_over(const struct listen_set *set, cJSON *rows)
{
	char wanted[2 * sizeof(struct sockaddr_storage) + 1];
	const struct listen_socket *s;
	cJSON *row;
	size_t i;

	for (i = 0; i < set->n; i++) {
		s = set->entries[i].socket;
		row = cJSON_CreateObject();
		str_hex(&s->wanted.sa, s->wanted.len, wanted);
		(void)cJSON_AddStringToObject(row, "address", wanted);
		(void)cJSON_AddBoolToObject(row, "unix", s->wanted.is_unix);
		handover_put_fd(row, "fd", s->fd);
		handover_put_number(row, "role", set->entries[i].role);
		handover_put_number(row, "number", set->entries[i].number);
		(void)cJSON_AddItemToArray(rows, row);
	}
}

static struct listen_socket *
inherit_socket(const cJSON *row)
{
	const char *text = handover_string(row, "address");
	struct address wanted = { 0 };
	struct listen_socket *s;
	int fd;

	if (str_unhex(text, &wanted.sa, sizeof(wanted.sa)) < 0)
		return NULL;
	fd = handover_take_fd(row, "fd");
	if (fd < 0)
		return NULL;
	wanted.len = (socklen_t)(strlen(text) / 2);
	wanted.is_unix = cJSON_IsTrue(cJSON_GetObjectItem(row, "unix"));
	s = socket_new(fd, &wanted);
	s->listening = true;
	if (wanted.is_unix)
		(void)lstat(unix_path(&wanted), &s->file);
	return s;
}

struct listen_set *
listen_inherit(const cJSON *rows)
{
	struct listen_set *set = xcalloc(1, sizeof(*set));
	struct listen_socket *s;
	const cJSON *row;

	cJSON_ArrayForEach (row, rows) {
		s = inherit_socket(row);
		if (s == NULL) {
			listen_close(set);
			return NULL;
		}
		set_add(set, s,
		    (enum ipc_listener_role)handover_number(row, "role"),
		    (unsigned)handover_number(row, "number"));
	}
	return set;
}
