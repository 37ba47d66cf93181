/* SPDX-License-Identifier: MIT */
/*
 * The pass over a request body. A table says what is looked for at the top and
 * one level below; everything else is skipped. Of the conversation only the
 * beginnings of its first texts are kept, for the message hash.
 */
#include "worker/session/facts.h"

#include <string.h>

#include "common/attr.h"
#include "common/str.h"

/*
 * How a format writes its turns: the member that holds the content, the types
 * of the parts that are text (NULL: every part with a text is), whether the
 * first text is all there is to a content, and whether turns are items with a
 * type, of which only messages count.
 */
struct format {
	struct span content;
	const char *const *text_types;
	bool first_text_only;
	bool typed_items;
	bool needs_system; /* else user and assistant are all that is sought */
	struct {
		const char *name;
		enum msg_role role;
	} roles[5];
};

static const struct format chat_format = {
	.content = SPAN("content"),
	.text_types = (const char *const[]){ "text", NULL },
	.needs_system = true,
	.roles = {
	    { "system", MSG_SYSTEM },
	    { "user", MSG_USER },
	    { "assistant", MSG_ASSISTANT },
	},
};

static const struct format gemini_format = {
	.content = SPAN("parts"),
	.first_text_only = true,
	.roles = {
	    { "user", MSG_USER },
	    { "model", MSG_ASSISTANT },
	},
};

static const struct format responses_format = {
	.content = SPAN("content"),
	.text_types =
	    (const char *const[]){ "input_text", "output_text", "text", NULL },
	.typed_items = true,
	.roles = {
	    { "system", MSG_SYSTEM },
	    { "developer", MSG_SYSTEM },
	    { "user", MSG_USER },
	    { "assistant", MSG_ASSISTANT },
	},
};

/* Items that hold what only one account can read, by their type. */
static const char *const compaction_types[] = { "compaction",
	"compaction_summary", "context_compaction", NULL };

static const char *const reasoning_types[] = { "reasoning", NULL };

/* What has been read of a turn. */
struct turn {
	struct json_value role;
	struct json_value type;
	struct json_value id, sealed; /* of an item */
	bool has_content;
	struct msg_text text;
	struct msg_text *slot; /* where the text goes */
};

static bool
is_empty(const struct json_value *value)
{
	return value->type == JSON_NONE || value->type == JSON_NULL ||
	       (value->type == JSON_STRING && value->len == 2);
}

/* Read the next value; only the first occurrence is kept. */
static void
read_first(struct json_reader *r, struct json_value *value)
{
	(void)json_read(r, value->type == JSON_NONE ? value : NULL);
}

static void
append_text(const struct json_reader *r, const struct json_value *value,
    struct msg_text *text)
{
	char buf[MSG_TEXT_BYTES];
	size_t len = json_text(r->text, value, buf, sizeof(buf));

	msg_text_append(text, buf, len < sizeof(buf) ? len : sizeof(buf));
}

static bool
part_is_text(const struct json_reader *r, const struct json_value *type,
    const struct format *format)
{
	return format->text_types == NULL ||
	       json_is_any(r->text, type, format->text_types);
}

/* Read a part of a content and append its text, if it is one. */
static void
read_part(
    struct json_reader *r, const struct format *format, struct msg_text *text)
{
	struct json_value name, type = { 0 }, value = { 0 };

	if (!json_enter_if(r, JSON_OBJECT))
		return;
	while (json_member(r, &name)) {
		if (json_is(r->text, &name, "type"))
			read_first(r, &type);
		else if (json_is(r->text, &name, "text"))
			read_first(r, &value);
		else
			(void)json_read(r, NULL);
	}
	if (is_empty(&value) || !part_is_text(r, &type, format))
		return;
	if (text->len > 0)
		msg_text_append(text, " ", 1);
	append_text(r, &value, text);
}

/* Read an array of parts; what comes after enough text is skipped. */
static void
read_parts(
    struct json_reader *r, const struct format *format, struct msg_text *text)
{
	size_t enough = format->first_text_only ? 1 : MSG_TEXT_BYTES;

	if (!json_enter_if(r, JSON_ARRAY))
		return;
	while (json_element(r)) {
		read_part(r, format, text);
		if (text->len >= enough) {
			(void)json_leave(r);
			return;
		}
	}
}

static void
read_content(
    struct json_reader *r, const struct format *format, struct msg_text *text)
{
	struct json_value value;

	if (json_peek(r) != JSON_STRING || format->first_text_only)
		read_parts(r, format, text);
	else if (json_read(r, &value))
		append_text(r, &value, text);
}

/*
 * Where a role's text goes; NULL: it is not needed, or not any more. texts are
 * NULL when none is.
 */
static struct msg_text *
slot_of_role(const struct json_reader *r, const struct json_value *name,
    const struct format *format, struct msg_texts *texts)
{
	struct msg_text *slot;
	size_t i;

	for (i = 0; texts != NULL && i < ARRAY_LEN(format->roles); i++) {
		if (format->roles[i].name == NULL)
			break;
		if (!json_is(r->text, name, format->roles[i].name))
			continue;
		slot = &texts->of[format->roles[i].role];
		return slot->len == 0 ? slot : NULL;
	}
	return NULL;
}

/* Whether an item of that type may be sealed. */
static bool
type_may_be_sealed(const struct json_reader *r, const struct json_value *type)
{
	return json_is_any(r->text, type, compaction_types) ||
	       json_is_any(r->text, type, reasoning_types);
}

/* Read a member of a turn. False: the turn does not count. */
static bool
read_turn_member(struct json_reader *r, const struct json_value *name,
    const struct format *format, struct msg_texts *texts, struct turn *turn)
{
	if (turn->role.type == JSON_NONE && json_is(r->text, name, "role")) {
		(void)json_read(r, &turn->role);
		turn->slot = slot_of_role(r, &turn->role, format, texts);
		return turn->slot != NULL;
	}
	if (format->typed_items && turn->type.type == JSON_NONE &&
	    json_is(r->text, name, "type")) {
		(void)json_read(r, &turn->type);
		return is_empty(&turn->type) ||
		       json_is(r->text, &turn->type, "message") ||
		       type_may_be_sealed(r, &turn->type);
	}
	if (format->typed_items && json_is(r->text, name, "id")) {
		read_first(r, &turn->id);
		return true;
	}
	if (format->typed_items &&
	    json_is(r->text, name, "encrypted_content")) {
		read_first(r, &turn->sealed);
		return true;
	}
	if (!turn->has_content && json_equals(r->text, name, format->content.p,
				      format->content.len)) {
		turn->has_content = true;
		read_content(r, format, &turn->text);
		return true;
	}
	(void)json_read(r, NULL);
	return true;
}

static bool
is_text(const struct json_value *value)
{
	return value->type == JSON_STRING && value->len > 2;
}

/* An item was read as far as it may hold something that is sealed. */
static void
note_item(
    struct facts *facts, const struct json_reader *r, const struct turn *turn)
{
	const struct json_value *what =
	    is_text(&turn->sealed) ? &turn->sealed : &turn->id;

	if (!is_text(what))
		return;
	if (json_is_any(r->text, &turn->type, compaction_types))
		facts->compaction = *what;
	else if (what == &turn->sealed &&
		 json_is_any(r->text, &turn->type, reasoning_types))
		facts->sealed_reasoning = true;
}

static void
read_turn(struct facts *facts, struct json_reader *r,
    const struct format *format, struct msg_texts *texts)
{
	struct json_value name;
	struct turn turn;

	if (!json_enter_if(r, JSON_OBJECT))
		return;
	turn.role = (struct json_value){ 0 };
	turn.type = (struct json_value){ 0 };
	turn.id = (struct json_value){ 0 };
	turn.sealed = (struct json_value){ 0 };
	turn.has_content = false;
	turn.text.len = 0;
	turn.slot = NULL;
	while (json_member(r, &name)) {
		if (!read_turn_member(r, &name, format, texts, &turn)) {
			(void)json_leave(r);
			return;
		}
	}
	note_item(facts, r, &turn);
	if (turn.slot != NULL && !type_may_be_sealed(r, &turn.type))
		*turn.slot = turn.text;
}

static bool
texts_complete(const struct format *format, const struct msg_texts *texts)
{
	return texts->of[MSG_USER].len > 0 &&
	       texts->of[MSG_ASSISTANT].len > 0 &&
	       (texts->of[MSG_SYSTEM].len > 0 || !format->needs_system);
}

/* Of items all are read: any may be sealed. */
static void
read_turns(struct facts *facts, struct json_reader *r, struct json_value *value,
    const struct format *format, struct msg_texts *texts)
{
	if (value->type != JSON_ARRAY) {
		(void)json_read(r, value);
		return;
	}
	(void)json_enter(r);
	while (json_element(r)) {
		read_turn(facts, r, format, texts);
		if (texts == NULL || !texts_complete(format, texts))
			continue;
		texts = NULL;
		if (!format->typed_items) {
			(void)json_leave(r);
			return;
		}
	}
}

static void
read_messages(
    struct facts *facts, struct json_reader *r, struct json_value *value)
{
	read_turns(facts, r, value, &chat_format, &facts->messages);
}

static void
read_contents(
    struct facts *facts, struct json_reader *r, struct json_value *value)
{
	read_turns(facts, r, value, &gemini_format, &facts->gemini);
}

static void
read_input(struct facts *facts, struct json_reader *r, struct json_value *value)
{
	read_turns(facts, r, value, &responses_format, &facts->responses);
}

/* Of the blocks the first with a text counts, whatever its type. */
static void
read_system(
    struct facts *facts, struct json_reader *r, struct json_value *value)
{
	if (value->type == JSON_ARRAY)
		read_parts(r, &gemini_format, &facts->system);
	else if (json_read(r, value) && value->type == JSON_STRING)
		append_text(r, value, &facts->system);
}

static void
read_system_instruction(
    struct facts *facts, struct json_reader *r, struct json_value *value)
{
	struct msg_text *text = &facts->gemini.of[MSG_SYSTEM];
	struct json_value name;

	if (value->type != JSON_OBJECT) {
		(void)json_read(r, value);
		return;
	}
	(void)json_enter(r);
	while (json_member(r, &name)) {
		if (text->len == 0 && json_is(r->text, &name, "parts"))
			read_parts(r, &gemini_format, text);
		else
			(void)json_read(r, NULL);
	}
}

static void
read_instructions(
    struct facts *facts, struct json_reader *r, struct json_value *value)
{
	if (json_read(r, value))
		append_text(r, value, &facts->instructions);
}

/*
 * What is looked for at the top: where it goes; for an object the name of the
 * member inside that is meant, and whether a string in place of the object
 * will do; what reads the value, if that is not all. Such a reader finds the
 * type and offset of the value filled in and reads a string into it. The rows
 * are in order of length, for the search to end early.
 */
static const struct member {
	const char *name;
	size_t len;
	enum facts_field field;
	const char *inner;
	bool or_string;
	void (*read)(struct facts *facts, struct json_reader *r,
	    struct json_value *value);
} members[] = {
#define MEMBER(name_, field_, ...)                                             \
	{                                                                      \
		.name = (name_), .len = sizeof(name_) - 1, .field = (field_),  \
		##__VA_ARGS__                                                  \
	}
	MEMBER("model", FACTS_MODEL),
	MEMBER("store", FACTS_STORE),
	MEMBER("input", FACTS_INPUT, .read = read_input),
	MEMBER("stream", FACTS_STREAM),
	MEMBER("system", FACTS_SYSTEM, .read = read_system),
	MEMBER("request", FACTS_REQUEST_SESSION_ID, .inner = "session_id"),
	MEMBER("messages", FACTS_MESSAGES, .read = read_messages),
	MEMBER("metadata", FACTS_USER_ID, .inner = "user_id"),
	MEMBER("contents", FACTS_CONTENTS, .read = read_contents),
	MEMBER("sessionId", FACTS_SESSION_ID_CAMEL),
	MEMBER("session_id", FACTS_SESSION_ID),
	MEMBER("conversation", FACTS_CONVERSATION, .inner = "id",
	    .or_string = true),
	MEMBER("instructions", FACTS_INSTRUCTIONS, .read = read_instructions),
	MEMBER("cachedContent", FACTS_CACHED_CONTENT),
	MEMBER("cached_content", FACTS_CACHED_CONTENT_SNAKE),
	MEMBER("promptCacheKey", FACTS_PROMPT_CACHE_KEY_CAMEL),
	MEMBER("conversation_id", FACTS_CONVERSATION_ID),
	MEMBER("prompt_cache_key", FACTS_PROMPT_CACHE_KEY),
	MEMBER("systemInstruction", FACTS_SYSTEM_INSTRUCTION,
	    .read = read_system_instruction),
	MEMBER("system_instruction", FACTS_SYSTEM_INSTRUCTION_SNAKE),
	MEMBER("previous_response_id", FACTS_PREVIOUS_RESPONSE_ID),
#undef MEMBER
};

static const struct member *
member_find(const struct json_reader *r, const struct json_value *name)
{
	const struct member *m;

	for (m = members; m < members + ARRAY_LEN(members); m++) {
		if (name->len < m->len + 2)
			return NULL;
		if ((name->len == m->len + 2 || name->escaped) &&
		    json_equals(r->text, name, m->name, m->len))
			return m;
	}
	return NULL;
}

/* Read an object of which only one member is meant, or a string instead. */
static void
read_inner(struct json_reader *r, const struct member *member,
    struct json_value *value)
{
	enum json_type type = value->type;
	struct json_value name;

	*value = (struct json_value){ 0 };
	if (type != JSON_OBJECT) {
		(void)json_read(
		    r, type == JSON_STRING && member->or_string ? value : NULL);
		return;
	}
	(void)json_enter(r);
	while (json_member(r, &name)) {
		if (json_is(r->text, &name, member->inner))
			read_first(r, value);
		else
			(void)json_read(r, NULL);
	}
}

static void
read_member(
    struct facts *facts, struct json_reader *r, const struct member *member)
{
	struct json_value *value = &facts->field[member->field];

	value->type = json_peek(r);
	value->at = json_offset(r);
	if (member->inner != NULL)
		read_inner(r, member, value);
	else if (member->read != NULL)
		member->read(facts, r, value);
	else
		(void)json_read(r, value);
	if (value->type != JSON_NONE && value->len == 0)
		value->len = json_offset(r) - value->at;
}

/* Only these would mean one thing here and another upstream. */
static bool
must_be_single(enum facts_field field)
{
	return field == FACTS_MODEL || field == FACTS_STREAM;
}

static void
read_top(struct facts *facts, struct json_reader *r)
{
	const struct member *member;
	struct json_value name;

	(void)json_enter(r);
	facts->inside = json_offset(r);
	facts->empty = true;
	while (json_member(r, &name)) {
		facts->empty = false;
		member = member_find(r, &name);
		if (member == NULL) {
			(void)json_read(r, NULL);
		} else if (facts->field[member->field].type == JSON_NONE) {
			read_member(facts, r, member);
		} else {
			if (must_be_single(member->field))
				facts->duplicate = member->name;
			(void)json_read(r, NULL);
		}
	}
}

static void
decode_model(struct facts *facts)
{
	size_t len;

	if (facts->field[FACTS_MODEL].type != JSON_STRING)
		return;
	len = facts_text(facts, FACTS_MODEL, facts->model, FACTS_MODEL_BYTES);
	if (len > FACTS_MODEL_BYTES || memchr(facts->model, '\0', len) != NULL)
		len = 0;
	facts->model[len] = '\0';
	facts->model_len = len;
}

static enum facts_stream
stream_of(enum json_type type)
{
	switch (type) {
	case JSON_NONE:
		return FACTS_STREAM_ABSENT;
	case JSON_FALSE:
		return FACTS_STREAM_FALSE;
	case JSON_TRUE:
		return FACTS_STREAM_TRUE;
	default:
		return FACTS_STREAM_OTHER;
	}
}

enum facts_outcome
facts_read(struct facts *facts, const char *body, size_t len)
{
	struct json_reader r;
	bool is_object;

	memset(facts, 0, sizeof(*facts));
	facts->body = body;
	facts->body_len = len;
	json_reader_init(&r, body, len);
	is_object = json_peek(&r) == JSON_OBJECT;
	if (is_object)
		read_top(facts, &r);
	else
		(void)json_read(&r, NULL);
	if (json_finish(&r) != JSON_OK) {
		facts->error_at = json_offset(&r);
		return r.outcome == JSON_TOO_DEEP ? FACTS_TOO_DEEP
						  : FACTS_NOT_JSON;
	}
	if (!is_object)
		return FACTS_NOT_OBJECT;
	if (facts->duplicate != NULL)
		return FACTS_DUPLICATE;
	decode_model(facts);
	facts->stream = stream_of(facts->field[FACTS_STREAM].type);
	return FACTS_OK;
}

size_t
facts_text(
    const struct facts *facts, enum facts_field field, char *buf, size_t cap)
{
	return json_text(facts->body, &facts->field[field], buf, cap);
}

/* Take over a text that is still missing. */
static void
fill(struct msg_texts *texts, enum msg_role role, const struct msg_text *text)
{
	if (texts->of[role].len == 0)
		texts->of[role] = *text;
}

static bool
has_system_or_user(const struct msg_texts *texts)
{
	return texts->of[MSG_SYSTEM].len > 0 || texts->of[MSG_USER].len > 0;
}

static void
fill_all(struct msg_texts *texts, const struct msg_texts *from)
{
	int role;

	for (role = 0; role < MSG_ROLES; role++)
		fill(texts, (enum msg_role)role, &from->of[role]);
}

bool
facts_message_texts(const struct facts *facts, struct msg_texts *texts)
{
	*texts = facts->messages;
	fill(texts, MSG_SYSTEM, &facts->system);
	if (!has_system_or_user(texts))
		fill_all(texts, &facts->gemini);
	if (!has_system_or_user(texts) &&
	    facts->field[FACTS_INPUT].type != JSON_STRING) {
		fill(texts, MSG_SYSTEM, &facts->instructions);
		fill_all(texts, &facts->responses);
	}
	return has_system_or_user(texts);
}

bool
facts_item_is_sealed_reasoning(const char *item, size_t len)
{
	struct json_value name, type = { 0 }, sealed = { 0 };
	struct json_reader r;

	json_reader_init(&r, item, len);
	if (!json_enter_if(&r, JSON_OBJECT))
		return false;
	while (json_member(&r, &name)) {
		if (json_is(item, &name, "type"))
			read_first(&r, &type);
		else if (json_is(item, &name, "encrypted_content"))
			read_first(&r, &sealed);
		else
			(void)json_read(&r, NULL);
	}
	return is_text(&sealed) && json_is_any(item, &type, reasoning_types);
}
