/* SPDX-License-Identifier: MIT */
#include "worker/relay/rewrite.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
rewrite_places_of(struct rewrite_places *places, const struct facts *f)
{
	*places = (struct rewrite_places){
		.model = f->field[FACTS_MODEL],
		.stream = f->field[FACTS_STREAM],
		.store = f->field[FACTS_STORE],
		.inside = f->inside,
		.empty = f->empty,
	};
}

void
rewrite_init(struct rewrite *r, const struct rewrite_places *places)
{
	r->places = places;
	r->n = 0;
}

/* Keeps the order of the body; of one place, that of the calls. */
static void
add(struct rewrite *r, size_t at, size_t len, const char *text, size_t text_len)
{
	size_t i = r->n++;

	assert(i < REWRITE_EDITS);
	for (; i > 0 && r->edits[i - 1].at > at; i--)
		r->edits[i] = r->edits[i - 1];
	r->edits[i].at = at;
	r->edits[i].len = len;
	r->edits[i].text = text;
	r->edits[i].text_len = text_len;
}

void
rewrite_model(struct rewrite *r, const char *json, size_t len)
{
	const struct json_value *model = &r->places->model;

	assert(model->type == JSON_STRING);
	add(r, model->at, model->len, json, len);
}

void
rewrite_for_codex(struct rewrite *r)
{
	const struct rewrite_places *p = r->places;
	const struct {
		const struct json_value *value;
		enum json_type type;
		const char *literal;
		const char *member; /* of an object with more members */
	} wanted[] = {
		{ &p->stream, JSON_TRUE, "true", "\"stream\":true," },
		{ &p->store, JSON_FALSE, "false", "\"store\":false," },
	};

	/* A request has a model, so there is something behind the comma. */
	assert(!p->empty);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		const struct json_value *v = wanted[i].value;

		if (v->type == JSON_NONE)
			add(r, p->inside, 0, wanted[i].member,
			    strlen(wanted[i].member));
		else if (v->type != wanted[i].type)
			add(r, v->at, v->len, wanted[i].literal,
			    strlen(wanted[i].literal));
	}
}

int
rewrite_apply(const struct rewrite *r, const char *body, size_t len, char **out,
    size_t *out_len)
{
	size_t from = 0, to = 0, size = len;
	char *made;

	*out = NULL;
	if (r->n == 0)
		return 0;
	for (size_t i = 0; i < r->n; i++)
		size = size - r->edits[i].len + r->edits[i].text_len;
	made = malloc(size);
	if (made == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < r->n; i++) {
		size_t kept = r->edits[i].at - from;

		memcpy(made + to, body + from, kept);
		memcpy(
		    made + to + kept, r->edits[i].text, r->edits[i].text_len);
		to += kept + r->edits[i].text_len;
		from = r->edits[i].at + r->edits[i].len;
	}
	memcpy(made + to, body + from, len - from);
	*out = made;
	*out_len = size;
	return 0;
}
