/* SPDX-License-Identifier: MIT */
/*
 * What each client dialect looks like on the wire when fairlead itself
 * speaks: error bodies, error events inside a stream, pings, and the head
 * under which a stream is opened. One row per dialect. How answers of
 * upstreams are read is dialect_stream.h.
 */
#ifndef FL_WORKER_DIALECT_DIALECT_H
#define FL_WORKER_DIALECT_DIALECT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/provider.h"
#include "common/str.h"

enum { DIALECT_MESSAGE_MAX = 2048 };

/*
 * An error as told to a client. Whatever is NULL or empty is derived from
 * the status. message and code may hold any bytes; they are escaped, invalid
 * UTF-8 is replaced, and a message is cut to DIALECT_MESSAGE_MAX bytes.
 */
struct dialect_error {
	int status;        /* of HTTP, 400 to 599 */
	const char *code;  /* "model_cooldown"; OpenAI and Responses show it */
	const char *type;  /* "rate_limit_error"; not shown by Gemini */
	const char *param; /* OpenAI: the member at fault */
	const char *message;    /* NULL: the phrase of the status */
	const char *request_id; /* Claude shows it */
};

/* Of the head of a stream that we open ourselves. */
const char *dialect_stream_type(void);

/*
 * Bytes that keep a stream alive and that every known client of the dialect
 * ignores. Only to be sent where sse_at_boundary() says so.
 */
struct span dialect_keepalive(enum dialect d);

/* "Too Many Requests"; "OK" below 400, "Error" for one without a phrase. */
const char *dialect_status_phrase(int status);

/*
 * Copies a message, cut at its limit, with what looks like secrets left out.
 * The bytes of it; it is not terminated.
 */
size_t
dialect_clean_message(const char *message, char clean[DIALECT_MESSAGE_MAX]);

/*
 * Appends the JSON body of an error in the shape of the dialect, without a
 * line end (fairlead-internals(7), "Errors").
 */
void dialect_error_body(
    struct buf *b, enum dialect d, const struct dialect_error *e);

/*
 * Appends the event that ends a stream with an error. Nothing may follow it:
 * OpenAI gets no [DONE]. `sequence` is the sequence_number of Responses, one
 * above the last one sent. `codex`: the client is Codex, which knows an error
 * only as response.failed, and gives up for good on the code
 * server_is_overloaded, which is therefore never written to it.
 */
void dialect_error_event(struct buf *b, enum dialect d,
    const struct dialect_error *e, uint64_t sequence, bool codex);

/*
 * The HTTP status that an error of an upstream stands for, by what it says of
 * itself: a status as a number, else its code, type or status name, else a
 * phrase of its message. Any may be "". 502 when nothing is known.
 */
int dialect_error_status(const char *code, const char *type, const char *status,
    const char *message);

/*
 * The code itself, or what Codex is told in place of a code after which it
 * does not try again (codex 0.169.0). NULL stays NULL.
 */
const char *dialect_code_for_codex(const char *code);

/* Whether these header values (.p may be NULL) are those of a Codex client. */
bool dialect_client_is_codex(struct span user_agent, struct span originator);

#endif
