/* SPDX-License-Identifier: MIT */
/* The derived identity: what keeps it, and what makes another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/session/derived.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool
id_of(const char *body, char id[DERIVED_ID_BYTES])
{
	static struct facts facts;

	if (facts_read(&facts, body, strlen(body)) != FACTS_OK)
		fail_msg("%s", body);
	return derived_id(&facts, id);
}

static bool
same_id(const char *a, const char *b)
{
	char id_a[DERIVED_ID_BYTES], id_b[DERIVED_ID_BYTES];

	assert_true(id_of(a, id_a));
	assert_true(id_of(b, id_b));
	return strcmp(id_a, id_b) == 0;
}

struct pair {
	const char *a, *b;
};

#define MSGS(turns)         "{\"messages\":[" turns "]}"
#define TURN(role, content) "{\"role\":\"" role "\",\"content\":" content "}"
#define PART(text)          "{\"type\":\"text\",\"text\":\"" text "\"}"
#define GEMINI(more, text)                                                     \
	"{" more                                                               \
	"\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"" text        \
	"\"}]}]}"
#define FIFTY "01234567890123456789012345678901234567890123456789"

static const struct pair same[] = {
	/* later turns */
	{ MSGS(TURN("user", "\"U\"")),
	    MSGS(TURN("user", "\"U\"") "," TURN("assistant", "\"A\"") "," TURN(
		"developer", "\"D\"") "," TURN("user", "\"V\"")) },
	{ "{\"system\":\"S\",\"messages\":[" TURN("user", "\"U\"") "]}",
	    "{\"messages\":[" TURN("user", "\"U\"") "," TURN(
		"user", "\"V\"") "],\"model\":\"x\",\"system\":\"S\"}" },
	{ "{\"instructions\":\"S\",\"input\":[" TURN("user", "\"U\"") "]}",
	    "{\"instructions\":\"S\",\"input\":[{\"type\":\"x\"}," TURN(
		"user", "\"U\"") "," TURN("assistant", "\"A\"") "]}" },
	{ GEMINI("", "U"),
	    "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"U\"}]},"
	    "{\"role\":\"model\",\"parts\":[{\"text\":\"A\"}]}]}" },
	/* ways to write the same */
	{ MSGS(TURN("user", "\"U\"")), MSGS(TURN("user", "[" PART("U") "]")) },
	{ MSGS(TURN("user", "\"caf\\u00e9\"")),
	    MSGS(TURN("user", "\"caf\xc3\xa9\"")) },
	{ "{\"system\":\"S\",\"messages\":[" TURN("user", "\"U\"") "]}",
	    "{\"system\":[" PART("S") "],\"messages\":[" TURN(
		"user", "\"U\"") "]}" },
	{ GEMINI("", "U"), "{\"contents\":[{\"parts\":[{\"text\":\"U\"}]}]}" },
	{ GEMINI("\"systemInstruction\":{\"parts\":[{\"text\":\"S\"}]},", "U"),
	    GEMINI("\"system_instruction\":\"S\",", "U") },
	{ "{\"input\":\"U\"}", "{\"input\":[" TURN("user", "\"U\"") "]}" },
	/* what clients move from turn to turn */
	{ MSGS(TURN("user", "[" PART("U") "]")),
	    MSGS(
		TURN("user", "[{\"type\":\"text\",\"text\":\"U\","
			     "\"cache_control\":{\"type\":\"ephemeral\"}}]")) },
	{ MSGS(TURN("user", "[{\"type\":\"image\",\"source\":{\"a\":[1]}}]")),
	    MSGS(TURN("user",
		"[ {\"type\":\"image\", \"cache_control\":{}, "
		"\"source\":{\"internal_chat_message_metadata_passthrough\":1,"
		"\"a\":[ 1 ]}} ]")) },
	/* empty texts, and instructions beyond their limit */
	{ MSGS(TURN("user", "[" PART("") "," PART("U") "]")),
	    MSGS(TURN("user", "[" PART("U") "]")) },
	{ "{\"system\":\"" FIFTY
	  "a\",\"messages\":[" TURN("user", "\"U\"") "]}",
	    "{\"system\":\"" FIFTY
	    "b\",\"messages\":[" TURN("user", "\"U\"") "]}" },
};

static const struct pair different[] = {
	{ MSGS(TURN("user", "\"U\"")), MSGS(TURN("user", "\"V\"")) },
	{ MSGS(TURN("user", "\"" FIFTY FIFTY FIFTY "a\"")),
	    MSGS(TURN("user", "\"" FIFTY FIFTY FIFTY "b\"")) },
	{ MSGS(TURN("user", "\"U\"")),
	    MSGS(TURN("system", "\"S\"") "," TURN("user", "\"U\"")) },
	{ MSGS(TURN("system", "\"S\"") "," TURN("user", "\"U\"")),
	    MSGS(TURN("system", "\"T\"") "," TURN("user", "\"U\"")) },
	{ MSGS(TURN("system", "\"S\"") "," TURN("user", "\"U\"")),
	    MSGS(TURN("developer", "\"S\"") "," TURN(
		"system", "\"S\"") "," TURN("user", "\"U\"")) },
	{ MSGS(TURN("user", "[" PART("a") "," PART("b") "]")),
	    MSGS(TURN("user", "[" PART("ab") "]")) },
	{ MSGS(TURN("user", "[{\"type\":\"image\",\"source\":1}]")),
	    MSGS(TURN("user", "[{\"type\":\"image\",\"source\":2}]")) },
	{ MSGS(TURN("user", "[{\"type\":\"image\",\"source\":1}]")),
	    MSGS(TURN("user", "[{\"type\":\"image\",\"source\":\"1\"}]")) },
	{ MSGS(TURN("user", "[{\"a\":{},\"b\":1}]")),
	    MSGS(TURN("user", "[{\"a\":{\"b\":1}}]")) },
	{ MSGS(TURN("user", "[{\"type\":\"x\",\"text\":\"U\",\"a\":1}]")),
	    MSGS(TURN("user", "[{\"type\":\"x\",\"text\":\"U\",\"a\":2}]")) },
	{ MSGS(TURN("user", "\"U\"")), "{\"input\":\"U\"}" },
	{ GEMINI("", "U"), GEMINI("\"cachedContent\":\"c\",", "U") },
	{ GEMINI("\"cachedContent\":\"c\",", "U"),
	    GEMINI("\"cached_content\":\"d\",", "U") },
	{ "{\"instructions\":\"S\",\"input\":\"U\"}",
	    "{\"instructions\":\"S\",\"input\":\"V\"}" },
};

static const char *const without[] = {
	"{}",
	"{\"messages\":[]}",
	"{\"messages\":null}",
	"{\"messages\":{\"role\":\"user\",\"content\":\"U\"}}",
	MSGS(TURN("system", "\"S\"")),
	MSGS(TURN("user", "\"\"")),
	MSGS(TURN("user", "null")),
	MSGS(TURN("user", "[]") "," TURN("user", "\"V\"")),
	MSGS("{\"role\":\"user\"}"),
	MSGS("1,\"user\",null,[]"),
	"{\"input\":\"\"}",
	"{\"input\":[{\"type\":\"message\",\"content\":\"U\"}]}",
	"{\"cachedContent\":\"c\"}",
	"{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"A\"}]}]}",
};

static void
conversations_keep_their_identity(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(same); i++) {
		if (!same_id(same[i].a, same[i].b))
			fail_msg("%s\n%s", same[i].a, same[i].b);
	}
}

static void
other_beginnings_are_other_conversations(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(different); i++) {
		if (same_id(different[i].a, different[i].b))
			fail_msg("%s\n%s", different[i].a, different[i].b);
	}
}

static void
no_user_turn_no_identity(void **state)
{
	char id[DERIVED_ID_BYTES];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(without); i++) {
		if (id_of(without[i], id))
			fail_msg("%s", without[i]);
	}
}

/* Bindings outlive upgrades, so the serialisation must not change. */
static void
identity_has_its_form_and_stays(void **state)
{
	char id[DERIVED_ID_BYTES];

	(void)state;
	assert_true(id_of("{\"input\":\"U\"}", id));
	assert_string_equal(id,
	    "ctx:v1:"
	    "57f1fb2d8965de67313fedca0045a665bd5f94508e669d8ed1eb8139d9b84af8");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conversations_keep_their_identity),
		cmocka_unit_test(other_beginnings_are_other_conversations),
		cmocka_unit_test(no_user_turn_no_identity),
		cmocka_unit_test(identity_has_its_form_and_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
