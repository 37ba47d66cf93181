/* SPDX-License-Identifier: MIT */
#include "master/control/sessions.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/bindings.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/state.h"
#include "common/str.h"
#include "master/master.h"
#include "master/registry/registry.h"

enum {
	KEY_TEXT = 2 * BINDING_SESSION_LEN + 1,
	KEY_PREFIX_MIN = 4, /* digits of a key that may stand for it */
	FOUND_MAX = 256,    /* bindings that one id may lead to */
	PAGE_RECORDS = 16384,
	PAGE_ROWS_MAX = 1000
};

/* What is known of a credential that some binding names. */
struct holder {
	char *name;
	bool known;     /* to `state` */
	uint64_t epoch; /* of its bindings that are not void */
	int64_t count;
};

/* A walk over what is bound, void bindings left out. */
struct walk {
	struct master *m;
	MDB_txn *state;
	struct name_map holders;
	void (*each)(struct walk *w, const struct binding_key *key,
	    const struct binding *b, struct holder *holder);
	void *ctx;
	struct bindings_page *page; /* NULL: all of it */
	bool stop;                  /* each has enough */
	int64_t now_ms;
};

static void
free_holders(struct name_map *map)
{
	struct holder *h;
	size_t i;

	for (i = 0; i < map->n; i++) {
		h = map->v[i];
		free(h->name);
		free(h);
	}
	name_map_fini(map);
}

static struct holder *
find_holder(struct walk *w, const char *id)
{
	const struct state_credential *c;
	struct holder *h = name_map_find(&w->holders, id);

	if (h != NULL)
		return h;
	h = xcalloc(1, sizeof(*h));
	h->name = xstrdup(id);
	h->known =
	    state_get_credential(&w->m->store_state, w->state, id, &c) == 0;
	if (h->known)
		h->epoch = c->epoch;
	(void)name_map_put(&w->holders, h);
	return h;
}

static int
on_binding(void *ctx, const struct binding_key *key, const struct binding *b)
{
	struct walk *w = ctx;
	struct holder *h = find_holder(w, b->credential);

	if (h->known && h->epoch == b->epoch)
		w->each(w, key, b, h);
	return w->stop;
}

static void
walk_both(struct walk *w, MDB_txn *bindings)
{
	struct store *s = &w->m->store_bindings;
	int rc;

	w->now_ms = clock_now_ms();
	rc = w->page != NULL
		 ? bindings_each_in(
		       s, bindings, w->now_ms, w->page, on_binding, w)
		 : bindings_each(s, bindings, w->now_ms, on_binding, w);
	if (rc < 0)
		log_warn_e(rc, "cannot read the bindings");
}

/* Leaves the holders to the caller. */
static void
walk(struct walk *w)
{
	struct master *m = w->m;
	MDB_txn *bindings;

	if (store_read(&m->store_state, &w->state) < 0)
		return;
	if (store_read(&m->store_bindings, &bindings) == 0) {
		walk_both(w, bindings);
		store_read_end(&m->store_bindings);
	}
	store_read_end(&m->store_state);
}

static int64_t
quick_count(struct master *m)
{
	MDB_txn *txn;
	int64_t n = 0;

	if (store_read(&m->store_bindings, &txn) == 0) {
		n = bindings_count(&m->store_bindings, txn);
		store_read_end(&m->store_bindings);
	}
	return n;
}

static void
count_one(struct walk *w, const struct binding_key *key UNUSED,
    const struct binding *b UNUSED, struct holder *holder)
{
	int64_t *total = w->ctx;

	holder->count++;
	(*total)++;
}

void
sessions_count(struct sessions *s, struct master *m, int64_t max)
{
	struct walk w = { .m = m, .each = count_one, .ctx = &s->total };

	*s = (struct sessions){ .total = quick_count(m) };
	if (s->total > max)
		return;
	s->total = 0;
	s->counted = true;
	walk(&w);
	s->credentials = w.holders;
}

void
sessions_fini(struct sessions *s)
{
	free_holders(&s->credentials);
}

bool
sessions_are_counted(const struct sessions *s)
{
	return s->counted;
}

int64_t
sessions_total(const struct sessions *s)
{
	return s->total;
}

int64_t
sessions_of_credential(void *sessions, const char *id)
{
	const struct sessions *s = sessions;
	const struct holder *h = name_map_find(&s->credentials, id);

	return h != NULL ? h->count : 0;
}

struct moving {
	const struct registry_set *set;
	uint8_t last[BINDING_SESSION_LEN]; /* that was counted */
	int64_t n;
};

/* Its models stand together: a session that uses several counts once. */
static void
count_moving(struct walk *w, const struct binding_key *key,
    const struct binding *b, struct holder *holder UNUSED)
{
	struct moving *m = w->ctx;

	if (!registry_would_lose(
		w->m->registry, m->set, b->credential, b->model))
		return;
	if (m->n > 0 && memcmp(m->last, key->bytes, sizeof(m->last)) == 0)
		return;
	memcpy(m->last, key->bytes, sizeof(m->last));
	m->n++;
}

int64_t
sessions_moved_by(struct master *m, const struct registry_set *set)
{
	struct moving moving = { .set = set };
	struct walk w = { .m = m, .each = count_moving, .ctx = &moving };

	if (quick_count(m) > SESSIONS_COUNT_QUICK)
		return -1;
	walk(&w);
	free_holders(&w.holders);
	return moving.n;
}

static cJSON *
describe(const struct walk *w, const struct binding_key *key,
    const struct binding *b)
{
	cJSON *row = cJSON_CreateObject();
	char text[KEY_TEXT];

	str_hex(key->bytes, BINDING_SESSION_LEN, text);
	(void)cJSON_AddStringToObject(row, "key", text);
	(void)cJSON_AddStringToObject(row, "session", b->session);
	(void)cJSON_AddStringToObject(row, "source", b->source);
	(void)cJSON_AddStringToObject(row, "model", b->model);
	(void)cJSON_AddStringToObject(row, "credential", b->credential);
	(void)cJSON_AddNumberToObject(
	    row, "age_s", (double)(w->now_ms - b->created_ms) / 1000);
	(void)cJSON_AddNumberToObject(
	    row, "expires_s", (double)(b->expires_ms - w->now_ms) / 1000);
	return row;
}

/* ---- the list */

struct listing {
	const struct sessions_query *query;
	cJSON *rows;
	int64_t listed;
	int64_t total;
};

/* source: a beginning will do, since "header" is all one may remember. */
static bool
is_asked_for(const struct sessions_query *q, const struct binding *b)
{
	return (q->credential == NULL ||
		   strcmp(q->credential, b->credential) == 0) &&
	       (q->model == NULL || strcmp(q->model, b->model) == 0) &&
	       (q->source == NULL ||
		   strncmp(q->source, b->source, strlen(q->source)) == 0);
}

/* The page ends with the last row, so that the next one begins behind it. */
static void
list_one(struct walk *w, const struct binding_key *key, const struct binding *b,
    struct holder *holder)
{
	struct listing *l = w->ctx;

	if (!is_asked_for(l->query, b))
		return;
	holder->count++;
	l->total++;
	if (l->listed == l->query->limit)
		return;
	(void)cJSON_AddItemToArray(l->rows, describe(w, key, b));
	l->listed++;
	w->stop = l->listed == l->query->limit;
}

static void
add_holders(const struct name_map *holders, cJSON *by_credential)
{
	const struct holder *h;
	size_t i;

	for (i = 0; i < holders->n; i++) {
		h = holders->v[i];
		if (h->count > 0)
			(void)cJSON_AddNumberToObject(
			    by_credential, h->name, (double)h->count);
	}
}

static void
add_next(cJSON *answer, const struct bindings_page *page)
{
	char text[2 * BINDING_KEY_LEN + 1];

	if (!page->more) {
		(void)cJSON_AddNullToObject(answer, "next");
		return;
	}
	str_hex(page->begin, sizeof(page->begin), text);
	(void)cJSON_AddStringToObject(answer, "next", text);
}

void
sessions_list(
    struct master *m, const struct sessions_query *query, cJSON *answer)
{
	cJSON *total = cJSON_AddNumberToObject(answer, "total", 0);
	cJSON *by_credential = cJSON_AddObjectToObject(answer, "by_credential");
	struct bindings_page page = { .most = PAGE_RECORDS };
	struct listing l = {
		.query = query,
		.rows = cJSON_AddArrayToObject(answer, "sessions"),
	};
	struct walk w = {
		.m = m,
		.each = list_one,
		.ctx = &l,
		.page = &page,
	};

	memcpy(page.begin, query->begin, sizeof(page.begin));
	walk(&w);
	(void)cJSON_SetNumberValue(total, (double)l.total);
	add_holders(&w.holders, by_credential);
	add_next(answer, &page);
	free_holders(&w.holders);
}

bool
sessions_query_read(
    struct sessions_query *q, const char *const *args, size_t nargs)
{
	const struct {
		const char *name;
		const char **value;
	} filters[] = {
		{ "credential=", &q->credential },
		{ "source=", &q->source },
		{ "model=", &q->model },
		{ "limit=", &q->limit_text },
		{ "after=", &q->after_text },
	};
	size_t i, k, len;

	*q = (struct sessions_query){ .limit = PAGE_ROWS_MAX };
	for (i = 0; i < nargs; i++) {
		for (k = 0; k < ARRAY_LEN(filters); k++) {
			len = strlen(filters[k].name);
			if (strncmp(args[i], filters[k].name, len) == 0)
				break;
		}
		if (k == ARRAY_LEN(filters))
			return false;
		*filters[k].value = args[i] + len;
	}
	if (q->limit_text != NULL &&
	    str_to_int(q->limit_text, 0, PAGE_ROWS_MAX, &q->limit) != 0)
		return false;
	return q->after_text == NULL ||
	       str_unhex(q->after_text, q->begin, sizeof(q->begin)) >= 0;
}

/* ---- one session */

struct search {
	struct master *m;
	const char *id;
	cJSON *rows; /* or NULL */
	struct binding_key keys[FOUND_MAX];
	size_t found;
};

static void
note_found(struct walk *w, const struct binding_key *key,
    const struct binding *b, struct holder *holder UNUSED)
{
	struct search *s = w->ctx;

	if (s->found == FOUND_MAX) {
		w->stop = true;
		return;
	}
	s->keys[s->found++] = *key;
	if (s->rows != NULL)
		(void)cJSON_AddItemToArray(s->rows, describe(w, key, b));
}

/* Whether the digits of a key begin like that. */
static void
match_key(struct walk *w, const struct binding_key *key,
    const struct binding *b, struct holder *holder)
{
	const struct search *s = w->ctx;
	char text[KEY_TEXT];

	str_hex(key->bytes, BINDING_SESSION_LEN, text);
	if (strncmp(text, s->id, strlen(s->id)) == 0)
		note_found(w, key, b, holder);
	else
		w->stop = true;
}

static void
match_short(struct walk *w, const struct binding_key *key,
    const struct binding *b, struct holder *holder)
{
	const struct search *s = w->ctx;

	if (strcmp(b->session, s->id) == 0)
		note_found(w, key, b, holder);
}

/* Keys with the same beginning stand together. */
static void
search_keys(struct search *s)
{
	struct bindings_page page = { .most = PAGE_RECORDS };
	struct walk w = {
		.m = s->m,
		.each = match_key,
		.ctx = s,
		.page = &page,
	};
	size_t len = strlen(s->id);
	AUTO_FREE char *digits = xasprintf("%s%s", s->id, len % 2 ? "0" : "");

	if (len < KEY_PREFIX_MIN || len >= KEY_TEXT ||
	    str_unhex(digits, page.begin, sizeof(page.begin)) < 0)
		return;
	walk(&w);
	free_holders(&w.holders);
}

/* An id as the client sends it, behind its prefix: of every client. */
static void
search_ids(struct search *s)
{
	const struct client_keys *scopes = &s->m->config->client_keys;
	struct walk w = { .m = s->m, .each = note_found, .ctx = s };
	struct store *bindings = &s->m->store_bindings;
	struct binding_key key;
	MDB_txn *txn;
	size_t i;

	if (store_read(&s->m->store_state, &w.state) < 0)
		return;
	w.now_ms = clock_now_ms();
	if (store_read(bindings, &txn) == 0) {
		for (i = 0; i <= scopes->n; i++) {
			binding_key_make(&key,
			    i < scopes->n ? &scopes->v[i] : NULL, s->id,
			    strlen(s->id), "", 0);
			(void)bindings_of_session(
			    bindings, txn, &key, w.now_ms, on_binding, &w);
		}
		store_read_end(bindings);
	}
	store_read_end(&s->m->store_state);
	free_holders(&w.holders);
}

/* Shortened ids stand anywhere: only where there are few enough. */
static void
search_all(struct search *s)
{
	struct walk w = { .m = s->m, .each = match_short, .ctx = s };

	if (quick_count(s->m) > SESSIONS_COUNT_QUICK)
		return;
	walk(&w);
	free_holders(&w.holders);
}

static void
search(struct search *s)
{
	search_keys(s);
	if (s->found == 0)
		search_ids(s);
	if (s->found == 0)
		search_all(s);
}

size_t
sessions_find(struct master *m, const char *id, cJSON *rows)
{
	struct search s = { .m = m, .id = id, .rows = rows };

	search(&s);
	return s.found;
}

static bool
same_session(const struct binding_key *a, const struct binding_key *b)
{
	return memcmp(a->bytes, b->bytes, BINDING_SESSION_LEN) == 0;
}

static bool
are_one_session(const struct search *s)
{
	size_t i;

	for (i = 1; i < s->found; i++) {
		if (!same_session(&s->keys[0], &s->keys[i]))
			return false;
	}
	return true;
}

int
sessions_unbind(struct master *m, const char *id)
{
	struct search s = { .m = m, .id = id };
	size_t removed, i;
	bool whole_id;
	int rc = 0;

	search_ids(&s);
	whole_id = s.found > 0;
	if (!whole_id)
		search(&s);
	if (s.found == 0)
		return SESSIONS_UNKNOWN;
	/* A whole id may be several clients'; a shortened one anybody's. */
	if (!whole_id && !are_one_session(&s))
		return SESSIONS_AMBIGUOUS;
	for (i = 0; i < s.found && rc >= 0 && rc != BINDINGS_BUSY; i++) {
		if (i == 0 || !same_session(&s.keys[i - 1], &s.keys[i]))
			rc = bindings_unbind_session(
			    &m->store_bindings, m->board, &s.keys[i], &removed);
	}
	return rc == BINDINGS_BUSY ? SESSIONS_BUSY : rc < 0 ? rc : 0;
}
