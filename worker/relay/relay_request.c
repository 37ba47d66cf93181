/* SPDX-License-Identifier: MIT */
/* What was asked: one pass over the body, and the session it belongs to. */
#include "worker/relay/relay_core.h"

#include <string.h>

#include "common/alloc.h"
#include "common/model_name.h"
#include "worker/dialect/dialect.h"

enum { ALT_MAX = 16 };

static bool
refuse(struct relay *r, enum respond_error error)
{
	relay_refuse(r, error, RESPOND_NO_RETRY, NULL);
	return false;
}

static bool
check_json(struct relay *r, const struct facts *f, enum facts_outcome outcome)
{
	switch (outcome) {
	case FACTS_OK:
		return true;
	case FACTS_NOT_JSON:
		relay_refuse(r, RESPOND_INVALID_JSON, RESPOND_NO_RETRY,
		    "The request body is not valid JSON at byte %zu",
		    f->error_at);
		return false;
	case FACTS_NOT_OBJECT:
		return refuse(r, RESPOND_INVALID_JSON);
	case FACTS_DUPLICATE:
		relay_refuse(r, RESPOND_INVALID_JSON, RESPOND_NO_RETRY,
		    "The request body has \"%s\" twice", f->duplicate);
		return false;
	case FACTS_TOO_DEEP:
		relay_refuse(r, RESPOND_INVALID_JSON, RESPOND_NO_RETRY,
		    "The request body is nested too deeply");
		return false;
	}
	return false;
}

/* From the path where it has one, else from the body. */
static bool
take_model(struct relay *r, const struct facts *f)
{
	const struct route_match *route = &r->x->route;
	bool in_path = route->model_len > 0;
	struct model_name name;

	r->asked = xstrdup(in_path ? route->model : f->model);
	name = model_name_split(span_of(r->asked));
	if (name.key.len == 0)
		return refuse(r, RESPOND_MODEL_REQUIRED);
	r->model = xstrndup(name.key.p, name.key.len);
	return true;
}

/* Gemini streams events only when asked for them; else it is an array. */
static bool
wants_events(const struct exchange *x)
{
	struct span query = http_head_span(&x->head, x->head.query);
	char alt[ALT_MAX];
	size_t len;

	if (x->route.dialect != DIALECT_GEMINI)
		return true;
	return route_query_get(query, "alt", alt, sizeof(alt), &len) ==
		   ROUTE_QUERY_FOUND &&
	       strcmp(alt, "sse") == 0;
}

/* Endpoints whose body says whether it wants a stream. */
static bool
streams_by_body(enum operation operation)
{
	return operation == OPERATION_CHAT ||
	       operation == OPERATION_COMPLETIONS ||
	       operation == OPERATION_RESPONSES ||
	       operation == OPERATION_MESSAGES;
}

static void
take_session(struct relay *r, const struct facts *f)
{
	const struct exchange *x = r->x;
	const struct digest *scope = x->has_scope ? &x->scope : NULL;
	size_t model_len = strlen(r->model);
	struct session_id id;

	if (!session_find(&id, &x->head, f))
		return;
	r->has_session = true;
	r->source = id.source;
	session_id_shorten(id.id, r->session_short);
	binding_key_make(
	    &r->session, scope, id.id, strlen(id.id), r->model, model_len);
	r->has_alias = id.alias[0] != '\0';
	if (r->has_alias)
		binding_key_make(&r->alias, scope, id.alias, strlen(id.alias),
		    r->model, model_len);
	r->has_parent = id.parent[0] != '\0';
	if (r->has_parent)
		binding_key_make(&r->parent, scope, id.parent,
		    strlen(id.parent), r->model, model_len);
}

bool
relay_read_request(struct relay *r)
{
	const struct exchange *x = r->x;
	struct facts f;

	if (!check_json(r, &f,
		facts_read(&f, x->body != NULL ? x->body : "", x->body_len)) ||
	    !take_model(r, &f))
		return false;
	rewrite_places_of(&r->places, &f);
	r->stream =
	    x->route.row->stream || (streams_by_body(x->route.row->operation) &&
					f.stream == FACTS_STREAM_TRUE);
	r->pings = r->stream && wants_events(x);
	r->codex =
	    dialect_client_is_codex(http_head_get(&x->head, "user-agent"),
		http_head_get(&x->head, "originator"));
	take_session(r, &f);
	relay_take_pin(r, &f);
	return true;
}
