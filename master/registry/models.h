/* SPDX-License-Identifier: MIT */
/*
 * Which models a credential serves, and under which names: the configured
 * list, or else the provider's section of the catalogue and what its upstream
 * lists, less what is excluded, with the aliases of its login, and with its
 * prefix. In that order.
 */
#ifndef FL_MASTER_REGISTRY_MODELS_H
#define FL_MASTER_REGISTRY_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/board.h"
#include "common/config.h"
#include "master/credential/credential.h"
#include "master/registry/catalog.h"

struct served_model {
	const char *name;     /* as clients ask for it; key of its route */
	const char *upstream; /* as the upstream is asked for it */
	const char *key;      /* canonical upstream model: what has a state */
	const struct catalog_model *info; /* NULL: nothing is known */
	uint32_t cell; /* on the board, shared by all names of a key */

	/*
	 * Several upstream models under one name are a pool, in the order in
	 * which they are configured; the first knows how many there are, and
	 * holds the cursor that goes over them.
	 */
	uint32_t place, npool;
	uint32_t cursor; /* on the board; BOARD_NONE: it is no pool */
};

/* One block of memory, in the order of key, then name. */
struct served {
	size_t n;
	struct served_model v[];
};

/*
 * What the credential would serve if it is enabled and sound. The catalogue
 * is borrowed for as long as the result lives; free(3) frees it. No cells are
 * given yet (BOARD_NONE).
 */
struct served *models_served(const struct credential *c,
    const struct config *config, const struct catalog *catalog);

/* Names and upstream names as given, without facts: for what is read back. */
struct served_pair {
	const char *name, *upstream;
	uint32_t cell, cursor;
};

struct served *models_from_pairs(const struct served_pair *pairs, size_t n);

/* A model by its canonical upstream name; the first of its names, or NULL. */
const struct served_model *
served_find_key(const struct served *served, const char *key);

/* Whether clients may ask for it by that name. */
bool served_has_name(const struct served *served, const char *name);

/* The cells of a pool in its order, from a model at its first place. */
void served_pool_cells(const struct served *served,
    const struct served_model *first, uint32_t *cells);

/* Whether the same names lead to the same upstream models. */
bool served_equal(const struct served *a, const struct served *b);

/* '*' is any run of characters; case does not count; all must match. */
bool models_match(const char *pattern, const char *name);

#endif
