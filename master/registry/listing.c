/* SPDX-License-Identifier: MIT */
/* Lists of models as upstreams tell them; see listing.h. */
#include "master/registry/listing.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/model_name.h"
#include "master/credential/json_text.h"

/* The names that one fact goes by, the first that is there counts. */
struct aliases {
	const char *names[3];
};

static const struct aliases id_keys = { { "id", "name" } };
static const struct aliases display_keys = { { "display_name",
    "displayName" } };
static const struct aliases owner_keys = { { "owned_by" } };
static const struct aliases input_keys = { { "max_input_tokens",
    "inputTokenLimit", "context_length" } };
static const struct aliases output_keys = { { "max_tokens", "outputTokenLimit",
    "max_completion_tokens" } };

static const cJSON *
member(const cJSON *entry, const struct aliases *keys)
{
	const cJSON *item = NULL;

	for (size_t i = 0; i < 3 && keys->names[i] != NULL && item == NULL; i++)
		item = cJSON_GetObjectItemCaseSensitive(entry, keys->names[i]);
	return item;
}

static char *
text_of(const cJSON *entry, const struct aliases *keys)
{
	char *s = cJSON_GetStringValue(member(entry, keys));

	return s != NULL ? s : (char *)(uintptr_t) "";
}

static uint32_t
tokens_of(const cJSON *entry, const struct aliases *keys)
{
	const cJSON *item = member(entry, keys);

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
	    item->valuedouble > UINT32_MAX)
		return 0;
	return (uint32_t)item->valuedouble;
}

static int64_t
created_of(const cJSON *entry)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, "created");

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
	    item->valuedouble > (double)(INT64_C(1) << 40))
		return 0;
	return (int64_t)item->valuedouble;
}

/* Gemini says what can be done with a model; others have one thing to do. */
static bool
generates(const cJSON *entry)
{
	const cJSON *methods = cJSON_GetObjectItemCaseSensitive(
	    entry, "supportedGenerationMethods");
	const cJSON *method;
	const char *name;

	if (!cJSON_IsArray(methods))
		return true;
	cJSON_ArrayForEach (method, methods) {
		name = cJSON_GetStringValue(method);
		if (name != NULL && strcmp(name, "generateContent") == 0)
			return true;
	}
	return false;
}

/* A control character beyond ASCII, which terminals may obey. */
static bool
is_high_control(const unsigned char *s)
{
	return s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0;
}

/*
 * Printable, without blanks: it goes into lists, logs and URLs. One that would
 * be cut when it is asked for, as what ends like a suffix is, cannot be served.
 */
static bool
is_name(const char *s)
{
	if (*s == '\0' || model_name_split(span_of(s)).key.len != strlen(s))
		return false;
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s <= ' ' || *s == 0x7f ||
		    is_high_control((const unsigned char *)s))
			return false;
	}
	return true;
}

static char *
id_of(const cJSON *entry)
{
	static const char collection[] = "models/";
	char *id = text_of(entry, &id_keys);

	if (strncmp(id, collection, sizeof(collection) - 1) == 0)
		id += sizeof(collection) - 1;
	return id;
}

/* Whether all of it fits. */
static bool
read_list(struct catalog_section *section, const cJSON *list)
{
	const cJSON *entry;

	cJSON_ArrayForEach (entry, list) {
		struct catalog_model model = {
			.id = id_of(entry),
			.display_name = text_of(entry, &display_keys),
			.owned_by = text_of(entry, &owner_keys),
			.created_s = created_of(entry),
			.max_input_tokens = tokens_of(entry, &input_keys),
			.max_output_tokens = tokens_of(entry, &output_keys),
		};

		if (!is_name(model.id) || !generates(entry))
			continue;
		if (section->n == LISTING_MODELS_MAX)
			return false;
		catalog_section_add(section, &model);
	}
	return true;
}

static const cJSON *
find_list(const cJSON *answer)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "data");

	if (!cJSON_IsArray(list))
		list = cJSON_GetObjectItemCaseSensitive(answer, "models");
	return cJSON_IsArray(list) ? list : NULL;
}

int
listing_parse(const char *text, size_t len, const char *name,
    struct catalog_section **out, struct buf *why)
{
	struct catalog_section *section;
	const char *reason;
	const cJSON *list;
	cJSON *answer;
	bool whole;
	int rc;

	rc = json_parse(text, len, &answer, &reason);
	if (rc < 0) {
		buf_puts(why, reason);
		return rc;
	}
	list = find_list(answer);
	section = catalog_section_new(name);
	whole = list == NULL || read_list(section, list);
	cJSON_Delete(answer);
	if (!whole)
		buf_printf(
		    why, "only the first %d of them", LISTING_MODELS_MAX);
	if (section->n > 0) {
		*out = section;
		return 0;
	}
	buf_puts(why, list != NULL ? "lists no model" : "is no list of models");
	catalog_section_free(section);
	return -EINVAL;
}
