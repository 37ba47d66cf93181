/* SPDX-License-Identifier: MIT */
/*
 * The configuration: a struct that is either whole and checked or does not
 * exist. What can be set, with type, default, range and meaning, is one row
 * each in common/settings.def; this struct has a field for every row.
 */
#ifndef FL_COMMON_CONFIG_H
#define FL_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/provider.h"
#include "common/secret.h"

struct str_list {
	char **v;
	size_t n;
};

/* "Name: value" of a headers group, in the order of the file. */
struct header_rule {
	char *name;
	char *value;
};

struct header_rules {
	struct header_rule *v;
	size_t n;
};

/* models = ( { name; alias; } ) and oauth-model-alias rows. */
struct model_rule {
	char *name;
	char *alias; /* never NULL: the name where none was given */
	bool fork;   /* oauth-model-alias: keep the original name too */
};

struct model_rules {
	struct model_rule *v;
	size_t n;
};

/* What overrides whether an upstream's error is the request's own fault. */
enum error_action {
	ERROR_ACTION_STOP,
	ERROR_ACTION_STOP_AND_COOLDOWN,
	ERROR_ACTION_CONTINUE,
	ERROR_ACTION_CONTINUE_AND_COOLDOWN
};

struct error_rule {
	int status;            /* 0: any */
	struct str_list match; /* substrings of the body */
	struct str_list match_regex;
	enum error_action action;
};

struct error_rules {
	struct error_rule *v;
	size_t n;
};

enum tristate { TRI_UNSET = -1, TRI_FALSE = 0, TRI_TRUE = 1 };

/* One credential of a *-api-key section or an api-key-entries row. */
struct key_entry {
	char *api_key; /* secret; may be "" */
	char *base_url;
	char *proxy_url;
	int priority;
	int weight;
	char *prefix;
	struct header_rules headers;
	struct model_rules models;
	struct str_list excluded_models;
	struct error_rules errors;
	enum tristate disable_cooling;
	int request_retry; /* -1: inherit */
	int line;          /* of the configuration file */
};

struct key_entries {
	struct key_entry *v;
	size_t n;
};

struct compat_section {
	char *name;
	char *base_url;
	bool disabled;
	bool responses; /* the upstream also speaks /responses */
	int priority;
	char *prefix;
	struct header_rules headers;
	struct model_rules models;
	struct str_list excluded_models;
	struct error_rules errors;
	enum tristate disable_cooling;
	int request_retry;       /* -1: inherit */
	struct key_entries keys; /* only api_key, proxy_url, weight are set */
	int line;
};

struct compat_sections {
	struct compat_section *v;
	size_t n;
};

struct client_keys {
	struct digest *v;
	size_t n;
};

struct oauth_settings {
	char *token_endpoint;
	char *client_id;
	char *client_secret; /* secret */
	int64_t lead_ms;     /* -1: the provider's own */
	char *encoding;      /* "form", "json" or "" */
};

enum strategy_id {
	STRATEGY_ROUND_ROBIN,
	STRATEGY_WEIGHTED,
	STRATEGY_FILL_FIRST,
	STRATEGY_SESSION_HASH,
	STRATEGY_MAX
};

struct config {
	/* listening */
	struct str_list listen;
	char *admin_listen;
	int workers; /* resolved: never 0 */
	char *user, *group;
	char *state_dir, *runtime_dir;

	/* what there is to serve */
	char *auth_dir;
	char *models_file;
	bool auth_dir_given, models_file_given; /* not defaults */
	bool discover_models;

	/* who may use it */
	struct client_keys client_keys;
	bool allow_anonymous;
	char *admin_key; /* secret */

	struct {
		enum log_level level;
		char *file, *access_file, *usage_file;
	} log;

	struct {
		int64_t body, bodies_total, header, connections;
		int64_t header_timeout_ms, body_timeout_ms, idle_timeout_ms;
		int64_t upstream_connect_timeout_ms;
		int64_t first_byte_timeout_ms, stream_idle_timeout_ms;
		int64_t drain_timeout_ms;
	} limits;

	char *proxy_url;
	int request_retry, max_retry_credentials, max_attempts;
	int64_t max_retry_interval_ms;
	bool disable_cooling;
	int64_t transient_error_cooldown_ms, cooldown_max_ms;
	bool force_model_prefix, passthrough_headers;
	int auth_auto_refresh_workers;
	int64_t keepalive_interval_ms; /* 0: off */

	struct {
		enum strategy_id strategy;
		bool session_affinity; /* the deprecated alias is OR-ed in */
		bool claude_code_session_affinity;
		int64_t session_affinity_ttl_ms, session_affinity_wait_ms;
		int64_t max_sessions;
		bool hard_pins;
	} routing;

	/* credentials; PROVIDER_COMPAT has its own shape */
	struct key_entries keys[PROVIDER_COMPAT];
	struct compat_sections compat;

	/* per provider type, for credential files */
	struct oauth_settings oauth[PROVIDER_MAX];
	struct model_rules oauth_alias[PROVIDER_MAX];
	struct str_list oauth_excluded[PROVIDER_MAX];
	struct error_rules oauth_errors[PROVIDER_MAX];
	struct error_rules errors; /* of the configuration's own keys */
};

/* Every error and warning that a load found, in the order of the file. */
struct config_report {
	struct buf errors;   /* lines "FILE:LINE: what" */
	struct buf warnings; /* likewise */
	size_t nerrors, nwarnings;
};

void config_report_init(struct config_report *r);
void config_report_fini(struct config_report *r);

/*
 * Reads and checks a file (NULL for path and a descriptor: a snapshot). 0
 * and *out; or -EINVAL with *out NULL and the reasons in the report, where
 * all errors stand, not only the first. Relative file names of @include are
 * relative to the file.
 */
int config_load(const char *path, struct config **out,
    struct config_report *report) MUST_CHECK;
int config_load_fd(
    int fd, struct config **out, struct config_report *report) MUST_CHECK;
void config_free(struct config *config);

enum config_dump_kind {
	CONFIG_DUMP_PEOPLE, /* every secret is "***" */
	CONFIG_DUMP_WORKER  /* no credential sections, no OAuth, no admin
			     * secrets beyond admin-key; client keys as
			     * digests "sha256:HEX", which config_load reads */
};

/* As a file that config_load() reads back to the same settings. */
void config_dump(
    const struct config *config, enum config_dump_kind kind, struct buf *out);

/* What a change of a setting asks for on reload, from the settings table. */
enum config_effect {
	CONFIG_EFFECT_NONE = 0,
	CONFIG_EFFECT_MASTER = 1,  /* the master applies it */
	CONFIG_EFFECT_WORKERS = 2, /* a new generation of workers */
	CONFIG_EFFECT_RESTART = 4  /* cannot change on reload: refused there */
};

/*
 * The effects of replacing old by new, OR-ed; for each changed setting calls
 * changed (which may be NULL) with its key and both values as text, secrets
 * as "***".
 */
unsigned config_diff(const struct config *old, const struct config *new,
    void (*changed)(void *ctx, const char *key, const char *old_value,
	const char *new_value),
    void *ctx);

/*
 * Whether a URL may be a token endpoint: https, or plain http to a loopback
 * address, because refresh tokens travel there.
 */
bool config_endpoint_is_safe(const char *url);

/* The effects of a change of that setting, by its key; 0 if unknown. */
unsigned config_effect_of(const char *key);

#endif
