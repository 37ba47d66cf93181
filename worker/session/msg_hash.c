/* SPDX-License-Identifier: MIT */
/* The message hash; see msg_hash.h. */
#include "worker/session/msg_hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* FNV-1a, 64 bits: offset basis and prime. */
#define FNV_OFFSET UINT64_C(14695981039346656037)
#define FNV_PRIME  UINT64_C(1099511628211)

static uint64_t
fnv1a(uint64_t hash, const char *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		hash ^= (unsigned char)bytes[i];
		hash *= FNV_PRIME;
	}
	return hash;
}

void
msg_text_append(struct msg_text *text, const char *bytes, size_t len)
{
	size_t room = MSG_TEXT_BYTES - text->len;

	if (len > room)
		len = room;
	memcpy(text->bytes + text->len, bytes, len);
	text->len += (uint8_t)len;
}

static uint64_t
hash_roles(const struct msg_texts *texts, int end)
{
	static const char *const labels[MSG_ROLES] = {
		[MSG_SYSTEM] = "sys:",
		[MSG_USER] = "usr:",
		[MSG_ASSISTANT] = "ast:",
	};
	uint64_t hash = FNV_OFFSET;
	int role;

	for (role = 0; role < end; role++) {
		if (texts->of[role].len == 0)
			continue;
		hash = fnv1a(hash, labels[role], strlen(labels[role]));
		hash = fnv1a(hash, texts->of[role].bytes, texts->of[role].len);
		hash = fnv1a(hash, "\n", 1);
	}
	return hash;
}

uint64_t
msg_hash(const struct msg_texts *texts)
{
	return hash_roles(texts, MSG_ROLES);
}

uint64_t
msg_hash_short(const struct msg_texts *texts)
{
	return hash_roles(texts, MSG_ASSISTANT);
}

void
msg_hash_format(uint64_t hash, char hex[MSG_HASH_BYTES])
{
	(void)snprintf(hex, MSG_HASH_BYTES, "%016" PRIx64, hash);
}
