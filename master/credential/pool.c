/* SPDX-License-Identifier: MIT */
/* Numbers of places on the board; see pool.h. */
#include "master/credential/pool.h"

#include <assert.h>
#include <stdlib.h>

#include "common/alloc.h"

void
pool_init(struct pool *pool, uint32_t max, uint32_t step)
{
	*pool = (struct pool){ .max = max, .step = step };
	pool->taken = xcalloc(max, 1);
}

void
pool_fini(struct pool *pool)
{
	free(pool->taken);
	*pool = (struct pool){ 0 };
}

static void
widen(struct pool *pool, uint32_t least)
{
	while (pool->limit < least && pool->limit < pool->max)
		pool->limit += pool->step;
	if (pool->limit > pool->max)
		pool->limit = pool->max;
}

uint32_t
pool_take(struct pool *pool)
{
	if (pool->used == pool->max)
		return BOARD_NONE;
	/* With half of them free, a number rests for that many takes. */
	widen(pool, 2 * (pool->used + 1));
	while (pool->taken[pool->next % pool->limit])
		pool->next = (pool->next + 1) % pool->limit;
	pool->next %= pool->limit;
	pool->taken[pool->next] = true;
	pool->used++;
	return pool->next++;
}

bool
pool_mark(struct pool *pool, uint32_t number)
{
	if (number >= pool->max || pool->taken[number])
		return false;
	pool->taken[number] = true;
	pool->used++;
	widen(pool, number + 1);
	return true;
}

void
pool_give(struct pool *pool, uint32_t number)
{
	if (number == BOARD_NONE)
		return;
	assert(number < pool->max && pool->taken[number]);
	pool->taken[number] = false;
	pool->used--;
}
