/* SPDX-License-Identifier: MIT */
#include "common/config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/alloc.h"

struct loaded {
	struct config *config;
	struct config_report report;
	char path[64];
};

/* The smallest file that is a configuration. */
#define BASE "allow-anonymous = true;\n"

static int
load(struct loaded *l, const char *text)
{
	int fd;

	(void)snprintf(l->path, sizeof(l->path), "/tmp/fairlead.XXXXXX");
	fd = mkstemp(l->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
	config_report_init(&l->report);
	return config_load(l->path, &l->config, &l->report);
}

static void
unload(struct loaded *l)
{
	(void)unlink(l->path);
	config_free(l->config);
	config_report_fini(&l->report);
}

static void
defaults_are_those_of_the_table(void **state UNUSED)
{
	struct loaded l;

	assert_int_equal(load(&l, BASE), 0);
	assert_int_equal(l.config->listen.n, 1);
	assert_string_equal(l.config->listen.v[0], "127.0.0.1:8317");
	assert_true(l.config->workers >= 1);
	assert_int_equal(l.config->limits.body, 64 << 20);
	assert_int_equal(l.config->limits.idle_timeout_ms, 75000);
	assert_int_equal(l.config->routing.session_affinity_ttl_ms, 3600000);
	assert_int_equal(l.config->routing.strategy, STRATEGY_ROUND_ROBIN);
	assert_int_equal(l.config->request_retry, 3);
	assert_false(l.config->routing.session_affinity);
	assert_false(l.config->models_file_given);
	assert_int_equal(l.config->oauth[PROVIDER_CLAUDE].lead_ms, -1);
	unload(&l);
}

static void
values_are_read_in_every_way_they_may_be_written(void **state UNUSED)
{
	struct loaded l;

	assert_int_equal(
	    load(&l, BASE
		"listen = [\"127.0.0.1:1\", \"[::1]:2\", \"unix:/tmp/s\"];\n"
		"limits = { body = \"2M\"; idle-timeout = 7; "
		"drain-timeout = \"1h30m\"; connections = \"5000\"; };\n"
		"claude-api-key = ( { api-key = \" k\"; base-url = "
		"\"http://127.0.0.1:9/x/\"; prefix = \"/team/\"; weight = -4; "
		"headers = { X-A = \"1\"; }; models = ( { name = \"m\"; } ); "
		"},\n"
		"  { api-key = \"k2\"; headers = ( \"X_B: 2\" ); "
		"disable-cooling = false; } );\n"
		"oauth = { claude = { lead = \"5m\"; }; };\n"
		"oauth-excluded-models = { claude = ( \"*-x\" ); };\n"
		"oauth-model-alias = { codex = ( { name = \"a\"; alias = "
		"\"b\"; "
		"fork = true; } ); };\n"),
	    0);
	assert_int_equal(l.config->listen.n, 3);
	assert_int_equal(l.config->limits.body, 2 << 20);
	assert_int_equal(l.config->limits.idle_timeout_ms, 7000);
	assert_int_equal(l.config->limits.drain_timeout_ms, 5400000);
	assert_int_equal(l.config->limits.connections, 5000);

	struct key_entry *e = l.config->keys[PROVIDER_CLAUDE].v;

	assert_int_equal(l.config->keys[PROVIDER_CLAUDE].n, 2);
	assert_string_equal(e[0].base_url, "http://127.0.0.1:9/x");
	assert_string_equal(e[0].prefix, "team");
	assert_int_equal(e[0].weight, 0);
	assert_int_equal(e[0].disable_cooling, TRI_UNSET);
	assert_string_equal(e[0].headers.v[0].name, "X-A");
	assert_string_equal(e[0].models.v[0].alias, "m");
	assert_string_equal(e[1].headers.v[0].name, "X_B");
	assert_string_equal(e[1].headers.v[0].value, "2");
	assert_int_equal(e[1].disable_cooling, TRI_FALSE);
	assert_int_equal(e[1].weight, 1);
	assert_true(e[1].line > e[0].line);
	assert_int_equal(l.config->oauth[PROVIDER_CLAUDE].lead_ms, 300000);
	assert_string_equal(
	    l.config->oauth_excluded[PROVIDER_CLAUDE].v[0], "*-x");
	assert_true(l.config->oauth_alias[PROVIDER_CODEX].v[0].fork);
	unload(&l);
}

/* Each file is wrong in one place, and is told so with its line. */
static const struct {
	const char *text;
	const char *message; /* of its second line unless at says otherwise */
	const char *at;
} broken[] = {
	{ "lisen = ();", "unknown key \"lisen\"", ":2:" },
	{ "limits = { bodi = 1; };", "unknown key \"limits.bodi\"", ":2:" },
	{ "limits = 3;", "\"limits\" must be a group", ":2:" },
	{ "workers = \"two\";", "\"workers\" must be an integer", ":2:" },
	{ "workers = 65;", "\"workers\" must be between 0 and 64", ":2:" },
	{ "limits = {\n body = \"2X\"; };",
	    "\"limits.body\" must be a size such as \"64M\"", ":3:" },
	{ "limits = { idle-timeout = \"soon\"; };",
	    "\"limits.idle-timeout\" must be a duration", ":2:" },
	{ "limits = { body = \"1\"; };",
	    "\"limits.body\" must be between \"1K\" and \"4G\"", ":2:" },
	{ "listen = ( 8317 );", "\"listen\" must hold strings only", ":2:" },
	{ "listen = ( );", "\"listen\" must not be empty", ":2:" },
	{ "listen = ( \"nowhere\" );", "is no address", ":2:" },
	{ "listen = ( \"0.0.0.0:8317\" );", "\"api-keys\" is empty", ":2:" },
	{ "routing = { strategy = \"random\"; };",
	    "\"routing.strategy\" must be \"round-robin\"", ":2:" },
	{ "claude-api-key = ( { } );", "\"api-key\" is missing", ":2:" },
	{ "codex-api-key = ( { api-key = \"k\"; } );",
	    "\"base-url\" is missing", ":2:" },
	{ "claude-api-key = (\n{ api-key = \"k\"; base-url = \"x\"; } );",
	    "\"claude-api-key.base-url\" must be a URL", ":3:" },
	{ "claude-api-key = ( { api-key = \"k\"; prefix = \"a/b\"; } );",
	    "without an inner slash", ":2:" },
	{ "claude-api-key = ( { api-key = \"k\"; weight = 1000001; } );",
	    "\"claude-api-key.weight\" must be between", ":2:" },
	{ "claude-api-key = ( { api-key = \"k\"; "
	  "headers = ( \"no colon\" ); } );",
	    "\"Name: value\"", ":2:" },
	{ "claude-api-key = ( { api-key = \"k\"; "
	  "headers = ( \"A: b\\r\\nC: d\" ); } );",
	    "not a header", ":2:" },
	{ "openai-compatibility = ( { name = \"x\"; } );",
	    "\"base-url\" is missing", ":2:" },
	{ "oauth = { qwen = { }; };", "\"oauth.qwen\": no such provider",
	    ":2:" },
	{ "oauth = { claude = { token-endpoint = "
	  "\"http://127.0.0.1.example.com/\"; }; };",
	    "must be https", ":2:" },
	{ "proxy-url = \"bad-value\";", "\"proxy-url\" must be", ":2:" },
	{ "admin-listen = \"0.0.0.0:1\";", "set \"admin-key\"", ":2:" },
	{ "state-dir = \"here\";", "must be an absolute path", ":2:" },
	{ "auth-dir = \"/nowhere\";", "\"/nowhere\" is no directory", ":2:" },
	{ "models-file = \"m.json\";", "must be an absolute path", ":2:" },
	{ "log = { file = \"l\"; };", "must be an absolute path", ":2:" },
	{ "log = { usage-file = \"l\"; };", "must be an absolute path", ":2:" },
	{ "claude-api-key = ( { api-key = \"k\\nX: 1\"; } );",
	    "\"api-key\" holds a control character", ":2:" },
	{ "models-file = \"/nowhere\";", "cannot read \"/nowhere\"", ":2:" },
	{ "workers = ;", "syntax error", ":2" },
};

static void
every_error_is_told_with_its_line(void **state UNUSED)
{
	AUTO_FREE char *text = NULL;
	struct loaded l;
	size_t i;

	for (i = 0; i < ARRAY_LEN(broken); i++) {
		free(text);
		text = xasprintf(BASE "%s\n", broken[i].text);
		assert_int_equal(load(&l, text), -EINVAL);
		assert_null(l.config);
		if (strstr(buf_string(&l.report.errors), broken[i].message) ==
			NULL ||
		    strstr(buf_string(&l.report.errors), broken[i].at) == NULL)
			fail_msg("%s: %s", broken[i].text,
			    buf_string(&l.report.errors));
		assert_int_equal(l.report.nerrors, 1);
		unload(&l);
	}
}

static void
all_errors_are_told_not_only_the_first(void **state UNUSED)
{
	struct loaded l;

	assert_int_equal(
	    load(&l, BASE
		"workers = 99;\nunknown = 1;\nlog = { level = \"loud\"; };\n"),
	    -EINVAL);
	assert_int_equal(l.report.nerrors, 3);
	unload(&l);
}

static void
no_key_is_refused_unless_anonymous_is_allowed(void **state UNUSED)
{
	struct loaded l;

	assert_int_equal(load(&l, "workers = 1;\n"), -EINVAL);
	unload(&l);
	assert_int_equal(load(&l, "api-keys = ( \"secret-1\" );\n"
				  "listen = ( \"0.0.0.0:1\" );\n"),
	    0);
	assert_int_equal(l.config->client_keys.n, 1);
	unload(&l);
}

static void
the_deprecated_alias_turns_affinity_on_and_warns(void **state UNUSED)
{
	struct loaded l;

	assert_int_equal(
	    load(&l,
		BASE "routing = { claude-code-session-affinity = true; };\n"),
	    0);
	assert_true(l.config->routing.session_affinity);
	assert_int_equal(l.report.nwarnings, 1);
	unload(&l);
}

static const char with_secrets[] =
    "api-keys = ( \"canary-client\" );\n"
    "admin-key = \"canary-admin\";\n"
    "proxy-url = \"http://u:canary-proxy@127.0.0.1:1\";\n"
    "claude-api-key = ( { api-key = \"canary-key\"; "
    "headers = { X = \"canary-header\"; }; proxy-url = "
    "\"socks5://canary-own@127.0.0.1:2\"; } );\n"
    "oauth = { gemini = { client-secret = \"canary-oauth\"; }; };\n";

static void
a_dump_for_people_hides_secrets_and_reads_back(void **state UNUSED)
{
	struct buf dump = BUF_INIT(1 << 20);
	struct loaded l, again;

	assert_int_equal(load(&l, with_secrets), 0);
	config_dump(l.config, CONFIG_DUMP_PEOPLE, &dump);
	assert_null(strstr(buf_string(&dump), "canary"));
	assert_non_null(strstr(buf_string(&dump), "api-key = \"***\""));
	assert_non_null(strstr(buf_string(&dump), "idle-timeout = \"1m15s\""));
	/* proxy-url = "***" is no URL; everything else must read back. */
	assert_int_equal(load(&again, buf_string(&dump)), -EINVAL);
	assert_int_equal(again.report.nerrors, 1);
	unload(&again);
	unload(&l);
	buf_fini(&dump);
}

static void
a_worker_gets_digests_and_no_credentials(void **state UNUSED)
{
	struct buf dump = BUF_INIT(1 << 20);
	struct loaded l, worker;

	assert_int_equal(load(&l, with_secrets), 0);
	config_dump(l.config, CONFIG_DUMP_WORKER, &dump);
	assert_null(strstr(buf_string(&dump), "canary-client"));
	assert_null(strstr(buf_string(&dump), "canary-key"));
	assert_null(strstr(buf_string(&dump), "canary-oauth"));
	assert_null(strstr(buf_string(&dump), "canary-proxy"));
	assert_int_equal(load(&worker, buf_string(&dump)), 0);
	assert_int_equal(worker.config->client_keys.n, 1);
	assert_true(digest_equal(
	    &worker.config->client_keys.v[0], &l.config->client_keys.v[0]));
	assert_string_equal(worker.config->admin_key, "canary-admin");
	assert_int_equal(worker.config->workers, l.config->workers);
	unload(&worker);
	unload(&l);
	buf_fini(&dump);
}

struct changes {
	unsigned n;
	char last[64], old[64], new[64];
};

static void
on_change(void *ctx, const char *key, const char *old, const char *new)
{
	struct changes *c = ctx;

	c->n++;
	(void)snprintf(c->last, sizeof(c->last), "%s", key);
	(void)snprintf(c->old, sizeof(c->old), "%s", old);
	(void)snprintf(c->new, sizeof(c->new), "%s", new);
}

static const struct {
	const char *old, *new;
	unsigned effects;
	const char *key;
} differences[] = {
	{ "", "", 0, "" },
	{ "limits = { body = \"1M\"; };", "limits = { body = 1048576; };", 0,
	    "" },
	{ "", "limits = { body = \"1M\"; };", CONFIG_EFFECT_WORKERS,
	    "limits.body" },
	{ "", "auth-dir = \"/tmp\";", CONFIG_EFFECT_MASTER, "auth-dir" },
	{ "", "state-dir = \"/x\";", CONFIG_EFFECT_RESTART, "state-dir" },
	{ "claude-api-key = ( { api-key = \"canary-1\"; } );",
	    "claude-api-key = ( { api-key = \"canary-2\"; } );",
	    CONFIG_EFFECT_MASTER, "claude-api-key" },
};

static void
a_diff_names_what_changed_and_what_it_asks_for(void **state UNUSED)
{
	AUTO_FREE char *a = NULL, *b = NULL;
	struct loaded before, after;
	struct changes c;
	size_t i;

	for (i = 0; i < ARRAY_LEN(differences); i++) {
		free(a);
		free(b);
		a = xasprintf(BASE "%s", differences[i].old);
		b = xasprintf(BASE "%s", differences[i].new);
		assert_int_equal(load(&before, a), 0);
		assert_int_equal(load(&after, b), 0);
		c = (struct changes){ 0 };
		assert_int_equal(
		    config_diff(before.config, after.config, on_change, &c),
		    differences[i].effects);
		assert_string_equal(c.last, differences[i].key);
		assert_null(strstr(c.old, "canary"));
		assert_null(strstr(c.new, "canary"));
		unload(&before);
		unload(&after);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_table),
		cmocka_unit_test(
		    values_are_read_in_every_way_they_may_be_written),
		cmocka_unit_test(every_error_is_told_with_its_line),
		cmocka_unit_test(all_errors_are_told_not_only_the_first),
		cmocka_unit_test(no_key_is_refused_unless_anonymous_is_allowed),
		cmocka_unit_test(
		    the_deprecated_alias_turns_affinity_on_and_warns),
		cmocka_unit_test(
		    a_dump_for_people_hides_secrets_and_reads_back),
		cmocka_unit_test(a_worker_gets_digests_and_no_credentials),
		cmocka_unit_test(
		    a_diff_names_what_changed_and_what_it_asks_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
