/* SPDX-License-Identifier: MIT */
#include "common/spares.h"

#include <stdbool.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
static const bool keep = false;
#else
static const bool keep = true;
#endif

void
spares_init(struct spares *s, size_t size)
{
	s->size = size;
	s->n = 0;
}

void
spares_fini(struct spares *s)
{
	while (s->n > 0)
		free(s->block[--s->n]);
}

void *
spares_get(struct spares *s)
{
	return s->n > 0 ? s->block[--s->n] : malloc(s->size);
}

void
spares_put(struct spares *s, void *block)
{
	if (keep && block != NULL && s->n < SPARES_MAX)
		s->block[s->n++] = block;
	else
		free(block);
}
