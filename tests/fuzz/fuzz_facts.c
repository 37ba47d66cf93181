/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a request body. The verdict must be that of a plain recursive
 * validator, every span must lie in the body and hold a value of its type, and
 * what is decoded must be UTF-8 within its bounds.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "worker/http/http_head.h"
#include "worker/relay/rewrite.h"
#include "worker/session/derived.h"
#include "worker/session/facts.h"
#include "worker/session/session.h"

#define CHECK(condition)                                                       \
	do {                                                                   \
		if (!(condition))                                              \
			abort();                                               \
	} while (0)

/* The validator: one function for each rule of RFC 8259, byte by byte. */
struct slow {
	const unsigned char *p;
	const unsigned char *end;
	unsigned depth;
	bool too_deep;
	unsigned models; /* members of the top object called so */
	unsigned streams;
};

static bool slow_value(struct slow *s);

static void
slow_space(struct slow *s)
{
	while (
	    s->p < s->end && *s->p != '\0' && strchr(" \t\r\n", *s->p) != NULL)
		s->p++;
}

static bool
slow_char(struct slow *s, char c)
{
	if (s->p == s->end || *s->p != (unsigned char)c)
		return false;
	s->p++;
	return true;
}

static bool
slow_word(struct slow *s, const char *word)
{
	for (; *word != '\0'; word++) {
		if (!slow_char(s, *word))
			return false;
	}
	return true;
}

static bool
slow_digits(struct slow *s)
{
	const unsigned char *start = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > start;
}

static bool
slow_number(struct slow *s)
{
	(void)slow_char(s, '-');
	if (!slow_char(s, '0') && !slow_digits(s))
		return false;
	if (slow_char(s, '.') && !slow_digits(s))
		return false;
	if (slow_char(s, 'e') || slow_char(s, 'E')) {
		if (!slow_char(s, '+'))
			(void)slow_char(s, '-');
		return slow_digits(s);
	}
	return true;
}

/* Names are compared by their letters, which may be escaped as \u00XX. */
struct name {
	size_t len;
	char bytes[8];
};

static void
name_add(struct name *name, unsigned c)
{
	if (name->len < sizeof(name->bytes))
		name->bytes[name->len] = c < 0x80 ? (char)c : '?';
	name->len++;
}

static bool
name_is(const struct name *name, const char *word)
{
	return name->len == strlen(word) &&
	       memcmp(name->bytes, word, name->len) == 0;
}

static bool
slow_escape(struct slow *s, struct name *name)
{
	static const char hex[] = "0123456789abcdef0123456789ABCDEF";
	const char *digit;
	unsigned c = 0;
	int i;

	if (!slow_char(s, 'u')) {
		if (s->p == s->end || *s->p == '\0' ||
		    strchr("\"\\/bfnrt", *s->p) == NULL)
			return false;
		name_add(name, *s->p == '/' ? '/' : '?');
		s->p++;
		return true;
	}
	for (i = 0; i < 4; i++) {
		if (s->p == s->end || *s->p == '\0' ||
		    (digit = strchr(hex, *s->p)) == NULL)
			return false;
		c = c * 16 + (unsigned)(digit - hex) % 16;
		s->p++;
	}
	name_add(name, c);
	return true;
}

static bool
slow_string(struct slow *s, struct name *name)
{
	size_t n;

	name->len = 0;
	if (!slow_char(s, '"'))
		return false;
	while (!slow_char(s, '"')) {
		if (slow_char(s, '\\')) {
			if (!slow_escape(s, name))
				return false;
			continue;
		}
		n = utf8_sequence(s->p, (size_t)(s->end - s->p));
		if (n == 0 || *s->p < 0x20)
			return false;
		name_add(name, *s->p);
		s->p += n;
	}
	return true;
}

static bool
slow_members(struct slow *s)
{
	struct name name;

	do {
		slow_space(s);
		if (!slow_string(s, &name))
			return false;
		if (s->depth == 1) {
			s->models += name_is(&name, "model");
			s->streams += name_is(&name, "stream");
		}
		slow_space(s);
		if (!slow_char(s, ':') || !slow_value(s))
			return false;
	} while (slow_char(s, ','));
	return slow_char(s, '}');
}

static bool
slow_elements(struct slow *s)
{
	do {
		if (!slow_value(s))
			return false;
	} while (slow_char(s, ','));
	return slow_char(s, ']');
}

static bool
slow_container(struct slow *s, bool object)
{
	bool sound;

	if (s->depth == JSON_MAX_DEPTH) {
		s->too_deep = true;
		return false;
	}
	s->p++;
	s->depth++;
	slow_space(s);
	if (slow_char(s, object ? '}' : ']'))
		sound = true;
	else
		sound = object ? slow_members(s) : slow_elements(s);
	s->depth--;
	return sound;
}

/* A value with the space around it. */
static bool
slow_value(struct slow *s)
{
	struct name ignored;
	bool sound;

	slow_space(s);
	if (s->p == s->end)
		return false;
	switch (*s->p) {
	case '{':
	case '[':
		sound = slow_container(s, *s->p == '{');
		break;
	case '"':
		sound = slow_string(s, &ignored);
		break;
	case 't':
		sound = slow_word(s, "true");
		break;
	case 'f':
		sound = slow_word(s, "false");
		break;
	case 'n':
		sound = slow_word(s, "null");
		break;
	default:
		sound = slow_number(s);
		break;
	}
	slow_space(s);
	return sound;
}

static enum facts_outcome
slow_outcome(const uint8_t *data, size_t size)
{
	struct slow s = { .p = data, .end = data + size };
	bool object;

	slow_space(&s);
	object = s.p < s.end && *s.p == '{';
	if (!slow_value(&s))
		return s.too_deep ? FACTS_TOO_DEEP : FACTS_NOT_JSON;
	if (s.p != s.end)
		return FACTS_NOT_JSON;
	if (!object)
		return FACTS_NOT_OBJECT;
	return s.models > 1 || s.streams > 1 ? FACTS_DUPLICATE : FACTS_OK;
}

static void
check_utf8(const char *text, size_t len, bool may_be_cut)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n;

	while (len > 0) {
		n = utf8_sequence(p, len);
		if (n == 0) {
			CHECK(may_be_cut && len < 4);
			return;
		}
		p += n;
		len -= n;
	}
}

static void
check_value(const uint8_t *data, size_t size, const struct json_value *value)
{
	static const char first[] = "\0nft\0\"[{";
	struct slow s;

	if (value->type == JSON_NONE)
		return;
	CHECK(value->at < size && value->len > 0);
	CHECK(value->len <= size - value->at);
	s = (struct slow){ .p = data + value->at,
		.end = data + value->at + value->len };
	if (value->type != JSON_NUMBER)
		CHECK(*s.p == (unsigned char)first[value->type]);
	CHECK(slow_value(&s) && s.p == s.end);
	CHECK(value->escaped ==
	      (value->type == JSON_STRING &&
		  memchr(data + value->at, '\\', value->len) != NULL));
}

static void
check_fields(const struct facts *facts, const uint8_t *data, size_t size)
{
	char text[100];
	size_t len;
	int field;

	for (field = 0; field < FACTS_FIELDS; field++) {
		check_value(data, size, &facts->field[field]);
		len = facts_text(
		    facts, (enum facts_field)field, text, sizeof(text));
		CHECK(len <= sizeof(text) + 1);
		check_utf8(text, len < sizeof(text) ? len : sizeof(text),
		    len > sizeof(text));
	}
	CHECK(facts->model_len <= FACTS_MODEL_BYTES);
	CHECK(strlen(facts->model) == facts->model_len);
	check_utf8(facts->model, facts->model_len, false);
	CHECK(facts->inside > 0 && facts->inside < size);
	CHECK(data[facts->inside - 1] == '{');
}

static void
check_texts(const struct facts *facts)
{
	struct msg_texts texts;
	int role;

	if (!facts_message_texts(facts, &texts))
		return;
	CHECK(texts.of[MSG_SYSTEM].len > 0 || texts.of[MSG_USER].len > 0);
	for (role = 0; role < MSG_ROLES; role++) {
		CHECK(texts.of[role].len <= MSG_TEXT_BYTES);
		check_utf8(texts.of[role].bytes, texts.of[role].len, true);
	}
}

static void
check_session(const struct facts *facts)
{
	static const char text[] = "POST / HTTP/1.1\r\nHost: h\r\n\r\n";
	struct session_id session;
	struct http_head head;
	char id[DERIVED_ID_BYTES];

	http_head_init(&head);
	CHECK(http_head_parse(&head, text, sizeof(text) - 1) == HTTP_HEAD_DONE);
	if (session_find(&session, &head, facts)) {
		CHECK(strncmp(session.id, session.prefix,
			  strlen(session.prefix)) == 0);
		CHECK(strlen(session.id) < sizeof(session.id));
		check_utf8(session.id, strlen(session.id), false);
		check_utf8(session.alias, strlen(session.alias), false);
	}
	if (derived_id(facts, id))
		CHECK(strlen(id) == DERIVED_ID_BYTES - 1);
}

/* Without its sealed reasoning a body is still one, and has none. */
static void
check_unsealed(const struct facts *facts, const uint8_t *data, size_t size)
{
	static struct facts after;
	struct rewrite_places places;
	struct rewrite edits;
	size_t len = size;
	char *body;

	rewrite_places_of(&places, facts);
	rewrite_init(&edits, &places);
	CHECK(rewrite_unseal(&edits, (const char *)data, size) > 0 ||
	      !facts->sealed_reasoning);
	CHECK(
	    rewrite_apply(&edits, (const char *)data, size, &body, &len) == 0);
	rewrite_fini(&edits);
	if (body == NULL)
		return;
	CHECK(len < size);
	CHECK(facts_read(&after, body, len) == FACTS_OK);
	CHECK(!after.sealed_reasoning);
	free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct facts facts;
	enum facts_outcome outcome;

	outcome = facts_read(&facts, (const char *)data, size);
	CHECK(outcome == slow_outcome(data, size));
	CHECK(facts.error_at <= size);
	if (outcome != FACTS_OK)
		return 0;
	check_fields(&facts, data, size);
	check_texts(&facts);
	check_session(&facts);
	check_unsealed(&facts, data, size);
	return 0;
}
