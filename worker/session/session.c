/* SPDX-License-Identifier: MIT */
/* Which session a request belongs to; see session.h. */
#include "worker/session/session.h"

#include <stdio.h>
#include <string.h>

#include "common/attr.h"
#include "common/unicode.h"
#include "common/utf8.h"
#include "worker/json/json.h"
#include "worker/session/derived.h"
#include "worker/session/msg_hash.h"

/* A body value longer than this, as it is sent, is not looked at. */
enum { RAW_VALUE_BYTES = 8192 };

/* Ids up to SHORT_WHOLE bytes are shown whole, of others SHORT_HEAD bytes. */
enum { SHORT_WHOLE = 20, SHORT_HEAD = 8 };

struct source;

/* What a source may look at. facts may be NULL. */
struct request {
	const struct http_head *head;
	const struct facts *facts;
};

/* Fill id and alias; false, with both untouched: not to be found there. */
typedef bool source_read(const struct source *source,
    const struct request *request, struct session_id *session);

struct source {
	const char *name;
	const char *prefix;
	source_read *read;
	const char *header;
	enum facts_field field;
};

static source_read read_header, read_body, read_claude_user_id;
static source_read read_cache_key, read_message_hash, read_derived;

/* The first source that yields a valid id wins. */
static const struct source sources[] = {
#define HEADER(header, prefix)                                                 \
	{                                                                      \
		"header " header, prefix, read_header, header, FACTS_FIELDS    \
	}
#define BODY(name, prefix, read, field)                                        \
	{                                                                      \
		"body " name, prefix, read, NULL, field                        \
	}
	HEADER("x-claude-code-session-id", "claude"),
	BODY("metadata.user_id", "claude", read_claude_user_id, FACTS_USER_ID),
	HEADER("session-id", "codex"),
	HEADER("session_id", "codex"),
	HEADER("x-opencode-session", "opencode"),
	HEADER("x-session-id", "header"),
	HEADER("x-session-affinity", "affinity"),
	HEADER("x-amp-thread-id", "amp"),
	BODY("session_id", "session", read_body, FACTS_SESSION_ID),
	BODY("sessionId", "session", read_body, FACTS_SESSION_ID_CAMEL),
	BODY("request.session_id", "session", read_body,
	    FACTS_REQUEST_SESSION_ID),
	BODY("prompt_cache_key", "pck", read_cache_key, FACTS_PROMPT_CACHE_KEY),
	BODY("promptCacheKey", "pck", read_cache_key,
	    FACTS_PROMPT_CACHE_KEY_CAMEL),
	BODY("conversation", "conv", read_body, FACTS_CONVERSATION),
	BODY("metadata.user_id", "user", read_body, FACTS_USER_ID),
	BODY("conversation_id", "conv", read_body, FACTS_CONVERSATION_ID),
	{ "message hash", "msg", read_message_hash, NULL, FACTS_FIELDS },
	{ "derived", "derived", read_derived, NULL, FACTS_FIELDS },
#undef HEADER
#undef BODY
};

/*
 * What a sub-agent with an id of its own names its parent by. The parent's id
 * is found as its own is, by the same header; without one, under this prefix.
 */
static const struct parent {
	const char *header;
	const char *prefix;
} parents[] = {
	{ "x-parent-session-id", "header" },
	{ "x-codex-parent-thread-id", "codex" },
};

struct span
session_value_normalize(struct span value)
{
	static const struct span invalid = { "", 0 };

	if (unicode_has_control(value))
		return invalid;
	value = unicode_trim(value);
	return value.len <= SESSION_VALUE_BYTES ? value : invalid;
}

/* Write "prefix:value" of a normalized value; false: it is invalid. */
static bool
set_id(char id[SESSION_ID_BYTES], const char *prefix, struct span value)
{
	if (value.len == 0)
		return false;
	(void)snprintf(
	    id, SESSION_ID_BYTES, "%s:%.*s", prefix, (int)value.len, value.p);
	return true;
}

static bool
set_value(char id[SESSION_ID_BYTES], const char *prefix, struct span value)
{
	return set_id(id, prefix, session_value_normalize(value));
}

/* The text of a body field, in buf; empty when absent or too long. */
static struct span
field_text(const struct request *request, enum facts_field field,
    char buf[RAW_VALUE_BYTES])
{
	size_t len = 0;

	if (request->facts != NULL)
		len = facts_text(request->facts, field, buf, RAW_VALUE_BYTES);
	return (struct span){ buf, len <= RAW_VALUE_BYTES ? len : 0 };
}

/* The first valid one of the values of a header. */
static bool
set_from_header(char id[SESSION_ID_BYTES], const char *prefix,
    const struct http_head *head, const char *header)
{
	int i = -1;

	while ((i = http_head_find(head, header, i + 1)) >= 0) {
		if (set_value(id, prefix, http_head_value(head, i)))
			return true;
	}
	return false;
}

static bool
read_header(const struct source *source, const struct request *request,
    struct session_id *session)
{
	return set_from_header(
	    session->id, source->prefix, request->head, source->header);
}

static bool
read_body(const struct source *source, const struct request *request,
    struct session_id *session)
{
	char buf[RAW_VALUE_BYTES];

	return set_value(session->id, source->prefix,
	    field_text(request, source->field, buf));
}

/* The cache key, and the conversation as a second name for it. */
static bool
read_cache_key(const struct source *source, const struct request *request,
    struct session_id *session)
{
	char buf[RAW_VALUE_BYTES];

	if (!read_body(source, request, session))
		return false;
	(void)set_value(session->alias, "conv",
	    field_text(request, FACTS_CONVERSATION, buf));
	return true;
}

/* The newer form: a JSON object with a session_id. */
static bool
claude_session_in_json(const struct source *source, struct span user_id,
    struct session_id *session)
{
	struct json_value name, value = { 0 };
	struct json_reader r;
	char buf[RAW_VALUE_BYTES];
	size_t len;

	json_reader_init(&r, user_id.p, user_id.len);
	(void)json_enter(&r);
	while (json_member(&r, &name)) {
		if (value.type == JSON_NONE &&
		    json_equals(user_id.p, &name, "session_id", 10))
			(void)json_read(&r, &value);
		else
			(void)json_read(&r, NULL);
	}
	if (json_finish(&r) != JSON_OK)
		return false;
	len = json_text(user_id.p, &value, buf, sizeof(buf));
	if (len > sizeof(buf))
		return false;
	return set_value(
	    session->id, source->prefix, (struct span){ buf, len });
}

static bool
is_uuid_byte(char c)
{
	return (c >= 'a' && c <= 'f') || (c >= '0' && c <= '9') || c == '-';
}

/* The older form: user_HASH_account__session_ID, the ID at the end. */
static bool
claude_session_at_end(const struct source *source, struct span user_id,
    struct session_id *session)
{
	static const struct span mark = SPAN("_session_");
	size_t at = user_id.len;

	while (at > 0 && is_uuid_byte(user_id.p[at - 1]))
		at--;
	if (at < mark.len ||
	    memcmp(user_id.p + at - mark.len, mark.p, mark.len) != 0)
		return false;
	return set_value(session->id, source->prefix,
	    (struct span){ user_id.p + at, user_id.len - at });
}

static bool
read_claude_user_id(const struct source *source, const struct request *request,
    struct session_id *session)
{
	char buf[RAW_VALUE_BYTES];
	struct span user_id =
	    unicode_trim(field_text(request, source->field, buf));

	if (user_id.len == 0)
		return false;
	if (user_id.p[0] == '{')
		return claude_session_in_json(source, user_id, session);
	return claude_session_at_end(source, user_id, session);
}

static void
set_hash(char id[SESSION_ID_BYTES], const char *prefix, uint64_t hash)
{
	char hex[MSG_HASH_BYTES];

	msg_hash_format(hash, hex);
	(void)set_id(id, prefix, span_of(hex));
}

/*
 * The first turn yields the short hash, later ones the full one; the alias
 * lets the second turn inherit the first one's binding.
 */
static bool
read_message_hash(const struct source *source, const struct request *request,
    struct session_id *session)
{
	struct msg_texts texts;

	if (request->facts == NULL ||
	    !facts_message_texts(request->facts, &texts))
		return false;
	set_hash(session->id, source->prefix, msg_hash(&texts));
	if (texts.of[MSG_ASSISTANT].len > 0)
		set_hash(
		    session->alias, source->prefix, msg_hash_short(&texts));
	return true;
}

static bool
read_derived(const struct source *source, const struct request *request,
    struct session_id *session)
{
	char id[DERIVED_ID_BYTES];

	if (request->facts == NULL || !derived_id(request->facts, id))
		return false;
	return set_id(session->id, source->prefix, span_of(id));
}

static void
find_parent(struct session_id *session, const struct http_head *head,
    const struct source *source)
{
	const struct parent *p;

	for (p = parents; p < parents + ARRAY_LEN(parents); p++) {
		if (!set_from_header(session->parent,
			source->header != NULL ? source->prefix : p->prefix,
			head, p->header))
			continue;
		if (strcmp(session->parent, session->id) == 0)
			session->parent[0] = '\0';
		return;
	}
}

bool
session_find(struct session_id *session, const struct http_head *head,
    const struct facts *facts)
{
	const struct request request = { head, facts };
	const struct source *source;

	*session = (struct session_id){ 0 };
	for (source = sources; source < sources + ARRAY_LEN(sources);
	     source++) {
		if (!source->read(source, &request, session))
			continue;
		session->source = source->name;
		session->prefix = source->prefix;
		find_parent(session, head, source);
		return true;
	}
	return false;
}

void
session_id_shorten(const char *id, char shortened[SESSION_SHORT_BYTES])
{
	if (strlen(id) <= SHORT_WHOLE)
		(void)snprintf(shortened, SESSION_SHORT_BYTES, "%s", id);
	else
		(void)snprintf(
		    shortened, SESSION_SHORT_BYTES, "%.*s...", SHORT_HEAD, id);
	utf8_mend(shortened);
}
