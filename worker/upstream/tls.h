/* SPDX-License-Identifier: MIT */
/*
 * TLS to providers (1.2 and later), on a non-blocking descriptor of the
 * caller's. The provider's certificate and name are always verified. The only
 * file of the worker that knows the TLS library.
 */
#ifndef FL_WORKER_UPSTREAM_TLS_H
#define FL_WORKER_UPSTREAM_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/attr.h"

/* The library's own types, which nobody looks into. */
struct ssl_st;
struct ssl_session_st;

struct tls_client;

/* What a step needs to go on, beside 0 (done). */
enum tls_result {
	TLS_DONE,
	TLS_WANT_READ,
	TLS_WANT_WRITE,
	TLS_CLOSED, /* the peer ended it as it should */
	TLS_FAILED
};

enum { TLS_WHY_MAX = 160 };

/*
 * NULL: out of memory, or the CA bundle of outbound_ca_file() cannot be read,
 * with a log line. The bundle is read again once a day.
 */
struct tls_client *tls_client_new(void) MUST_CHECK;
void tls_client_free(struct tls_client *client);

/*
 * A connection to host, an address if is_address. *session keeps what resumes
 * the next connection to the same origin; it must outlive this one and ends
 * with tls_session_free(). NULL: out of memory.
 */
struct ssl_st *tls_open(struct tls_client *client, int fd, const char *host,
    bool is_address, struct ssl_session_st **session) MUST_CHECK;

/* Says goodbye if the connection is in order; the descriptor stays. */
void tls_close(struct ssl_st *tls);

void tls_session_free(struct ssl_session_st *session);

/* On TLS_FAILED, why[TLS_WHY_MAX] says it for a log. */
enum tls_result tls_handshake(struct ssl_st *tls, char *why) MUST_CHECK;

/* As many bytes as there are, at most len; *n may be > 0 with any result. */
enum tls_result
tls_read(struct ssl_st *tls, char *buf, size_t len, size_t *n) MUST_CHECK;

/*
 * Writes from the front; a caller that could not write all of it comes again
 * with the same bytes, at any address.
 */
enum tls_result tls_write(
    struct ssl_st *tls, const char *buf, size_t len, size_t *n) MUST_CHECK;

#endif
