/* SPDX-License-Identifier: MIT */
/* The outcome table, and the words by which errors are told apart. */
#include "worker/relay/outcome.h"

#include <string.h>
#include <strings.h>

#include "common/attr.h"

#define MINUTES(n) ((n)*INT64_C(60) * 1000)
#define HOURS(n)   MINUTES((n)*60)

/* Codes and types by which an error says that the request is at fault. */
static const char *const fault_codes[] = {
	"cyber_policy",
	"context_length_exceeded",
	"message_too_big",
	"string_above_max_length",
	"invalid_prompt",
	"invalid_value",
	"unsupported_value",
	"invalid_request_error",
	"previous_response_not_found",
};

static const char *const fault_types[] = {
	"invalid_request",
	"invalid_request_error",
	"bad_request_error",
	"invalid_prompt",
};

/*
 * Codes that belong to the credential though their type calls the request
 * invalid: OpenAI refuses a wrong key and a model that an account may not use
 * as "invalid_request_error".
 */
static const char *const credential_codes[] = {
	"invalid_api_key",
	"account_deactivated",
	"billing_not_active",
	"insufficient_quota",
	"model_not_found",
};

static const char *const unsupported_phrases[] = {
	"model_not_supported",
	"requested model is not supported",
	"requested model is unsupported",
	"requested model is unavailable",
	"model is not supported",
	"model not supported",
	"unsupported model",
	"model unavailable",
	"not available for your plan",
	"not available for your account",
};

static const char *const challenge_phrases[] = {
	"challenge-platform",
	"cf-mitigated",
	"cloudflare challenge",
};

static const char invalid_grant[] = "invalid_grant";

static bool
is_among(const char *word, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(word, words[i]) == 0)
			return true;
	return false;
}

/* Whether the text holds a phrase, any case. */
static bool
says(struct span text, const char *phrase)
{
	size_t len = strlen(phrase);

	/* Bit 0x20 is the case of a letter: few places need a real look. */
	for (size_t i = 0; i + len <= text.len; i++)
		if (((text.p[i] ^ phrase[0]) & ~0x20) == 0 &&
		    strncasecmp(text.p + i, phrase, len) == 0)
			return true;
	return false;
}

static bool
says_any(struct span text, const char *const *phrases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (says(text, phrases[i]))
			return true;
	return false;
}

static bool
is_compact(const struct failure *f)
{
	return f->operation == OPERATION_COMPACT;
}

static bool
is_unsupported(const struct failure *f)
{
	return (f->status == 400 || f->status == 422) &&
	       says_any(f->text, unsupported_phrases,
		   ARRAY_LEN(unsupported_phrases));
}

/* Another endpoint may still serve it. */
static bool
is_unsupported_compact(const struct failure *f)
{
	return is_compact(f) && is_unsupported(f);
}

/* A page that asks a browser to prove itself: of the path, for a while. */
static bool
is_challenge(const struct failure *f)
{
	return f->challenge ||
	       says_any(
		   f->text, challenge_phrases, ARRAY_LEN(challenge_phrases)) ||
	       (says(f->text, "cloudflare") && says(f->text, "<html"));
}

static bool
is_invalid_grant(const struct failure *f)
{
	return (f->status == 400 || f->status == 401) &&
	       (strcmp(f->code, invalid_grant) == 0 ||
		   says(f->text, invalid_grant));
}

/* An item of a conversation that was never stored: of the request, not 404. */
static bool
is_lost_item(const struct failure *f)
{
	return says(f->text, "not found") && says(f->text, "not persisted");
}

static bool
is_request_fault(const struct failure *f)
{
	switch (f->status) {
	case 400:
	case 409:
	case 413:
	case 422:
		return true;
	case 402:
	case 429:
		return false;
	case 401:
		if (strcmp(f->type, "authentication_error") == 0)
			return false;
		break;
	default:
		break;
	}
	if (is_among(f->code, credential_codes, ARRAY_LEN(credential_codes)))
		return false;
	return is_among(f->code, fault_codes, ARRAY_LEN(fault_codes)) ||
	       is_among(f->type, fault_types, ARRAY_LEN(fault_types)) ||
	       is_lost_item(f);
}

/* Many upstreams have no such endpoint, which says nothing of the model. */
static bool
is_count_elsewhere(const struct failure *f)
{
	return (f->operation == OPERATION_COUNT_TOKENS ||
		   f->operation == OPERATION_GEMINI_COUNT) &&
	       !says(f->text, f->model);
}

enum duration {
	DURATION_NONE,
	DURATION_FIXED,
	DURATION_TRANSIENT,
	DURATION_QUOTA, /* as the answer says, else the ladder */
	DURATION_LADDER /* the ladder, fixed_ms at least */
};

/*
 * The first row that matches decides. ends: bits of enum attempt_end; status
 * 0: any; own: 1 only on a path of the credential's own, 0 only on a shared
 * one, -1 either.
 */
struct row {
	unsigned ends;
	int status;
	int own;
	bool (*when)(const struct failure *f);
	enum outcome_action action;
	enum cool_reason reason;
	enum board_kind kind;
	enum duration duration;
	int64_t fixed_ms;
};

#define BIT(end) (1u << (end))
#define STATUS   (BIT(ATTEMPT_STATUS) | BIT(ATTEMPT_IN_BAND))
#define NETWORK  BIT(ATTEMPT_NETWORK)
#define TIMEOUT  BIT(ATTEMPT_TIMEOUT)

#define NEUTRAL        COOL_NONE, BOARD_READY, DURATION_NONE, 0
#define FIXED(why, ms) COOL_##why, BOARD_BLOCKED, DURATION_FIXED, (ms)
#define TRANSIENT(why) COOL_##why, BOARD_BLOCKED, DURATION_TRANSIENT, 0
#define QUOTA          COOL_QUOTA, BOARD_COOLING, DURATION_QUOTA, 0
#define CHALLENGE      COOL_CHALLENGE, BOARD_COOLING, DURATION_LADDER, 10000

static const struct row rows[] = {
	{ NETWORK, 0, 0, NULL, OUTCOME_AGAIN, NEUTRAL },
	{ NETWORK | TIMEOUT, 0, -1, is_compact, OUTCOME_OTHER, NEUTRAL },
	{ NETWORK, 0, 1, NULL, OUTCOME_OTHER, TRANSIENT(NETWORK) },
	{ TIMEOUT, 0, -1, NULL, OUTCOME_OTHER, TRANSIENT(TRANSIENT) },
	{ STATUS, 0, -1, is_unsupported_compact, OUTCOME_OTHER, NEUTRAL },
	{ STATUS, 0, -1, is_unsupported, OUTCOME_OTHER,
	    FIXED(UNSUPPORTED, HOURS(12)) },
	{ STATUS, 0, -1, is_challenge, OUTCOME_OTHER, CHALLENGE },
	{ STATUS, 0, -1, is_invalid_grant, OUTCOME_OTHER,
	    FIXED(INVALID_GRANT, MINUTES(30)) },
	{ STATUS, 0, -1, is_request_fault, OUTCOME_PASS_ON, NEUTRAL },
	{ STATUS, 401, -1, NULL, OUTCOME_OTHER,
	    FIXED(UNAUTHORIZED, MINUTES(30)) },
	{ STATUS, 402, -1, NULL, OUTCOME_OTHER, FIXED(PAYMENT, MINUTES(30)) },
	{ STATUS, 403, -1, NULL, OUTCOME_OTHER, FIXED(FORBIDDEN, MINUTES(30)) },
	{ STATUS, 429, -1, NULL, OUTCOME_OTHER, QUOTA },
	{ STATUS, 0, -1, is_compact, OUTCOME_OTHER, NEUTRAL },
	{ STATUS, 404, -1, is_count_elsewhere, OUTCOME_OTHER, NEUTRAL },
	{ STATUS, 404, -1, NULL, OUTCOME_OTHER, FIXED(NOT_FOUND, HOURS(12)) },
	/* 408, 5xx, and whatever else a provider thinks of. */
	{ STATUS, 0, -1, NULL, OUTCOME_OTHER, TRANSIENT(TRANSIENT) },
};

static bool
matches(const struct row *row, const struct failure *f, const struct cooling *c)
{
	return (row->ends & BIT(f->end)) != 0 &&
	       (row->status == 0 || row->status == f->status) &&
	       (row->own < 0 || row->own == c->own_path) &&
	       (row->when == NULL || row->when(f));
}

static const struct row *
row_of(const struct failure *f, const struct cooling *c)
{
	const struct row *row = rows;

	while (row < rows + ARRAY_LEN(rows) - 1 && !matches(row, f, c))
		row++;
	return row;
}

static int64_t
duration_of(
    const struct row *row, const struct failure *f, const struct cooling *c)
{
	int64_t ms = 0;

	switch (row->duration) {
	case DURATION_NONE:
		break;
	case DURATION_FIXED:
	case DURATION_LADDER:
		ms = row->fixed_ms;
		break;
	case DURATION_TRANSIENT:
		ms = c->transient_ms;
		/* A hint can only make it longer, and only where there is one.
		 */
		if (ms > 0 && f->retry_after_ms > ms)
			ms = f->retry_after_ms;
		break;
	case DURATION_QUOTA:
		ms = f->retry_after_ms > 0 ? f->retry_after_ms : 0;
		break;
	}
	return ms < c->max_ms ? ms : c->max_ms;
}

static struct outcome
price(const struct row *row, const struct failure *f, const struct cooling *c)
{
	struct outcome o = {
		.action = row->action,
		.reason = row->reason,
		.kind = row->kind,
	};

	if (c->disabled)
		return o;
	o.cooldown_ms = duration_of(row, f, c);
	o.ladder = row->duration == DURATION_LADDER ||
		   (row->duration == DURATION_QUOTA && o.cooldown_ms == 0);
	o.account = row->duration == DURATION_QUOTA && f->account;
	return o;
}

/* What a rule of the configuration makes of a failure. */
static const struct {
	enum outcome_action action;
	bool cools;
} effects[] = {
	[ERROR_ACTION_STOP] = { OUTCOME_PASS_ON, false },
	[ERROR_ACTION_STOP_AND_COOLDOWN] = { OUTCOME_PASS_ON, true },
	[ERROR_ACTION_CONTINUE] = { OUTCOME_OTHER, false },
	[ERROR_ACTION_CONTINUE_AND_COOLDOWN] = { OUTCOME_OTHER, true },
};

/*
 * A rule that cools does so whatever else the settings say, and for a minute
 * at least: also what would have cost nothing.
 */
static struct outcome
price_by_rule(
    const struct row *row, const struct failure *f, const struct cooling *c)
{
	struct cooling forced = { .transient_ms = c->transient_ms,
		.max_ms = c->max_ms };
	struct outcome o = price(row, f, &forced);

	o.action = effects[f->rule].action;
	if (!effects[f->rule].cools)
		return (struct outcome){ .action = o.action };
	if (o.reason == COOL_NONE) {
		o.reason = COOL_TRANSIENT;
		o.kind = BOARD_BLOCKED;
	}
	if (o.cooldown_ms < MINUTES(1))
		o.cooldown_ms = MINUTES(1);
	if (o.cooldown_ms > c->max_ms)
		o.cooldown_ms = c->max_ms;
	return o;
}

struct outcome
outcome_of(const struct failure *f, const struct cooling *c)
{
	const struct row *row = row_of(f, c);

	return f->ruled ? price_by_rule(row, f, c) : price(row, f, c);
}

bool
outcome_is_sealed(const struct failure *f)
{
	static const char *const unreadable[] = { "verified", "decrypt",
		"organization" };

	if (f->end != ATTEMPT_STATUS && f->end != ATTEMPT_IN_BAND)
		return false;
	if (strcmp(f->code, "invalid_encrypted_content") == 0)
		return true;
	if (!says(f->text, "encrypted content") &&
	    !says(f->text, "encrypted_content"))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(unreadable); i++)
		if (says(f->text, unreadable[i]))
			return true;
	return false;
}

const char *
outcome_end_name(enum attempt_end end)
{
	static const char *const names[ATTEMPT_END_MAX] = {
		[ATTEMPT_OK] = "ok",
		[ATTEMPT_STATUS] = "status",
		[ATTEMPT_IN_BAND] = "in_band",
		[ATTEMPT_NETWORK] = "network",
		[ATTEMPT_TIMEOUT] = "timeout",
		[ATTEMPT_CLIENT_GONE] = "client_gone",
	};

	return names[end];
}
