/* SPDX-License-Identifier: MIT */
#include "master/upgrade/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/board.h"
#include "common/store.h"
#include "common/str.h"

enum { TEXT_MAX = 16 << 20 };

void
handover_layouts(char *out, size_t size)
{
	(void)snprintf(out, size, "handover %d, board %d/%zu, store %d",
	    HANDOVER_VERSION, BOARD_LAYOUT, sizeof(struct board), STORE_SCHEMA);
}

/* The text of a memfd; the caller frees it. NULL with errno. */
static char *
read_text(int fd)
{
	struct stat st;
	char *text;

	if (fstat(fd, &st) < 0)
		return NULL;
	if (!S_ISREG(st.st_mode) || st.st_size > TEXT_MAX) {
		errno = EINVAL;
		return NULL;
	}
	text = xcalloc((size_t)st.st_size + 1, 1);
	if (pread(fd, text, (size_t)st.st_size, 0) == st.st_size)
		return text;
	free(text);
	return NULL;
}

int
handover_read(cJSON **out, struct buf *why)
{
	const char *variable = getenv(HANDOVER_VARIABLE);
	AUTO_FREE char *text = NULL;
	int64_t fd;

	*out = NULL;
	if (variable == NULL)
		return 0;
	if (str_to_int(variable, 3, INT32_MAX, &fd) == 0)
		text = read_text((int)fd);
	(void)unsetenv(HANDOVER_VARIABLE);
	if (text != NULL) {
		*out = cJSON_Parse(text);
		(void)close((int)fd);
	}
	if (*out != NULL &&
	    handover_number(*out, "handover") == HANDOVER_VERSION)
		return 0;
	cJSON_Delete(*out);
	*out = NULL;
	buf_puts(why, HANDOVER_VARIABLE " is set, and there is nothing that "
					"this program could take over");
	return -EINVAL;
}

void
handover_prepare(void)
{
	(void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
}

void
handover_put_fd(cJSON *object, const char *name, int fd)
{
	if (fd < 0)
		return;
	handover_put_number(object, name, fd);
	(void)fcntl(fd, F_SETFD, 0);
}

int
handover_take_fd(const cJSON *object, const char *name)
{
	int fd = (int)handover_number(object, name);

	if (fd <= STDERR_FILENO || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return fd;
}

void
handover_put_number(cJSON *object, const char *name, int64_t value)
{
	(void)cJSON_AddNumberToObject(object, name, (double)value);
}

int64_t
handover_number(const cJSON *object, const char *name)
{
	const cJSON *n = cJSON_GetObjectItem(object, name);

	return cJSON_IsNumber(n) ? (int64_t)n->valuedouble : 0;
}

const char *
handover_string(const cJSON *object, const char *name)
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(object, name));

	return s != NULL ? s : "";
}

/* A memfd that stays open over the exec; or negative errno. */
static int
write_text(const char *text)
{
	size_t len = strlen(text);
	int fd = memfd_create("fairlead-handover", 0);
	int rc;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) == (ssize_t)len)
		return fd;
	rc = errno != 0 ? -errno : -EIO;
	(void)close(fd);
	return rc;
}

static int
execute(int program, const char *path, char *const *argv)
{
	sigset_t all, before;
	int rc;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	if (program >= 0)
		(void)execveat(program, "", argv, environ, AT_EMPTY_PATH);
	else
		(void)execv(path, argv);
	rc = -errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}

int
handover_exec(
    const cJSON *handover, int program, const char *path, char *const *argv)
{
	AUTO_FREE char *text = cJSON_PrintUnformatted(handover);
	char variable[16];
	int fd, rc;

	fd = text != NULL ? write_text(text) : -ENOMEM;
	if (fd < 0)
		return fd;
	(void)snprintf(variable, sizeof(variable), "%d", fd);
	if (setenv(HANDOVER_VARIABLE, variable, 1) < 0)
		rc = -errno;
	else
		rc = execute(program, path, argv);
	(void)unsetenv(HANDOVER_VARIABLE);
	(void)close(fd);
	return rc;
}
