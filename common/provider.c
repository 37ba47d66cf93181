/* SPDX-License-Identifier: MIT */
#include "common/provider.h"

#include <strings.h>

#define MINUTES(n) ((n)*INT64_C(60) * 1000)
#define HOURS(n)   MINUTES((n)*60)
#define DAYS(n)    HOURS((n)*24)

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
		.oauth = {
			"https://platform.claude.com/v1/oauth/token",
			"9d1c250a-e61b-44d9-88ed-5944d1962f5e",
			NULL, OAUTH_JSON, HOURS(4),
		},
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
		.oauth = {
			"https://auth.openai.com/oauth/token",
			"app_EMoamEEZ73f0CkXaXp7hrann",
			"openid profile email", OAUTH_FORM, DAYS(5),
		},
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
		.oauth = {
			"https://oauth2.googleapis.com/token",
			NULL, NULL, OAUTH_FORM, MINUTES(5),
		},
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
		.oauth = {
			"https://oauth2.googleapis.com/token",
			NULL, NULL, OAUTH_FORM, MINUTES(5),
		},
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
	[PROVIDER_KIMI] = {
		.id = PROVIDER_KIMI,
		.name = "kimi",
		.base_key = "https://api.kimi.com/coding/v1",
		.base_oauth = "https://api.kimi.com/coding/v1",
		.dialects = DIALECT_BIT(DIALECT_OPENAI),
		.style_key = AUTH_STYLE_BEARER,
		.style_oauth = AUTH_STYLE_BEARER,
		.oauth = {
			"https://auth.kimi.com/api/oauth/token",
			"17e5f671-d194-4dfb-9706-5516cb48c098",
			NULL, OAUTH_FORM, MINUTES(5),
		},
		.paths = { [OPERATION_CHAT] = "/chat/completions" },
	},
	[PROVIDER_XAI] = {
		.id = PROVIDER_XAI,
		.name = "xai",
		.base_key = "https://api.x.ai/v1",
		.base_oauth = "https://api.x.ai/v1",
		.dialects = DIALECT_BIT(DIALECT_OPENAI) |
			    DIALECT_BIT(DIALECT_RESPONSES),
		.style_key = AUTH_STYLE_BEARER,
		.style_oauth = AUTH_STYLE_BEARER,
		.oauth = {
			"https://auth.x.ai/oauth2/token",
			"b1a00492-073a-47ea-816f-4c329264a828",
			NULL, OAUTH_FORM, MINUTES(5),
		},
		.paths = {
			[OPERATION_CHAT] = "/chat/completions",
			[OPERATION_RESPONSES] = "/responses",
		},
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

static const char *const dialect_names[DIALECT_MAX] = {
	[DIALECT_OPENAI] = "openai",
	[DIALECT_RESPONSES] = "responses",
	[DIALECT_CLAUDE] = "claude",
	[DIALECT_GEMINI] = "gemini",
};

const char *
dialect_name(enum dialect d)
{
	return d < DIALECT_MAX ? dialect_names[d] : "";
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
