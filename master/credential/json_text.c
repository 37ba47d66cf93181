/* SPDX-License-Identifier: MIT */
/* Small JSON files as values and as text; see json_text.h. */
#include "master/credential/json_text.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/utf8.h"

static bool
is_utf8(const char *text, size_t len)
{
	size_t n;

	while (len > 0) {
		n = utf8_sequence((const unsigned char *)text, len);
		if (n == 0)
			return false;
		text += n;
		len -= n;
	}
	return true;
}

/* Past the closing quote of the string that begins at p, or end. */
static const char *
skip_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++) {
		if (*p == '\\')
			p++;
	}
	return p < end ? p + 1 : end;
}

/* Quotes are matched without looking at what else is wrong: cJSON will. */
static bool
is_too_deep(const char *text, size_t len)
{
	const char *end = text + len;
	const char *p;
	int depth = 0;

	for (p = text; p < end; p++) {
		if (*p == '"')
			p = skip_string(p, end) - 1;
		else if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
			depth--;
		if (depth > JSON_DEPTH_MAX)
			return true;
	}
	return false;
}

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && *p != '\0' && strchr(" \t\r\n", *p) != NULL)
		p++;
	return p;
}

int
json_parse(const char *text, size_t len, cJSON **out, const char **why)
{
	const char *reason = NULL;
	const char *rest = NULL;

	*out = NULL;
	if (skip_space(text, text + len) == text + len)
		reason = "is empty";
	else if (memchr(text, '\0', len) != NULL ||
		 memmem(text, len, "\\u0000", 6) != NULL)
		reason = "holds a zero byte";
	else if (!is_utf8(text, len))
		reason = "is not UTF-8";
	else if (is_too_deep(text, len))
		reason = "is nested too deeply";
	if (reason == NULL) {
		*out = cJSON_ParseWithLengthOpts(text, len, &rest, 0);
		if (*out == NULL)
			reason = "is not valid JSON";
		else if (skip_space(rest, text + len) != text + len)
			reason = "has something after its JSON";
	}
	if (reason == NULL)
		return 0;
	cJSON_Delete(*out);
	*out = NULL;
	if (why != NULL)
		*why = reason;
	return -EINVAL;
}

static const char *
skip_container(const char *p, const char *end)
{
	int depth = 0;

	do {
		if (*p == '"') {
			p = skip_string(p, end);
			continue;
		}
		if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
			depth--;
		p++;
	} while (p < end && depth > 0);
	return p;
}

/* Past the value that begins at p, in text that is known to be JSON. */
static const char *
skip_value(const char *p, const char *end)
{
	if (p < end && *p == '"')
		return skip_string(p, end);
	if (p < end && (*p == '{' || *p == '['))
		return skip_container(p, end);
	while (p < end && strchr(" \t\r\n,}]", *p) == NULL)
		p++;
	return p;
}

/* What a walk over the members of an object finds. */
struct members {
	const char *value; /* of the key looked for; NULL: not there */
	const char *value_end;
	const char *last_gap; /* before the last key, from { or , on */
	const char *last_key;
	const char *last_end; /* behind the last value */
};

static int
find_member(
    const char *text, const char *end, const char *key, struct members *m)
{
	const char *gap, *name, *name_end, *value;
	size_t key_len = strlen(key);

	*m = (struct members){ 0 };
	gap = skip_space(text, end);
	if (gap == end || *gap != '{')
		return -EINVAL;
	do {
		name = skip_space(++gap, end);
		if (name == end || *name != '"')
			break;
		name_end = skip_string(name, end);
		value = skip_space(skip_space(name_end, end) + 1, end);
		m->last_gap = gap;
		m->last_key = name;
		m->last_end = skip_value(value, end);
		if (m->value == NULL &&
		    (size_t)(name_end - name) == key_len + 2 &&
		    memcmp(name + 1, key, key_len) == 0) {
			m->value = value;
			m->value_end = m->last_end;
		}
		gap = skip_space(m->last_end, end);
	} while (gap < end && *gap == ',');
	return m->last_end != NULL ? 0 : -EINVAL;
}

/* Whether the result says what it should; it may not, for an escaped key. */
static bool
member_is(struct buf *text, const char *key, const char *value)
{
	cJSON *whole, *wanted;
	bool same;

	wanted = cJSON_Parse(value);
	if (json_parse(text->data, text->len, &whole, NULL) < 0)
		whole = NULL;
	same = cJSON_Compare(
	    cJSON_GetObjectItemCaseSensitive(whole, key), wanted, true);
	cJSON_Delete(whole);
	cJSON_Delete(wanted);
	return same;
}

/* The walk over members trusts what it walks over. */
static int
check(const char *text, size_t len)
{
	cJSON *whole;
	int rc = json_parse(text, len, &whole, NULL);

	if (rc == 0)
		cJSON_Delete(whole);
	return rc;
}

int
json_set_member(const char *text, size_t len, const char *key,
    const char *value, struct buf *out)
{
	const char *end = text + len;
	struct members m = { 0 };
	int rc;

	rc = check(text, len);
	if (rc == 0)
		rc = find_member(text, end, key, &m);
	if (rc < 0)
		return rc;
	if (m.value != NULL) {
		buf_append(out, text, (size_t)(m.value - text));
		buf_puts(out, value);
		buf_append(out, m.value_end, (size_t)(end - m.value_end));
	} else {
		buf_append(out, text, (size_t)(m.last_end - text));
		buf_putc(out, ',');
		buf_append(out, m.last_gap, (size_t)(m.last_key - m.last_gap));
		buf_printf(out, "\"%s\": %s", key, value);
		buf_append(out, m.last_end, (size_t)(end - m.last_end));
	}
	if (out->failed || !member_is(out, key, value))
		return -EINVAL;
	return 0;
}

const char *
json_member_text(
    const char *text, size_t len, const char *key, size_t *value_len)
{
	struct members m;

	if (find_member(text, text + len, key, &m) < 0 || m.value == NULL)
		return NULL;
	*value_len = (size_t)(m.value_end - m.value);
	return m.value;
}
