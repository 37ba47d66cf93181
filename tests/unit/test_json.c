/* SPDX-License-Identifier: MIT */
/*
 * The JSON reader: what is valid, what the pull interface shows, how strings
 * decode. Texts stand in allocations of their exact size, so that a sanitizer
 * sees every byte read outside them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/utf8.h"
#include "worker/json/json.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static enum json_outcome
outcome_of(const char *text, size_t len)
{
	struct json_reader r;
	enum json_outcome outcome;
	char *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, text, len);
	json_reader_init(&r, copy, len);
	(void)json_read(&r, NULL);
	outcome = json_finish(&r);
	free(copy);
	return outcome;
}

static void
assert_outcome(const char *text, enum json_outcome expected)
{
	if (outcome_of(text, strlen(text)) != expected)
		fail_msg("%s", text);
}

static void
accepts_what_the_rfc_accepts(void **state)
{
	static const char *const texts[] = { "{}", "[]", "null", "true",
		"false", "0", "-0", "1", "-1.5", "0.0", "1e1", "1E+2", "2e-30",
		"1.25e7", "\"\"", "\"a\"", " [ ] ", "\t\r\n{\n}\n", "[1,2]",
		"[ 1 , \"x\" , null ]", "{\"a\":1}",
		"{ \"a\" : { } , \"b\" : [ [ ] ] }", "[[],{},[{}]]",
		"{\"a\":1,\"a\":2}", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
		"\"\\u0000\\uABCD\\uabcd\"", "\"\\ud83d\\ude00\"",
		"\"\\ud83d\"", "\"\\ude00 lone\"", "\"\x7f\"",
		"\"\xc2\x80\xe0\xa0\x80\xed\x9f\xbf\xf4\x8f\xbf\xbf\"",
		"123456789012345678901234567890",
		"[                                                  1]" };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(texts); i++)
		assert_outcome(texts[i], JSON_OK);
}

static void
rejects_what_the_rfc_rejects(void **state)
{
	static const char *const texts[] = { "", " ", "{", "[", "}", "]", "\"",
		"{]", "[}", "[1,]", "[,1]", "[1 2]", "[1,,2]", "{\"a\"}",
		"{\"a\":}", "{\"a\":1,}", "{,}", "{1:2}", "{\"a\" 1}",
		"{\"a\":1 \"b\":2}", "{'a':1}", "{a:1}", "01", "-", "-01", "1.",
		".5", "1.e1", "1e", "1e+", "+1", "0x1", "1a", "NaN", "Infinity",
		"tru", "truth", "nul", "nulll", "True", "fals", "[] []", "{}x",
		"1 1", "\"a\" \"b\"", "\"a\nb\"", "\"\t\"", "\"\\x\"",
		"\"\\u12\"", "\"\\u12g4\"", "\"\\\"", "\"\\", "\"\\u", "\"\\u1",
		"\"\\u123", "/**/1", "[1]//", "\xef\xbb\xbf{}", "\"\x80\"",
		"\"\xc0\xaf\"", "\"\xc1\xbf\"", "\"\xe0\x9f\xbf\"",
		"\"\xed\xa0\x80\"", "\"\xf0\x8f\xbf\xbf\"",
		"\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xff\"",
		"\"\xe4\xbb\"", "\"\xe4\"", "\"\xf0\x9f\x98\"", "\"\xc3\x28\"",
		"\xc2\xa0[]", "[\x0b]", "{\"\xff\":1}", "{\"a\\\":1}" };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(texts); i++)
		assert_outcome(texts[i], JSON_INVALID);
	assert_int_equal(outcome_of("{}\0", 3), JSON_INVALID);
	assert_int_equal(outcome_of("\"a\0b\"", 5), JSON_INVALID);
}

static enum json_outcome
outcome_of_nested(unsigned depth, bool objects)
{
	char text[8 * (JSON_MAX_DEPTH + 2)], *p = text;
	unsigned i;

	for (i = 0; i < depth; i++)
		p = stpcpy(p, objects ? "{\"a\":" : "[");
	*p++ = '1';
	for (i = 0; i < depth; i++)
		*p++ = objects ? '}' : ']';
	return outcome_of(text, (size_t)(p - text));
}

static void
depth_is_bounded(void **state)
{
	(void)state;
	assert_int_equal(outcome_of_nested(JSON_MAX_DEPTH, false), JSON_OK);
	assert_int_equal(outcome_of_nested(JSON_MAX_DEPTH, true), JSON_OK);
	assert_int_equal(
	    outcome_of_nested(JSON_MAX_DEPTH + 1, false), JSON_TOO_DEEP);
	assert_int_equal(
	    outcome_of_nested(JSON_MAX_DEPTH + 1, true), JSON_TOO_DEEP);
}

/* Is this the content of a sound string, byte by byte? */
static bool
content_is_sound(const char *p, size_t len)
{
	size_t n, i = 0;

	while (i < len) {
		if (p[i] == '\\' && i + 1 < len) {
			if (p[i + 1] == '\0' ||
			    strchr("\"\\/bfnrt", p[i + 1]) == NULL)
				return false;
			i += 2;
			continue;
		}
		n = utf8_sequence((const unsigned char *)p + i, len - i);
		if (n == 0 || p[i] == '"' || p[i] == '\\' ||
		    (unsigned char)p[i] < 0x20)
			return false;
		i += n;
	}
	return true;
}

/* Put content behind lead plain bytes, in a string, and compare verdicts. */
static void
check_content(const char *content, size_t len, size_t lead, size_t trail)
{
	char text[512];
	size_t n = 0;
	bool sound = content_is_sound(content, len);

	text[n++] = '"';
	memset(text + n, 'x', lead);
	n += lead;
	memcpy(text + n, content, len);
	n += len;
	memset(text + n, 'y', trail);
	n += trail;
	text[n++] = '"';
	if ((outcome_of(text, n) == JSON_OK) != sound)
		fail_msg("lead %zu, trail %zu, bytes %02x %02x %02x %02x", lead,
		    trail, content[0] & 0xff, content[1] & 0xff,
		    content[2] & 0xff, content[3] & 0xff);
}

static void
every_pair_of_bytes_is_judged_rightly(void **state)
{
	static const size_t leads[] = { 0, 13, 61, 62, 63, 64 };
	char content[4] = { 0 };
	unsigned pair;
	size_t i;

	(void)state;
	for (pair = 0; pair < 0x10000; pair++) {
		content[0] = (char)(pair >> 8);
		content[1] = (char)pair;
		/* An escaped quote or backslash is another test's. */
		if (content[1] == '"' || content[1] == '\\')
			continue;
		for (i = 0; i < COUNT(leads); i++)
			check_content(content, 2, leads[i], (pair + i) % 70);
	}
}

static void
multibyte_characters_are_judged_rightly_anywhere(void **state)
{
	static const unsigned char bytes[] = { 'a', 0x7f, 0x80, 0x8f, 0x90,
		0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec,
		0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff };
	const unsigned n = COUNT(bytes);
	char content[4];
	unsigned i, k;

	(void)state;
	for (i = 0; i < n * n * n * n; i++) {
		for (k = 0; k < 4; k++)
			content[k] = (char)bytes[(const unsigned[]){ i % n,
			    i / n % n, i / n / n % n, i / n / n / n }[k]];
		check_content(content, 4, i % 67, i % 2 * 64);
		check_content(content, 3, 59 + i % 7, i % 5);
	}
}

static void
runs_of_backslashes_end_where_they_should(void **state)
{
	char text[300];
	size_t lead, run, n;

	(void)state;
	for (lead = 0; lead < 70; lead++) {
		for (run = 0; run < 140; run++) {
			n = 0;
			text[n++] = '"';
			memset(text + n, 'x', lead);
			n += lead;
			memset(text + n, '\\', run);
			n += run;
			text[n++] = '"';
			assert_int_equal(outcome_of(text, n),
			    run % 2 == 0 ? JSON_OK : JSON_INVALID);
			text[n++] = '"';
			assert_int_equal(outcome_of(text, n),
			    run % 2 == 1 ? JSON_OK : JSON_INVALID);
		}
	}
}

static void
escapes_are_checked_across_blocks(void **state)
{
	static const struct {
		const char *escape;
		bool sound;
	} rows[] = { { "\\n", true }, { "\\u12aF", true }, { "\\q", false },
		{ "\\u12aG", false }, { "\\u12", false }, { "\\U0041", false },
		{ "\\\\u12", true }, { "\\ud83d\\ude00", true },
		{ "\\\"\\\"\\\"", true }, { "\\\x80", false },
		{ "\\u\xc3\xa9"
		  "12",
		    false } };
	char text[400];
	size_t lead, i, trail;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		for (lead = 0; lead < 140; lead++) {
			for (trail = 0; trail < 80; trail += 79) {
				(void)sprintf(text, "\"%.*s%s%.*s\"", (int)lead,
				    "............................"
				    "......................................."
				    "......................................."
				    "........................................",
				    rows[i].escape, (int)trail,
				    "======================================="
				    "========================================");
				assert_outcome(text,
				    rows[i].sound ? JSON_OK : JSON_INVALID);
			}
		}
	}
}

static void
what_follows_a_string_does_not_matter_to_it(void **state)
{
	(void)state;
	/* All of it lies in the block of the first string. */
	assert_outcome(
	    "[\"abcdefghijklmnopqrs\\n\",\"\\\\\",\"\\u00e9\"]", JSON_OK);
	assert_outcome(
	    "{\"abcdefghijklmnopqrstu\":\n\t[1,\"\xc3\xa9\"]}", JSON_OK);
}

static void
a_text_cut_anywhere_is_invalid(void **state)
{
	static const char text[] =
	    "{\"model\":\"m\",\"n\":[1.5e3,true,null,false],\"text\":\"caf"
	    "\xc3\xa9 \\u00e9 \\\"quoted\\\" and enough of it to fill more "
	    "than a block of sixty-four bytes\",\"o\":{\"p\":{}}}";
	size_t len;

	(void)state;
	assert_int_equal(outcome_of(text, sizeof(text) - 1), JSON_OK);
	for (len = 0; len < sizeof(text) - 1; len++)
		assert_int_equal(outcome_of(text, len), JSON_INVALID);
}

static void
assert_value(const char *text, const struct json_value *value,
    enum json_type type, const char *expected)
{
	assert_int_equal(value->type, type);
	assert_int_equal(value->len, strlen(expected));
	assert_memory_equal(text + value->at, expected, value->len);
}

static void
members_and_elements_are_seen_as_they_pass(void **state)
{
	static const char text[] =
	    " { \"a\" : \"x\\n\" , \"b\\u0063\" : [ 1 , {\"d\":2} ] ,"
	    "\"e\":{ } }\n";
	struct json_value name, value;
	struct json_reader r;

	(void)state;
	json_reader_init(&r, text, sizeof(text) - 1);
	assert_int_equal(json_peek(&r), JSON_OBJECT);
	assert_true(json_enter(&r));
	assert_true(json_member(&r, &name));
	assert_value(text, &name, JSON_STRING, "\"a\"");
	assert_false(name.escaped);
	assert_true(json_read(&r, &value));
	assert_value(text, &value, JSON_STRING, "\"x\\n\"");
	assert_true(value.escaped);
	assert_true(json_member(&r, &name));
	assert_true(json_equals(text, &name, "bc", 2));
	assert_true(json_enter(&r));
	assert_true(json_element(&r));
	assert_true(json_read(&r, &value));
	assert_value(text, &value, JSON_NUMBER, "1");
	assert_true(json_element(&r));
	assert_true(json_read(&r, &value));
	assert_value(text, &value, JSON_OBJECT, "{\"d\":2}");
	assert_false(json_element(&r));
	assert_true(json_member(&r, &name));
	assert_true(json_read(&r, &value));
	assert_value(text, &value, JSON_OBJECT, "{ }");
	assert_false(json_member(&r, &name));
	assert_int_equal(json_finish(&r), JSON_OK);
}

/* Step into [[1,2,{"a":[3]}],4], take some, leave, go on. */
static void
the_rest_of_a_container_can_be_left(void **state)
{
	static const char text[] = "[[1,2,{\"a\":[3]}],4]";
	struct json_value value;
	struct json_reader r;
	int taken, i;

	(void)state;
	for (taken = 0; taken <= 3; taken++) {
		json_reader_init(&r, text, sizeof(text) - 1);
		assert_true(json_enter(&r) && json_element(&r));
		assert_true(json_enter(&r));
		for (i = 0; i < taken; i++)
			assert_true(json_element(&r) && json_read(&r, NULL));
		assert_true(json_leave(&r));
		assert_true(json_element(&r) && json_read(&r, &value));
		assert_value(text, &value, JSON_NUMBER, "4");
		assert_false(json_element(&r));
		assert_int_equal(json_finish(&r), JSON_OK);
	}
}

static void
errors_stay_and_tell_where(void **state)
{
	static const char text[] = "{\"a\":1,\"b\":tru,\"c\":2}";
	struct json_value name;
	struct json_reader r;

	(void)state;
	json_reader_init(&r, text, sizeof(text) - 1);
	assert_true(json_enter(&r));
	assert_true(json_member(&r, &name) && json_read(&r, NULL));
	assert_true(json_member(&r, &name));
	assert_false(json_read(&r, NULL));
	assert_int_equal(json_offset(&r), 11);
	assert_int_equal(json_peek(&r), JSON_NONE);
	assert_false(json_read(&r, NULL));
	assert_false(json_member(&r, &name));
	assert_false(json_leave(&r));
	assert_int_equal(json_finish(&r), JSON_INVALID);
	assert_int_equal(json_offset(&r), 11);
}

static void
entering_what_is_no_container_is_an_error(void **state)
{
	struct json_reader r;

	(void)state;
	json_reader_init(&r, "1", 1);
	assert_false(json_enter(&r));
	assert_int_equal(json_finish(&r), JSON_INVALID);
}

static void
errors_of_left_containers_are_found(void **state)
{
	static const char *const texts[] = { "[1,2", "[1,2}", "[1 2]", "[1,]" };
	struct json_reader r;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(texts); i++) {
		json_reader_init(&r, texts[i], strlen(texts[i]));
		assert_true(json_enter(&r) && json_element(&r));
		assert_true(json_read(&r, NULL));
		assert_false(json_leave(&r));
		assert_int_equal(json_finish(&r), JSON_INVALID);
	}
}

static const struct decoding {
	const char *text, *decoded;
	size_t len;
} decodings[] = {
	{ "\"\"", "", 0 },
	{ "\"plain\"", "plain", 5 },
	{ "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8 },
	{ "\"\\u0041\\u00e9\\u4ECA\"", "A\xc3\xa9\xe4\xbb\x8a", 6 },
	{ "\"\\u0000\"", "\0", 1 },
	{ "\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4 },
	{ "\"\\ud83d\"", "\xef\xbf\xbd", 3 },
	{ "\"\\ude00x\"", "\xef\xbf\xbdx", 4 },
	{ "\"\\ud83d\\n\"", "\xef\xbf\xbd\n", 4 },
	{ "\"\\ud83d\\u0041\"",
	    "\xef\xbf\xbd"
	    "A",
	    4 },
	{ "\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7 },
	{ "\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf", 4 },
	{ "\"caf\xc3\xa9\"", "caf\xc3\xa9", 5 },
};

static struct json_value
value_of(const char *text)
{
	struct json_value value = { 0 };
	struct json_reader r;

	json_reader_init(&r, text, strlen(text));
	assert_true(json_read(&r, &value));
	return value;
}

static void
strings_decode(void **state)
{
	const struct decoding *d;
	struct json_value value;
	char buf[64];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(decodings); i++) {
		d = &decodings[i];
		value = value_of(d->text);
		assert_int_equal(
		    json_text(d->text, &value, buf, sizeof(buf)), d->len);
		assert_memory_equal(buf, d->decoded, d->len);
		assert_true(json_equals(d->text, &value, d->decoded, d->len));
		assert_false(json_equals(
		    d->text, &value, "something else entirely", 23));
	}
}

static void
strings_decode_alike_in_pieces_of_any_size(void **state)
{
	static const char text[] = "\"ab\\u0041\\ud83d\\ude00\\n\xe4\xbb\x8a"
				   "\\u00e9\\ud800\\\\end\"";
	struct json_value value = value_of(text);
	struct json_decoder decoder;
	char whole[64], pieces[64];
	size_t len, cap, n, out;

	(void)state;
	len = json_text(text, &value, whole, sizeof(whole));
	for (cap = JSON_DECODE_SLACK + 1; cap < 32; cap++) {
		json_decoder_init(&decoder, text, &value);
		out = 0;
		while ((n = json_decode(&decoder, pieces + out, cap)) > 0) {
			assert_true(n <= cap);
			out += n;
		}
		assert_int_equal(out, len);
		assert_memory_equal(pieces, whole, len);
	}
}

static void
texts_are_cut_to_the_buffer(void **state)
{
	static const char *const texts[] = { "\"0123456789\"",
		"\"01\\u0032345678\\u0039\"", "[123456,8]" };
	struct json_value value;
	char buf[16];
	size_t i, cap;

	(void)state;
	for (i = 0; i < COUNT(texts); i++) {
		value = value_of(texts[i]);
		for (cap = 0; cap < 10; cap++) {
			memset(buf, '#', sizeof(buf));
			assert_int_equal(
			    json_text(texts[i], &value, buf, cap), cap + 1);
			assert_memory_equal(
			    buf, i < 2 ? "0123456789" : "[123456,8]", cap);
			assert_int_equal(buf[cap], '#');
		}
		assert_int_equal(json_text(texts[i], &value, buf, 10), 10);
	}
}

static void
other_values_read_as_they_are_written(void **state)
{
	static const struct {
		const char *text, *read;
	} rows[] = { { "12.50", "12.50" }, { "true", "true" }, { "null", "" },
		{ " {\"a\": 1} ", "{\"a\": 1}" }, { "[]", "[]" } };
	struct json_value value, none = { 0 };
	char buf[32];
	size_t i, len;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		value = value_of(rows[i].text);
		len = json_text(rows[i].text, &value, buf, sizeof(buf));
		assert_int_equal(len, strlen(rows[i].read));
		assert_memory_equal(buf, rows[i].read, len);
		assert_false(json_equals(rows[i].text, &value, buf, len));
	}
	assert_int_equal(json_text("", &none, buf, sizeof(buf)), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_what_the_rfc_accepts),
		cmocka_unit_test(rejects_what_the_rfc_rejects),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(every_pair_of_bytes_is_judged_rightly),
		cmocka_unit_test(
		    multibyte_characters_are_judged_rightly_anywhere),
		cmocka_unit_test(runs_of_backslashes_end_where_they_should),
		cmocka_unit_test(escapes_are_checked_across_blocks),
		cmocka_unit_test(what_follows_a_string_does_not_matter_to_it),
		cmocka_unit_test(a_text_cut_anywhere_is_invalid),
		cmocka_unit_test(members_and_elements_are_seen_as_they_pass),
		cmocka_unit_test(the_rest_of_a_container_can_be_left),
		cmocka_unit_test(errors_stay_and_tell_where),
		cmocka_unit_test(entering_what_is_no_container_is_an_error),
		cmocka_unit_test(errors_of_left_containers_are_found),
		cmocka_unit_test(strings_decode),
		cmocka_unit_test(strings_decode_alike_in_pieces_of_any_size),
		cmocka_unit_test(texts_are_cut_to_the_buffer),
		cmocka_unit_test(other_values_read_as_they_are_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
