/* SPDX-License-Identifier: MIT */
#include "common/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

static void *
checked(void *p)
{
	if (p == NULL)
		fatalx("out of memory");
	return p;
}

void *
xmalloc(size_t size)
{
	return checked(malloc(size != 0 ? size : 1));
}

void *
xcalloc(size_t count, size_t size)
{
	return checked(calloc(count != 0 ? count : 1, size != 0 ? size : 1));
}

void *
xreallocarray(void *p, size_t count, size_t size)
{
	if (count == 0)
		count = 1;
	return checked(reallocarray(p, count, size));
}

char *
xstrdup(const char *s)
{
	return checked(strdup(s));
}

char *
xstrndup(const char *s, size_t max_len)
{
	return checked(strndup(s, max_len));
}

char *
xasprintf(const char *fmt, ...)
{
	char *s;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return checked(n < 0 ? NULL : s);
}

void
xgrow(void *array, size_t *cap, size_t count, size_t size)
{
	void *p;

	if (count < *cap)
		return;
	*cap = *cap != 0 ? *cap * 2 : 8;
	memcpy(&p, array, sizeof(p));
	p = xreallocarray(p, *cap, size);
	memcpy(array, &p, sizeof(p));
}
