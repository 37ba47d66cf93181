/* SPDX-License-Identifier: MIT */
#include "common/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "common/attr.h"
#include "common/log.h"
#include "common/str.h"

struct digest_stream {
	EVP_MD_CTX *ctx;
};

/*
 * OpenSSL 3 looks an algorithm up by name at each use and allocates for it;
 * fetched once, a digest of a few bytes costs a quarter of that.
 */
static const EVP_MD *
sha256(void)
{
	static EVP_MD *md;

	if (md == NULL && (md = EVP_MD_fetch(NULL, "SHA256", NULL)) == NULL)
		fatalx("cannot find SHA-256");
	return md;
}

/* The pieces together, in a context that is kept from use to use. */
static void
digest_pieces(const struct span *pieces, size_t n, struct digest *out)
{
	static EVP_MD_CTX *ctx;
	bool done;
	size_t i;

	if (ctx == NULL && (ctx = EVP_MD_CTX_new()) == NULL)
		fatalx("cannot begin a digest");
	done = EVP_DigestInit_ex2(ctx, sha256(), NULL) == 1;
	for (i = 0; i < n; i++)
		done = done &&
		       EVP_DigestUpdate(ctx, pieces[i].p, pieces[i].len) == 1;
	if (!done || EVP_DigestFinal_ex(ctx, out->bytes, NULL) != 1)
		fatalx("cannot compute a digest");
}

void
digest_of(const void *data, size_t len, struct digest *out)
{
	const struct span whole = { data, len };

	digest_pieces(&whole, 1, out);
}

struct digest_stream *
digest_stream_new(void)
{
	struct digest_stream *s = malloc(sizeof(*s));

	if (s == NULL || (s->ctx = EVP_MD_CTX_new()) == NULL ||
	    EVP_DigestInit_ex2(s->ctx, sha256(), NULL) != 1)
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
	const struct span pieces[] = { { domain, sizeof(domain) },
		{ key, len } };

	digest_pieces(pieces, ARRAY_LEN(pieces), out);
}

int
base64_decode(
    const char *p, size_t len, char *out, size_t size, size_t *out_len)
{
	size_t padding = 0;
	int n;

	if (len == 0 || len % 4 != 0 || len / 4 * 3 > size)
		return -EINVAL;
	n = EVP_DecodeBlock(
	    (unsigned char *)out, (const unsigned char *)p, (int)len);
	if (n < 0)
		return -EINVAL;
	/* EVP_DecodeBlock() counts the padding as bytes. */
	while (padding < 2 && p[len - 1 - padding] == '=')
		padding++;
	*out_len = (size_t)n - padding;
	return 0;
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

static int
refuse_password(
    char *buf UNUSED, int size UNUSED, int writing UNUSED, void *ctx UNUSED)
{
	return -1;
}

static EVP_PKEY *
read_rsa_key(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = NULL;

	if (bio == NULL)
		return NULL;
	/* Without a callback an encrypted key would ask the terminal. */
	key = PEM_read_bio_PrivateKey(bio, NULL, refuse_password, NULL);
	BIO_free(bio);
	if (key != NULL && EVP_PKEY_is_a(key, "RSA") != 1) {
		EVP_PKEY_free(key);
		key = NULL;
	}
	return key;
}

int
sign_rs256(const char *pem, const void *data, size_t data_len,
    uint8_t sig[SIGNATURE_MAX], size_t *len)
{
	EVP_PKEY *key = read_rsa_key(pem);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool done;

	*len = SIGNATURE_MAX;
	done = key != NULL && ctx != NULL &&
	       EVP_DigestSignInit_ex(
		   ctx, NULL, "SHA256", NULL, NULL, key, NULL) == 1 &&
	       EVP_DigestSign(ctx, sig, len, data, data_len) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return done ? 0 : -EINVAL;
}
