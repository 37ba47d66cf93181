/* SPDX-License-Identifier: MIT */
/*
 * One libcurl multi on the master's event loop.
 *
 * Every exchange has a connection of its own: on one that was used before,
 * libcurl (7.88.1) sends a request a second time when the first is not
 * answered, and a refresh token must not be sent twice.
 */
#include "master/fetch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <curl/curl.h>
#include <event2/event_struct.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/outbound.h"
#include "common/secret.h"

enum { CONNECT_TIMEOUT_MS = 10 * 1000 };

struct fetch {
	TAILQ_ENTRY(fetch) link;
	struct fetcher *fetcher;
	CURL *easy;
	struct curl_slist *headers;
	char *body;
	size_t body_len;
	struct buf answer;
	bool too_large;
	fetch_done_fn *done;
	void *ctx;
	char error[CURL_ERROR_SIZE];
};

struct fetcher {
	struct event_base *base;
	CURLM *multi;
	struct event timer;
	TAILQ_HEAD(, fetch) running;
};

static void
fetch_destroy(struct fetch *f)
{
	TAILQ_REMOVE(&f->fetcher->running, f, link);
	if (f->easy != NULL) {
		(void)curl_multi_remove_handle(f->fetcher->multi, f->easy);
		curl_easy_cleanup(f->easy);
	}
	for (struct curl_slist *h = f->headers; h != NULL; h = h->next)
		secret_wipe(h->data, strlen(h->data));
	curl_slist_free_all(f->headers);
	if (f->body != NULL)
		secret_wipe(f->body, f->body_len);
	free(f->body);
	if (f->answer.data != NULL)
		secret_wipe(f->answer.data, f->answer.cap);
	buf_fini(&f->answer);
	free(f);
}

/* ---- the end of one */

/* Before the request goes out libcurl notes how long it took until then. */
static bool
was_sent(CURL *easy)
{
	curl_off_t us = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &us);
	return us > 0;
}

static enum fetch_end
end_of(const struct fetch *f, CURLcode result)
{
	if (f->too_large)
		return FETCH_TOO_LARGE;
	if (result == CURLE_OK)
		return FETCH_ANSWERED;
	return was_sent(f->easy) ? FETCH_LOST : FETCH_UNSENT;
}

static void
fetch_finish(struct fetch *f, CURLcode result)
{
	struct fetch_answer answer = { .end = end_of(f, result) };
	curl_off_t retry_after_s = 0;
	long status = 0;

	(void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(f->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
	answer.status = (int)status;
	answer.retry_after_s = retry_after_s;
	answer.len = f->answer.len;
	answer.body = buf_string(&f->answer);
	if (answer.end == FETCH_TOO_LARGE)
		answer.detail = "the answer is too large";
	else
		answer.detail =
		    f->error[0] != '\0' ? f->error : curl_easy_strerror(result);
	f->done(f->ctx, &answer);
	fetch_destroy(f);
}

static void
fetcher_turn(struct fetcher *fetcher, curl_socket_t fd, int bits)
{
	CURLMsg *msg;
	int n;

	(void)curl_multi_socket_action(fetcher->multi, fd, bits, &n);
	while ((msg = curl_multi_info_read(fetcher->multi, &n)) != NULL) {
		char *owner = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(
		    msg->easy_handle, CURLINFO_PRIVATE, &owner);
		fetch_finish((struct fetch *)(void *)owner, msg->data.result);
	}
}

/* ---- sockets and the timer of libcurl */

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	fetcher_turn(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int
on_timer_change(CURLM *multi UNUSED, long timeout_ms, void *arg)
{
	struct fetcher *fetcher = arg;
	struct timeval tv = {
		.tv_sec = timeout_ms / 1000,
		.tv_usec = timeout_ms % 1000 * 1000,
	};

	if (timeout_ms < 0)
		return event_del(&fetcher->timer);
	return event_add(&fetcher->timer, &tv);
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	int bits = 0;

	if (what & EV_READ)
		bits |= CURL_CSELECT_IN;
	if (what & EV_WRITE)
		bits |= CURL_CSELECT_OUT;
	fetcher_turn(arg, fd, bits);
}

static int
on_socket_change(
    CURL *easy UNUSED, curl_socket_t fd, int what, void *arg, void *socketp)
{
	struct fetcher *fetcher = arg;
	struct event *ev = socketp;
	short wanted = EV_PERSIST;

	if (ev != NULL)
		event_free(ev);
	ev = NULL;
	if (what & CURL_POLL_IN)
		wanted |= EV_READ;
	if (what & CURL_POLL_OUT)
		wanted |= EV_WRITE;
	if (what != CURL_POLL_REMOVE) {
		ev = event_new(fetcher->base, fd, wanted, on_socket, fetcher);
		if (ev == NULL || event_add(ev, NULL) != 0)
			fatalx("out of memory");
	}
	(void)curl_multi_assign(fetcher->multi, fd, ev);
	return 0;
}

static curl_socket_t
on_socket_open(void *arg UNUSED, curlsocktype purpose UNUSED,
    struct curl_sockaddr *address)
{
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
	    address->protocol);
}

/* ---- the beginning of one */

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	struct fetch *f = arg;
	size_t len = size * n;

	/* The last byte of the buffer is for the zero behind it. */
	f->too_large = len >= f->answer.max - f->answer.len;
	if (f->too_large)
		return CURL_WRITEFUNC_ERROR;
	buf_append(&f->answer, data, len);
	return len;
}

static int
add_header(struct fetch *f, const char *name, const char *value)
{
	AUTO_FREE char *line = xasprintf("%s: %s", name, value);
	struct curl_slist *longer = curl_slist_append(f->headers, line);

	secret_wipe(line, strlen(line));
	if (longer == NULL)
		return -ENOMEM;
	f->headers = longer;
	return 0;
}

static int
copy_headers(struct fetch *f, const struct fetch_request *r)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < r->nheaders; i++)
		rc = add_header(f, r->headers[i].name, r->headers[i].value);
	if (rc == 0 && r->body != NULL) {
		struct curl_slist *longer =
		    curl_slist_append(f->headers, "Expect:");

		if (longer == NULL)
			return -ENOMEM;
		f->headers = longer;
	}
	return rc;
}

static CURLcode
load_body(struct fetch *f, const struct fetch_request *r)
{
	CURLcode rc;

	if (r->body == NULL)
		return curl_easy_setopt(f->easy, CURLOPT_HTTPGET, 1L);
	f->body = xmalloc(r->body_len + 1);
	memcpy(f->body, r->body, r->body_len);
	f->body_len = r->body_len;
	rc = curl_easy_setopt(f->easy, CURLOPT_POST, 1L);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)r->body_len);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, f->body);
	return rc;
}

static int
fetch_load(struct fetch *f, const struct fetch_request *r)
{
	CURL *easy = f->easy;
	struct outbound o = {
		.proxy = r->proxy,
		.connect_timeout_ms = CONNECT_TIMEOUT_MS,
		.total_timeout_ms = r->timeout_ms,
	};
	int rc = outbound_apply(easy, &o);

	if (rc == 0)
		rc = copy_headers(f, r);
	if (rc != 0)
		return rc;
	if (load_body(f, r) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_URL, r->url) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, f->headers) !=
		CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) !=
		CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_WRITEDATA, f) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->error) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_PRIVATE, f) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L) != CURLE_OK ||
	    curl_easy_setopt(
		easy, CURLOPT_OPENSOCKETFUNCTION, on_socket_open) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

int
fetch_start(struct fetcher *fetcher, const struct fetch_request *request,
    fetch_done_fn *done, void *ctx, struct fetch **out)
{
	struct fetch *f = xcalloc(1, sizeof(*f));
	int rc = -ENOMEM;

	f->fetcher = fetcher;
	f->done = done;
	f->ctx = ctx;
	buf_init(&f->answer, request->max_bytes + 1);
	TAILQ_INSERT_TAIL(&fetcher->running, f, link);
	f->easy = curl_easy_init();
	if (f->easy != NULL)
		rc = fetch_load(f, request);
	if (rc == 0 &&
	    curl_multi_add_handle(fetcher->multi, f->easy) != CURLM_OK)
		rc = -ENOMEM;
	if (rc < 0) {
		fetch_destroy(f);
		return rc;
	}
	*out = f;
	return 0;
}

void
fetch_cancel(struct fetch *fetch)
{
	fetch_destroy(fetch);
}

struct fetcher *
fetch_new(struct event_base *base)
{
	struct fetcher *fetcher = xcalloc(1, sizeof(*fetcher));

	fetcher->base = base;
	TAILQ_INIT(&fetcher->running);
	(void)evtimer_assign(&fetcher->timer, base, on_timer, fetcher);
	if (outbound_init() != 0 ||
	    (fetcher->multi = curl_multi_init()) == NULL)
		fatalx("cannot set up libcurl");
	curl_multi_setopt(
	    fetcher->multi, CURLMOPT_SOCKETFUNCTION, on_socket_change);
	curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
	curl_multi_setopt(
	    fetcher->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
	curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
	return fetcher;
}

void
fetch_free(struct fetcher *fetcher)
{
	if (fetcher == NULL)
		return;
	while (!TAILQ_EMPTY(&fetcher->running))
		fetch_destroy(TAILQ_FIRST(&fetcher->running));
	(void)curl_multi_cleanup(fetcher->multi);
	(void)event_del(&fetcher->timer);
	free(fetcher);
}
