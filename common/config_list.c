/* SPDX-License-Identifier: MIT */
/*
 * The types of settings that hold several values: lists of strings, client
 * keys, headers, lists of groups, and groups with a member per provider.
 */
#include "common/config_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/str.h"

/* The shape that all growing arrays of struct config share. */
struct array {
	void *v;
	size_t n;
};

static void *
array_append(struct array *a, size_t size)
{
	a->v = xreallocarray(a->v, a->n + 1, size);
	memset((char *)a->v + a->n * size, 0, size);
	return (char *)a->v + a->n++ * size;
}

/* ---- lists of strings */

static bool
is_sequence(const config_setting_t *s)
{
	return config_setting_is_array(s) || config_setting_is_list(s);
}

/* The i-th string of a list, or NULL with the error reported. */
static const char *
string_at(struct config_loader *l, const config_setting_t *list,
    const char *path, int i)
{
	const config_setting_t *item =
	    config_setting_get_elem(list, (unsigned)i);

	if (config_setting_type(item) != CONFIG_TYPE_STRING) {
		config_error(l, item, "\"%s\" must hold strings only", path);
		return NULL;
	}
	return config_setting_get_string(item);
}

static void
list_read(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field)
{
	struct str_list *list = field;
	const char *s;
	int i, n;

	if (!is_sequence(setting)) {
		config_error(
		    l, setting, "\"%s\" must be %s", path, row->type->expected);
		return;
	}
	row->type->clear(row, field);
	n = config_setting_length(setting);
	for (i = 0; i < n; i++) {
		s = string_at(l, setting, path, i);
		if (s != NULL)
			*(char **)array_append(
			    (struct array *)list, sizeof(char *)) = xstrdup(s);
	}
	if (n < row->min)
		config_error(l, setting, "\"%s\" must not be empty", path);
}

static int
list_from_text(
    const struct config_row *row UNUSED, const char *text, void *field)
{
	if (*text != '\0')
		*(char **)array_append(field, sizeof(char *)) = xstrdup(text);
	return 0;
}

static void
list_write(
    const struct config_row *row, const void *field, int show, struct buf *out)
{
	const struct str_list *list = field;
	size_t i;

	buf_puts(out, "(");
	for (i = 0; i < list->n; i++) {
		buf_puts(out, i == 0 ? " " : ", ");
		config_write_value(row, show, list->v[i], out);
	}
	buf_puts(out, " )");
}

static void
list_clear(const struct config_row *row UNUSED, void *field)
{
	struct str_list *list = field;
	size_t i;

	for (i = 0; i < list->n; i++)
		secret_free(list->v[i]);
	free(list->v);
	*list = (struct str_list){ 0 };
}

/* ---- client keys: only their digests are kept */

static const char digest_prefix[] = "sha256:";

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
digest_from_hex(const char *hex, struct digest *out)
{
	size_t i;
	int hi, lo;

	for (i = 0; i < DIGEST_LEN; i++) {
		hi = hex_value(hex[2 * i]);
		lo = hi < 0 ? -1 : hex_value(hex[2 * i + 1]);
		if (lo < 0)
			return false;
		out->bytes[i] = (uint8_t)(hi << 4 | lo);
	}
	return hex[2 * i] == '\0';
}

static bool
client_key_digest(const char *text, struct digest *out)
{
	struct span key = span_trim(span_of(text));

	if (strncmp(text, digest_prefix, sizeof(digest_prefix) - 1) == 0)
		return digest_from_hex(text + sizeof(digest_prefix) - 1, out);
	digest_of_client_key(key.p, key.len, out);
	return key.len > 0;
}

static void
client_keys_read(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field)
{
	struct client_keys *keys = field;
	struct digest digest;
	const char *s;
	int i, n;

	if (!is_sequence(setting)) {
		config_error(
		    l, setting, "\"%s\" must be %s", path, row->type->expected);
		return;
	}
	n = config_setting_length(setting);
	for (i = 0; i < n; i++) {
		s = string_at(l, setting, path, i);
		if (s == NULL)
			continue;
		if (!client_key_digest(s, &digest)) {
			config_error(l, setting,
			    "\"%s\": key %d is empty or not a digest", path,
			    i + 1);
			continue;
		}
		*(struct digest *)array_append(
		    (struct array *)keys, sizeof(digest)) = digest;
	}
}

static void
client_keys_write(const struct config_row *row UNUSED, const void *field,
    int show, struct buf *out)
{
	const struct client_keys *keys = field;
	char hex[2 * DIGEST_LEN + 1];
	size_t i;

	buf_puts(out, "(");
	for (i = 0; i < keys->n; i++) {
		buf_puts(out, i == 0 ? " " : ", ");
		if (show == CONFIG_DUMP_PEOPLE) {
			buf_puts(out, "\"***\"");
			continue;
		}
		str_hex(keys->v[i].bytes, DIGEST_LEN, hex);
		buf_printf(out, "\"%s%s\"", digest_prefix, hex);
	}
	buf_puts(out, " )");
}

static void
client_keys_clear(const struct config_row *row UNUSED, void *field)
{
	struct client_keys *keys = field;

	free(keys->v);
	*keys = (struct client_keys){ 0 };
}

/* ---- headers: a group, or a list of "Name: value" */

static bool
is_token(const char *s, size_t len)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";
	size_t i;

	for (i = 0; i < len; i++) {
		if (!((s[i] >= '0' && s[i] <= '9') ||
			(s[i] >= 'A' && s[i] <= 'Z') ||
			(s[i] >= 'a' && s[i] <= 'z') ||
			strchr(marks, s[i]) != NULL))
			return false;
	}
	return len > 0;
}

static bool
is_field_value(struct span v)
{
	size_t i;

	for (i = 0; i < v.len; i++) {
		if (((unsigned char)v.p[i] < 0x20 && v.p[i] != '\t') ||
		    v.p[i] == 0x7f)
			return false;
	}
	return v.len > 0;
}

static void
header_add(struct config_loader *l, const config_setting_t *at,
    const char *path, struct header_rules *headers, struct span name,
    struct span value)
{
	struct header_rule *h;

	name = span_trim(name);
	value = span_trim(value);
	if (!is_token(name.p, name.len) || !is_field_value(value)) {
		config_error(l, at, "\"%s\" holds what is not a header", path);
		return;
	}
	h = array_append((struct array *)headers, sizeof(*h));
	h->name = xstrndup(name.p, name.len);
	h->value = xstrndup(value.p, value.len);
}

static void
header_read_one(struct config_loader *l, const config_setting_t *item,
    const char *path, struct header_rules *headers)
{
	const char *name = config_setting_name(item);
	const char *text, *colon;

	if (config_setting_type(item) != CONFIG_TYPE_STRING) {
		config_error(l, item, "\"%s\" must hold strings only", path);
		return;
	}
	text = config_setting_get_string(item);
	if (name != NULL) {
		header_add(
		    l, item, path, headers, span_of(name), span_of(text));
		return;
	}
	colon = strchr(text, ':');
	if (colon == NULL) {
		config_error(l, item, "\"%s\" must hold \"Name: value\"", path);
		return;
	}
	header_add(l, item, path, headers,
	    (struct span){ text, (size_t)(colon - text) }, span_of(colon + 1));
}

static void
headers_read(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field)
{
	int i, n;

	if (!is_sequence(setting) && !config_setting_is_group(setting)) {
		config_error(
		    l, setting, "\"%s\" must be %s", path, row->type->expected);
		return;
	}
	n = config_setting_length(setting);
	for (i = 0; i < n; i++)
		header_read_one(l,
		    config_setting_get_elem(setting, (unsigned)i), path, field);
}

static void
headers_write(const struct config_row *row UNUSED, const void *field, int show,
    struct buf *out)
{
	const struct header_rules *headers = field;
	AUTO_FREE char *line = NULL;
	size_t i;

	buf_puts(out, "(");
	for (i = 0; i < headers->n; i++) {
		free(line);
		line = xasprintf("%s: %s", headers->v[i].name,
		    show == CONFIG_DUMP_PEOPLE ? "***" : headers->v[i].value);
		buf_puts(out, i == 0 ? " " : ", ");
		config_write_string(out, line);
	}
	buf_puts(out, " )");
}

static void
headers_clear(const struct config_row *row UNUSED, void *field)
{
	struct header_rules *headers = field;
	size_t i;

	for (i = 0; i < headers->n; i++) {
		free(headers->v[i].name);
		secret_free(headers->v[i].value);
	}
	free(headers->v);
	*headers = (struct header_rules){ 0 };
}

/* ---- lists of groups */

static void
table_read(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field)
{
	const struct config_table *sub = row->sub;
	const config_setting_t *item;
	void *element;
	int i, n;

	if (!config_setting_is_list(setting)) {
		config_error(
		    l, setting, "\"%s\" must be %s", path, row->type->expected);
		return;
	}
	n = config_setting_length(setting);
	for (i = 0; i < n; i++) {
		item = config_setting_get_elem(setting, (unsigned)i);
		if (!config_setting_is_group(item)) {
			config_error(
			    l, item, "\"%s\" must hold groups only", path);
			continue;
		}
		element = array_append(field, sub->size);
		config_set_defaults(sub, element);
		if (sub->line_offset != 0)
			*(int *)((char *)element + sub->line_offset) =
			    (int)config_setting_source_line(item);
		config_read_group(l, sub, item, path, element);
	}
}

static void
table_write(
    const struct config_row *row, const void *field, int show, struct buf *out)
{
	const struct array *a = field;
	size_t i;

	buf_puts(out, "(");
	for (i = 0; i < a->n; i++) {
		buf_puts(out, i == 0 ? "\n    {\n" : ",\n    {\n");
		config_write_rows(row->sub,
		    (const char *)a->v + i * row->sub->size, show, "\t", out);
		buf_puts(out, "    }");
	}
	buf_puts(out, " )");
}

static void
table_clear(const struct config_row *row, void *field)
{
	struct array *a = field;
	size_t i;

	for (i = 0; i < a->n; i++)
		config_clear(row->sub, (char *)a->v + i * row->sub->size);
	free(a->v);
	*a = (struct array){ 0 };
}

/* ---- groups whose members are providers */

/* What a member is: another table's list, its group, or a list of strings. */
static const struct config_row *
member_row(const struct config_row *row, struct config_row *member)
{
	*member = *row;
	member->type =
	    row->sub != NULL ? &config_table_type : &config_list_type;
	member->offset = 0;
	return member;
}

static size_t
member_size(const struct config_row *row, bool group)
{
	return group ? row->sub->size : sizeof(struct array);
}

static const struct provider *
member_provider(
    struct config_loader *l, const config_setting_t *item, const char *path)
{
	const struct provider *p = provider_find(config_setting_name(item));

	if (p == NULL || p->id == PROVIDER_COMPAT) {
		config_error(l, item, "\"%s.%s\": no such provider", path,
		    config_setting_name(item));
		return NULL;
	}
	return p;
}

static void
providers_read_all(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field, bool group)
{
	const struct provider *p;
	const config_setting_t *item;
	struct config_row member;
	char *sub_path;
	void *slot;
	int i, n;

	if (!config_setting_is_group(setting)) {
		config_error(
		    l, setting, "\"%s\" must be %s", path, row->type->expected);
		return;
	}
	n = config_setting_length(setting);
	for (i = 0; i < n; i++) {
		item = config_setting_get_elem(setting, (unsigned)i);
		p = member_provider(l, item, path);
		if (p == NULL)
			continue;
		slot = (char *)field + p->id * member_size(row, group);
		sub_path = xasprintf("%s.%s", path, p->name);
		if (!group)
			member_row(row, &member)
			    ->type->read(l, &member, item, sub_path, slot);
		else if (config_setting_is_group(item))
			config_read_group(l, row->sub, item, sub_path, slot);
		else
			config_error(
			    l, item, "\"%s\" must be a group", sub_path);
		free(sub_path);
	}
}

static void
providers_read(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field)
{
	providers_read_all(l, row, setting, path, field, false);
}

static void
provider_groups_read(struct config_loader *l, const struct config_row *row,
    const config_setting_t *setting, const char *path, void *field)
{
	providers_read_all(l, row, setting, path, field, true);
}

static void
providers_write(
    const struct config_row *row, const void *field, int show, struct buf *out)
{
	const struct array *slots = field;
	struct config_row member;
	int id;

	buf_puts(out, "{");
	for (id = 0; id < PROVIDER_COMPAT; id++) {
		if (slots[id].n == 0)
			continue;
		buf_printf(
		    out, "\n\t%s = ", provider_get((enum provider_id)id)->name);
		member_row(row, &member)
		    ->type->write(&member, &slots[id], show, out);
		buf_puts(out, ";");
	}
	buf_puts(out, " }");
}

static void
provider_groups_write(
    const struct config_row *row, const void *field, int show, struct buf *out)
{
	int id;

	buf_puts(out, "{\n");
	for (id = 0; id < PROVIDER_COMPAT; id++) {
		buf_printf(out, "    %s = {\n",
		    provider_get((enum provider_id)id)->name);
		config_write_rows(row->sub,
		    (const char *)field + (size_t)id * row->sub->size, show,
		    "\t", out);
		buf_puts(out, "    };\n");
	}
	buf_puts(out, "}");
}

static void
providers_clear(const struct config_row *row, void *field)
{
	struct array *slots = field;
	struct config_row member;
	int id;

	for (id = 0; id < PROVIDER_MAX; id++)
		member_row(row, &member)->type->clear(&member, &slots[id]);
}

static void
provider_groups_clear(const struct config_row *row, void *field)
{
	int id;

	for (id = 0; id < PROVIDER_MAX; id++)
		config_clear(
		    row->sub, (char *)field + (size_t)id * row->sub->size);
}

static int
provider_groups_from_text(
    const struct config_row *row, const char *text UNUSED, void *field)
{
	int id;

	for (id = 0; id < PROVIDER_MAX; id++)
		config_set_defaults(
		    row->sub, (char *)field + (size_t)id * row->sub->size);
	return 0;
}

static int
nothing_from_text(const struct config_row *row UNUSED, const char *text UNUSED,
    void *field UNUSED)
{
	return 0;
}

/* ---- the types */

#define COMPOUND(what, read, write, clear)                                     \
	{                                                                      \
		what, 0, nothing_from_text, read, write, clear                 \
	}

const struct config_type config_list_type = { "a list of strings", 0,
	list_from_text, list_read, list_write, list_clear };
const struct config_type config_client_keys_type = COMPOUND("a list of strings",
    client_keys_read, client_keys_write, client_keys_clear);
const struct config_type config_headers_type =
    COMPOUND("a group, or a list of \"Name: value\"", headers_read,
	headers_write, headers_clear);
const struct config_type config_table_type =
    COMPOUND("a list of groups", table_read, table_write, table_clear);
const struct config_type config_per_provider_type =
    COMPOUND("a group with a member per provider", providers_read,
	providers_write, providers_clear);
const struct config_type config_per_provider_group_type = {
	"a group with a member per provider", 0, provider_groups_from_text,
	provider_groups_read, provider_groups_write, provider_groups_clear
};
