/* SPDX-License-Identifier: MIT */
/* A map from names to structs; see name_map.h. */
#include "master/credential/name_map.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"

const char *
name_map_name(const void *item)
{
	return *(char *const *)item;
}

/* Where the name stands or would stand. */
static size_t
position(const struct name_map *map, const char *name, bool *found)
{
	size_t low = 0;
	size_t high = map->n;
	size_t mid;
	int order;

	*found = false;
	if (high > 0 && strcmp(name_map_name(map->v[high - 1]), name) < 0)
		return high;
	while (low < high) {
		mid = low + (high - low) / 2;
		order = strcmp(name_map_name(map->v[mid]), name);
		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void
name_map_fini(struct name_map *map)
{
	free(map->v);
	*map = (struct name_map){ 0 };
}

void *
name_map_find(const struct name_map *map, const char *name)
{
	bool found;
	size_t at = position(map, name, &found);

	return found ? map->v[at] : NULL;
}

void *
name_map_put(struct name_map *map, void *item)
{
	bool found;
	size_t at = position(map, name_map_name(item), &found);
	void *replaced = NULL;

	if (found) {
		replaced = map->v[at];
	} else {
		xgrow(&map->v, &map->cap, map->n, sizeof(*map->v));
		memmove(map->v + at + 1, map->v + at,
		    (map->n - at) * sizeof(*map->v));
		map->n++;
	}
	map->v[at] = item;
	return replaced;
}

void *
name_map_remove(struct name_map *map, const char *name)
{
	bool found;
	size_t at = position(map, name, &found);
	void *item;

	if (!found)
		return NULL;
	item = map->v[at];
	map->n--;
	memmove(map->v + at, map->v + at + 1, (map->n - at) * sizeof(*map->v));
	return item;
}
