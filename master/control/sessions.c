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
	UNBIND_MAX = 256    /* models of one session */
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
	return 0;
}

static void
walk_both(struct walk *w, MDB_txn *bindings)
{
	struct store *s = &w->m->store_bindings;
	int rc;

	w->now_ms = clock_now_ms();
	rc = bindings_each(s, bindings, w->now_ms, on_binding, w);
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

struct listing {
	cJSON *rows;
	int64_t total;
};

static void
list_one(struct walk *w, const struct binding_key *key, const struct binding *b,
    struct holder *holder)
{
	struct listing *l = w->ctx;

	holder->count++;
	if (l->total++ < SESSIONS_LISTED_MAX)
		(void)cJSON_AddItemToArray(l->rows, describe(w, key, b));
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

void
sessions_describe(struct master *m, cJSON *answer)
{
	cJSON *total = cJSON_AddNumberToObject(answer, "total", 0);
	cJSON *by_credential = cJSON_AddObjectToObject(answer, "by_credential");
	struct listing l = { cJSON_AddArrayToObject(answer, "sessions"), 0 };
	struct walk w = { .m = m, .each = list_one, .ctx = &l };

	walk(&w);
	(void)cJSON_SetNumberValue(total, (double)l.total);
	add_holders(&w.holders, by_credential);
	free_holders(&w.holders);
}

static bool
answers_to(
    const struct binding_key *key, const struct binding *b, const char *id)
{
	char text[KEY_TEXT];
	size_t len = strlen(id);

	if (strcmp(b->session, id) == 0)
		return true;
	str_hex(key->bytes, BINDING_SESSION_LEN, text);
	return len >= KEY_PREFIX_MIN && len < sizeof(text) &&
	       strncmp(text, id, len) == 0;
}

struct search {
	const char *id;
	cJSON *rows; /* or NULL */
	struct binding_key keys[UNBIND_MAX];
	size_t found;
};

static void
search_one(struct walk *w, const struct binding_key *key,
    const struct binding *b, struct holder *holder UNUSED)
{
	struct search *s = w->ctx;

	if (s->found == UNBIND_MAX || !answers_to(key, b, s->id))
		return;
	s->keys[s->found++] = *key;
	if (s->rows != NULL)
		(void)cJSON_AddItemToArray(s->rows, describe(w, key, b));
}

static void
search(struct master *m, struct search *s)
{
	struct walk w = { .m = m, .each = search_one, .ctx = s };

	walk(&w);
	free_holders(&w.holders);
}

size_t
sessions_find(struct master *m, const char *id, cJSON *rows)
{
	struct search s = { .id = id, .rows = rows };

	search(m, &s);
	return s.found;
}

static bool
are_one_session(const struct search *s)
{
	size_t i;

	for (i = 1; i < s->found; i++) {
		if (memcmp(s->keys[0].bytes, s->keys[i].bytes,
			BINDING_SESSION_LEN) != 0)
			return false;
	}
	return true;
}

int
sessions_unbind(struct master *m, const char *id)
{
	struct search s = { .id = id };
	size_t removed;
	int rc;

	search(m, &s);
	if (s.found == 0)
		return SESSIONS_UNKNOWN;
	if (!are_one_session(&s))
		return SESSIONS_AMBIGUOUS;
	rc = bindings_unbind_session(
	    &m->store_bindings, m->board, &s.keys[0], &removed);
	if (rc == BINDINGS_MISS)
		return SESSIONS_UNKNOWN;
	return rc == BINDINGS_BUSY ? SESSIONS_BUSY : rc;
}
