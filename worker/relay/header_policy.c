/* SPDX-License-Identifier: MIT */
#include "worker/relay/header_policy.h"

#include <string.h>
#include <strings.h>

#include "common/attr.h"

/* A name, or with prefix set how names begin. */
struct row {
	struct span name;
	bool prefix;
};

#define NAME(s)                                                                \
	{                                                                      \
		{ (s), sizeof(s) - 1 }, false                                  \
	}
#define PREFIX(s)                                                              \
	{                                                                      \
		{ (s), sizeof(s) - 1 }, true                                   \
	}

/* Of a connection, not of the message (RFC 9110 7.6.1). */
static const struct row hop_by_hop[] = {
	NAME("connection"),
	NAME("keep-alive"),
	NAME("proxy-authenticate"),
	NAME("proxy-authorization"),
	NAME("proxy-connection"),
	NAME("te"),
	NAME("trailer"),
	NAME("transfer-encoding"),
	NAME("upgrade"),
	NAME("http2-settings"),
};

/* What a client says to us alone. */
static const struct row not_upstream[] = {
	NAME("host"),
	NAME("expect"),
	NAME("content-length"),
	NAME("content-encoding"),
	NAME("accept-encoding"),
	NAME("authorization"),
	NAME("x-api-key"),
	NAME("x-goog-api-key"),
	NAME("cookie"),
	NAME("forwarded"),
	PREFIX("x-forwarded-"),
};

/* What frames a message, or is said of its connection. */
static const struct row framing[] = {
	NAME("content-length"),
	NAME("content-encoding"),
	NAME("expect"),
};

static const struct row back_always[] = {
	NAME("content-type"),
	/* An answer that is encoded though we asked for identity. */
	NAME("content-encoding"),
	NAME("retry-after"),
	NAME("request-id"),
	NAME("x-request-id"),
	NAME("x-codex-turn-state"),
	PREFIX("anthropic-ratelimit-"),
	PREFIX("x-ratelimit-"),
	PREFIX("openai-"),
};

/* Not even with passthrough-headers. The last rows are other gateways'. */
static const struct row back_never[] = {
	NAME("content-length"),
	NAME("date"),
	NAME("set-cookie"),
	NAME("set-cookie2"),
	NAME("x-fairlead-request-id"),
	NAME("alt-svc"),
	NAME("strict-transport-security"),
	PREFIX("access-control-"),
	PREFIX("x-litellm-"),
	PREFIX("helicone-"),
	PREFIX("x-portkey-"),
	PREFIX("cf-aig-"),
	PREFIX("x-kong-"),
	PREFIX("x-bt-"),
};

static bool
is_listed(struct span name, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = rows[i].name.len;

		if ((rows[i].prefix ? name.len >= len : name.len == len) &&
		    strncasecmp(name.p, rows[i].name.p, len) == 0)
			return true;
	}
	return false;
}

#define LISTED(name, rows) is_listed((name), (rows), ARRAY_LEN(rows))

bool
header_connection_names(const struct http_head *head)
{
	static const struct span plain[] = { SPAN("keep-alive"),
		SPAN("close") };

	for (int i = http_head_find(head, "connection", 0); i >= 0;
	     i = http_head_find(head, "connection", i + 1)) {
		struct span value = http_head_value(head, i);

		if (!span_equal_nocase(value, plain[0]) &&
		    !span_equal_nocase(value, plain[1]))
			return true;
	}
	return false;
}

bool
header_goes_upstream(const struct http_head *head, int i, bool named)
{
	struct span name = http_head_name(head, i);

	return !LISTED(name, hop_by_hop) && !LISTED(name, not_upstream) &&
	       !(named && http_head_lists(head, "connection", name));
}

bool
header_may_be_added(struct span name)
{
	return !LISTED(name, hop_by_hop) && !LISTED(name, framing);
}

/* Whether a comma-separated list holds the name (RFC 9110 5.6.1). */
static bool
lists(struct span list, struct span name)
{
	while (list.len > 0) {
		const char *comma = memchr(list.p, ',', list.len);
		size_t len =
		    comma != NULL ? (size_t)(comma - list.p) : list.len;
		struct span word = span_trim((struct span){ list.p, len });

		if (span_equal_nocase(word, name))
			return true;
		len += comma != NULL;
		list.p += len;
		list.len -= len;
	}
	return false;
}

static bool
comes_back(
    struct span name, struct span value, struct span connection, bool all)
{
	if (!http_is_token(name.p, name.len) ||
	    !http_is_field_value(value.p, value.len))
		return false;
	if (LISTED(name, back_always))
		return true;
	return all && !LISTED(name, hop_by_hop) && !LISTED(name, back_never) &&
	       !lists(connection, name);
}

size_t
headers_back(
    struct upstream_call *call, bool all, struct header out[HEADERS_BACK_MAX])
{
	struct span connection = { "", 0 };
	struct span name, value;
	size_t cursor = 0, n = 0;

	if (all)
		connection = upstream_header_get(call, "connection");
	while (n < HEADERS_BACK_MAX &&
	       upstream_header_next(call, &cursor, &name, &value))
		if (comes_back(name, value, connection, all))
			out[n++] = (struct header){ name, value };
	return n;
}
