/* SPDX-License-Identifier: MIT */
/*
 * The two questions about Unicode that names and session values ask of UTF-8
 * text: where its white space ends, and whether it holds control characters.
 * Bytes that are not UTF-8 are neither.
 */
#ifndef FL_COMMON_UNICODE_H
#define FL_COMMON_UNICODE_H

#include <stdbool.h>

#include "common/str.h"

/*
 * Without the characters with the property White_Space at either end (Unicode
 * 15: U+0009-0D, 20, 85, A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000).
 */
struct span unicode_trim(struct span text);

/* Is there a character of category Cc (U+0000-1F, U+007F-9F) in it? */
bool unicode_has_control(struct span text);

#endif
