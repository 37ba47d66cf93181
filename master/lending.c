/* SPDX-License-Identifier: MIT */
#include "master/lending.h"

static int
next_present(const bool *away, unsigned n, unsigned from)
{
	unsigned i, at;

	for (i = 1; i < n; i++) {
		at = (from + i) % n;
		if (!away[at])
			return (int)at;
	}
	return LENDING_NOBODY;
}

void
lending_plan(const bool *away, unsigned n, int *to)
{
	unsigned i;

	for (i = 0; i < n; i++)
		to[i] = away[i] ? next_present(away, n, i) : LENDING_NOBODY;
}
