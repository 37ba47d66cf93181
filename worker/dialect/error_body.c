/* SPDX-License-Identifier: MIT */
#include "worker/dialect/error_body.h"

#include <string.h>

#include "common/attr.h"
#include "common/str.h"
#include "worker/dialect/delay.h"
#include "worker/json/json.h"

/* Where a member was found; a lower one wins. */
enum rank { RANK_ERROR, RANK_TOP, RANK_RESPONSE, RANK_BODY, RANK_NONE };

enum field {
	FIELD_CODE,
	FIELD_TYPE,
	FIELD_MESSAGE,
	FIELD_RESETS_IN,
	FIELD_RESETS_AT,
	FIELD_RETRY_DELAY,
	FIELD_QUOTA_DELAY,
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
	{ "retryDelay", FIELD_RETRY_DELAY },
	{ "quotaResetDelay", FIELD_QUOTA_DELAY },
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

static bool
is_field(
    const struct finder *f, const struct json_value *name, enum field *field)
{
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		*field = members[i].field;
		if (json_equals(f->text, name, members[i].name,
			strlen(members[i].name)))
			return true;
	}
	return false;
}

static void
note(struct finder *f, const struct json_value *name,
    const struct json_value *value, enum rank rank)
{
	enum field field;

	if (value->type == JSON_NULL || value->type == JSON_OBJECT ||
	    value->type == JSON_ARRAY || !is_field(f, name, &field) ||
	    rank >= f->found[field])
		return;
	f->found[field] = rank;
	f->value[field] = *value;
}

/* Types and messages of details are not those of the error. */
static void
note_delay(struct finder *f, const struct json_value *name,
    const struct json_value *value, enum rank rank)
{
	enum field field;

	if (is_field(f, name, &field) &&
	    (field == FIELD_RETRY_DELAY || field == FIELD_QUOTA_DELAY))
		note(f, name, value, rank);
}

/* One of the details of a Google error: a delay lies in it, or one below. */
static void
walk_detail(struct finder *f, enum rank rank)
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
		if (json_equals(f->text, &name, "metadata", 8))
			walk_detail(f, rank);
		else if (json_read(r, &value))
			note_delay(f, &name, &value, rank);
	}
}

static void
walk_details(struct finder *f, enum rank rank)
{
	struct json_reader *r = &f->reader;

	if (json_peek(r) != JSON_ARRAY) {
		(void)json_read(r, NULL);
		return;
	}
	if (!json_enter(r))
		return;
	while (json_element(r))
		walk_detail(f, rank);
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
	while (json_member(r, &name)) {
		if (json_equals(f->text, &name, "details", 7))
			walk_details(f, rank);
		else if (json_read(r, &value))
			note(f, &name, &value, rank);
	}
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

/* The first that is said; a sentence only where nothing else is. */
static int64_t
delay_of(const struct finder *f, const struct error_body *e)
{
	static const enum field fields[] = { FIELD_RESETS_IN, FIELD_RETRY_DELAY,
		FIELD_QUOTA_DELAY };
	char text[40];
	int64_t ms = DELAY_NONE;

	for (size_t i = 0; i < ARRAY_LEN(fields) && ms == DELAY_NONE; i++) {
		copy_text(f, fields[i], text, sizeof(text));
		ms = delay_read(span_of(text));
	}
	if (ms == DELAY_NONE && e->resets_at_s < 0)
		ms = delay_in_text(span_of(e->message));
	return ms;
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
		*e = (struct error_body){ .delay_ms = DELAY_NONE,
			.resets_at_s = -1 };
		return;
	}
	copy_text(&f, FIELD_CODE, e->code, sizeof(e->code));
	copy_text(&f, FIELD_TYPE, e->type, sizeof(e->type));
	copy_text(&f, FIELD_MESSAGE, e->message, sizeof(e->message));
	e->resets_at_s = copy_number(&f, FIELD_RESETS_AT);
	e->delay_ms = delay_of(&f, e);
}
