/* SPDX-License-Identifier: MIT */
/* The message hash against its vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/session/msg_hash.h"

#define TEN(s) s s s s s s s s s s

static const struct vector {
	const char *system, *user, *assistant;
	const char *full, *short_;
} vectors[] = {
	{ "", "Hello world", "", "6f3af82650710693", "6f3af82650710693" },
	{ "", "Hello world", "Hi! How can I help?", "0964de51a03c0514",
	    "6f3af82650710693" },
	{ "You are helpful", "Hello", "", "db09d768eef0153d",
	    "db09d768eef0153d" },
	{ "You are helpful", "Hello", "Hi there!", "46d2b383fc6205a1",
	    "db09d768eef0153d" },
	{ "You are Claude Code", "Hello", "", "88162f2c043d7252",
	    "88162f2c043d7252" },
	{ "You are a helpful assistant.", "Hello Gemini", "Hi there!",
	    "03517aa800cda8f7", NULL },
	{ "You are Codex, based on GPT-5.", "hi", "", "049d86cbff4d8a84",
	    "049d86cbff4d8a84" },
	{ "You are Codex, based on GPT-5.", "hi", "Hello!", "bae4ad1b6626e0e5",
	    "049d86cbff4d8a84" },
	{ "", TEN("xxxxxxxxxx"), "", "d4bdf715107b5431", NULL },
	{ "", TEN("xxxxxxxxxx") TEN("xxxxx"), "", "d4bdf715107b5431", NULL },
	{ "", TEN("\xe7\x95\x8c\xe7\x95\x8c\xe7\x95\x8c\xe7\x95\x8c"), "",
	    "a79de9a33154257a", NULL },
	{ "only system", "", "", "13ae354dc982a88b", "13ae354dc982a88b" },
};

static void
set_text(struct msg_texts *texts, enum msg_role role, const char *s)
{
	msg_text_append(&texts->of[role], s, strlen(s));
}

static void
assert_hash(uint64_t hash, const char *expected)
{
	char hex[MSG_HASH_BYTES];

	msg_hash_format(hash, hex);
	assert_string_equal(hex, expected);
}

static void
hashes_equal_the_vectors(void **state)
{
	const struct vector *v;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct msg_texts texts = { 0 };

		v = &vectors[i];
		set_text(&texts, MSG_SYSTEM, v->system);
		set_text(&texts, MSG_USER, v->user);
		set_text(&texts, MSG_ASSISTANT, v->assistant);
		assert_hash(msg_hash(&texts), v->full);
		if (v->short_ != NULL)
			assert_hash(msg_hash_short(&texts), v->short_);
	}
}

static void
leading_zeros_are_printed(void **state)
{
	(void)state;
	assert_hash(0x1f, "000000000000001f");
}

static void
text_appended_in_pieces_is_cut_at_the_limit(void **state)
{
	struct msg_text text = { 0 };
	int i;

	(void)state;
	for (i = 0; i < 30; i++)
		msg_text_append(&text, "1234567", 7);
	assert_int_equal(text.len, MSG_TEXT_BYTES);
	assert_memory_equal(text.bytes + 98, "12", 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_equal_the_vectors),
		cmocka_unit_test(leading_zeros_are_printed),
		cmocka_unit_test(text_appended_in_pieces_is_cut_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
