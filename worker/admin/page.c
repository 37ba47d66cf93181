/* SPDX-License-Identifier: MIT */
#include "worker/admin/page.h"

#include "common/attr.h"
#include "worker/page.h"

const struct span page_policy = { PAGE_POLICY, sizeof(PAGE_POLICY) - 1 };

void
page_write(struct worker *w UNUSED, struct buf *b)
{
	buf_append(b, page_bytes, sizeof(page_bytes));
}
