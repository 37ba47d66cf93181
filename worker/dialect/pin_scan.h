/* SPDX-License-Identifier: MIT */
/*
 * Finds in a Responses answer, as it passes, what only the account that gave
 * it can read: the id of the response, and its compaction items. Constant
 * memory, nothing is kept of the answer. It is to see bytes before the client
 * does.
 */
#ifndef FL_WORKER_DIALECT_PIN_SCAN_H
#define FL_WORKER_DIALECT_PIN_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/pins.h"
#include "common/secret.h"
#include "worker/http/sse.h"
#include "worker/json/json_watch.h"

/*
 * Called for each, maybe more than once for the same, and by the end of the
 * frame that holds it. What looks like the content of a compaction item and is
 * another item's is told too; it does no harm.
 */
typedef void
pin_found_fn(void *ctx, enum pin_kind kind, const struct digest *token);

/* Private. */
struct pin_scan {
	bool events; /* server-sent events, else one JSON object */
	bool wanted; /* the frame at hand is one that may hold something */
	bool begun;  /* data of it was seen */
	bool has_id; /* the response's */
	bool is_compaction;
	bool has_sealed, has_item_id; /* of the last item, not told yet */
	char type[24];
	uint8_t fact; /* of the value being read; 0: none */
	const struct json_watch_row *row;
	struct digest_stream *token;
	struct digest sealed, item_id;
	struct sse sse;
	struct json_watch watch;
	pin_found_fn *found;
	void *ctx;
};

void
pin_scan_init(struct pin_scan *s, bool events, pin_found_fn *found, void *ctx);
void pin_scan_fini(struct pin_scan *s);

/* The next bytes of the answer, decoded from their transfer coding. */
void pin_scan_feed(struct pin_scan *s, const char *p, size_t len);

#endif
