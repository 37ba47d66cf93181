/* SPDX-License-Identifier: MIT */
/*
 * Building, finding and walking the records of `state`. A record is built in
 * one buffer, arrays and strings behind its fixed part, and stored as it is.
 */
#include "common/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/bindings.h"
#include "common/board.h"
#include "common/buf.h"
#include "common/smooth.h"

enum {
	RECORD_ALIGN = 8,
	RECORD_MAX = 64 << 20,
	HEALTH_KEY_MAX = 511 /* of LMDB */
};

#define META_KEY "meta"

_Static_assert(sizeof(struct state_credential) % RECORD_ALIGN == 0 &&
		   sizeof(struct state_route) % RECORD_ALIGN == 0 &&
		   sizeof(struct state_member) % RECORD_ALIGN == 0,
    "arrays follow aligned");

struct key {
	char bytes[STATE_KEY_MAX];
	size_t len;
};

static size_t
align_up(size_t n)
{
	return (n + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

/* -EINVAL for what cannot be a key; zeros in it would look like padding. */
static int
key_make(struct key *key, const char *s, size_t len)
{
	if (len == 0 || len > STATE_KEY_MAX || memchr(s, '\0', len) != NULL)
		return -EINVAL;
	key->len = align_up(len);
	memcpy(key->bytes, s, len);
	memset(key->bytes + len, 0, key->len - len);
	return 0;
}

static MDB_val
key_val(struct key *key)
{
	return (MDB_val){ .mv_data = key->bytes, .mv_size = key->len };
}

/* FNV-1a, then mixed so that every bit depends on every other. */
uint64_t
state_model_hash(const char *name, size_t len)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * UINT64_C(1099511628211);
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

/* A record's `size` is its first member; it ends with a zero at least. */
static int
check_record(const MDB_val *value, size_t fixed)
{
	const char *bytes = value->mv_data;
	uint32_t size;

	if (value->mv_size < fixed || (uintptr_t)bytes % RECORD_ALIGN != 0)
		return -EBADMSG;
	memcpy(&size, bytes, sizeof(size));
	if (size != value->mv_size || bytes[size - 1] != '\0')
		return -EBADMSG;
	return 0;
}

static int
get_record(struct store *s, MDB_txn *txn, enum state_table table,
    const char *name, size_t len, size_t fixed, const void **out)
{
	struct key key;
	MDB_val k, v;
	int rc;

	if (key_make(&key, name, len) < 0)
		return -ENOENT;
	k = key_val(&key);
	rc = store_errno(mdb_get(txn, s->tables[table], &k, &v));
	if (rc == 0)
		rc = check_record(&v, fixed);
	if (rc == 0)
		*out = v.mv_data;
	return rc;
}

int
state_get_meta(struct store *s, MDB_txn *txn, struct state_meta *meta)
{
	MDB_val k = { sizeof(META_KEY) - 1, (void *)(uintptr_t)META_KEY };
	MDB_val v;
	int rc;

	rc = store_errno(mdb_get(txn, s->tables[STATE_META], &k, &v));
	if (rc < 0)
		return rc;
	if (v.mv_size != sizeof(*meta))
		return -EBADMSG;
	memcpy(meta, v.mv_data, sizeof(*meta));
	return 0;
}

int
state_get_credential(struct store *s, MDB_txn *txn, const char *id,
    const struct state_credential **out)
{
	const void *record = NULL;
	int rc;

	rc = get_record(s, txn, STATE_CREDENTIAL, id, strlen(id),
	    sizeof(struct state_credential), &record);
	*out = record;
	return rc;
}

int
state_get_route(struct store *s, MDB_txn *txn, const char *model, size_t len,
    const struct state_route **out)
{
	const void *record = NULL;
	int rc;

	rc = get_record(s, txn, STATE_ROUTE, model, len,
	    sizeof(struct state_route), &record);
	*out = record;
	return rc;
}

static const void *
at(const void *record, uint32_t offset)
{
	return (const char *)record + offset;
}

const struct state_model *
state_credential_models(const struct state_credential *c)
{
	return at(c, c->models);
}

const struct state_header *
state_credential_headers(const struct state_credential *c)
{
	return at(c, c->headers);
}

const struct state_error_rule *
state_credential_errors(const struct state_credential *c)
{
	return at(c, c->errors);
}

const uint32_t *
state_error_texts(
    const struct state_credential *c, const struct state_error_rule *rule)
{
	return at(c, rule->texts);
}

const struct state_tier *
state_route_tiers(const struct state_route *r)
{
	return at(r, r->tiers);
}

const struct state_member *
state_tier_members(const struct state_route *r, const struct state_tier *t)
{
	return at(r, t->members);
}

const struct state_group *
state_tier_groups(const struct state_route *r, const struct state_tier *t)
{
	return at(r, t->groups);
}

const uint16_t *
state_sequence_turns(
    const struct state_route *r, const struct state_sequence *sequence)
{
	return at(r, sequence->turns);
}

const struct state_model *
state_credential_model(const struct state_credential *c, uint64_t hash)
{
	const struct state_model *models = state_credential_models(c);
	size_t low = 0, high = c->nmodels, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (models[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low < c->nmodels && models[low].hash == hash ? &models[low]
							    : NULL;
}

size_t
state_pool_size(const struct state_credential *c, const struct state_model *m)
{
	const struct state_model *end = state_credential_models(c) + c->nmodels;
	size_t n = 1;

	while (m + n < end && m[n].hash == m->hash)
		n++;
	return n;
}

const uint32_t *
state_member_cells(
    const struct state_route *r, const struct state_member *m, uint32_t *n)
{
	const uint32_t *pool = at(r, m->pool);

	*n = m->pool == 0 ? 1 : pool[0];
	return m->pool == 0 ? &m->cell : pool + 1;
}

/* What the walks have in common: one call per record, in key order. */
typedef int record_fn(void *ctx, const MDB_val *key, const MDB_val *value);

static int
each_record(struct store *s, MDB_txn *txn, enum state_table table,
    record_fn *fn, void *ctx)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc, result = 0;

	rc = mdb_cursor_open(txn, s->tables[table], &cursor);
	if (rc != 0)
		return store_errno(rc);
	while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
		result = fn(ctx, &k, &v);
		if (result != 0)
			break;
	}
	mdb_cursor_close(cursor);
	if (rc != 0 && rc != MDB_NOTFOUND)
		return store_errno(rc);
	return result;
}

struct each_credential {
	state_credential_fn *fn;
	void *ctx;
};

static int
on_credential(void *ctx, const MDB_val *key UNUSED, const MDB_val *value)
{
	const struct each_credential *each = ctx;
	int rc = check_record(value, sizeof(struct state_credential));

	return rc < 0 ? rc : each->fn(each->ctx, value->mv_data);
}

int
state_each_credential(
    struct store *s, MDB_txn *txn, state_credential_fn *fn, void *ctx)
{
	struct each_credential each = { fn, ctx };

	return each_record(s, txn, STATE_CREDENTIAL, on_credential, &each);
}

struct each_route {
	state_route_fn *fn;
	void *ctx;
};

static int
on_route(void *ctx, const MDB_val *key UNUSED, const MDB_val *value)
{
	const struct each_route *each = ctx;
	int rc = check_record(value, sizeof(struct state_route));

	return rc < 0 ? rc : each->fn(each->ctx, value->mv_data);
}

int
state_each_route(struct store *s, MDB_txn *txn, state_route_fn *fn, void *ctx)
{
	struct each_route each = { fn, ctx };

	return each_record(s, txn, STATE_ROUTE, on_route, &each);
}

/* Makes room for the fixed part, which is written last. */
static void
record_begin(struct buf *b, size_t fixed)
{
	static const char zeros[512];

	_Static_assert(sizeof(struct state_credential) <= sizeof(zeros) &&
			   sizeof(struct state_route) <= sizeof(zeros),
	    "the fixed parts are small");
	buf_init(b, RECORD_MAX);
	buf_append(b, zeros, fixed);
}

static void
record_pad(struct buf *b)
{
	while (b->len % RECORD_ALIGN != 0 && !b->failed)
		buf_putc(b, '\0');
}

/* The offset of what was appended; 0 for an empty string. */
static uint32_t
record_string(struct buf *b, const char *s)
{
	uint32_t offset = (uint32_t)b->len;

	if (s == NULL || s[0] == '\0')
		return 0;
	buf_append(b, s, strlen(s) + 1);
	return offset;
}

static uint32_t
record_array(struct buf *b, const void *elements, size_t n, size_t size)
{
	uint32_t offset;

	record_pad(b);
	offset = (uint32_t)b->len;
	buf_append(b, elements, n * size);
	return offset;
}

/* Ends the record's memory with a zero and says how long it is. */
static uint32_t
record_end(struct buf *b)
{
	buf_putc(b, '\0');
	record_pad(b);
	return (uint32_t)b->len;
}

/* What has not changed is not written: most of a reload is that. */
static bool
is_stored(MDB_txn *txn, MDB_dbi table, MDB_val *key, const MDB_val *value)
{
	MDB_val found;

	return mdb_get(txn, table, key, &found) == 0 &&
	       found.mv_size == value->mv_size &&
	       memcmp(found.mv_data, value->mv_data, value->mv_size) == 0;
}

/* Stores the record and gives its memory back. */
static int
record_put(struct buf *b, const void *fixed, size_t fixed_size, struct store *s,
    MDB_txn *txn, enum state_table table, const char *name)
{
	struct key key;
	MDB_val k, v;
	int rc;

	rc = b->failed ? -ENOMEM : key_make(&key, name, strlen(name));
	if (rc == 0) {
		memcpy(b->data, fixed, fixed_size);
		k = key_val(&key);
		v = (MDB_val){ .mv_size = b->len, .mv_data = b->data };
		if (!is_stored(txn, s->tables[table], &k, &v))
			rc = store_errno(
			    mdb_put(txn, s->tables[table], &k, &v, 0));
	}
	buf_fini(b);
	return rc;
}

/* By hash; of two of the same name the one that was given first comes first. */
static int
by_hash(const void *a, const void *b)
{
	const struct state_model *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash > y->hash ? 1 : -1;
	return (x->name > y->name) - (x->name < y->name);
}

static void
record_models(struct buf *b, const struct state_credential_input *in,
    struct state_credential *c)
{
	AUTO_FREE struct state_model *models =
	    xcalloc(in->nmodels, sizeof(*models));
	const struct state_model_input *m;

	for (size_t i = 0; i < in->nmodels; i++) {
		m = &in->models[i];
		models[i] = (struct state_model){
			.hash = state_model_hash(m->name, strlen(m->name)),
			.cell = m->cell,
			.name = record_string(b, m->name),
			.upstream = record_string(b, m->upstream),
			.cursor = m->cursor != 0 ? m->cursor : BOARD_NONE,
		};
	}
	qsort(models, in->nmodels, sizeof(*models), by_hash);
	c->nmodels = (uint32_t)in->nmodels;
	c->models = record_array(b, models, in->nmodels, sizeof(*models));
}

static void
record_headers(struct buf *b, const struct state_credential_input *in,
    struct state_credential *c)
{
	AUTO_FREE struct state_header *headers =
	    xcalloc(in->nheaders, sizeof(*headers));

	for (size_t i = 0; i < in->nheaders; i++) {
		headers[i].name = record_string(b, in->header_names[i]);
		headers[i].value = record_string(b, in->header_values[i]);
	}
	c->nheaders = (uint32_t)in->nheaders;
	c->headers = record_array(b, headers, in->nheaders, sizeof(*headers));
}

static uint32_t
record_texts(struct buf *b, const struct error_rule *rule)
{
	size_t nmatch = rule->match.n, n = nmatch + rule->match_regex.n;
	AUTO_FREE uint32_t *texts = xcalloc(n, sizeof(*texts));

	for (size_t i = 0; i < n; i++)
		texts[i] = record_string(
		    b, i < nmatch ? rule->match.v[i]
				  : rule->match_regex.v[i - nmatch]);
	return record_array(b, texts, n, sizeof(*texts));
}

static void
record_errors(struct buf *b, const struct state_credential_input *in,
    struct state_credential *c)
{
	size_t n = in->errors != NULL ? in->errors->n : 0;
	AUTO_FREE struct state_error_rule *rules = xcalloc(n, sizeof(*rules));

	for (size_t i = 0; i < n; i++) {
		const struct error_rule *rule = &in->errors->v[i];

		rules[i] = (struct state_error_rule){
			.status = rule->status,
			.action = rule->action,
			.texts = record_texts(b, rule),
			.nmatch = (uint32_t)rule->match.n,
			.nregex = (uint32_t)rule->match_regex.n,
		};
	}
	c->nerrors = (uint32_t)n;
	c->errors = record_array(b, rules, n, sizeof(*rules));
}

int
state_put_credential(
    struct store *s, MDB_txn *txn, const struct state_credential_input *in)
{
	struct state_credential c = in->fixed;
	struct buf b;

	if (strlen(in->id) >= BINDING_ID_MAX)
		return -EINVAL;
	record_begin(&b, sizeof(c));
	c.id = record_string(&b, in->id);
	c.label = record_string(&b, in->label);
	c.provider_name = record_string(&b, in->provider_name);
	c.source = record_string(&b, in->source);
	c.base_url = record_string(&b, in->base_url);
	c.proxy = record_string(&b, in->proxy);
	c.secret = record_string(&b, in->secret);
	c.account_id = record_string(&b, in->account_id);
	c.prefix = record_string(&b, in->prefix);
	record_headers(&b, in, &c);
	record_models(&b, in, &c);
	record_errors(&b, in, &c);
	c.size = record_end(&b);
	return record_put(&b, &c, sizeof(c), s, txn, STATE_CREDENTIAL, in->id);
}

static const char *
provider_of(const struct state_member_input *m)
{
	return m->provider != NULL ? m->provider : "";
}

/* Members of one provider stand together, whatever their ranks. */
static int
by_provider(
    const struct state_member_input *x, const struct state_member_input *y)
{
	if (x->rank != y->rank)
		return x->rank > y->rank ? 1 : -1;
	return strcmp(provider_of(x), provider_of(y));
}

/* Best tier first, within it by provider, within that by id. */
static int
by_place(const void *a, const void *b)
{
	const struct state_member_input *x = *(void *const *)a;
	const struct state_member_input *y = *(void *const *)b;
	int order;

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	order = by_provider(x, y);
	return order != 0 ? order : strcmp(x->id, y->id);
}

/* A tier under construction. */
struct tier_draft {
	struct buf *record;
	const struct state_member_input *const *inputs; /* sorted */
	struct state_member *members;
	uint16_t *by_id; /* members in the order of their ids */
	size_t n;
	struct state_tier tier;
};

static int
by_input_id(const void *a, const void *b, void *arg)
{
	const struct state_member_input *const *inputs = arg;

	return strcmp(
	    inputs[*(const uint16_t *)a]->id, inputs[*(const uint16_t *)b]->id);
}

static bool
weights_differ(const int32_t *weights, size_t n)
{
	int32_t first = 0;

	for (size_t i = 0; i < n; i++) {
		if (weights[i] > 0 && first == 0)
			first = weights[i];
		if (weights[i] > 0 && weights[i] != first)
			return true;
	}
	return false;
}

/* Never 0; another one, but for bad luck, when a weight or a member is. */
static uint32_t
version_of(const struct tier_draft *d, const int32_t *weights)
{
	uint64_t h = 0;

	for (size_t i = 0; i < d->n; i++) {
		if (weights[i] <= 0)
			continue;
		h = (h ^ d->members[d->by_id[i]].id_hash) *
		    UINT64_C(0xff51afd7ed558ccd);
		h = (h ^ h >> 33 ^ (uint32_t)weights[i]) *
		    UINT64_C(0xc4ceb9fe1a85ec53);
	}
	return (uint32_t)(h >> 48) | 1;
}

/* The weights of those who speak a dialect, in the order of their ids. */
static void
list_weights(const struct tier_draft *d, enum dialect dialect, int32_t *weights)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct state_member *m = &d->members[d->by_id[i]];

		weights[i] =
		    (m->dialects & DIALECT_BIT(dialect)) != 0 ? m->weight : 0;
	}
}

/* The dialects below this one that exactly the same members speak. */
static uint8_t
twins_of(const struct tier_draft *d, enum dialect dialect)
{
	uint8_t twins = (uint8_t)(DIALECT_BIT(dialect) - 1);

	for (size_t i = 0; i < d->n; i++) {
		uint8_t speaks = d->members[i].dialects;

		twins &= (speaks & DIALECT_BIT(dialect)) != 0
			     ? speaks
			     : (uint8_t)~speaks;
	}
	return twins;
}

/*
 * The sequence of those who speak a dialect. Where the same members speak an
 * earlier one, its twin, that one's is shared.
 */
static struct state_sequence
record_sequence(struct tier_draft *d, enum dialect dialect)
{
	AUTO_FREE int32_t *weights = xcalloc(d->n, sizeof(*weights));
	AUTO_FREE uint16_t *turns = NULL;
	uint8_t twins = twins_of(d, dialect);
	size_t count;

	if (twins != 0)
		return d->tier.sequences[__builtin_ctz(twins)];
	list_weights(d, dialect, weights);
	if (d->tier.ngroups == 1 && !weights_differ(weights, d->n))
		return (struct state_sequence){ 0 };
	turns = xcalloc(smooth_room(d->n), sizeof(*turns));
	count = smooth_sequence(weights, d->n, turns);
	if (count == 0)
		return (struct state_sequence){ 0 };
	for (size_t i = 0; i < count; i++)
		turns[i] = d->by_id[turns[i]];
	return (struct state_sequence){
		.turns = record_array(d->record, turns, count, sizeof(*turns)),
		.nturns = (uint32_t)count,
		.version = version_of(d, weights),
	};
}

/* {n, cells[n]}; 0 for a member without a pool. */
static uint32_t
record_pool(struct buf *b, const struct state_member_input *in)
{
	uint32_t offset;

	if (in->pool == NULL)
		return 0;
	offset = record_array(b, &in->npool, 1, sizeof(in->npool));
	buf_append(b, in->pool, in->npool * sizeof(*in->pool));
	return offset;
}

static void
record_members(struct tier_draft *d)
{
	for (size_t i = 0; i < d->n; i++) {
		const char *id = d->inputs[i]->id;

		d->members[i] = d->inputs[i]->fixed;
		d->members[i].id = record_string(d->record, id);
		d->members[i].id_hash = state_model_hash(id, strlen(id));
		d->members[i].pool = record_pool(d->record, d->inputs[i]);
		d->by_id[i] = (uint16_t)i;
	}
	qsort_r(d->by_id, d->n, sizeof(*d->by_id), by_input_id,
	    (void *)(uintptr_t)d->inputs);
	d->tier.nmembers = (uint32_t)d->n;
	d->tier.members =
	    record_array(d->record, d->members, d->n, sizeof(*d->members));
}

static size_t
list_groups(const struct tier_draft *d, struct state_group *groups)
{
	size_t n = 0;

	for (size_t i = 0; i < d->n; i++) {
		const char *provider = provider_of(d->inputs[i]);

		if (n == 0 || by_provider(d->inputs[i - 1], d->inputs[i]) != 0)
			groups[n++] = (struct state_group){
				.provider = record_string(d->record, provider),
				.first = (uint32_t)i,
			};
		groups[n - 1].nmembers++;
	}
	return n;
}

/* Takes its cursors from the front of the list; -EINVAL: there are too few. */
static int
record_groups(struct tier_draft *d, const uint32_t **cursors, size_t *ncursors)
{
	AUTO_FREE struct state_group *groups = xcalloc(d->n, sizeof(*groups));
	size_t n = list_groups(d, groups);
	size_t own = n > 1 ? 1 : 0;

	if (*ncursors < n + own)
		return -EINVAL;
	d->tier.cursors = (*cursors)[0];
	for (size_t i = 0; i < n; i++)
		groups[i].cursors = (*cursors)[i + own];
	*cursors += n + own;
	*ncursors -= n + own;
	d->tier.ngroups = (uint32_t)n;
	d->tier.groups = record_array(d->record, groups, n, sizeof(*groups));
	return 0;
}

/* One tier: n members, sorted, of one priority. */
static int
record_tier(struct buf *b, const struct state_member_input *const *inputs,
    size_t n, const uint32_t **cursors, size_t *ncursors,
    struct state_tier *out)
{
	AUTO_FREE struct state_member *members = xcalloc(n, sizeof(*members));
	AUTO_FREE uint16_t *by_id = xcalloc(n, sizeof(*by_id));
	struct tier_draft d = { .record = b,
		.inputs = inputs,
		.members = members,
		.by_id = by_id,
		.n = n,
		.tier = { .priority = inputs[0]->priority } };
	int rc;

	record_members(&d);
	rc = record_groups(&d, cursors, ncursors);
	for (unsigned int i = 0; rc == 0 && i < DIALECT_MAX; i++)
		d.tier.sequences[i] = record_sequence(&d, (enum dialect)i);
	*out = d.tier;
	return rc;
}

static size_t
tier_end(const struct state_member_input *const *sorted, size_t first, size_t n)
{
	size_t end = first;

	while (end < n && sorted[end]->priority == sorted[first]->priority)
		end++;
	return end;
}

/* -EINVAL for too few cursors, or a tier too large to index. */
static int
record_tiers(
    struct buf *b, const struct state_route_input *in, struct state_route *r)
{
	AUTO_FREE const struct state_member_input **sorted =
	    xcalloc(in->nmembers, sizeof(*sorted));
	AUTO_FREE struct state_tier *tiers =
	    xcalloc(in->nmembers, sizeof(*tiers));
	const uint32_t *cursors = in->cursors;
	size_t ncursors = in->ncursors;
	size_t end, ntiers = 0;
	int rc;

	r->dialects = 0;
	for (size_t i = 0; i < in->nmembers; i++) {
		sorted[i] = &in->members[i];
		r->dialects |= in->members[i].fixed.dialects;
	}
	qsort(sorted, in->nmembers, sizeof(*sorted), by_place);
	for (size_t first = 0; first < in->nmembers; first = end) {
		end = tier_end(sorted, first, in->nmembers);
		if (end - first > SMOOTH_MEMBERS_MAX)
			return -EINVAL;
		rc = record_tier(b, sorted + first, end - first, &cursors,
		    &ncursors, &tiers[ntiers++]);
		if (rc < 0)
			return rc;
	}
	r->ntiers = (uint32_t)ntiers;
	r->tiers = record_array(b, tiers, ntiers, sizeof(*tiers));
	return 0;
}

int
state_put_route(
    struct store *s, MDB_txn *txn, const struct state_route_input *in)
{
	struct state_route r = in->fixed;
	struct buf b;
	int rc;

	record_begin(&b, sizeof(r));
	r.name = record_string(&b, in->name);
	r.owned_by = record_string(&b, in->owned_by);
	r.display_name = record_string(&b, in->display_name);
	rc = record_tiers(&b, in, &r);
	if (rc < 0) {
		buf_fini(&b);
		return rc;
	}
	r.size = record_end(&b);
	return record_put(&b, &r, sizeof(r), s, txn, STATE_ROUTE, in->name);
}

int
state_put_meta(struct store *s, MDB_txn *txn, const struct state_meta *meta)
{
	MDB_val k = { sizeof(META_KEY) - 1, (void *)(uintptr_t)META_KEY };
	struct state_meta copy = *meta;
	MDB_val v = { sizeof(copy), &copy };

	return store_errno(mdb_put(txn, s->tables[STATE_META], &k, &v, 0));
}

static int
delete_record(
    struct store *s, MDB_txn *txn, enum state_table table, const char *name)
{
	struct key key;
	MDB_val k;

	if (key_make(&key, name, strlen(name)) < 0)
		return -ENOENT;
	k = key_val(&key);
	return store_errno(mdb_del(txn, s->tables[table], &k, NULL));
}

int
state_delete_credential(struct store *s, MDB_txn *txn, const char *id)
{
	return delete_record(s, txn, STATE_CREDENTIAL, id);
}

int
state_delete_route(struct store *s, MDB_txn *txn, const char *model)
{
	return delete_record(s, txn, STATE_ROUTE, model);
}

struct health_key {
	char bytes[HEALTH_KEY_MAX];
	MDB_val val;
};

static int
health_key_make(struct health_key *key, const char *id, const char *model)
{
	size_t id_len = strlen(id), model_len = strlen(model);

	if (id_len == 0 || id_len + 1 + model_len > sizeof(key->bytes))
		return -EINVAL;
	memcpy(key->bytes, id, id_len + 1);
	memcpy(key->bytes + id_len + 1, model, model_len);
	key->val.mv_data = key->bytes;
	key->val.mv_size = id_len + 1 + model_len;
	return 0;
}

static int
read_health(const MDB_val *value, struct state_health *h)
{
	if (value->mv_size != sizeof(*h))
		return -EBADMSG;
	memcpy(h, value->mv_data, sizeof(*h));
	return 0;
}

int
state_put_health(struct store *s, MDB_txn *txn, const char *id,
    const char *model, const struct state_health *h)
{
	struct state_health copy = *h;
	MDB_val v = { sizeof(copy), &copy };
	struct health_key key;
	int rc;

	rc = health_key_make(&key, id, model);
	if (rc < 0)
		return rc;
	return store_errno(
	    mdb_put(txn, s->tables[STATE_HEALTH], &key.val, &v, 0));
}

int
state_get_health(struct store *s, MDB_txn *txn, const char *id,
    const char *model, struct state_health *h)
{
	struct health_key key;
	MDB_val v;
	int rc;

	if (health_key_make(&key, id, model) < 0)
		return -ENOENT;
	rc = store_errno(mdb_get(txn, s->tables[STATE_HEALTH], &key.val, &v));
	return rc < 0 ? rc : read_health(&v, h);
}

int
state_delete_health(
    struct store *s, MDB_txn *txn, const char *id, const char *model)
{
	struct health_key key;

	if (health_key_make(&key, id, model) < 0)
		return -ENOENT;
	return store_errno(
	    mdb_del(txn, s->tables[STATE_HEALTH], &key.val, NULL));
}

struct each_health {
	state_health_fn *fn;
	void *ctx;
};

static int
on_health(void *ctx, const MDB_val *key, const MDB_val *value)
{
	const struct each_health *each = ctx;
	char text[HEALTH_KEY_MAX + 1];
	struct state_health h;
	size_t id_len;
	int rc;

	rc = read_health(value, &h);
	if (rc < 0 || key->mv_size > HEALTH_KEY_MAX)
		return -EBADMSG;
	memcpy(text, key->mv_data, key->mv_size);
	text[key->mv_size] = '\0';
	id_len = strlen(text);
	if (id_len == key->mv_size)
		return -EBADMSG;
	return each->fn(each->ctx, text, text + id_len + 1, &h);
}

int
state_each_health(struct store *s, MDB_txn *txn, state_health_fn *fn, void *ctx)
{
	struct each_health each = { fn, ctx };

	return each_record(s, txn, STATE_HEALTH, on_health, &each);
}
