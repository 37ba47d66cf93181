/* SPDX-License-Identifier: MIT */
#include "common/spares.h"

#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
enum { KEEP = 0 };
#else
enum { KEEP = SPARES_MAX };
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
	if (block != NULL && s->n < KEEP)
		s->block[s->n++] = block;
	else
		free(block);
}
