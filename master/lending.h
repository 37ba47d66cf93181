/* SPDX-License-Identifier: MIT */
/*
 * Who polls the listeners of a worker that is away. A connection is given to
 * the socket of one worker by the kernel, which does not know whether that
 * worker lives; so while it is dead, in back-off, stopped or stuck, a
 * neighbour accepts in its place. To lend to one worker too many is harmless:
 * both accept.
 */
#ifndef FL_MASTER_LENDING_H
#define FL_MASTER_LENDING_H

#include <stdbool.h>

enum { LENDING_NOBODY = -1 };

/*
 * For each of n workers the one that shall poll its listeners too: the next
 * one after it that is not away, LENDING_NOBODY for a worker that is there, or
 * if all are away.
 */
void lending_plan(const bool *away, unsigned n, int *to);

#endif
