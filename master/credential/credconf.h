/* SPDX-License-Identifier: MIT */
/*
 * The keys that stand in the configuration, as credentials with ids that stay
 * the same for as long as the key and where it leads do.
 */
#ifndef FL_MASTER_CREDENTIAL_CREDCONF_H
#define FL_MASTER_CREDENTIAL_CREDCONF_H

#include "common/config.h"
#include "master/credential/credential.h"

/* Takes over one reference. */
typedef void credconf_fn(void *ctx, struct credential *c);

/*
 * Calls fn for every key of every section, in the order of the sections and
 * of the file. An id is kind:HASH, the hash being the first 12 hexadecimal
 * digits of SHA-256 over the kind and then, each behind a zero byte and
 * without blanks at its ends:
 *
 *	claude:apikey, codex:apikey,    key, base-url, proxy-url, prefix,
 *	gemini:apikey                   sorted headers as name:value
 *	vertex:apikey                   key, base-url, proxy-url
 *	openai-compatibility:NAME       key, base-url, proxy-url;
 *	                                without keys base-url alone
 *
 * What comes out equal gets -1, -2, ... in the order of the file. So models,
 * priority, weight and exclusions can change without a new id.
 *
 * With discover-models those that have a list to ask for and no models of
 * their own name it: each key has its own, a compat section one for all.
 */
void credconf_each(const struct config *config, credconf_fn *fn, void *ctx);

#endif
