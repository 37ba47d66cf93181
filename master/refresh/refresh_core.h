/* SPDX-License-Identifier: MIT */
/*
 * The refresher from the inside, open to its two files: refresh.c knows when
 * and whom, task.c how.
 */
#ifndef FL_MASTER_REFRESH_REFRESH_CORE_H
#define FL_MASTER_REFRESH_REFRESH_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event_struct.h>

#include "master/refresh/grant.h"
#include "master/refresh/record.h"
#include "master/refresh/refresh.h"

struct task;

/* A credential that can be refreshed. */
struct item {
	char *id; /* first: the key of maps */
	struct refresher *r;
	size_t at;                    /* in the heap; SIZE_MAX: not there */
	int64_t due_ms;               /* clock_now_ms() */
	unsigned seen;                /* the look that saw it last */
	struct task *task;            /* the refresh under way */
	TAILQ_ENTRY(item) running;    /* while there is one */
	struct digest token;          /* that it uses up */
	bool wanted;                  /* whatever its token says of its life */
	bool by_hand;                 /* and whatever was refused before */
	unsigned failures;            /* in a row */
	int64_t barred_ms;            /* clock_now_ms(): not before */
	char error[96];               /* of the last one */
	struct digest identity;       /* of the file that all this is about */
	uint16_t incarnation;         /* and of the credential; 0: not seen */
	uint64_t generation;          /* of the token that is being replaced */
	int64_t refreshed_ms;         /* clock_now_ms(); 0: not by us */
	struct refresh_record record; /* as the ledger has it */
	TAILQ_HEAD(, refresh_waiter) waiters;
};

struct refresher {
	struct refresh_parts parts;
	struct event timer, soon, ended;
	struct name_map items;
	struct item **heap;
	size_t nheap, heap_cap;
	unsigned looks;
	unsigned busy;
	TAILQ_HEAD(, item) running; /* all those that are busy */
	bool loaded;                /* what the ledger holds is known */
	bool ending;
	void (*on_end)(void *ctx);
	void *end_ctx;
};

/* ---- task.c */

enum { TWINS_MAX = 16 };

/*
 * Begins a refresh of an entry that is published. item_ended() follows, later
 * or at once.
 */
void task_start(struct item *item, const struct entry *e);

/* Lets go of one that has no job with the ledger. */
void task_abandon(struct task *task);

/* ---- refresh.c */

enum item_end {
	ITEM_REFRESHED,
	ITEM_OVERTAKEN, /* the file has another token meanwhile */
	ITEM_REFUSED,   /* for good; the ledger knows */
	ITEM_FAILED,
	ITEM_LOST
};

/*
 * The other files with the refresh token that the item uses up: copies, or
 * the file itself under a new name. Ids that the caller frees, TWINS_MAX at
 * most; how many.
 */
size_t item_twins(const struct item *item, char *ids[TWINS_MAX]);

/* A file got its new token with that of another. */
void item_served(struct refresher *r, const char *id);

/* wait_ms: how long not to try again; 0: as after any failure. */
void item_ended(
    struct item *item, enum item_end end, const char *error, int64_t wait_ms);

/* The record that the ledger has now; kind REFRESH_NOTHING: none. */
void item_set_record(struct item *item, const struct refresh_record *record);

#endif
