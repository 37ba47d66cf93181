/* SPDX-License-Identifier: MIT */
#include "worker/dialect/pin_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"

enum { FOUND_MAX = 16 };

static struct {
	enum pin_kind kind;
	struct digest token;
} found[FOUND_MAX];
static size_t nfound;

static void
on_found(void *ctx UNUSED, enum pin_kind kind, const struct digest *token)
{
	assert_true(nfound < FOUND_MAX);
	found[nfound].kind = kind;
	found[nfound++].token = *token;
}

static void
scan(const char *text, bool events, size_t piece)
{
	struct pin_scan s;
	size_t len = strlen(text);

	nfound = 0;
	pin_scan_init(&s, events, on_found, NULL);
	for (size_t at = 0; at < len; at += piece)
		pin_scan_feed(
		    &s, text + at, len - at < piece ? len - at : piece);
	pin_scan_fini(&s);
}

static bool
has(enum pin_kind kind, const char *token)
{
	struct digest d;

	pin_token_digest(token, strlen(token), &d);
	for (size_t i = 0; i < nfound; i++)
		if (found[i].kind == kind && digest_equal(&found[i].token, &d))
			return true;
	return false;
}

/* Whatever the pieces it comes in; names end with NULL. */
static void
check(const char *text, bool events, const char *response,
    const char *const *compactions)
{
	static const size_t pieces[] = { 1, 2, 7, 64, 1024 * 1024 };

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		size_t wanted = 0;

		scan(text, events, pieces[i]);
		if (response != NULL) {
			assert_true(has(PIN_RESPONSE, response));
			for (size_t k = 0; k < nfound; k++)
				wanted += found[k].kind == PIN_RESPONSE;
		}
		for (size_t k = 0; compactions[k] != NULL; k++, wanted++)
			assert_true(has(PIN_COMPACTION, compactions[k]));
		assert_int_equal(nfound, wanted);
	}
}

#define NAMES(...) ((const char *const[]){ __VA_ARGS__ })

static void
ids_of_responses_are_found_in_events(void **state UNUSED)
{
	check("event: response.created\n"
	      "data: {\"type\":\"response.created\",\"sequence_number\":0,"
	      "\"response\":{\"id\":\"resp_1\",\"object\":\"response\"}}\n\n"
	      "event: response.output_text.delta\n"
	      "data: {\"item_id\":\"resp_2\",\"response\":{\"id\":\"no\"}}\n\n",
	    true, "resp_1", NAMES(NULL));
	/* The event has no name, and the id comes last. */
	check("data: {\"response\":{\"output\":[{\"id\":\"x\",\"type\":"
	      "\"message\"}],\"id\":\"resp_1\"},\"type\":"
	      "\"response.completed\"}\r\n\r\n",
	    true, "resp_1", NAMES(NULL));
	check("data: not json\n\n: comment\n\ndata: [DONE]\n\n", true, NULL,
	    NAMES(NULL));
}

static void
compaction_items_are_found_in_events(void **state UNUSED)
{
	check("event: response.output_item.done\n"
	      "data: {\"item\":{\"type\":\"reasoning\",\"id\":\"rs\","
	      "\"encrypted_content\":\"R\"}}\n\n"
	      "event: response.output_item.done\n"
	      "data: {\"item\":{\"type\":\"compaction\",\"id\":\"cmp\","
	      "\"encrypted_content\":\"C\\/1\"}}\n\n",
	    true, NULL, NAMES("cmp", "C/1", NULL));
	/* In another order, and another of its names. */
	check("data: {\"item\":{\"encrypted_content\":\"C\",\"id\":\"cmp\","
	      "\"type\":\"compaction_summary\"}}\n\n",
	    true, NULL, NAMES("C", "cmp", NULL));
	/* What belongs to the item before is not this one's. */
	check("data: {\"item\":{\"encrypted_content\":\"R\",\"type\":"
	      "\"reasoning\"}}\n\n"
	      "data: {\"item\":{\"type\":\"compaction\"}}\n\n",
	    true, NULL, NAMES(NULL));
}

static void
whole_answers_are_read_too(void **state UNUSED)
{
	check("{\"id\":\"resp_1\",\"metadata\":{\"id\":\"no\"},\"output\":["
	      "{\"id\":\"m\",\"type\":\"message\",\"content\":[{\"type\":"
	      "\"compaction\",\"id\":\"deep\"}]},"
	      "{\"type\":\"compaction\",\"encrypted_content\":\"C\"}]}",
	    false, "resp_1", NAMES("C", "m", NULL));
	check("[1,\"id\"]", false, NULL, NAMES(NULL));
}

/* A client may have the id before the rest of the answer has come. */
static void
id_is_told_as_soon_as_it_is_complete(void **state UNUSED)
{
	static const char begin[] = "{\"id\":\"resp_1\"";
	struct pin_scan s;

	nfound = 0;
	pin_scan_init(&s, false, on_found, NULL);
	pin_scan_feed(&s, begin, sizeof(begin) - 2);
	assert_int_equal(nfound, 0);
	pin_scan_feed(&s, begin + sizeof(begin) - 2, 1);
	assert_int_equal(nfound, 1);
	pin_scan_fini(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_of_responses_are_found_in_events),
		cmocka_unit_test(compaction_items_are_found_in_events),
		cmocka_unit_test(whole_answers_are_read_too),
		cmocka_unit_test(id_is_told_as_soon_as_it_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
