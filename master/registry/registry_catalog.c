/* SPDX-License-Identifier: MIT */
/*
 * The catalogue of a registry: the file, and what upstreams have listed, which
 * is kept beside the file's sections and outlives a change of the file.
 */
#include "master/registry/registry_core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"

/* What has been listed so far goes on into another catalogue. */
static void
keep_listed(const struct registry *reg, const struct registry_set *set,
    struct catalog *catalog)
{
	if (set->config->discover_models && reg->current != NULL)
		catalog_copy_listed(catalog, reg->current->catalog);
}

int
registry_stage_catalog(
    struct registry *reg, struct registry_set *set, struct buf *why)
{
	const struct config *config = set->config;
	struct buf text = BUF_INIT(CATALOG_BYTES_MAX);
	struct buf said = BUF_INIT(REGISTRY_LINE_MAX);
	int rc;

	rc = catalog_load(config->models_file, &text, &set->catalog, &said);
	if (rc == 0) {
		digest_of(text.data, text.len, &set->catalog_digest);
		registry_forget_remark(reg, config->models_file);
	} else if (rc == -ENOENT && !config->models_file_given) {
		registry_say_once(reg, "models-file", config->models_file,
		    "does not exist: only configured models are served");
		set->catalog = catalog_new();
		rc = 0;
	} else {
		buf_printf(why, "models-file %s: %s\n", config->models_file,
		    buf_string(&said));
		rc = -EINVAL;
	}
	buf_fini(&text);
	buf_fini(&said);
	if (rc == 0)
		keep_listed(reg, set, set->catalog);
	return rc;
}

/*
 * Until upstreams have answered a new master, what the one before published of
 * a key goes on: its sessions and failures are not lost by a restart.
 */
void
registry_recover_listing(
    struct registry *reg, struct registry_set *set, const struct credential *c)
{
	const struct entry *was =
	    name_map_find(publisher_entries(reg->publisher), c->id);
	struct catalog_section *section;
	size_t i;

	if (*c->listing == '\0' || was == NULL || was->cred != NULL ||
	    was->served->n == 0 ||
	    catalog_find(set->catalog, c->listing) != NULL)
		return;
	section = catalog_section_new(c->listing);
	for (i = 0; i < was->served->n; i++) {
		char *id = xstrdup(was->served->v[i].upstream);

		catalog_section_add(
		    section, &(struct catalog_model){ .id = id,
				 .display_name = (char *)(uintptr_t) "",
				 .owned_by = (char *)(uintptr_t) "" });
		free(id);
	}
	(void)catalog_put(set->catalog, section);
}

/* Every credential anew under another catalogue, in one transaction. */
static int
publish_catalog(struct registry *reg, struct catalog *catalog)
{
	const struct name_map *entries = publisher_entries(reg->publisher);
	struct registry_set *set = reg->current;
	struct catalog *before = set->catalog;
	struct name_map remade = { 0 };
	struct publish_change *changes;
	size_t i, n;
	int rc;

	set->catalog = catalog;
	for (i = 0; i < entries->n; i++)
		(void)name_map_put(
		    &remade, registry_remake_entry(set, entries->v[i]));
	changes = registry_changes_between(entries, &remade, &n);
	rc = publisher_apply(reg->publisher, changes, n, NULL);
	if (rc < 0) {
		for (i = 0; i < remade.n; i++)
			entry_free(remade.v[i]);
		set->catalog = before;
		before = catalog;
	}
	catalog_free(before);
	name_map_fini(&remade);
	free(changes);
	return rc;
}

static int
change_catalog(
    struct registry *reg, const struct buf *text, struct catalog *catalog)
{
	struct registry_set *set = reg->current;
	struct digest digest;
	int rc;

	digest_of(text->data, text->len, &digest);
	if (digest_equal(&digest, &set->catalog_digest)) {
		catalog_free(catalog);
		return REGISTRY_UNCHANGED;
	}
	keep_listed(reg, set, catalog);
	rc = publish_catalog(reg, catalog);
	if (rc < 0)
		return rc;
	set->catalog_digest = digest;
	log_notice("%s: read again, %zu models are served",
	    set->config->models_file, registry_count_models(reg));
	registry_announce(reg);
	return 0;
}

int
registry_catalog_changed(struct registry *reg)
{
	struct buf text = BUF_INIT(CATALOG_BYTES_MAX);
	struct buf said = BUF_INIT(REGISTRY_LINE_MAX);
	struct catalog *catalog;
	const char *path;
	int rc;

	if (reg->current == NULL)
		return 0;
	path = reg->current->config->models_file;
	rc = catalog_load(path, &text, &catalog, &said);
	registry_say_or_forget(reg, "models-file", path, &said);
	if (rc < 0)
		rc = REGISTRY_RETRY;
	else
		rc = change_catalog(reg, &text, catalog);
	buf_fini(&text);
	buf_fini(&said);
	return rc;
}

/* ---- what upstreams list */

static bool
lists(const struct entry *e, const char *listing)
{
	return e->cred != NULL && strcmp(e->cred->listing, listing) == 0;
}

void
registry_each_listing(struct registry *reg, registry_listing_fn *fn, void *ctx)
{
	const struct name_map *entries = publisher_entries(reg->publisher);
	size_t i;

	for (i = 0; i < entries->n; i++) {
		const struct entry *e = entries->v[i];

		if (entry_is_usable(e) && *e->cred->listing != '\0')
			fn(ctx, e);
	}
}

/* Those who are served by a listing, anew, in one transaction. */
static int
publish_listing(struct registry *reg, const char *listing)
{
	const struct name_map *entries = publisher_entries(reg->publisher);
	struct publish_change *changes = xcalloc(entries->n, sizeof(*changes));
	size_t i;
	size_t n = 0;
	int rc;

	for (i = 0; i < entries->n; i++) {
		struct entry *e = entries->v[i];

		if (!lists(e, listing))
			continue;
		changes[n].now = registry_remake_entry(reg->current, e);
		changes[n].id = changes[n].now->id;
		n++;
	}
	rc = publisher_apply(reg->publisher, changes, n, NULL);
	for (i = 0; rc < 0 && i < n; i++)
		entry_free(changes[i].now);
	free(changes);
	return rc;
}

int
registry_listed(struct registry *reg, struct catalog_section *section)
{
	struct catalog *catalog = reg->current->catalog;
	struct catalog_section *before;
	int rc;

	before = catalog_put(catalog, section);
	if (before != NULL && catalog_section_equal(before, section)) {
		catalog_section_free(catalog_put(catalog, before));
		return REGISTRY_UNCHANGED;
	}
	rc = publish_listing(reg, section->name);
	if (rc < 0) {
		if (before != NULL)
			section = catalog_put(catalog, before);
		else
			section = catalog_remove(catalog, section->name);
		catalog_section_free(section);
		return rc;
	}
	catalog_section_free(before);
	registry_announce(reg);
	return 0;
}
