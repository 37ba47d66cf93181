/* SPDX-License-Identifier: MIT */
/*
 * Reading: a libconfig file into the struct, row by row. Every error of the
 * file is reported with its place, not only the first.
 */
#include "common/config.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/config_table.h"
#include "common/log.h"
#include "common/str.h"

enum { REPORT_MAX = 256 * 1024, FILE_MAX = 64 * 1024 * 1024 };

void
config_report_init(struct config_report *r)
{
	*r = (struct config_report){ 0 };
	buf_init(&r->errors, REPORT_MAX);
	buf_init(&r->warnings, REPORT_MAX);
}

void
config_report_fini(struct config_report *r)
{
	buf_fini(&r->errors);
	buf_fini(&r->warnings);
}

/* The file and line of a setting: an @include has its own. */
static void
report_at(struct config_loader *l, const config_setting_t *setting,
    struct buf *out, const char *fmt, va_list ap)
{
	const char *file =
	    setting != NULL ? config_setting_source_file(setting) : NULL;
	unsigned line =
	    setting != NULL ? config_setting_source_line(setting) : 0;
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		return;
	if (line != 0)
		buf_printf(out, "%s:%u: %s\n", file != NULL ? file : l->path,
		    line, text);
	else
		buf_printf(out, "%s: %s\n", l->path, text);
	free(text);
}

void
config_error(struct config_loader *l, const config_setting_t *setting,
    const char *fmt, ...)
{
	va_list ap;

	l->report->nerrors++;
	va_start(ap, fmt);
	report_at(l, setting, &l->report->errors, fmt, ap);
	va_end(ap);
}

void
config_warning(struct config_loader *l, const config_setting_t *setting,
    const char *fmt, ...)
{
	va_list ap;

	l->report->nwarnings++;
	va_start(ap, fmt);
	report_at(l, setting, &l->report->warnings, fmt, ap);
	va_end(ap);
}

/* The value as text if the type can be written that way, else NULL. */
static const char *
scalar_text(const config_setting_t *s, unsigned takes, char *room, size_t size)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_STRING:
		return (takes & TAKES_STRING) != 0
			   ? config_setting_get_string(s)
			   : NULL;
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		(void)snprintf(room, size, "%lld", config_setting_get_int64(s));
		return (takes & TAKES_INT) != 0 ? room : NULL;
	case CONFIG_TYPE_BOOL:
		(void)snprintf(room, size, "%s",
		    config_setting_get_bool(s) ? "true" : "false");
		return (takes & TAKES_BOOL) != 0 ? room : NULL;
	default:
		return NULL;
	}
}

static void
report_range(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path)
{
	struct buf range = BUF_INIT(256);
	int64_t bound;
	int32_t narrow;
	int i;

	for (i = 0; i < 2; i++) {
		bound = i == 0 ? row->min : row->max;
		narrow = (int32_t)bound;
		if (i == 1)
			buf_puts(&range, " and ");
		row->type->write(row,
		    row->type->takes == TAKES_INT ? (const void *)&narrow
						  : (const void *)&bound,
		    CONFIG_SHOW_EXACT, &range);
	}
	config_error(
	    l, setting, "\"%s\" must be between %s", path, buf_string(&range));
	buf_fini(&range);
}

void
config_read_scalar(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field)
{
	char room[32];
	const char *text =
	    scalar_text(setting, row->type->takes, room, sizeof(room));
	int rc =
	    text != NULL ? row->type->from_text(row, text, field) : -EINVAL;

	if (rc == -ERANGE)
		report_range(l, row, setting, path);
	else if (rc < 0)
		config_error(
		    l, setting, "\"%s\" must be %s", path, row->type->expected);
}

static const struct config_row *
find_row(const struct config_table *table, const char *path)
{
	size_t i;

	for (i = 0; i < table->n; i++) {
		if (strcmp(table->rows[i].key, path) == 0)
			return &table->rows[i];
	}
	return NULL;
}

const char *
config_default(const char *key)
{
	return find_row(&config_settings, key)->def;
}

/* Whether a path is a group that only joins others: "limits". */
static bool
joins_rows(const struct config_table *table, const char *path)
{
	size_t len = strlen(path);
	size_t i;

	for (i = 0; i < table->n; i++) {
		if (strncmp(table->rows[i].key, path, len) == 0 &&
		    table->rows[i].key[len] == '.')
			return true;
	}
	return false;
}

static void
read_member(struct config_loader *l, const struct config_table *table,
    const config_setting_t *item, const char *prefix, const char *shown,
    void *base)
{
	const char *name = config_setting_name(item);
	AUTO_FREE char *key = xasprintf("%s%s", prefix, name);
	AUTO_FREE char *path =
	    xasprintf("%s%s%s", shown, *shown != '\0' ? "." : "", name);
	AUTO_FREE char *inner = NULL;
	const struct config_row *row = find_row(table, key);
	int i, n;

	if (row != NULL) {
		row->type->read(l, row, item, path, config_field(row, base));
		return;
	}
	if (!joins_rows(table, key)) {
		config_error(l, item, "unknown key \"%s\"", path);
		return;
	}
	if (!config_setting_is_group(item)) {
		config_error(l, item, "\"%s\" must be a group", path);
		return;
	}
	inner = xasprintf("%s.", key);
	n = config_setting_length(item);
	for (i = 0; i < n; i++)
		read_member(l, table,
		    config_setting_get_elem(item, (unsigned)i), inner, path,
		    base);
}

void
config_read_group(struct config_loader *l, const struct config_table *table,
    const config_setting_t *group, const char *shown, void *base)
{
	int i, n = config_setting_length(group);

	for (i = 0; i < n; i++)
		read_member(l, table,
		    config_setting_get_elem(group, (unsigned)i), "", shown,
		    base);
}

void
config_set_defaults(const struct config_table *table, void *base)
{
	const struct config_row *row;

	for (row = table->rows; row < table->rows + table->n; row++) {
		if (row->type->from_text(
			row, row->def, config_field(row, base)) < 0)
			fatalx("the default of \"%s\" is wrong", row->key);
	}
}

void
config_clear(const struct config_table *table, void *base)
{
	const struct config_row *row;

	for (row = table->rows; row < table->rows + table->n; row++)
		row->type->clear(row, config_field(row, base));
}

void
config_free(struct config *config)
{
	if (config == NULL)
		return;
	config_clear(&config_settings, config);
	free(config);
}

static void
fill(struct config_loader *l, const config_t *parsed, struct config **out)
{
	struct config *config = xcalloc(1, sizeof(*config));

	config_set_defaults(&config_settings, config);
	config_read_group(
	    l, &config_settings, config_root_setting(parsed), "", config);
	config_check(l, config, parsed);
	if (l->report->nerrors == 0)
		*out = config;
	else
		config_free(config);
}

/*
 * What is included by a relative name lies beside the file. libconfig 1.5 puts
 * an include directory before absolute names too, so we go there instead.
 * Returns the way back, or -1.
 */
static int
enter_directory(const char *dir)
{
	int was = dir != NULL ? open(".", O_PATH | O_CLOEXEC) : -1;

	if (was >= 0 && chdir(dir) < 0) {
		(void)close(was);
		was = -1;
	}
	return was;
}

static void
leave_directory(int was)
{
	if (was < 0)
		return;
	/* Nothing but an include depends on where we are. */
	if (fchdir(was) < 0)
		log_debug("cannot return to the working directory");
	(void)close(was);
}

static int
load_text(const char *path, const char *text, const char *include_dir,
    struct config **out, struct config_report *report)
{
	struct config_loader l = { path, report };
	config_t parsed;
	const char *file;
	int was = enter_directory(include_dir);
	bool read;

	*out = NULL;
	config_init(&parsed);
	read = config_read_string(&parsed, text) == CONFIG_TRUE;
	leave_directory(was);
	if (read) {
		fill(&l, &parsed, out);
	} else {
		file = config_error_file(&parsed);
		report->nerrors++;
		buf_printf(&report->errors, "%s:%d: %s\n",
		    file != NULL ? file : path, config_error_line(&parsed),
		    config_error_text(&parsed));
	}
	config_destroy(&parsed);
	return *out != NULL ? 0 : -EINVAL;
}

/* The whole of a file as text that the caller wipes; NULL with errno. */
static char *
slurp(int fd)
{
	struct buf b = BUF_INIT(FILE_MAX);
	ssize_t n;

	do {
		if (buf_reserve(&b, 4096) < 0) {
			errno = EFBIG;
			n = -1;
			break;
		}
		n = read(fd, b.data + b.len, b.cap - b.len);
		if (n > 0)
			b.len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0 || buf_reserve(&b, 1) < 0) {
		buf_fini(&b);
		return NULL;
	}
	b.data[b.len] = '\0';
	return b.data;
}

static int
cannot_read(const char *path, struct config_report *report)
{
	report->nerrors++;
	buf_printf(
	    &report->errors, "%s: cannot read: %s\n", path, strerror(errno));
	return -EINVAL;
}

int
config_load(const char *path, struct config **out, struct config_report *report)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *dir = xstrdup(path);
	char *text;
	int rc;

	*out = NULL;
	if (fd < 0)
		return cannot_read(path, report);
	text = slurp(fd);
	if (text == NULL)
		return cannot_read(path, report);
	rc = load_text(path, text, dirname(dir), out, report);
	secret_free(text);
	return rc;
}

int
config_load_fd(int fd, struct config **out, struct config_report *report)
{
	char *text;
	int rc;

	*out = NULL;
	text = lseek(fd, 0, SEEK_SET) == 0 ? slurp(fd) : NULL;
	if (text == NULL)
		return cannot_read("snapshot", report);
	rc = load_text("snapshot", text, NULL, out, report);
	secret_free(text);
	return rc;
}
