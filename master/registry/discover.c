/* SPDX-License-Identifier: MIT */
/* Lists of models from upstreams; see discover.h. */
#include "master/registry/discover.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/secret.h"
#include "master/credential/entry.h"
#include "master/credential/name_map.h"
#include "master/registry/listing.h"

enum { TICK_S = 30, HEADERS_MAX = 64, WHY_MAX = 1024 };

/* What a provider wants of everybody beside the key. */
static const struct fetch_header wanted[PROVIDER_MAX] = {
	[PROVIDER_CLAUDE] = { "anthropic-version", "2023-06-01" },
};

/* One list, and when it is asked for again. */
struct listing {
	char *name; /* first: the key of maps */
	char *said; /* what was last wrong with it, or NULL */
	struct discover *discover;
	struct fetch *fetch; /* under way, or NULL */
	int64_t due_ms;
	bool wanted; /* somebody is served by it */
};

struct discover {
	struct registry *registry;
	struct fetcher *fetcher;
	struct event *timer;
	struct name_map listings;
	size_t under_way;
	int64_t now_ms; /* of the last tick */
};

static void
listing_free(struct listing *l)
{
	if (l->fetch != NULL) {
		fetch_cancel(l->fetch);
		l->discover->under_way--;
	}
	free(l->said);
	free(l->name);
	free(l);
}

/* ---- an answer */

/* Each thing once, until it is another; "": all is well. */
static void
say(struct listing *l, int rc, const char *why)
{
	if (l->said != NULL && strcmp(l->said, why) == 0)
		return;
	free(l->said);
	l->said = xstrdup(why);
	if (rc < 0)
		log_warn("models %s cannot be read: %s", l->name, why);
	else if (*why != '\0')
		log_warn("models %s are served in part: %s", l->name, why);
}

/* 0 or negative errno; in why the reason, or what is not served. */
static int
take_answer(
    struct listing *l, const struct fetch_answer *answer, struct buf *why)
{
	struct catalog_section *section;
	int rc;

	if (answer->end != FETCH_ANSWERED) {
		buf_puts(why, answer->detail);
		return -EIO;
	}
	if (answer->status != 200) {
		buf_printf(why, "it answers with status %d", answer->status);
		return -EIO;
	}
	rc = listing_parse(answer->body, answer->len, l->name, &section, why);
	if (rc < 0)
		return rc;
	rc = registry_listed(l->discover->registry, section);
	if (rc < 0)
		buf_printf(why, "it cannot be published: %s", strerror(-rc));
	return rc < 0 ? rc : 0;
}

static void
on_done(void *ctx, const struct fetch_answer *answer)
{
	struct listing *l = ctx;
	struct discover *d = l->discover;
	struct buf why = BUF_INIT(WHY_MAX);
	int rc;

	l->fetch = NULL;
	d->under_way--;
	rc = take_answer(l, answer, &why);
	say(l, rc, buf_string(&why));
	buf_fini(&why);
	l->due_ms =
	    d->now_ms + (rc < 0 ? DISCOVER_RETRY_MS : DISCOVER_EVERY_MS);
	discover_tick(d, d->now_ms);
}

/* ---- a question */

/* A value that begins with '$' is a header of a client: there is none. */
static size_t
add_own_headers(
    const struct credential *c, struct fetch_header *headers, size_t n)
{
	for (size_t i = 0; i < c->headers.n && n < HEADERS_MAX; i++) {
		const struct header_rule *rule = &c->headers.v[i];

		if (rule->value[0] != '$')
			headers[n++] =
			    (struct fetch_header){ rule->name, rule->value };
	}
	return n;
}

static void
ask(struct listing *l, const struct entry *e)
{
	const struct credential *c = e->cred;
	const struct auth_header *auth = auth_header_get(c->auth_style);
	AUTO_FREE char *url =
	    xasprintf("%s%s", c->base_url, c->provider->listing);
	char *secret = xasprintf("%s%s", auth->prefix, c->secret);
	struct fetch_header headers[HEADERS_MAX];
	struct fetch_request request = {
		.url = url,
		.headers = headers,
		.proxy = e->proxy,
		.timeout_ms = DISCOVER_TIMEOUT_MS,
		.max_bytes = LISTING_BYTES_MAX,
	};
	size_t n = 0;
	int rc;

	if (*c->secret != '\0')
		headers[n++] = (struct fetch_header){ auth->name, secret };
	if (wanted[c->provider->id].name != NULL)
		headers[n++] = wanted[c->provider->id];
	request.nheaders = add_own_headers(c, headers, n);
	rc = fetch_start(l->discover->fetcher, &request, on_done, l, &l->fetch);
	secret_free(secret);
	if (rc == 0) {
		l->discover->under_way++;
		return;
	}
	l->fetch = NULL;
	l->due_ms = l->discover->now_ms + DISCOVER_RETRY_MS;
	say(l, rc, strerror(-rc));
}

static void
ask_if_due(void *ctx, const struct entry *e)
{
	struct discover *d = ctx;
	struct listing *l = name_map_find(&d->listings, e->cred->listing);

	if (l != NULL && l->fetch == NULL && l->due_ms <= d->now_ms &&
	    d->under_way < DISCOVER_AT_ONCE)
		ask(l, e);
}

void
discover_tick(struct discover *d, int64_t now_ms)
{
	d->now_ms = now_ms;
	registry_each_listing(d->registry, ask_if_due, d);
}

static void
on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	discover_tick(arg, clock_boot_ms());
}

/* ---- who is asked */

static void
want(void *ctx, const struct entry *e)
{
	struct discover *d = ctx;
	const char *name = e->cred->listing;
	struct listing *l = name_map_find(&d->listings, name);

	if (l == NULL) {
		l = xcalloc(1, sizeof(*l));
		l->name = xstrdup(name);
		l->discover = d;
		(void)name_map_put(&d->listings, l);
	}
	/* A list that came while a reload was under way is not in its set. */
	l->due_ms = 0;
	l->wanted = true;
}

void
discover_follow(struct discover *d)
{
	struct listing *l;
	size_t kept = 0;

	for (size_t i = 0; i < d->listings.n; i++) {
		l = d->listings.v[i];
		l->wanted = false;
	}
	registry_each_listing(d->registry, want, d);
	for (size_t i = 0; i < d->listings.n; i++) {
		l = d->listings.v[i];
		if (l->wanted)
			d->listings.v[kept++] = l;
		else
			listing_free(l);
	}
	d->listings.n = kept;
	discover_tick(d, clock_boot_ms());
}

struct discover *
discover_new(
    struct event_base *base, struct registry *registry, struct fetcher *fetcher)
{
	const struct timeval tick = { TICK_S, 0 };
	struct discover *d = xcalloc(1, sizeof(*d));

	d->registry = registry;
	d->fetcher = fetcher;
	d->timer = event_new(base, -1, EV_PERSIST, on_tick, d);
	if (d->timer == NULL || event_add(d->timer, &tick) < 0)
		fatalx("out of memory");
	return d;
}

void
discover_free(struct discover *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < d->listings.n; i++)
		listing_free(d->listings.v[i]);
	name_map_fini(&d->listings);
	event_free(d->timer);
	free(d);
}
