/* SPDX-License-Identifier: MIT */
#include "master/refresh/due.h"

static int64_t
min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Never more than half of what the token lives. */
static int64_t
clamped(const struct refresh_times *t, int64_t lead_ms)
{
	int64_t life_ms = t->expires_ms - t->last_ms;

	if (t->expires_ms == 0 || t->last_ms == 0 || life_ms <= 0)
		return lead_ms;
	return min(lead_ms, life_ms / 2);
}

/* Earlier by up to a tenth, so that not all come at once. */
static int64_t
spread(const struct refresh_times *t, int64_t lead_ms)
{
	return lead_ms + lead_ms / 10 * t->jitter / REFRESH_JITTER_MAX;
}

static int64_t
due_by_interval(const struct refresh_times *t)
{
	int64_t due_ms = t->last_ms + t->interval_ms;

	if (t->last_ms == 0)
		return t->now_ms;
	if (t->expires_ms != 0)
		due_ms =
		    min(due_ms, t->expires_ms - clamped(t, t->interval_ms));
	return due_ms;
}

static int64_t
due_by_lead(const struct refresh_times *t)
{
	int64_t lead_ms = spread(t, clamped(t, t->lead_ms));

	if (t->expires_ms != 0)
		return t->expires_ms - lead_ms;
	/* With no lead there is nothing to tell by when it will expire. */
	if (t->lead_ms == 0)
		return REFRESH_NEVER;
	return t->last_ms != 0 ? t->last_ms + t->lead_ms : t->now_ms;
}

int64_t
refresh_due(const struct refresh_times *t)
{
	return max(t->now_ms,
	    t->interval_ms > 0 ? due_by_interval(t) : due_by_lead(t));
}
