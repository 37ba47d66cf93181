/* SPDX-License-Identifier: MIT */
#include "master/ctl/client.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/str.h"

enum { CHUNK = 64 * 1024 };

static bool
means_not_running(int error)
{
	return error == ENOENT || error == ECONNREFUSED || error == ENOTDIR;
}

/* The socket, or negative errno. */
static int
connect_to(const char *path, int timeout_s)
{
	const struct timeval limit = { timeout_s, 0 };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, rc;

	if (!str_copy(sun.sun_path, sizeof(sun.sun_path), path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) <
		0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) <
		0 ||
	    connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		rc = -errno;
		(void)close(fd);
		return rc;
	}
	return fd;
}

static void
write_request(
    struct buf *out, const char *verb, char *const *args, size_t nargs)
{
	size_t i;

	buf_puts(out, "{\"verb\":");
	buf_json_string(out, verb, strlen(verb));
	buf_puts(out, ",\"args\":[");
	for (i = 0; i < nargs; i++) {
		if (i > 0)
			buf_putc(out, ',');
		buf_json_string(out, args[i], strlen(args[i]));
	}
	buf_puts(out, "]}\n");
}

static int
send_request(int fd, struct buf *request)
{
	ssize_t n;

	if (request->failed)
		return -E2BIG;
	n = send(fd, request->data, request->len, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (size_t)n == request->len ? 0 : -EIO;
}

static int
receive(int fd, struct buf *text)
{
	ssize_t n;
	int rc;

	do {
		rc = buf_reserve(text, CHUNK);
		if (rc < 0)
			return rc;
		n = recv(fd, text->data + text->len, CHUNK, 0);
		if (n > 0)
			text->len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : 0;
}

int
client_ask(const char *path, const char *verb, char *const *args, size_t nargs,
    int timeout_s, struct buf *text, cJSON **answer)
{
	struct buf request = BUF_INIT(CHUNK);
	AUTO_CLOSE int fd = connect_to(path, timeout_s);
	int rc;

	*answer = NULL;
	if (fd < 0)
		return means_not_running(-fd) ? CLIENT_NOT_RUNNING : fd;
	write_request(&request, verb, args, nargs);
	rc = send_request(fd, &request);
	buf_fini(&request);
	if (rc == 0)
		rc = receive(fd, text);
	if (rc < 0)
		return rc == -ECONNRESET || rc == -EPIPE ? CLIENT_NO_ANSWER
							 : rc;
	*answer = cJSON_ParseWithLength(text->data, text->len);
	return *answer != NULL ? 0 : CLIENT_NO_ANSWER;
}
