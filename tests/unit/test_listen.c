/* SPDX-License-Identifier: MIT */
#include "master/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "tests/unit/scratch.h"

/* What listen.c reads of a configuration. */
struct wish {
	struct config config;
	char *addresses[8];
	char admin[64];
};

static void
wish_for(struct wish *w, int workers, const char *admin)
{
	memset(w, 0, sizeof(*w));
	w->config.workers = workers;
	w->config.listen.v = w->addresses;
	(void)snprintf(w->admin, sizeof(w->admin), "%s", admin);
	w->config.admin_listen = w->admin;
}

static void
wish_add(struct wish *w, const char *address)
{
	w->addresses[w->config.listen.n++] = xstrdup(address);
}

static void
wish_end(struct wish *w)
{
	size_t i;

	for (i = 0; i < w->config.listen.n; i++)
		free(w->addresses[i]);
}

static int
bound_socket(int *port, bool reuse)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	const int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	if (reuse)
		assert_int_equal(
		    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)),
		    0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	*port = ntohs(sin.sin_port);
	return fd;
}

static int
free_port(void)
{
	int port, fd = bound_socket(&port, false);

	(void)close(fd);
	return port;
}

static bool
can_connect(int port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool ok;

	assert_true(fd >= 0);
	ok = connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0;
	(void)close(fd);
	return ok;
}

static struct listen_set *
must_open(struct wish *w, const struct listen_set *old)
{
	struct buf why = BUF_INIT(1024);
	struct listen_set *set;

	if (listen_open(&w->config, old, false, &set, &why) != 0)
		fail_msg("%s", buf_string(&why));
	buf_fini(&why);
	return set;
}

static void
must_activate(struct listen_set *set)
{
	struct buf why = BUF_INIT(1024);

	assert_int_equal(listen_activate(set, &why), 0);
	buf_fini(&why);
}

static size_t
count(const struct listen_set *set)
{
	size_t n;

	(void)listen_fds(set, &n);
	return n;
}

static void
address_text(char *out, size_t size, int port)
{
	(void)snprintf(out, size, "127.0.0.1:%d", port);
}

static void
a_socket_per_worker_and_address(void **state UNUSED)
{
	struct listen_set *set;
	char text[32], admin[32];
	struct wish w;
	unsigned i;

	address_text(text, sizeof(text), free_port());
	address_text(admin, sizeof(admin), free_port());
	wish_for(&w, 3, admin);
	wish_add(&w, text);
	set = must_open(&w, NULL);
	assert_int_equal(count(set), 6);
	for (i = 0; i < 6; i++) {
		assert_int_equal(listen_role(set, i),
		    i < 3 ? IPC_LISTENER_CLIENTS : IPC_LISTENER_ADMIN);
		assert_true(listen_polled_by(set, i, i % 3, 3));
		assert_false(listen_polled_by(set, i, (i + 1) % 3, 3));
	}
	listen_close(set);
	wish_end(&w);
}

/* Nobody is kept waiting by a reload that may yet fail. */
static void
connections_queue_only_after_the_commit(void **state UNUSED)
{
	struct listen_set *set;
	char text[32];
	struct wish w;
	int port = free_port();

	address_text(text, sizeof(text), port);
	wish_for(&w, 2, "");
	wish_add(&w, text);
	set = must_open(&w, NULL);
	assert_false(can_connect(port));
	must_activate(set);
	assert_true(can_connect(port));
	listen_close(set);
	assert_false(can_connect(port));
	wish_end(&w);
}

static void
unchanged_addresses_keep_their_sockets(void **state UNUSED)
{
	struct listen_set *old, *new;
	char first[32], second[32];
	struct wish w;
	size_t n;
	int fd;

	address_text(first, sizeof(first), free_port());
	address_text(second, sizeof(second), free_port());
	wish_for(&w, 2, "");
	wish_add(&w, first);
	old = must_open(&w, NULL);
	must_activate(old);
	fd = listen_fds(old, &n)[0];
	wish_add(&w, second);
	new = must_open(&w, old);
	assert_int_equal(count(new), 4);
	assert_int_equal(listen_fds(new, &n)[0], fd);
	listen_close(old);
	must_activate(new);
	assert_int_equal(listen_fds(new, &n)[0], fd);
	listen_close(new);
	wish_end(&w);
}

static void
failed_reload_closes_only_what_it_opened(void **state UNUSED)
{
	struct buf why = BUF_INIT(1024);
	struct listen_set *old, *new;
	char first[32], taken[32];
	struct wish w;
	int port = free_port(), other;
	int stranger = bound_socket(&other, false);

	address_text(first, sizeof(first), port);
	address_text(taken, sizeof(taken), other);
	wish_for(&w, 2, "");
	wish_add(&w, first);
	old = must_open(&w, NULL);
	must_activate(old);
	wish_add(&w, taken);
	assert_int_equal(
	    listen_open(&w.config, old, false, &new, &why), -EADDRINUSE);
	assert_null(new);
	assert_non_null(strstr(buf_string(&why), taken));
	assert_true(can_connect(port));
	listen_close(old);
	(void)close(stranger);
	buf_fini(&why);
	wish_end(&w);
}

/* SO_REUSEPORT on both sides would share the port without a word. */
static void
a_port_that_a_stranger_would_share_is_taken(void **state UNUSED)
{
	struct buf why = BUF_INIT(1024);
	struct listen_set *set;
	char text[32];
	struct wish w;
	int port, stranger = bound_socket(&port, true);

	address_text(text, sizeof(text), port);
	wish_for(&w, 2, "");
	wish_add(&w, text);
	assert_int_equal(
	    listen_open(&w.config, NULL, false, &set, &why), -EADDRINUSE);
	/* But workers of a dead master of ours are let finish. */
	assert_int_equal(listen_open(&w.config, NULL, true, &set, &why), 0);
	listen_close(set);
	(void)close(stranger);
	buf_fini(&why);
	wish_end(&w);
}

static void
fewer_workers_share_the_sockets_of_more(void **state UNUSED)
{
	struct listen_set *many, *few;
	char text[32];
	struct wish w;
	size_t i;

	address_text(text, sizeof(text), free_port());
	wish_for(&w, 4, "");
	wish_add(&w, text);
	many = must_open(&w, NULL);
	w.config.workers = 2;
	few = must_open(&w, many);
	assert_int_equal(count(few), 4);
	for (i = 0; i < 4; i++)
		assert_int_equal(listen_polled_by(few, i, 0, 2) +
				     listen_polled_by(few, i, 1, 2),
		    1);
	listen_close(many);
	w.config.workers = 6;
	many = must_open(&w, few);
	assert_int_equal(count(many), 6);
	listen_close(few);
	listen_close(many);
	wish_end(&w);
}

static void
an_address_listed_twice_is_refused(void **state UNUSED)
{
	struct buf why = BUF_INIT(1024);
	struct listen_set *set;
	char text[32];
	struct wish w;

	address_text(text, sizeof(text), free_port());
	wish_for(&w, 1, text);
	wish_add(&w, text);
	assert_int_equal(
	    listen_open(&w.config, NULL, false, &set, &why), -EINVAL);
	assert_non_null(strstr(buf_string(&why), text));
	buf_fini(&why);
	wish_end(&w);
}

struct unix_fixture {
	struct scratch scratch;
	char path[96];
	struct wish wish;
};

static void
unix_make(struct unix_fixture *f, int workers)
{
	char text[112];

	scratch_make(&f->scratch);
	(void)snprintf(f->path, sizeof(f->path), "%s/api.sock", f->scratch.dir);
	(void)snprintf(text, sizeof(text), "unix:%s", f->path);
	wish_for(&f->wish, workers, "");
	wish_add(&f->wish, text);
}

static void
unix_end(struct unix_fixture *f)
{
	wish_end(&f->wish);
	scratch_remove(&f->scratch);
}

static int
unix_socket(const char *path, bool listening)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	if (listening)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void
a_unix_listener_is_one_socket_for_all(void **state UNUSED)
{
	struct unix_fixture f;
	struct listen_set *set;
	struct stat st;

	unix_make(&f, 3);
	set = must_open(&f.wish, NULL);
	assert_int_equal(count(set), 1);
	assert_true(listen_polled_by(set, 0, 0, 3));
	assert_true(listen_polled_by(set, 0, 2, 3));
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	listen_close(set);
	assert_int_equal(stat(f.path, &st), -1);
	unix_end(&f);
}

static void
a_stale_socket_file_is_replaced(void **state UNUSED)
{
	struct unix_fixture f;

	unix_make(&f, 1);
	(void)close(unix_socket(f.path, true));
	listen_close(must_open(&f.wish, NULL));
	unix_end(&f);
}

static void
a_socket_that_somebody_serves_is_left_alone(void **state UNUSED)
{
	struct buf why = BUF_INIT(1024);
	struct unix_fixture f;
	struct listen_set *set;
	int fd;

	unix_make(&f, 1);
	fd = unix_socket(f.path, true);
	assert_int_equal(
	    listen_open(&f.wish.config, NULL, true, &set, &why), -EADDRINUSE);
	assert_non_null(strstr(buf_string(&why), f.path));
	(void)close(fd);
	buf_fini(&why);
	unix_end(&f);
}

struct orphan {
	int fd;
};

static int
call_listen(void *ctx)
{
	const struct orphan *o = ctx;

	return listen(o->fd, 1) < 0;
}

/* Who called listen(2) is dead; that others still hold it is no obstacle. */
static void
a_socket_of_orphans_is_taken_over(void **state UNUSED)
{
	struct unix_fixture f;
	struct orphan o;

	unix_make(&f, 1);
	o.fd = unix_socket(f.path, false);
	assert_int_equal(child_wait(child_start(call_listen, &o)), 0);
	listen_close(must_open(&f.wish, NULL));
	(void)close(o.fd);
	unix_end(&f);
}

static void
a_file_that_is_no_socket_is_left_alone(void **state UNUSED)
{
	struct buf why = BUF_INIT(1024);
	struct unix_fixture f;
	struct listen_set *set;
	FILE *file;

	unix_make(&f, 1);
	file = fopen(f.path, "w");
	assert_non_null(file);
	(void)fclose(file);
	assert_int_equal(
	    listen_open(&f.wish.config, NULL, true, &set, &why), -EADDRINUSE);
	assert_int_equal(access(f.path, F_OK), 0);
	buf_fini(&why);
	unix_end(&f);
}

/* As the next program does, in one that still has the first set too. */
static void
a_set_that_is_handed_over_is_the_same_set(void **state UNUSED)
{
	cJSON *rows = cJSON_CreateArray(), *row;
	struct listen_set *set, *heir, *next;
	const int *fds, *heirs;
	struct wish w;
	size_t i, n;

	wish_for(&w, 2, "127.0.0.1:0");
	wish_add(&w, "[::1]:0");
	set = must_open(&w, NULL);
	must_activate(set);
	listen_hand_over(set, rows);
	fds = listen_fds(set, &n);
	assert_int_equal(n, 4);
	/* Only one of the two may close what it has. */
	for (i = 0; i < n; i++) {
		row = cJSON_GetArrayItem(rows, (int)i);
		(void)cJSON_SetNumberValue(
		    cJSON_GetObjectItem(row, "fd"), dup(fds[i]));
	}
	heir = listen_inherit(rows);
	assert_non_null(heir);
	heirs = listen_fds(heir, &n);
	assert_int_equal(n, 4);
	assert_int_equal(listen_role(heir, 0), listen_role(set, 0));
	assert_int_equal(listen_role(heir, 3), IPC_LISTENER_ADMIN);
	assert_true(listen_is_alone(heir, 1, 1, 2));
	/* A reload finds the addresses unchanged. */
	next = must_open(&w, heir);
	assert_int_equal(listen_fds(next, &n)[0], heirs[0]);
	assert_int_equal(n, 4);
	listen_close(next);
	listen_close(heir);
	listen_close(set);
	cJSON_Delete(rows);
	wish_end(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_socket_per_worker_and_address),
		cmocka_unit_test(connections_queue_only_after_the_commit),
		cmocka_unit_test(unchanged_addresses_keep_their_sockets),
		cmocka_unit_test(failed_reload_closes_only_what_it_opened),
		cmocka_unit_test(a_port_that_a_stranger_would_share_is_taken),
		cmocka_unit_test(fewer_workers_share_the_sockets_of_more),
		cmocka_unit_test(an_address_listed_twice_is_refused),
		cmocka_unit_test(a_unix_listener_is_one_socket_for_all),
		cmocka_unit_test(a_stale_socket_file_is_replaced),
		cmocka_unit_test(a_socket_that_somebody_serves_is_left_alone),
		cmocka_unit_test(a_socket_of_orphans_is_taken_over),
		cmocka_unit_test(a_file_that_is_no_socket_is_left_alone),
		cmocka_unit_test(a_set_that_is_handed_over_is_the_same_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
