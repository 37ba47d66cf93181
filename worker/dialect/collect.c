/* SPDX-License-Identifier: MIT */
#include "worker/dialect/collect.h"

#include <string.h>

#include "worker/json/json.h"

static const char *const terminal_types[] = {
	"response.completed",
	"response.incomplete",
};

void
collect_init(struct collect *c)
{
	sse_init(&c->sse);
	buf_init(&c->data, COLLECT_MAX);
	buf_init(&c->items, COLLECT_MAX);
	buf_init(&c->answer, COLLECT_MAX);
	c->done = false;
}

void
collect_fini(struct collect *c)
{
	buf_fini(&c->data);
	buf_fini(&c->items);
	buf_fini(&c->answer);
}

/* Reads the members of an object; those that are asked for by name. */
static bool
read_members(const char *text, size_t len, const char *const *names, size_t n,
    struct json_value *values)
{
	struct json_reader r;
	struct json_value name, value;

	memset(values, 0, n * sizeof(*values));
	json_reader_init(&r, text, len);
	if (json_peek(&r) != JSON_OBJECT || !json_enter(&r))
		return false;
	while (json_member(&r, &name)) {
		if (!json_read(&r, &value))
			return false;
		for (size_t i = 0; i < n; i++)
			if (json_equals(
				text, &name, names[i], strlen(names[i])))
				values[i] = value;
	}
	return json_finish(&r) == JSON_OK;
}

static bool
is_terminal(const char *text, const struct json_value *type)
{
	for (size_t i = 0; i < ARRAY_LEN(terminal_types); i++)
		if (json_equals(text, type, terminal_types[i],
			strlen(terminal_types[i])))
			return true;
	return false;
}

/* An array without elements: nothing but white space inside. */
static bool
is_empty_array(const char *text, const struct json_value *v)
{
	if (v->type != JSON_ARRAY)
		return false;
	for (size_t i = 1; i + 1 < v->len; i++)
		if (strchr(" \t\r\n", text[v->at + i]) == NULL)
			return false;
	return true;
}

static void
take_answer(struct collect *c, const char *response, size_t len)
{
	static const char *const names[] = { "output" };
	struct json_value output;
	size_t cut = len;

	if (c->items.len > 0 &&
	    read_members(response, len, names, 1, &output) &&
	    is_empty_array(response, &output))
		cut = output.at + 1;
	buf_append(&c->answer, response, cut);
	if (cut < len) {
		buf_append(&c->answer, c->items.data, c->items.len);
		buf_append(&c->answer, response + cut, len - cut);
	}
	c->done = true;
}

static void
take_item(struct collect *c, const char *item, size_t len)
{
	if (c->items.len > 0)
		buf_putc(&c->items, ',');
	buf_append(&c->items, item, len);
}

static void
take_frame(struct collect *c)
{
	enum { TYPE, RESPONSE, ITEM, MEMBERS };
	static const char *const names[MEMBERS] = { "type", "response",
		"item" };
	struct json_value v[MEMBERS];
	const char *text = c->data.data;

	if (c->data.len == 0 ||
	    !read_members(text, c->data.len, names, MEMBERS, v))
		return;
	if (is_terminal(text, &v[TYPE]) && v[RESPONSE].type == JSON_OBJECT)
		take_answer(c, text + v[RESPONSE].at, v[RESPONSE].len);
	else if (json_equals(text, &v[TYPE], "response.output_item.done", 25) &&
		 v[ITEM].type == JSON_OBJECT)
		take_item(c, text + v[ITEM].at, v[ITEM].len);
}

enum collect_result
collect_feed(struct collect *c, const char *p, size_t len)
{
	size_t used;
	struct span slice;

	while (len > 0 && !c->done) {
		switch (sse_next(&c->sse, p, len, &used, &slice)) {
		case SSE_MORE:
			break;
		case SSE_DATA:
			buf_append(&c->data, slice.p, slice.len);
			break;
		case SSE_FRAME:
			take_frame(c);
			if (!c->data.failed)
				buf_clear(&c->data);
			break;
		}
		if (c->data.failed || c->items.failed || c->answer.failed)
			return COLLECT_TOO_LARGE;
		p += used;
		len -= used;
	}
	return c->done ? COLLECT_DONE : COLLECT_MORE;
}

struct span
collect_answer(const struct collect *c)
{
	return (struct span){ c->answer.data, c->answer.len };
}
