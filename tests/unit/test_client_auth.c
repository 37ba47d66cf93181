/* SPDX-License-Identifier: MIT */
#include "worker/client/client_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"

#define ONE "sk-one"
#define TWO "key with spaces & 100%"

static struct digest keys[2];

static int
set_up(void **state UNUSED)
{
	digest_of_client_key(ONE, strlen(ONE), &keys[0]);
	digest_of_client_key(TWO, strlen(TWO), &keys[1]);
	return 0;
}

static enum client_auth
authenticate(const struct config *config, const char *target,
    const char *headers, struct digest *scope)
{
	struct http_head head;
	char text[4096];
	int n = snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n", target, headers);

	http_head_init(&head);
	assert_int_equal(
	    http_head_parse(&head, text, (size_t)n), HTTP_HEAD_DONE);
	memset(scope, 0, sizeof(*scope));
	return client_authenticate(config, &head, scope);
}

static void
a_key_is_found_in_every_place(void **state UNUSED)
{
	static const struct {
		const char *target, *headers;
		enum client_auth result;
		int key; /* that is known */
	} rows[] = {
		{ "/", "", CLIENT_NO_KEY, 0 },
		{ "/?a=1", "X-Other: sk-one\r\n", CLIENT_NO_KEY, 0 },
		{ "/", "Authorization: Bearer sk-one\r\n", CLIENT_KNOWN, 0 },
		{ "/", "authorization: bEARER \t sk-one \r\n", CLIENT_KNOWN,
		    0 },
		{ "/", "Authorization: sk-one\r\n", CLIENT_KNOWN, 0 },
		{ "/", "Authorization: " TWO "\r\n", CLIENT_KNOWN, 1 },
		{ "/", "Authorization: Bearersk-one\r\n", CLIENT_WRONG_KEY, 0 },
		{ "/", "Authorization: Basic sk-one\r\n", CLIENT_WRONG_KEY, 0 },
		{ "/", "Authorization: Bearer sk-on\r\n", CLIENT_WRONG_KEY, 0 },
		{ "/", "Authorization: Bearer sk-one2\r\n", CLIENT_WRONG_KEY,
		    0 },
		{ "/", "Authorization: Bearer SK-ONE\r\n", CLIENT_WRONG_KEY,
		    0 },
		{ "/", "Authorization:\r\n", CLIENT_NO_KEY, 0 },
		{ "/", "Authorization: Bearer\r\n", CLIENT_NO_KEY, 0 },
		{ "/", "Authorization: Bearer \r\nX-Api-Key: sk-one\r\n",
		    CLIENT_KNOWN, 0 },
		{ "/", "x-goog-api-key: sk-one\r\n", CLIENT_KNOWN, 0 },
		{ "/", "X-Api-Key: " TWO "\r\n", CLIENT_KNOWN, 1 },
		{ "/", "X-Api-Key: no\r\n", CLIENT_WRONG_KEY, 0 },
		{ "/?key=sk-one", "", CLIENT_KNOWN, 0 },
		{ "/?a=b&key=key+with%20spaces+%26+100%25", "", CLIENT_KNOWN,
		    1 },
		{ "/?auth_token=sk-one", "", CLIENT_KNOWN, 0 },
		{ "/?auth_token=no", "", CLIENT_WRONG_KEY, 0 },
		{ "/?key=%zz", "", CLIENT_NO_KEY, 0 },
		{ "/?key=", "", CLIENT_NO_KEY, 0 },
		/* The first known one wins, whatever else is offered. */
		{ "/?key=sk-one", "Authorization: Bearer no\r\n", CLIENT_KNOWN,
		    0 },
		{ "/?key=sk-one", "Authorization: " TWO "\r\n", CLIENT_KNOWN,
		    1 },
	};
	const struct config config = { .client_keys = { keys, 2 } };
	struct digest scope;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		print_message("%s %s\n", rows[i].target, rows[i].headers);
		assert_int_equal(authenticate(&config, rows[i].target,
				     rows[i].headers, &scope),
		    rows[i].result);
		if (rows[i].result == CLIENT_KNOWN)
			assert_true(digest_equal(&scope, &keys[rows[i].key]));
	}
}

static void
a_key_too_long_for_a_query_is_no_key(void **state UNUSED)
{
	const struct config config = { .client_keys = { keys, 2 } };
	struct digest scope;
	char target[2048];

	(void)snprintf(target, sizeof(target), "/?key=%01500d", 1);
	assert_int_equal(
	    authenticate(&config, target, "", &scope), CLIENT_NO_KEY);
}

static void
without_keys_only_what_is_allowed_goes(void **state UNUSED)
{
	static const struct digest none;
	struct config config = { .allow_anonymous = true };
	struct digest scope;

	assert_int_equal(
	    authenticate(&config, "/", "X-Api-Key: any\r\n", &scope),
	    CLIENT_ANONYMOUS);
	assert_true(digest_equal(&scope, &none));
	config.allow_anonymous = false;
	assert_int_equal(authenticate(&config, "/", "", &scope), CLIENT_NO_KEY);
	assert_int_equal(
	    authenticate(&config, "/", "X-Api-Key: any\r\n", &scope),
	    CLIENT_WRONG_KEY);
	/* Keys make "anonymous" void. */
	config.allow_anonymous = true;
	config.client_keys = (struct client_keys){ keys, 2 };
	assert_int_equal(authenticate(&config, "/", "", &scope), CLIENT_NO_KEY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_found_in_every_place),
		cmocka_unit_test(a_key_too_long_for_a_query_is_no_key),
		cmocka_unit_test(without_keys_only_what_is_allowed_goes),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
