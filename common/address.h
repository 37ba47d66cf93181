/* SPDX-License-Identifier: MIT */
/* A listening address as people write it: host:port, [v6]:port, unix:PATH. */
#ifndef FL_COMMON_ADDRESS_H
#define FL_COMMON_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "common/attr.h"

struct address {
	struct sockaddr_storage sa;
	socklen_t len;
	bool is_unix;
	bool loopback; /* or unix: reachable from this machine only */
};

/* 0, or -EINVAL for what is no address. "*:PORT" is every IPv4 address. */
int address_parse(const char *text, struct address *out) MUST_CHECK;

#endif
