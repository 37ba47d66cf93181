/* SPDX-License-Identifier: MIT */
#include "common/ipc.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct form {
	uint16_t type;
	const char *name;
	uint32_t len; /* of the payload */
	bool frozen;  /* understood in every version */
};

/* clang-format off */
static const struct form forms[] = {
	{ IPC_START, "START", 0, true },
	{ IPC_DRAIN, "DRAIN", 0, true },
	{ IPC_RESULT, "RESULT", sizeof(struct ipc_result), true },
	{ IPC_READY, "READY", 0, false },
	{ IPC_DRAINED, "DRAINED", 0, false },
	{ IPC_ADOPT, "ADOPT", sizeof(struct ipc_listener), false },
	{ IPC_RELEASE, "RELEASE", sizeof(struct ipc_listener), false },
	{ IPC_LOG_FD, "LOG_FD", sizeof(struct ipc_log), false },
	{ IPC_WAKE, "WAKE", 0, false },
	{ IPC_CLOSE_IDLE, "CLOSE_IDLE", 0, false },
	{ IPC_NEED_REFRESH, "NEED_REFRESH", sizeof(struct ipc_refresh), false },
};
/* clang-format on */

#define X(name, number, direction) +1
_Static_assert(ARRAY_LEN(forms) == 0 IPC_MESSAGES(X), "a form per message");
#undef X

static const struct form *
find_form(uint16_t type)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(forms); i++) {
		if (forms[i].type == type)
			return &forms[i];
	}
	return NULL;
}

const char *
ipc_name(uint16_t type)
{
	const struct form *form = find_form(type);

	return form != NULL ? form->name : "unknown";
}

/* Room for one descriptor, aligned as a control message must be. */
union ancillary {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

static void
attach_fd(struct msghdr *msg, union ancillary *anc, int fd)
{
	struct cmsghdr *c;

	memset(anc, 0, sizeof(*anc));
	msg->msg_control = anc->room;
	msg->msg_controllen = sizeof(anc->room);
	c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
}

int
ipc_send(int sock, enum ipc_type type, const void *payload, size_t len, int fd)
{
	struct ipc_header header = { IPC_VERSION, (uint16_t)type,
		(uint32_t)len };
	struct iovec iov[2] = { { &header, sizeof(header) },
		{ (void *)(uintptr_t)payload, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len > 0 ? 2 : 1 };
	union ancillary anc;
	ssize_t n;

	if (fd >= 0)
		attach_fd(&msg, &anc, fd);
	do {
		n = sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* -1 if there is none; what is beyond the first the kernel has closed. */
static int
take_fd(struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd;

	if (c == NULL || c->cmsg_level != SOL_SOCKET ||
	    c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static bool
is_ours(const struct ipc_message *m, size_t received, int flags)
{
	const struct form *form;

	if ((flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
	    received < sizeof(m->header) ||
	    received != sizeof(m->header) + m->header.len)
		return false;
	form = find_form(m->header.type);
	return form != NULL && m->header.len == form->len &&
	       (form->frozen || m->header.version == IPC_VERSION);
}

int
ipc_receive(int sock, struct ipc_message *m)
{
	struct iovec iov[2] = { { &m->header, sizeof(m->header) },
		{ &m->u, sizeof(m->u) } };
	union ancillary anc;
	struct msghdr msg = { .msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = anc.room,
		.msg_controllen = CMSG_LEN(sizeof(int)) };
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? IPC_CLOSED : -errno;
	if (n == 0)
		return IPC_CLOSED;
	m->fd = take_fd(&msg);
	if (is_ours(m, (size_t)n, msg.msg_flags))
		return 0;
	if (m->fd >= 0)
		(void)close(m->fd);
	m->fd = -1;
	return -EPROTO;
}
