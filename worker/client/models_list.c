/* SPDX-License-Identifier: MIT */
#include "worker/client/models_list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/state.h"
#include "worker/client/account.h"
#include "worker/client/respond.h"

enum {
	LIST_MAX = 16 * 1024 * 1024,
	/* What Claude's clients are told where the catalogue says nothing. */
	CLAUDE_INPUT = 200000,
	CLAUDE_OUTPUT = 64000
};

/* Routes that are listed, in the order of their names; the store's memory. */
struct routes {
	const struct state_route **v;
	size_t n, cap;
};

typedef void write_model_fn(struct buf *b, const struct state_route *r);

struct shape {
	const char *head;
	write_model_fn *model;
	int (*order)(const void *a, const void *b); /* NULL: by name */
	void (*tail)(struct buf *b, const struct routes *routes);
};

static void
put_string(struct buf *b, const char *s)
{
	buf_json_string(b, s, strlen(s));
}

static const char *
route_name(const struct state_route *r)
{
	return state_string(r, r->name);
}

static const char *
display_name(const struct state_route *r)
{
	const char *name = state_string(r, r->display_name);

	return name[0] != '\0' ? name : route_name(r);
}

static void
put_owner(struct buf *b, const struct state_route *r)
{
	buf_puts(b, ",\"object\":\"model\",\"owned_by\":");
	put_string(b, state_string(r, r->owned_by));
}

static void
openai_model(struct buf *b, const struct state_route *r)
{
	buf_puts(b, "{\"id\":");
	put_string(b, route_name(r));
	put_owner(b, r);
	if (r->created_s > 0)
		buf_printf(b, ",\"created\":%" PRId64, r->created_s);
	buf_putc(b, '}');
}

static void
openai_tail(struct buf *b, const struct routes *routes UNUSED)
{
	buf_puts(b, "]}");
}

static void
claude_model(struct buf *b, const struct state_route *r)
{
	char created[32];

	buf_puts(b, "{\"type\":\"model\",\"id\":");
	put_string(b, route_name(r));
	put_owner(b, r);
	buf_puts(b, ",\"display_name\":");
	put_string(b, display_name(r));
	if (r->created_s > 0) {
		str_from_time(r->created_s, created, sizeof(created));
		buf_printf(b, ",\"created_at\":\"%s\"", created);
	}
	buf_printf(b, ",\"max_input_tokens\":%u,\"max_tokens\":%u}",
	    r->max_input_tokens != 0 ? r->max_input_tokens : CLAUDE_INPUT,
	    r->max_output_tokens != 0 ? r->max_output_tokens : CLAUDE_OUTPUT);
}

static int
by_display_name(const void *a, const void *b)
{
	const struct state_route *ra, *rb;
	int order;

	memcpy(&ra, a, sizeof(ra));
	memcpy(&rb, b, sizeof(rb));
	order = strcmp(display_name(ra), display_name(rb));
	return order != 0 ? order : strcmp(route_name(ra), route_name(rb));
}

static void
claude_tail(struct buf *b, const struct routes *routes)
{
	buf_puts(b, "],\"has_more\":false,\"first_id\":");
	if (routes->n == 0) {
		buf_puts(b, "null,\"last_id\":null}");
		return;
	}
	put_string(b, route_name(routes->v[0]));
	buf_puts(b, ",\"last_id\":");
	put_string(b, route_name(routes->v[routes->n - 1]));
	buf_putc(b, '}');
}

static void
gemini_model(struct buf *b, const struct state_route *r)
{
	AUTO_FREE char *name = xasprintf("models/%s", route_name(r));

	buf_puts(b, "{\"name\":");
	put_string(b, name);
	buf_puts(b, ",\"displayName\":");
	put_string(b, display_name(r));
	buf_puts(b, ",\"description\":");
	put_string(b, display_name(r));
	if (r->max_input_tokens != 0)
		buf_printf(b, ",\"inputTokenLimit\":%u", r->max_input_tokens);
	if (r->max_output_tokens != 0)
		buf_printf(b, ",\"outputTokenLimit\":%u", r->max_output_tokens);
	buf_puts(b, ",\"supportedGenerationMethods\":"
		    "[\"generateContent\",\"countTokens\"]}");
}

static const struct shape openai_shape = {
	"{\"object\":\"list\",\"data\":[",
	openai_model,
	NULL,
	openai_tail,
};

static const struct shape claude_shape = {
	"{\"data\":[",
	claude_model,
	by_display_name,
	claude_tail,
};

static const struct shape gemini_shape = {
	"{\"models\":[",
	gemini_model,
	NULL,
	openai_tail,
};

static const struct shape *const shapes[DIALECT_MAX] = {
	[DIALECT_OPENAI] = &openai_shape,
	[DIALECT_RESPONSES] = &openai_shape,
	[DIALECT_CLAUDE] = &claude_shape,
	[DIALECT_GEMINI] = &gemini_shape,
};

static int
add_route(void *ctx, const struct state_route *r)
{
	struct routes *routes = ctx;

	if (r->listed) {
		xgrow(&routes->v, &routes->cap, routes->n, sizeof(*routes->v));
		routes->v[routes->n++] = r;
	}
	return 0;
}

static void
write_list(struct buf *b, const struct shape *shape, struct routes *routes)
{
	if (shape->order != NULL && routes->n > 1)
		qsort(routes->v, routes->n, sizeof(*routes->v), shape->order);
	buf_puts(b, shape->head);
	for (size_t i = 0; i < routes->n; i++) {
		if (i > 0)
			buf_putc(b, ',');
		shape->model(b, routes->v[i]);
	}
	shape->tail(b, routes);
}

/* Writes it, or fails with negative errno. */
static int
read_list(struct worker *w, struct buf *b, const struct shape *shape)
{
	struct routes routes = { 0 };
	MDB_txn *txn;
	int rc = store_read(&w->store_state, &txn);

	if (rc != 0)
		return rc;
	rc = state_each_route(&w->store_state, txn, add_route, &routes);
	if (rc == 0)
		write_list(b, shape, &routes);
	store_read_end(&w->store_state);
	free(routes.v);
	return rc;
}

static int
read_one(struct worker *w, struct buf *b, const struct shape *shape,
    struct span model)
{
	const struct state_route *r;
	MDB_txn *txn;
	int rc = store_read(&w->store_state, &txn);

	if (rc != 0)
		return rc;
	rc = state_get_route(&w->store_state, txn, model.p, model.len, &r);
	if (rc == 0 && !r->listed)
		rc = -ENOENT;
	if (rc == 0)
		shape->model(b, r);
	store_read_end(&w->store_state);
	return rc;
}

static void
answer(struct exchange *x, struct buf *b, int rc)
{
	static const struct header type = { SPAN("content-type"),
		SPAN("application/json") };

	if (rc == -ENOENT) {
		respond_error(x, RESPOND_MODEL_NOT_FOUND,
		    "There is no model \"%s\"", x->route.model);
	} else if (rc != 0 || b->failed) {
		log_error_e(rc != 0 ? rc : -ENOMEM, "cannot list models");
		respond_error(x, RESPOND_INTERNAL, NULL);
	} else {
		account_request(
		    x, &(struct access_line){
			   .status = 200, .bytes = b->len, .ttft_us = -1 });
		exchange_answer(x, 200, &type, 1, b->data, b->len);
	}
	buf_fini(b);
}

void
models_list(struct exchange *x)
{
	struct buf b = BUF_INIT(LIST_MAX);
	int rc = read_list(x->worker, &b, shapes[x->route.dialect]);

	answer(x, &b, rc);
}

void
models_list_one(struct exchange *x)
{
	struct buf b = BUF_INIT(LIST_MAX);
	struct span model = { x->route.model, x->route.model_len };
	int rc = read_one(x->worker, &b, shapes[x->route.dialect], model);

	answer(x, &b, rc);
}
