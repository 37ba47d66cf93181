/* SPDX-License-Identifier: MIT */
/* Why a request went where it went, from the rings that workers write. */
#ifndef FL_MASTER_CONTROL_WHY_REPORT_H
#define FL_MASTER_CONTROL_WHY_REPORT_H

#include <cjson/cJSON.h>

#include "common/board.h"

/* The answer to "why", NULL when no ring knows the request. */
cJSON *why_report(
    struct board *board, const char *runtime_dir, const char *request_id);

#endif
