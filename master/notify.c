/* SPDX-License-Identifier: MIT */
#include "master/notify.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/attr.h"
#include "common/clock.h"

enum { TEXT_MAX = 128 };

/*
 * MAINPID, because the one who serves may be another process than the one that
 * was started; MONOTONIC_USEC is what systemd orders reloads by since 253.
 */
static void
write_text(enum notify_state state, char text[TEXT_MAX])
{
	switch (state) {
	case NOTIFY_READY:
		(void)snprintf(text, TEXT_MAX,
		    "READY=1\nMAINPID=%ld\nSTATUS=serving", (long)getpid());
		break;
	case NOTIFY_RELOADING:
		(void)snprintf(text, TEXT_MAX,
		    "RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=reloading",
		    clock_mono_us());
		break;
	case NOTIFY_STOPPING:
		(void)snprintf(text, TEXT_MAX, "STOPPING=1\nSTATUS=finishing");
		break;
	}
}

/* False for an address that is none; "@" begins an abstract one. */
static bool
read_address(const char *name, struct sockaddr_un *address, socklen_t *len)
{
	size_t n = strlen(name);

	if (n < 2 || n >= sizeof(address->sun_path) ||
	    (name[0] != '/' && name[0] != '@'))
		return false;
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address->sun_path, name, n);
	if (name[0] == '@')
		address->sun_path[0] = '\0';
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return true;
}

void
notify(enum notify_state state)
{
	const char *name = getenv("NOTIFY_SOCKET");
	AUTO_CLOSE int fd = -1;
	struct sockaddr_un address;
	char text[TEXT_MAX];
	socklen_t len;

	if (name == NULL || !read_address(name, &address, &len))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	write_text(state, text);
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL,
	    (struct sockaddr *)&address, len);
}
