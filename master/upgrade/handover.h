/* SPDX-License-Identifier: MIT */
/*
 * What one master program hands to the next that is executed in its place, in
 * the same process: a JSON object in a memfd, whose descriptor an environment
 * variable names, and the descriptors that the object names. Each part of the
 * master writes and reads its own members; fairlead-internals(7) lists them.
 * No secret is ever among them.
 */
#ifndef FL_MASTER_UPGRADE_HANDOVER_H
#define FL_MASTER_UPGRADE_HANDOVER_H

#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/buf.h"

enum {
	HANDOVER_VERSION = 1, /* of the members */
	HANDOVER_LAYOUTS_MAX = 96
};

#define HANDOVER_VARIABLE "FAIRLEAD_HANDOVER"

/*
 * What two programs must have alike for one to take over from the other, in a
 * line of text that -V shows: "handover 1, board 1/136347648, store 1".
 */
void handover_layouts(char *out, size_t size);

/*
 * Takes what the program before left, if it did: 0 with *out, NULL for a
 * start like any other; or -errno with the reason. The variable is removed.
 * The object is the caller's.
 */
int handover_read(cJSON **out, struct buf *why) MUST_CHECK;

/*
 * Makes all descriptors close-on-exec, those of libraries too: what is to stay
 * open is named from here on. The exec is to follow.
 */
void handover_prepare(void);

/* Adds a descriptor, which will be open after the exec. -1: none. */
void handover_put_fd(cJSON *object, const char *name, int fd);

/* A descriptor, close-on-exec from now on; -1: none. It stays the same. */
int handover_take_fd(const cJSON *object, const char *name);

/* Numbers that a double holds: 0 if there is none of that name. */
void handover_put_number(cJSON *object, const char *name, int64_t value);
int64_t handover_number(const cJSON *object, const char *name);

/* "" if there is none of that name. */
const char *handover_string(const cJSON *object, const char *name);

/*
 * Executes the program, with all signals blocked, so that none is lost until
 * it takes them up. path is its name, and its place unless program is a
 * descriptor of it. Returns only if that failed: negative errno.
 */
int handover_exec(const cJSON *handover, int program, const char *path,
    char *const *argv) MUST_CHECK;

#endif
