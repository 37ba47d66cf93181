/* SPDX-License-Identifier: MIT */
/* White space and control characters in UTF-8 text; see unicode.h. */
#include "common/unicode.h"

#include <string.h>

/* White space beyond ASCII: bytes before the last, range of the last. */
static const struct space {
	const char *head;
	unsigned char first;
	unsigned char last;
} spaces[] = {
	{ "\xc2", 0x85, 0x85 },
	{ "\xc2", 0xa0, 0xa0 },
	{ "\xe1\x9a", 0x80, 0x80 },
	{ "\xe2\x80", 0x80, 0x8a },
	{ "\xe2\x80", 0xa8, 0xa9 },
	{ "\xe2\x80", 0xaf, 0xaf },
	{ "\xe2\x81", 0x9f, 0x9f },
	{ "\xe3\x80", 0x80, 0x80 },
};

static bool
is_ascii_space(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_space(struct span s)
{
	size_t i, head_len;
	unsigned char last;

	if (s.len == 1)
		return is_ascii_space((unsigned char)s.p[0]);
	last = (unsigned char)s.p[s.len - 1];
	for (i = 0; i < ARRAY_LEN(spaces); i++) {
		head_len = strlen(spaces[i].head);
		if (s.len == head_len + 1 &&
		    memcmp(s.p, spaces[i].head, head_len) == 0 &&
		    last >= spaces[i].first && last <= spaces[i].last)
			return true;
	}
	return false;
}

/* The length of the white space character that text begins with, or 0. */
static size_t
space_at_start(struct span text)
{
	size_t n;

	for (n = 1; n <= 3 && n <= text.len; n++) {
		if (is_space((struct span){ text.p, n }))
			return n;
	}
	return 0;
}

static size_t
space_at_end(struct span text)
{
	size_t n;

	for (n = 1; n <= 3 && n <= text.len; n++) {
		if (is_space((struct span){ text.p + text.len - n, n }))
			return n;
	}
	return 0;
}

struct span
unicode_trim(struct span text)
{
	size_t n;

	while ((n = space_at_start(text)) > 0) {
		text.p += n;
		text.len -= n;
	}
	while ((n = space_at_end(text)) > 0)
		text.len -= n;
	return text;
}

bool
unicode_has_control(struct span text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	size_t i;

	for (i = 0; i < text.len; i++) {
		if (p[i] < 0x20 || p[i] == 0x7f)
			return true;
		if (p[i] == 0xc2 && i + 1 < text.len && p[i + 1] >= 0x80 &&
		    p[i + 1] <= 0x9f)
			return true;
	}
	return false;
}
