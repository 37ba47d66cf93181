/* SPDX-License-Identifier: MIT */
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/attr.h"

static int64_t base_of_boot_ms;

static int64_t
read_clock_us(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
clock_boot_ms(void)
{
	return read_clock_us(CLOCK_BOOTTIME) / 1000;
}

int64_t
clock_mono_us(void)
{
	return read_clock_us(CLOCK_MONOTONIC);
}

void
clock_set_base(int64_t base_ms)
{
	base_of_boot_ms = base_ms;
}

int64_t
clock_base(void)
{
	return base_of_boot_ms;
}

int64_t
clock_now_ms(void)
{
	return clock_boot_ms() + base_of_boot_ms;
}

int64_t
clock_choose_base(int64_t last_ms, int64_t longest_ms)
{
	int64_t wall_ms = read_clock_us(CLOCK_REALTIME) / 1000;
	int64_t now_ms = wall_ms;

	if (last_ms > 0 && now_ms < last_ms)
		now_ms = last_ms;
	if (last_ms > 0 && now_ms > last_ms + longest_ms)
		now_ms = last_ms + longest_ms;
	return now_ms - clock_boot_ms();
}

int
clock_boot_id(char id[37])
{
	AUTO_CLOSE int fd = -1;
	ssize_t n;

	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, id, 36);
	if (n != 36)
		return n < 0 ? -errno : -EIO;
	id[36] = '\0';
	return 0;
}
