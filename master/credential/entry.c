/* SPDX-License-Identifier: MIT */
/* A credential, what it serves and where it stands; see entry.h. */
#include "master/credential/entry.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "master/credential/base_url.h"

/*
 * The names that records use; a record read back holds one of them.
 */
static const char *const source_names[] = {
	[CREDENTIAL_FROM_FILE] = "file",
	[CREDENTIAL_FROM_CONFIG] = "config",
};

static void
add_text(struct digest_stream *s, const char *text)
{
	digest_stream_add(s, text, strlen(text) + 1);
}

/* An API key is part of the target: another key is another account. */
static void
digest_target(struct entry *e, enum provider_id provider, const char *base_url,
    const char *account, const char *prefix)
{
	struct digest_stream *s = digest_stream_new();
	uint8_t kind[2] = { (uint8_t)provider, (e->flags & STATE_OAUTH) != 0 };

	digest_stream_add(s, kind, sizeof(kind));
	add_text(s, base_url);
	add_text(s, account);
	add_text(s, prefix);
	if ((e->flags & STATE_OAUTH) == 0)
		digest_stream_add(s, e->secret.bytes, DIGEST_LEN);
	digest_stream_end(s, &e->target);
}

static enum tristate
first_said(enum tristate own, bool otherwise)
{
	if (own != TRI_UNSET)
		return own;
	return otherwise ? TRI_TRUE : TRI_FALSE;
}

static uint16_t
flags_of(const struct credential *c, const struct config *config)
{
	uint16_t flags = 0;

	if (c->auth == AUTH_OAUTH)
		flags |= STATE_OAUTH;
	if (c->refreshable)
		flags |= STATE_REFRESHABLE;
	if (first_said(c->disable_cooling, config->disable_cooling) == TRI_TRUE)
		flags |= STATE_DISABLE_COOLING;
	if (c->source == CREDENTIAL_FROM_FILE)
		flags |= STATE_FROM_FILE;
	return flags;
}

static void
resolve_proxy(
    struct entry *e, const struct config *config, const struct proxy_env *env)
{
	const char *proxy = proxy_resolve(
	    e->cred->proxy_url, config->proxy_url, env, e->cred->base_url);
	AUTO_FREE char *origin = base_url_origin(e->cred->base_url);

	if (proxy == NULL) {
		e->flags |= STATE_PROXY_INVALID;
		e->fault = "its proxy URL is invalid";
	}
	e->proxy = xstrdup(proxy != NULL ? proxy : "");
	e->path_name = xasprintf("%s %s", origin, e->proxy);
}

void
entry_hold(struct entry *e, bool held)
{
	e->held = held;
	e->flags &= (uint16_t) ~(STATE_DISABLED | STATE_HELD);
	if (held)
		e->flags |= STATE_DISABLED | STATE_HELD;
	else if (e->cred->disabled)
		e->flags |= STATE_DISABLED;
}

void
entry_note_refresh(struct entry *e, const struct refresh_note *note)
{
	e->note = *note;
	e->noted = true;
	if (note->dead && e->fault == NULL)
		e->fault = "it needs a new login";
}

void
entry_inherit_note(struct entry *e, const struct entry *old)
{
	if (!e->noted && digest_equal(&e->secret, &old->secret))
		entry_note_refresh(e, &old->note);
}

struct entry *
entry_new(struct credential *cred, const struct config *config,
    const struct proxy_env *env, const struct catalog *catalog, bool held)
{
	struct entry *e = xcalloc(1, sizeof(*e));

	e->id = xstrdup(cred->id);
	e->cred = cred;
	e->served = models_served(cred, config, catalog);
	e->fault = cred->fault;
	e->flags = flags_of(cred, config);
	entry_hold(e, held);
	e->transient_cooldown_ms = config->transient_error_cooldown_ms;
	e->slot = BOARD_NONE;
	resolve_proxy(e, config, env);
	digest_of(cred->secret, strlen(cred->secret), &e->secret);
	digest_target(e, cred->provider->id, cred->base_url, cred->account_id,
	    cred->prefix);
	return e;
}

static struct served *
served_from_record(const struct state_credential *r)
{
	const struct state_model *models = state_credential_models(r);
	struct served_pair *pairs = xcalloc(r->nmodels, sizeof(*pairs));
	struct served *served;
	size_t i;

	for (i = 0; i < r->nmodels; i++)
		pairs[i] = (struct served_pair){
			.name = state_string(r, models[i].name),
			.upstream = state_string(r, models[i].upstream),
			.cell = models[i].cell,
			.cursor = models[i].cursor,
		};
	served = models_from_pairs(pairs, r->nmodels);
	free(pairs);
	return served;
}

struct entry *
entry_from_record(const struct state_credential *r)
{
	struct entry *e = xcalloc(1, sizeof(*e));
	const char *secret = state_string(r, r->secret);

	e->id = xstrdup(state_string(r, r->id));
	e->served = served_from_record(r);
	e->proxy = xstrdup(state_string(r, r->proxy));
	e->path_name = xstrdup("");
	e->flags = r->flags & (uint16_t)~STATE_OWN_PATH;
	e->held = (r->flags & STATE_HELD) != 0;
	e->slot = r->slot;
	e->incarnation = r->incarnation;
	e->epoch = r->epoch;
	e->token_generation = r->token_generation;
	e->own_path = (r->flags & STATE_OWN_PATH) != 0;
	digest_of(secret, strlen(secret), &e->secret);
	digest_target(e, (enum provider_id)r->provider,
	    state_string(r, r->base_url), state_string(r, r->account_id),
	    state_string(r, r->prefix));
	return e;
}

void
entry_free(struct entry *e)
{
	if (e == NULL)
		return;
	credential_unref(e->cred);
	free(e->served);
	secret_free(e->proxy);
	secret_free(e->path_name);
	free(e->id);
	free(e);
}

bool
entry_is_disabled(const struct entry *e)
{
	return (e->flags & STATE_DISABLED) != 0;
}

bool
entry_is_usable(const struct entry *e)
{
	return e->cred != NULL && !entry_is_disabled(e) && e->fault == NULL &&
	       e->slot != BOARD_NONE;
}

bool
entry_serves_otherwise(const struct entry *a, const struct entry *b)
{
	return !digest_equal(&a->target, &b->target) ||
	       !served_equal(a->served, b->served);
}

/* What the list of models shows of a name comes from here as well. */
static bool
same_facts(const struct served *a, const struct served *b)
{
	size_t i;

	for (i = 0; i < a->n; i++) {
		if (a->v[i].info != b->v[i].info ||
		    a->v[i].cell != b->v[i].cell)
			return false;
	}
	return true;
}

bool
entry_same_in_routes(const struct entry *a, const struct entry *b)
{
	const struct credential *x = a->cred;
	const struct credential *y = b->cred;

	return x != NULL && y != NULL &&
	       entry_is_usable(a) == entry_is_usable(b) &&
	       served_equal(a->served, b->served) &&
	       same_facts(a->served, b->served) && a->slot == b->slot &&
	       a->incarnation == b->incarnation && x->dialects == y->dialects &&
	       x->priority == y->priority && x->weight == y->weight &&
	       x->provider == y->provider &&
	       strcmp(x->provider_name, y->provider_name) == 0 &&
	       strcmp(a->path_name, b->path_name) == 0;
}

static bool
same_headers(const struct header_rules *a, const struct header_rules *b)
{
	size_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++) {
		if (strcmp(a->v[i].name, b->v[i].name) != 0 ||
		    strcmp(a->v[i].value, b->v[i].value) != 0)
			return false;
	}
	return true;
}

static bool
same_list(const struct str_list *a, const struct str_list *b)
{
	size_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++) {
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	}
	return true;
}

static bool
same_errors(const struct error_rules *a, const struct error_rules *b)
{
	size_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++) {
		if (a->v[i].status != b->v[i].status ||
		    a->v[i].action != b->v[i].action ||
		    !same_list(&a->v[i].match, &b->v[i].match) ||
		    !same_list(&a->v[i].match_regex, &b->v[i].match_regex))
			return false;
	}
	return true;
}

bool
entry_same_settings(const struct entry *a, const struct entry *b)
{
	const struct credential *x = a->cred;
	const struct credential *y = b->cred;

	return x != NULL && y != NULL && !entry_serves_otherwise(a, b) &&
	       digest_equal(&a->secret, &b->secret) && a->flags == b->flags &&
	       strcmp(a->proxy, b->proxy) == 0 && x->weight == y->weight &&
	       x->priority == y->priority && x->dialects == y->dialects &&
	       x->request_retry == y->request_retry &&
	       strcmp(x->label, y->label) == 0 &&
	       same_headers(&x->headers, &y->headers) &&
	       same_errors(&x->errors, &y->errors);
}

void
entry_swap(struct entry *a, struct entry *b)
{
	struct entry t = *a;

	*a = *b;
	*b = t;
}

/* Those at one place of their pools; returns how many there are, placed or not.
 */
static size_t
fill_models_at(
    const struct entry *e, uint32_t place, struct entry_record *record)
{
	size_t found = 0;
	size_t i;

	for (i = 0; i < e->served->n; i++) {
		const struct served_model *m = &e->served->v[i];

		if (m->place != place)
			continue;
		found++;
		if (m->cell != BOARD_NONE)
			record->models[record->in.nmodels++] =
			    (struct state_model_input){ .name = m->name,
				    .upstream = m->upstream,
				    .cell = m->cell,
				    .cursor = m->cursor };
	}
	return found;
}

/* Of one name in the order of its pool. */
static void
fill_models(const struct entry *e, struct entry_record *record)
{
	size_t n = entry_is_usable(e) ? e->served->n : 0;
	uint32_t place;
	size_t seen = 0;

	record->models = xcalloc(n, sizeof(*record->models));
	for (place = 0; seen < n; place++)
		seen += fill_models_at(e, place, record);
	record->in.models = record->models;
}

static void
fill_headers(const struct header_rules *rules, struct entry_record *record)
{
	size_t i;

	record->header_names = xcalloc(rules->n, sizeof(*record->header_names));
	record->header_values =
	    xcalloc(rules->n, sizeof(*record->header_values));
	for (i = 0; i < rules->n; i++) {
		record->header_names[i] = rules->v[i].name;
		record->header_values[i] = rules->v[i].value;
	}
	record->in.header_names = record->header_names;
	record->in.header_values = record->header_values;
	record->in.nheaders = rules->n;
}

void
entry_record_make(const struct entry *e, struct entry_record *record)
{
	const struct credential *c = e->cred;
	uint16_t own_path = e->own_path ? STATE_OWN_PATH : 0;

	*record = (struct entry_record){ 0 };
	record->in = (struct state_credential_input){
		.fixed = {
			.slot = e->slot,
			.incarnation = e->incarnation,
			.provider = (uint8_t)c->provider->id,
			.dialects = c->dialects,
			.auth_style = (uint8_t)c->auth_style,
			.flags = e->flags | own_path,
			.epoch = e->epoch,
			.token_generation = e->token_generation,
			.expires_ms = c->expires_ms,
			.transient_cooldown_ms = e->transient_cooldown_ms,
			.priority = c->priority,
			.weight = c->weight,
			.request_retry = c->request_retry,
			.refresh_barred_ms = e->note.barred_ms,
		},
		.id = e->id,
		.label = c->label,
		.provider_name = c->provider_name,
		.source = source_names[c->source],
		.base_url = c->base_url,
		.proxy = e->proxy,
		.secret = c->secret,
		.account_id = c->account_id,
		.prefix = c->prefix,
		.errors = &c->errors,
	};
	fill_models(e, record);
	fill_headers(&c->headers, record);
}

void
entry_record_fini(struct entry_record *record)
{
	free(record->models);
	free(record->header_names);
	free(record->header_values);
}
