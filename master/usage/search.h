/* SPDX-License-Identifier: MIT */
/*
 * Whether a usage file has the record of an attempt. Asked only of a worker
 * that died while it wrote it, so the record is near the end.
 */
#ifndef FL_MASTER_USAGE_SEARCH_H
#define FL_MASTER_USAGE_SEARCH_H

#include <stdbool.h>

#include "common/board.h"

/* Looks back as far as there are records of its time, within bounds. */
bool search_record(int fd, const struct board_attempt *a);

#endif
