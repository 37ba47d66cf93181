/* SPDX-License-Identifier: MIT */
/*
 * The message hash: a stable 64-bit FNV-1a over the beginnings of a
 * conversation's system prompt, first user text and first assistant text. It
 * identifies sessions of clients that name none. Finding the texts is facts'
 * matter.
 */
#ifndef FL_WORKER_SESSION_MSG_HASH_H
#define FL_WORKER_SESSION_MSG_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Only so many bytes of a text count; a character may be divided. */
#define MSG_TEXT_BYTES 100

/* 16 hex digits and the terminator. */
#define MSG_HASH_BYTES 17

struct msg_text {
	uint8_t len;
	char bytes[MSG_TEXT_BYTES];
};

enum msg_role {
	MSG_SYSTEM,
	MSG_USER,
	MSG_ASSISTANT,
	MSG_ROLES,
};

struct msg_texts {
	struct msg_text of[MSG_ROLES];
};

/* Append what still fits of bytes[0..len). */
void msg_text_append(struct msg_text *text, const char *bytes, size_t len);

/*
 * FNV-1a 64 over "sys:" system LF, "usr:" user LF, "ast:" assistant LF; an
 * empty text leaves its part out. The full hash; the short one is that of the
 * same texts without the assistant's.
 */
uint64_t msg_hash(const struct msg_texts *texts);
uint64_t msg_hash_short(const struct msg_texts *texts);

/* The hash as 16 lowercase hex digits, terminated. */
void msg_hash_format(uint64_t hash, char hex[MSG_HASH_BYTES]);

#endif
