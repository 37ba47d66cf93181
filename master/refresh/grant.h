/* SPDX-License-Identifier: MIT */
/*
 * One refresh as bytes: the request that a credential file makes (RFC 6749
 * section 6, or RFC 7523 section 2.1 for a service account), what the answer
 * says, and the file's text with the new tokens in it. It asks nobody and
 * writes nothing.
 */
#ifndef FL_MASTER_REFRESH_GRANT_H
#define FL_MASTER_REFRESH_GRANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/config.h"
#include "common/provider.h"
#include "master/fetch.h"

/* All of it is secret but the URL. */
struct grant {
	char *url;
	char *body;
	char *refresh_token; /* "" for a service account */
	enum oauth_encoding encoding;
};

/*
 * Makes a request of a file's text. A file's own token_endpoint, client_id
 * and client_secret come before the configuration's, and these before the
 * provider's. 0; or -EINVAL with the reason in *why, static.
 */
int grant_make(const struct provider *provider,
    const struct oauth_settings *settings, const char *text, size_t len,
    int64_t now_s, struct grant *grant, const char **why) MUST_CHECK;
void grant_fini(struct grant *grant);

enum grant_end {
	GRANT_TOKENS, /* there are new tokens */
	GRANT_LOGIN,  /* refused for good: somebody has to log in */
	GRANT_FAILED, /* refused or not reached: later, with the same token */
	GRANT_LOST    /* the token may be used up, and nobody knows */
};

struct grant_answer {
	enum grant_end end;
	char reason[80]; /* for people, unless there are tokens */
	int64_t wait_ms; /* how long it asks to be left alone; 0: not said */

	/* Secret; "" for what the answer does not hold. */
	char *access_token, *refresh_token, *id_token;
	int64_t expires_in_s; /* 0: not said */
};

void grant_read(
    const struct fetch_answer *answer, int64_t now_s, struct grant_answer *out);
void grant_answer_fini(struct grant_answer *answer);

/*
 * The text of a file with the new tokens in place of the old, wherever they
 * stand; every other byte stays. 0 or -EINVAL.
 */
int grant_merge(const char *text, size_t len, const struct grant_answer *answer,
    int64_t now_s, struct buf *out) MUST_CHECK;

/* Whether the text of a file holds exactly this refresh token. */
bool grant_is_of(const char *text, size_t len, const char *refresh_token);

#endif
