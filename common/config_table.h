/* SPDX-License-Identifier: MIT */
/*
 * The settings table as data: rows of common/settings.def with the offset of
 * their field, and what each type can do. Private to config*.c.
 */
#ifndef FL_COMMON_CONFIG_TABLE_H
#define FL_COMMON_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libconfig.h>

#include "common/config.h"

enum config_flag { CONFIG_SECRET = 1, CONFIG_PRIVATE = 2 };

/* How values are shown: enum config_dump_kind, and as they are. */
enum { CONFIG_SHOW_EXACT = CONFIG_DUMP_WORKER + 1 };

struct config_row;

struct config_table {
	const struct config_row *rows;
	size_t n;
	size_t size;        /* of the struct that the rows fill */
	size_t line_offset; /* of its `int line`; 0: none */
};

struct config_loader {
	const char *path; /* as shown in messages */
	struct config_report *report;
};

/* Kinds of libconfig values that a scalar may be written as. */
enum { TAKES_STRING = 1, TAKES_INT = 2, TAKES_BOOL = 4 };

struct config_type {
	const char *expected; /* "must be ..." */
	unsigned takes;       /* scalars: TAKES_* */
	/* Scalars: 0, -EINVAL, -ERANGE. Also reads the defaults. */
	int (*from_text)(
	    const struct config_row *row, const char *text, void *field);
	/* What is no scalar reads its setting itself and reports errors. */
	void (*read)(struct config_loader *l, const struct config_row *row,
	    const config_setting_t *setting, const char *path, void *field);
	void (*write)(const struct config_row *row, const void *field, int show,
	    struct buf *out);
	void (*clear)(const struct config_row *row, void *field);
};

struct config_row {
	const char *key;
	const struct config_type *type;
	const struct config_table *sub;
	size_t offset;
	const char *def;
	int64_t min, max;
	enum config_effect effect;
	unsigned flags;
};

extern const struct config_table config_settings;

/* The default of a setting, as it would be written. */
const char *config_default(const char *key);

/* Scalars (config_scalar.c). */
extern const struct config_type config_string_type, config_url_type,
    config_prefix_type, config_encoding_type, config_bool_type,
    config_tristate_type, config_int_type, config_weight_type,
    config_int64_type, config_duration_type, config_lead_type, config_size_type,
    config_level_type, config_strategy_type, config_action_type;

/* What holds several values (config_list.c). */
extern const struct config_type config_list_type, config_client_keys_type,
    config_headers_type, config_table_type, config_per_provider_type,
    config_per_provider_group_type;

void config_write_string(struct buf *out, const char *s);
/* As a string, or "***" where a secret is shown to people. */
void config_write_value(
    const struct config_row *row, int show, const char *value, struct buf *out);

void config_error(struct config_loader *l, const config_setting_t *setting,
    const char *fmt, ...) PRINTF(3, 4);
void config_warning(struct config_loader *l, const config_setting_t *setting,
    const char *fmt, ...) PRINTF(3, 4);

void config_read_scalar(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field);
void
config_read_group(struct config_loader *l, const struct config_table *table,
    const config_setting_t *group, const char *prefix, void *base);
void config_set_defaults(const struct config_table *table, void *base);
void config_clear(const struct config_table *table, void *base);
void config_write_rows(const struct config_table *table, const void *base,
    int show, const char *indent, struct buf *out);

/* Checks across settings; resolves what a default leaves open. */
void config_check(
    struct config_loader *l, struct config *config, const config_t *parsed);

static inline void *
config_field(const struct config_row *row, void *base)
{
	return (char *)base + row->offset;
}

static inline const void *
config_field_const(const struct config_row *row, const void *base)
{
	return (const char *)base + row->offset;
}

#endif
