/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a JSON string: where it ends, and whether what stands before
 * the end is UTF-8 without raw control characters and with sound escapes
 * (RFC 8259, section 7; RFC 3629). Private to the JSON reader, apart from it
 * because the work goes on in blocks of bytes, not in grammar.
 */
#ifndef FL_WORKER_JSON_JSON_STRING_H
#define FL_WORKER_JSON_JSON_STRING_H

#include <stdbool.h>

/*
 * p stands behind the opening quote, somewhere in text..end. Returns the
 * address behind the closing quote, or NULL when the string is broken or not
 * closed before end. Sets *escaped if there is a backslash in it, else leaves
 * it alone. Reads no byte outside text..end.
 */
const char *json_string_end(
    const char *text, const char *p, const char *end, bool *escaped);

/* The value of a hexadecimal digit, or -1. */
int json_hex_digit(char c);

#endif
