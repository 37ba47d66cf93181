/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/provider.h"
#include "worker/relay/outgoing.h"

/* A credential's record, as it lies in the store. */
struct record {
	struct state_credential c;
	struct state_header headers[4];
	char text[1024];
	size_t used;
};

static uint32_t
text(struct record *r, const char *s)
{
	size_t at = r->used;

	assert_true(at + strlen(s) + 1 <= sizeof(r->text));
	memcpy(r->text + at, s, strlen(s) + 1);
	r->used += strlen(s) + 1;
	return (uint32_t)(offsetof(struct record, text) + at);
}

static void
record_init(struct record *r, enum provider_id provider, bool oauth,
    const char *base_url)
{
	const struct provider *p = provider_get(provider);

	memset(r, 0, sizeof(*r));
	r->c.provider = (uint8_t)provider;
	r->c.auth_style = (uint8_t)(oauth ? p->style_oauth : p->style_key);
	r->c.flags = oauth ? STATE_OAUTH : 0;
	r->c.base_url = text(r, base_url);
	r->c.secret = text(r, "top-secret");
	r->c.headers = offsetof(struct record, headers);
}

static void
record_header(struct record *r, const char *name, const char *value)
{
	struct state_header *h = &r->headers[r->c.nheaders++];

	h->name = text(r, name);
	h->value = text(r, value);
}

/* Parses a head and makes the request; the exchange borrows the head. */
static struct exchange *
exchange_of(const char *head)
{
	struct exchange *x = calloc(1, sizeof(*x));

	http_head_init(&x->head);
	assert_int_equal(
	    http_head_parse(&x->head, head, strlen(head)), HTTP_HEAD_DONE);
	assert_int_equal(route_match(&x->head, &x->route), ROUTE_MATCH);
	return x;
}

/* All values of a header, joined by '|'; "" if it is not there. */
static const char *
values(const struct outgoing *o, const char *name)
{
	static char joined[512];
	size_t n = 0;

	joined[0] = '\0';
	for (size_t i = 0; i < o->n; i++)
		if (span_equal_nocase(
			span_of(o->headers[i].name), span_of(name))) {
			if (n++ > 0)
				strcat(joined, "|");
			strcat(joined, o->headers[i].value);
		}
	return joined;
}

#define CLAUDE_HEAD(lines)                                                     \
	"POST /v1/messages?beta=true&key=mine HTTP/1.1\r\nHost: here\r\n"      \
	"Content-Length: 2\r\n" lines "\r\n"

static void
clients_headers_pass_but_for_what_is_ours(void **state UNUSED)
{
	static const char head[] = CLAUDE_HEAD(
	    "Authorization: Bearer mine\r\nx-api-key: mine\r\n"
	    "X-Goog-Api-Key: mine\r\nCookie: a=b\r\nForwarded: for=x\r\n"
	    "X-Forwarded-For: x\r\nAccept-Encoding: gzip\r\n"
	    "Content-Encoding: gzip\r\nExpect: 100-continue\r\n"
	    "TE: trailers\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
	    "anthropic-version: 2023-06-01\r\nX-Two: a\r\nx-two: b\r\n"
	    "Idempotency-Key: k-1\r\nX-Empty:\r\nsession_id: s\r\n");
	static const char *const gone[] = { "authorization", "x-goog-api-key",
		"cookie", "forwarded", "x-forwarded-for", "content-encoding",
		"expect", "te", "connection", "x-hop", "host",
		"content-length" };
	struct record r;
	struct outgoing o;
	struct exchange *x = exchange_of(head);

	record_init(&r, PROVIDER_CLAUDE, false, "https://api.test");
	assert_int_equal(outgoing_make(&o, x, &r.c, "m"), 0);
	assert_string_equal(
	    o.url.data, "https://api.test/v1/messages?beta=true");
	for (size_t i = 0; i < ARRAY_LEN(gone); i++)
		assert_string_equal(values(&o, gone[i]), "");
	assert_string_equal(values(&o, "x-api-key"), "top-secret");
	assert_string_equal(values(&o, "anthropic-version"), "2023-06-01");
	assert_string_equal(values(&o, "x-two"), "a|b");
	assert_string_equal(values(&o, "idempotency-key"), "k-1");
	assert_string_equal(values(&o, "session_id"), "s");
	assert_string_equal(values(&o, "accept-encoding"), "identity");
	assert_string_equal(values(&o, "content-type"), "application/json");
	assert_string_equal(values(&o, "anthropic-beta"), "");
	outgoing_fini(&o);
	free(x);
}

static void
oauth_joins_its_beta_to_the_clients(void **state UNUSED)
{
	static const struct {
		const char *head;
		const char *wanted;
	} rows[] = {
		{ CLAUDE_HEAD(""), "oauth-2025-04-20" },
		{ CLAUDE_HEAD("anthropic-beta: a, b\r\n"),
		    "a, b,oauth-2025-04-20" },
		{ CLAUDE_HEAD("anthropic-beta: a\r\nAnthropic-Beta: b\r\n"),
		    "a,b,oauth-2025-04-20" },
		{ CLAUDE_HEAD("anthropic-beta: oauth-2025-04-20,x\r\n"),
		    "oauth-2025-04-20,x" },
		{ CLAUDE_HEAD("anthropic-beta:\r\n"), "oauth-2025-04-20" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct exchange *x = exchange_of(rows[i].head);
		struct record r;
		struct outgoing o;

		record_init(&r, PROVIDER_CLAUDE, true, "https://api.test");
		assert_int_equal(outgoing_make(&o, x, &r.c, "m"), 0);
		assert_string_equal(
		    values(&o, "anthropic-beta"), rows[i].wanted);
		assert_string_equal(
		    values(&o, "authorization"), "Bearer top-secret");
		assert_string_equal(values(&o, "x-api-key"), "");
		outgoing_fini(&o);
		free(x);
	}
}

static void
credentials_headers_win(void **state UNUSED)
{
	static const char head[] = CLAUDE_HEAD(
	    "User-Agent: theirs\r\nX-Group: blue\r\nX-Added: no\r\n");
	struct exchange *x = exchange_of(head);
	struct record r;
	struct outgoing o;

	record_init(&r, PROVIDER_CLAUDE, false, "https://api.test");
	record_header(&r, "user-agent", "ours");
	record_header(&r, "X-Team", "$x-group");
	record_header(&r, "X-Added", "$X-Absent");
	record_header(&r, "Transfer-Encoding", "chunked");
	assert_int_equal(outgoing_make(&o, x, &r.c, "m"), 0);
	assert_string_equal(values(&o, "user-agent"), "ours");
	assert_string_equal(values(&o, "x-team"), "blue");
	assert_string_equal(values(&o, "x-added"), "");
	assert_string_equal(values(&o, "transfer-encoding"), "");
	outgoing_fini(&o);
	free(x);
}

static void
codex_goes_with_its_own_account(void **state UNUSED)
{
	static const char head[] =
	    "POST /v1/responses HTTP/1.1\r\nHost: here\r\n"
	    "chatgpt-account-id: theirs\r\n\r\n";
	struct exchange *x = exchange_of(head);
	struct record r;
	struct outgoing o;

	record_init(&r, PROVIDER_CODEX, true, "https://chat.test/codex");
	r.c.account_id = text(&r, "ours");
	assert_int_equal(outgoing_make(&o, x, &r.c, "m"), 0);
	assert_string_equal(o.url.data, "https://chat.test/codex/responses");
	assert_string_equal(values(&o, "chatgpt-account-id"), "ours");
	outgoing_fini(&o);
	free(x);
}

static void
model_stands_in_geminis_path(void **state UNUSED)
{
	static const char head[] =
	    "POST /v1beta/models/fast:streamGenerateContent?alt=sse&key=x "
	    "HTTP/1.1\r\nHost: here\r\n\r\n";
	static const struct {
		enum provider_id provider;
		const char *base, *model, *wanted;
	} rows[] = {
		{ PROVIDER_GEMINI, "https://g.test", "real.v1",
		    "https://g.test/v1beta/models/"
		    "real.v1:streamGenerateContent?alt=sse" },
		{ PROVIDER_GEMINI, "https://g.test", "a/b c?#%:d@1",
		    "https://g.test/v1beta/models/"
		    "a/b%20c%3F%23%25%3Ad@1:streamGenerateContent?alt=sse" },
		{ PROVIDER_VERTEX, "https://v.test", "m",
		    "https://v.test/v1/publishers/google/models/"
		    "m:streamGenerateContent?alt=sse" },
		{ PROVIDER_VERTEX, "https://generativelanguage.googleapis.com",
		    "m",
		    "https://generativelanguage.googleapis.com/v1beta/models/"
		    "m:streamGenerateContent?alt=sse" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct exchange *x = exchange_of(head);
		struct record r;
		struct outgoing o;

		record_init(&r, rows[i].provider, false, rows[i].base);
		assert_int_equal(outgoing_make(&o, x, &r.c, rows[i].model), 0);
		assert_string_equal(o.url.data, rows[i].wanted);
		assert_string_equal(values(&o, "x-goog-api-key"), "top-secret");
		outgoing_fini(&o);
		free(x);
	}
}

static void
provider_without_the_endpoint_says_so(void **state UNUSED)
{
	struct exchange *x =
	    exchange_of("POST /v1/embeddings HTTP/1.1\r\nHost: here\r\n\r\n");
	struct record r;
	struct outgoing o;

	record_init(&r, PROVIDER_CODEX, false, "https://c.test");
	assert_int_equal(outgoing_make(&o, x, &r.c, "m"), OUTGOING_NO_PATH);
	outgoing_fini(&o);
	free(x);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clients_headers_pass_but_for_what_is_ours),
		cmocka_unit_test(oauth_joins_its_beta_to_the_clients),
		cmocka_unit_test(credentials_headers_win),
		cmocka_unit_test(codex_goes_with_its_own_account),
		cmocka_unit_test(model_stands_in_geminis_path),
		cmocka_unit_test(provider_without_the_endpoint_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
