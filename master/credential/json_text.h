/* SPDX-License-Identifier: MIT */
/*
 * Small JSON files of ours: parsing with cJSON within bounds, and replacing a
 * member in the text itself, so that everything else stays byte for byte.
 */
#ifndef FL_MASTER_CREDENTIAL_JSON_TEXT_H
#define FL_MASTER_CREDENTIAL_JSON_TEXT_H

#include <stddef.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/buf.h"

enum { JSON_DEPTH_MAX = 32 };

/*
 * One JSON value and nothing after it. Refused: deeper than JSON_DEPTH_MAX,
 * text that is not UTF-8, and a zero byte, escaped or not, which a C string
 * cannot hold. 0 and *out, which the caller owns; -EINVAL with the reason in
 * *why (static; why may be NULL).
 */
int json_parse(
    const char *text, size_t len, cJSON **out, const char **why) MUST_CHECK;

/*
 * The text of an object with one member set to a value that is JSON already:
 * replaced where it stands, else added behind the last one in the same
 * layout. 0; -EINVAL if the text is no object, or names the member in an
 * escaped form.
 */
int json_set_member(const char *text, size_t len, const char *key,
    const char *value, struct buf *out) MUST_CHECK;

/*
 * The text of a member's value within the text of an object, which is known
 * to be JSON; NULL if there is none of that name.
 */
const char *json_member_text(
    const char *text, size_t len, const char *key, size_t *value_len);

#endif
