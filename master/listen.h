/* SPDX-License-Identifier: MIT */
/*
 * The listening sockets. Per TCP address there is one SO_REUSEPORT socket for
 * each worker, so that the kernel spreads connections; a unix listener is one
 * socket that all workers poll. A socket lives as long as its address stays
 * in the configuration, across all generations: what is queued on it is then
 * never lost.
 *
 * A set is what one configuration asks for. The set of a reload shares the
 * sockets of unchanged addresses with the one that serves; new ones are
 * bound, which settles whether they can be had, but not listening, so that
 * nobody is kept waiting by a reload that fails.
 */
#ifndef FL_MASTER_LISTEN_H
#define FL_MASTER_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/config.h"
#include "common/ipc.h"

struct listen_set;

/*
 * Makes the set of a configuration. old: the set that serves, or NULL.
 * leftovers: workers of ours, of an earlier master or on their way out, may
 * still listen on an address that is new here; if not, such a listener is
 * somebody else's and means that the address is taken. 0, or -errno with the
 * reason, which names the address.
 */
int listen_open(const struct config *config, const struct listen_set *old,
    bool leftovers, struct listen_set **out, struct buf *why) MUST_CHECK;

/* Lets connections queue on the new sockets. 0, or -errno and the reason. */
int listen_activate(struct listen_set *set, struct buf *why) MUST_CHECK;

/* Closes what no other set shares; removes the files of unix listeners. */
void listen_close(struct listen_set *set);

/*
 * For an upgrade in place: describes all sockets, which stay open over the
 * exec, in an array; and makes the set of them again, NULL if that is not
 * possible.
 */
void listen_hand_over(const struct listen_set *set, cJSON *rows);
struct listen_set *listen_inherit(const cJSON *rows);

/* All descriptors, by index. Borrowed. */
const int *listen_fds(const struct listen_set *set, size_t *n);
enum ipc_listener_role listen_role(const struct listen_set *set, size_t index);

/*
 * Whether that worker, of nworkers, polls the socket. Each TCP socket has one
 * worker; where there are more sockets than workers, because there once were
 * more, the rest are lent round.
 */
bool listen_polled_by(const struct listen_set *set, size_t index,
    unsigned worker, unsigned nworkers);

/*
 * Whether the socket has nobody but that worker, so that what comes in on it
 * waits while the worker is away: never a unix listener, which all poll.
 */
bool listen_is_alone(const struct listen_set *set, size_t index,
    unsigned worker, unsigned nworkers);

#endif
