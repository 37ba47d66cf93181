/* SPDX-License-Identifier: MIT */
/*
 * The smooth weighted sequence: in which order members with weights take
 * turns so that each gets its share over a period and none gets its turns in
 * a row where it can be helped. Weights 5, 3, 2 give a b c a a b a c b a.
 */
#ifndef FL_COMMON_SMOOTH_H
#define FL_COMMON_SMOOTH_H

#include <stddef.h>
#include <stdint.h>

enum { SMOOTH_PERIOD_MAX = 4096, SMOOTH_MEMBERS_MAX = 1 << 16 };

/*
 * Writes one period, as indices into weights, and returns its length: the sum
 * of the weights by their common divisor. A sum beyond SMOOTH_PERIOD_MAX (or
 * n, where that is more) is scaled down to it, nobody to less than one turn.
 * Members of weight 0 or less have no turn; 0 when there are no others.
 *
 * At each step everyone gains its weight, the richest takes the turn, the
 * first of them on a tie, and pays the sum of all weights. sequence has room
 * for smooth_room(n) entries; n is at most SMOOTH_MEMBERS_MAX.
 */
size_t smooth_sequence(const int32_t *weights, size_t n, uint16_t *sequence);
size_t smooth_room(size_t n);

#endif
