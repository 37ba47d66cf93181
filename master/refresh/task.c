/* SPDX-License-Identifier: MIT */
/*
 * One refresh: the file is read, the intent written to the ledger, the
 * request sent, the answer merged into the file as it is by then, the intent
 * deleted. Each step begins where the one before it ends; whatever may wait
 * for the disk runs on the ledger's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/str.h"
#include "master/credential/atomic_file.h"
#include "master/credential/credfile.h"
#include "master/refresh/refresh_core.h"

enum {
	TIMEOUT_MS = 30 * 1000,
	ANSWER_MAX = 256 * 1024,
	FILE_MAX = 2 * CREDFILE_BYTES_MAX,
	SAVE_AGAIN_S = 15,
	/* What only a person can mend is looked at again now and then. */
	HOPELESS_MS = 10 * 60 * 1000
};

/* Of an edit of the file, beside 0 and negative errno. */
enum { EDIT_OVERTAKEN = 1 };

struct task {
	struct ledger_job job; /* first: jobs are tasks */
	struct item *item;
	struct refresher *r;
	struct fetch *fetch;
	struct event *again; /* to save what could not be saved */
	char *id, *dir;
	bool signs;
	struct grant grant;
	struct grant_answer answer;
	struct refresh_record record;
	int64_t now_s;
	struct buf text;        /* of the file: as read, then as written */
	int rc;                 /* of the last job */
	bool forgot;            /* the intent is gone from the ledger */
	char *twins[TWINS_MAX]; /* that get the new tokens too */
	size_t ntwins;
	int twin_rc; /* of the last that could not be written */
	bool sought; /* under another name */
};

static int64_t
unix_s(void)
{
	return (int64_t)time(NULL);
}

static void
forget_twins(struct task *t)
{
	while (t->ntwins > 0)
		free(t->twins[--t->ntwins]);
}

static void
task_free(struct task *t)
{
	if (t->fetch != NULL)
		fetch_cancel(t->fetch);
	if (t->again != NULL)
		event_free(t->again);
	grant_fini(&t->grant);
	grant_answer_fini(&t->answer);
	credfile_wipe(&t->text);
	forget_twins(t);
	free(t->id);
	free(t->dir);
	free(t);
}

/* The last word of a task. */
static void
task_end(struct task *t, enum item_end end, const char *error, int64_t wait_ms)
{
	struct item *item = t->item;
	char copy[sizeof(item->error)];

	(void)str_copy(copy, sizeof(copy), error);
	task_free(t);
	item_ended(item, end, copy, wait_ms);
}

/* ---- jobs: what runs on the ledger's thread, and what follows */

static void
submit(struct task *t, void (*run)(struct ledger_job *job, struct store *store),
    void (*done)(struct ledger_job *job))
{
	t->job.run = run;
	t->job.done = done;
	ledger_submit(t->r->parts.ledger, &t->job);
}

static void
set_record(struct task *t, enum refresh_kind kind, const char *reason)
{
	t->record.kind = (uint32_t)kind;
	t->record.at_ms = unix_s() * 1000;
	(void)str_copy(t->record.reason, sizeof(t->record.reason), reason);
	item_set_record(t->item, &t->record);
}

/* ---- the end: what is to be remembered, is */

static void
run_forget(struct ledger_job *job, struct store *store)
{
	struct task *t = (struct task *)job;

	t->rc = refresh_record_delete(store, t->id);
}

static void
after_failure(struct ledger_job *job)
{
	struct task *t = (struct task *)job;

	/* What could not be deleted stands there for an answer that was lost.
	 */
	if (t->rc == 0)
		set_record(t, REFRESH_NOTHING, "");
	task_end(t, ITEM_FAILED, t->answer.reason, t->answer.wait_ms);
}

static void
run_remember(struct ledger_job *job, struct store *store)
{
	struct task *t = (struct task *)job;

	t->rc = refresh_record_put(store, t->id, &t->record);
}

static void
after_loss(struct ledger_job *job)
{
	struct task *t = (struct task *)job;

	task_end(t, ITEM_LOST, t->answer.reason, 0);
}

/*
 * Refused for good, unless the token was used up by somebody who has put the
 * next one into the file.
 */
static void
run_refused(struct ledger_job *job, struct store *store)
{
	struct task *t = (struct task *)job;
	AUTO_CLOSE int dirfd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	t->rc = credfile_read(dirfd, t->id, &t->text, &st);
	if (t->rc == 0 &&
	    !grant_is_of(t->text.data, t->text.len, t->grant.refresh_token)) {
		t->rc = refresh_record_delete(store, t->id);
		if (t->rc == 0)
			t->rc = EDIT_OVERTAKEN;
		return;
	}
	t->rc = refresh_record_put(store, t->id, &t->record);
}

static void
after_refusal(struct ledger_job *job)
{
	struct task *t = (struct task *)job;

	if (t->rc < 0)
		log_warn_e(t->rc,
		    "credential %s: cannot remember that it needs "
		    "a new login",
		    t->id);
	if (t->rc != EDIT_OVERTAKEN) {
		task_end(t, ITEM_REFUSED, t->answer.reason, 0);
		return;
	}
	set_record(t, REFRESH_NOTHING, "");
	(void)registry_file_changed(t->r->parts.registry, t->id);
	task_end(t, ITEM_OVERTAKEN, "", 0);
}

/* ---- new tokens */

static int
edit(void *ctx, const struct buf *was, struct buf *now)
{
	const struct task *t = ctx;

	if (!grant_is_of(was->data, was->len, t->grant.refresh_token))
		return EDIT_OVERTAKEN;
	return grant_merge(was->data, was->len, &t->answer, t->now_s, now);
}

static void
save_twins(struct task *t)
{
	struct buf text;
	int rc;

	for (size_t i = 0; i < t->ntwins; i++) {
		buf_init(&text, FILE_MAX);
		rc = credfile_edit(t->dir, t->twins[i], edit, t, &text);
		credfile_wipe(&text);
		if (rc < 0)
			t->twin_rc = rc;
	}
}

/* The file first: an intent that is left behind does less harm than none. */
static void
run_save(struct ledger_job *job, struct store *store)
{
	struct task *t = (struct task *)job;

	t->rc = credfile_edit(t->dir, t->id, edit, t, &t->text);
	save_twins(t);
	/* One that stays is void: it is about another refresh token. */
	if (t->rc >= 0 || t->rc == -ENOENT)
		t->forgot = refresh_record_delete(store, t->id) == 0;
}

static void after_save(struct ledger_job *job);

static void
on_again(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	submit(arg, run_save, after_save);
}

/* What cannot be published now comes again as the echo of the file. */
static void
say_unpublished(const struct task *t, int rc)
{
	if (rc < 0)
		log_warn_e(
		    rc, "credential %s: cannot publish its token", t->id);
}

static int
put_token(struct task *t)
{
	int64_t life_s = t->answer.expires_in_s;
	int rc = registry_put_token(t->r->parts.registry, t->id,
	    t->answer.access_token,
	    life_s > 0 ? (t->now_s + life_s) * 1000 : 0);

	say_unpublished(t, rc);
	return rc;
}

/*
 * The tokens are nowhere but here. Workers get the new one all the same, and
 * it is tried until it is saved.
 */
static void
save_later(struct task *t)
{
	const struct timeval wait = { .tv_sec = SAVE_AGAIN_S };

	if (t->again == NULL) {
		log_error_e(t->rc,
		    "credential %s: its new tokens cannot be saved, and are "
		    "lost if this process ends before they are",
		    t->id);
		(void)put_token(t);
		t->again = event_new(t->r->parts.base, -1, 0, on_again, t);
		if (t->again == NULL)
			fatalx("out of memory");
	}
	(void)event_add(t->again, &wait);
}

static void
publish_twins(struct task *t)
{
	for (size_t i = 0; i < t->ntwins; i++) {
		(void)registry_file_changed(t->r->parts.registry, t->twins[i]);
		item_served(t->r, t->twins[i]);
	}
	if (t->twin_rc < 0)
		log_warn_e(t->twin_rc,
		    "credential %s: a file with the same refresh token could "
		    "not be given the new one",
		    t->id);
}

/* A file that is gone may have been renamed a moment ago. */
static bool
seek(struct task *t)
{
	if (t->rc != -ENOENT || t->ntwins > 0 || t->sought)
		return false;
	t->sought = true;
	(void)registry_rescan(t->r->parts.registry);
	t->ntwins = item_twins(t->item, t->twins);
	return t->ntwins > 0;
}

static void
after_save(struct ledger_job *job)
{
	struct task *t = (struct task *)job;
	struct registry *registry = t->r->parts.registry;

	if (seek(t)) {
		submit(t, run_save, after_save);
		return;
	}
	if (t->rc == 0)
		say_unpublished(
		    t, registry_put_text(registry, t->id, &t->text));
	if (t->rc < 0 && t->rc != -ENOENT) {
		save_later(t);
		return;
	}
	set_record(t, REFRESH_NOTHING, "");
	if (t->rc != 0)
		(void)registry_file_changed(registry, t->id);
	publish_twins(t);
	task_end(t, t->rc == 0 ? ITEM_REFRESHED : ITEM_OVERTAKEN, "", 0);
}

/* Of a service account nothing is stored. */
static void
keep_signed(struct task *t)
{
	int rc = put_token(t);

	if (rc < 0)
		task_end(t, ITEM_FAILED, strerror(-rc), 0);
	else
		task_end(t, ITEM_REFRESHED, "", 0);
}

/* ---- the answer */

static void
end_signed(struct task *t)
{
	if (t->answer.end == GRANT_TOKENS)
		keep_signed(t);
	else if (t->answer.end == GRANT_LOGIN) {
		/* Without a token there is nothing that a repeat could break.
		 */
		set_record(t, REFRESH_LOGIN, t->answer.reason);
		submit(t, run_remember, after_refusal);
	} else
		task_end(t, ITEM_FAILED, t->answer.reason, t->answer.wait_ms);
}

static void
end_refresh(struct task *t)
{
	switch (t->answer.end) {
	case GRANT_TOKENS:
		t->ntwins = item_twins(t->item, t->twins);
		submit(t, run_save, after_save);
		break;
	case GRANT_LOGIN:
		set_record(t, REFRESH_LOGIN, t->answer.reason);
		submit(t, run_refused, after_refusal);
		break;
	case GRANT_FAILED:
		submit(t, run_forget, after_failure);
		break;
	case GRANT_LOST:
		set_record(t, REFRESH_LOST, t->answer.reason);
		submit(t, run_remember, after_loss);
		break;
	}
}

static void
on_answer(void *ctx, const struct fetch_answer *answer)
{
	struct task *t = ctx;

	t->fetch = NULL;
	t->now_s = unix_s();
	grant_read(answer, t->now_s, &t->answer);
	if (t->signs)
		end_signed(t);
	else
		end_refresh(t);
}

/* ---- the request */

static int
ask(struct task *t, const struct entry *e)
{
	static const char *const types[] = {
		[OAUTH_FORM] = "application/x-www-form-urlencoded",
		[OAUTH_JSON] = "application/json",
	};
	const struct fetch_header headers[] = {
		{ "Content-Type", types[t->grant.encoding] },
		{ "Accept", "application/json" },
	};
	const struct config *config = *t->r->parts.config;
	struct fetch_request request = {
		.url = t->grant.url,
		.headers = headers,
		.nheaders = ARRAY_LEN(headers),
		.body = t->grant.body,
		.body_len = strlen(t->grant.body),
		.proxy = proxy_resolve(e->cred->proxy_url, config->proxy_url,
		    t->r->parts.env, t->grant.url),
		.timeout_ms = TIMEOUT_MS,
		.max_bytes = ANSWER_MAX,
	};

	if (request.proxy == NULL)
		return -EINVAL;
	return fetch_start(
	    t->r->parts.fetcher, &request, on_answer, t, &t->fetch);
}

/* As if the endpoint had not been reached. */
static void
fail_unsent(struct task *t, const char *why)
{
	(void)str_copy(t->answer.reason, sizeof(t->answer.reason), why);
	t->answer.wait_ms = HOPELESS_MS;
	submit(t, run_forget, after_failure);
}

/* An intent, and proof that the answer can be saved. */
static void
run_intend(struct ledger_job *job, struct store *store)
{
	struct task *t = (struct task *)job;

	t->rc = atomic_file_probe(t->dir, t->id, &t->text);
	if (t->rc == 0)
		t->rc = refresh_record_put(store, t->id, &t->record);
}

static void
after_intent(struct ledger_job *job)
{
	struct task *t = (struct task *)job;
	const struct entry *e;
	char why[sizeof(t->item->error)];

	if (t->rc < 0) {
		(void)snprintf(why, sizeof(why),
		    "new tokens could not be saved: %s", strerror(-t->rc));
		task_end(t, ITEM_FAILED, why, 0);
		return;
	}
	item_set_record(t->item, &t->record);
	e = name_map_find(registry_entries(t->r->parts.registry), t->id);
	if (t->r->ending || e == NULL || e->cred == NULL ||
	    entry_is_disabled(e))
		fail_unsent(t, "it is not to be refreshed any more");
	else if (ask(t, e) < 0)
		fail_unsent(t, "its proxy or token endpoint cannot be used");
}

/* ---- the file */

static int
read_file(struct task *t)
{
	AUTO_CLOSE int dirfd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (dirfd < 0)
		return -errno;
	return credfile_read(dirfd, t->id, &t->text, &st);
}

/* The file may have moved on, and what was published follows it then. */
static bool
has_moved_on(const struct task *t, const struct entry *e)
{
	struct digest digest;

	digest_of(
	    t->grant.refresh_token, strlen(t->grant.refresh_token), &digest);
	return !t->signs && !digest_equal(&digest, &e->cred->refresh_token);
}

void
task_start(struct item *item, const struct entry *e)
{
	struct task *t = xcalloc(1, sizeof(*t));
	const struct config *config = *item->r->parts.config;
	const struct credential *c = e->cred;
	const char *why = NULL;
	int rc;

	t->item = item;
	t->r = item->r;
	t->id = xstrdup(item->id);
	t->dir = xstrdup(registry_auth_dir(t->r->parts.registry));
	t->signs = c->signs;
	buf_init(&t->text, FILE_MAX);
	item->task = t;
	t->record.refresh_token = c->refresh_token;
	t->record.identity = c->identity;
	rc = read_file(t);
	if (rc < 0) {
		task_end(t, ITEM_FAILED, "its file cannot be read", 0);
		return;
	}
	rc = grant_make(c->provider, &config->oauth[c->provider->id],
	    t->text.data, t->text.len, unix_s(), &t->grant, &why);
	if (rc < 0) {
		task_end(t, ITEM_FAILED, why, HOPELESS_MS);
	} else if (has_moved_on(t, e)) {
		(void)registry_file_changed(t->r->parts.registry, t->id);
		task_end(t, ITEM_OVERTAKEN, "", 0);
	} else if (!t->signs) {
		t->record.kind = REFRESH_INTENT;
		t->record.at_ms = unix_s() * 1000;
		submit(t, run_intend, after_intent);
	} else if (ask(t, e) < 0) {
		task_end(t, ITEM_FAILED,
		    "its proxy or token endpoint cannot be used", HOPELESS_MS);
	}
}

void
task_abandon(struct task *t)
{
	/* The last chance of tokens that could not be saved. */
	if (t->again != NULL &&
	    credfile_edit(t->dir, t->id, edit, t, &t->text) < 0)
		log_error("credential %s: its new tokens are lost", t->id);
	task_free(t);
}
