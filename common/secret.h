/* SPDX-License-Identifier: MIT */
/*
 * Digests, and comparing and forgetting what is secret. The only file that
 * knows the crypto library.
 */
#ifndef FL_COMMON_SECRET_H
#define FL_COMMON_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"

enum { DIGEST_LEN = 32 };

struct digest {
	uint8_t bytes[DIGEST_LEN];
};

/* SHA-256 in one go. */
void digest_of(const void *data, size_t len, struct digest *out);

/* SHA-256 piece by piece. */
struct digest_stream;
struct digest_stream *digest_stream_new(void);
void digest_stream_add(struct digest_stream *s, const void *data, size_t len);
/* Writes the digest and frees the stream. */
void digest_stream_end(struct digest_stream *s, struct digest *out);

/* Takes the same time wherever the first difference is. */
bool digest_equal(const struct digest *a, const struct digest *b);

/* The digest of a client key, which is all that workers are given. */
void digest_of_client_key(const char *key, size_t len, struct digest *out);

/*
 * Base64 with padding (RFC 4648 section 4), as Basic credentials come. 0 with
 * *out_len, or -EINVAL for what is none or has no room in size bytes.
 */
int base64_decode(const char *p, size_t len, char *out, size_t size,
    size_t *out_len) MUST_CHECK;

/*
 * Signs with an RSA private key in PEM, as RS256 (RFC 7518 section 3.3). 0
 * and the signature in sig, its length in *len; -EINVAL for a key that is
 * none, or whose signatures are longer than SIGNATURE_MAX.
 */
enum { SIGNATURE_MAX = 1024 };
int sign_rs256(const char *pem, const void *data, size_t data_len,
    uint8_t sig[SIGNATURE_MAX], size_t *len);

/* Overwrites what the compiler would otherwise leave in place. */
void secret_wipe(void *p, size_t len);

/* Wipes and frees a string; NULL is fine. */
void secret_free(char *s);

/* Random bytes for request ids and incarnations. */
void random_bytes(void *p, size_t len);

#endif
