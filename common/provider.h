/* SPDX-License-Identifier: MIT */
/*
 * The providers: one row each, with what a credential of that type speaks,
 * where its upstream is and how it is authorised (design of the table in
 * fairlead-internals(7)). Code asks the row and never the name.
 */
#ifndef FL_COMMON_PROVIDER_H
#define FL_COMMON_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The protocols that clients and upstreams speak. */
enum dialect {
	DIALECT_OPENAI,    /* chat completions, and what shares its shape */
	DIALECT_RESPONSES, /* OpenAI Responses */
	DIALECT_CLAUDE,    /* Anthropic Messages */
	DIALECT_GEMINI,    /* generateContent */
	DIALECT_MAX
};

/* "openai", "responses", "claude", "gemini": logs and labels of metrics. */
const char *dialect_name(enum dialect d);

#define DIALECT_BIT(d) ((uint8_t)(1u << (d)))

/* What is asked of an upstream; a row of a provider maps it to a path. */
enum operation {
	OPERATION_CHAT,
	OPERATION_COMPLETIONS,
	OPERATION_EMBEDDINGS,
	OPERATION_RESPONSES,
	OPERATION_COMPACT,
	OPERATION_MESSAGES,
	OPERATION_COUNT_TOKENS,
	OPERATION_GENERATE,
	OPERATION_STREAM_GENERATE,
	OPERATION_GEMINI_COUNT,
	OPERATION_MAX
};

enum provider_id {
	PROVIDER_CLAUDE,
	PROVIDER_CODEX,
	PROVIDER_GEMINI,
	PROVIDER_VERTEX,
	PROVIDER_COMPAT, /* from here on no section of API keys of its own */
	PROVIDER_KIMI,
	PROVIDER_XAI,
	PROVIDER_MAX
};

enum auth_kind { AUTH_NONE, AUTH_API_KEY, AUTH_OAUTH };

/* How a header carries the secret. */
enum auth_style {
	AUTH_STYLE_BEARER,
	AUTH_STYLE_X_API_KEY,
	AUTH_STYLE_X_GOOG_API_KEY
};

enum oauth_encoding { OAUTH_FORM, OAUTH_JSON };

/*
 * How a token is refreshed (RFC 6749 section 6), where neither the file nor
 * the configuration says otherwise. NULL: not known.
 */
struct provider_oauth {
	const char *token_endpoint;
	const char *client_id; /* of the installed application, public */
	const char *scope;
	enum oauth_encoding encoding;
	int64_t lead_ms; /* before the token expires */
};

struct provider {
	enum provider_id id;
	const char *name;       /* "claude"; the type of files */
	const char *section;    /* key of the configuration, or NULL */
	const char *base_key;   /* default base URL with an API key */
	const char *base_oauth; /* default base URL with a token */
	uint8_t dialects;       /* DIALECT_BIT of what it always speaks */
	enum auth_style style_key;
	enum auth_style style_oauth;
	const char *oauth_beta; /* joined to anthropic-beta, or NULL */
	struct provider_oauth oauth;
	const char *paths[OPERATION_MAX]; /* %s: model; NULL: not served */
	const char *listing; /* path of the list of models, or NULL */
};

/* The header that carries a secret, and what stands before it there. */
struct auth_header {
	const char *name;
	const char *prefix;
};

const struct auth_header *auth_header_get(enum auth_style style);

const struct provider *provider_get(enum provider_id id);

/* By the type of a credential file, any case; NULL if there is none. */
const struct provider *provider_find(const char *name);

#endif
