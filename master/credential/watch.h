/* SPDX-License-Identifier: MIT */
/*
 * Watching files: auth-dir and the directory of models-file, each by its
 * exact path, and nothing below or beside them. It knows names and events;
 * what a file means, and whether its bytes are new, the registry knows.
 *
 * Events are gathered for a tenth of a second and handed on as one batch. A
 * file that cannot be read is tried again by a timer, less and less often. A
 * lost event or a directory that was replaced means one look at all of it.
 */
#ifndef FL_MASTER_CREDENTIAL_WATCH_H
#define FL_MASTER_CREDENTIAL_WATCH_H

#include <event2/event.h>

#include "common/attr.h"
#include "common/config.h"
#include "master/registry/registry.h"

struct watch;

/*
 * Both are borrowed and outlive it. It watches nothing yet and is held. 0 or
 * negative errno.
 */
int watch_new(struct event_base *base, struct registry *registry,
    struct watch **out) MUST_CHECK;
void watch_free(struct watch *watch);

/*
 * Watches the directories of this configuration and no others. Call it held
 * and before registry_stage(), so that no change falls between the scan and
 * the watch; after a reload that failed, again with the old configuration.
 * A directory that is not there is looked for from time to time. 0 or
 * negative errno (-ENOSPC: no inotify watches are left), and then changes
 * are found by looking at everything once a minute.
 */
int watch_follow(struct watch *watch, const struct config *config);

/* Between these events are gathered and nothing is read. Not nested. */
void watch_hold(struct watch *watch);
void watch_release(struct watch *watch);

#endif
