/* SPDX-License-Identifier: MIT */
#include "worker/upstream/direct_request.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "worker/http/http_head.h"

/* Beside names, values and texts of the caller's. */
enum { LINE_EXTRA = 4, HEAD_EXTRA = 96 };

/* Methods whose body has a length also when it is empty (RFC 9110 8.6). */
static const struct span with_body[] = {
	SPAN("POST"),
	SPAN("PUT"),
	SPAN("PATCH"),
};

static bool
wants_length(const struct upstream_request *req)
{
	if (req->body_len > 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(with_body); i++)
		if (span_equal(span_of(req->method), with_body[i]))
			return true;
	return false;
}

static bool
is_target(const char *path)
{
	for (; *path != '\0'; path++)
		if ((unsigned char)*path <= ' ' || *path == 0x7f ||
		    *path == '#')
			return false;
	return true;
}

/* Checks the parts and adds up what the head will take; 0: it cannot be. */
static size_t
size_of(const struct upstream_request *req, const char *path,
    const char *authority, bool *has_host)
{
	size_t size =
	    HEAD_EXTRA + strlen(req->method) + strlen(path) + strlen(authority);

	if (!http_is_token(req->method, strlen(req->method)) ||
	    !is_target(path))
		return 0;
	for (size_t i = 0; i < req->nheaders; i++) {
		struct span name = span_of(req->headers[i].name);
		struct span value = span_of(req->headers[i].value);

		if (!http_is_token(name.p, name.len) ||
		    !http_is_field_value(value.p, value.len))
			return 0;
		*has_host |= span_equal_nocase(name, SPAN("host"));
		size += name.len + value.len + LINE_EXTRA;
	}
	return size;
}

static char *
put_fields(char *at, const struct upstream_request *req)
{
	for (size_t i = 0; i < req->nheaders; i++) {
		const struct upstream_header *h = &req->headers[i];

		at = stpcpy(at, h->name);
		at = stpcpy(at, h->value[0] != '\0' ? ": " : ":");
		at = stpcpy(at, h->value);
		at = stpcpy(at, "\r\n");
	}
	return at;
}

/* printf(3) would take as long as all the rest. */
static char *
put_length(char *at, size_t len)
{
	char digits[24];
	size_t n = sizeof(digits) - 1;

	digits[n] = '\0';
	do
		digits[--n] = (char)('0' + len % 10);
	while ((len /= 10) > 0);
	at = stpcpy(at, "Content-Length: ");
	at = stpcpy(at, digits + n);
	return stpcpy(at, "\r\n");
}

int
direct_request_head(const struct upstream_request *req, const char *path,
    const char *authority, char **head, size_t *len)
{
	bool has_host = false;
	size_t size = size_of(req, path, authority, &has_host);
	char *at;

	if (size == 0)
		return -EINVAL;
	at = *head = malloc(size);
	if (at == NULL)
		return -ENOMEM;
	at = stpcpy(at, req->method);
	at = stpcpy(at, path[0] == '/' ? " " : " /");
	at = stpcpy(at, path);
	at = stpcpy(at, " HTTP/1.1\r\n");
	if (!has_host) {
		at = stpcpy(at, "Host: ");
		at = stpcpy(at, authority);
		at = stpcpy(at, "\r\n");
	}
	at = put_fields(at, req);
	if (wants_length(req))
		at = put_length(at, req->body_len);
	at = stpcpy(at, "\r\n");
	*len = (size_t)(at - *head);
	return 0;
}
