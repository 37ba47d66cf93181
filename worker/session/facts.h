/* SPDX-License-Identifier: MIT */
/*
 * What the worker needs to know of a request body, found in the one pass that
 * also validates it as JSON: model, stream, the places where an edit goes, the
 * session signals and the texts of the message hash. It copes with members in
 * any order. It does no I/O, allocates nothing, and takes no decision about
 * the request: which dialect it is and what is missing is the caller's matter.
 */
#ifndef FL_WORKER_SESSION_FACTS_H
#define FL_WORKER_SESSION_FACTS_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/json/json.h"
#include "worker/session/msg_hash.h"

#define FACTS_MODEL_BYTES 512

enum facts_outcome {
	FACTS_OK,
	FACTS_NOT_JSON,   /* breaks RFC 8259 or RFC 3629 at error_at */
	FACTS_NOT_OBJECT, /* valid, but no object at the top */
	FACTS_DUPLICATE,  /* `model` or `stream` twice at the top */
	FACTS_TOO_DEEP,   /* more than JSON_MAX_DEPTH levels */
};

/*
 * The values facts_read finds, each at its first occurrence; JSON_NONE when
 * absent. Only the members of the top-level object count, and the named
 * members of `metadata`, `request` and `conversation`.
 */
enum facts_field {
	FACTS_MODEL,
	FACTS_STREAM,
	FACTS_STORE,
	FACTS_USER_ID,            /* metadata.user_id */
	FACTS_SESSION_ID,         /* session_id */
	FACTS_SESSION_ID_CAMEL,   /* sessionId */
	FACTS_REQUEST_SESSION_ID, /* request.session_id */
	FACTS_PROMPT_CACHE_KEY,
	FACTS_PROMPT_CACHE_KEY_CAMEL, /* promptCacheKey */
	FACTS_CONVERSATION,           /* conversation.id or a string */
	FACTS_CONVERSATION_ID,
	FACTS_PREVIOUS_RESPONSE_ID,
	FACTS_MESSAGES,
	FACTS_SYSTEM,
	FACTS_CONTENTS,
	FACTS_SYSTEM_INSTRUCTION,       /* systemInstruction */
	FACTS_SYSTEM_INSTRUCTION_SNAKE, /* system_instruction */
	FACTS_CACHED_CONTENT,           /* cachedContent */
	FACTS_CACHED_CONTENT_SNAKE,     /* cached_content */
	FACTS_INSTRUCTIONS,
	FACTS_INPUT,
	FACTS_FIELDS,
};

enum facts_stream {
	FACTS_STREAM_ABSENT,
	FACTS_STREAM_FALSE,
	FACTS_STREAM_TRUE,
	FACTS_STREAM_OTHER, /* neither true nor false: null, 1, "true" */
};

/*
 * About 2 KB. It points into the body, which must stay in place, unchanged,
 * for as long as the facts are used. The name of the model is its own copy.
 */
struct facts {
	const char *body;
	size_t body_len;
	size_t error_at;       /* of FACTS_NOT_JSON, FACTS_TOO_DEEP */
	const char *duplicate; /* of FACTS_DUPLICATE: the name, static */

	/*
	 * Members are inserted at `inside`, the offset behind the opening
	 * brace; with a comma after them unless the object is empty.
	 */
	size_t inside;
	bool empty;

	/*
	 * The model's name, decoded and terminated: "" when it is absent, no
	 * string, empty, longer than FACTS_MODEL_BYTES or holds a NUL. To
	 * rewrite it replace field[FACTS_MODEL], quotes included.
	 */
	char model[FACTS_MODEL_BYTES + 1];
	size_t model_len;
	enum facts_stream stream;

	struct json_value field[FACTS_FIELDS];

	/*
	 * Of the items of a Responses `input`: what identifies the last
	 * compaction (its encrypted content, or else its id; JSON_NONE: there
	 * is none), and whether any reasoning has encrypted content.
	 */
	struct json_value compaction;
	bool sealed_reasoning;

	/* Private: see facts_message_texts. */
	struct msg_texts messages;
	struct msg_text system;
	struct msg_texts gemini;
	struct msg_text instructions;
	struct msg_texts responses;
};

/*
 * Fill facts from body[0..len). On any outcome but FACTS_OK only the members
 * that explain the outcome are meaningful. Design 2.3.
 */
enum facts_outcome
facts_read(struct facts *facts, const char *body, size_t len);

/*
 * The texts of the message hash, by the precedence of the formats:
 * `messages`, top-level `system`, Gemini, Responses. False: the body yields no
 * hash (no system and no user text; or a string `input`, whose requests would
 * otherwise all share the hash of their instructions).
 */
bool facts_message_texts(const struct facts *facts, struct msg_texts *texts);

/*
 * Whether an item of a Responses `input`, a JSON text of its own, is
 * reasoning with encrypted content.
 */
bool facts_item_is_sealed_reasoning(const char *item, size_t len);

/*
 * The text of a field as lenient readers take it (json_text): at most cap
 * bytes, cap + 1 when it is longer.
 */
size_t facts_text(
    const struct facts *facts, enum facts_field field, char *buf, size_t cap);

#endif
