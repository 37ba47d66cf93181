/* SPDX-License-Identifier: MIT */
/*
 * What the files of the registry share: registry.c and its registry_*.c, and
 * nobody else.
 */
#ifndef FL_MASTER_REGISTRY_REGISTRY_CORE_H
#define FL_MASTER_REGISTRY_REGISTRY_CORE_H

#include <stdbool.h>
#include <stddef.h>

#include "master/credential/entry.h"
#include "master/credential/name_map.h"
#include "master/registry/catalog.h"
#include "master/registry/publish.h"
#include "master/registry/registry.h"

enum { REGISTRY_LINE_MAX = 4096 };

struct registry_set {
	const struct config *config;
	const struct proxy_env *env;
	struct catalog *catalog;
	struct digest catalog_digest;
	struct name_map entries; /* staged; empty once it is committed */
	struct name_map files;   /* struct auth_file */
	size_t exposed;          /* files that others may read */
	char *an_exposed;
};

struct registry {
	struct publisher *publisher;
	struct registry_set *current; /* NULL before the first commit */
	struct name_map remarks;
	registry_published_fn *published;
	void *published_ctx;
	bool swept;
	bool results_lost; /* the last outcome could not be recorded */
};

/* Logs a warning unless it is what was last said about that name. */
void registry_say_once(
    struct registry *reg, const char *what, const char *name, const char *text);

/* Says what there is to say, or that there is nothing any more. */
void registry_say_or_forget(
    struct registry *reg, const char *what, const char *name, struct buf *text);

void registry_forget_remark(struct registry *reg, const char *name);

/* Tells the listener that something changed for workers. */
void registry_announce(struct registry *reg);

/* The same credential under this set's configuration and catalogue. */
struct entry *
registry_remake_entry(const struct registry_set *set, const struct entry *e);

/* One change per id of either map; both are sorted. The caller frees it. */
struct publish_change *registry_changes_between(
    const struct name_map *was, const struct name_map *now, size_t *n);

/*
 * The catalogue of a set that is staged: the file's, with what upstreams have
 * listed so far. 0, or -EINVAL with the reason in why.
 */
int registry_stage_catalog(
    struct registry *reg, struct registry_set *set, struct buf *why) MUST_CHECK;

/* Before anybody could be asked: what an earlier master published of a key. */
void registry_recover_listing(
    struct registry *reg, struct registry_set *set, const struct credential *c);

#endif
