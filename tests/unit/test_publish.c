/* SPDX-License-Identifier: MIT */
#include "master/registry/publish.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "master/credential/credfile.h"
#include "tests/unit/master_fixture.h"

enum { HOUR_MS = 3600000 };

static struct fixture fixture;
static struct publisher *publisher;
static struct config *config;
static struct catalog *catalog;

/* An entry for a Claude file with these members besides type and token. */
static struct entry *
entry(const char *id, const char *members)
{
	AUTO_FREE char *text = xasprintf(
	    "{%s%s\"type\": \"claude\", \"access_token\": \"token-of-%s\"}",
	    members, *members != '\0' ? ", " : "", id);
	struct buf why = BUF_INIT(4096);
	struct credential *c;

	assert_int_equal(credfile_parse(id, text, strlen(text), &c, &why), 0);
	buf_fini(&why);
	return entry_new(c, config, &fixture.env, catalog, false);
}

static int
apply(const char *id, struct entry *now, bool fresh)
{
	struct publish_change change = { .id = id, .now = now, .fresh = fresh };

	return publisher_apply(publisher, &change, 1, NULL);
}

static void
put(const char *id, const char *members)
{
	assert_int_equal(apply(id, entry(id, members), false), 0);
}

static void
drop(const char *id)
{
	assert_int_equal(apply(id, NULL, false), 0);
}

static const struct entry *
published(const char *id)
{
	return name_map_find(publisher_entries(publisher), id);
}

static struct board_cell *
cell(const char *id, const char *model)
{
	const struct entry *e = published(id);

	if (*model == '\0')
		return &fixture.board->credentials[e->slot].cell;
	return &fixture.board->cells[served_find_key(e->served, model)->cell];
}

/* As a worker does on a failure: the word, the note, then the message. */
static struct ipc_result
bench(const char *id, const char *model, enum cool_reason reason)
{
	const struct entry *e = published(id);
	struct board_word word = {
		.incarnation = e->incarnation,
		.kind = reason == COOL_QUOTA ? BOARD_COOLING : BOARD_BLOCKED,
		.until_ms = clock_now_ms() + HOUR_MS,
	};
	struct board_note note = { .level = 3, .reason = (uint8_t)reason };
	struct ipc_result result = {
		.credential = e->slot,
		.incarnation = e->incarnation,
		.wide = *model == '\0',
		.until_ms = word.until_ms,
	};

	if (!result.wide)
		result.cell = served_find_key(e->served, model)->cell;
	assert_true(board_cell_raise(cell(id, model), word));
	board_cell_set_note(cell(id, model), note);
	assert_int_equal(publisher_result(publisher, &result), 0);
	return result;
}

static bool
barred(const char *id, const char *model)
{
	return board_cell_barred(
	    cell(id, model), published(id)->incarnation, clock_now_ms());
}

/* Whether `health` knows of a failure. */
static bool
recorded(const char *id, const char *model)
{
	struct state_health h;
	MDB_txn *txn;
	int rc;

	assert_int_equal(store_read(&fixture.state, &txn), 0);
	rc = state_get_health(&fixture.state, txn, id, model, &h);
	store_read_end(&fixture.state);
	assert_true(rc == 0 || rc == -ENOENT);
	return rc == 0;
}

/* The master dies and another one takes over what it left. */
static void
restart_master(void)
{
	publisher_free(publisher);
	fixture_close_stores(&fixture);
	fixture_open_stores(&fixture);
	assert_int_equal(
	    publisher_new(&fixture.state, fixture.board, &publisher), 0);
}

static void
assert_route(const char *model, const char *text)
{
	AUTO_FREE char *route = fixture_route_text(&fixture, model);

	if (text == NULL) {
		assert_null(route);
		return;
	}
	assert_non_null(route);
	assert_string_equal(route, text);
}

static void
credential_and_routes_appear_together(void **state UNUSED)
{
	const struct state_credential *c;
	const struct state_model *m;
	const struct state_route *r;

	put("b.json", "\"priority\": 5");
	put("a.json", "");
	put("c.json", "\"priority\": 5, \"excluded_models\": [\"c-two\"]");
	assert_route("c-one", "5:b.json,c.json 0:a.json");
	assert_route("c-two", "5:b.json 0:a.json");
	assert_route("c-three", NULL);

	c = fixture_credential(&fixture, "b.json");
	assert_non_null(c);
	assert_string_equal(state_string(c, c->secret), "token-of-b.json");
	assert_string_equal(state_string(c, c->source), "file");
	assert_int_equal(c->flags & (STATE_OAUTH | STATE_FROM_FILE),
	    STATE_OAUTH | STATE_FROM_FILE);
	assert_int_not_equal(c->incarnation, 0);
	m = state_credential_model(c, state_model_hash("c-one", 5));
	assert_non_null(m);
	assert_int_equal(m->cell,
	    served_find_key(published("b.json")->served, "c-one")->cell);
	r = fixture_route(&fixture, "c-one");
	assert_int_equal(r->listed, 1);
	assert_int_equal(r->max_input_tokens, 1000);
	assert_string_equal(state_string(r, r->display_name), "C One");
	assert_string_equal(state_string(r, r->owned_by), "anthropic");
	fixture_read_end(&fixture);
}

static void
a_model_without_a_usable_credential_stays_known(void **state UNUSED)
{
	const struct state_credential *c;

	put("a.json", "\"disabled\": true");
	assert_route("c-one", "");
	c = fixture_credential(&fixture, "a.json");
	assert_true((c->flags & STATE_DISABLED) != 0);
	assert_int_equal(c->nmodels, 0);
	assert_int_equal(fixture_route(&fixture, "c-one")->listed, 0);
	fixture_read_end(&fixture);
	drop("a.json");
	assert_route("c-one", NULL);
	assert_null(fixture_credential(&fixture, "a.json"));
	fixture_read_end(&fixture);
}

static void
update_keeps_place_epoch_and_words(void **state UNUSED)
{
	const struct entry *address;
	struct entry before;
	uint32_t was_cell;

	put("a.json", "");
	address = published("a.json");
	before = *address;
	was_cell = served_find_key(before.served, "c-one")->cell;
	(void)bench("a.json", "c-one", COOL_QUOTA);
	put("a.json", "\"priority\": 3, \"note\": \"x\"");
	assert_ptr_equal(published("a.json"), address);
	assert_int_equal(published("a.json")->slot, before.slot);
	assert_int_equal(published("a.json")->incarnation, before.incarnation);
	assert_int_equal(published("a.json")->epoch, before.epoch);
	assert_int_equal(
	    served_find_key(published("a.json")->served, "c-one")->cell,
	    was_cell);
	assert_true(barred("a.json", "c-one"));
	assert_route("c-one", "3:a.json");
}

static void
deleted_and_made_again_inherits_nothing(void **state UNUSED)
{
	static const bool in_one_step[] = { false, true };
	uint64_t epoch;
	uint16_t incarnation;
	size_t i;

	for (i = 0; i < ARRAY_LEN(in_one_step); i++) {
		put("a.json", "");
		epoch = published("a.json")->epoch;
		incarnation = published("a.json")->incarnation;
		(void)bench("a.json", "c-one", COOL_QUOTA);
		(void)bench("a.json", "", COOL_QUOTA);
		if (!in_one_step[i])
			drop("a.json");
		assert_int_equal(
		    apply("a.json", entry("a.json", ""), in_one_step[i]), 0);
		assert_true(published("a.json")->epoch > epoch);
		assert_int_not_equal(
		    published("a.json")->incarnation, incarnation);
		assert_false(barred("a.json", "c-one"));
		assert_false(barred("a.json", ""));
		assert_false(recorded("a.json", "c-one"));
		assert_false(recorded("a.json", ""));
	}
}

static void
disabled_and_enabled_again_starts_clean_but_keeps_bindings(void **state UNUSED)
{
	uint64_t epoch;
	uint16_t incarnation;

	put("a.json", "");
	put("b.json", "");
	epoch = published("a.json")->epoch;
	incarnation = published("a.json")->incarnation;
	(void)bench("a.json", "c-one", COOL_QUOTA);
	(void)bench("a.json", "", COOL_UNAUTHORIZED);
	put("a.json", "\"disabled\": true");
	assert_route("c-one", "0:b.json");
	put("a.json", "");
	assert_route("c-one", "0:a.json,b.json");
	assert_int_equal(published("a.json")->epoch, epoch);
	assert_int_not_equal(published("a.json")->incarnation, incarnation);
	assert_false(barred("a.json", "c-one"));
	assert_false(barred("a.json", ""));
	assert_false(recorded("a.json", "c-one"));
}

static void
late_results_of_a_predecessor_change_nothing(void **state UNUSED)
{
	struct ipc_result late, success;

	put("a.json", "");
	late = bench("a.json", "c-one", COOL_QUOTA);
	drop("a.json");
	put("a.json", "");
	(void)bench("a.json", "c-one", COOL_TRANSIENT);
	success = late;
	success.success = 1;
	success.credential = published("a.json")->slot;
	success.cell =
	    served_find_key(published("a.json")->served, "c-one")->cell;
	assert_int_equal(publisher_result(publisher, &success), 0);
	assert_true(barred("a.json", "c-one"));
	success.credential = BOARD_CREDENTIALS;
	assert_int_equal(publisher_result(publisher, &success), 0);
	success.credential = BOARD_CREDENTIALS - 1;
	assert_int_equal(publisher_result(publisher, &success), 0);
}

static void
success_lowers_the_word_of_its_model(void **state UNUSED)
{
	struct ipc_result result, other;

	put("a.json", "");
	other = bench("a.json", "c-two", COOL_TRANSIENT);
	result = bench("a.json", "c-one", COOL_TRANSIENT);
	assert_true(recorded("a.json", "c-one"));
	result.success = 1;
	assert_int_equal(publisher_result(publisher, &result), 0);
	assert_false(barred("a.json", "c-one"));
	assert_false(recorded("a.json", "c-one"));
	assert_int_equal(atomic_load(&cell("a.json", "c-one")->note), 0);
	assert_true(barred("a.json", "c-two"));
	assert_true(recorded("a.json", "c-two"));

	/* One that saw an earlier deadline has been overtaken. */
	other.success = 1;
	other.until_ms--;
	assert_int_equal(publisher_result(publisher, &other), 0);
	assert_true(barred("a.json", "c-two"));
}

static void
success_does_not_lift_a_quota_of_the_whole_credential(void **state UNUSED)
{
	struct ipc_result result;

	put("a.json", "");
	result = bench("a.json", "c-one", COOL_QUOTA);
	(void)bench("a.json", "", COOL_QUOTA);
	result.success = 1;
	assert_int_equal(publisher_result(publisher, &result), 0);
	assert_true(barred("a.json", ""));
	assert_true(barred("a.json", "c-one"));

	put("b.json", "");
	result = bench("b.json", "c-one", COOL_TRANSIENT);
	/* The worker saw both; a millisecond may lie between them. */
	result.until_ms = bench("b.json", "", COOL_NETWORK).until_ms;
	result.success = 1;
	assert_int_equal(publisher_result(publisher, &result), 0);
	assert_false(barred("b.json", ""));
	assert_false(recorded("b.json", ""));
}

/* What a change of the file does to a quota, a 401 and a 503. */
static void
only_a_real_change_ends_failures(void **state UNUSED)
{
	static const struct {
		const char *members;
		bool quota, unauthorized, transient; /* still barred */
	} rows[] = {
		{ "\"note\": \"n\"", true, true, true },
		{ "\"priority\": 9", true, true, true },
		{ "\"weight\": 9", true, true, true },
		{ "\"email\": \"x@y\"", true, true, true },
		{ "\"access_token\": \"new\"", true, false, true },
		{ "\"base_url\": \"http://h\"", true, false, false },
		{ "\"prefix\": \"p\"", true, false, false },
		{ "\"model_aliases\": [{\"name\": \"c-one\", \"alias\":"
		  " \"x\", \"fork\": true}]",
		    true, false, false },
		{ "\"disable_cooling\": true", false, false, false },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		put("q.json", "");
		put("u.json", "");
		put("t.json", "");
		(void)bench("q.json", "c-one", COOL_QUOTA);
		(void)bench("u.json", "c-one", COOL_UNAUTHORIZED);
		(void)bench("t.json", "c-one", COOL_TRANSIENT);
		put("q.json", rows[i].members);
		put("u.json", rows[i].members);
		put("t.json", rows[i].members);
		assert_int_equal(barred("q.json", "c-one"), rows[i].quota);
		assert_int_equal(recorded("q.json", "c-one"), rows[i].quota);
		assert_int_equal(
		    barred("u.json", "c-one"), rows[i].unauthorized);
		assert_int_equal(
		    recorded("u.json", "c-one"), rows[i].unauthorized);
		assert_int_equal(barred("t.json", "c-one"), rows[i].transient);
		assert_int_equal(
		    recorded("t.json", "c-one"), rows[i].transient);
		drop("q.json");
		drop("u.json");
		drop("t.json");
	}
}

static void
a_model_no_longer_served_loses_its_state(void **state UNUSED)
{
	uint32_t was;

	put("a.json", "");
	was = served_find_key(published("a.json")->served, "c-two")->cell;
	(void)bench("a.json", "c-two", COOL_QUOTA);
	put("a.json", "\"excluded_models\": [\"c-two\"]");
	assert_false(recorded("a.json", "c-two"));
	assert_route("c-two", NULL);
	put("a.json", "");
	assert_false(barred("a.json", "c-two"));
	assert_int_not_equal(
	    served_find_key(published("a.json")->served, "c-two")->cell, was);
}

static void
a_new_token_is_a_new_generation_of_it(void **state UNUSED)
{
	put("a.json", "");
	assert_int_equal(published("a.json")->token_generation, 1);
	put("a.json", "\"priority\": 1");
	assert_int_equal(published("a.json")->token_generation, 1);
	put("a.json", "\"access_token\": \"next\"");
	assert_int_equal(published("a.json")->token_generation, 2);
	restart_master();
	put("a.json", "\"access_token\": \"next\"");
	assert_int_equal(published("a.json")->token_generation, 2);
}

static bool
owns_path(const char *id)
{
	const struct state_credential *c = fixture_credential(&fixture, id);
	bool own = (c->flags & STATE_OWN_PATH) != 0;

	fixture_read_end(&fixture);
	return own;
}

static void
a_path_is_owned_while_nobody_else_uses_it(void **state UNUSED)
{
	put("a.json", "");
	assert_true(owns_path("a.json"));
	put("b.json", "\"base_url\": \"https://API.anthropic.com:443/x\"");
	assert_false(owns_path("a.json"));
	assert_false(owns_path("b.json"));
	put("b.json", "\"proxy_url\": \"http://proxy:1\"");
	assert_true(owns_path("a.json"));
	assert_true(owns_path("b.json"));
	put("b.json", "");
	assert_false(owns_path("a.json"));
	put("b.json", "\"disabled\": true");
	assert_true(owns_path("a.json"));
	assert_false(owns_path("b.json"));
	put("b.json", "");
	drop("a.json");
	assert_true(owns_path("b.json"));
}

static void
an_invalid_proxy_fails_closed(void **state UNUSED)
{
	const struct state_credential *c;

	put("a.json", "\"proxy_url\": \"ftp://h\"");
	assert_route("c-one", "");
	c = fixture_credential(&fixture, "a.json");
	assert_true((c->flags & STATE_PROXY_INVALID) != 0);
	assert_int_equal(c->nmodels, 0);
	fixture_read_end(&fixture);
}

static uint32_t
cursor_of(const char *model, uint32_t tier)
{
	const struct state_route *r = fixture_route(&fixture, model);
	uint32_t cursors = state_route_tiers(r)[tier].cursors;

	fixture_read_end(&fixture);
	return cursors;
}

static void
cursors_stay_with_their_tier(void **state UNUSED)
{
	uint32_t low, high;

	put("a.json", "");
	low = cursor_of("c-one", 0);
	assert_true(low >= DIALECT_MAX);
	assert_int_equal(low % DIALECT_MAX, 0);
	atomic_store(&fixture.board->cursors[low], 42);
	put("b.json", "\"priority\": 7");
	high = cursor_of("c-one", 0);
	assert_int_not_equal(high, low);
	assert_int_equal(cursor_of("c-one", 1), low);
	put("c.json", "");
	restart_master();
	put("a.json", "");
	put("c.json", "");
	assert_int_equal(cursor_of("c-one", 0), low);
	assert_int_equal(atomic_load(&fixture.board->cursors[low]), 42);
}

/* A key of a compat section, which is a provider of its own. */
static struct entry *
compat_entry(const char *id, const char *section)
{
	struct credential *c =
	    credential_new(provider_get(PROVIDER_COMPAT), AUTH_API_KEY, id);

	credential_set(&c->provider_name, section);
	credential_set(&c->base_url, "https://compat.example");
	model_rules_add(&c->models, "c-one", "c-one", false);
	return entry_new(c, config, &fixture.env, catalog, false);
}

static void
put_compat(const char *id, const char *section)
{
	assert_int_equal(apply(id, compat_entry(id, section), false), 0);
}

/* "p1:44 p2:48" of the first tier, and its own cursors before: "40 ...". */
static char *
groups_text(const char *model)
{
	const struct state_route *r = fixture_route(&fixture, model);
	const struct state_tier *t = state_route_tiers(r);
	const struct state_group *g = state_tier_groups(r, t);
	struct buf text = BUF_INIT(4096);
	char *copy;

	buf_printf(&text, "%u", t->cursors);
	for (uint32_t i = 0; i < t->ngroups; i++)
		buf_printf(&text, " %s:%u", state_string(r, g[i].provider),
		    g[i].cursors);
	copy = xstrdup(buf_string(&text));
	buf_fini(&text);
	fixture_read_end(&fixture);
	return copy;
}

static void
providers_stand_by_their_number_then_by_name(void **state UNUSED)
{
	put_compat("a", "p2");
	put_compat("b", "p1");
	put_compat("d", "p3");
	put_compat("c", "p3");
	assert_route("c-one", "0:c,d,b,a");
	put_compat("e", "p2");
	put_compat("f", "p2");
	assert_route("c-one", "0:a,e,f,c,d,b");
}

static void
cursors_stay_with_their_provider(void **state UNUSED)
{
	AUTO_FREE char *alone = NULL;
	AUTO_FREE char *mixed = NULL;
	AUTO_FREE char *after = NULL;
	AUTO_FREE char *left = NULL;
	struct publish_change changes[] = { { .id = "a" }, { .id = "b" },
		{ .id = "c" } };

	put_compat("a", "p1");
	alone = groups_text("c-one");
	assert_string_equal(alone, "4 p1:4");
	put_compat("b", "p2");
	put_compat("c", "p2");
	mixed = groups_text("c-one");
	assert_string_equal(mixed, "8 p2:12 p1:4");
	restart_master();
	changes[0].now = compat_entry("a", "p1");
	changes[1].now = compat_entry("b", "p2");
	changes[2].now = compat_entry("c", "p2");
	assert_int_equal(publisher_apply(publisher, changes, 3, NULL), 0);
	after = groups_text("c-one");
	assert_string_equal(after, mixed);
	drop("a");
	left = groups_text("c-one");
	assert_string_equal(left, "12 p2:12");
}

static void
a_new_master_goes_on_where_the_old_one_was(void **state UNUSED)
{
	struct entry before;
	uint32_t was_cell;

	put("a.json", "");
	put("b.json", "");
	before = *published("b.json");
	was_cell = served_find_key(before.served, "c-one")->cell;
	(void)bench("b.json", "c-one", COOL_QUOTA);
	restart_master();
	put("a.json", "");
	put("b.json", "");
	assert_int_equal(published("b.json")->slot, before.slot);
	assert_int_equal(published("b.json")->incarnation, before.incarnation);
	assert_int_equal(published("b.json")->epoch, before.epoch);
	assert_int_equal(
	    served_find_key(published("b.json")->served, "c-one")->cell,
	    was_cell);
	assert_true(barred("b.json", "c-one"));
	assert_false(barred("a.json", "c-one"));

	/* Places that are in use are not given out again. */
	put("d.json", "");
	assert_int_not_equal(published("d.json")->slot, before.slot);
	assert_true(published("d.json")->epoch > before.epoch);
}

/* A new master has forgotten which places were given back last. */
static void
what_is_said_late_of_one_model_is_not_of_the_next(void **state UNUSED)
{
	struct board_word word = { .kind = BOARD_COOLING,
		.until_ms = clock_now_ms() + HOUR_MS };
	struct ipc_result late = { .success = 0 };

	put("a.json", "\"excluded_models\": [\"c-two\"]");
	late.credential = published("a.json")->slot;
	late.incarnation = published("a.json")->incarnation;
	late.cell = served_find_key(published("a.json")->served, "c-one")->cell;
	restart_master();
	put("a.json", "\"excluded_models\": [\"c-*\"]");
	put("a.json", "\"excluded_models\": [\"c-one\"]");
	assert_int_equal(published("a.json")->incarnation, late.incarnation);
	word.incarnation = late.incarnation;
	(void)board_cell_raise(&fixture.board->cells[late.cell], word);
	assert_int_equal(publisher_result(publisher, &late), 0);
	assert_false(barred("a.json", "c-two"));
	assert_false(recorded("a.json", "c-two"));
}

static void
a_new_board_is_filled_from_health(void **state UNUSED)
{
	struct board_note note;

	put("a.json", "");
	(void)bench("a.json", "c-one", COOL_QUOTA);
	(void)bench("a.json", "", COOL_NETWORK);
	publisher_free(publisher);
	fixture_close_stores(&fixture);
	fixture_lose_board(&fixture);
	fixture_open_stores(&fixture);
	assert_int_equal(
	    publisher_new(&fixture.state, fixture.board, &publisher), 0);
	put("a.json", "");
	assert_true(barred("a.json", "c-one"));
	assert_true(barred("a.json", ""));
	assert_false(barred("a.json", "c-two"));
	note = board_note_unpack(atomic_load(&cell("a.json", "c-one")->note));
	assert_int_equal(note.level, 3);
	assert_int_equal(note.reason, COOL_QUOTA);

	/* And not where the board was kept: the word may have been lowered. */
	board_cell_reset(
	    cell("a.json", "c-one"), published("a.json")->incarnation);
	restart_master();
	put("a.json", "");
	assert_false(barred("a.json", "c-one"));
}

static void
unbinding_gives_a_new_epoch_and_nothing_else(void **state UNUSED)
{
	const struct state_credential *c;
	struct state_meta meta;
	struct entry before;
	MDB_txn *txn;

	put("a.json", "");
	before = *published("a.json");
	assert_int_equal(
	    publisher_unbind(publisher,
		name_map_find(publisher_entries(publisher), "a.json")),
	    0);
	assert_true(published("a.json")->epoch > before.epoch);
	c = fixture_credential(&fixture, "a.json");
	assert_int_equal(c->epoch, published("a.json")->epoch);
	assert_int_equal(c->incarnation, before.incarnation);
	fixture_read_end(&fixture);
	assert_int_equal(store_read(&fixture.state, &txn), 0);
	assert_int_equal(state_get_meta(&fixture.state, txn, &meta), 0);
	store_read_end(&fixture.state);
	assert_true(meta.last_epoch >= published("a.json")->epoch);
}

static void
reset_by_hand_clears_everything(void **state UNUSED)
{
	put("a.json", "");
	(void)bench("a.json", "c-one", COOL_QUOTA);
	(void)bench("a.json", "", COOL_QUOTA);
	assert_int_equal(
	    publisher_reset(publisher,
		name_map_find(publisher_entries(publisher), "a.json")),
	    0);
	assert_false(barred("a.json", "c-one"));
	assert_false(barred("a.json", ""));
	assert_false(recorded("a.json", "c-one"));
	assert_false(recorded("a.json", ""));
}

static void
a_failed_transaction_leaves_everything_as_it_was(void **state UNUSED)
{
	struct entry *changed, *added;
	struct publish_change changes[3];
	struct entry before;

	put("a.json", "");
	put("gone.json", "");
	before = *published("a.json");
	changed = entry("a.json", "\"priority\": 4");
	added = entry("b.json", "");
	changes[0] = (struct publish_change){ .id = "a.json", .now = changed };
	changes[1] = (struct publish_change){ .id = "gone.json" };
	changes[2] = (struct publish_change){ .id = "b.json", .now = added };

	/* An id that is too long for a record makes the last put fail. */
	free(added->id);
	added->id = xcalloc(1, 400);
	memset(added->id, 'z', 399);
	changes[2].id = added->id;
	assert_true(publisher_apply(publisher, changes, 3, NULL) < 0);

	assert_int_equal(publisher_entries(publisher)->n, 2);
	assert_int_equal(published("a.json")->slot, before.slot);
	assert_ptr_equal(published("a.json")->served, before.served);
	assert_route("c-one", "0:a.json,gone.json");
	assert_ptr_equal(changes[0].now, changed);
	assert_int_equal(changed->cred->priority, 4);

	/* Without it the same entries can be published after all. */
	assert_int_equal(publisher_apply(publisher, changes, 2, NULL), 0);
	assert_route("c-one", "4:a.json");
	entry_free(added);
}

/* The first commit of a new master: all that stands there was only read. */
static void
a_failed_first_transaction_can_be_tried_again(void **state UNUSED)
{
	enum { MANY = 100 };
	struct publish_change changes[MANY + 1];
	char ids[MANY][32];
	char too_long[400];
	struct entry *bad;
	uint64_t epoch;
	size_t i;

	put("n007.json", "");
	put("other.json", "");
	epoch = published("n007.json")->epoch;
	(void)bench("n007.json", "c-one", COOL_QUOTA);
	restart_master();
	for (i = 0; i < MANY; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]), "n%03zu.json", i);
		changes[i] = (struct publish_change){ .id = ids[i],
			.now = entry(ids[i], "") };
	}
	memset(too_long, 'z', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	bad = entry("bad.json", "");
	free(bad->id);
	bad->id = xstrdup(too_long);
	changes[MANY] = (struct publish_change){ .id = too_long, .now = bad };
	assert_true(publisher_apply(publisher, changes, MANY + 1, NULL) < 0);
	entry_free(bad);
	assert_int_equal(publisher_entries(publisher)->n, 2);
	assert_route("c-one", "0:n007.json,other.json");

	changes[MANY] = (struct publish_change){ .id = "other.json" };
	assert_int_equal(
	    publisher_apply(publisher, changes, MANY + 1, NULL), 0);
	assert_int_equal(publisher_entries(publisher)->n, MANY);
	assert_int_equal(published("n007.json")->epoch, epoch);
	assert_true(barred("n007.json", "c-one"));
	assert_false(barred("n008.json", "c-one"));
	assert_null(fixture_credential(&fixture, "other.json"));
	fixture_read_end(&fixture);
}

static void
the_generation_is_part_of_the_transaction(void **state UNUSED)
{
	struct publish_change change = { .id = "a.json" };
	uint64_t generation = 7;
	struct state_meta meta;
	MDB_txn *txn;

	change.now = entry("a.json", "");
	assert_int_equal(
	    publisher_apply(publisher, &change, 1, &generation), 0);
	put("b.json", "");
	assert_int_equal(store_read(&fixture.state, &txn), 0);
	assert_int_equal(state_get_meta(&fixture.state, txn, &meta), 0);
	store_read_end(&fixture.state);
	assert_int_equal(meta.generation, 7);
	assert_string_equal(meta.boot_id, FIXTURE_BOOT);
}

static void
many_changes_at_once_are_one_by_one_the_same(void **state UNUSED)
{
	enum { MANY = 200 };
	struct publish_change changes[MANY];
	char ids[MANY][16];
	size_t i;

	for (i = 0; i < MANY; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]), "n%03zu.json", i);
		changes[i] = (struct publish_change){
			.id = ids[i],
			.now = entry(ids[i], i % 2 ? "\"priority\": 1" : ""),
		};
	}
	assert_int_equal(publisher_apply(publisher, changes, MANY, NULL), 0);
	assert_int_equal(publisher_entries(publisher)->n, MANY);
	assert_false(owns_path("n000.json"));
	for (i = 0; i < MANY; i++)
		changes[i] = (struct publish_change){
			.id = ids[i],
			.now = i == 5 ? entry(ids[i], "") : NULL,
		};
	assert_int_equal(publisher_apply(publisher, changes, MANY, NULL), 0);
	assert_route("c-one", "0:n005.json");
	assert_true(owns_path("n005.json"));
	drop("n005.json");
	assert_int_equal(publisher_routes(publisher)->n, 0);
}

static int
set_up(void **state UNUSED)
{
	AUTO_FREE char *path = NULL;
	struct buf text = BUF_INIT(CATALOG_BYTES_MAX);
	struct buf why = BUF_INIT(4096);

	fixture_make(&fixture);
	path = fixture_path(&fixture, "models.json");
	assert_int_equal(catalog_load(path, &text, &catalog, &why), 0);
	config = fixture_config(&fixture, "");
	buf_fini(&text);
	buf_fini(&why);
	return publisher_new(&fixture.state, fixture.board, &publisher);
}

static int
tear_down(void **state UNUSED)
{
	publisher_free(publisher);
	catalog_free(catalog);
	config_free(config);
	fixture_break(&fixture);
	return 0;
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(credential_and_routes_appear_together),
		EACH(a_model_without_a_usable_credential_stays_known),
		EACH(update_keeps_place_epoch_and_words),
		EACH(deleted_and_made_again_inherits_nothing),
		EACH(
		    disabled_and_enabled_again_starts_clean_but_keeps_bindings),
		EACH(late_results_of_a_predecessor_change_nothing),
		EACH(success_lowers_the_word_of_its_model),
		EACH(success_does_not_lift_a_quota_of_the_whole_credential),
		EACH(only_a_real_change_ends_failures),
		EACH(a_model_no_longer_served_loses_its_state),
		EACH(a_new_token_is_a_new_generation_of_it),
		EACH(a_path_is_owned_while_nobody_else_uses_it),
		EACH(an_invalid_proxy_fails_closed),
		EACH(cursors_stay_with_their_tier),
		EACH(providers_stand_by_their_number_then_by_name),
		EACH(cursors_stay_with_their_provider),
		EACH(a_new_master_goes_on_where_the_old_one_was),
		EACH(what_is_said_late_of_one_model_is_not_of_the_next),
		EACH(a_new_board_is_filled_from_health),
		EACH(unbinding_gives_a_new_epoch_and_nothing_else),
		EACH(reset_by_hand_clears_everything),
		EACH(a_failed_transaction_leaves_everything_as_it_was),
		EACH(a_failed_first_transaction_can_be_tried_again),
		EACH(the_generation_is_part_of_the_transaction),
		EACH(many_changes_at_once_are_one_by_one_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
