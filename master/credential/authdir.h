/* SPDX-License-Identifier: MIT */
/*
 * auth-dir as a whole: which files there are, and the bytes each had when it
 * was last accepted, so that a touch or our own echo is known for what it is.
 */
#ifndef FL_MASTER_CREDENTIAL_AUTHDIR_H
#define FL_MASTER_CREDENTIAL_AUTHDIR_H

#include <stdbool.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/secret.h"
#include "master/credential/credential.h"
#include "master/credential/name_map.h"

/* A file whose bytes were accepted, as a credential or as none of ours. */
struct auth_file {
	char *name; /* first: the key of maps */
	struct digest digest;
};

enum auth_outcome {
	AUTH_FILE_SAME,    /* the bytes of *known */
	AUTH_FILE_GOOD,    /* a credential */
	AUTH_FILE_IGNORED, /* whole, but not served */
	AUTH_FILE_GONE,    /* there is none, or no regular file */
	AUTH_FILE_BAD      /* cannot be read or used now, or may not be */
};

struct auth_reading {
	enum auth_outcome outcome;
	struct credential *cred; /* AUTH_FILE_GOOD: one reference */
	struct digest digest;    /* of the bytes; not for GONE and BAD */
	bool exposed; /* BAD, and without a remark: group or others have a
		       * right to it */
};

/*
 * Reads one file. known: what was accepted before, NULL to look at it afresh.
 * `remark` gets what there is to say about it, if anything, in one line that
 * goes on from the name. text: room to read into, wiped afterwards.
 */
struct auth_reading authdir_read(int dirfd, const char *name,
    const struct auth_file *known, struct buf *text, struct buf *remark);

/* Puts digest under that name into a map of struct auth_file. */
void auth_files_set(
    struct name_map *files, const char *name, const struct digest *digest);
void auth_files_remove(struct name_map *files, const char *name);
void auth_files_fini(struct name_map *files);

/*
 * The names of credential files in a directory, sorted. 0, and the caller
 * frees them; or negative errno.
 */
int authdir_list(const char *dir, char ***names, size_t *n) MUST_CHECK;
/* Adds the names of known files that the sorted list has not. */
void authdir_list_add(char ***names, size_t *n, const struct name_map *files);
void authdir_list_free(char **names, size_t n);

#endif
