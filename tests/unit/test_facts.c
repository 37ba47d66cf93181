/* SPDX-License-Identifier: MIT */
/*
 * The facts of a request body: outcomes, spans for edits, session values, and
 * the texts of the message hash in every format.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/session/facts.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct facts facts;

static void
must_read(const char *body)
{
	if (facts_read(&facts, body, strlen(body)) != FACTS_OK)
		fail_msg("%s", body);
}

static void
outcomes_tell_what_is_wrong(void **state)
{
	static const struct {
		const char *body;
		enum facts_outcome outcome;
	} rows[] = {
		{ "{}", FACTS_OK },
		{ " {\"model\":\"m\"} ", FACTS_OK },
		{ "", FACTS_NOT_JSON },
		{ "{", FACTS_NOT_JSON },
		{ "{\"model\":\"m\"}x", FACTS_NOT_JSON },
		{ "[1", FACTS_NOT_JSON },
		{ "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}",
		    FACTS_NOT_JSON },
		{ "{\"messages\":[{\"role\":\"tool\",\"content\":01}]}",
		    FACTS_NOT_JSON },
		{ "{\"metadata\":{\"user_id\":}}", FACTS_NOT_JSON },
		{ "[]", FACTS_NOT_OBJECT },
		{ "\"model\"", FACTS_NOT_OBJECT },
		{ "null", FACTS_NOT_OBJECT },
		{ "{\"model\":\"a\",\"model\":\"a\"}", FACTS_DUPLICATE },
		{ "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}", FACTS_DUPLICATE },
		{ "{\"model\":null,\"x\":1,\"model\":\"b\"}", FACTS_DUPLICATE },
		{ "{\"stream\":true,\"stream\":false}", FACTS_DUPLICATE },
		{ "{\"stream\":true,\"stream\":tru}", FACTS_NOT_JSON },
		{ "{\"Model\":\"a\",\"model\":\"b\"}", FACTS_OK },
		{ "{\"tools\":{\"model\":1,\"model\":2}}", FACTS_OK },
		{ "{\"store\":true,\"store\":true}", FACTS_OK },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		if (facts_read(&facts, rows[i].body, strlen(rows[i].body)) !=
		    rows[i].outcome)
			fail_msg("%s", rows[i].body);
	}
}

static void
errors_tell_where_and_what(void **state)
{
	static const char broken[] = "{\"model\":\"m\",\"a\":[1,}";
	static const char twice[] = "{\"stream\":true,\"stream\":true}";

	(void)state;
	assert_int_equal(
	    facts_read(&facts, broken, sizeof(broken) - 1), FACTS_NOT_JSON);
	assert_int_equal(facts.error_at, strchr(broken, '}') - broken);
	assert_int_equal(
	    facts_read(&facts, twice, sizeof(twice) - 1), FACTS_DUPLICATE);
	assert_string_equal(facts.duplicate, "stream");
}

static void
nesting_is_bounded_wherever_it_is(void **state)
{
	static const char *const heads[] = { "{\"tools\":", "{\"messages\":",
		"{\"metadata\":", "{\"system\":" };
	char body[64 + 3 * JSON_MAX_DEPTH];
	size_t i, n, depth;

	(void)state;
	for (i = 0; i < COUNT(heads); i++) {
		for (depth = JSON_MAX_DEPTH - 1; depth <= JSON_MAX_DEPTH;
		     depth++) {
			n = (size_t)sprintf(body, "%s", heads[i]);
			memset(body + n, '[', depth);
			memset(body + n + depth, ']', depth);
			body[n + 2 * depth] = '}';
			assert_int_equal(
			    facts_read(&facts, body, n + 2 * depth + 1),
			    depth < JSON_MAX_DEPTH ? FACTS_OK : FACTS_TOO_DEEP);
		}
	}
}

static void
model_is_decoded_or_empty(void **state)
{
	static const struct {
		const char *body, *model;
	} rows[] = {
		{ "{\"model\":\"gpt-5\"}", "gpt-5" },
		{ "{\"model\":\"a\\/b\\u0028high)\"}", "a/b(high)" },
		{ "{\"mod\\u0065l\":\"x\"}", "x" },
		{ "{\"x\":{\"model\":\"inner\"}}", "" },
		{ "{\"model\":\"\"}", "" },
		{ "{\"model\":null}", "" },
		{ "{\"model\":5}", "" },
		{ "{\"model\":[\"m\"]}", "" },
		{ "{\"model\":\"a\\u0000b\"}", "" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		must_read(rows[i].body);
		assert_string_equal(facts.model, rows[i].model);
		assert_int_equal(facts.model_len, strlen(rows[i].model));
	}
}

static void
model_longer_than_any_is_empty(void **state)
{
	char body[FACTS_MODEL_BYTES + 64], name[FACTS_MODEL_BYTES + 2];
	size_t len;

	(void)state;
	for (len = FACTS_MODEL_BYTES; len <= FACTS_MODEL_BYTES + 1; len++) {
		memset(name, 'm', len);
		name[len] = '\0';
		(void)sprintf(body, "{\"model\":\"%s\"}", name);
		must_read(body);
		assert_int_equal(
		    facts.model_len, len <= FACTS_MODEL_BYTES ? len : 0);
	}
}

static void
stream_is_one_of_four(void **state)
{
	static const struct {
		const char *body;
		enum facts_stream stream;
	} rows[] = {
		{ "{}", FACTS_STREAM_ABSENT },
		{ "{\"stream\":true}", FACTS_STREAM_TRUE },
		{ "{\"stream\": false }", FACTS_STREAM_FALSE },
		{ "{\"stream\":null}", FACTS_STREAM_OTHER },
		{ "{\"stream\":\"true\"}", FACTS_STREAM_OTHER },
		{ "{\"stream\":1}", FACTS_STREAM_OTHER },
		{ "{\"x\":[{\"stream\":true}]}", FACTS_STREAM_ABSENT },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		must_read(rows[i].body);
		assert_int_equal(facts.stream, rows[i].stream);
	}
}

static void
spans_cover_what_an_edit_replaces(void **state)
{
	static const char body[] = " {\"model\" : \"a\\/b\" ,\"stream\":true,"
				   "\"store\" :false}";
	const struct json_value *v = facts.field;

	(void)state;
	must_read(body);
	assert_int_equal(facts.inside, 2);
	assert_false(facts.empty);
	assert_int_equal(v[FACTS_MODEL].len, 6);
	assert_memory_equal(body + v[FACTS_MODEL].at, "\"a\\/b\"", 6);
	assert_int_equal(v[FACTS_STREAM].len, 4);
	assert_memory_equal(body + v[FACTS_STREAM].at, "true", 4);
	assert_int_equal(v[FACTS_STORE].len, 5);
	assert_memory_equal(body + v[FACTS_STORE].at, "false", 5);
	must_read("{ \n}");
	assert_int_equal(facts.inside, 1);
	assert_true(facts.empty);
}

static void
session_values_are_found(void **state)
{
	static const struct {
		const char *body;
		enum facts_field field;
		const char *text;
	} rows[] = {
		{ "{\"session_id\":\"s\"}", FACTS_SESSION_ID, "s" },
		{ "{\"session_id\":17}", FACTS_SESSION_ID, "17" },
		{ "{\"session_id\":null}", FACTS_SESSION_ID, "" },
		{ "{\"session_id\":{\"a\":1}}", FACTS_SESSION_ID, "{\"a\":1}" },
		{ "{\"sessionId\":\"s\"}", FACTS_SESSION_ID_CAMEL, "s" },
		{ "{\"sessionid\":\"s\"}", FACTS_SESSION_ID_CAMEL, "" },
		{ "{\"request\":{\"x\":1,\"session_id\":\"s\"}}",
		    FACTS_REQUEST_SESSION_ID, "s" },
		{ "{\"request\":\"session_id\"}", FACTS_REQUEST_SESSION_ID,
		    "" },
		{ "{\"metadata\":{\"user_id\":\"u\",\"user_id\":\"v\"}}",
		    FACTS_USER_ID, "u" },
		{ "{\"metadata\":\"u\"}", FACTS_USER_ID, "" },
		{ "{\"metadata\":[\"user_id\"]}", FACTS_USER_ID, "" },
		{ "{\"metadata\":{\"inner\":{\"user_id\":\"u\"}}}",
		    FACTS_USER_ID, "" },
		{ "{\"prompt_cache_key\":\"k\"}", FACTS_PROMPT_CACHE_KEY, "k" },
		{ "{\"promptCacheKey\":\"k\"}", FACTS_PROMPT_CACHE_KEY_CAMEL,
		    "k" },
		{ "{\"conversation\":\"c\"}", FACTS_CONVERSATION, "c" },
		{ "{\"conversation\":{\"id\":\"c\"}}", FACTS_CONVERSATION,
		    "c" },
		{ "{\"conversation\":{}}", FACTS_CONVERSATION, "" },
		{ "{\"conversation\":7}", FACTS_CONVERSATION, "" },
		{ "{\"conversation_id\":\"c\"}", FACTS_CONVERSATION_ID, "c" },
		{ "{\"previous_response_id\":\"r\"}",
		    FACTS_PREVIOUS_RESPONSE_ID, "r" },
		{ "{\"cachedContent\":\"cc\"}", FACTS_CACHED_CONTENT, "cc" },
		{ "{\"cached_content\":\"cc\"}", FACTS_CACHED_CONTENT_SNAKE,
		    "cc" },
		{ "{\"input\":\"i\"}", FACTS_INPUT, "i" },
		{ "{\"input\":[{\"role\":\"user\"}]}", FACTS_INPUT,
		    "[{\"role\":\"user\"}]" },
		{ "{\"messages\": [ ] }", FACTS_MESSAGES, "[ ]" },
		{ "{\"contents\":[{}]}", FACTS_CONTENTS, "[{}]" },
		{ "{\"system\":[{\"text\":\"t\"},1]}", FACTS_SYSTEM,
		    "[{\"text\":\"t\"},1]" },
		{ "{\"systemInstruction\":{\"parts\":[{}]}}",
		    FACTS_SYSTEM_INSTRUCTION, "{\"parts\":[{}]}" },
		{ "{\"system_instruction\":{}}", FACTS_SYSTEM_INSTRUCTION_SNAKE,
		    "{}" },
		{ "{\"instructions\":\"i\"}", FACTS_INSTRUCTIONS, "i" },
	};
	char buf[64];
	size_t i, len;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		must_read(rows[i].body);
		len = facts_text(&facts, rows[i].field, buf, sizeof(buf));
		if (len != strlen(rows[i].text) ||
		    memcmp(buf, rows[i].text, len) != 0)
			fail_msg("%s", rows[i].body);
	}
}

#define T100                                                                   \
	"0123456789012345678901234567890123456789012345678901234"              \
	"567890123456789012345678901234567890123456789"

static const struct texts_row {
	const char *body;
	const char *system, *user, *assistant; /* all NULL: no hash */
} texts_rows[] = {
	/* messages */
	{ "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":"
	  "\"user\",\"content\":\"U\"},{\"role\":\"assistant\",\"content\":"
	  "\"A\"},{\"role\":\"user\",\"content\":\"U2\"}]}",
	    "S", "U", "A" },
	{ "{\"messages\":[{\"content\":\"U\",\"role\":\"user\"}]}", "", "U",
	    "" },
	{ "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
	  "\"text\":\"a\"},{\"type\":\"image\",\"source\":{}},{\"text\":\"b\","
	  "\"type\":\"text\"},{\"type\":\"text\",\"text\":\"\"},{\"text\":"
	  "\"untyped\"},{\"type\":\"text\",\"text\":3}]}]}",
	    "", "a b 3", "" },
	{ "{\"messages\":[{\"role\":\"user\",\"content\":[]},{\"role\":"
	  "\"user\",\"content\":\"\"},{\"role\":\"user\",\"content\":null},"
	  "{\"role\":\"user\",\"content\":\"third\"}]}",
	    "", "third", "" },
	{ "{\"messages\":[{\"role\":\"developer\",\"content\":\"D\"},"
	  "{\"role\":\"tool\",\"content\":\"T\"},\"x\",[1],{\"content\":\"?\"}"
	  ",{\"role\":\"user\",\"content\":\"U\"}]}",
	    "", "U", "" },
	{ "{\"messages\":[{\"role\":\"user\",\"content\":\"caf\\u00e9\\n\"}]}",
	    "", "caf\xc3\xa9\n", "" },
	{ "{\"messages\":[{\"role\":\"user\",\"content\":\"" T100 "beyond\"}]}",
	    "", T100, "" },
	{ "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
	  "\"text\":\"" T100 "\"},{\"type\":\"text\",\"text\":\"x\"}]}]}",
	    "", T100, "" },
	{ "{\"messages\":[{\"role\":\"assistant\",\"content\":\"A\"}]}", NULL,
	    NULL, NULL },
	{ "{\"messages\":\"U\"}", NULL, NULL, NULL },
	/* top-level system, wherever it stands */
	{ "{\"system\":\"S\",\"messages\":[{\"role\":\"user\",\"content\":"
	  "\"U\"}]}",
	    "S", "U", "" },
	{ "{\"messages\":[{\"role\":\"user\",\"content\":\"U\"}],\"system\":"
	  "[{\"type\":\"x\"},{\"text\":\"\"},{\"type\":\"y\",\"text\":\"S\"},"
	  "{\"text\":\"S2\"}]}",
	    "S", "U", "" },
	{ "{\"system\":\"S\",\"messages\":[{\"role\":\"system\",\"content\":"
	  "\"M\"}]}",
	    "M", "", "" },
	{ "{\"system\":\"S\"}", "S", "", "" },
	{ "{\"system\":7}", NULL, NULL, NULL },
	/* Gemini */
	{ "{\"contents\":[{\"parts\":[{\"text\":\"no role\"}]},{\"role\":"
	  "\"user\",\"parts\":[{\"inlineData\":{}},{\"text\":\"\"},{\"text\":"
	  "\"U\"},{\"text\":\"U2\"}]},{\"role\":\"model\",\"parts\":[{"
	  "\"text\":\"A\"}]}],\"systemInstruction\":{\"role\":\"x\",\"parts\":"
	  "[{},{\"text\":\"S\"},{\"text\":\"S2\"}]}}",
	    "S", "U", "A" },
	{ "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"U\"}]}],"
	  "\"system_instruction\":{\"parts\":[{\"text\":\"snake\"}]}}",
	    "", "U", "" },
	{ "{\"contents\":[{\"role\":\"user\",\"parts\":\"U\"},{\"role\":"
	  "\"user\",\"content\":\"U\"}]}",
	    NULL, NULL, NULL },
	{ "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"G\"}]}],"
	  "\"messages\":[{\"role\":\"user\",\"content\":\"M\"}]}",
	    "", "M", "" },
	{ "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"G\"}]}],"
	  "\"system\":\"S\"}",
	    "S", "", "" },
	{ "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"G\"}]},"
	  "{\"role\":\"model\",\"parts\":[{\"text\":\"GA\"}]}],"
	  "\"messages\":[{\"role\":\"assistant\",\"content\":\"A\"}]}",
	    "", "G", "A" },
	/* Responses */
	{ "{\"input\":[{\"type\":\"reasoning\",\"content\":\"R\",\"role\":"
	  "\"user\"},{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
	  "\"type\":\"input_text\",\"text\":\"U\"},{\"type\":\"input_image\"},"
	  "{\"type\":\"text\",\"text\":\"V\"}]},{\"type\":\"message\","
	  "\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
	  "\"text\":\"A\"}]}],\"instructions\":\"S\"}",
	    "S", "U V", "A" },
	{ "{\"input\":[{\"role\":\"developer\",\"content\":\"D\"},{\"content\":"
	  "\"U\",\"type\":\"\",\"role\":\"user\"},{\"content\":\"?\"},"
	  "{\"role\":\"user\",\"content\":\"U2\",\"type\":\"other\"}]}",
	    "D", "U", "" },
	{ "{\"input\":[{\"content\":\"late\",\"role\":\"user\",\"type\":"
	  "\"function_call_output\"},{\"role\":\"user\",\"content\":\"U\"},"
	  "{\"role\":\"assistant\",\"content\":\"A\"},{\"role\":\"system\","
	  "\"content\":\"behind the stop\"}]}",
	    "", "U", "A" },
	{ "{\"instructions\":\"S\",\"input\":[]}", "S", "", "" },
	{ "{\"instructions\":\"S\"}", "S", "", "" },
	{ "{\"instructions\":\"S\",\"input\":\"hi\"}", NULL, NULL, NULL },
	{ "{\"input\":\"hi\"}", NULL, NULL, NULL },
	{ "{\"input\":[{\"role\":\"user\",\"content\":\"I\"}],\"contents\":[{"
	  "\"role\":\"user\",\"parts\":[{\"text\":\"G\"}]}]}",
	    "", "G", "" },
	{ "{}", NULL, NULL, NULL },
};

static bool
text_is(const struct msg_text *text, const char *expected)
{
	return text->len == strlen(expected) &&
	       memcmp(text->bytes, expected, text->len) == 0;
}

static void
texts_of_the_message_hash_are_found(void **state)
{
	const struct texts_row *row;
	struct msg_texts t;
	bool found;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(texts_rows); i++) {
		row = &texts_rows[i];
		must_read(row->body);
		found = facts_message_texts(&facts, &t);
		if (found != (row->user != NULL))
			fail_msg("%s", row->body);
		if (found &&
		    (!text_is(&t.of[MSG_SYSTEM], row->system) ||
			!text_is(&t.of[MSG_USER], row->user) ||
			!text_is(&t.of[MSG_ASSISTANT], row->assistant)))
			fail_msg("%s", row->body);
	}
}

static void
broken_turns_behind_the_texts_are_found(void **state)
{
	static const char body[] =
	    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":"
	    "\"user\",\"content\":\"U\"},{\"role\":\"assistant\",\"content\":"
	    "\"A\"},{\"role\":\"user\",\"content\":\"\\q\"}]}";

	(void)state;
	assert_int_equal(
	    facts_read(&facts, body, sizeof(body) - 1), FACTS_NOT_JSON);
}

/* The text that identifies the last compaction, quotes included. */
static void
assert_compaction(const char *body, const char *wanted)
{
	must_read(body);
	if (wanted == NULL) {
		assert_int_equal(facts.compaction.type, JSON_NONE);
		return;
	}
	assert_int_equal(facts.compaction.len, strlen(wanted));
	assert_memory_equal(body + facts.compaction.at, wanted, strlen(wanted));
}

#define USER  "{\"role\":\"user\",\"content\":\"U\"}"
#define REPLY "{\"role\":\"assistant\",\"content\":\"A\"}"

static void
compaction_is_found_wherever_it_stands(void **state)
{
	(void)state;
	assert_compaction("{\"input\":[" USER "]}", NULL);
	assert_compaction("{\"input\":[" USER ",{\"type\":\"compaction\","
			  "\"id\":\"c1\",\"encrypted_content\":\"E\"}]}",
	    "\"E\"");
	assert_compaction("{\"input\":[{\"encrypted_content\":\"E\",\"type\":"
			  "\"compaction_summary\"}," USER "]}",
	    "\"E\"");
	/* Behind the texts that the message hash needs, too. */
	assert_compaction("{\"input\":[" USER "," REPLY "," USER
			  ",{\"type\":\"compaction\",\"id\":\"c1\"}]}",
	    "\"c1\"");
	assert_compaction("{\"input\":[{\"type\":\"compaction\","
			  "\"encrypted_content\":\"E\"},{\"type\":"
			  "\"compaction\",\"encrypted_content\":\"F\"}]}",
	    "\"F\"");
	assert_compaction(
	    "{\"input\":[{\"type\":\"compaction_trigger\"}]}", NULL);
	assert_compaction("{\"messages\":[{\"type\":\"compaction\","
			  "\"encrypted_content\":\"E\"}]}",
	    NULL);
}

static void
sealed_reasoning_is_told_from_open(void **state)
{
	(void)state;
	must_read("{\"input\":[" USER "," REPLY ",{\"type\":\"reasoning\","
		  "\"id\":\"rs\",\"encrypted_content\":\"E\"}]}");
	assert_true(facts.sealed_reasoning);
	must_read("{\"input\":[{\"type\":\"reasoning\",\"id\":\"rs\","
		  "\"encrypted_content\":null}]}");
	assert_false(facts.sealed_reasoning);
	must_read("{\"input\":[{\"type\":\"compaction\","
		  "\"encrypted_content\":\"E\"}]}");
	assert_false(facts.sealed_reasoning);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(outcomes_tell_what_is_wrong),
		cmocka_unit_test(errors_tell_where_and_what),
		cmocka_unit_test(nesting_is_bounded_wherever_it_is),
		cmocka_unit_test(model_is_decoded_or_empty),
		cmocka_unit_test(model_longer_than_any_is_empty),
		cmocka_unit_test(stream_is_one_of_four),
		cmocka_unit_test(spans_cover_what_an_edit_replaces),
		cmocka_unit_test(session_values_are_found),
		cmocka_unit_test(texts_of_the_message_hash_are_found),
		cmocka_unit_test(broken_turns_behind_the_texts_are_found),
		cmocka_unit_test(compaction_is_found_wherever_it_stands),
		cmocka_unit_test(sealed_reasoning_is_told_from_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
