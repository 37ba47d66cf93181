/* SPDX-License-Identifier: MIT */
/* The well-formed sequences of UTF-8, one at a time (RFC 3629, section 4). */
#ifndef FL_COMMON_UTF8_H
#define FL_COMMON_UTF8_H

#include <stddef.h>

/*
 * The length of the well-formed sequence at p, 1 to 4; 0 if there is none
 * within len bytes.
 */
size_t utf8_sequence(const unsigned char *p, size_t len);

/*
 * Makes a string fit to be shown and to stand in JSON: each byte that is part
 * of no well-formed sequence, as where it was cut, becomes '?'.
 */
void utf8_mend(char *text);

#endif
