/* SPDX-License-Identifier: MIT */
/*
 * JSON Web Tokens: the claims of one, read and not verified because they only
 * describe the account whose token it is, and one of our own, signed.
 */
#ifndef FL_MASTER_CREDENTIAL_JWT_H
#define FL_MASTER_CREDENTIAL_JWT_H

#include <cjson/cJSON.h>

#include "common/attr.h"

/* An object that the caller owns; NULL if it is no JWT (RFC 7519). */
cJSON *jwt_claims(const char *token);

/*
 * A token of these claims (JSON text), signed as RS256 (RFC 7515) with a
 * private key in PEM. key_id may be NULL. 0 and *out, secret and the
 * caller's; -EINVAL for a key that is none.
 */
int jwt_sign(const char *claims, const char *key_id, const char *pem,
    char **out) MUST_CHECK;

#endif
