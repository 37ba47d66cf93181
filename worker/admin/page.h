/* SPDX-License-Identifier: MIT */
/*
 * The status page: one document, made from page.html when fairlead is built,
 * which asks for status.json once a second.
 */
#ifndef FL_WORKER_ADMIN_PAGE_H
#define FL_WORKER_ADMIN_PAGE_H

#include "common/buf.h"
#include "common/str.h"
#include "worker/worker.h"

void page_write(struct worker *w, struct buf *b);

/* What a browser may do with it: run what is in it, and ask us. */
extern const struct span page_policy;

#endif
