/* SPDX-License-Identifier: MIT */
/*
 * What is published, as people and programs ask for it: lists of credentials
 * and models with their state of this moment, and lines for the log. Reads
 * only; never a secret.
 */
#ifndef FL_MASTER_CONTROL_REPORT_H
#define FL_MASTER_CONTROL_REPORT_H

#include <cjson/cJSON.h>

#include "common/buf.h"
#include "master/registry/publish.h"
#include "master/registry/registry.h"

/* See registry.h, whose functions these are the larger part of. */
cJSON *report_credentials(
    const struct publisher *p, registry_sessions_fn *sessions, void *ctx);
cJSON *report_credential(const struct publisher *p, const char *id,
    registry_sessions_fn *sessions, void *ctx);
cJSON *report_models(const struct publisher *p);

/* now: struct entry without a place, as a reload would publish them. */
cJSON *report_diff(const struct publisher *p, const struct name_map *now);

void report_summary(const struct publisher *p, struct buf *out);
void report_warnings(const struct publisher *p, struct buf *out);

#endif
