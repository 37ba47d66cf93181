/* SPDX-License-Identifier: MIT */
/*
 * The client side's paths: which method and path is which endpoint, in which
 * dialect, and whether a client key is asked for. A path matches literally:
 * nothing is normalised, so "/v1//messages" and "/v1/x/../messages" are not
 * found. Also the two things asked of query strings. Which credential serves
 * a model is no business of this table.
 */
#ifndef FL_WORKER_CLIENT_ROUTE_H
#define FL_WORKER_CLIENT_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attr.h"
#include "common/provider.h"
#include "common/str.h"
#include "worker/http/http_head.h"

enum { ROUTE_MODEL_MAX = 256 };

/* What answers: the forwarding machinery, or one of our own small answers. */
enum route_kind {
	ROUTE_FORWARD, /* operation and dialect say what */
	ROUTE_MODELS,  /* the list of models, in the client's shape */
	ROUTE_MODEL,   /* one of them */
	ROUTE_HEALTH,
	ROUTE_BANNER,
	ROUTE_PROBE /* 200 with an empty body */
};

enum route_result {
	ROUTE_MATCH,
	ROUTE_NOT_FOUND,   /* 404 */
	ROUTE_NOT_ALLOWED, /* 405, with m->allow */
	ROUTE_UPGRADE      /* 426: a websocket where only HTTP is spoken */
};

struct route_row {
	const char *path; /* literal, or the prefix of {id} or {id}:{method} */
	const char *suffix; /* ":generateContent"; "" a bare {id}; NULL none */
	unsigned int methods; /* bits of enum http_method */
	enum route_kind kind;
	enum dialect dialect;
	enum operation operation; /* ROUTE_FORWARD */
	bool needs_key;
	bool websocket; /* elsewhere a websocket endpoint: GET upgrade is 426 */
	bool stream;    /* the path itself asks for a stream */
};

struct route_match {
	const struct route_row *row; /* ROUTE_MATCH */
	enum dialect dialect; /* of the answer, also of one that refuses */
	char allow[48];       /* ROUTE_NOT_ALLOWED: "GET, HEAD" */
	size_t model_len;
	char model[ROUTE_MODEL_MAX]; /* {id}, decoded, terminated; else "" */
};

/*
 * Finds the endpoint of a parsed head. A Gemini model id may hold slashes,
 * plain or encoded, and colons; it is decoded strictly, and an id that is
 * empty, too long, not UTF-8, or holds a control character, a space, any of
 * "?#%\", or an empty, "." or ".." segment is ROUTE_NOT_FOUND.
 */
enum route_result
route_match(const struct http_head *h, struct route_match *m) MUST_CHECK;

/*
 * The dialect in which a request that matches no route is refused: by path,
 * else by the headers that only one dialect's clients send, else OpenAI.
 */
enum dialect route_guess_dialect(const struct http_head *h);

/*
 * Writes the query without its `key` and `auth_token` parameters, in order
 * and otherwise byte for byte, into out, which has room for query.len bytes.
 * Returns the length. Encoded forms of the names go as well.
 */
size_t route_query_strip(struct span query, char *out);

enum route_query_result {
	ROUTE_QUERY_FOUND,
	ROUTE_QUERY_ABSENT,
	ROUTE_QUERY_BAD /* a broken %XX, or longer than the buffer */
};

/*
 * The first parameter of that name, decoded (%XX, and '+' for a space) and
 * terminated.
 */
enum route_query_result route_query_get(struct span query, const char *name,
    char *out, size_t size, size_t *len) MUST_CHECK;

#endif
