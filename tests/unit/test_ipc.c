/* SPDX-License-Identifier: MIT */
#include "common/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct pair {
	int ends[2];
};

static void
pair_make(struct pair *p)
{
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->ends), 0);
}

static void
pair_close(struct pair *p)
{
	(void)close(p->ends[0]);
	(void)close(p->ends[1]);
}

static int
descriptors_in_use(void)
{
	int n = 0, fd;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static const struct {
	enum ipc_type type;
	size_t len;
} messages[] = {
	{ IPC_START, 0 },
	{ IPC_DRAIN, 0 },
	{ IPC_RESULT, sizeof(struct ipc_result) },
	{ IPC_READY, 0 },
	{ IPC_DRAINED, 0 },
	{ IPC_ADOPT, sizeof(struct ipc_listener) },
	{ IPC_RELEASE, sizeof(struct ipc_listener) },
	{ IPC_LOG_FD, sizeof(struct ipc_log) },
	{ IPC_WAKE, 0 },
	{ IPC_CLOSE_IDLE, 0 },
	{ IPC_NEED_REFRESH, sizeof(struct ipc_refresh) },
};

static void
every_message_arrives_as_it_was_sent(void **state UNUSED)
{
	char payload[IPC_PAYLOAD_MAX];
	struct ipc_message m;
	struct pair p;
	size_t i;

	pair_make(&p);
	memset(payload, 0x5a, sizeof(payload));
	for (i = 0; i < ARRAY_LEN(messages); i++) {
		assert_int_equal(ipc_send(p.ends[0], messages[i].type, payload,
				     messages[i].len, -1),
		    0);
		assert_int_equal(ipc_receive(p.ends[1], &m), 0);
		assert_int_equal(m.header.type, messages[i].type);
		assert_int_equal(m.header.len, messages[i].len);
		assert_memory_equal(m.u.bytes, payload, messages[i].len);
		assert_int_equal(m.fd, -1);
		assert_string_not_equal(ipc_name(m.header.type), "unknown");
	}
	pair_close(&p);
}

/* The frozen forms: another size would part a worker from a new master. */
static void
frozen_forms_have_their_size(void **state UNUSED)
{
	assert_int_equal(IPC_START, 1);
	assert_int_equal(IPC_DRAIN, 2);
	assert_int_equal(IPC_RESULT, 3);
	assert_int_equal(sizeof(struct ipc_header), 8);
	assert_int_equal(sizeof(struct ipc_result), 24);
}

static void
descriptor_crosses_and_closes_on_exec(void **state UNUSED)
{
	struct ipc_log log = { .kind = IPC_LOG_ACCESS };
	struct ipc_message m;
	struct pair p;
	int ends[2];
	char c = 0;

	pair_make(&p);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(
	    ipc_send(p.ends[0], IPC_LOG_FD, &log, sizeof(log), ends[1]), 0);
	assert_int_equal(ipc_receive(p.ends[1], &m), 0);
	assert_true(m.fd >= 0);
	assert_true((fcntl(m.fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(write(m.fd, "x", 1), 1);
	assert_int_equal(read(ends[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	(void)close(m.fd);
	(void)close(ends[0]);
	(void)close(ends[1]);
	pair_close(&p);
}

static void
send_raw(
    int sock, uint16_t version, uint16_t type, uint32_t len, size_t payload)
{
	struct {
		struct ipc_header header;
		char bytes[256];
	} raw = { { version, type, len }, { 0 } };
	ssize_t n = send(sock, &raw, sizeof(raw.header) + payload, 0);

	assert_int_equal(n, sizeof(raw.header) + payload);
}

static const struct {
	const char *what;
	uint16_t version, type;
	uint32_t len;
	size_t payload;
	int rc;
} strange[] = {
	{ "a type nobody knows", IPC_VERSION, 99, 0, 0, -EPROTO },
	{ "a length that lies", IPC_VERSION, IPC_ADOPT, 8, 4, -EPROTO },
	{ "a payload where none belongs", IPC_VERSION, IPC_READY, 4, 4,
	    -EPROTO },
	{ "more than fits", IPC_VERSION, IPC_RESULT, 200, 200, -EPROTO },
	{ "another version", IPC_VERSION + 1, IPC_READY, 0, 0, -EPROTO },
	{ "another version, frozen", IPC_VERSION + 1, IPC_DRAIN, 0, 0, 0 },
	{ "another version, frozen", 0, IPC_START, 0, 0, 0 },
};

static void
what_is_no_message_is_refused(void **state UNUSED)
{
	struct ipc_message m;
	struct pair p;
	size_t i;

	pair_make(&p);
	for (i = 0; i < ARRAY_LEN(strange); i++) {
		send_raw(p.ends[0], strange[i].version, strange[i].type,
		    strange[i].len, strange[i].payload);
		if (ipc_receive(p.ends[1], &m) != strange[i].rc)
			fail_msg("%s", strange[i].what);
	}
	assert_int_equal(send(p.ends[0], "abc", 3, 0), 3);
	assert_int_equal(ipc_receive(p.ends[1], &m), -EPROTO);
	pair_close(&p);
}

/* Several descriptors in one message, as no peer of ours sends. */
static void
send_descriptors(int sock, int a, int b)
{
	struct ipc_header header = { IPC_VERSION, IPC_WAKE, 0 };
	struct iovec iov = { &header, sizeof(header) };
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} anc = { .room = { 0 } };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = anc.room,
		.msg_controllen = sizeof(anc.room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fds[2] = { a, b };

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	assert_int_equal(sendmsg(sock, &msg, 0), sizeof(header));
}

static void
surplus_descriptors_do_not_leak(void **state UNUSED)
{
	struct ipc_message m;
	struct pair p;
	int before;

	pair_make(&p);
	before = descriptors_in_use();
	send_descriptors(p.ends[0], p.ends[0], p.ends[1]);
	assert_int_equal(ipc_receive(p.ends[1], &m), -EPROTO);
	assert_int_equal(descriptors_in_use(), before);
	pair_close(&p);
}

static void
end_of_the_peer_is_told(void **state UNUSED)
{
	struct ipc_message m;
	struct pair p;

	pair_make(&p);
	assert_int_equal(ipc_receive(p.ends[1], &m), -EAGAIN);
	assert_int_equal(ipc_send(p.ends[0], IPC_READY, NULL, 0, -1), 0);
	(void)close(p.ends[0]);
	assert_int_equal(ipc_receive(p.ends[1], &m), 0);
	assert_int_equal(ipc_receive(p.ends[1], &m), IPC_CLOSED);
	assert_int_equal(ipc_send(p.ends[1], IPC_READY, NULL, 0, -1), -EPIPE);
	(void)close(p.ends[1]);
}

static void
full_socket_does_not_block(void **state UNUSED)
{
	struct ipc_message m;
	struct pair p;
	int sent = 0, rc;

	pair_make(&p);
	while ((rc = ipc_send(p.ends[0], IPC_WAKE, NULL, 0, -1)) == 0)
		sent++;
	assert_int_equal(rc, -EAGAIN);
	assert_true(sent > 50);
	assert_int_equal(ipc_receive(p.ends[1], &m), 0);
	pair_close(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_arrives_as_it_was_sent),
		cmocka_unit_test(frozen_forms_have_their_size),
		cmocka_unit_test(descriptor_crosses_and_closes_on_exec),
		cmocka_unit_test(what_is_no_message_is_refused),
		cmocka_unit_test(surplus_descriptors_do_not_leak),
		cmocka_unit_test(end_of_the_peer_is_told),
		cmocka_unit_test(full_socket_does_not_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
