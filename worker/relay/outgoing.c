/* SPDX-License-Identifier: MIT */
#include "worker/relay/outgoing.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/provider.h"
#include "common/secret.h"
#include "common/str.h"
#include "worker/relay/header_policy.h"

enum { URL_MAX = 64 * 1024, TEXT_MAX = 1024 * 1024, TEXT_FIRST = 4096 };

/* A Vertex key may be meant for the Gemini API, which has its own paths. */
static const char gemini_origin[] = "https://generativelanguage.googleapis.com";

/* ---- headers */

static size_t
put_text(struct outgoing *o, struct span s)
{
	size_t at = o->text.len;

	buf_append(&o->text, s.p, s.len);
	buf_putc(&o->text, '\0');
	return at;
}

static void
add_joined(
    struct outgoing *o, struct span name, struct span prefix, struct span value)
{
	if (o->n == OUTGOING_HEADERS) {
		o->text.failed = true;
		return;
	}
	o->at[o->n].name = put_text(o, name);
	o->at[o->n].value = o->text.len;
	buf_append(&o->text, prefix.p, prefix.len);
	(void)put_text(o, value);
	o->n++;
}

static void
add(struct outgoing *o, struct span name, struct span value)
{
	add_joined(o, name, SPAN(""), value);
}

static void
drop(struct outgoing *o, struct span name)
{
	size_t kept = 0;

	if (o->text.failed)
		return;
	for (size_t i = 0; i < o->n; i++) {
		struct span have = span_of(o->text.data + o->at[i].name);

		if (!span_equal_nocase(have, name))
			o->at[kept++] = o->at[i];
	}
	o->n = kept;
}

static void
add_clients(struct outgoing *o, const struct http_head *head)
{
	bool named = header_connection_names(head);

	for (uint32_t i = 0; i < head->count; i++)
		if (header_goes_upstream(head, (int)i, named))
			add(o, http_head_name(head, (int)i),
			    http_head_value(head, (int)i));
}

static void
add_ours(struct outgoing *o, const struct http_head *head)
{
	add(o, SPAN("accept-encoding"), SPAN("identity"));
	if (http_head_find(head, "content-type", 0) < 0)
		add(o, SPAN("content-type"), SPAN("application/json"));
}

/* Joins a word to a header that is a list, unless it is there already. */
static void
join(struct outgoing *o, const struct http_head *head, const char *name,
    const char *word)
{
	struct buf list = BUF_INIT(TEXT_MAX);

	if (http_head_lists(head, name, span_of(word)))
		return;
	for (int i = http_head_find(head, name, 0); i >= 0;
	     i = http_head_find(head, name, i + 1)) {
		struct span value = http_head_value(head, i);

		buf_append(&list, value.p, value.len);
		if (value.len > 0)
			buf_putc(&list, ',');
	}
	buf_puts(&list, word);
	o->text.failed |= list.failed;
	drop(o, span_of(name));
	add(o, span_of(name), (struct span){ list.data, list.len });
	buf_fini(&list);
}

static void
add_auth(struct outgoing *o, const struct http_head *head,
    const struct state_credential *c)
{
	const struct provider *provider = provider_get(c->provider);
	const struct auth_header *header = auth_header_get(c->auth_style);
	const char *secret = state_string(c, c->secret);
	const char *account = state_string(c, c->account_id);

	if (secret[0] != '\0')
		add_joined(o, span_of(header->name), span_of(header->prefix),
		    span_of(secret));
	if ((c->flags & STATE_OAUTH) == 0)
		return;
	if (provider->oauth_beta != NULL)
		join(o, head, "anthropic-beta", provider->oauth_beta);
	/* The client's own account goes with the token it cannot use here. */
	drop(o, SPAN("chatgpt-account-id"));
	if (account[0] != '\0')
		add(o, SPAN("chatgpt-account-id"), span_of(account));
}

/* The client's header of that name, any case; .p NULL if there is none. */
static struct span
header_of_client(const struct http_head *head, struct span name)
{
	for (uint32_t i = 0; i < head->count; i++)
		if (span_equal_nocase(http_head_name(head, (int)i), name))
			return http_head_value(head, (int)i);
	return (struct span){ NULL, 0 };
}

/* A credential's own headers win; "$NAME" is the client's header NAME. */
static void
add_credentials(struct outgoing *o, const struct http_head *head,
    const struct state_credential *c)
{
	const struct state_header *headers = state_credential_headers(c);

	for (uint32_t i = 0; i < c->nheaders; i++) {
		struct span name = span_of(state_string(c, headers[i].name));
		struct span value = span_of(state_string(c, headers[i].value));

		if (!header_may_be_added(name))
			continue;
		drop(o, name);
		if (value.len > 1 && value.p[0] == '$')
			value = header_of_client(
			    head, (struct span){ value.p + 1, value.len - 1 });
		if (value.p != NULL)
			add(o, name, value);
	}
}

/* ---- URL */

/* A model within a path: its slashes stay, what would end it is escaped. */
static void
put_model(struct buf *url, const char *model)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~/@";

	for (; *model != '\0'; model++) {
		if (strchr(plain, *model) != NULL)
			buf_putc(url, *model);
		else
			buf_printf(url, "%%%02X", (unsigned char)*model);
	}
}

static const char *
path_of(const struct state_credential *c, enum operation operation)
{
	enum provider_id id = c->provider;
	const char *base = state_string(c, c->base_url);
	const char *path;

	if (id == PROVIDER_VERTEX && (c->flags & STATE_OAUTH) == 0 &&
	    strncasecmp(base, gemini_origin, sizeof(gemini_origin) - 1) == 0)
		id = PROVIDER_GEMINI;
	path = provider_get(id)->paths[operation];
	/* A base that names the project stands below the version already. */
	if (id == PROVIDER_VERTEX && path != NULL &&
	    strstr(base, "/v1/projects/") != NULL)
		path += sizeof("/v1") - 1;
	return path;
}

static int
make_url(struct outgoing *o, const struct exchange *x,
    const struct state_credential *c, const char *model)
{
	const char *path = path_of(c, x->route.row->operation);
	struct span query = http_head_span(&x->head, x->head.query);
	const char *hole;
	size_t kept;

	if (path == NULL)
		return OUTGOING_NO_PATH;
	buf_puts(&o->url, state_string(c, c->base_url));
	hole = strstr(path, "%s");
	if (hole == NULL) {
		buf_puts(&o->url, path);
	} else {
		buf_append(&o->url, path, (size_t)(hole - path));
		put_model(&o->url, model);
		buf_puts(&o->url, hole + 2);
	}
	if (query.len > 0 && buf_reserve(&o->url, query.len + 2) == 0) {
		kept = route_query_strip(query, o->url.data + o->url.len + 1);
		if (kept > 0) {
			o->url.data[o->url.len] = '?';
			o->url.len += kept + 1;
		}
	}
	buf_putc(&o->url, '\0');
	return 0;
}

int
outgoing_make(struct outgoing *o, const struct exchange *x,
    const struct state_credential *c, const char *model)
{
	int rc;

	buf_init(&o->url, URL_MAX);
	buf_init(&o->text, TEXT_MAX);
	o->n = 0;
	rc = make_url(o, x, c, model);
	if (rc != 0)
		return rc;
	rc = buf_reserve(&o->text, TEXT_FIRST);
	if (rc != 0)
		return rc;
	add_clients(o, &x->head);
	add_ours(o, &x->head);
	add_auth(o, &x->head, c);
	add_credentials(o, &x->head, c);
	if (o->url.failed || o->text.failed)
		return -E2BIG;
	for (size_t i = 0; i < o->n; i++)
		o->headers[i] = (struct upstream_header){
			.name = o->text.data + o->at[i].name,
			.value = o->text.data + o->at[i].value,
		};
	return 0;
}

void
outgoing_fini(struct outgoing *o)
{
	if (o->text.data != NULL)
		secret_wipe(o->text.data, o->text.len);
	buf_fini(&o->text);
	buf_fini(&o->url);
}
