/* SPDX-License-Identifier: MIT */
#include "worker/client/account.h"

#include "common/clock.h"
#include "common/traffic.h"

/* Routes whose requests are nobody's business: probes and our own pages. */
static bool
is_accounted(const struct exchange *x)
{
	const struct route_row *row = x->route.row;

	return row == NULL || row->kind <= ROUTE_MODEL;
}

static void
count(struct exchange *x, const struct access_line *line)
{
	struct traffic *t = &x->worker->slot->counters.traffic;
	int64_t us = clock_mono_us() - x->start_us;
	unsigned int provider =
	    line->attempts > 0 ? line->provider : PROVIDER_MAX;

	traffic_add(&t->requests[x->route.dialect][provider]
				[traffic_status_index(line->status)],
	    1);
	traffic_observe(&t->duration, us);
	if (line->status != STATUS_CLIENT_GONE)
		traffic_observe(
		    &t->first_byte, line->ttft_us >= 0 ? line->ttft_us : us);
	if (line->added_us >= 0 && line->attempts > 0)
		traffic_observe(&t->added, line->added_us);
}

void
account_request(struct exchange *x, const struct access_line *line)
{
	if (!is_accounted(x))
		return;
	count(x, line);
	access_log_write(x, line);
}
