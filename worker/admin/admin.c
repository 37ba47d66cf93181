/* SPDX-License-Identifier: MIT */
#include "worker/admin/admin.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/str.h"
#include "worker/admin/metrics.h"
#include "worker/admin/page.h"
#include "worker/admin/status.h"

enum { ADMIN_MAX_BYTES = 64 * 1024 * 1024, KEY_MAX = 512 };

#define TEXT(s)                                                                \
	{                                                                      \
		(s), sizeof(s) - 1                                             \
	}

static const struct span NOTHING = { NULL, 0 };

/* ---- the pages */

static void
write_health(struct worker *w UNUSED, struct buf *b)
{
	buf_puts(b, "{\"status\":\"ok\"}");
}

struct page {
	struct span path;
	struct span type;
	bool open; /* without a key, by any name */
	void (*write)(struct worker *w, struct buf *b);
};

static const struct page pages[] = {
	{ TEXT("/healthz"), TEXT("application/json"), true, write_health },
	{ TEXT("/metrics"), TEXT("text/plain; version=0.0.4; charset=utf-8"),
	    false, metrics_write },
	{ TEXT("/status.json"), TEXT("application/json"), false, status_write },
	{ TEXT("/"), TEXT("text/html; charset=utf-8"), false, page_write },
};

static const struct page *
find_page(struct span path)
{
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		if (span_equal(path, pages[i].path))
			return &pages[i];
	}
	return NULL;
}

/* ---- who may see them */

/* "name:port" and "[address]:port" without port and brackets, terminated. */
static bool
host_name(struct span host, char *out, size_t size)
{
	const char *end = memrchr(host.p, ':', host.len);
	const char *bracket = memrchr(host.p, ']', host.len);

	if (bracket != NULL && host.p[0] == '[') {
		host.p++;
		end = bracket;
	}
	if (end != NULL)
		host.len = (size_t)(end - host.p);
	return snprintf(out, size, "%.*s", (int)host.len, host.p) < (int)size;
}

static bool
host_is_ours(struct span host)
{
	unsigned char address[sizeof(struct in6_addr)];
	char name[INET6_ADDRSTRLEN];

	if (host.p == NULL)
		return true;
	return host_name(host, name, sizeof(name)) &&
	       (strcasecmp(name, "localhost") == 0 ||
		   inet_pton(AF_INET, name, address) == 1 ||
		   inet_pton(AF_INET6, name, address) == 1);
}

/* Takes a scheme of Authorization off, any case. */
static bool
take_scheme(struct span *value, const char *scheme)
{
	size_t len = strlen(scheme);

	if (value->len <= len || strncasecmp(value->p, scheme, len) != 0 ||
	    value->p[len] != ' ')
		return false;
	*value = span_trim((struct span){ value->p + len, value->len - len });
	return true;
}

/* What follows the name of the user. */
static bool
basic_password(struct span coded, char *room, size_t size, struct span *key)
{
	const char *colon;
	size_t len;

	if (base64_decode(coded.p, coded.len, room, size, &len) < 0)
		return false;
	colon = memchr(room, ':', len);
	if (colon == NULL)
		return false;
	*key = (struct span){ colon + 1, len - (size_t)(colon + 1 - room) };
	return true;
}

static bool
is_key(const char *wanted, struct span offered)
{
	struct digest a, b;

	digest_of_client_key(wanted, strlen(wanted), &a);
	digest_of_client_key(offered.p, offered.len, &b);
	return digest_equal(&a, &b);
}

static bool
brings_key(const struct http_head *head, const char *wanted)
{
	struct span value = http_head_get(head, "authorization");
	char room[KEY_MAX];
	struct span key;

	if (take_scheme(&value, "bearer"))
		return is_key(wanted, value);
	return take_scheme(&value, "basic") &&
	       basic_password(value, room, sizeof(room), &key) &&
	       is_key(wanted, key);
}

/* ---- answers */

static void
answer(struct exchange *x, int status, struct span type, struct span more,
    const struct buf *b)
{
	const struct header headers[] = {
		{ TEXT("content-type"), type },
		{ TEXT("cache-control"), TEXT("no-store") },
		{ TEXT("x-content-type-options"), TEXT("nosniff") },
		{ TEXT("referrer-policy"), TEXT("no-referrer") },
		{ TEXT("content-security-policy"), page_policy },
		{ TEXT("www-authenticate"), more },
	};
	size_t n = more.len > 0 ? ARRAY_LEN(headers) : ARRAY_LEN(headers) - 1;

	exchange_answer(x, status, headers, n, b->data, b->len);
}

static void
refuse(struct exchange *x, int status, const char *why, struct span more)
{
	static const struct span plain = TEXT("text/plain; charset=utf-8");
	struct buf b = BUF_INIT(1024);

	buf_printf(&b, "%s\n", why);
	answer(x, status, plain, more, &b);
	buf_fini(&b);
}

static void
show(struct exchange *x, const struct page *page)
{
	struct buf b = BUF_INIT(ADMIN_MAX_BYTES);

	page->write(x->worker, &b);
	if (b.failed) {
		log_error("the page %.*s is too large", (int)page->path.len,
		    page->path.p);
		refuse(x, 500, "this page is too large", NOTHING);
	} else {
		answer(x, 200, page->type, NOTHING, &b);
	}
	buf_fini(&b);
}

void
admin_serve(struct exchange *x)
{
	static const struct span realm = TEXT("Basic realm=\"fairlead\"");
	const char *wanted = x->worker->config->admin_key;
	const struct page *page =
	    find_page(http_head_span(&x->head, x->head.path));

	if (page == NULL)
		refuse(x, 404, "there is no such page", NOTHING);
	else if (x->head.method != HTTP_GET && x->head.method != HTTP_HEAD)
		refuse(x, 405, "pages are only read", NOTHING);
	else if (!page->open && *wanted != '\0' &&
		 !brings_key(&x->head, wanted))
		refuse(x, 401, "admin-key is wanted", realm);
	else if (!page->open && *wanted == '\0' &&
		 !host_is_ours(http_head_get(&x->head, "host")))
		refuse(x, 403,
		    "without admin-key it is asked by address or as "
		    "\"localhost\"",
		    NOTHING);
	else
		show(x, page);
}
