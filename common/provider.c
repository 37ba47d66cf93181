/* SPDX-License-Identifier: MIT */
#include "common/provider.h"

#include <strings.h>

#define GEMINI_PATHS(root)                                                     \
	[OPERATION_GENERATE] = root "/%s:generateContent",                     \
	[OPERATION_STREAM_GENERATE] = root "/%s:streamGenerateContent",        \
	[OPERATION_GEMINI_COUNT] = root "/%s:countTokens"

static const struct provider providers[PROVIDER_MAX] = {
	[PROVIDER_CLAUDE] = {
		.id = PROVIDER_CLAUDE,
		.name = "claude",
		.section = "claude-api-key",
		.base_key = "https://api.anthropic.com",
		.base_oauth = "https://api.anthropic.com",
		.dialects = DIALECT_BIT(DIALECT_CLAUDE),
		.style_key = AUTH_STYLE_X_API_KEY,
		.style_oauth = AUTH_STYLE_BEARER,
		.oauth_beta = "oauth-2025-04-20",
		.paths = {
			[OPERATION_MESSAGES] = "/v1/messages",
			[OPERATION_COUNT_TOKENS] = "/v1/messages/count_tokens",
		},
		.listing = "/v1/models?limit=1000",
	},
	[PROVIDER_CODEX] = {
		.id = PROVIDER_CODEX,
		.name = "codex",
		.section = "codex-api-key",
		.base_key = "",
		.base_oauth = "https://chatgpt.com/backend-api/codex",
		.dialects = DIALECT_BIT(DIALECT_RESPONSES),
		.style_key = AUTH_STYLE_BEARER,
		.style_oauth = AUTH_STYLE_BEARER,
		.paths = {
			[OPERATION_RESPONSES] = "/responses",
			[OPERATION_COMPACT] = "/responses/compact",
		},
		.listing = "/models",
	},
	[PROVIDER_GEMINI] = {
		.id = PROVIDER_GEMINI,
		.name = "gemini",
		.section = "gemini-api-key",
		.base_key = "https://generativelanguage.googleapis.com",
		.base_oauth = "https://generativelanguage.googleapis.com",
		.dialects = DIALECT_BIT(DIALECT_GEMINI),
		.style_key = AUTH_STYLE_X_GOOG_API_KEY,
		.style_oauth = AUTH_STYLE_BEARER,
		.paths = { GEMINI_PATHS("/v1beta/models") },
		.listing = "/v1beta/models?pageSize=1000",
	},
	[PROVIDER_VERTEX] = {
		.id = PROVIDER_VERTEX,
		.name = "vertex",
		.section = "vertex-api-key",
		.base_key = "https://aiplatform.googleapis.com",
		.base_oauth = "",
		.dialects = DIALECT_BIT(DIALECT_GEMINI),
		.style_key = AUTH_STYLE_X_GOOG_API_KEY,
		.style_oauth = AUTH_STYLE_BEARER,
		.paths = { GEMINI_PATHS("/v1/publishers/google/models") },
	},
	[PROVIDER_COMPAT] = {
		.id = PROVIDER_COMPAT,
		.name = "openai-compatibility",
		.section = "openai-compatibility",
		.base_key = "",
		.base_oauth = "",
		.dialects = DIALECT_BIT(DIALECT_OPENAI),
		.style_key = AUTH_STYLE_BEARER,
		.style_oauth = AUTH_STYLE_BEARER,
		.paths = {
			[OPERATION_CHAT] = "/chat/completions",
			[OPERATION_COMPLETIONS] = "/completions",
			[OPERATION_EMBEDDINGS] = "/embeddings",
			[OPERATION_RESPONSES] = "/responses",
			[OPERATION_COMPACT] = "/responses/compact",
		},
		.listing = "/models",
	},
};

static const struct auth_header auth_headers[] = {
	[AUTH_STYLE_BEARER] = { "authorization", "Bearer " },
	[AUTH_STYLE_X_API_KEY] = { "x-api-key", "" },
	[AUTH_STYLE_X_GOOG_API_KEY] = { "x-goog-api-key", "" },
};

const struct auth_header *
auth_header_get(enum auth_style style)
{
	return &auth_headers[style];
}

const struct provider *
provider_get(enum provider_id id)
{
	return &providers[id];
}

const struct provider *
provider_find(const char *name)
{
	size_t i;

	for (i = 0; i < PROVIDER_MAX; i++) {
		if (strcasecmp(providers[i].name, name) == 0)
			return &providers[i];
	}
	return NULL;
}
