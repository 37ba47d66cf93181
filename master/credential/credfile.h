/* SPDX-License-Identifier: MIT */
/*
 * Credential files: JSON of the form that such gateways share, read into a
 * credential, and the one thing that is written back by hand, `disabled`. It
 * does not know what the file said before.
 */
#ifndef FL_MASTER_CREDENTIAL_CREDFILE_H
#define FL_MASTER_CREDENTIAL_CREDFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "common/attr.h"
#include "common/buf.h"
#include "master/credential/credential.h"

enum {
	CREDFILE_BYTES_MAX = 1 << 20,
	CREDFILE_IGNORED = 1 /* of a type that is not served */
};

/*
 * Whether a name in auth-dir is that of a credential file: it ends in
 * ".json" in lower case, does not begin with a dot, and is UTF-8 without
 * control characters. That it is a regular file, or a link to one, shows
 * when it is opened.
 */
bool credfile_is_name(const char *name);

/*
 * Reads a file of the directory. 0 with its text and, in *st, what it is;
 * -ENOENT: there is none, or it is no regular file; -EFBIG beyond
 * CREDFILE_BYTES_MAX; other negative errno.
 */
int credfile_read(
    int dirfd, const char *name, struct buf *text, struct stat *st) MUST_CHECK;

/*
 * Makes a credential of a file's text; its id is the name. 0 and *out, one
 * reference; CREDFILE_IGNORED; -EINVAL for a file that cannot be used. Unless
 * it is 0 without remarks, `why` says what is the matter, in one line that
 * goes on from the file's name and holds no secret.
 */
int credfile_parse(const char *name, const char *text, size_t len,
    struct credential **out, struct buf *why) MUST_CHECK;

/*
 * Makes the new text of a file from its old one. 0; a positive outcome of the
 * caller's or a negative errno, and then nothing is written.
 */
typedef int credfile_edit_fn(void *ctx, const struct buf *was, struct buf *now);

/*
 * Reads a file, has it edited and replaces it (see atomic_file.h), once more
 * if somebody else has changed it meanwhile. One edit at a time, from any
 * thread. 0, and *text is what the file holds now; what `edit` said; or
 * negative errno. Unless it is 0 the file is as it was.
 */
int credfile_edit(const char *dir, const char *name, credfile_edit_fn *edit,
    void *ctx, struct buf *text) MUST_CHECK;

/* Empties a buffer that held the text of one, and wipes it. */
void credfile_wipe(struct buf *text);

/* Writes `disabled` into a file; all other bytes stay. As credfile_edit(). */
int credfile_set_disabled(const char *dir, const char *name, bool disabled,
    struct buf *text) MUST_CHECK;

#endif
