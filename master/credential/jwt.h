/* SPDX-License-Identifier: MIT */
/*
 * The claims of a JSON Web Token, read and not verified: they only describe
 * the account whose token it is.
 */
#ifndef FL_MASTER_CREDENTIAL_JWT_H
#define FL_MASTER_CREDENTIAL_JWT_H

#include <cjson/cJSON.h>

/* An object that the caller owns; NULL if it is no JWT (RFC 7519). */
cJSON *jwt_claims(const char *token);

#endif
