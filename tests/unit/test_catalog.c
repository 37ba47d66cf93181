/* SPDX-License-Identifier: MIT */
#include "master/registry/catalog.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "tests/unit/master_fixture.h"

static struct buf why = BUF_INIT(4096);

static int
parse(const char *text, struct catalog **out)
{
	*out = NULL;
	buf_clear(&why);
	return catalog_parse(text, strlen(text), out, &why);
}

static void
only_an_id_is_required(void **state UNUSED)
{
	const struct catalog_section *section;
	const struct catalog_model *m;
	struct catalog *catalog;

	assert_int_equal(
	    parse("{\"comment\": \"x\", \"a\": [{\"id\": \"bare\"},"
		  " {\"id\": \"full\", \"display_name\": \"Full\","
		  " \"owned_by\": \"me\", \"created\": 1700000000,"
		  " \"context\": 272000, \"max_output\": 128000,"
		  " \"thinking\": {\"levels\": [\"low\"]}, \"what\": []},"
		  " {\"id\": \"odd\", \"context\": \"many\","
		  " \"max_output\": -1, \"display_name\": 7},"
		  " {\"id\": \"bare\", \"context\": 5}], \"b\": []}",
		&catalog),
	    0);
	section = catalog_find(catalog, "a");
	assert_int_equal(section->n, 3);
	m = catalog_section_find(section, "full");
	assert_string_equal(m->display_name, "Full");
	assert_string_equal(m->owned_by, "me");
	assert_int_equal(m->created_s, 1700000000);
	assert_int_equal(m->max_input_tokens, 272000);
	assert_int_equal(m->max_output_tokens, 128000);
	m = catalog_section_find(section, "odd");
	assert_int_equal(m->max_input_tokens, 0);
	assert_int_equal(m->max_output_tokens, 0);
	assert_string_equal(m->display_name, "");
	assert_int_equal(
	    catalog_section_find(section, "bare")->max_input_tokens, 0);
	assert_int_equal(catalog_find(catalog, "b")->n, 0);
	assert_null(catalog_find(catalog, "comment"));
	assert_null(catalog_find(catalog, "c"));
	assert_null(catalog_section_find(section, "Full"));
	catalog_free(catalog);
}

static void
broken_catalogues_say_what_is_wrong(void **state UNUSED)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "empty" },
		{ "{\"a\": [", "not valid JSON" },
		{ "[]", "not a JSON object" },
		{ "{\"a\": [{}]}", "without \"id\" in \"a\"" },
		{ "{\"a\": [{\"id\": \"\"}]}", "without \"id\"" },
		{ "{\"a\": [{\"id\": 3}]}", "without \"id\"" },
		{ "{\"a\": [\"m\"]}", "without \"id\"" },
	};
	struct catalog *catalog;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(parse(rows[i].text, &catalog), -EINVAL);
		assert_null(catalog);
		assert_non_null(strstr(buf_string(&why), rows[i].why));
	}
}

static void
an_absent_file_is_told_from_a_broken_one(void **state UNUSED)
{
	struct buf text = BUF_INIT(CATALOG_BYTES_MAX);
	AUTO_FREE char *absent = NULL;
	AUTO_FREE char *broken = NULL;
	struct catalog *catalog;
	struct fixture f;

	fixture_make(&f);
	absent = fixture_path(&f, "none.json");
	broken = fixture_path(&f, "broken.json");
	fixture_write(&f, "broken.json", "{");
	assert_int_equal(catalog_load(absent, &text, &catalog, &why), -ENOENT);
	assert_int_equal(catalog_load(broken, &text, &catalog, &why), -EINVAL);
	assert_int_equal(
	    catalog_load(f.scratch.dir, &text, &catalog, &why), -EINVAL);
	buf_fini(&text);
	fixture_break(&f);
}

static void
the_last_section_of_a_name_counts(void **state UNUSED)
{
	struct catalog *catalog;

	assert_int_equal(parse("{\"a\": [{\"id\": \"x\"}],"
			       " \"a\": [{\"id\": \"y\"}]}",
			     &catalog),
	    0);
	assert_null(catalog_section_find(catalog_find(catalog, "a"), "x"));
	assert_non_null(catalog_section_find(catalog_find(catalog, "a"), "y"));
	catalog_free(catalog);
}

static int
tear_down(void **state UNUSED)
{
	buf_fini(&why);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_an_id_is_required),
		cmocka_unit_test(broken_catalogues_say_what_is_wrong),
		cmocka_unit_test(an_absent_file_is_told_from_a_broken_one),
		cmocka_unit_test(the_last_section_of_a_name_counts),
	};

	return cmocka_run_group_tests(tests, NULL, tear_down);
}
