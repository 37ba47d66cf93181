/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/relay/rewrite.h"

/* Applies what was asked for to a body and compares. */
static void
check(const char *body, const char *model_json, bool codex, const char *wanted)
{
	struct rewrite_places places;
	struct rewrite r;
	struct facts *f = malloc(sizeof(*f));
	char *out;
	size_t len = 0;

	assert_int_equal(facts_read(f, body, strlen(body)), FACTS_OK);
	rewrite_places_of(&places, f);
	free(f);
	rewrite_init(&r, &places);
	if (codex)
		rewrite_for_codex(&r);
	if (model_json != NULL)
		rewrite_model(&r, model_json, strlen(model_json));
	assert_int_equal(rewrite_apply(&r, body, strlen(body), &out, &len), 0);
	if (wanted == NULL) {
		assert_null(out);
		return;
	}
	assert_int_equal(len, strlen(wanted));
	assert_memory_equal(out, wanted, len);
	free(out);
}

static void
only_the_models_value_changes(void **state UNUSED)
{
	check("{\"model\":\"fast\"}", "\"m\"", false, "{\"model\":\"m\"}");
	check(" { \"x\":{\"model\":\"fast\"} ,\"model\" :\n\"fast\" , "
	      "\"n\":1.0 } \n",
	    "\"real-model.v1\"", false,
	    " { \"x\":{\"model\":\"fast\"} ,\"model\" :\n\"real-model.v1\" , "
	    "\"n\":1.0 } \n");
	check("{\"\\u006dodel\":\"\\u0066ast\",\"a\":[]}", "\"q\\\"\"", false,
	    "{\"\\u006dodel\":\"q\\\"\",\"a\":[]}");
}

static void
body_without_edits_is_sent_itself(void **state UNUSED)
{
	check("{\"model\":\"m\"}", NULL, false, NULL);
	check("{\"store\":false,\"model\":\"m\",\"stream\":true}", NULL, true,
	    NULL);
}

static void
codex_gets_stream_and_no_store(void **state UNUSED)
{
	check("{ \"model\":\"m\"}", NULL, true,
	    "{\"stream\":true,\"store\":false, \"model\":\"m\"}");
	check("{\"stream\": false ,\"model\":\"m\",\"store\":null}", NULL, true,
	    "{\"stream\": true ,\"model\":\"m\",\"store\":false}");
	check("{\"model\":\"m\",\"store\":{\"a\":[1,2]},\"z\":0}", NULL, true,
	    "{\"stream\":true,\"model\":\"m\",\"store\":false,\"z\":0}");
}

static void
all_edits_go_together(void **state UNUSED)
{
	check("{\"store\":true,\"model\":\"fast\",\"stream\":false}", "\"m\"",
	    true, "{\"store\":false,\"model\":\"m\",\"stream\":true}");
	check("{\"model\":\"fast\"}", "\"longer-than-before\"", true,
	    "{\"stream\":true,\"store\":false,"
	    "\"model\":\"longer-than-before\"}");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_models_value_changes),
		cmocka_unit_test(body_without_edits_is_sent_itself),
		cmocka_unit_test(codex_gets_stream_and_no_store),
		cmocka_unit_test(all_edits_go_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
