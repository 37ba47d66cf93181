/* SPDX-License-Identifier: MIT */
/* The canonical form of a model's name; see model_name.h. */
#include "common/model_name.h"

#include <string.h>

#include "common/unicode.h"

struct model_name
model_name_split(struct span name)
{
	struct model_name split = { .key = unicode_trim(name) };
	struct span whole = split.key;
	struct span cut;
	const char *paren;

	if (whole.len == 0 || whole.p[whole.len - 1] != ')')
		return split;
	paren = memrchr(whole.p, '(', whole.len);
	if (paren == NULL)
		return split;
	cut = unicode_trim((struct span){ whole.p, (size_t)(paren - whole.p) });
	if (cut.len == 0)
		return split;
	split.key = cut;
	split.suffix.p = paren;
	split.suffix.len = (size_t)(whole.p + whole.len - paren);
	return split;
}
