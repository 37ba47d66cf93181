/* SPDX-License-Identifier: MIT */
/* The catalogue of models; see catalog.h. */
#include "master/registry/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "common/alloc.h"
#include "master/credential/json_text.h"
#include "master/credential/name_map.h"

struct catalog {
	struct name_map sections;
};

struct catalog *
catalog_new(void)
{
	return xcalloc(1, sizeof(struct catalog));
}

struct catalog_section *
catalog_section_new(const char *name)
{
	struct catalog_section *section = xcalloc(1, sizeof(*section));

	section->name = xstrdup(name);
	return section;
}

void
catalog_section_free(struct catalog_section *section)
{
	size_t i;

	if (section == NULL)
		return;
	for (i = 0; i < section->n; i++) {
		free(section->v[i].id);
		free(section->v[i].display_name);
		free(section->v[i].owned_by);
	}
	free(section->v);
	free(section->name);
	free(section);
}

void
catalog_section_add(
    struct catalog_section *section, const struct catalog_model *model)
{
	struct catalog_model *copy;

	if (catalog_section_find(section, model->id) != NULL)
		return;
	section->v =
	    xreallocarray(section->v, section->n + 1, sizeof(*section->v));
	copy = &section->v[section->n++];
	*copy = *model;
	copy->id = xstrdup(model->id);
	copy->display_name = xstrdup(model->display_name);
	copy->owned_by = xstrdup(model->owned_by);
}

static bool
model_equal(const struct catalog_model *a, const struct catalog_model *b)
{
	return strcmp(a->id, b->id) == 0 &&
	       strcmp(a->display_name, b->display_name) == 0 &&
	       strcmp(a->owned_by, b->owned_by) == 0 &&
	       a->created_s == b->created_s &&
	       a->max_input_tokens == b->max_input_tokens &&
	       a->max_output_tokens == b->max_output_tokens;
}

bool
catalog_section_equal(
    const struct catalog_section *a, const struct catalog_section *b)
{
	size_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++) {
		if (!model_equal(&a->v[i], &b->v[i]))
			return false;
	}
	return true;
}

struct catalog_section *
catalog_put(struct catalog *catalog, struct catalog_section *section)
{
	return name_map_put(&catalog->sections, section);
}

struct catalog_section *
catalog_remove(struct catalog *catalog, const char *name)
{
	return name_map_remove(&catalog->sections, name);
}

static struct catalog_section *
copy_section(const struct catalog_section *section)
{
	struct catalog_section *copy = catalog_section_new(section->name);
	size_t i;

	for (i = 0; i < section->n; i++)
		catalog_section_add(copy, &section->v[i]);
	return copy;
}

void
catalog_copy_listed(struct catalog *to, const struct catalog *from)
{
	static const char listed[] = CATALOG_LISTED;
	size_t i;

	for (i = 0; i < from->sections.n; i++) {
		const struct catalog_section *section = from->sections.v[i];

		if (strncmp(section->name, listed, sizeof(listed) - 1) == 0)
			catalog_section_free(
			    catalog_put(to, copy_section(section)));
	}
}

void
catalog_free(struct catalog *catalog)
{
	size_t i;

	if (catalog == NULL)
		return;
	for (i = 0; i < catalog->sections.n; i++)
		catalog_section_free(catalog->sections.v[i]);
	name_map_fini(&catalog->sections);
	free(catalog);
}

/* "" for anything but a string. */
static char *
text_of(const cJSON *entry, const char *key)
{
	char *s =
	    cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, key));

	return s != NULL ? s : (char *)(uintptr_t) "";
}

/* A whole number within [0, max]; 0 for anything else. */
static int64_t
number_of(const cJSON *entry, const char *key, int64_t max)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, key);

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
	    item->valuedouble > (double)max)
		return 0;
	return (int64_t)item->valuedouble;
}

static void
add_model(struct catalog_section *section, const cJSON *entry)
{
	struct catalog_model model = {
		.id = text_of(entry, "id"),
		.display_name = text_of(entry, "display_name"),
		.owned_by = text_of(entry, "owned_by"),
		.created_s = number_of(entry, "created", INT64_C(1) << 40),
		.max_input_tokens =
		    (uint32_t)number_of(entry, "context", UINT32_MAX),
		.max_output_tokens =
		    (uint32_t)number_of(entry, "max_output", UINT32_MAX),
	};

	catalog_section_add(section, &model);
}

static int
read_section(struct catalog *catalog, const cJSON *list, struct buf *why)
{
	struct catalog_section *section = catalog_section_new(list->string);
	const cJSON *entry;

	cJSON_ArrayForEach (entry, list) {
		if (*text_of(entry, "id") == '\0') {
			buf_printf(why, "has an entry without \"id\" in \"%s\"",
			    section->name);
			catalog_section_free(section);
			return -EINVAL;
		}
		add_model(section, entry);
	}
	catalog_section_free(catalog_put(catalog, section));
	return 0;
}

static int
read_catalog(struct catalog *catalog, const cJSON *file, struct buf *why)
{
	const cJSON *list;
	int rc;

	if (!cJSON_IsObject(file)) {
		buf_puts(why, "is not a JSON object");
		return -EINVAL;
	}
	cJSON_ArrayForEach (list, file) {
		if (!cJSON_IsArray(list))
			continue;
		rc = read_section(catalog, list, why);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int
catalog_parse(
    const char *text, size_t len, struct catalog **out, struct buf *why)
{
	const char *reason;
	cJSON *file;
	int rc;

	rc = json_parse(text, len, &file, &reason);
	if (rc < 0) {
		buf_puts(why, reason);
		return rc;
	}
	*out = catalog_new();
	rc = read_catalog(*out, file, why);
	cJSON_Delete(file);
	if (rc < 0) {
		catalog_free(*out);
		*out = NULL;
	}
	return rc;
}

static int
read_file(const char *path, struct buf *text)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	ssize_t n;
	int rc;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	do {
		rc = buf_reserve(text, 65536);
		if (rc < 0)
			return rc;
		n = read(fd, text->data + text->len, 65536);
		if (n < 0 && errno != EINTR)
			return -errno;
		text->len += n > 0 ? (size_t)n : 0;
	} while (n != 0);
	return 0;
}

int
catalog_load(
    const char *path, struct buf *text, struct catalog **out, struct buf *why)
{
	int rc;

	buf_clear(text);
	rc = read_file(path, text);
	if (rc < 0) {
		buf_printf(why, "cannot be read: %s", strerror(-rc));
		return rc;
	}
	return catalog_parse(text->data, text->len, out, why);
}

const struct catalog_section *
catalog_find(const struct catalog *catalog, const char *section)
{
	return name_map_find(&catalog->sections, section);
}

const struct catalog_model *
catalog_section_find(const struct catalog_section *section, const char *id)
{
	size_t i;

	for (i = 0; i < section->n; i++) {
		if (strcmp(section->v[i].id, id) == 0)
			return &section->v[i];
	}
	return NULL;
}
