/* SPDX-License-Identifier: MIT */
/* The rows of common/settings.def as data. */
#include "common/config_table.h"

#define STRING                   &config_string_type, NULL
#define URL                      &config_url_type, NULL
#define PREFIX                   &config_prefix_type, NULL
#define ENCODING                 &config_encoding_type, NULL
#define BOOL                     &config_bool_type, NULL
#define TRISTATE                 &config_tristate_type, NULL
#define INT                      &config_int_type, NULL
#define WEIGHT                   &config_weight_type, NULL
#define INT64                    &config_int64_type, NULL
#define DURATION                 &config_duration_type, NULL
#define LEAD                     &config_lead_type, NULL
#define SIZE                     &config_size_type, NULL
#define LEVEL                    &config_level_type, NULL
#define STRATEGY                 &config_strategy_type, NULL
#define ACTION                   &config_action_type, NULL
#define LIST                     &config_list_type, NULL
#define CLIENT_KEYS              &config_client_keys_type, NULL
#define HEADERS                  &config_headers_type, NULL
#define PER_PROVIDER_LIST        &config_per_provider_type, NULL
#define TABLE(name)              &config_table_type, &name##_table
#define PER_PROVIDER(name)       &config_per_provider_type, &name##_table
#define PER_PROVIDER_GROUP(name) &config_per_provider_group_type, &name##_table

#define SECRET  CONFIG_SECRET
#define PRIVATE CONFIG_PRIVATE

/* The rows of nested tables: the row that owns the table has the effect. */
#define MODEL_ENTRY(key, type, field, def, min, max, flags)                    \
	{ key, type, offsetof(struct model_rule, field), def, min, max,        \
		CONFIG_EFFECT_NONE, flags },
static const struct config_row model_rows[] = {
#include "common/settings.def"
};
static const struct config_table model_table = { model_rows,
	ARRAY_LEN(model_rows), sizeof(struct model_rule), 0 };

#define ALIAS_ENTRY(key, type, field, def, min, max, flags)                    \
	{ key, type, offsetof(struct model_rule, field), def, min, max,        \
		CONFIG_EFFECT_NONE, flags },
static const struct config_row alias_rows[] = {
#include "common/settings.def"
};
static const struct config_table alias_table = { alias_rows,
	ARRAY_LEN(alias_rows), sizeof(struct model_rule), 0 };

#define ERROR_ENTRY(key, type, field, def, min, max, flags)                    \
	{ key, type, offsetof(struct error_rule, field), def, min, max,        \
		CONFIG_EFFECT_NONE, flags },
static const struct config_row error_rows[] = {
#include "common/settings.def"
};
static const struct config_table error_table = { error_rows,
	ARRAY_LEN(error_rows), sizeof(struct error_rule), 0 };

#define COMPAT_KEY_ENTRY(key, type, field, def, min, max, flags)               \
	{ key, type, offsetof(struct key_entry, field), def, min, max,         \
		CONFIG_EFFECT_NONE, flags },
static const struct config_row compat_key_rows[] = {
#include "common/settings.def"
};
static const struct config_table compat_key_table = { compat_key_rows,
	ARRAY_LEN(compat_key_rows), sizeof(struct key_entry),
	offsetof(struct key_entry, line) };

#define KEY_ENTRY(key, type, field, def, min, max, flags)                      \
	{ key, type, offsetof(struct key_entry, field), def, min, max,         \
		CONFIG_EFFECT_NONE, flags },
static const struct config_row key_rows[] = {
#include "common/settings.def"
};
static const struct config_table key_table = { key_rows, ARRAY_LEN(key_rows),
	sizeof(struct key_entry), offsetof(struct key_entry, line) };

#define COMPAT_ENTRY(key, type, field, def, min, max, flags)                   \
	{ key, type, offsetof(struct compat_section, field), def, min, max,    \
		CONFIG_EFFECT_NONE, flags },
static const struct config_row compat_rows[] = {
#include "common/settings.def"
};
static const struct config_table compat_table = { compat_rows,
	ARRAY_LEN(compat_rows), sizeof(struct compat_section),
	offsetof(struct compat_section, line) };

#define OAUTH_ENTRY(key, type, field, def, min, max, flags)                    \
	{ key, type, offsetof(struct oauth_settings, field), def, min, max,    \
		CONFIG_EFFECT_NONE, flags },
static const struct config_row oauth_rows[] = {
#include "common/settings.def"
};
static const struct config_table oauth_table = { oauth_rows,
	ARRAY_LEN(oauth_rows), sizeof(struct oauth_settings), 0 };

#define SETTING(key, type, field, def, min, max, effect, flags)                \
	{ key, type, offsetof(struct config, field), def, min, max,            \
		CONFIG_EFFECT_##effect, flags },
static const struct config_row config_rows[] = {
#include "common/settings.def"
};
const struct config_table config_settings = { config_rows,
	ARRAY_LEN(config_rows), sizeof(struct config), 0 };
