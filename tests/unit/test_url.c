/* SPDX-License-Identifier: MIT */
#include "worker/upstream/url.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/attr.h"

static void
parts_are_as_spelled(void **state UNUSED)
{
	static const struct {
		const char *text;
		bool tls;
		uint16_t port;
		const char *origin, *authority, *host, *path;
	} rows[] = {
		{ "https://a.test/v1?x=1", true, 443, "https://a.test",
		    "a.test", "a.test", "/v1?x=1" },
		{ "HTTP://A.test:8080", false, 8080, "HTTP://A.test:8080",
		    "A.test:8080", "A.test", "" },
		{ "http://a.test:/x@y", false, 80,
		    "http://a.test:", "a.test:", "a.test", "/x@y" },
		{ "http://127.0.0.1?q", false, 80, "http://127.0.0.1",
		    "127.0.0.1", "127.0.0.1", "?q" },
		{ "https://[::1]:8443/", true, 8443, "https://[::1]:8443",
		    "[::1]:8443", "::1", "/" },
		{ "https://[::1]", true, 443, "https://[::1]", "[::1]", "::1",
		    "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct url u;

		assert_int_equal(url_parse(&u, rows[i].text), 0);
		assert_int_equal(u.tls, rows[i].tls);
		assert_int_equal(u.port, rows[i].port);
		assert_true(span_equal(u.origin, span_of(rows[i].origin)));
		assert_true(
		    span_equal(u.authority, span_of(rows[i].authority)));
		assert_true(span_equal(u.host, span_of(rows[i].host)));
		assert_true(span_equal(u.path, span_of(rows[i].path)));
		assert_int_equal(url_origin_len(rows[i].text), u.origin.len);
	}
}

static void
what_is_no_url_is_refused(void **state UNUSED)
{
	static const char *const rows[] = {
		"",
		"a.test/",
		"ftp://a.test/",
		"http://",
		"http:///x",
		"http://:80/",
		"http://u@a.test/",
		"http://u:p@a.test/",
		"http://a.test:0/",
		"http://a.test:65536/",
		"http://a.test:8o/",
		"http://a.test:80:80/",
		"http://a b/",
		"http://a.test/x y",
		"http://a.test/\r\nx",
		"http://a.test/\x7f",
		"http://a.test/x#y",
		"http://a,b/",
		"http://[::1/",
		"http://[::g]/",
		"http://[::1]x/",
		"http://[]/",
		"http://a\\b/",
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct url u;

		if (url_parse(&u, rows[i]) != -EINVAL)
			fail_msg("%s was taken", rows[i]);
	}
}

static void
names_to_translate_are_foreign(void **state UNUSED)
{
	static const char *const rows[] = { "http://b\xc3\xbc"
					    "cher.test/",
		"http://%61.test/" };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct url u;

		assert_int_equal(url_parse(&u, rows[i]), URL_FOREIGN);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_are_as_spelled),
		cmocka_unit_test(what_is_no_url_is_refused),
		cmocka_unit_test(names_to_translate_are_foreign),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
