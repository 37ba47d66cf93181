/* SPDX-License-Identifier: MIT */
/* What /proc says of a process that is not our child. */
#ifndef FL_MASTER_PROCESS_H
#define FL_MASTER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/attr.h"

/* Whether it runs; a zombie does not. */
bool process_lives(pid_t pid);

/* When it was started, by clock_boot_ms(). 0 or negative errno. */
int process_started_ms(pid_t pid, int64_t *boot_ms) MUST_CHECK;

#endif
