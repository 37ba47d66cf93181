/* SPDX-License-Identifier: MIT */
#include "worker/dialect/error_body.h"

#include <string.h>

#include "common/attr.h"
#include "common/str.h"
#include "worker/json/json.h"

/* Where a member was found; a lower one wins. */
enum rank { RANK_ERROR, RANK_TOP, RANK_RESPONSE, RANK_BODY, RANK_NONE };

enum field {
	FIELD_CODE,
	FIELD_TYPE,
	FIELD_MESSAGE,
	FIELD_RESETS_IN,
	FIELD_RESETS_AT,
	FIELD_MAX
};

static const struct {
	const char *name;
	enum field field;
} members[] = {
	{ "code", FIELD_CODE },
	{ "type", FIELD_TYPE },
	{ "message", FIELD_MESSAGE },
	{ "detail", FIELD_MESSAGE },
	{ "resets_in_seconds", FIELD_RESETS_IN },
	{ "resets_at", FIELD_RESETS_AT },
};

/* Objects that are looked into from the top, and from there. */
static const struct {
	const char *name;
	enum rank rank; /* of `error` inside it */
} wrappers[] = {
	{ "response", RANK_RESPONSE },
	{ "body", RANK_BODY },
};

struct finder {
	struct json_reader reader;
	const char *text;
	enum rank found[FIELD_MAX];
	struct json_value value[FIELD_MAX];
};

static void
note(struct finder *f, const struct json_value *name,
    const struct json_value *value, enum rank rank)
{
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		enum field field = members[i].field;

		if (rank >= f->found[field] || value->type == JSON_NULL ||
		    value->type == JSON_OBJECT || value->type == JSON_ARRAY ||
		    !json_equals(f->text, name, members[i].name,
			strlen(members[i].name)))
			continue;
		f->found[field] = rank;
		f->value[field] = *value;
	}
}

/* The members of an error object, or the text of one that is a string. */
static void
walk_error(struct finder *f, enum rank rank)
{
	struct json_reader *r = &f->reader;
	struct json_value name, value;

	if (json_peek(r) != JSON_OBJECT) {
		if (json_read(r, &value) && value.type == JSON_STRING &&
		    rank < f->found[FIELD_MESSAGE]) {
			f->found[FIELD_MESSAGE] = rank;
			f->value[FIELD_MESSAGE] = value;
		}
		return;
	}
	if (!json_enter(r))
		return;
	while (json_member(r, &name))
		if (json_read(r, &value))
			note(f, &name, &value, rank);
}

static void
walk_wrapper(struct finder *f, enum rank rank)
{
	struct json_reader *r = &f->reader;
	struct json_value name;

	if (json_peek(r) != JSON_OBJECT) {
		(void)json_read(r, NULL);
		return;
	}
	if (!json_enter(r))
		return;
	while (json_member(r, &name)) {
		if (json_equals(f->text, &name, "error", 5))
			walk_error(f, rank);
		else
			(void)json_read(r, NULL);
	}
}

static enum rank
wrapper_rank(const struct finder *f, const struct json_value *name)
{
	for (size_t i = 0; i < ARRAY_LEN(wrappers); i++)
		if (json_equals(f->text, name, wrappers[i].name,
			strlen(wrappers[i].name)))
			return wrappers[i].rank;
	return RANK_NONE;
}

static void
walk_top(struct finder *f)
{
	struct json_reader *r = &f->reader;
	struct json_value name, value;

	if (json_peek(r) != JSON_OBJECT) {
		(void)json_read(r, NULL);
		return;
	}
	if (!json_enter(r))
		return;
	while (json_member(r, &name)) {
		enum rank rank = wrapper_rank(f, &name);

		if (rank != RANK_NONE)
			walk_wrapper(f, rank);
		else if (json_equals(f->text, &name, "error", 5))
			walk_error(f, RANK_ERROR);
		else if (json_read(r, &value))
			note(f, &name, &value, RANK_TOP);
	}
}

static void
copy_text(const struct finder *f, enum field field, char *out, size_t size)
{
	size_t len = 0;

	if (f->found[field] != RANK_NONE)
		len = json_text(f->text, &f->value[field], out, size - 1);
	if (len > size - 1)
		len = size - 1;
	out[len] = '\0';
}

static int64_t
copy_number(const struct finder *f, enum field field)
{
	char text[24];
	int64_t value;

	copy_text(f, field, text, sizeof(text));
	return str_to_int(text, 0, INT64_MAX / 1000, &value) == 0 ? value : -1;
}

void
error_body_read(struct error_body *e, const char *text, size_t len)
{
	struct finder f = { .text = text };

	for (int i = 0; i < FIELD_MAX; i++)
		f.found[i] = RANK_NONE;
	json_reader_init(&f.reader, text, len);
	/* Gemini wraps the error of a stream in an array. */
	if (json_peek(&f.reader) != JSON_ARRAY)
		walk_top(&f);
	else if (json_enter(&f.reader))
		while (json_element(&f.reader))
			walk_top(&f);
	e->json = json_finish(&f.reader) == JSON_OK;
	if (!e->json) {
		*e =
		    (struct error_body){ .resets_in_s = -1, .resets_at_s = -1 };
		return;
	}
	copy_text(&f, FIELD_CODE, e->code, sizeof(e->code));
	copy_text(&f, FIELD_TYPE, e->type, sizeof(e->type));
	copy_text(&f, FIELD_MESSAGE, e->message, sizeof(e->message));
	e->resets_in_s = copy_number(&f, FIELD_RESETS_IN);
	e->resets_at_s = copy_number(&f, FIELD_RESETS_AT);
}
