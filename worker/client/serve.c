/* SPDX-License-Identifier: MIT */
#include "worker/client/serve.h"

#include "build.h"
#include "worker/admin/admin.h"
#include "worker/client/client_auth.h"
#include "worker/client/conn.h"
#include "worker/client/models_list.h"
#include "worker/client/respond.h"

static const struct header json_type = { { "content-type", 12 },
	{ "application/json", 16 } };

static void
answer_text(struct exchange *x, const char *json)
{
	struct span text = span_of(json);

	exchange_answer(x, 200, &json_type, 1, text.p, text.len);
}

static void
serve_health(struct exchange *x)
{
	answer_text(x, "{\"status\":\"ok\"}");
}

static void
serve_banner(struct exchange *x)
{
	answer_text(x,
	    "{\"message\":\"fairlead " FAIRLEAD_VERSION "\",\"endpoints\":["
	    "\"POST /v1/chat/completions\",\"POST /v1/responses\","
	    "\"POST /v1/messages\","
	    "\"POST /v1beta/models/{model}:generateContent\","
	    "\"GET /v1/models\"]}");
}

static void
serve_probe(struct exchange *x)
{
	exchange_answer(x, 200, NULL, 0, NULL, 0);
}

static void (*const servers[])(struct exchange *x) = {
	[ROUTE_FORWARD] = relay_start,
	[ROUTE_MODELS] = models_list,
	[ROUTE_MODEL] = models_list_one,
	[ROUTE_HEALTH] = serve_health,
	[ROUTE_BANNER] = serve_banner,
	[ROUTE_PROBE] = serve_probe,
};

static enum serve_result
refuse(struct exchange *x, enum respond_error error)
{
	respond_error(x, error, NULL);
	return SERVE_ANSWERED;
}

static enum serve_result
authenticate(struct exchange *x)
{
	switch (client_authenticate(x->worker->config, &x->head, &x->scope)) {
	case CLIENT_KNOWN:
		x->has_scope = true;
		return SERVE_BODY;
	case CLIENT_ANONYMOUS:
		return SERVE_BODY;
	case CLIENT_NO_KEY:
		return refuse(x, RESPOND_MISSING_KEY);
	case CLIENT_WRONG_KEY:
		break;
	}
	return refuse(x, RESPOND_INVALID_KEY);
}

enum serve_result
serve_head(struct exchange *x)
{
	if (conn_of(x)->admin) {
		admin_serve(x);
		return SERVE_ANSWERED;
	}
	switch (route_match(&x->head, &x->route)) {
	case ROUTE_MATCH:
		break;
	case ROUTE_NOT_FOUND:
		return refuse(x, RESPOND_NOT_FOUND);
	case ROUTE_NOT_ALLOWED:
		return refuse(x, RESPOND_METHOD_NOT_ALLOWED);
	case ROUTE_UPGRADE:
		return refuse(x, RESPOND_UPGRADE);
	}
	if (conn_of(x)->over_limit)
		return refuse(x, RESPOND_OVERLOADED);
	return x->route.row->needs_key ? authenticate(x) : SERVE_BODY;
}

void
serve_request(struct exchange *x)
{
	servers[x->route.row->kind](x);
}
