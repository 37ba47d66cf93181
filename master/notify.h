/* SPDX-License-Identifier: MIT */
/*
 * Tells whoever supervises the daemon what state it is in, by the protocol of
 * sd_notify(3): one datagram to the socket that NOTIFY_SOCKET names. Without
 * that variable, or when nobody listens, it does nothing.
 */
#ifndef FL_MASTER_NOTIFY_H
#define FL_MASTER_NOTIFY_H

enum notify_state {
	NOTIFY_READY,     /* serving; also after a reload */
	NOTIFY_RELOADING, /* until the next NOTIFY_READY */
	NOTIFY_STOPPING   /* draining, or about to end */
};

/* Never waits: a supervisor that does not read is not told. */
void notify(enum notify_state state);

#endif
