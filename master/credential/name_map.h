/* SPDX-License-Identifier: MIT */
/*
 * A map from names to structs whose first member is that name, as a sorted
 * array: walked in name order, searched by bisection, and cheap to fill in
 * order. It owns the array and nothing that stands in it.
 */
#ifndef FL_MASTER_CREDENTIAL_NAME_MAP_H
#define FL_MASTER_CREDENTIAL_NAME_MAP_H

#include <stddef.h>

struct name_map {
	void **v; /* each begins with its char *name */
	size_t n;
	size_t cap;
};

/* Forgets the items and gives the array back; the map is usable again. */
void name_map_fini(struct name_map *map);

/* NULL if there is none. */
void *name_map_find(const struct name_map *map, const char *name);

/* Puts an item; returns the one of that name it takes the place of, or NULL. */
void *name_map_put(struct name_map *map, void *item);

/* Takes the item of that name out and returns it, or NULL. */
void *name_map_remove(struct name_map *map, const char *name);

/* The name of an item. */
const char *name_map_name(const void *item);

#endif
