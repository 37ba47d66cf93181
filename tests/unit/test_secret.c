/* SPDX-License-Identifier: MIT */
#include "common/secret.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/str.h"

/* FIPS 180-2, and a million bytes of 'a'. */
static const struct {
	const char *text;
	size_t repeat;
	const char *hex;
} vectors[] = {
	{ "", 1,
	    "e3b0c44298fc1c149afbf4c8996fb924"
	    "27ae41e4649b934ca495991b7852b855" },
	{ "abc", 1,
	    "ba7816bf8f01cfea414140de5dae2223"
	    "b00361a396177a9cb410ff61f20015ad" },
	{ "aaaaaaaaaa", 100000,
	    "cdc76e5c9914fb9281a1c7e284d73e67"
	    "f1809a48a497200e046d39ccc7112cd0" },
};

static void
digests_are_those_of_the_standard(void **state UNUSED)
{
	char hex[2 * DIGEST_LEN + 1];
	struct digest_stream *s;
	struct digest d;
	size_t i, k;

	for (i = 0; i < ARRAY_LEN(vectors); i++) {
		s = digest_stream_new();
		for (k = 0; k < vectors[i].repeat; k++)
			digest_stream_add(
			    s, vectors[i].text, strlen(vectors[i].text));
		digest_stream_end(s, &d);
		str_hex(d.bytes, DIGEST_LEN, hex);
		assert_string_equal(hex, vectors[i].hex);
		if (vectors[i].repeat != 1)
			continue;
		digest_of(vectors[i].text, strlen(vectors[i].text), &d);
		str_hex(d.bytes, DIGEST_LEN, hex);
		assert_string_equal(hex, vectors[i].hex);
	}
}

static void
a_client_key_has_a_domain_of_its_own(void **state UNUSED)
{
	static const char in_full[] = "fairlead client key\0key";
	struct digest plain, key, again, full;

	digest_of("key", 3, &plain);
	digest_of_client_key("key", 3, &key);
	digest_of_client_key("key", 3, &again);
	digest_of(in_full, sizeof(in_full) - 1, &full);
	assert_false(digest_equal(&plain, &key));
	assert_true(digest_equal(&key, &again));
	assert_true(digest_equal(&key, &full));
	digest_of_client_key("keys", 4, &again);
	assert_false(digest_equal(&key, &again));
}

static void
base64_is_read_strictly(void **state UNUSED)
{
	static const struct {
		const char *coded;
		const char *plain; /* NULL: none */
	} rows[] = {
		{ "YTpi", "a:b" }, { "YTpiYw==", "a:bc" },
		{ "YTpiY2Q=", "a:bcd" }, { "OnNlY3JldA==", ":secret" },
		{ "", NULL }, { "YTp", NULL }, { "YTpi!", NULL },
		{ "!!!!", NULL },
		{ "YTpiYTpiYTpiYTpiYTpiYTpi", NULL }, /* no room */
	};
	char room[12];
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int rc = base64_decode(rows[i].coded, strlen(rows[i].coded),
		    room, sizeof(room), &len);

		assert_int_equal(rc, rows[i].plain == NULL ? -EINVAL : 0);
		if (rows[i].plain == NULL)
			continue;
		assert_int_equal(len, strlen(rows[i].plain));
		assert_memory_equal(room, rows[i].plain, len);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base64_is_read_strictly),
		cmocka_unit_test(digests_are_those_of_the_standard),
		cmocka_unit_test(a_client_key_has_a_domain_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
