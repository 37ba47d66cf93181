/* SPDX-License-Identifier: MIT */
#include "common/utf8.h"

#include <stdbool.h>
#include <string.h>

/* Lead byte range, length, and the range of the second byte. */
static const struct form {
	unsigned char lead_min, lead_max;
	unsigned char len;
	unsigned char second_min, second_max;
} forms[] = {
	{ 0x00, 0x7f, 1, 0x00, 0x00 },
	{ 0xc2, 0xdf, 2, 0x80, 0xbf },
	{ 0xe0, 0xe0, 3, 0xa0, 0xbf },
	{ 0xe1, 0xec, 3, 0x80, 0xbf },
	{ 0xed, 0xed, 3, 0x80, 0x9f },
	{ 0xee, 0xef, 3, 0x80, 0xbf },
	{ 0xf0, 0xf0, 4, 0x90, 0xbf },
	{ 0xf1, 0xf3, 4, 0x80, 0xbf },
	{ 0xf4, 0xf4, 4, 0x80, 0x8f },
};

static bool
matches(const struct form *f, const unsigned char *p)
{
	size_t i;

	if (f->len > 1 && (p[1] < f->second_min || p[1] > f->second_max))
		return false;
	for (i = 2; i < f->len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return false;
	}
	return true;
}

size_t
utf8_sequence(const unsigned char *p, size_t len)
{
	const struct form *f;

	if (len == 0)
		return 0;
	for (f = forms; f < forms + sizeof(forms) / sizeof(forms[0]); f++) {
		if (p[0] < f->lead_min || p[0] > f->lead_max)
			continue;
		return len >= f->len && matches(f, p) ? f->len : 0;
	}
	return 0;
}

void
utf8_mend(char *text)
{
	size_t len = strlen(text);
	size_t n;

	while (len > 0) {
		n = utf8_sequence((const unsigned char *)text, len);
		if (n == 0) {
			*text = '?';
			n = 1;
		}
		text += n;
		len -= n;
	}
}
