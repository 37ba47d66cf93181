/* SPDX-License-Identifier: MIT */
#include "worker/relay/reply.h"

#include <string.h>

enum { TEXT_MAX = 256 * 1024 };

/* What is told in place of what is not an error of HTTP. */
enum { STATUS_BAD_GATEWAY = 502 };

void
reply_init(struct reply *r)
{
	*r = (struct reply){ .status = 0 };
	buf_init(&r->body, REPLY_BODY_MAX);
	buf_init(&r->text, TEXT_MAX);
}

void
reply_clear(struct reply *r)
{
	buf_fini(&r->body);
	buf_fini(&r->text);
	reply_init(r);
}

void
reply_set(struct reply *r, int status, const char *code, const char *type,
    const char *message)
{
	reply_clear(r);
	r->status = status >= 400 && status < 600 ? status : STATUS_BAD_GATEWAY;
	(void)str_copy(r->code, sizeof(r->code), code);
	(void)str_copy(r->type, sizeof(r->type), type);
	(void)str_copy(r->message, sizeof(r->message), message);
}

/* Copies names and values behind each other, then points at them. */
static void
keep_headers(struct reply *r, struct upstream_call *call, bool all)
{
	struct header found[HEADERS_BACK_MAX];
	size_t n = headers_back(call, all, found);
	const char *at;

	for (size_t i = 0; i < n; i++) {
		buf_append(&r->text, found[i].name.p, found[i].name.len);
		buf_append(&r->text, found[i].value.p, found[i].value.len);
	}
	if (r->text.failed)
		return;
	at = r->text.data;
	for (size_t i = 0; i < n; i++) {
		r->headers[i].name = (struct span){ at, found[i].name.len };
		at += found[i].name.len;
		r->headers[i].value = (struct span){ at, found[i].value.len };
		at += found[i].value.len;
	}
	r->nheaders = n;
}

/* The text of a body that is not JSON, unless it is a page. */
static void
take_plain_message(struct reply *r, struct upstream_call *call)
{
	struct span type = upstream_header_get(call, "content-type");
	struct span text =
	    span_trim((struct span){ r->body.data, r->body.len });

	if (text.len == 0 || text.p[0] == '<' ||
	    (type.len > 0 && !span_starts(type, SPAN("text/plain")) &&
		!span_starts(type, SPAN("application/json"))))
		return;
	if (text.len >= sizeof(r->message))
		text.len = sizeof(r->message) - 1;
	memcpy(r->message, text.p, text.len);
	r->message[text.len] = '\0';
	r->message[strcspn(r->message, "\r\n")] = '\0';
}

void
reply_keep(struct reply *r, struct upstream_call *call, int status,
    struct buf *body, const struct error_body *e, bool whole, bool fault,
    bool all_headers, const char *secret)
{
	struct span coding = upstream_header_get(call, "content-encoding");
	bool leaks =
	    secret[0] != '\0' && body->len > 0 &&
	    memmem(body->data, body->len, secret, strlen(secret)) != NULL;

	reply_set(r, status, e->code, e->type, leaks ? "" : e->message);
	keep_headers(r, call, all_headers);
	r->body = *body;
	buf_init(body, body->max);
	r->verbatim = whole && !leaks && r->status == status &&
		      (e->json || fault || coding.len > 0);
	if (!e->json && !leaks && coding.len == 0)
		take_plain_message(r, call);
}

bool
reply_has_retry_after(const struct reply *r)
{
	for (size_t i = 0; i < r->nheaders; i++)
		if (span_equal_nocase(r->headers[i].name, SPAN("retry-after")))
			return true;
	return false;
}

struct dialect_error
reply_error(const struct reply *r, const char *request_id)
{
	return (struct dialect_error){
		.status = r->status,
		.code = r->code,
		.type = r->type,
		.message = r->message,
		.request_id = request_id,
	};
}
