/* SPDX-License-Identifier: MIT */
/*
 * Numbers of places on the board: which are taken, and which is next. A
 * number that was given back rests as long as it can before it is given out
 * again, so that whoever still has it in hand does no harm; and the numbers
 * stay low, since what lies above was never touched.
 */
#ifndef FL_MASTER_CREDENTIAL_POOL_H
#define FL_MASTER_CREDENTIAL_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/board.h"

struct pool {
	uint8_t *taken;
	uint32_t max;   /* numbers are below */
	uint32_t limit; /* and, for now, below this */
	uint32_t step;  /* by which the limit grows */
	uint32_t used;
	uint32_t next;
};

void pool_init(struct pool *pool, uint32_t max, uint32_t step);
void pool_fini(struct pool *pool);

/* A number, or BOARD_NONE when all are taken. */
uint32_t pool_take(struct pool *pool) MUST_CHECK;

/* Takes a certain number; false if it is out of range or taken. */
bool pool_mark(struct pool *pool, uint32_t number);

/* Gives back what was taken; BOARD_NONE is fine. */
void pool_give(struct pool *pool, uint32_t number);

#endif
