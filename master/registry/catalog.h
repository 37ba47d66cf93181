/* SPDX-License-Identifier: MIT */
/*
 * The catalogue: which models a provider is known to have, where no
 * credential says so itself. A JSON object of sections, each a list of
 * objects of which only "id" is required; what is not known is passed over.
 */
#ifndef FL_MASTER_REGISTRY_CATALOG_H
#define FL_MASTER_REGISTRY_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/buf.h"

struct catalog_model {
	char *id;
	char *display_name; /* "" if it is not said */
	char *owned_by;     /* likewise */
	int64_t created_s;  /* 0 likewise */
	uint32_t max_input_tokens, max_output_tokens;
};

struct catalog_section {
	char *name;
	struct catalog_model *v;
	size_t n;
};

struct catalog;

enum { CATALOG_BYTES_MAX = 8 << 20 };

/* How sections begin that upstreams have listed; in no file. */
#define CATALOG_LISTED "listed by "

/* One without any section. */
struct catalog *catalog_new(void);
void catalog_free(struct catalog *catalog);

/* 0 and *out; -EINVAL with the reason in why, going on from the file's name. */
int catalog_parse(const char *text, size_t len, struct catalog **out,
    struct buf *why) MUST_CHECK;

/*
 * Reads a file, whose text is left in *text for a digest. 0; -ENOENT; or
 * negative errno with the reason in why.
 */
int catalog_load(const char *path, struct buf *text, struct catalog **out,
    struct buf *why) MUST_CHECK;

/*
 * A section by itself. catalog_section_add() copies a model, unless its id is
 * there already.
 */
struct catalog_section *catalog_section_new(const char *name);
void catalog_section_free(struct catalog_section *section);
void catalog_section_add(
    struct catalog_section *section, const struct catalog_model *model);
bool catalog_section_equal(
    const struct catalog_section *a, const struct catalog_section *b);

/* Puts a section; returns the one whose place it takes, or NULL. */
struct catalog_section *
catalog_put(struct catalog *catalog, struct catalog_section *section);

/* Takes a section out and returns it, or NULL. */
struct catalog_section *
catalog_remove(struct catalog *catalog, const char *name);

/* Copies what upstreams have listed. */
void catalog_copy_listed(struct catalog *to, const struct catalog *from);

/* NULL if there is no such section. */
const struct catalog_section *
catalog_find(const struct catalog *catalog, const char *section);

/* A model of a section by its id, or NULL. */
const struct catalog_model *
catalog_section_find(const struct catalog_section *section, const char *id);

#endif
