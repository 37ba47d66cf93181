/* SPDX-License-Identifier: MIT */
#include "worker/client/client_auth.h"

#include "common/attr.h"
#include "worker/client/route.h"

enum { KEY_MAX = 1024 };

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

/*
 * A value that is no Bearer is taken as a whole, as clients expect; the bare
 * scheme is what an empty key looks like.
 */
static struct span
without_scheme(struct span value)
{
	static const struct span bearer = { "bearer", 6 };
	struct span head = { value.p, bearer.len };

	if (value.len < bearer.len || !span_equal_nocase(head, bearer))
		return value;
	if (value.len > bearer.len && !is_space(value.p[bearer.len]))
		return value;
	value.p += bearer.len;
	value.len -= bearer.len;
	return span_trim(value);
}

static const struct place {
	const char *name;
	bool query;
} places[] = {
	{ "authorization", false },
	{ "x-goog-api-key", false },
	{ "x-api-key", false },
	{ "key", true },
	{ "auth_token", true },
};

/* The candidate of a place; room holds a decoded query value. */
static struct span
candidate(const struct place *place, const struct http_head *head, char *room,
    size_t size)
{
	size_t len = 0;

	if (!place->query)
		return without_scheme(http_head_get(head, place->name));
	if (head->query.len == 0 ||
	    route_query_get(http_head_span(head, head->query), place->name,
		room, size, &len) != ROUTE_QUERY_FOUND)
		return (struct span){ NULL, 0 };
	return span_trim((struct span){ room, len });
}

/* Looks at every key, so that the time tells nothing. */
static bool
is_known(const struct client_keys *keys, const struct digest *digest)
{
	bool known = false;
	size_t i;

	for (i = 0; i < keys->n; i++)
		known |= digest_equal(&keys->v[i], digest);
	return known;
}

enum client_auth
client_authenticate(const struct config *config, const struct http_head *head,
    struct digest *scope)
{
	char room[KEY_MAX];
	bool offered = false;
	struct span key;
	size_t i;

	if (config->client_keys.n == 0 && config->allow_anonymous)
		return CLIENT_ANONYMOUS;
	for (i = 0; i < ARRAY_LEN(places); i++) {
		key = candidate(&places[i], head, room, sizeof(room));
		if (key.len == 0)
			continue;
		offered = true;
		digest_of_client_key(key.p, key.len, scope);
		if (is_known(&config->client_keys, scope))
			return CLIENT_KNOWN;
	}
	return offered ? CLIENT_WRONG_KEY : CLIENT_NO_KEY;
}
