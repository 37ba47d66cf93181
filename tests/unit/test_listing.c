/* SPDX-License-Identifier: MIT */
#include "master/registry/listing.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"

/* The ids of a list with a comma behind each, or what is wrong with it. */
static const char *
read_list(const char *text)
{
	static struct buf out = BUF_INIT(65536);
	struct catalog_section *section;

	buf_clear(&out);
	if (listing_parse(text, strlen(text), "l", &section, &out) < 0)
		return buf_string(&out);
	for (size_t i = 0; i < section->n; i++)
		buf_printf(&out, "%s,", section->v[i].id);
	catalog_section_free(section);
	return buf_string(&out);
}

static void
lists_of_all_providers_are_read(void **state UNUSED)
{
	static const struct {
		const char *text, *ids;
	} rows[] = {
		{ "{\"object\":\"list\",\"data\":[{\"id\":\"a\"},"
		  "{\"id\":\"v/b:free\"},{\"id\":\"a\"}]}",
		    "a,v/b:free," },
		{ "{\"models\":[{\"name\":\"models/g\","
		  "\"supportedGenerationMethods\":[\"countTokens\","
		  "\"generateContent\"]},{\"name\":\"models/embed\","
		  "\"supportedGenerationMethods\":[\"embedContent\"]},"
		  "{\"name\":\"models/open\"}]}",
		    "g,open," },
		{ "{\"data\":[{\"id\":\"\"},{\"id\":7},{},\"x\","
		  "{\"id\":\"a b\"},{\"id\":\"a\\nb\"},{\"id\":\"ok\"}]}",
		    "ok," },
		/* What a request could not name: a suffix, white space. */
		{ "{\"data\":[{\"id\":\"a(high)\"},{\"id\":\"(x)\"},"
		  "{\"id\":\"\\u00a0b\"},{\"id\":\"c\\u009b1m\"},"
		  "{\"id\":\"\\u00fc(x)y\"}]}",
		    "(x),\xc3\xbc(x)y," },
		{ "{\"data\":[]}", "lists no model" },
		{ "{\"data\":[{\"id\":\" \"}]}", "lists no model" },
		{ "{\"data\":{}}", "is no list of models" },
		{ "[]", "is no list of models" },
		{ "<html>", "is not valid JSON" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(read_list(rows[i].text), rows[i].ids);
}

static void
facts_are_taken_where_they_are_told(void **state UNUSED)
{
	static const char text[] =
	    "{\"data\":[{\"id\":\"a\",\"owned_by\":\"me\",\"created\":17,"
	    "\"context_length\":1000,\"max_completion_tokens\":10},"
	    "{\"name\":\"models/g\",\"displayName\":\"G\","
	    "\"inputTokenLimit\":2000,\"outputTokenLimit\":-1,"
	    "\"created\":1e300}]}";
	struct buf why = BUF_INIT(1024);
	struct catalog_section *section;

	assert_int_equal(
	    listing_parse(text, strlen(text), "l", &section, &why), 0);
	assert_string_equal(section->name, "l");
	assert_string_equal(section->v[0].owned_by, "me");
	assert_string_equal(section->v[0].display_name, "");
	assert_int_equal(section->v[0].created_s, 17);
	assert_int_equal(section->v[0].max_input_tokens, 1000);
	assert_int_equal(section->v[0].max_output_tokens, 10);
	assert_string_equal(section->v[1].display_name, "G");
	assert_int_equal(section->v[1].max_input_tokens, 2000);
	assert_int_equal(section->v[1].max_output_tokens, 0);
	assert_int_equal(section->v[1].created_s, 0);
	catalog_section_free(section);
	buf_fini(&why);
}

static void
very_long_lists_are_cut(void **state UNUSED)
{
	struct buf text = BUF_INIT(1 << 20), why = BUF_INIT(1024);
	struct catalog_section *section;

	buf_puts(&text, "{\"data\":[{\"id\":\"x\"}");
	for (int i = 0; i < 2000; i++)
		buf_printf(&text, ",{\"id\":\"m%d\"}", i);
	buf_puts(&text, "]}");
	assert_int_equal(
	    listing_parse(text.data, text.len, "l", &section, &why), 0);
	assert_int_equal(section->n, LISTING_MODELS_MAX);
	assert_string_equal(buf_string(&why), "only the first 1024 of them");
	catalog_section_free(section);
	buf_fini(&text);
	buf_fini(&why);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_all_providers_are_read),
		cmocka_unit_test(facts_are_taken_where_they_are_told),
		cmocka_unit_test(very_long_lists_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
