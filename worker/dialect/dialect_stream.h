/* SPDX-License-Identifier: MIT */
/*
 * Reads the answer of an upstream as it passes, frame by frame: whether a
 * frame is a preface that may still be thrown away, content, the end, or an
 * error inside HTTP 200; and what it says of tokens. Nothing of the answer is
 * kept but a few short strings and numbers; frames of any size are read in
 * pieces, in constant memory. It does not forward, cut or change a byte.
 */
#ifndef FL_WORKER_DIALECT_DIALECT_STREAM_H
#define FL_WORKER_DIALECT_DIALECT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/provider.h"
#include "common/str.h"
#include "worker/dialect/token_count.h"
#include "worker/http/sse.h"
#include "worker/json/json_watch.h"

/* How the body is framed; asked by its content type. */
enum dialect_framing {
	DIALECT_SSE, /* text/event-stream */
	DIALECT_JSON /* one object, or an array of them (Gemini without alt) */
};

/*
 * Once content was told, OpenAI and Gemini frames that hold nothing are told
 * as content too.
 */
enum dialect_class {
	DIALECT_PREFACE,  /* may be held back and thrown away */
	DIALECT_CONTENT,  /* the caller sees something of the answer */
	DIALECT_TERMINAL, /* the answer is complete; frames may still follow */
	DIALECT_ERROR     /* the upstream failed inside its 200 */
};

enum dialect_result {
	DIALECT_MORE, /* all bytes are read, no frame ended */
	DIALECT_FRAME /* a verdict */
};

enum {
	DIALECT_CODE_MAX = 64,
	DIALECT_TEXT_MAX = 256,
	/* A frame longer than this is told before its end: it is content. */
	DIALECT_LOOKAHEAD = 8192
};

/*
 * The verdict over one frame. The strings are those of an error, unescaped,
 * cut if long, and valid until the next call.
 */
struct dialect_frame {
	enum dialect_class class;
	bool complete;    /* false: the frame goes on, and is told again */
	int status;       /* DIALECT_ERROR: the HTTP status it stands for */
	const char *code; /* "" if it gave none */
	const char *type;
	const char *message;
	int64_t delay_ms;    /* to stay away, as an error asks; -1: none */
	int64_t resets_at_s; /* Unix time, as an error gave it; -1: none */
};

/* Private, but for reading the sequence. */
struct dialect_stream {
	enum dialect dialect;
	enum dialect_framing framing;
	uint64_t sequence; /* Responses: one above the last sequence_number */
	bool finished;     /* the terminal event was seen */
	bool failed;       /* an error was told */
	bool passed;       /* content was told by the data of a frame */
	bool begun;        /* data of the current frame was read */
	bool ended;   /* the frame was told: forget it with the next byte */
	bool told;    /* the frame was told before its end */
	bool walking; /* its data is worth reading */
	uint8_t head_len;
	char head[16];     /* the first bytes of its data: [DONE] is no JSON */
	uint32_t data_len; /* of the frame so far; stops at the lookahead */
	struct sse sse;
	struct json_watch watch;
	struct token_count count;       /* of the answer so far */
	struct token_count frame_count; /* of the frame at hand */
	char kind[32];
	char number[24];
	char delay[32];
	char quota_delay[32];
	char resets_at[24];
	char status[32];
	char code[DIALECT_CODE_MAX];
	char type[DIALECT_CODE_MAX];
	char message[DIALECT_TEXT_MAX];
};

void dialect_stream_init(
    struct dialect_stream *st, enum dialect d, enum dialect_framing framing);

/*
 * Reads the next bytes of the body (decoded from its transfer coding) up to
 * and including the end of a frame; *used is how many. To be called until it
 * says DIALECT_MORE. With DIALECT_JSON a frame is an object of the outer
 * array, or the whole document.
 */
enum dialect_result
dialect_stream_next(struct dialect_stream *st, const char *buf, size_t len,
    size_t *used, struct dialect_frame *f) MUST_CHECK;

/*
 * Whether an end of the body here is the end of a whole answer: the terminal
 * event was seen and no error after it. OpenAI: [DONE], or a chunk with a
 * finish_reason. Gemini: a chunk with a finishReason, or a blocked prompt. A
 * client that leaves after it got what it wanted.
 */
bool dialect_stream_complete(const struct dialect_stream *st);

/*
 * The tokens that the answer has told of until now; false: of none. Of a
 * stream that breaks off that is less than were used.
 */
bool dialect_stream_tokens(const struct dialect_stream *st, struct tokens *out);

/* Whether keep-alive bytes or an error event may be inserted here. */
bool dialect_stream_at_boundary(const struct dialect_stream *st);

#endif
