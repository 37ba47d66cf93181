/* SPDX-License-Identifier: MIT */
/*
 * The derived identity: who a conversation is, told by how it began, for
 * requests that name no session and yield no message hash. It reads the
 * beginning of the body a second time, so it is asked for last.
 */
#ifndef FL_WORKER_SESSION_DERIVED_H
#define FL_WORKER_SESSION_DERIVED_H

#include <stdbool.h>

#include "worker/session/facts.h"

/* "ctx:v1:" and 64 hex digits, with the terminator. */
#define DERIVED_ID_BYTES 72

/*
 * "ctx:v1:" and the SHA-256, in hex, of the beginning of the conversation in
 * facts (of a body that was FACTS_OK). The same over all turns, whatever the
 * assistant said. False: there is no user turn with content.
 *
 * What is digested, in this order; texts are decoded and ended by a byte ff,
 * which UTF-8 never holds:
 *
 *	"fairlead-session-root-1" ff, then "messages", "contents" or "input" ff
 *	'i' text ff	 for each of the instructions before the first user
 *			 turn: its text parts joined by LF, of which the first
 *			 50 code points count
 *	't' text ff	 for each text part of the first user turn; string
 *			 content is one text part
 *	'j' JSON	 for each other part of it: '{' name ff value ... '}',
 *			 '[' value ... ']', '"' text ff, or 'v' and a literal
 *			 or number as written ff
 *	'r' text ff	 for cachedContent
 *
 * Empty texts are left out, and members that clients move or add from turn to
 * turn: cache_control, internal_chat_message_metadata_passthrough. The scope
 * of the client's key is not part of it.
 */
bool derived_id(const struct facts *facts, char id[DERIVED_ID_BYTES]);

#endif
