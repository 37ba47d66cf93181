/* SPDX-License-Identifier: MIT */
/*
 * Which session a request belongs to: one ordered table of the signals that
 * clients send, headers and body fields, down to the message hash and the
 * derived identity. The first valid one wins. Pure: reads headers and facts,
 * knows neither bindings nor the client's scope.
 */
#ifndef FL_WORKER_SESSION_SESSION_H
#define FL_WORKER_SESSION_SESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "common/str.h"
#include "worker/http/http_head.h"
#include "worker/session/facts.h"

/* An explicit value longer than this, trimmed, is no session. */
#define SESSION_VALUE_BYTES 256

/* Prefix, colon, value, terminator. */
#define SESSION_ID_BYTES (16 + SESSION_VALUE_BYTES)

/* An id shortened for logs, with the terminator. */
#define SESSION_SHORT_BYTES 24

struct session_id {
	/*
	 * What the id was taken from, for people: "header x-session-id",
	 * "body prompt_cache_key", "message hash", "derived"; and what the id
	 * begins with, before the colon: "header", "pck", "msg", "derived".
	 * Static; NULL: nothing identifies the session.
	 */
	const char *source;
	const char *prefix;

	/* "prefix:value", or "". */
	char id[SESSION_ID_BYTES];

	/*
	 * A second id of the same session whose binding is inherited when id
	 * has none, or "": the conversation of a prompt cache key, the short
	 * form of a message hash.
	 */
	char alias[SESSION_ID_BYTES];

	/*
	 * The id of the session that this one was started by, as a sub-agent,
	 * or "". It is another session: where that one is served, this one
	 * begins.
	 */
	char parent[SESSION_ID_BYTES];
};

/*
 * Find the session of a request. facts is NULL for a request without a body
 * (or one that was not FACTS_OK). True: session is filled. False: nothing
 * identifies a session, and session is all empty.
 */
bool session_find(struct session_id *session, const struct http_head *head,
    const struct facts *facts);

/*
 * An explicit value in normal form: invalid with a control character
 * (U+0000-1F, 7F-9F) anywhere, white space (Unicode's) trimmed, invalid when
 * empty or longer than SESSION_VALUE_BYTES. The part of value that counts; an
 * empty span when it is invalid.
 */
struct span session_value_normalize(struct span value);

/*
 * An id as logs show it: whole up to 20 bytes, else its first 8 bytes and
 * "..."; bytes that are no UTF-8, those of a cut character included, as '?'.
 */
void session_id_shorten(const char *id, char shortened[SESSION_SHORT_BYTES]);

#endif
