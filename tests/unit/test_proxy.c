/* SPDX-License-Identifier: MIT */
#include "common/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"

static const struct {
	const char *text;
	enum proxy_kind kind;
	const char *redacted;
} forms[] = {
	{ "", PROXY_INHERIT, "" },
	{ "  ", PROXY_INHERIT, "" },
	{ "direct", PROXY_DIRECT, "direct" },
	{ " NONE ", PROXY_DIRECT, "direct" },
	{ "http://h:1", PROXY_URL, "http://h:1" },
	{ "HTTPS://h", PROXY_URL, "HTTPS://h" },
	{ "socks5://u:p@h:1/x?y", PROXY_URL, "socks5://redacted@h:1" },
	{ "socks5h://a@b@h:1", PROXY_URL, "socks5h://redacted@h:1" },
	{ "http://[::1]:8080", PROXY_URL, "http://[::1]:8080" },
	{ "http://[::1]", PROXY_URL, "http://[::1]" },
	{ "bad-value", PROXY_INVALID, "<invalid proxy URL>" },
	{ "ftp://h:1", PROXY_INVALID, "<invalid proxy URL>" },
	{ "http://", PROXY_INVALID, "<invalid proxy URL>" },
	{ "http://:8080", PROXY_INVALID, "<invalid proxy URL>" },
	{ "http://h:0", PROXY_INVALID, "<invalid proxy URL>" },
	{ "http://h:70000", PROXY_INVALID, "<invalid proxy URL>" },
	{ "http://h:x", PROXY_INVALID, "<invalid proxy URL>" },
	{ "http://h h:1", PROXY_INVALID, "<invalid proxy URL>" },
	{ "://h", PROXY_INVALID, "<invalid proxy URL>" },
};

static void
forms_are_told_apart_and_shown_without_secrets(void **state UNUSED)
{
	char shown[128];
	size_t i;

	for (i = 0; i < ARRAY_LEN(forms); i++) {
		if (proxy_parse(forms[i].text) != forms[i].kind)
			fail_msg("\"%s\"", forms[i].text);
		proxy_redact(forms[i].text, shown, sizeof(shown));
		assert_string_equal(shown, forms[i].redacted);
	}
}

static const struct {
	const char *credential, *config, *base_url;
	const char *expected; /* NULL: fails closed */
} resolutions[] = {
	{ "", "", "https://a.example/", "http://env-s:1" },
	{ "", "", "http://a.example/", "http://env-p:1" },
	{ "", "", "http://b.example:80/x", "" },
	{ "", "", "https://x.b.example", "" },
	{ "", "", "https://notb.example", "http://env-s:1" },
	{ "", "", "https://127.0.0.1:99", "" },
	{ "", "direct", "https://a.example/", "" },
	{ "", "http://c:1", "https://a.example/", "http://c:1" },
	{ " http://own:1", "http://c:1", "https://a/", "http://own:1" },
	{ "none", "http://c:1", "https://a.example/", "" },
	{ "bad", "http://c:1", "https://a.example/", NULL },
	{ "", "bad", "https://a.example/", NULL },
	{ "direct", "bad", "https://a.example/", "" },
};

static void
credential_then_configuration_then_environment(void **state UNUSED)
{
	struct proxy_env env;
	const char *got;
	size_t i;

	(void)setenv("https_proxy", "http://env-s:1", 1);
	(void)setenv("HTTP_PROXY", "http://env-p:1", 1);
	(void)setenv("NO_PROXY", "localhost, .b.example,127.0.0.1", 1);
	proxy_env_read(&env);
	for (i = 0; i < ARRAY_LEN(resolutions); i++) {
		got = proxy_resolve(resolutions[i].credential,
		    resolutions[i].config, &env, resolutions[i].base_url);
		if ((got == NULL) != (resolutions[i].expected == NULL) ||
		    (got != NULL && strcmp(got, resolutions[i].expected) != 0))
			fail_msg("row %zu: %s", i, got != NULL ? got : "-");
	}
	proxy_env_fini(&env);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    forms_are_told_apart_and_shown_without_secrets),
		cmocka_unit_test(
		    credential_then_configuration_then_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
