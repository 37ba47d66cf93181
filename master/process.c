/* SPDX-License-Identifier: MIT */
#include "master/process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct process_stat {
	char state;
	unsigned long long start_ticks; /* since boot */
};

static int
read_stat(pid_t pid, struct process_stat *out)
{
	AUTO_FCLOSE FILE *file = NULL;
	char path[32], line[1024];
	char *rest;

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	file = fopen(path, "re");
	if (file == NULL)
		return -errno;
	if (fgets(line, sizeof(line), file) == NULL)
		return -ESRCH;
	/* The name before it may hold anything, parentheses too. */
	rest = strrchr(line, ')');
	if (rest == NULL ||
	    sscanf(rest + 1,
		" %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d"
		" %*d %*d %*d %*d %llu",
		&out->state, &out->start_ticks) != 2)
		return -EPROTO;
	return 0;
}

bool
process_lives(pid_t pid)
{
	struct process_stat st;

	return pid > 0 && read_stat(pid, &st) == 0 && st.state != 'Z';
}

int
process_started_ms(pid_t pid, int64_t *boot_ms)
{
	struct process_stat st;
	int rc = read_stat(pid, &st);

	if (rc == 0)
		*boot_ms = (int64_t)(st.start_ticks * 1000 /
				     (unsigned long long)sysconf(_SC_CLK_TCK));
	return rc;
}
