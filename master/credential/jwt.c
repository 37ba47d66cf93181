/* SPDX-License-Identifier: MIT */
/* JSON Web Tokens, read and made; see jwt.h. */
#include "master/credential/jwt.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/attr.h"
#include "common/buf.h"
#include "common/secret.h"
#include "master/credential/json_text.h"

/* base64url (RFC 4648 section 5). */
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			     "abcdefghijklmnopqrstuvwxyz"
			     "0123456789-_";

/* -1 for what is none. */
static int
digit(char c)
{
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

/* Without padding, as tokens have it. */
static void
encode(struct buf *out, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t bits = 0;
	unsigned nbits = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		bits = bits << 8 | p[i];
		for (nbits += 8; nbits >= 6; nbits -= 6)
			buf_putc(out, digits[bits >> (nbits - 6) & 63]);
	}
	if (nbits > 0)
		buf_putc(out, digits[bits << (6 - nbits) & 63]);
}

static void
encode_header(struct buf *out, const char *key_id)
{
	struct buf json = BUF_INIT(4096);

	buf_puts(&json, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
	if (key_id != NULL) {
		buf_puts(&json, ",\"kid\":");
		buf_json_string(&json, key_id, strlen(key_id));
	}
	buf_putc(&json, '}');
	encode(out, json.data, json.len);
	buf_fini(&json);
}

int
jwt_sign(const char *claims, const char *key_id, const char *pem, char **out)
{
	struct buf token = BUF_INIT(64 * 1024);
	uint8_t sig[SIGNATURE_MAX];
	size_t len;
	int rc;

	encode_header(&token, key_id);
	buf_putc(&token, '.');
	encode(&token, claims, strlen(claims));
	rc = sign_rs256(pem, token.data, token.len, sig, &len);
	if (rc == 0) {
		buf_putc(&token, '.');
		encode(&token, sig, len);
		rc = token.failed ? -EINVAL : 0;
	}
	if (rc == 0)
		*out = xstrdup(buf_string(&token));
	secret_wipe(token.data, token.len);
	buf_fini(&token);
	return rc;
}
