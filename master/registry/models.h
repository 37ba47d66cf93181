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
struct served *models_from_pairs(const char *const *names,
    const char *const *upstreams, const uint32_t *cells, size_t n);

/* A model by its canonical upstream name; the first of its names, or NULL. */
const struct served_model *
served_find_key(const struct served *served, const char *key);

/* Whether clients may ask for it by that name. */
bool served_has_name(const struct served *served, const char *name);

/* Whether the same names lead to the same upstream models. */
bool served_equal(const struct served *a, const struct served *b);

/* '*' is any run of characters; case does not count; all must match. */
bool models_match(const char *pattern, const char *name);

#endif
