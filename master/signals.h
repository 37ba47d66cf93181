/* SPDX-License-Identifier: MIT */
/*
 * The signals of the master: one table of number, name, action and what the
 * manual says of it.
 */
#ifndef FL_MASTER_SIGNALS_H
#define FL_MASTER_SIGNALS_H

#include <stddef.h>

#include <event2/event.h>

#include "common/attr.h"

struct master;

struct signal_row {
	int number;
	const char *name;                      /* "HUP" */
	void (*action)(struct master *master); /* NULL: ignored */
	const char *text;
};

extern const struct signal_row signal_table[];
extern const size_t signal_table_len;

struct signals;

/* Takes up all signals of the table. They arrive from the event loop. */
struct signals *signals_new(struct event_base *base, struct master *master);
void signals_free(struct signals *signals);

/* Lets in what has been held back since before an exec. */
void signals_unblock(void);

#endif
