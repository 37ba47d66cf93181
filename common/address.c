/* SPDX-License-Identifier: MIT */
#include "common/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "common/alloc.h"
#include "common/str.h"

static int
parse_unix(const char *path, struct address *out)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&out->sa;

	sun->sun_family = AF_UNIX;
	if (*path == '\0' ||
	    !str_copy(sun->sun_path, sizeof(sun->sun_path), path))
		return -EINVAL;
	out->len = sizeof(*sun);
	out->is_unix = true;
	out->loopback = true;
	return 0;
}

static bool
is_loopback(const struct sockaddr *sa)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;

	if (sa->sa_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static int
resolve(const char *host, const char *port, struct address *out)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *found;

	if (strcmp(host, "*") == 0) {
		hints.ai_family = AF_INET;
		host = NULL;
	}
	if (getaddrinfo(host, port, &hints, &found) != 0)
		return -EINVAL;
	memcpy(&out->sa, found->ai_addr, found->ai_addrlen);
	out->len = found->ai_addrlen;
	out->loopback = is_loopback(found->ai_addr);
	freeaddrinfo(found);
	return 0;
}

int
address_parse(const char *text, struct address *out)
{
	AUTO_FREE char *host = xstrdup(text);
	char *start = host;
	char *colon, *end;
	int64_t port;

	*out = (struct address){ 0 };
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, out);
	colon = strrchr(host, ':');
	if (colon == NULL || colon == host)
		return -EINVAL;
	*colon = '\0';
	if (str_to_int(colon + 1, 0, 65535, &port) < 0)
		return -EINVAL;
	if (*start == '[') {
		end = colon - 1;
		if (*end != ']')
			return -EINVAL;
		*end = '\0';
		start++;
	} else if (strchr(start, ':') != NULL) {
		return -EINVAL;
	}
	return resolve(start, colon + 1, out);
}
