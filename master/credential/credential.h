/* SPDX-License-Identifier: MIT */
/*
 * A credential as the master knows it: what its file or its section of the
 * configuration says, checked and with the provider's defaults filled in. It
 * is never changed once it is made, and shared by count. Where it stands on
 * the board is entry.h's business.
 */
#ifndef FL_MASTER_CREDENTIAL_CREDENTIAL_H
#define FL_MASTER_CREDENTIAL_CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/provider.h"
#include "common/secret.h"

enum credential_source { CREDENTIAL_FROM_FILE, CREDENTIAL_FROM_CONFIG };

struct credential {
	unsigned refs;
	char *id; /* file name, or kind:hash; public */
	char *label;
	char *provider_name; /* of a compat section its name */
	const struct provider *provider;
	enum credential_source source;
	enum auth_kind auth;
	enum auth_style auth_style;
	uint8_t dialects;
	const char *fault; /* why it cannot serve at all, static; or NULL */

	bool disabled;    /* its file or its section says so */
	bool refreshable; /* has a refresh token or a service account, which
			   * are not kept here */
	bool signs;       /* a service account: its tokens are in no file */
	int priority;
	int weight;
	int request_retry; /* -1: inherit */
	enum tristate disable_cooling;
	int64_t expires_ms; /* of the token, Unix time; 0: unknown or never */
	int64_t last_refresh_ms;     /* likewise */
	int64_t refresh_interval_ms; /* as its file asks for; 0: not said */
	struct digest refresh_token;
	struct digest identity; /* of its file but for `disabled`; what a final
				 * refusal is remembered under */

	char *base_url;   /* without a trailing slash; may be "" */
	char *proxy_url;  /* as written; may be "" */
	char *secret;     /* API key or access token; may be "" */
	char *account_id; /* or "" */
	char *prefix;     /* or "" */
	char *catalog;    /* section of the catalogue that it serves; or "" */
	char *listing;    /* likewise, of what its upstream lists; or "" */
	struct header_rules headers;
	struct model_rules models;  /* exactly these; none: the catalogue's */
	struct model_rules aliases; /* its own, before the provider's */
	struct str_list excluded;   /* its own patterns */
	struct error_rules errors;  /* of its section */
};

/* The fault of one that lacks nothing but an access token. */
extern const char credential_no_token[];

/* One reference, every string "", and what the provider says of `auth`. */
struct credential *credential_new(
    const struct provider *provider, enum auth_kind auth, const char *id);
struct credential *credential_ref(struct credential *c);

/* A copy with another access token that expires then (Unix time). */
struct credential *credential_with_token(
    const struct credential *c, const char *token, int64_t expires_ms);

void credential_unref(struct credential *c);

/* Replaces a string of a credential under construction; NULL means "". */
void credential_set(char **field, const char *value);

void credential_add_header(
    struct credential *c, const char *name, const char *value);
void model_rules_add(
    struct model_rules *rules, const char *name, const char *alias, bool fork);
void str_list_add(struct str_list *list, const char *s);

/* Deep copies into an empty list. */
void
header_rules_copy(struct header_rules *to, const struct header_rules *from);
void model_rules_copy(struct model_rules *to, const struct model_rules *from);
void str_list_copy(struct str_list *to, const struct str_list *from);
void error_rules_copy(struct error_rules *to, const struct error_rules *from);

/*
 * The section of the catalogue for a provider and, for Codex, the plan of the
 * account; NULL or an unknown plan is the largest. "" for a provider that has
 * none.
 */
const char *credential_catalog(enum provider_id provider, const char *plan);

#endif
