/* SPDX-License-Identifier: MIT */
#include "common/address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/attr.h"

static const struct {
	const char *text;
	int rc;
	int family;
	bool loopback;
} addresses[] = {
	{ "127.0.0.1:8317", 0, AF_INET, true },
	{ "127.9.9.9:1", 0, AF_INET, true },
	{ "0.0.0.0:8317", 0, AF_INET, false },
	{ "*:8317", 0, AF_INET, false },
	{ "192.0.2.1:1", 0, AF_INET, false },
	{ "[::1]:8317", 0, AF_INET6, true },
	{ "[::]:8317", 0, AF_INET6, false },
	{ "unix:/run/fairlead/sock", 0, AF_UNIX, true },
	{ "unix:", -EINVAL, 0, false },
	{ "8317", -EINVAL, 0, false },
	{ ":8317", -EINVAL, 0, false },
	{ "127.0.0.1", -EINVAL, 0, false },
	{ "127.0.0.1:", -EINVAL, 0, false },
	{ "127.0.0.1:65536", -EINVAL, 0, false },
	{ "127.0.0.1:80x", -EINVAL, 0, false },
	{ "::1:8317", -EINVAL, 0, false },
	{ "[::1:8317", -EINVAL, 0, false },
	{ "", -EINVAL, 0, false },
};

static void
addresses_are_read_strictly(void **state UNUSED)
{
	struct address a;
	size_t i;

	for (i = 0; i < ARRAY_LEN(addresses); i++) {
		if (address_parse(addresses[i].text, &a) != addresses[i].rc)
			fail_msg("\"%s\"", addresses[i].text);
		if (addresses[i].rc < 0)
			continue;
		assert_int_equal(a.sa.ss_family, addresses[i].family);
		assert_int_equal(a.loopback, addresses[i].loopback);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_read_strictly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
