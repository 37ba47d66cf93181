/* SPDX-License-Identifier: MIT */
/* Which credential serves which models; see models.h. */
#include "master/registry/models.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "common/model_name.h"

/* With an id they must fit into one key of the environment. */
enum { NAME_LEN_MAX = 255 };

/* A model on its way through the steps; strings are owned. */
struct draft {
	char *name;
	char *upstream;
	const struct catalog_model *info;
	uint32_t place, npool; /* see struct served_model */
	uint32_t cell, cursor;
};

struct drafts {
	struct draft *v;
	size_t n;
	size_t cap;
};

bool
models_match(const char *pattern, const char *name)
{
	const char *star = NULL;
	const char *resume = NULL;

	while (*name != '\0') {
		if (*pattern == '*') {
			star = ++pattern;
			resume = name;
		} else if (tolower((unsigned char)*pattern) ==
			   tolower((unsigned char)*name)) {
			pattern++;
			name++;
		} else if (star != NULL) {
			pattern = star;
			name = ++resume;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static void
add(struct drafts *d, const char *name, const char *upstream,
    const struct catalog_model *info)
{
	xgrow(&d->v, &d->cap, d->n, sizeof(*d->v));
	d->v[d->n++] = (struct draft){ .name = xstrdup(name),
		.upstream = xstrdup(upstream),
		.info = info,
		.npool = 1,
		.cell = BOARD_NONE,
		.cursor = BOARD_NONE };
}

static bool
has_name(const struct drafts *d, const char *name)
{
	size_t i;

	for (i = 0; i < d->n; i++) {
		if (strcasecmp(d->v[i].name, name) == 0)
			return true;
	}
	return false;
}

static bool
fits(const char *name)
{
	return *name != '\0' && strlen(name) <= NAME_LEN_MAX;
}

/* Unless the name is taken: the first wins, whatever its case. */
static bool
add_new(struct drafts *d, const char *name, const char *upstream,
    const struct catalog_model *info)
{
	if (!fits(name) || !fits(upstream) || has_name(d, name))
		return false;
	add(d, name, upstream, info);
	return true;
}

/*
 * One more upstream model under a name that is taken by a model with the
 * upstream model `head` (NULL: any): the name is a pool then.
 */
static void
add_to_pool(struct drafts *d, const char *head, const char *name,
    const char *upstream, const struct catalog_model *info)
{
	size_t at = d->n;
	uint32_t place;

	for (size_t i = 0; i < d->n; i++) {
		if (strcasecmp(d->v[i].name, name) != 0)
			continue;
		if (strcmp(d->v[i].upstream, upstream) == 0)
			return;
		if (d->v[i].place == 0)
			at = i;
	}
	if (at == d->n || !fits(upstream) ||
	    (head != NULL && strcmp(d->v[at].upstream, head) != 0))
		return;
	place = d->v[at].npool++;
	add(d, d->v[at].name, upstream, info);
	d->v[d->n - 1].place = place;
}

static void
drafts_fini(struct drafts *d)
{
	size_t i;

	for (i = 0; i < d->n; i++) {
		free(d->v[i].name);
		free(d->v[i].upstream);
	}
	free(d->v);
	*d = (struct drafts){ 0 };
}

static bool
is_excluded(const struct str_list *patterns, const char *name)
{
	size_t i;

	for (i = 0; i < patterns->n; i++) {
		if (models_match(patterns->v[i], name))
			return true;
	}
	return false;
}

/* A file's own patterns and its provider's; a key's are its entry's. */
static bool
excludes(
    const struct credential *c, const struct config *config, const char *name)
{
	if (is_excluded(&c->excluded, name))
		return true;
	return c->source == CREDENTIAL_FROM_FILE &&
	       is_excluded(&config->oauth_excluded[c->provider->id], name);
}

static const struct catalog_model *
info_of(const struct catalog_section *section, const char *id)
{
	return section != NULL ? catalog_section_find(section, id) : NULL;
}

/* Step one: what is configured, less what is excluded. */
static void
list(const struct credential *c, const struct config *config,
    const struct catalog_section *section, struct drafts *d)
{
	size_t n = c->models.n;
	size_t i;

	for (i = 0; i < n; i++) {
		const struct model_rule *rule = &c->models.v[i];

		if (!excludes(c, config, rule->alias) &&
		    !add_new(d, rule->alias, rule->name,
			info_of(section, rule->name)))
			add_to_pool(d, NULL, rule->alias, rule->name,
			    info_of(section, rule->name));
	}
}

/* All of a section; what is there already, from a stronger one, stays. */
static void
list_section(const struct credential *c, const struct config *config,
    const struct catalog_section *section, struct drafts *d)
{
	size_t i;

	for (i = 0; section != NULL && i < section->n; i++) {
		const char *id = section->v[i].id;

		if (!excludes(c, config, id))
			(void)add_new(d, id, id, &section->v[i]);
	}
}

struct alias_step {
	const struct draft *model;
	struct drafts *out;
	bool matched; /* some rule names the model */
	bool added;   /* and some alias could be added */
	bool keep;    /* and some rule forks */
};

static bool
alias_is_taken(const struct model_rules *rules, const char *alias)
{
	size_t i;

	for (i = 0; i < rules->n; i++) {
		if (strcasecmp(rules->v[i].alias, alias) == 0)
			return true;
	}
	return false;
}

static void
note_rule(struct alias_step *step, const struct model_rule *rule)
{
	if (strcasecmp(rule->name, step->model->name) != 0)
		return;
	step->matched = true;
	step->keep = step->keep || rule->fork;
}

static void
add_alias(struct alias_step *step, const struct model_rule *rule)
{
	if (strcasecmp(rule->name, step->model->name) == 0 &&
	    add_new(step->out, rule->alias, step->model->upstream,
		step->model->info))
		step->added = true;
}

/* A credential's own rules come first and hide the provider's. */
static void
each_rule(const struct credential *c, const struct model_rules *provider,
    struct alias_step *step,
    void (*fn)(struct alias_step *, const struct model_rule *))
{
	size_t i;

	for (i = 0; i < c->aliases.n; i++)
		fn(step, &c->aliases.v[i]);
	for (i = 0; i < provider->n; i++) {
		if (!alias_is_taken(&c->aliases, provider->v[i].alias))
			fn(step, &provider->v[i]);
	}
}

/* Step two, for logins: each alias, and the original where a rule forks. */
static void
rename_models(
    const struct credential *c, const struct config *config, struct drafts *d)
{
	const struct model_rules *provider =
	    &config->oauth_alias[c->provider->id];
	struct drafts out = { 0 };
	size_t i;

	for (i = 0; i < d->n; i++) {
		struct alias_step step = { .model = &d->v[i], .out = &out };

		each_rule(c, provider, &step, note_rule);
		if (!step.matched || step.keep)
			(void)add_new(
			    &out, d->v[i].name, d->v[i].upstream, d->v[i].info);
		each_rule(c, provider, &step, add_alias);
		if (step.matched && !step.added && !step.keep)
			(void)add_new(
			    &out, d->v[i].name, d->v[i].upstream, d->v[i].info);
	}
	drafts_fini(d);
	*d = out;
}

/* The first of the pool that a model is of, or itself. */
static const struct draft *
head_of(const struct drafts *d, const struct draft *m)
{
	size_t i = 0;

	while (strcasecmp(d->v[i].name, m->name) != 0 || d->v[i].place != 0)
		i++;
	return &d->v[i];
}

/* Under another name; a pool stays one. */
static void
add_named(struct drafts *out, const struct drafts *d, const struct draft *m,
    const char *name)
{
	if (m->place == 0)
		(void)add_new(out, name, m->upstream, m->info);
	else
		add_to_pool(
		    out, head_of(d, m)->upstream, name, m->upstream, m->info);
}

/* Step three: prefix/name, and the bare name unless a prefix is demanded. */
static void
prefix_models(const char *prefix, bool force, struct drafts *d)
{
	struct drafts out = { 0 };
	size_t i;

	for (i = 0; i < d->n; i++) {
		const struct draft *m = &d->v[i];
		AUTO_FREE char *name = xasprintf("%s/%s", prefix, m->name);

		if (!force || strcmp(prefix, m->name) == 0)
			add_named(&out, d, m, m->name);
		add_named(&out, d, m, name);
	}
	drafts_fini(d);
	*d = out;
}

static int
compare_models(const void *a, const void *b)
{
	const struct served_model *x = a;
	const struct served_model *y = b;
	int order = strcmp(x->key, y->key);

	if (order == 0)
		order = strcmp(x->name, y->name);
	return order != 0 ? order
			  : (x->place > y->place) - (x->place < y->place);
}

static const char *
put_string(char **at, const char *s, size_t len)
{
	char *p = *at;

	memcpy(p, s, len);
	p[len] = '\0';
	*at += len + 1;
	return p;
}

/* Array and strings in one block: there are very many of them. */
static struct served *
pack(const struct drafts *d)
{
	size_t size =
	    sizeof(struct served) + d->n * sizeof(struct served_model);
	struct served *served;
	struct span key;
	size_t bytes = 0;
	char *at;
	size_t i;

	for (i = 0; i < d->n; i++)
		bytes +=
		    strlen(d->v[i].name) + 2 * strlen(d->v[i].upstream) + 3;
	served = xcalloc(1, size + bytes);
	served->n = d->n;
	at = (char *)served + size;
	for (i = 0; i < d->n; i++) {
		const struct draft *m = &d->v[i];

		key = model_name_split(span_of(m->upstream)).key;
		served->v[i] = (struct served_model){
			.name = put_string(&at, m->name, strlen(m->name)),
			.upstream =
			    put_string(&at, m->upstream, strlen(m->upstream)),
			.key = put_string(&at, key.p, key.len),
			.info = m->info,
			.cell = m->cell,
			.place = m->place,
			.npool = m->npool,
			.cursor = m->cursor,
		};
	}
	qsort(served->v, served->n, sizeof(*served->v), compare_models);
	return served;
}

struct served *
models_served(const struct credential *c, const struct config *config,
    const struct catalog *catalog)
{
	const struct catalog_section *section =
	    catalog_find(catalog, c->catalog);
	struct drafts d = { 0 };
	struct served *served;

	list(c, config, section, &d);
	if (c->models.n == 0) {
		if (c->provider->id != PROVIDER_COMPAT)
			list_section(c, config, section, &d);
		if (*c->listing != '\0')
			list_section(
			    c, config, catalog_find(catalog, c->listing), &d);
	}
	if (c->auth == AUTH_OAUTH && c->provider->id != PROVIDER_VERTEX)
		rename_models(c, config, &d);
	if (*c->prefix != '\0')
		prefix_models(c->prefix, config->force_model_prefix, &d);
	served = pack(&d);
	drafts_fini(&d);
	return served;
}

struct served *
models_from_pairs(const struct served_pair *pairs, size_t n)
{
	struct drafts d = { 0 };
	struct served *served;
	size_t i;

	for (i = 0; i < n; i++) {
		if (i > 0 && strcmp(pairs[i].name, pairs[i - 1].name) == 0)
			add_to_pool(
			    &d, NULL, pairs[i].name, pairs[i].upstream, NULL);
		else
			add(&d, pairs[i].name, pairs[i].upstream, NULL);
		d.v[d.n - 1].cell = pairs[i].cell;
		d.v[d.n - 1].cursor = pairs[i].cursor;
	}
	served = pack(&d);
	drafts_fini(&d);
	return served;
}

void
served_pool_cells(const struct served *served, const struct served_model *first,
    uint32_t *cells)
{
	size_t i;

	for (i = 0; i < served->n; i++) {
		if (strcmp(served->v[i].name, first->name) == 0)
			cells[served->v[i].place] = served->v[i].cell;
	}
}

const struct served_model *
served_find_key(const struct served *served, const char *key)
{
	size_t low = 0;
	size_t high = served->n;
	size_t mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (strcmp(served->v[mid].key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == served->n || strcmp(served->v[low].key, key) != 0)
		return NULL;
	return &served->v[low];
}

bool
served_has_name(const struct served *served, const char *name)
{
	size_t i;

	for (i = 0; i < served->n; i++) {
		if (strcmp(served->v[i].name, name) == 0)
			return true;
	}
	return false;
}

bool
served_equal(const struct served *a, const struct served *b)
{
	size_t i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++) {
		if (strcmp(a->v[i].name, b->v[i].name) != 0 ||
		    strcmp(a->v[i].upstream, b->v[i].upstream) != 0 ||
		    a->v[i].place != b->v[i].place)
			return false;
	}
	return true;
}
