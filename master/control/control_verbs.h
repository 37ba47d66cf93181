/* SPDX-License-Identifier: MIT */
/* What can be asked on the control socket: one table of verbs. */
#ifndef FL_MASTER_CONTROL_CONTROL_VERBS_H
#define FL_MASTER_CONTROL_CONTROL_VERBS_H

#include <stddef.h>

#include "master/control/control.h"

struct control_verb {
	const char *name;
	size_t min_args, max_args;
	/* Answers, now or later. */
	void (*run)(struct control_client *client, struct master *master,
	    const struct control_request *request);
};

extern const struct control_verb control_verbs[];
extern const size_t control_verbs_len;

/* Runs the request, or refuses it. */
void control_run(struct control_client *client, struct master *master,
    const struct control_request *request);

#endif
