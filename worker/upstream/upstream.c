/* SPDX-License-Identifier: MIT */
/* Chooses the carrier of a call, and reads the headers that any brings. */
#include "worker/upstream/upstream.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "worker/upstream/carrier.h"

enum { TRIM_MS = 1000 };

struct side {
	const struct carrier *carrier;
	void *state;
};

struct upstream {
	struct side direct;
	struct side proxied;
	int64_t trimmed_ms;
};

static bool
side_open(struct side *side, struct worker *w, const struct carrier *carrier)
{
	side->carrier = carrier;
	side->state = carrier->open(w);
	return side->state != NULL;
}

static void
side_close(struct side *side)
{
	if (side->state != NULL)
		side->carrier->close(side->state);
}

static struct upstream *
open_both(struct worker *w, const struct carrier *direct,
    const struct carrier *proxied)
{
	struct upstream *u = xcalloc(1, sizeof(*u));

	if (!side_open(&u->direct, w, direct) ||
	    !side_open(&u->proxied, w, proxied)) {
		upstream_free(u);
		return NULL;
	}
	return u;
}

struct upstream *
upstream_new(struct worker *w)
{
	return open_both(w, &direct_carrier, &curl_carrier);
}

struct upstream *
upstream_new_over(struct worker *w, const struct carrier *carrier)
{
	return open_both(w, carrier, carrier);
}

void
upstream_free(struct upstream *u)
{
	if (u == NULL)
		return;
	side_close(&u->direct);
	side_close(&u->proxied);
	free(u);
}

static int
side_start(const struct side *side, const struct upstream_request *req,
    const struct upstream_events *events, void *ctx, struct upstream_call **out)
{
	return side->carrier->start(side->state, req, events, ctx, out);
}

int
upstream_start(struct upstream *u, const struct upstream_request *req,
    const struct upstream_events *events, void *ctx, struct upstream_call **out)
{
	int rc = CARRIER_CANNOT;

	if (req->proxy[0] == '\0')
		rc = side_start(&u->direct, req, events, ctx, out);
	if (rc == CARRIER_CANNOT)
		rc = side_start(&u->proxied, req, events, ctx, out);
	return rc;
}

/* Reads one line off the front; false: it is no field. */
static bool
take_field(struct span *lines, struct span *name, struct span *value)
{
	const char *lf = memchr(lines->p, '\n', lines->len);
	size_t len = lf != NULL ? (size_t)(lf - lines->p) : lines->len;
	struct span line = { lines->p, len };
	const char *colon = memchr(line.p, ':', line.len);

	len += lf != NULL;
	lines->p += len;
	lines->len -= len;
	if (colon == NULL || colon == line.p || line.p[0] == ' ' ||
	    line.p[0] == '\t')
		return false;
	if (line.p[line.len - 1] == '\r')
		line.len--;
	*name = span_trim((struct span){ line.p, (size_t)(colon - line.p) });
	*value = span_trim((struct span){
	    colon + 1, line.len - (size_t)(colon - line.p) - 1 });
	return true;
}

bool
upstream_header_next(struct upstream_call *call, size_t *cursor,
    struct span *name, struct span *value)
{
	struct span all = call->carrier->fields(call);
	struct span lines = { all.p + *cursor, all.len - *cursor };
	bool found = false;

	while (!found && lines.len > 0)
		found = take_field(&lines, name, value);
	*cursor = all.len - lines.len;
	if (!found)
		*name = *value = (struct span){ NULL, 0 };
	return found;
}

struct span
upstream_header_get(struct upstream_call *call, const char *name)
{
	struct span lines = call->carrier->fields(call);
	struct span wanted = span_of(name);
	struct span found, value;

	while (lines.len > 0)
		if (take_field(&lines, &found, &value) &&
		    span_equal_nocase(found, wanted))
			return value;
	return (struct span){ "", 0 };
}

size_t
upstream_sent_bytes(const struct upstream_call *call)
{
	return call->carrier->sent_bytes(call);
}

void
upstream_pause(struct upstream_call *call)
{
	call->carrier->pause(call);
}

void
upstream_resume(struct upstream_call *call)
{
	call->carrier->resume(call);
}

void
upstream_cancel(struct upstream_call *call)
{
	call->carrier->cancel(call);
}

void
upstream_trim(struct upstream *u)
{
	int64_t now_ms = clock_boot_ms();

	if (now_ms - u->trimmed_ms < TRIM_MS)
		return;
	u->trimmed_ms = now_ms;
	u->direct.carrier->trim(u->direct.state);
	u->proxied.carrier->trim(u->proxied.state);
}
