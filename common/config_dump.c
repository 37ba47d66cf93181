/* SPDX-License-Identifier: MIT */
/* Writing the settings: for people, for workers, and to see what changed. */
#include "common/config.h"

#include <string.h>

#include "common/config_table.h"

/* The text of a value; empty for what is not set at all. */
static void
write_field(
    const struct config_row *row, const void *base, int show, struct buf *out)
{
	buf_clear(out);
	row->type->write(row, config_field_const(row, base), show, out);
}

/* The length of "limits" in "limits.body", 0 for a key of the top. */
static size_t
group_len(const char *key)
{
	const char *dot = strchr(key, '.');

	return dot != NULL ? (size_t)(dot - key) : 0;
}

struct writer {
	struct buf *out;
	const char *indent;
	const char *group; /* the key whose group is open, or NULL */
	size_t group_len;
};

static void
enter_group(struct writer *w, const char *key)
{
	size_t len = group_len(key);

	if (w->group != NULL && len == w->group_len &&
	    strncmp(w->group, key, len) == 0)
		return;
	if (w->group != NULL)
		buf_printf(w->out, "%s};\n", w->indent);
	w->group = len != 0 ? key : NULL;
	w->group_len = len;
	if (len != 0)
		buf_printf(w->out, "%s%.*s = {\n", w->indent, (int)len, key);
}

void
config_write_rows(const struct config_table *table, const void *base, int show,
    const char *indent, struct buf *out)
{
	struct writer w = { .out = out, .indent = indent };
	struct buf value = BUF_INIT(out->max);
	const struct config_row *row;
	size_t skip;

	for (row = table->rows; row < table->rows + table->n; row++) {
		if (show == CONFIG_DUMP_WORKER &&
		    (row->flags & CONFIG_PRIVATE) != 0)
			continue;
		write_field(row, base, show, &value);
		if (value.len == 0)
			continue;
		enter_group(&w, row->key);
		skip = w.group != NULL ? w.group_len + 1 : 0;
		buf_printf(out, "%s%s%s = ", indent,
		    w.group != NULL ? "    " : "", row->key + skip);
		buf_append(out, value.data, value.len);
		buf_puts(out, ";\n");
	}
	enter_group(&w, "");
	buf_fini(&value);
}

void
config_dump(
    const struct config *config, enum config_dump_kind kind, struct buf *out)
{
	config_write_rows(&config_settings, config, (int)kind, "", out);
}

unsigned
config_diff(const struct config *old, const struct config *new,
    void (*changed)(void *ctx, const char *key, const char *old_value,
	const char *new_value),
    void *ctx)
{
	struct buf before = BUF_INIT(64 << 20), after = BUF_INIT(64 << 20);
	const struct config_row *row;
	unsigned effects = 0;
	size_t i;

	for (i = 0; i < config_settings.n; i++) {
		row = &config_settings.rows[i];
		write_field(row, old, CONFIG_SHOW_EXACT, &before);
		write_field(row, new, CONFIG_SHOW_EXACT, &after);
		if (before.len == after.len &&
		    (before.len == 0 ||
			memcmp(before.data, after.data, before.len) == 0))
			continue;
		effects |= row->effect;
		if (changed == NULL)
			continue;
		secret_wipe(before.data, before.len);
		secret_wipe(after.data, after.len);
		write_field(row, old, CONFIG_DUMP_PEOPLE, &before);
		write_field(row, new, CONFIG_DUMP_PEOPLE, &after);
		changed(ctx, row->key, buf_string(&before), buf_string(&after));
	}
	buf_fini(&before);
	buf_fini(&after);
	return effects;
}

unsigned
config_effect_of(const char *key)
{
	size_t i;

	for (i = 0; i < config_settings.n; i++) {
		if (strcmp(config_settings.rows[i].key, key) == 0)
			return config_settings.rows[i].effect;
	}
	return CONFIG_EFFECT_NONE;
}
