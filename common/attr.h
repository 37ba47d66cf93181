/* SPDX-License-Identifier: MIT */
/*
 * Compiler attributes that state a contract: a result that must be looked
 * at, a printf-like argument list, and locals that clean up after
 * themselves.
 */
#ifndef FL_COMMON_ATTR_H
#define FL_COMMON_ATTR_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MUST_CHECK       __attribute__((warn_unused_result))
#define PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define NORETURN         __attribute__((noreturn))
#define UNUSED           __attribute__((unused))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline void
cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void
cleanup_close(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void
cleanup_fclose(FILE **file)
{
	if (*file != NULL)
		(void)fclose(*file);
}

#define AUTO_FREE   __attribute__((cleanup(cleanup_free)))
#define AUTO_CLOSE  __attribute__((cleanup(cleanup_close)))
#define AUTO_FCLOSE __attribute__((cleanup(cleanup_fclose)))

#endif
