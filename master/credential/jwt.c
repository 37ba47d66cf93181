/* SPDX-License-Identifier: MIT */
/* The claims of a JSON Web Token; see jwt.h. */
#include "master/credential/jwt.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "master/credential/json_text.h"

/* base64url (RFC 4648 section 5), padding or not; -1 for what is none. */
static int
digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz"
				     "0123456789-_";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

/* The decoded length, or -1; out holds len bytes at least. */
static ptrdiff_t
decode(const char *s, size_t len, char *out)
{
	uint32_t bits = 0;
	unsigned nbits = 0;
	size_t n = 0;
	size_t i;
	int value;

	while (len > 0 && s[len - 1] == '=')
		len--;
	for (i = 0; i < len; i++) {
		value = digit(s[i]);
		if (value < 0)
			return -1;
		bits = bits << 6 | (uint32_t)value;
		nbits += 6;
		if (nbits >= 8) {
			nbits -= 8;
			out[n++] = (char)(bits >> nbits & 0xff);
		}
	}
	return (ptrdiff_t)n;
}

cJSON *
jwt_claims(const char *token)
{
	const char *payload = strchr(token, '.');
	const char *end = payload != NULL ? strchr(payload + 1, '.') : NULL;
	AUTO_FREE char *text = NULL;
	cJSON *claims;
	ptrdiff_t len;

	if (end == NULL || strchr(end + 1, '.') != NULL)
		return NULL;
	payload++;
	text = xmalloc((size_t)(end - payload) + 1);
	len = decode(payload, (size_t)(end - payload), text);
	if (len < 0 || json_parse(text, (size_t)len, &claims, NULL) < 0)
		return NULL;
	if (!cJSON_IsObject(claims)) {
		cJSON_Delete(claims);
		return NULL;
	}
	return claims;
}
