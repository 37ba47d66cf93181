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
	rewrite_fini(&r);
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

/* Applies and compares; none to be cut: NULL. */
static void
check_unsealed(const char *body, const char *wanted)
{
	struct rewrite_places places;
	struct rewrite r;
	struct facts *f = malloc(sizeof(*f));
	char *out;
	size_t len = 0;

	assert_int_equal(facts_read(f, body, strlen(body)), FACTS_OK);
	rewrite_places_of(&places, f);
	assert_int_equal(f->sealed_reasoning, wanted != NULL);
	free(f);
	rewrite_init(&r, &places);
	assert_int_equal(
	    rewrite_unseal(&r, body, strlen(body)) > 0, wanted != NULL);
	assert_int_equal(rewrite_apply(&r, body, strlen(body), &out, &len), 0);
	rewrite_fini(&r);
	if (wanted == NULL) {
		assert_null(out);
		return;
	}
	assert_int_equal(len, strlen(wanted));
	assert_memory_equal(out, wanted, len);
	free(out);
}

#define SEALED "{\"type\":\"reasoning\",\"encrypted_content\":\"x\"}"

static void
sealed_reasoning_is_cut_with_its_commas(void **state UNUSED)
{
	check_unsealed("{\"input\":[ {\"a\":1} , " SEALED " , {\"b\":2} ]}",
	    "{\"input\":[ {\"a\":1} , {\"b\":2} ]}");
	check_unsealed("{\"input\":[ " SEALED " ,\n{\"b\":2} ]}",
	    "{\"input\":[ {\"b\":2} ]}");
	check_unsealed("{\"input\":[" SEALED "," SEALED ",1," SEALED "]}",
	    "{\"input\":[1]}");
	check_unsealed("{\"input\":[1," SEALED "," SEALED " , 2,3," SEALED
		       "," SEALED "]}",
	    "{\"input\":[1 , 2,3]}");
	check_unsealed("{\"input\":[" SEALED " ]}", "{\"input\":[ ]}");
	check_unsealed("{\"input\":[{\"id\":\"rs\",\"encrypted_content\":"
		       "\"y\",\"summary\":[{}],\"typ\\u0065\":"
		       "\"reasoning\"},2],\"model\":\"m\"}",
	    "{\"input\":[2],\"model\":\"m\"}");
}

static void
what_is_not_sealed_reasoning_stays(void **state UNUSED)
{
	check_unsealed("{\"input\":\"text\"}", NULL);
	check_unsealed("{\"model\":\"m\"}", NULL);
	check_unsealed("{\"input\":[{\"type\":\"reasoning\",\"summary\":[]},"
		       "{\"type\":\"reasoning\",\"encrypted_content\":null},"
		       "{\"type\":\"compaction\",\"encrypted_content\":\"x\"},"
		       "{\"type\":\"message\",\"content\":[" SEALED "]}]}",
	    NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_models_value_changes),
		cmocka_unit_test(body_without_edits_is_sent_itself),
		cmocka_unit_test(codex_gets_stream_and_no_store),
		cmocka_unit_test(all_edits_go_together),
		cmocka_unit_test(sealed_reasoning_is_cut_with_its_commas),
		cmocka_unit_test(what_is_not_sealed_reasoning_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
