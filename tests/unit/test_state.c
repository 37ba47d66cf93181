/* SPDX-License-Identifier: MIT */
#include "common/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/bindings.h"
#include "common/board.h"
#include "tests/unit/scratch.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

static struct scratch scratch;
static struct store store;
static MDB_txn *txn; /* a write transaction, where a test needs one */

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	return store_open_master(&store, STORE_STATE, scratch.dir, BOOT);
}

static int
tear_down(void **state UNUSED)
{
	store_read_end(&store);
	store_close(&store, false);
	scratch_remove(&scratch);
	return 0;
}

static void
begin(void)
{
	assert_int_equal(store_write(&store, &txn), 0);
}

static void
commit_and_read(void)
{
	assert_int_equal(store_commit(txn), 0);
	assert_int_equal(store_read(&store, &txn), 0);
}

static void
credential_reads_back_as_it_was_put(void **state UNUSED)
{
	static const char *const names[] = { "x-one", "x-two" };
	static const char *const values[] = { "1", "" };
	static const struct state_model_input models[] = {
		{ "zeta", "zeta-upstream", 7, BOARD_NONE },
		{ "alpha", "alpha", 8, BOARD_NONE },
		{ "mid(dle", "m", BOARD_NONE, BOARD_NONE },
	};
	struct state_credential_input in = {
		.fixed = {
			.slot = 3,
			.incarnation = 9,
			.provider = PROVIDER_CLAUDE,
			.dialects = DIALECT_BIT(DIALECT_CLAUDE),
			.flags = STATE_OAUTH | STATE_REFRESHABLE,
			.epoch = 77,
			.priority = -2,
			.weight = 5,
			.request_retry = -1,
		},
		.id = "claude-someone.json",
		.label = "someone",
		.provider_name = "claude",
		.source = "file",
		.base_url = "https://api.example",
		.secret = "sk-secret",
		.header_names = names,
		.header_values = values,
		.nheaders = 2,
		.models = models,
		.nmodels = 3,
	};
	const struct state_credential *c;
	const struct state_model *m;
	const struct state_header *h;

	begin();
	assert_int_equal(state_put_credential(&store, txn, &in), 0);
	commit_and_read();
	assert_int_equal(state_get_credential(&store, txn, in.id, &c), 0);
	assert_int_equal(c->slot, 3);
	assert_int_equal(c->epoch, 77);
	assert_int_equal(c->priority, -2);
	assert_int_equal(c->flags, STATE_OAUTH | STATE_REFRESHABLE);
	assert_string_equal(state_string(c, c->id), in.id);
	assert_string_equal(state_string(c, c->label), "someone");
	assert_string_equal(state_string(c, c->base_url), in.base_url);
	assert_string_equal(state_string(c, c->secret), "sk-secret");
	assert_string_equal(state_string(c, c->proxy), "");
	assert_string_equal(state_string(c, c->prefix), "");

	assert_int_equal(c->nheaders, 2);
	h = state_credential_headers(c);
	assert_string_equal(state_string(c, h[0].name), "x-one");
	assert_string_equal(state_string(c, h[1].name), "x-two");
	assert_string_equal(state_string(c, h[1].value), "");

	for (size_t i = 0; i < ARRAY_LEN(models); i++) {
		const char *name = models[i].name;

		m = state_credential_model(
		    c, state_model_hash(name, strlen(name)));
		assert_non_null(m);
		assert_string_equal(state_string(c, m->name), name);
		assert_string_equal(
		    state_string(c, m->upstream), models[i].upstream);
		assert_int_equal(m->cell, models[i].cell);
	}
	assert_null(state_credential_model(c, state_model_hash("Zeta", 4)));
	assert_null(state_credential_model(c, 0));
	assert_null(state_credential_model(c, UINT64_MAX));
}

static void
credential_without_models_serves_none(void **state UNUSED)
{
	struct state_credential_input in = { .id = "bare" };
	const struct state_credential *c;

	begin();
	assert_int_equal(state_put_credential(&store, txn, &in), 0);
	commit_and_read();
	assert_int_equal(state_get_credential(&store, txn, "bare", &c), 0);
	assert_null(state_credential_model(c, 1));
	assert_int_equal(c->nheaders, 0);
}

static void
what_cannot_be_a_key_is_refused_and_never_found(void **state UNUSED)
{
	static const char with_zero[] = "model\0";
	char name[STATE_KEY_MAX + 2];
	struct state_route_input route = { .name = name };
	struct state_credential_input credential = { .id = name };
	const struct state_credential *c;
	const struct state_route *r;

	begin();
	memset(name, 'n', sizeof(name));
	name[STATE_KEY_MAX + 1] = '\0';
	assert_int_equal(state_put_route(&store, txn, &route), -EINVAL);
	assert_int_equal(
	    state_get_route(&store, txn, name, strlen(name), &r), -ENOENT);
	name[STATE_KEY_MAX] = '\0';
	assert_int_equal(state_put_route(&store, txn, &route), 0);
	assert_int_equal(
	    state_get_route(&store, txn, name, strlen(name), &r), 0);
	name[BINDING_ID_MAX] = '\0';
	assert_int_equal(
	    state_put_credential(&store, txn, &credential), -EINVAL);
	name[BINDING_ID_MAX - 1] = '\0';
	assert_int_equal(state_put_credential(&store, txn, &credential), 0);
	name[0] = '\0';
	assert_int_equal(state_put_route(&store, txn, &route), -EINVAL);
	assert_int_equal(state_get_credential(&store, txn, "", &c), -ENOENT);

	/* Padding must not make two names one. */
	route.name = "model";
	assert_int_equal(state_put_route(&store, txn, &route), 0);
	assert_int_equal(state_get_route(&store, txn, with_zero, 5, &r), 0);
	assert_int_equal(
	    state_get_route(&store, txn, with_zero, 6, &r), -ENOENT);
	commit_and_read();
}

static const struct state_member_input mixed_members[] = {
	{ .id = "delta",
	    .priority = 0,
	    .fixed = { .weight = 1, .dialects = 1 } },
	{ .id = "alpha",
	    .priority = 5,
	    .fixed = { .weight = 3, .dialects = 1 } },
	{ .id = "charlie",
	    .priority = 5,
	    .fixed = { .weight = 1, .dialects = 3 } },
	{ .id = "Bravo",
	    .priority = 5,
	    .fixed = { .weight = 2, .dialects = 2 } },
	{ .id = "echo",
	    .priority = -7,
	    .fixed = { .weight = 0, .dialects = 2 } },
};

static const char *
member_id(const struct state_route *r, size_t tier, size_t i)
{
	const struct state_tier *t = &state_route_tiers(r)[tier];

	return state_string(r, state_tier_members(r, t)[i].id);
}

static void
route_has_tiers_by_priority_and_members_by_id(void **state UNUSED)
{
	static const uint32_t cursors[] = { 40, 44, 48 };
	struct state_route_input in = {
		.fixed = { .listed = 1, .created_s = 1700000000 },
		.name = "model-x",
		.owned_by = "someone",
		.members = mixed_members,
		.nmembers = ARRAY_LEN(mixed_members),
		.cursors = cursors,
		.ncursors = 3,
	};
	const struct state_tier *t;
	const struct state_route *r;

	begin();
	assert_int_equal(state_put_route(&store, txn, &in), 0);
	commit_and_read();
	assert_int_equal(state_get_route(&store, txn, "model-x", 7, &r), 0);
	assert_string_equal(state_string(r, r->name), "model-x");
	assert_string_equal(state_string(r, r->owned_by), "someone");
	assert_string_equal(state_string(r, r->display_name), "");
	assert_int_equal(r->created_s, 1700000000);
	assert_int_equal(r->dialects, 3);
	assert_int_equal(r->ntiers, 3);
	t = state_route_tiers(r);
	assert_int_equal(t[0].priority, 5);
	assert_int_equal(t[0].nmembers, 3);
	assert_int_equal(t[0].cursors, 40);
	assert_string_equal(member_id(r, 0, 0), "Bravo");
	assert_string_equal(member_id(r, 0, 1), "alpha");
	assert_string_equal(member_id(r, 0, 2), "charlie");
	assert_int_equal(t[1].priority, 0);
	assert_string_equal(member_id(r, 1, 0), "delta");
	assert_int_equal(t[2].priority, -7);
	assert_int_equal(t[2].cursors, 48);
	assert_true(state_tier_members(r, &t[0])[1].id_hash ==
		    state_model_hash("alpha", 5));
}

static void
providers_of_a_tier_stand_together(void **state UNUSED)
{
	static const struct state_member_input members[] = {
		{ .id = "d",
		    .provider = "p2",
		    .rank = 1,
		    .fixed = { .weight = 1, .dialects = 1 } },
		{ .id = "c",
		    .provider = "p1",
		    .fixed = { .weight = 1, .dialects = 1 } },
		{ .id = "b",
		    .provider = "p2",
		    .rank = 1,
		    .fixed = { .weight = 1, .dialects = 1 } },
		{ .id = "e",
		    .provider = "p1",
		    .fixed = { .weight = 2, .dialects = 1 } },
		{ .id = "a",
		    .provider = "p2",
		    .rank = 1,
		    .priority = -1,
		    .fixed = { .weight = 1, .dialects = 1 } },
	};
	static const uint32_t cursors[] = { 40, 44, 48, 52 };
	struct state_route_input in = {
		.name = "m",
		.members = members,
		.nmembers = ARRAY_LEN(members),
		.cursors = cursors,
		.ncursors = 3,
	};
	/* By id over both: b 1, c 1, d 1, e 2. */
	static const uint16_t turns[] = { 1, 2, 0, 3, 1 };
	const struct state_group *g;
	const struct state_tier *t;
	const struct state_route *r;

	begin();
	assert_int_equal(state_put_route(&store, txn, &in), -EINVAL);
	in.ncursors = 4;
	assert_int_equal(state_put_route(&store, txn, &in), 0);
	commit_and_read();
	assert_int_equal(state_get_route(&store, txn, "m", 1, &r), 0);
	t = state_route_tiers(r);
	assert_int_equal(t[0].ngroups, 2);
	assert_int_equal(t[0].cursors, 40);
	g = state_tier_groups(r, &t[0]);
	assert_string_equal(state_string(r, g[0].provider), "p1");
	assert_int_equal(g[0].first, 0);
	assert_int_equal(g[0].nmembers, 2);
	assert_int_equal(g[0].cursors, 44);
	assert_string_equal(state_string(r, g[1].provider), "p2");
	assert_int_equal(g[1].first, 2);
	assert_int_equal(g[1].nmembers, 2);
	assert_int_equal(g[1].cursors, 48);
	assert_string_equal(member_id(r, 0, 0), "c");
	assert_string_equal(member_id(r, 0, 1), "e");
	assert_string_equal(member_id(r, 0, 2), "b");
	assert_string_equal(member_id(r, 0, 3), "d");
	assert_int_equal(t[0].sequences[0].nturns, ARRAY_LEN(turns));
	assert_memory_equal(
	    state_sequence_turns(r, &t[0].sequences[0]), turns, sizeof(turns));
	assert_int_not_equal(t[0].sequences[0].version, 0);
	/* One provider alone has but one cursor, the tier's. */
	assert_int_equal(t[1].ngroups, 1);
	assert_int_equal(t[1].cursors, 52);
	assert_int_equal(state_tier_groups(r, &t[1])->cursors, 52);
}

static void
weighted_sequences_are_stored_per_dialect(void **state UNUSED)
{
	static const uint32_t cursors[] = { 0, 4, 8 };
	struct state_route_input in = {
		.name = "m",
		.members = mixed_members,
		.nmembers = ARRAY_LEN(mixed_members),
		.cursors = cursors,
		.ncursors = 3,
	};
	/* alpha 3, charlie 1 in dialect 0; Bravo 2, charlie 1 in dialect 1 */
	static const uint16_t first[] = { 1, 1, 2, 1 };
	static const uint16_t second[] = { 0, 2, 0 };
	const struct state_tier *t;
	const struct state_route *r;

	begin();
	assert_int_equal(state_put_route(&store, txn, &in), 0);
	commit_and_read();
	assert_int_equal(state_get_route(&store, txn, "m", 1, &r), 0);
	t = state_route_tiers(r);
	assert_int_equal(t[0].sequences[0].nturns, 4);
	assert_memory_equal(
	    state_sequence_turns(r, &t[0].sequences[0]), first, sizeof(first));
	assert_int_equal(t[0].sequences[1].nturns, 3);
	assert_memory_equal(state_sequence_turns(r, &t[0].sequences[1]), second,
	    sizeof(second));
	/* Nobody speaks the third; one member alone needs no sequence. */
	assert_int_equal(t[0].sequences[2].nturns, 0);
	assert_int_equal(t[1].sequences[0].nturns, 0);
}

static void
same_members_share_one_sequence(void **state UNUSED)
{
	static const struct state_member_input members[] = {
		{ .id = "a",
		    .priority = 0,
		    .fixed = { .weight = 5, .dialects = 3 } },
		{ .id = "b",
		    .priority = 0,
		    .fixed = { .weight = 1, .dialects = 3 } },
	};
	static const uint32_t cursor = 0;
	struct state_route_input in = {
		.name = "m",
		.members = members,
		.nmembers = 2,
		.cursors = &cursor,
		.ncursors = 1,
	};
	const struct state_tier *t;
	const struct state_route *r;

	begin();
	assert_int_equal(state_put_route(&store, txn, &in), 0);
	commit_and_read();
	assert_int_equal(state_get_route(&store, txn, "m", 1, &r), 0);
	t = state_route_tiers(r);
	assert_int_equal(t->sequences[0].nturns, 6);
	assert_int_equal(t->sequences[0].turns, t->sequences[1].turns);
}

static void
route_with_fewer_cursors_than_tiers_is_refused(void **state UNUSED)
{
	static const uint32_t cursors[] = { 40, 44 };
	struct state_route_input in = {
		.name = "m",
		.members = mixed_members,
		.nmembers = ARRAY_LEN(mixed_members),
		.cursors = cursors,
		.ncursors = 2,
	};

	begin();
	assert_int_equal(state_put_route(&store, txn, &in), -EINVAL);
	mdb_txn_abort(txn);
}

enum { MANY = 10000 };

static void
route_of_ten_thousand_members_reads_back(void **state UNUSED)
{
	static const uint32_t cursors[] = { 0, 4, 8 };
	static struct state_member_input members[MANY];
	static char ids[MANY][24];
	struct state_route_input in = {
		.name = "crowd",
		.members = members,
		.nmembers = MANY,
		.cursors = cursors,
		.ncursors = 3,
	};
	const struct state_member *list;
	const struct state_tier *t;
	const struct state_route *r;
	size_t seen = 0;

	for (size_t i = 0; i < MANY; i++) {
		(void)snprintf(
		    ids[i], sizeof(ids[i]), "key-%05zu", i * 7919 % MANY);
		members[i] = (struct state_member_input){
			.id = ids[i],
			.priority = (int32_t)(i * 7919 % MANY % 3),
			.fixed = {
				.credential = (uint32_t)(i * 7919 % MANY),
				.weight = (int32_t)(i % 5),
				.dialects = 1,
			},
		};
	}
	begin();
	assert_int_equal(state_put_route(&store, txn, &in), 0);
	commit_and_read();
	assert_int_equal(state_get_route(&store, txn, "crowd", 5, &r), 0);
	assert_int_equal(r->ntiers, 3);
	t = state_route_tiers(r);
	for (size_t i = 0; i < r->ntiers; i++) {
		assert_int_equal(t[i].priority, 2 - i);
		assert_true(t[i].sequences[0].nturns > 0);
		list = state_tier_members(r, &t[i]);
		for (size_t k = 0; k < t[i].nmembers; k++, seen++) {
			assert_int_equal(list[k].credential % 3, 2 - i);
			if (k > 0)
				assert_true(strcmp(member_id(r, i, k - 1),
						member_id(r, i, k)) < 0);
		}
	}
	assert_int_equal(seen, MANY);
}

/* A deterministic stream of numbers. */
static uint32_t
next_number(uint32_t *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 8;
}

static void
put_some_credential(uint32_t *seed, unsigned int number)
{
	char id[64], label[3000];
	struct state_credential_input in = { .id = id, .label = label };
	size_t len = next_number(seed) % (sizeof(label) - 1);

	(void)snprintf(id, sizeof(id), "c%u%.*s", number, (int)(number % 23),
	    "xxxxxxxxxxxxxxxxxxxxxxx");
	memset(label, 'l', len);
	label[len] = '\0';
	in.fixed.slot = number;
	assert_int_equal(state_put_credential(&store, txn, &in), 0);
}

static int
count_records(void *ctx, const struct state_credential *c)
{
	size_t *count = ctx;

	assert_int_equal((uintptr_t)c % 8, 0);
	assert_int_equal(strlen(state_string(c, c->label)) > 0, c->label != 0);
	(*count)++;
	return 0;
}

/*
 * Alignment rests on how LMDB lays out its pages; so it is tried with many
 * sizes, through splits, overwrites and deletions.
 */
static void
records_stay_aligned_whatever_their_size(void **state UNUSED)
{
	char id[64];
	uint32_t seed = 1;
	size_t count;

	for (int round = 0; round < 20; round++) {
		begin();
		for (int i = 0; i < 100; i++)
			put_some_credential(&seed, next_number(&seed) % 400);
		for (int i = 0; i < 50; i++) {
			unsigned int number = next_number(&seed) % 400;

			(void)snprintf(id, sizeof(id), "c%u%.*s", number,
			    (int)(number % 23), "xxxxxxxxxxxxxxxxxxxxxxx");
			(void)state_delete_credential(&store, txn, id);
		}
		commit_and_read();
		count = 0;
		assert_int_equal(
		    state_each_credential(&store, txn, count_records, &count),
		    0);
		assert_true(count > 0);
		store_read_end(&store);
	}
}

/* Puts a raw value where a record belongs. */
static void
put_raw(enum state_table table, const char *key, const void *data, size_t len)
{
	MDB_val k = { 8, (void *)(uintptr_t)key };
	MDB_val v = { len, (void *)(uintptr_t)data };

	assert_int_equal(mdb_put(txn, store.tables[table], &k, &v, 0), 0);
}

static int
ignore_credential(void *ctx UNUSED, const struct state_credential *c UNUSED)
{
	return 0;
}

static void
damaged_record_is_told_not_used(void **state UNUSED)
{
	struct state_credential fixed = { .size = sizeof(fixed) + 8 };
	struct state_route short_route = { .size = 8 };
	char unterminated[sizeof(fixed)];
	const struct state_credential *c;
	const struct state_route *r;

	begin();
	put_raw(STATE_CREDENTIAL, "damaged\0", &fixed, sizeof(fixed));
	assert_int_equal(
	    state_get_credential(&store, txn, "damaged", &c), -EBADMSG);
	assert_null(c);
	assert_int_equal(
	    state_each_credential(&store, txn, ignore_credential, NULL),
	    -EBADMSG);

	fixed.size = sizeof(fixed);
	memcpy(unterminated, &fixed, sizeof(fixed));
	unterminated[sizeof(unterminated) - 1] = 'x';
	put_raw(
	    STATE_CREDENTIAL, "damaged\0", unterminated, sizeof(unterminated));
	assert_int_equal(
	    state_get_credential(&store, txn, "damaged", &c), -EBADMSG);

	put_raw(STATE_ROUTE, "damaged\0", &short_route, 8);
	assert_int_equal(
	    state_get_route(&store, txn, "damaged", 7, &r), -EBADMSG);
	mdb_txn_abort(txn);
}

static void
meta_reads_back_and_is_missing_at_first(void **state UNUSED)
{
	struct state_meta meta = { .generation = 4,
		.last_epoch = 99,
		.clock_base_ms = 12345,
		.last_ms = 67890,
		.boot_id = BOOT };
	struct state_meta back;

	begin();
	assert_int_equal(state_get_meta(&store, txn, &back), -ENOENT);
	assert_int_equal(state_put_meta(&store, txn, &meta), 0);
	commit_and_read();
	assert_int_equal(state_get_meta(&store, txn, &back), 0);
	assert_memory_equal(&back, &meta, sizeof(meta));
}

struct health_seen {
	char text[256];
};

static int
see_health(
    void *ctx, const char *id, const char *model, const struct state_health *h)
{
	struct health_seen *seen = ctx;
	size_t len = strlen(seen->text);

	(void)snprintf(seen->text + len, sizeof(seen->text) - len, "%s/%s=%d;",
	    id, model, h->level);
	return 0;
}

static void
health_is_kept_per_credential_and_model(void **state UNUSED)
{
	struct state_health one = { .until_ms = 5, .level = 1 };
	struct state_health two = { .until_ms = 6, .level = 2 };
	struct state_health back;
	struct health_seen seen = { "" };

	begin();
	assert_int_equal(state_put_health(&store, txn, "b", "m", &one), 0);
	assert_int_equal(state_put_health(&store, txn, "b", "", &two), 0);
	assert_int_equal(state_put_health(&store, txn, "a", "mm", &one), 0);
	assert_int_equal(state_put_health(&store, txn, "", "m", &one), -EINVAL);
	commit_and_read();
	assert_int_equal(state_get_health(&store, txn, "b", "", &back), 0);
	assert_int_equal(back.until_ms, 6);
	assert_int_equal(
	    state_get_health(&store, txn, "b", "mm", &back), -ENOENT);
	assert_int_equal(state_each_health(&store, txn, see_health, &seen), 0);
	assert_string_equal(seen.text, "a/mm=1;b/=2;b/m=1;");
	store_read_end(&store);

	begin();
	assert_int_equal(state_delete_health(&store, txn, "b", "m"), 0);
	assert_int_equal(state_delete_health(&store, txn, "b", "m"), -ENOENT);
	assert_int_equal(state_get_health(&store, txn, "b", "", &back), 0);
	mdb_txn_abort(txn);
}

static int
stop_at_second(void *ctx, const struct state_route *r UNUSED)
{
	int *calls = ctx;

	return ++*calls == 2 ? 42 : 0;
}

static void
walks_stop_when_they_are_told_to(void **state UNUSED)
{
	static const char *const names[] = { "a", "b", "c" };
	int calls = 0;

	begin();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct state_route_input in = { .name = names[i] };

		assert_int_equal(state_put_route(&store, txn, &in), 0);
	}
	assert_int_equal(
	    state_each_route(&store, txn, stop_at_second, &calls), 42);
	assert_int_equal(calls, 2);
	assert_int_equal(state_delete_route(&store, txn, "b"), 0);
	assert_int_equal(state_delete_route(&store, txn, "b"), -ENOENT);
	mdb_txn_abort(txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(credential_reads_back_as_it_was_put),
		TEST(credential_without_models_serves_none),
		TEST(what_cannot_be_a_key_is_refused_and_never_found),
		TEST(route_has_tiers_by_priority_and_members_by_id),
		TEST(providers_of_a_tier_stand_together),
		TEST(weighted_sequences_are_stored_per_dialect),
		TEST(same_members_share_one_sequence),
		TEST(route_with_fewer_cursors_than_tiers_is_refused),
		TEST(route_of_ten_thousand_members_reads_back),
		TEST(records_stay_aligned_whatever_their_size),
		TEST(damaged_record_is_told_not_used),
		TEST(meta_reads_back_and_is_missing_at_first),
		TEST(health_is_kept_per_credential_and_model),
		TEST(walks_stop_when_they_are_told_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
