/* SPDX-License-Identifier: MIT */
#include "worker/http/http_answer.h"

#include <string.h>

#include "common/str.h"
#include "worker/http/http_head.h"

#define BAD(a, phrase) ((a)->error = (phrase), HTTP_ANSWER_BAD)

static const struct span version = SPAN("HTTP/1.");

/* "HTTP/1.1 200": what a status line has at least. */
enum { STATUS_AT = 9, STATUS_END = 12 };

enum { NO_CONTENT = 204, NOT_MODIFIED = 304, SWITCHING_PROTOCOLS = 101 };

/* What the fields of a head have told so far. */
struct told {
	int64_t length; /* -1: nothing */
	bool coding;    /* Transfer-Encoding was there */
	bool chunked;
	bool close;
	bool keep_alive;
};

enum http_answer_result
http_answer_find(struct http_answer *a, const char *buf, size_t len,
    size_t *scanned, size_t *size)
{
	size_t front = len < version.len ? len : version.len;
	const char *end = buf + len;
	const char *lf = buf + *scanned;

	if (memcmp(buf, version.p, front) != 0)
		return BAD(a, "it does not begin with HTTP/1");
	while ((lf = memchr(lf, '\n', (size_t)(end - lf))) != NULL) {
		const char *next = lf + 1;

		*scanned = (size_t)(lf - buf);
		if (next < end && *next == '\r')
			next++;
		if (next == end)
			return HTTP_ANSWER_MORE;
		if (*next == '\n') {
			*size = (size_t)(next + 1 - buf);
			return HTTP_ANSWER_DONE;
		}
		lf++;
	}
	*scanned = len;
	return HTTP_ANSWER_MORE;
}

/* ---- lines */

/* The line at the front, without its end; the rest stays in *text. */
static struct span
take_line(struct span *text)
{
	const char *lf = memchr(text->p, '\n', text->len);
	struct span line = { text->p, (size_t)(lf - text->p) };

	text->p += line.len + 1;
	text->len -= line.len + 1;
	if (line.len > 0 && line.p[line.len - 1] == '\r')
		line.len--;
	return line;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Line ends before a blank become blanks; the head ends with an empty line. */
static void
unfold(char *head, size_t size)
{
	char *end = head + size;
	char *lf = head;

	while ((lf = memchr(lf, '\n', (size_t)(end - lf))) != NULL) {
		if (++lf == end || !is_blank(*lf))
			continue;
		lf[-1] = ' ';
		if (lf[-2] == '\r')
			lf[-2] = ' ';
	}
}

/* ---- what the fields say */

static bool
is_number(struct span s, int64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] < '0' || s.p[i] > '9' ||
		    __builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, s.p[i] - '0', value))
			return false;
	return s.len > 0;
}

/* The next element of a list, trimmed; false at its end. */
static bool
take_item(struct span *list, struct span *item)
{
	const char *comma;
	size_t len;

	if (list->p == NULL)
		return false;
	comma = memchr(list->p, ',', list->len);
	len = comma != NULL ? (size_t)(comma - list->p) : list->len;
	*item = span_trim((struct span){ list->p, len });
	*list = comma != NULL ? (struct span){ comma + 1, list->len - len - 1 }
			      : (struct span){ NULL, 0 };
	return true;
}

/* Said twice alike, it is said once (RFC 9110 8.6). */
static const char *
take_length(struct told *told, struct span value)
{
	struct span item;
	int64_t length;

	while (take_item(&value, &item)) {
		if (!is_number(item, &length))
			return "its Content-Length is no number";
		if (told->length >= 0 && told->length != length)
			return "it has two lengths";
		told->length = length;
	}
	return NULL;
}

static const char *
take_coding(struct told *told, struct span value)
{
	struct span item;

	told->coding = true;
	while (take_item(&value, &item)) {
		if (item.len == 0)
			continue;
		if (told->chunked || !span_equal_nocase(item, SPAN("chunked")))
			return "its transfer coding is not known";
		told->chunked = true;
	}
	return NULL;
}

static const char *
take_connection(struct told *told, struct span value)
{
	struct span item;

	while (take_item(&value, &item)) {
		told->close |= span_equal_nocase(item, SPAN("close"));
		told->keep_alive |= span_equal_nocase(item, SPAN("keep-alive"));
	}
	return NULL;
}

static const struct {
	struct span name;
	const char *(*take)(struct told *told, struct span value);
} known_fields[] = {
	{ SPAN("content-length"), take_length },
	{ SPAN("transfer-encoding"), take_coding },
	{ SPAN("connection"), take_connection },
};

/* NULL, or what is wrong with the line. */
static const char *
take_field(struct told *told, struct span line)
{
	const char *colon = memchr(line.p, ':', line.len);
	struct span name, value;

	if (colon == NULL)
		return "a field has no colon";
	name = span_trim((struct span){ line.p, (size_t)(colon - line.p) });
	value =
	    (struct span){ colon + 1, line.len - (size_t)(colon - line.p) - 1 };
	if (name.p != line.p || !http_is_token(name.p, name.len))
		return "a field has no name";
	if (!http_is_field_value(value.p, value.len))
		return "a field has control characters";
	for (size_t i = 0; i < ARRAY_LEN(known_fields); i++)
		if (name.len == known_fields[i].name.len &&
		    span_equal_nocase(name, known_fields[i].name))
			return known_fields[i].take(told, span_trim(value));
	return NULL;
}

/* ---- the head */

static enum http_answer_result
take_status(struct http_answer *a, struct span line, bool *old)
{
	char minor;

	if (line.len < STATUS_END || !span_starts(line, version) ||
	    line.p[STATUS_AT - 1] != ' ' ||
	    (line.len > STATUS_END && line.p[STATUS_END] != ' '))
		return BAD(a, "its status line is none");
	minor = line.p[version.len];
	if (minor < '0' || minor > '9')
		return BAD(a, "its version is none");
	*old = minor == '0';
	a->status = 0;
	for (size_t i = STATUS_AT; i < STATUS_END; i++) {
		if (line.p[i] < '0' || line.p[i] > '9')
			return BAD(a, "its status is no number");
		a->status = a->status * 10 + line.p[i] - '0';
	}
	if (a->status < 100)
		return BAD(a, "its status is no number");
	if (a->status == SWITCHING_PROTOCOLS)
		return BAD(a, "it speaks another protocol");
	return HTTP_ANSWER_DONE;
}

static void
set_framing(struct http_answer *a, const struct told *told, bool no_body)
{
	a->left = 0;
	if (no_body || a->status < 200 || a->status == NO_CONTENT ||
	    a->status == NOT_MODIFIED) {
		a->framing = HTTP_ANSWER_EMPTY;
	} else if (told->chunked) {
		a->framing = HTTP_ANSWER_CHUNKED;
		http_chunk_init_answer(&a->chunk);
	} else if (told->length > 0) {
		a->framing = HTTP_ANSWER_LENGTH;
		a->left = (uint64_t)told->length;
	} else if (told->length == 0) {
		a->framing = HTTP_ANSWER_EMPTY;
	} else {
		a->framing = HTTP_ANSWER_CLOSE;
	}
}

enum http_answer_result
http_answer_read(struct http_answer *a, char *head, size_t size, bool no_body)
{
	struct told told = { .length = -1 };
	struct span text = { head, size };
	struct span line = take_line(&text);
	const char *wrong = NULL;
	bool old;

	if (take_status(a, line, &old) != HTTP_ANSWER_DONE)
		return HTTP_ANSWER_BAD;
	a->fields = size - text.len;
	if (is_blank(text.p[0]))
		return BAD(a, "a field has no name");
	unfold(head + a->fields, text.len);
	while (wrong == NULL && (line = take_line(&text)).len > 0)
		wrong = take_field(&told, line);
	if (wrong != NULL)
		return BAD(a, wrong);
	if (told.coding && !told.chunked)
		return BAD(a, "its transfer coding is not known");
	set_framing(a, &told, no_body);
	a->keep_alive = (old ? told.keep_alive : true) && !told.close &&
			a->framing != HTTP_ANSWER_CLOSE &&
			!(told.coding && (told.length >= 0 || old));
	return HTTP_ANSWER_DONE;
}

/* ---- the body */

static enum http_answer_result
take_chunks(
    struct http_answer *a, char *buf, size_t len, size_t *used, size_t *made)
{
	switch (http_chunk_decode(&a->chunk, buf, len, used, made)) {
	case HTTP_CHUNK_DONE:
		return HTTP_ANSWER_DONE;
	case HTTP_CHUNK_MORE:
		return HTTP_ANSWER_MORE;
	default:
		return BAD(a, "its chunks are broken");
	}
}

enum http_answer_result
http_answer_body(
    struct http_answer *a, char *buf, size_t len, size_t *used, size_t *made)
{
	switch (a->framing) {
	case HTTP_ANSWER_EMPTY:
		*used = *made = 0;
		return HTTP_ANSWER_DONE;
	case HTTP_ANSWER_CHUNKED:
		return take_chunks(a, buf, len, used, made);
	case HTTP_ANSWER_CLOSE:
		*used = *made = len;
		return HTTP_ANSWER_MORE;
	default:
		*used = *made = len < a->left ? len : (size_t)a->left;
		a->left -= *used;
		return a->left == 0 ? HTTP_ANSWER_DONE : HTTP_ANSWER_MORE;
	}
}
