/* SPDX-License-Identifier: MIT */
/*
 * What makes a credential ready for a model, held against a small model of the
 * rules: random results, steps of the clock, edits, removals, re-creations,
 * resets, restarts and lost boards, and after each the candidates that are
 * ready, as workers see them and as the rules have it.
 *
 * FAIRLEAD_RULES_STEPS is the number of steps, FAIRLEAD_RULES_SEED repeats a
 * run.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/str.h"
#include "master/credential/credfile.h"
#include "master/registry/publish.h"
#include "tests/unit/master_fixture.h"

enum {
	CREDENTIALS = 4,
	MODELS = 2,
	WHOLE = MODELS, /* the credential as a whole, among the cells */
	ATTEMPTS = 6,   /* under way at once, by several workers */
	STEPS = 20000,
	LADDER_TOP = 11,
	DAY_MS = 24 * 3600 * 1000
};

static const char *const model_names[MODELS] = { "c-one", "c-two" };

/* ---- the rules */

struct rule_cell {
	int64_t until_ms;
	enum board_kind kind;
	uint8_t reason, level;
};

struct rule_credential {
	/* What its file says. */
	bool exists, disabled;
	int priority, token, host;
	bool excluded[MODELS];

	/* Grows whenever late results of before are void. */
	unsigned life;
	unsigned served[MODELS]; /* likewise for one model */

	struct rule_cell cells[MODELS + 1];
	struct rule_cell recorded[MODELS + 1]; /* outlives the board */
};

/* An attempt of a worker, with what it knew when it began. */
struct attempt {
	bool running, failed;
	int credential, model; /* WHOLE: a failure of all models */
	unsigned life, served;
	int64_t seen_ms;
	uint32_t slot, cell;
	uint16_t incarnation;
};

static struct rule_credential rules[CREDENTIALS];
static struct attempt attempts[ATTEMPTS];
static int64_t now_ms;
static uint64_t seed;

static bool
rule_serves(const struct rule_credential *r, int model)
{
	return r->exists && !r->disabled && !r->excluded[model];
}

static bool
rule_open(const struct rule_cell *c)
{
	return c->kind != BOARD_READY && c->until_ms > now_ms;
}

static bool
rule_ready(const struct rule_credential *r, int model)
{
	return rule_serves(r, model) && !rule_open(&r->cells[model]) &&
	       !rule_open(&r->cells[WHOLE]);
}

static void
rule_clear(struct rule_credential *r, int cell)
{
	r->cells[cell] = (struct rule_cell){ 0 };
	r->recorded[cell] = (struct rule_cell){ 0 };
}

static void
rule_begin_life(struct rule_credential *r)
{
	r->life++;
	for (int i = 0; i <= WHOLE; i++)
		rule_clear(r, i);
}

/* Whether what an attempt has to say is still about this credential. */
static bool
rule_counts(const struct attempt *a)
{
	const struct rule_credential *r = &rules[a->credential];

	return r->exists && r->life == a->life &&
	       (a->model == WHOLE || r->served[a->model] == a->served);
}

/* A later deadline lengthens, an earlier one changes nothing. */
static bool
rule_raise(struct rule_cell *c, enum board_kind kind, int64_t until_ms)
{
	if (c->until_ms > until_ms ||
	    (c->until_ms == until_ms && c->kind >= kind))
		return c->until_ms == until_ms && c->kind == kind;
	c->until_ms = until_ms;
	c->kind = kind;
	return true;
}

/* One step for each window, none while another bench lasts longer. */
static void
rule_climb(struct rule_cell *c, uint8_t reason)
{
	int64_t step_ms = c->level < LADDER_TOP
			      ? (INT64_C(1) << c->level) * 1000
			      : 1800 * 1000;

	if (rule_open(c) &&
	    (c->kind == BOARD_COOLING || c->until_ms >= now_ms + step_ms))
		return;
	c->until_ms = now_ms + step_ms;
	c->kind = BOARD_COOLING;
	c->reason = reason;
	if (c->level < LADDER_TOP)
		c->level++;
}

static void
rule_succeed(const struct attempt *a)
{
	struct rule_credential *r = &rules[a->credential];
	const int cells[] = { a->model, WHOLE };

	if (!rule_counts(a) || (r->cells[WHOLE].kind == BOARD_COOLING &&
				   rule_open(&r->cells[WHOLE])))
		return;
	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		const struct rule_cell *c = &r->cells[cells[i]];

		if (c->kind != BOARD_READY &&
		    (a->seen_ms == 0 || c->until_ms <= a->seen_ms))
			rule_clear(r, cells[i]);
	}
}

static void
rule_record(const struct attempt *a)
{
	struct rule_credential *r = &rules[a->credential];

	if (rule_counts(a) && r->cells[a->model].kind != BOARD_READY)
		r->recorded[a->model] = r->cells[a->model];
}

/* From what a file said to what it says now. */
static void
rule_edit(struct rule_credential *r, const struct rule_credential *to)
{
	struct rule_credential was = *r;
	bool target = was.host != to->host, token = was.token != to->token;

	r->disabled = to->disabled;
	r->priority = to->priority;
	r->token = to->token;
	r->host = to->host;
	memcpy(r->excluded, to->excluded, sizeof(r->excluded));
	if (was.disabled && !r->disabled)
		rule_begin_life(r);
	for (int i = 0; i < MODELS; i++) {
		if (rule_serves(&was, i) == rule_serves(r, i))
			continue;
		target = true;
		r->served[i]++;
		rule_clear(r, i);
	}
	if (r->disabled)
		r->recorded[WHOLE] = (struct rule_cell){ 0 };
	if (was.disabled || r->disabled)
		return;
	for (int i = 0; i <= WHOLE; i++) {
		const struct rule_cell *c = &r->cells[i];
		bool about_token = c->reason == COOL_UNAUTHORIZED;

		if ((target && (c->kind != BOARD_COOLING || !rule_open(c))) ||
		    (token && !target && about_token))
			rule_clear(r, i);
	}
}

/* ---- the program */

static struct fixture fixture;
static struct publisher *publisher;
static struct config *config;
static struct catalog *catalog;

static const char *
id_of(int credential)
{
	static const char *const ids[CREDENTIALS] = { "a.json", "b.json",
		"c.json", "d.json" };

	return ids[credential];
}

static struct entry *
entry_of(int credential)
{
	const struct rule_credential *r = &rules[credential];
	AUTO_FREE char *text =
	    xasprintf("{\"type\": \"claude\", \"access_token\": \"t%d\","
		      " \"base_url\": \"https://h%d\", \"priority\": %d,"
		      " \"disabled\": %s, \"excluded_models\": [\"-\"%s%s]}",
		r->token, r->host, r->priority, r->disabled ? "true" : "false",
		r->excluded[0] ? ",\"c-one\"" : "",
		r->excluded[1] ? ",\"c-two\"" : "");
	struct buf why = BUF_INIT(4096);
	struct credential *c;

	assert_int_equal(
	    credfile_parse(id_of(credential), text, strlen(text), &c, &why), 0);
	buf_fini(&why);
	return entry_new(c, config, &fixture.env, catalog, false);
}

static void
publish(int credential, bool fresh)
{
	struct publish_change change = {
		.id = id_of(credential),
		.now = rules[credential].exists ? entry_of(credential) : NULL,
		.fresh = fresh,
	};

	assert_int_equal(publisher_apply(publisher, &change, 1, NULL), 0);
}

static void
publish_all(void)
{
	struct publish_change changes[CREDENTIALS];
	size_t n = 0;

	for (int i = 0; i < CREDENTIALS; i++) {
		if (rules[i].exists)
			changes[n++] = (struct publish_change){ .id = id_of(i),
				.now = entry_of(i) };
	}
	assert_int_equal(publisher_apply(publisher, changes, n, NULL), 0);
}

static const struct entry *
published(int credential)
{
	return name_map_find(publisher_entries(publisher), id_of(credential));
}

static struct board_cell *
board_cell(const struct attempt *a)
{
	return a->model == WHOLE ? &fixture.board->credentials[a->slot].cell
				 : &fixture.board->cells[a->cell];
}

/* As a worker finds it in the route. */
static bool
member_ready(const struct state_route *r, const char *id)
{
	const struct state_tier *tiers = state_route_tiers(r);

	for (uint32_t i = 0; i < r->ntiers; i++) {
		const struct state_member *m = state_tier_members(r, &tiers[i]);

		for (uint32_t k = 0; k < tiers[i].nmembers; k++, m++) {
			if (strcmp(state_string(r, m->id), id) == 0)
				return !board_cell_barred(
					   &fixture.board
						->credentials[m->credential]
						.cell,
					   m->incarnation, now_ms) &&
				       !board_cell_barred(
					   &fixture.board->cells[m->cell],
					   m->incarnation, now_ms);
		}
	}
	return false;
}

/* ---- steps */

static uint64_t
draw(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

/*
 * The clock stands still within a step. Deadlines are whole seconds from a
 * now of half a second, so that a millisecond more or less does not matter.
 */
static void
set_clock(void)
{
	clock_set_base(now_ms - clock_boot_ms());
}

static void
step_clock(void)
{
	static const int seconds[] = { 1, 2, 30, 61, 1000, 1801, 86400 };

	now_ms += seconds[draw(ARRAY_LEN(seconds))] * INT64_C(1000);
}

static void
step_begin(void)
{
	struct attempt *a = &attempts[draw(ATTEMPTS)];
	int credential = (int)draw(CREDENTIALS), model = (int)draw(MODELS);
	const struct rule_credential *r = &rules[credential];
	const struct entry *e = published(credential);

	if (a->running || !rule_serves(r, model))
		return;
	*a = (struct attempt){
		.running = true,
		.credential = credential,
		.model = model,
		.life = r->life,
		.served = r->served[model],
		.slot = e->slot,
		.cell = served_find_key(e->served, model_names[model])->cell,
		.incarnation = e->incarnation,
	};
	if (draw(4) != 0)
		a->seen_ms =
		    board_cell_read(board_cell(a), a->incarnation).until_ms;
}

/* The worker raises the word at once. */
static void
fail_attempt(struct attempt *a)
{
	static const struct {
		enum board_kind kind;
		uint8_t reason;
		int64_t seconds; /* 0: up the ladder */
		bool wide;
	} kinds[] = {
		{ BOARD_COOLING, COOL_QUOTA, 0, false },
		{ BOARD_COOLING, COOL_QUOTA, 0, false },
		{ BOARD_COOLING, COOL_QUOTA, 45, false },
		{ BOARD_COOLING, COOL_QUOTA, 5000, true },
		{ BOARD_BLOCKED, COOL_TRANSIENT, 60, false },
		{ BOARD_BLOCKED, COOL_UNAUTHORIZED, 1800, false },
		{ BOARD_BLOCKED, COOL_NOT_FOUND, 43200, false },
		{ BOARD_BLOCKED, COOL_NETWORK, 60, true },
	};
	size_t kind = draw(ARRAY_LEN(kinds));
	struct rule_cell *c, none = { 0 };
	struct board_note note;
	struct board_cell *cell;

	if (kinds[kind].wide)
		a->model = WHOLE;
	cell = board_cell(a);
	c = rule_counts(a) ? &rules[a->credential].cells[a->model] : &none;
	note = (struct board_note){ .reason = kinds[kind].reason };
	if (kinds[kind].seconds == 0) {
		(void)board_cell_climb(
		    cell, a->incarnation, now_ms, 0, DAY_MS, &note);
		rule_climb(c, kinds[kind].reason);
		return;
	}
	if (board_cell_raise(
		cell, (struct board_word){ a->incarnation, kinds[kind].kind,
			  now_ms + kinds[kind].seconds * 1000 })) {
		note.level = board_note_unpack(atomic_load(&cell->note)).level;
		board_cell_set_note(cell, note);
	}
	if (rule_raise(
		c, kinds[kind].kind, now_ms + kinds[kind].seconds * 1000))
		c->reason = kinds[kind].reason;
}

/* The master hears of a failure some time after the word was raised. */
static void
step_end(void)
{
	struct attempt *a = &attempts[draw(ATTEMPTS)];
	struct ipc_result result;

	if (!a->running)
		return;
	if (!a->failed && draw(3) != 0) {
		fail_attempt(a);
		a->failed = true;
		if (draw(2) != 0)
			return;
	}
	result = (struct ipc_result){
		.credential = a->slot,
		.cell = a->cell,
		.incarnation = a->incarnation,
		.success = !a->failed,
		.wide = a->model == WHOLE,
		.until_ms = a->seen_ms,
	};
	assert_int_equal(publisher_result(publisher, &result), 0);
	if (a->failed)
		rule_record(a);
	else
		rule_succeed(a);
	a->running = false;
}

static void
step_edit(void)
{
	int credential = (int)draw(CREDENTIALS);
	struct rule_credential *r = &rules[credential];
	struct rule_credential to = *r;

	if (!r->exists)
		return;
	switch (draw(6)) {
	case 0:
		to.priority++;
		break;
	case 1:
		to.token++;
		break;
	case 2:
		to.host = (int)draw(3);
		break;
	case 3:
		to.disabled = !to.disabled;
		break;
	default:
		to.excluded[draw(MODELS)] ^= true;
		break;
	}
	rule_edit(r, &to);
	publish(credential, false);
}

static void
step_existence(void)
{
	int credential = (int)draw(CREDENTIALS);
	struct rule_credential *r = &rules[credential];
	bool fresh = r->exists && draw(2) == 0;

	if (!fresh)
		r->exists = !r->exists;
	rule_begin_life(r);
	for (int i = 0; i < MODELS; i++)
		r->served[i]++;
	publish(credential, fresh);
}

static void
step_reset(void)
{
	int credential = (int)draw(CREDENTIALS);
	struct rule_credential *r = &rules[credential];
	const struct entry *e = published(credential);

	if (e == NULL)
		return;
	for (int i = 0; i <= WHOLE; i++)
		rule_clear(r, i);
	assert_int_equal(
	    publisher_reset(publisher, (struct entry *)(uintptr_t)e), 0);
}

static void
step_restart(void)
{
	bool lost = draw(3) == 0;

	publisher_free(publisher);
	fixture_close_stores(&fixture);
	if (lost)
		fixture_lose_board(&fixture);
	fixture_open_stores(&fixture);
	assert_int_equal(
	    publisher_new(&fixture.state, fixture.board, &publisher), 0);
	publish_all();
	if (!lost)
		return;
	for (int i = 0; i < CREDENTIALS; i++)
		memcpy(
		    rules[i].cells, rules[i].recorded, sizeof(rules[i].cells));
	/* Workers of before have the old board and nobody who listens. */
	memset(attempts, 0, sizeof(attempts));
}

static const struct {
	const char *name;
	void (*run)(void);
	unsigned share; /* of a thousand */
} steps[] = {
	{ "clock", step_clock, 120 },
	{ "begin", step_begin, 400 },
	{ "end", step_end, 350 },
	{ "edit", step_edit, 90 },
	{ "existence", step_existence, 25 },
	{ "reset", step_reset, 13 },
	{ "restart", step_restart, 2 },
};

static size_t
draw_step(void)
{
	unsigned at = (unsigned)draw(1000);
	size_t i = 0;

	while (at >= steps[i].share)
		at -= steps[i++].share;
	return i;
}

static void
assert_same_candidates(uint64_t number, const char *step)
{
	for (int m = 0; m < MODELS; m++) {
		const struct state_route *r =
		    fixture_route(&fixture, model_names[m]);

		for (int i = 0; i < CREDENTIALS; i++) {
			bool is = r != NULL && member_ready(r, id_of(i));

			if (is != rule_ready(&rules[i], m))
				fail_msg("step %" PRIu64 " (%s): %s is %sready "
					 "for %s",
				    number, step, id_of(i), is ? "" : "not ",
				    model_names[m]);
		}
		fixture_read_end(&fixture);
	}
}

/* A number of the environment, or `otherwise`. */
static uint64_t
number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	int64_t value;

	if (text == NULL || str_to_int(text, 1, INT64_MAX, &value) < 0)
		return otherwise;
	return (uint64_t)value;
}

static void
candidates_are_those_of_the_rules(void **state UNUSED)
{
	uint64_t count = number_of("FAIRLEAD_RULES_STEPS", STEPS);
	size_t step;

	random_bytes(&seed, sizeof(seed));
	seed = number_of("FAIRLEAD_RULES_SEED", (seed >> 1) | 1);
	print_message("FAIRLEAD_RULES_SEED=%" PRIu64 "\n", seed);
	for (uint64_t i = 0; i < count; i++) {
		step = draw_step();
		set_clock();
		steps[step].run();
		set_clock();
		assert_same_candidates(i, steps[step].name);
	}
}

static int
set_up(void **state UNUSED)
{
	struct buf why = BUF_INIT(4096);
	struct buf text = BUF_INIT(CATALOG_BYTES_MAX);
	AUTO_FREE char *path = NULL;

	fixture_make(&fixture);
	config = fixture_config(&fixture, "");
	path = fixture_path(&fixture, "models.json");
	now_ms = INT64_C(1700000000500);
	set_clock();
	if (catalog_load(path, &text, &catalog, &why) < 0 ||
	    publisher_new(&fixture.state, fixture.board, &publisher) < 0)
		return -1;
	buf_fini(&text);
	buf_fini(&why);
	return 0;
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    candidates_are_those_of_the_rules, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
