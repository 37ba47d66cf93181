/* SPDX-License-Identifier: MIT */
/*
 * The scanner for what pins: what it finds, and in which order, does not
 * depend on how the bytes came in pieces. The first byte chooses between
 * events and a whole answer.
 */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/dialect/pin_scan.h"

static void
on_found(void *ctx, enum pin_kind kind, const struct digest *token)
{
	struct digest *all = ctx;
	struct digest_stream *s = digest_stream_new();
	unsigned char byte = (unsigned char)kind;

	require(kind == PIN_RESPONSE || kind == PIN_COMPACTION);
	digest_stream_add(s, all, sizeof(*all));
	digest_stream_add(s, &byte, 1);
	digest_stream_add(s, token, sizeof(*token));
	digest_stream_end(s, all);
}

static struct digest
scan(const uint8_t *data, size_t size, size_t step, bool events)
{
	struct digest all = { { 0 } };
	struct pin_scan s;
	size_t n;

	pin_scan_init(&s, events, on_found, &all);
	for (size_t at = 0; at < size; at += n) {
		n = size - at < step ? size - at : step;
		pin_scan_feed(&s, (const char *)data + at, n);
	}
	pin_scan_fini(&s);
	return all;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = { 1, 3, 16 };
	struct digest whole, pieces;
	bool events;

	if (size == 0)
		return 0;
	events = (data[0] & 1) != 0;
	whole = scan(data + 1, size - 1, size, events);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		pieces = scan(data + 1, size - 1, steps[i], events);
		require(digest_equal(&whole, &pieces));
	}
	return 0;
}
