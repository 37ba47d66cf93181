/* SPDX-License-Identifier: MIT */
#include "worker/dialect/pin_scan.h"

#include <string.h>

#include "common/attr.h"
#include "common/str.h"

enum { FACT_NONE, FACT_RESPONSE_ID, FACT_TYPE, FACT_SEALED, FACT_ITEM_ID };

static const struct json_watch_row item_members[] = {
	{ "type", FACT_TYPE, true, NULL },
	{ "encrypted_content", FACT_SEALED, true, NULL },
	{ "id", FACT_ITEM_ID, true, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row response_members[] = {
	{ "id", FACT_RESPONSE_ID, true, NULL },
	{ "output", FACT_NONE, false, item_members },
	{ NULL, 0, false, NULL },
};

/* Of an event, and of a whole answer. */
static const struct json_watch_row event_root = { "", FACT_NONE, false,
	(const struct json_watch_row[]){
	    { "response", FACT_NONE, false, response_members },
	    { "item", FACT_NONE, false, item_members },
	    { NULL, 0, false, NULL },
	} };

static const struct json_watch_row answer_root = { "", FACT_NONE, false,
	response_members };

/* Events with a response or an item; what has no name may be any of them. */
static const struct span wanted_events[] = {
	SPAN(""),
	SPAN("response.created"),
	SPAN("response.in_progress"),
	SPAN("response.output_item.added"),
	SPAN("response.output_item.done"),
	SPAN("response.completed"),
	SPAN("response.incomplete"),
	SPAN("response.done"),
};

static const char *const compaction_types[] = {
	"compaction",
	"compaction_summary",
	"context_compaction",
};

void
pin_scan_init(struct pin_scan *s, bool events, pin_found_fn *found, void *ctx)
{
	memset(s, 0, sizeof(*s));
	s->events = events;
	s->found = found;
	s->ctx = ctx;
	sse_init(&s->sse);
	json_watch_init(&s->watch, events ? &event_root : &answer_root);
}

void
pin_scan_fini(struct pin_scan *s)
{
	struct digest unused;

	if (s->token != NULL)
		digest_stream_end(s->token, &unused);
	s->token = NULL;
}

static bool
is_compaction_type(const char *type)
{
	for (size_t i = 0; i < ARRAY_LEN(compaction_types); i++)
		if (strcmp(type, compaction_types[i]) == 0)
			return true;
	return false;
}

/*
 * The members of an item come in any order, and nothing says where an item
 * ends: what was seen last is told as soon as the type is a compaction's.
 */
static void
tell_item(struct pin_scan *s)
{
	if (!s->is_compaction)
		return;
	if (s->has_sealed)
		s->found(s->ctx, PIN_COMPACTION, &s->sealed);
	if (s->has_item_id)
		s->found(s->ctx, PIN_COMPACTION, &s->item_id);
	s->has_sealed = s->has_item_id = false;
}

/* A value that was being read is complete. */
static void
end_value(struct pin_scan *s)
{
	uint8_t fact = s->fact;
	struct digest d;

	s->fact = FACT_NONE;
	if (s->token != NULL) {
		digest_stream_end(s->token, &d);
		s->token = NULL;
	}
	switch (fact) {
	case FACT_RESPONSE_ID:
		s->has_id = true;
		s->found(s->ctx, PIN_RESPONSE, &d);
		break;
	case FACT_TYPE:
		s->is_compaction = is_compaction_type(s->type);
		tell_item(s);
		break;
	case FACT_SEALED:
		s->sealed = d;
		s->has_sealed = true;
		tell_item(s);
		break;
	case FACT_ITEM_ID:
		s->item_id = d;
		s->has_item_id = true;
		tell_item(s);
		break;
	default:
		break;
	}
}

static void
add_type(struct pin_scan *s, const char *p, size_t len)
{
	size_t have = strlen(s->type);
	size_t room = sizeof(s->type) - 1 - have;
	size_t n = len < room ? len : room;

	memcpy(s->type + have, p, n);
	s->type[have + n] = '\0';
}

static void
on_text(void *ctx, uint8_t fact, const char *p, size_t len, bool first)
{
	struct pin_scan *s = ctx;

	if (first) {
		end_value(s);
		s->fact = fact;
		s->row = s->watch.row;
		if (fact == FACT_TYPE)
			s->type[0] = '\0';
		else
			s->token = digest_stream_new();
	}
	if (fact == FACT_TYPE)
		add_type(s, p, len);
	else
		pin_token_add(s->token, p, len);
}

static void
feed_json(struct pin_scan *s, const char *p, size_t len)
{
	bool unit;
	size_t n;

	while (len > 0) {
		n = json_watch_feed(&s->watch, p, len, on_text, s, &unit);
		p += n;
		len -= n;
		if (s->fact != FACT_NONE && (unit || s->watch.row != s->row))
			end_value(s);
	}
}

/* The name of an event comes before its data, if it has one. */
static bool
is_wanted(const struct pin_scan *s)
{
	struct span name = sse_name(&s->sse);

	for (size_t i = 0; i < ARRAY_LEN(wanted_events); i++)
		if (span_equal(name, wanted_events[i]))
			return true;
	return false;
}

static void
end_frame(struct pin_scan *s)
{
	end_value(s);
	json_watch_reset(&s->watch);
	s->begun = false;
	s->is_compaction = false;
	s->has_sealed = s->has_item_id = false;
}

static void
feed_events(struct pin_scan *s, const char *p, size_t len)
{
	enum sse_result result;
	struct span data;
	size_t used;

	for (;; p += used, len -= used) {
		result = sse_next(&s->sse, p, len, &used, &data);
		if (result == SSE_MORE)
			return;
		if (result == SSE_FRAME) {
			end_frame(s);
			continue;
		}
		if (!s->begun)
			s->wanted = is_wanted(s);
		s->begun = true;
		if (s->wanted)
			feed_json(s, data.p, data.len);
	}
}

void
pin_scan_feed(struct pin_scan *s, const char *p, size_t len)
{
	if (s->events)
		feed_events(s, p, len);
	else
		feed_json(s, p, len);
}
