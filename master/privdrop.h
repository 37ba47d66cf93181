/* SPDX-License-Identifier: MIT */
/*
 * Becoming as weak as the work allows: the user it runs as, limits that keep
 * secrets out of core files and other eyes, and the directories that the
 * user needs. Done before the first socket is bound.
 */
#ifndef FL_MASTER_PRIVDROP_H
#define FL_MASTER_PRIVDROP_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/config.h"

struct privileges {
	bool root;  /* started as root */
	bool drop;  /* and told to become somebody else */
	char *user; /* for initgroups(3); NULL if nothing is dropped */
	uid_t uid;
	gid_t gid;
	const char *warning; /* what the operator should know, or NULL */
};

/*
 * Who the configuration wants us to be. 0, or -EINVAL with the reason in why.
 * privileges_fini() frees.
 */
int privileges_look_up(struct privileges *p, const struct config *config,
    struct buf *why) MUST_CHECK;
void privileges_fini(struct privileges *p);

/*
 * Makes state-dir (0700) and runtime-dir where they are absent, and gives
 * them to the user when started as root, with what root has left in them.
 * 0, or -errno with the reason.
 */
int privileges_make_dirs(const struct privileges *p,
    const struct config *config, struct buf *why) MUST_CHECK;

/* No core file, no debugger, private files, as many descriptors as may be. */
void privileges_harden(void);

/*
 * Becomes that user for good. With keep_bind the process may still bind ports
 * below 1024, which its workers may not. 0, or -errno with the reason.
 */
int privileges_drop(
    const struct privileges *p, bool keep_bind, struct buf *why) MUST_CHECK;

/* Whether a listener of the configuration asks for such a port. */
bool privileges_needs_bind(const struct config *config);

/*
 * Lets the right to bind low ports, where it was kept, outlive an exec of the
 * next master; and, there or when the exec failed, ends that again, so that no
 * worker gets it.
 */
void privileges_keep_over_exec(void);
void privileges_end_keeping(void);

#endif
