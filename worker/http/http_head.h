/* SPDX-License-Identifier: MIT */
/*
 * A strict parser of HTTP/1.1 request heads (RFC 9112) over a contiguous
 * buffer of the caller's. It copies nothing and allocates nothing: a head is
 * a set of offsets into that buffer. It decides how the message is framed,
 * and refuses everything over which two parsers could disagree. It does not
 * match routes, decode paths or read bodies.
 */
#ifndef FL_WORKER_HTTP_HTTP_HEAD_H
#define FL_WORKER_HTTP_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/str.h"

enum { HTTP_HEAD_FIELDS = 128 };

enum http_method {
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_OPTIONS,
	HTTP_PATCH,
	HTTP_TRACE,
	HTTP_CONNECT,
	HTTP_METHOD_OTHER
};

/* Every outcome above HTTP_HEAD_MORE is answered and the connection closed. */
enum http_head_result {
	HTTP_HEAD_DONE,
	HTTP_HEAD_MORE,     /* not all of it is there yet */
	HTTP_HEAD_BAD,      /* 400 */
	HTTP_HEAD_VERSION,  /* 505: another major version of HTTP */
	HTTP_HEAD_CODING,   /* 501: a transfer coding that is not chunked */
	HTTP_HEAD_TOO_LARGE /* 431: more fields than HTTP_HEAD_FIELDS */
};

/* A run of bytes of the head, by its place. */
struct http_ref {
	uint32_t at;
	uint32_t len;
};

struct http_field {
	struct http_ref value;
	uint32_t name_at;
	uint16_t name_len;
	uint16_t tag; /* tells most names apart without reading them */
};

/*
 * Valid after HTTP_HEAD_DONE. Refs and the accessors below are read against
 * `base`, the buffer of the last http_head_parse(); a caller that moves the
 * bytes sets base to their new place.
 */
struct http_head {
	const char *base;
	const char *error;      /* a static phrase: why the head was refused */
	size_t size;            /* bytes of the head, with its last CRLF */
	int64_t content_length; /* -1: none */
	enum http_method method;
	uint8_t minor; /* 0 or 1; a higher minor version counts as 1 */
	bool chunked;
	bool keep_alive;      /* the client lets the connection stay open */
	bool expect_continue; /* wants an interim 100 before the body */
	bool websocket;       /* a GET that asks to upgrade to websocket */
	bool has_host;
	struct http_ref verb;   /* the method as sent */
	struct http_ref target; /* as sent, in whichever form */
	struct http_ref path;   /* of the target, undecoded; may be empty */
	struct http_ref query;  /* after the '?', which is not part of it */
	uint32_t count;
	struct http_field fields[HTTP_HEAD_FIELDS];

	/* Private: where an unfinished head goes on. */
	uint32_t line;    /* start of the unfinished line */
	uint32_t scanned; /* no LF lies before, from line on */
	uint16_t seen;    /* fields that may come once, as bits */
	uint8_t phase;
};

void http_head_init(struct http_head *h);

/*
 * Reads the head at the start of buf. On HTTP_HEAD_MORE the caller appends
 * and calls again with the same bytes in front, at any address; nothing is
 * read twice. The result does not depend on how the bytes came in pieces.
 * What follows the head in buf (h->size) is the body or the next request.
 *
 * The caller bounds the head with the size of its buffer: a full buffer and
 * HTTP_HEAD_MORE is a 431. len is below 4 GB.
 *
 * Refused with HTTP_HEAD_BAD (RFC 9112 unless said otherwise): a bare LF or
 * CR (2.2), more than one empty line in front, white space that is not one
 * space in the request line (3), a target that is not visible ASCII, holds a
 * fragment, or has neither origin nor absolute form (3.2; "*" goes with
 * OPTIONS), user information in it, Host missing on 1.1, repeated or not a
 * host (3.2), an empty name, a space before the colon (5.1), a folded line
 * (5.2), a control character in a value, Content-Length that is repeated,
 * listed or not digits (6.3), Content-Length beside Transfer-Encoding,
 * Transfer-Encoding on HTTP/1.0, repeated, or with chunked twice or not at
 * the end (6.1).
 */
enum http_head_result
http_head_parse(struct http_head *h, const char *buf, size_t len) MUST_CHECK;

/* The status that answers a result above HTTP_HEAD_MORE. */
int http_head_status(enum http_head_result result);

/*
 * The index of the first field of that name (lower case, any case in the
 * head) at or after `from`, -1 when there is none. "a-b" is not "a_b".
 */
int http_head_find(const struct http_head *h, const char *name, int from);

/* The value of the first such field, trimmed; .p is NULL when there is none. */
struct span http_head_get(const struct http_head *h, const char *name);

/* Whether any field of that name lists the token, any case (RFC 9110 5.6.1). */
bool
http_head_lists(const struct http_head *h, const char *name, struct span token);

/* "/" for the empty path of an absolute target (RFC 9112 3.2.1). */
struct span http_head_path(const struct http_head *h);

static inline struct span
http_head_span(const struct http_head *h, struct http_ref ref)
{
	return (struct span){ h->base + ref.at, ref.len };
}

static inline struct span
http_head_name(const struct http_head *h, int i)
{
	const struct http_field *f = &h->fields[i];

	return (struct span){ h->base + f->name_at, f->name_len };
}

static inline struct span
http_head_value(const struct http_head *h, int i)
{
	return http_head_span(h, h->fields[i].value);
}

/* The rules of field lines (RFC 9110 5.6.2 and 5.5), shared with trailers. */
bool http_is_token(const char *p, size_t len);
bool http_is_field_value(const char *p, size_t len);

#endif
