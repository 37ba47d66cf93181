/* SPDX-License-Identifier: MIT */
#include "common/secret.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "common/log.h"

struct digest_stream {
	EVP_MD_CTX *ctx;
};

void
digest_of(const void *data, size_t len, struct digest *out)
{
	(void)SHA256(data, len, out->bytes);
}

struct digest_stream *
digest_stream_new(void)
{
	struct digest_stream *s = malloc(sizeof(*s));

	if (s == NULL || (s->ctx = EVP_MD_CTX_new()) == NULL ||
	    EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) != 1)
		fatalx("cannot begin a digest");
	return s;
}

void
digest_stream_add(struct digest_stream *s, const void *data, size_t len)
{
	if (EVP_DigestUpdate(s->ctx, data, len) != 1)
		fatalx("cannot compute a digest");
}

void
digest_stream_end(struct digest_stream *s, struct digest *out)
{
	if (EVP_DigestFinal_ex(s->ctx, out->bytes, NULL) != 1)
		fatalx("cannot end a digest");
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

bool
digest_equal(const struct digest *a, const struct digest *b)
{
	return CRYPTO_memcmp(a->bytes, b->bytes, DIGEST_LEN) == 0;
}

void
digest_of_client_key(const char *key, size_t len, struct digest *out)
{
	static const char domain[] = "fairlead client key";
	struct digest_stream *s = digest_stream_new();

	digest_stream_add(s, domain, sizeof(domain));
	digest_stream_add(s, key, len);
	digest_stream_end(s, out);
}

void
secret_wipe(void *p, size_t len)
{
	OPENSSL_cleanse(p, len);
}

void
secret_free(char *s)
{
	if (s == NULL)
		return;
	secret_wipe(s, strlen(s));
	free(s);
}

void
random_bytes(void *p, size_t len)
{
	if (getrandom(p, len, 0) != (ssize_t)len)
		fatalx("cannot read random bytes");
}
