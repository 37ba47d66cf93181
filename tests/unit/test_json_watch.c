/* SPDX-License-Identifier: MIT */
/* The watcher of JSON members: what it notes and hands out, in any pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "worker/json/json_watch.h"

enum { NONE, A, B, DEEP, ANY, LIST };

static const struct json_watch_row inner_rows[] = {
	{ "deep", DEEP, true, NULL },
	{ "skipped", NONE, false, NULL },
	{ "*", ANY, false, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row outer_rows[] = {
	{ "a", A, true, NULL },
	{ "b", B, true, inner_rows },
	{ "list", LIST, false, inner_rows },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row root = { "", NONE, false, outer_rows };

/* Facts as letters, then the texts handed out, each as "letter=text;". */
static const struct {
	const char *in;
	const char *want;
} rows[] = {
	{ "", "" },
	{ "{}", "" },
	{ "[]", "" },
	{ "nonsense", "" },
	{ "{\"a\":\"x\"}", "A a=x;" },
	{ " { \"a\" : \"x\" } ", "A a=x;" },
	{ "{\"a\":\"\"}", "" },
	{ "{\"a\":null}", "" },
	{ "{\"a\":false}", "" },
	{ "{\"a\":true}", "A" },
	{ "{\"a\":0}", "A a=0;" },
	{ "{\"a\":-1.5e+3,\"c\":7}", "A a=-1.5e+3;" },
	{ "{\"a\":[]}", "" },
	{ "{\"a\":[\"x\",\"y\"]}", "A a=x;a=y;" },
	{ "{\"a\":[1,22]}", "A a=1;a=22;" },
	{ "{\"a\":{}}", "A" },
	{ "{\"a\":{\"a\":\"x\"}}", "A" },
	{ "{\"c\":{\"a\":\"x\"}}", "" },
	{ "{\"c\":\"a\",\"a\":\"x\"}", "A a=x;" },
	{ "{\"c\":[\"a\",{\"a\":1}],\"a\":\"x\"}", "A a=x;" },
	{ "{\"c\":\"{\\\"a\\\":1}\",\"c\":\"a\"}", "" },
	{ "{\"ab\":1,\"\":2,\"A\":3}", "" },
	{ "{\"a\\u0061\":1}", "" },
	{ "{\"\\\"a\":1}", "" },
	{ "{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\":1}", "" },
	{ "{\"a\":\"say \\\"hi\\\" \\\\\"}", "A a=say \\\"hi\\\" \\\\;" },
	{ "{\"a\":\"0123456789012345678\\\"0123456789\"}",
	    "A a=0123456789012345678\\\"0123456789;" },
	{ "{\"b\":\"x\"}", "B b=x;" },
	{ "{\"b\":{\"deep\":\"x\"}}", "BD d=x;" },
	{ "{\"b\":{\"skipped\":1,\"other\":null}}", "B" },
	{ "{\"b\":{\"other\":1}}", "BY" },
	{ "{\"b\":{\"other\":{}}}", "BY" },
	{ "{\"b\":{\"other\":[[{\"z\":1}]]}}", "BY" },
	{ "{\"b\":{\"other\":[]}}", "B" },
	{ "{\"list\":[{\"skipped\":[1]},{\"deep\":5}],\"a\":1}",
	    "ADL d=5;a=1;" },
	{ "{\"list\":[[[{\"deep\":5}]]]}", "DL d=5;" },
	{ "[{\"a\":\"x\"},{\"b\":\"y\"}]", "AB a=x;b=y;" },
	{ "{\"c\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]],\"a\":1}", "A a=1;" },
	{ "{\"c\":{\"c\":{\"c\":{\"c\":{\"c\":{\"c\":{\"c\":{\"c\":"
	  "{\"c\":{\"c\":{\"c\":{\"a\":1}}}}}}}}}}},\"a\":2}",
	    "A a=2;" },
	{ "{\"a\":\"unfinished", "A a=unfinished;" },
	{ "{\"a\":12", "A a=12;" },
	{ "}]}{\"a\":1}", "A a=1;" },
};

struct record {
	char text[512];
	size_t len;
	uint64_t facts;
};

static void
on_text(void *ctx, uint8_t fact, const char *p, size_t len, bool first)
{
	static const char letters[] = " abdyl";
	struct record *r = ctx;

	assert_true(len > 0);
	if (!first)
		r->len--; /* the value goes on */
	else
		r->len +=
		    (size_t)sprintf(r->text + r->len, "%c=", letters[fact]);
	r->len += (size_t)sprintf(r->text + r->len, "%.*s;", (int)len, p);
}

static void
feed(struct json_watch *w, const char *in, size_t len, struct record *r)
{
	char *copy = malloc(len > 0 ? len : 1);
	size_t at = 0;
	bool unit;

	assert_non_null(copy);
	memcpy(copy, in, len);
	while (at < len)
		at +=
		    json_watch_feed(w, copy + at, len - at, on_text, r, &unit);
	r->facts = w->facts;
	free(copy);
}

static void
assert_record(size_t row, const struct record *r)
{
	static const char letters[] = " ABDYL";
	char text[600];
	size_t len = 0;
	size_t i;

	for (i = 1; letters[i] != '\0'; i++) {
		if (r->facts & JSON_WATCH_BIT(i))
			text[len++] = letters[i];
	}
	sprintf(
	    text + len, "%s%.*s", r->len > 0 ? " " : "", (int)r->len, r->text);
	if (strcmp(text, rows[row].want) != 0)
		print_error("%s\n", rows[row].in);
	assert_string_equal(text, rows[row].want);
}

static void
members_are_seen_in_any_pieces(void **state)
{
	struct json_watch w;
	struct record r;
	size_t len;
	size_t cut;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		len = strlen(rows[i].in);
		for (cut = 0; cut <= len; cut++) {
			r = (struct record){ 0 };
			json_watch_init(&w, &root);
			feed(&w, rows[i].in, cut, &r);
			feed(&w, rows[i].in + cut, len - cut, &r);
			assert_record(i, &r);
		}
		r = (struct record){ 0 };
		json_watch_init(&w, &root);
		for (cut = 0; cut < len; cut++)
			feed(&w, rows[i].in + cut, 1, &r);
		assert_record(i, &r);
	}
}

static void
units_end_one_by_one(void **state)
{
	static const char in[] = " [ {\"a\":1,\"c\":[{}]} ,{\"b\":{}}, {} ]x";
	static const size_t want[] = { 19, 29, 33 };
	struct record r = { 0 };
	struct json_watch w;
	size_t at = 0;
	size_t i;
	bool unit;

	(void)state;
	json_watch_init(&w, &root);
	for (i = 0; i < ARRAY_LEN(want); i++) {
		at += json_watch_feed(
		    &w, in + at, sizeof(in) - 1 - at, on_text, &r, &unit);
		assert_true(unit);
		assert_int_equal(at, want[i]);
		json_watch_forget(&w);
	}
	at += json_watch_feed(
	    &w, in + at, sizeof(in) - 1 - at, on_text, &r, &unit);
	assert_false(unit);
	assert_int_equal(at, sizeof(in) - 1);
}

static void
a_single_object_is_one_unit(void **state)
{
	static const char in[] = "{\"c\":[{}],\"a\":1}  ";
	struct record r = { 0 };
	struct json_watch w;
	bool unit;

	(void)state;
	json_watch_init(&w, &root);
	assert_int_equal(
	    json_watch_feed(&w, in, sizeof(in) - 1, on_text, &r, &unit), 16);
	assert_true(unit);
	assert_int_equal(w.depth, 0);
}

/* The zero that ends a row's key is no end for the name. */
static void
a_name_with_a_zero_byte_matches_nothing(void **state)
{
	static const char in[] = "{\"a\0\0\":1,\"\0\":1}";
	struct record r = { 0 };
	struct json_watch w;

	(void)state;
	json_watch_init(&w, &root);
	feed(&w, in, sizeof(in) - 1, &r);
	assert_int_equal(w.facts, 0);
}

static void
nothing_is_read_beyond_enough(void **state)
{
	static const char in[] = "{\"a\":1,\"b\":2}";
	struct record r = { 0 };
	struct json_watch w;

	(void)state;
	json_watch_init(&w, &root);
	w.enough = JSON_WATCH_BIT(A);
	feed(&w, in, sizeof(in) - 1, &r);
	assert_int_equal(w.facts, JSON_WATCH_BIT(A));

	json_watch_reset(&w);
	feed(&w, in, sizeof(in) - 1, &r);
	assert_int_equal(w.facts, JSON_WATCH_BIT(A) | JSON_WATCH_BIT(B));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_are_seen_in_any_pieces),
		cmocka_unit_test(units_end_one_by_one),
		cmocka_unit_test(a_single_object_is_one_unit),
		cmocka_unit_test(a_name_with_a_zero_byte_matches_nothing),
		cmocka_unit_test(nothing_is_read_beyond_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
