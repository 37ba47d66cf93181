/* SPDX-License-Identifier: MIT */
/* The head of a request as it goes out on a direct connection. */
#ifndef FL_WORKER_UPSTREAM_DIRECT_REQUEST_H
#define FL_WORKER_UPSTREAM_DIRECT_REQUEST_H

#include <stddef.h>

#include "common/attr.h"
#include "worker/upstream/upstream.h"

/*
 * Makes the head for free(3), which may hold a secret. path: of the URL with
 * the query, "" for none; authority: for the Host header, unless one is given.
 * 0; -EINVAL for white space or control characters where they would be read
 * as another line or request; -ENOMEM.
 */
int direct_request_head(const struct upstream_request *req, const char *path,
    const char *authority, char **head, size_t *len) MUST_CHECK;

#endif
