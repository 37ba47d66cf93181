/* SPDX-License-Identifier: MIT */
/*
 * The derived identity of a conversation; see derived.h. All values are
 * offsets into the body, whatever part of it a reader goes over. The body has
 * been validated, so readers here do not fail.
 */
#include "worker/session/derived.h"

#include <stdio.h>
#include <string.h>

#include "common/attr.h"
#include "common/secret.h"
#include "common/str.h"

/* So much of an instruction counts; a code point is up to 4 bytes. */
enum { INSTRUCTION_POINTS = 50, INSTRUCTION_BYTES = 4 * INSTRUCTION_POINTS };

/* Where a format has its instructions (one of two) and its turns. */
struct format {
	const char *name;
	enum facts_field turns;
	enum facts_field instructions[2];
	const char *content;
	bool role_may_lack; /* and then means the user */
};

/* The first format whose turns are there is the body's. */
static const struct format formats[] = {
	{ "messages", FACTS_MESSAGES, { FACTS_SYSTEM, FACTS_SYSTEM }, "content",
	    false },
	{ "contents", FACTS_CONTENTS,
	    { FACTS_SYSTEM_INSTRUCTION, FACTS_SYSTEM_INSTRUCTION_SNAKE },
	    "parts", true },
	{ "input", FACTS_INPUT,
	    { FACTS_INSTRUCTIONS, FACTS_SYSTEM_INSTRUCTION_SNAKE }, "content",
	    false },
};

static const char *const text_types[] = { "text", "input_text", "output_text",
	NULL };

static const char *const ignored_members[] = { "cache_control",
	"internal_chat_message_metadata_passthrough", NULL };

struct root {
	const char *body;
	struct digest_stream *digest;
};

struct instruction {
	size_t len;
	char bytes[INSTRUCTION_BYTES];
};

/* A member sought in an object, and where it was found. */
struct sought {
	const char *name;
	struct json_value value;
};

static void
reader_over(struct json_reader *r, const struct root *root,
    const struct json_value *value)
{
	json_reader_init(r, root->body + value->at, value->len);
}

static bool
read_value(
    struct json_reader *r, const struct root *root, struct json_value *value)
{
	if (!json_read(r, value))
		return false;
	value->at += (size_t)(r->text - root->body);
	return true;
}

static void
find_members(const struct root *root, const struct json_value *object,
    struct sought *sought, size_t n)
{
	struct json_value name, value;
	struct json_reader r;
	size_t i;

	if (object->type != JSON_OBJECT)
		return;
	reader_over(&r, root, object);
	(void)json_enter(&r);
	while (json_member(&r, &name) && read_value(&r, root, &value)) {
		for (i = 0; i < n; i++) {
			if (sought[i].value.type == JSON_NONE &&
			    json_is(r.text, &name, sought[i].name))
				sought[i].value = value;
		}
	}
}

static void
put_end(const struct root *root)
{
	digest_stream_add(root->digest, "\xff", 1);
}

static void
put_word(const struct root *root, const char *word)
{
	digest_stream_add(root->digest, word, strlen(word));
	put_end(root);
}

static void
put_char(const struct root *root, char c)
{
	digest_stream_add(root->digest, &c, 1);
}

/* A string of any length; text is what its offset counts from. */
static void
put_string(const struct root *root, char tag, const char *text,
    const struct json_value *value)
{
	struct json_decoder decoder;
	char piece[512];
	size_t n;

	put_char(root, tag);
	json_decoder_init(&decoder, text, value);
	while ((n = json_decode(&decoder, piece, sizeof(piece))) > 0)
		digest_stream_add(root->digest, piece, n);
	put_end(root);
}

static void
put_literal(
    const struct root *root, const char *text, const struct json_value *value)
{
	put_char(root, 'v');
	digest_stream_add(root->digest, text + value->at, value->len);
	put_end(root);
}

static void put_json(const struct root *root, struct json_reader *r);

static void
put_object(const struct root *root, struct json_reader *r)
{
	struct json_value name;

	put_char(root, '{');
	(void)json_enter(r);
	while (json_member(r, &name)) {
		if (json_is_any(r->text, &name, ignored_members)) {
			(void)json_read(r, NULL);
			continue;
		}
		put_string(root, '"', r->text, &name);
		put_json(root, r);
	}
	put_char(root, '}');
}

static void
put_array(const struct root *root, struct json_reader *r)
{
	put_char(root, '[');
	(void)json_enter(r);
	while (json_element(r))
		put_json(root, r);
	put_char(root, ']');
}

/* Recursive; the reader bounds the depth to JSON_MAX_DEPTH. */
static void
put_json(const struct root *root, struct json_reader *r)
{
	struct json_value value;

	switch (json_peek(r)) {
	case JSON_OBJECT:
		put_object(root, r);
		return;
	case JSON_ARRAY:
		put_array(root, r);
		return;
	default:
		break;
	}
	if (!json_read(r, &value))
		return;
	if (value.type == JSON_STRING)
		put_string(root, '"', r->text, &value);
	else
		put_literal(root, r->text, &value);
}

static bool
put_text(const struct root *root, const struct json_value *text)
{
	if (text->len <= 2)
		return false;
	put_string(root, 't', root->body, text);
	return true;
}

/* True: the part has content. */
static bool
put_part(const struct root *root, const struct json_value *part)
{
	struct sought of[] = { { .name = "type" }, { .name = "text" } };
	struct json_value *type = &of[0].value, *text = &of[1].value;
	struct json_reader r;

	if (part->type == JSON_STRING)
		return put_text(root, part);
	if (part->type != JSON_OBJECT)
		return false;
	find_members(root, part, of, ARRAY_LEN(of));
	if (text->type == JSON_STRING &&
	    (type->type == JSON_NONE ||
		json_is_any(root->body, type, text_types)))
		return put_text(root, text);
	put_char(root, 'j');
	reader_over(&r, root, part);
	put_json(root, &r);
	return true;
}

/* The content of the first user turn. True: there is some. */
static bool
put_user(const struct root *root, const struct json_value *content)
{
	struct json_value part;
	struct json_reader r;
	bool any = false;

	if (content->type != JSON_ARRAY)
		return put_part(root, content);
	reader_over(&r, root, content);
	(void)json_enter(&r);
	while (json_element(&r) && read_value(&r, root, &part))
		any |= put_part(root, &part);
	return any;
}

static void
instruction_add(struct instruction *instruction, const struct root *root,
    const struct json_value *part)
{
	struct sought of[] = { { .name = "text" } };
	const struct json_value *text = part;
	size_t room, n;

	if (part->type == JSON_OBJECT) {
		find_members(root, part, of, ARRAY_LEN(of));
		text = &of[0].value;
	}
	if (text->type != JSON_STRING || text->len <= 2)
		return;
	if (instruction->len > 0 && instruction->len < INSTRUCTION_BYTES)
		instruction->bytes[instruction->len++] = '\n';
	room = INSTRUCTION_BYTES - instruction->len;
	n = json_text(
	    root->body, text, instruction->bytes + instruction->len, room);
	instruction->len += n < room ? n : room;
}

/* The length of the first INSTRUCTION_POINTS code points. */
static size_t
instruction_cut(const struct instruction *instruction)
{
	size_t i, points = 0;

	for (i = 0; i < instruction->len; i++) {
		if (((unsigned char)instruction->bytes[i] & 0xc0) != 0x80 &&
		    points++ == INSTRUCTION_POINTS)
			break;
	}
	return i;
}

/* A string, an array of parts, or an object that holds one as `parts`. */
static void
put_instruction(const struct root *root, const struct json_value *value)
{
	struct sought of[] = { { .name = "parts" } };
	struct instruction instruction = { 0 };
	struct json_value part;
	struct json_reader r;

	find_members(root, value, of, ARRAY_LEN(of));
	if (of[0].value.type != JSON_NONE)
		value = &of[0].value;
	if (value->type == JSON_ARRAY) {
		reader_over(&r, root, value);
		(void)json_enter(&r);
		while (json_element(&r) && read_value(&r, root, &part))
			instruction_add(&instruction, root, &part);
	} else {
		instruction_add(&instruction, root, value);
	}
	if (instruction.len == 0)
		return;
	put_char(root, 'i');
	digest_stream_add(
	    root->digest, instruction.bytes, instruction_cut(&instruction));
	put_end(root);
}

/* Instructions up to the first user turn, then that. True: it has content. */
static bool
put_turns(const struct root *root, const struct format *format,
    const struct json_value *turns)
{
	struct json_reader r;
	struct json_value turn;

	if (turns->type != JSON_ARRAY)
		return turns->type == JSON_STRING && put_text(root, turns);
	reader_over(&r, root, turns);
	(void)json_enter(&r);
	while (json_element(&r) && read_value(&r, root, &turn)) {
		struct sought of[] = { { .name = "role" },
			{ .name = format->content } };
		const struct json_value *role = &of[0].value;

		find_members(root, &turn, of, ARRAY_LEN(of));
		if (json_is(root->body, role, "user") ||
		    (role->type == JSON_NONE && format->role_may_lack))
			return put_user(root, &of[1].value);
		if (json_is(root->body, role, "system") ||
		    json_is(root->body, role, "developer"))
			put_instruction(root, &of[1].value);
	}
	return false;
}

static const struct json_value *
either_field(const struct facts *facts, enum facts_field a, enum facts_field b)
{
	const struct json_value *value = &facts->field[a];

	return value->type != JSON_NONE ? value : &facts->field[b];
}

static bool
put_conversation(const struct root *root, const struct format *format,
    const struct facts *facts)
{
	const struct json_value *resource = either_field(
	    facts, FACTS_CACHED_CONTENT, FACTS_CACHED_CONTENT_SNAKE);

	put_word(root, "fairlead-session-root-1");
	put_word(root, format->name);
	put_instruction(root, either_field(facts, format->instructions[0],
				  format->instructions[1]));
	if (!put_turns(root, format, &facts->field[format->turns]))
		return false;
	if (resource->type == JSON_STRING && resource->len > 2)
		put_string(root, 'r', root->body, resource);
	return true;
}

static const struct format *
format_of(const struct facts *facts)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(formats); i++) {
		if (facts->field[formats[i].turns].type != JSON_NONE)
			return &formats[i];
	}
	return NULL;
}

bool
derived_id(const struct facts *facts, char id[DERIVED_ID_BYTES])
{
	const struct format *format = format_of(facts);
	struct root root = { .body = facts->body };
	char hex[2 * DIGEST_LEN + 1];
	struct digest digest;
	bool found;

	if (format == NULL)
		return false;
	root.digest = digest_stream_new();
	found = put_conversation(&root, format, facts);
	digest_stream_end(root.digest, &digest);
	str_hex(digest.bytes, DIGEST_LEN, hex);
	(void)snprintf(id, DERIVED_ID_BYTES, "ctx:v1:%s", hex);
	return found;
}
