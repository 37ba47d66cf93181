/* SPDX-License-Identifier: MIT */
/*
 * Messages between master and worker: one datagram of a SOCK_SEQPACKET
 * socket each, with at most one descriptor. The socket holds a few hundred,
 * so a message is a hint or something that may arrive late: what matters to
 * the next pick is a word on the board. The forms of DRAIN, START and RESULT
 * are frozen, because a worker may outlive the master that started it.
 *
 * On DRAIN a worker accepts from its listeners until EAGAIN and then closes
 * all that it inherited, polled or not: a socket of a SO_REUSEPORT group that
 * anyone keeps open is still given connections.
 */
#ifndef FL_COMMON_IPC_H
#define FL_COMMON_IPC_H

#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

enum { IPC_VERSION = 1 };

/* X(name, number, direction): "down" master to worker, "up" the other way. */
#define IPC_MESSAGES(X)                                                        \
	X(START, 1, "down")       /* accept connections from now on */         \
	X(DRAIN, 2, "down")       /* stop accepting, finish, answer DRAINED */ \
	X(RESULT, 3, "up")        /* struct ipc_result */                      \
	X(READY, 4, "up")         /* set up, not accepting */                  \
	X(DRAINED, 5, "up")       /* no connection is left */                  \
	X(ADOPT, 6, "down")       /* struct ipc_listener: poll that one too */ \
	X(RELEASE, 7, "down")     /* struct ipc_listener: leave it again */    \
	X(LOG_FD, 8, "down")      /* struct ipc_log and a descriptor */        \
	X(WAKE, 9, "down")        /* something changed in `state` */           \
	X(NEED_REFRESH, 10, "up") /* struct ipc_refresh */                     \
	X(CLOSE_IDLE, 11, "down") /* after DRAIN: waits for no next request */

enum ipc_type {
#define X(name, number, direction) IPC_##name = (number),
	IPC_MESSAGES(X)
#undef X
};

struct ipc_header {
	uint16_t version;
	uint16_t type;
	uint32_t len; /* of what follows */
};

/* The outcome of an attempt, where it changes what is known. */
struct ipc_result {
	uint32_t cell;        /* of the board; see board.h */
	uint32_t credential;  /* slot on the board */
	uint16_t incarnation; /* of the credential as the worker saw it */
	uint16_t status;      /* HTTP status, 0 for none */
	uint8_t success;
	uint8_t reason; /* enum cool_reason */
	uint8_t level;  /* of the ladder, after this failure */
	uint8_t wide;   /* the whole credential, not one model */
	/* What the worker raised the word to; of a success, what it saw. */
	int64_t until_ms;
};

enum ipc_listener_role { IPC_LISTENER_CLIENTS, IPC_LISTENER_ADMIN };

struct ipc_listener {
	uint32_t index; /* descriptor HANDOFF_LISTEN + index */
	uint32_t role;  /* enum ipc_listener_role: what is served there */
};

enum ipc_log_kind { IPC_LOG_ERROR, IPC_LOG_ACCESS, IPC_LOG_USAGE };

/*
 * Without a descriptor: the error log is syslog, and the access log is not
 * written. epoch: of the usage file, larger than that of any before.
 */
struct ipc_log {
	uint32_t kind;
	uint32_t reserved;
	uint64_t epoch;
};

struct ipc_refresh {
	uint32_t credential;
	uint16_t incarnation;
	uint16_t reserved;
	uint64_t token_generation; /* of the token that was refused */
};

enum { IPC_PAYLOAD_MAX = 64 };

struct ipc_message {
	struct ipc_header header;
	union {
		struct ipc_result result;
		struct ipc_listener listener;
		struct ipc_log log;
		struct ipc_refresh refresh;
		char bytes[IPC_PAYLOAD_MAX];
	} u;
	int fd; /* received with it, or -1; the receiver owns it */
};

const char *ipc_name(uint16_t type);

/*
 * Sends without waiting. fd may be -1. 0; -EAGAIN when the socket is full;
 * other negative errno.
 */
int
ipc_send(int sock, enum ipc_type type, const void *payload, size_t len, int fd);

enum { IPC_CLOSED = 1 };

/*
 * Receives one message without waiting. 0; IPC_CLOSED when the peer is gone;
 * -EAGAIN when there is none; -EPROTO for what is not a message of ours.
 */
int ipc_receive(int sock, struct ipc_message *message) MUST_CHECK;

#endif
