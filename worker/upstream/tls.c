/* SPDX-License-Identifier: MIT */
#include "worker/upstream/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/outbound.h"
#include "common/str.h"

enum {
	HOST_MAX = 256,
	RELOAD_MS = 24 * 60 * 60 * 1000 /* a bundle is updated now and then */
};

struct tls_client {
	SSL_CTX *ctx;
	int64_t loaded_ms;
};

/* The oldest line of the error queue: what went wrong first. */
static const char *
first_error(char *why)
{
	unsigned long code = ERR_get_error();
	const char *text = ERR_reason_error_string(code);

	(void)snprintf(why, TLS_WHY_MAX, "TLS: %s",
	    text != NULL ? text : "the connection broke");
	return why;
}

/* ---- settings */

/* A ticket came. Taking the session over is told by 1. */
static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION **slot = SSL_get_app_data(ssl);

	SSL_SESSION_free(*slot);
	*slot = session;
	return 1;
}

static bool
set_up(SSL_CTX *ctx)
{
	static const unsigned char alpn[] = "\x08http/1.1";

	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	/* An intermediate in the bundle is trusted by itself. */
	(void)X509_VERIFY_PARAM_set_flags(
	    SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS |
					SSL_MODE_ENABLE_PARTIAL_WRITE |
					SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* One recv(2) for a record, not one for its five bytes of head. */
	SSL_CTX_set_read_ahead(ctx, 1);
	(void)SSL_CTX_set_session_cache_mode(
	    ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_alpn_protos(ctx, alpn, sizeof(alpn) - 1) == 0 &&
	       SSL_CTX_load_verify_file(ctx, outbound_ca_file()) == 1;
}

static SSL_CTX *
context_new(void)
{
	SSL_CTX *ctx;
	char why[TLS_WHY_MAX];

	ERR_clear_error();
	ctx = SSL_CTX_new(TLS_client_method());
	if (ctx != NULL && set_up(ctx))
		return ctx;
	log_error("cannot use the CA bundle \"%s\": %s", outbound_ca_file(),
	    first_error(why));
	SSL_CTX_free(ctx);
	return NULL;
}

struct tls_client *
tls_client_new(void)
{
	SSL_CTX *ctx = context_new();
	struct tls_client *client;

	if (ctx == NULL)
		return NULL;
	client = xcalloc(1, sizeof(*client));
	client->ctx = ctx;
	client->loaded_ms = clock_boot_ms();
	return client;
}

void
tls_client_free(struct tls_client *client)
{
	if (client == NULL)
		return;
	SSL_CTX_free(client->ctx);
	free(client);
}

/* Connections that there are keep the context they were made with. */
static void
reload_when_due(struct tls_client *client)
{
	int64_t now_ms = clock_boot_ms();
	SSL_CTX *ctx;

	if (now_ms - client->loaded_ms < RELOAD_MS)
		return;
	client->loaded_ms = now_ms;
	ctx = context_new();
	if (ctx == NULL)
		return;
	SSL_CTX_free(client->ctx);
	client->ctx = ctx;
}

/* ---- one connection */

/* The name asked for, and no other, must stand in the certificate. */
static bool
expect_host(SSL *ssl, const char *host, bool is_address)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	char name[HOST_MAX];
	size_t len;

	if (is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
	if (!str_copy(name, sizeof(name), host))
		return false;
	len = strlen(name);
	if (len > 0 && name[len - 1] == '.')
		name[len - 1] = '\0';
	X509_VERIFY_PARAM_set_hostflags(
	    param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
	       SSL_set_tlsext_host_name(ssl, name) == 1;
}

struct ssl_st *
tls_open(struct tls_client *client, int fd, const char *host, bool is_address,
    struct ssl_session_st **session)
{
	SSL *ssl;

	reload_when_due(client);
	ERR_clear_error();
	ssl = SSL_new(client->ctx);
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 ||
	    !expect_host(ssl, host, is_address)) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_app_data(ssl, session);
	if (*session != NULL)
		(void)SSL_set_session(ssl, *session);
	SSL_set_connect_state(ssl);
	return ssl;
}

void
tls_close(struct ssl_st *tls)
{
	if (tls == NULL)
		return;
	ERR_clear_error();
	if (SSL_is_init_finished(tls))
		(void)SSL_shutdown(tls);
	SSL_free(tls);
}

void
tls_session_free(struct ssl_session_st *session)
{
	SSL_SESSION_free(session);
}

static enum tls_result
result_of(SSL *ssl, int rc)
{
	switch (SSL_get_error(ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	default:
		/* It may not be used again, not even to say goodbye. */
		SSL_set_quiet_shutdown(ssl, 1);
		return TLS_FAILED;
	}
}

enum tls_result
tls_handshake(struct ssl_st *tls, char *why)
{
	enum tls_result result;
	long verified;
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(tls);
	if (rc == 1)
		return TLS_DONE;
	result = result_of(tls, rc);
	if (result != TLS_FAILED && result != TLS_CLOSED)
		return result;
	verified = SSL_get_verify_result(tls);
	if (verified != X509_V_OK)
		(void)snprintf(why, TLS_WHY_MAX, "TLS: certificate refused: %s",
		    X509_verify_cert_error_string(verified));
	else if (ERR_peek_error() == 0 && errno != 0)
		(void)snprintf(why, TLS_WHY_MAX, "TLS: %s", strerror(errno));
	else
		(void)first_error(why);
	return TLS_FAILED;
}

enum tls_result
tls_read(struct ssl_st *tls, char *buf, size_t len, size_t *n)
{
	size_t got;
	int rc = 1;

	ERR_clear_error();
	for (*n = 0; *n < len; *n += got) {
		got = 0;
		rc = SSL_read_ex(tls, buf + *n, len - *n, &got);
		if (rc != 1)
			return result_of(tls, rc);
	}
	return TLS_DONE;
}

enum tls_result
tls_write(struct ssl_st *tls, const char *buf, size_t len, size_t *n)
{
	size_t put;
	int rc;

	ERR_clear_error();
	for (*n = 0; *n < len; *n += put) {
		put = 0;
		rc = SSL_write_ex(tls, buf + *n, len - *n, &put);
		if (rc != 1)
			return result_of(tls, rc);
	}
	return TLS_DONE;
}
