/* SPDX-License-Identifier: MIT */
#include "worker/relay/rewrite.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"

void
rewrite_places_of(struct rewrite_places *places, const struct facts *f)
{
	*places = (struct rewrite_places){
		.model = f->field[FACTS_MODEL],
		.stream = f->field[FACTS_STREAM],
		.store = f->field[FACTS_STORE],
		.input = f->field[FACTS_INPUT],
		.inside = f->inside,
		.empty = f->empty,
	};
}

void
rewrite_init(struct rewrite *r, const struct rewrite_places *places)
{
	*r = (struct rewrite){ .places = places };
}

void
rewrite_fini(struct rewrite *r)
{
	free(r->edits);
	r->edits = NULL;
}

/* Keeps the order of the body; of one place, that of the calls. */
static void
add(struct rewrite *r, size_t at, size_t len, const char *text, size_t text_len)
{
	size_t i;

	if (r->n == REWRITE_EDITS_MAX)
		return;
	xgrow(&r->edits, &r->cap, r->n, sizeof(*r->edits));
	for (i = r->n++; i > 0 && r->edits[i - 1].at > at; i--)
		r->edits[i] = r->edits[i - 1];
	r->edits[i] = (struct rewrite_edit){ at, len, text, text_len };
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

/* A walk over the items of an array, some of which are cut out. */
struct cut {
	struct rewrite *rewrite;
	size_t last_end; /* of the item before, or of the opening bracket */
	bool kept;       /* one before stays, so a comma before is to go */
	bool open;       /* a cut goes on up to the next item */
	size_t from;     /* where it began */
	size_t n;
};

static void
end_cut(struct cut *c, size_t at)
{
	if (c->open)
		add(c->rewrite, c->from, at - c->from, "", 0);
	c->open = false;
}

static void
walk_item(struct cut *c, const struct json_value *item, bool out)
{
	c->n += out;
	if (!out) {
		/* Behind a kept one the cut ends before the comma. */
		end_cut(c, c->kept ? c->last_end : item->at);
		c->kept = true;
	} else if (!c->open) {
		c->open = true;
		c->from = c->kept ? c->last_end : item->at;
	}
	c->last_end = item->at + item->len;
}

size_t
rewrite_unseal(struct rewrite *r, const char *body, size_t len)
{
	const struct json_value *input = &r->places->input;
	struct cut c = { .rewrite = r };
	struct json_value item;
	struct json_reader reader;

	if (input->type != JSON_ARRAY || input->at + input->len > len)
		return 0;
	json_reader_init(&reader, body + input->at, input->len);
	(void)json_enter(&reader);
	while (json_element(&reader)) {
		if (!json_read(&reader, &item))
			break;
		item.at += input->at;
		walk_item(&c, &item,
		    facts_item_is_sealed_reasoning(body + item.at, item.len));
	}
	end_cut(&c, c.last_end);
	return c.n;
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
