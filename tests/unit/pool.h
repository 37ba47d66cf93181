/* SPDX-License-Identifier: MIT */
/*
 * A pool of credentials that serve one model, published as the master would:
 * for tests and benchmarks of picks. Member i has slot i and cell i.
 */
#ifndef FL_TESTS_UNIT_POOL_H
#define FL_TESTS_UNIT_POOL_H

#include <assert.h>
#include <string.h>

#include "common/alloc.h"
#include "common/board.h"
#include "common/state.h"

#define POOL_MODEL "model-x"

enum {
	POOL_INCARNATION = 3,
	POOL_EPOCH = 100,
	POOL_CURSOR = 900, /* of a pool of upstream models, at the slot's */
	POOL_UPSTREAMS = 3
};

struct pool_member {
	const char *id;
	int32_t priority;
	int32_t weight;
	uint8_t dialects; /* 0: Claude */
	uint16_t flags;
	bool absent;    /* from the route and from the credentials */
	bool modelless; /* has a record that does not serve the model */
	uint64_t epoch; /* added to POOL_EPOCH */
	int32_t request_retry;
	const char *provider; /* NULL: all of one */
	/* The model is POOL_UPSTREAMS of them, in cells that follow its own. */
	bool pooled;
};

static inline uint8_t
pool_dialects(const struct pool_member *m)
{
	return m->dialects != 0 ? m->dialects : DIALECT_BIT(DIALECT_CLAUDE);
}

static inline int
pool_put_credential(
    struct store *s, MDB_txn *txn, const struct pool_member *m, uint32_t number)
{
	struct state_model_input models[POOL_UPSTREAMS];
	struct state_credential_input in = {
		.fixed = {
			.slot = number,
			.incarnation = POOL_INCARNATION,
			.dialects = pool_dialects(m),
			.flags = m->flags,
			.epoch = POOL_EPOCH + m->epoch,
			.priority = m->priority,
			.weight = m->weight,
			.request_retry = m->request_retry,
		},
		.id = m->id,
		.label = "someone",
		.base_url = "https://api.example",
		.secret = "sk-0123456789",
		.models = models,
		.nmodels = m->modelless ? 0 : m->pooled ? POOL_UPSTREAMS : 1,
	};

	for (uint32_t i = 0; i < POOL_UPSTREAMS; i++)
		models[i] = (struct state_model_input){
			.name = POOL_MODEL,
			.upstream = "upstream-x",
			.cell = number + i,
			.cursor = m->pooled ? POOL_CURSOR + number : BOARD_NONE,
		};
	return state_put_credential(s, txn, &in);
}

/* Providers stand in the order in which they are first named. */
static inline uint32_t
pool_rank(const struct pool_member *members, size_t i)
{
	size_t k = 0;

	if (members[i].provider == NULL)
		return 0;
	while (members[k].provider == NULL ||
	       strcmp(members[k].provider, members[i].provider) != 0)
		k++;
	return (uint32_t)k;
}

static inline int
pool_put_route(struct store *s, MDB_txn *txn, const struct pool_member *members,
    size_t n, const char *model)
{
	AUTO_FREE struct state_member_input *inputs =
	    xcalloc(n, sizeof(*inputs));
	uint32_t cursors[64];
	struct state_route_input in = {
		.name = model,
		.members = inputs,
		.cursors = cursors,
		.ncursors = ARRAY_LEN(cursors),
	};

	for (uint32_t i = 0; i < ARRAY_LEN(cursors); i++)
		cursors[i] = i * DIALECT_MAX;
	for (size_t i = 0; i < n; i++) {
		if (members[i].absent)
			continue;
		inputs[in.nmembers++] = (struct state_member_input){
			.id = members[i].id,
			.provider = members[i].provider,
			.rank = pool_rank(members, i),
			.priority = members[i].priority,
			.fixed = {
				.credential = (uint32_t)i,
				.cell = (uint32_t)i,
				.incarnation = POOL_INCARNATION,
				.dialects = pool_dialects(&members[i]),
				.weight = members[i].weight,
			},
		};
	}
	return state_put_route(s, txn, &in);
}

/* Puts everything in one transaction and readies the board. */
static inline void
pool_publish(struct store *s, struct board *board,
    const struct pool_member *members, size_t n)
{
	MDB_txn *txn;

	if (board_cells_claim(board, (uint32_t)n) != 0 ||
	    store_write(s, &txn) != 0)
		abort();
	for (size_t i = 0; i < n; i++) {
		board_cell_reset(&board->credentials[i].cell, POOL_INCARNATION);
		board_cell_reset(&board->cells[i], POOL_INCARNATION);
		if (members[i].absent)
			(void)state_delete_credential(s, txn, members[i].id);
		else if (pool_put_credential(
			     s, txn, &members[i], (uint32_t)i) != 0)
			abort();
	}
	if (pool_put_route(s, txn, members, n, POOL_MODEL) != 0 ||
	    store_commit(txn) != 0)
		abort();
}

#endif
