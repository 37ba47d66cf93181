/* SPDX-License-Identifier: MIT */
/*
 * Publishing: entries get their places on the board, and credentials, routes
 * and what goes with them reach `state` in one transaction or not at all. It
 * knows what is published and nothing of files or sections.
 *
 * Who keeps what, when an entry is replaced by one of the same id: slot,
 * epoch and the cells of models it still serves, always. Incarnation and
 * words, and what is known of the refreshes of the same token, only if both
 * are enabled; what was disabled starts clean. A `fresh`
 * change, one that was deleted in between, inherits nothing.
 */
#ifndef FL_MASTER_REGISTRY_PUBLISH_H
#define FL_MASTER_REGISTRY_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/board.h"
#include "common/ipc.h"
#include "common/store.h"
#include "master/credential/entry.h"
#include "master/credential/name_map.h"
#include "master/registry/routes.h"

struct publisher;

/*
 * Takes up what `state` holds. 0 or negative errno. Both are borrowed.
 */
int publisher_new(struct store *state, struct board *board,
    struct publisher **out) MUST_CHECK;
void publisher_free(struct publisher *p);

struct publish_change {
	const char *id;
	struct entry *now; /* NULL: it goes */
	bool fresh;        /* inherits nothing from its predecessor */

	struct entry *old; /* the publisher's: what was published */
	bool placed;
};

/*
 * Publishes changes, of which none names an id twice, as one transaction.
 * generation: NULL leaves it as it is. 0: the entries are the publisher's.
 * Negative errno: nothing has changed and they are still the caller's.
 */
int publisher_apply(struct publisher *p, struct publish_change *changes,
    size_t n, const uint64_t *generation) MUST_CHECK;

/* A new epoch: every binding to the credential is void. */
int publisher_unbind(struct publisher *p, struct entry *e) MUST_CHECK;

/* See health.h. */
int publisher_result(
    struct publisher *p, const struct ipc_result *result) MUST_CHECK;
int publisher_reset(struct publisher *p, struct entry *e) MUST_CHECK;

/* struct entry, published or only read back; struct route. Not to be kept. */
const struct name_map *publisher_entries(const struct publisher *p);
const struct name_map *publisher_routes(const struct publisher *p);
/* The entry at a slot of the board, or NULL. */
struct entry *publisher_at(const struct publisher *p, uint32_t slot);

struct board *publisher_board(const struct publisher *p);

#endif
