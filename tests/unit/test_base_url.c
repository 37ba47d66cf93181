/* SPDX-License-Identifier: MIT */
#include "master/credential/base_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"

static void
what_is_a_base_url_loses_its_trailing_slashes(void **state UNUSED)
{
	static const struct {
		const char *text, *clean; /* NULL: it is none */
	} rows[] = {
		{ "https://h", "https://h" },
		{ " https://h/ ", "https://h" },
		{ "http://h:1/v1//", "http://h:1/v1" },
		{ "http://[::1]:8/v1", "http://[::1]:8/v1" },
		{ "HTTPS://H/x", "HTTPS://H/x" },
		{ "", NULL },
		{ "h", NULL },
		{ "ftp://h", NULL },
		{ "https://", NULL },
		{ "https:///x", NULL },
		{ "https://:80", NULL },
		{ "https://u@h", NULL },
		{ "https://h/?q", NULL },
		{ "https://h#f", NULL },
		{ "https://h h", NULL },
		{ "https://h\nx", NULL },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *clean = base_url_clean(rows[i].text);

		if (rows[i].clean == NULL) {
			assert_null(clean);
			continue;
		}
		assert_non_null(clean);
		assert_string_equal(clean, rows[i].clean);
	}
}

static void
an_origin_has_its_port_and_no_path(void **state UNUSED)
{
	static const struct {
		const char *url, *origin;
	} rows[] = {
		{ "https://Host/v1", "https://host:443" },
		{ "HTTPS://host:443", "https://host:443" },
		{ "http://host", "http://host:80" },
		{ "http://host:8080/a/b", "http://host:8080" },
		{ "http://[::1]/v1", "http://[::1]:80" },
		{ "http://[::1]:9", "http://[::1]:9" },
		{ "", "" },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *origin = base_url_origin(rows[i].url);

		assert_string_equal(origin, rows[i].origin);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_a_base_url_loses_its_trailing_slashes),
		cmocka_unit_test(an_origin_has_its_port_and_no_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
