/* SPDX-License-Identifier: MIT */
#include "worker/dialect/dialect_stream.h"

#include <assert.h>
#include <string.h>

#include "common/utf8.h"
#include "worker/dialect/delay.h"
#include "worker/dialect/dialect.h"

/* What is watched for in the data of a frame. */
enum {
	FACT_NONE,
	FACT_ERROR, /* an error object, or an error that is a string */
	FACT_ERROR_CODE,
	FACT_ERROR_TYPE,
	FACT_ERROR_STATUS,
	FACT_MESSAGE,
	FACT_DELAY,
	FACT_QUOTA_DELAY,
	FACT_RESETS_AT,
	FACT_KIND, /* what the object says it is */
	FACT_SEQUENCE,
	FACT_CONTENT,
	FACT_FINISH,
	FACT_TOKENS /* and the fields of enum token_field behind it */
};

#define FACT_OF_FIELD(field) (FACT_TOKENS + TOKEN_FIELD_##field)
#define COUNT(key, field)                                                      \
	{                                                                      \
		(key), FACT_OF_FIELD(field), true, NULL                        \
	}

/* All of the bits of token fields. */
#define FACTS_TOKENS (((UINT64_C(1) << TOKEN_FIELDS) - 1) << FACT_TOKENS)

static const struct json_watch_row usage_details[] = {
	COUNT("cached_tokens", CACHE_READ),
	COUNT("cache_write_tokens", CACHE_WRITE),
	COUNT("cache_creation_tokens", CACHE_WRITE),
	COUNT("cached_creation_tokens", CACHE_WRITE),
	COUNT("reasoning_tokens", REASONING),
	COUNT("thinking_tokens", REASONING),
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row usage_members[] = {
	COUNT("prompt_tokens", INPUT),
	COUNT("input_tokens", INPUT),
	COUNT("completion_tokens", OUTPUT),
	COUNT("output_tokens", OUTPUT),
	COUNT("total_tokens", TOTAL),
	COUNT("cache_read_input_tokens", CACHE_READ),
	COUNT("cache_creation_input_tokens", CACHE_WRITE),
	{ "prompt_tokens_details", FACT_NONE, false, usage_details },
	{ "input_tokens_details", FACT_NONE, false, usage_details },
	{ "completion_tokens_details", FACT_NONE, false, usage_details },
	{ "output_tokens_details", FACT_NONE, false, usage_details },
	COUNT("cached_tokens", CACHE_READ),
	COUNT("prompt_cache_hit_tokens", CACHE_READ),
	COUNT("reasoning_tokens", REASONING),
	COUNT("thinking_tokens", REASONING),
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row usage_metadata[] = {
	COUNT("promptTokenCount", INPUT),
	COUNT("toolUsePromptTokenCount", TOOL_INPUT),
	COUNT("candidatesTokenCount", OUTPUT),
	COUNT("cachedContentTokenCount", CACHE_READ),
	COUNT("thoughtsTokenCount", REASONING),
	COUNT("totalTokenCount", TOTAL),
	{ NULL, 0, false, NULL },
};

/* The object alone, see count_of_tail(). */
static const struct json_watch_row usage_metadata_root = { "", FACT_NONE, false,
	usage_metadata };

static const struct json_watch_row usage_holder[] = {
	{ "usage", FACT_NONE, false, usage_members },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row usage_metadata_holder[] = {
	{ "usageMetadata", FACT_NONE, false, usage_metadata },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row metadata_members[] = {
	{ "quotaResetDelay", FACT_QUOTA_DELAY, true, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row detail_members[] = {
	{ "retryDelay", FACT_DELAY, true, NULL },
	{ "metadata", FACT_NONE, false, metadata_members },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row error_members[] = {
	{ "type", FACT_ERROR_TYPE, true, NULL },
	{ "code", FACT_ERROR_CODE, true, NULL },
	{ "status", FACT_ERROR_STATUS, true, NULL },
	{ "message", FACT_MESSAGE, true, NULL },
	{ "details", FACT_NONE, false, detail_members },
	{ "resets_in_seconds", FACT_DELAY, true, NULL },
	{ "resets_at", FACT_RESETS_AT, true, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row delta_members[] = {
	{ "role", FACT_NONE, false, NULL },
	{ "*", FACT_CONTENT, false, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row choice_members[] = {
	{ "delta", FACT_NONE, false, delta_members },
	{ "text", FACT_CONTENT, false, NULL },
	{ "message", FACT_CONTENT, false, NULL },
	{ "finish_reason", FACT_FINISH, false, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row openai_members[] = {
	{ "choices", FACT_NONE, false, choice_members },
	{ "error", FACT_ERROR, true, error_members },
	{ "object", FACT_KIND, true, NULL },
	{ "usage", FACT_NONE, false, usage_members },
	{ "type", FACT_ERROR_TYPE, true, NULL },
	{ "code", FACT_ERROR_CODE, true, NULL },
	{ "message", FACT_MESSAGE, true, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row response_members[] = {
	{ "error", FACT_ERROR, true, error_members },
	{ "usage", FACT_NONE, false, usage_members },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row responses_members[] = {
	{ "type", FACT_KIND, true, NULL },
	{ "sequence_number", FACT_SEQUENCE, true, NULL },
	{ "response", FACT_NONE, false, response_members },
	{ "usage", FACT_NONE, false, usage_members },
	{ "error", FACT_ERROR, true, error_members },
	{ "code", FACT_ERROR_CODE, true, NULL },
	{ "message", FACT_MESSAGE, true, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row block_members[] = {
	{ "type", FACT_NONE, false, NULL },
	{ "*", FACT_CONTENT, false, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row claude_members[] = {
	{ "type", FACT_KIND, true, NULL },
	{ "error", FACT_ERROR, true, error_members },
	{ "content_block", FACT_NONE, false, block_members },
	{ "message", FACT_NONE, false, usage_holder },
	{ "usage", FACT_NONE, false, usage_members },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row part_members[] = {
	{ "*", FACT_CONTENT, false, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row content_members[] = {
	{ "parts", FACT_NONE, false, part_members },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row candidate_members[] = {
	{ "content", FACT_NONE, false, content_members },
	{ "finishReason", FACT_FINISH, false, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row prompt_members[] = {
	{ "blockReason", FACT_FINISH, false, NULL },
	{ NULL, 0, false, NULL },
};

static const struct json_watch_row gemini_members[] = {
	{ "candidates", FACT_NONE, false, candidate_members },
	{ "promptFeedback", FACT_NONE, false, prompt_members },
	{ "usageMetadata", FACT_NONE, false, usage_metadata },
	{ "response", FACT_NONE, false, usage_metadata_holder },
	{ "error", FACT_ERROR, true, error_members },
	{ NULL, 0, false, NULL },
};

/*
 * What the name of an event says; without a name, the type that the data
 * gives itself. With by_data the data has the first word and `class` the
 * last; with counts it has tokens. The frequent ones come first; the last row
 * matches all.
 */
struct dialect_rule {
	struct span name;
	bool prefix;
	enum dialect_class class;
	bool by_data;
	bool counts;
};

static const struct dialect_rule data_rules[] = {
	{ SPAN("error"), false, DIALECT_ERROR, false, false },
	{ SPAN(""), true, DIALECT_PREFACE, true, false },
};

static const struct dialect_rule responses_rules[] = {
	{ SPAN("response.output_text.delta"), false, DIALECT_CONTENT, false,
	    false },
	{ SPAN("response.created"), false, DIALECT_PREFACE, false, false },
	{ SPAN("response.in_progress"), false, DIALECT_PREFACE, false, false },
	{ SPAN("response.queued"), false, DIALECT_PREFACE, false, false },
	{ SPAN("response.completed"), false, DIALECT_TERMINAL, false, true },
	{ SPAN("response.incomplete"), false, DIALECT_TERMINAL, false, true },
	{ SPAN("response.done"), false, DIALECT_TERMINAL, false, true },
	{ SPAN("response.failed"), false, DIALECT_ERROR, false, true },
	{ SPAN("error"), false, DIALECT_ERROR, false, false },
	{ SPAN("response."), true, DIALECT_CONTENT, false, false },
	{ SPAN(""), true, DIALECT_PREFACE, true, false },
};

static const struct dialect_rule claude_rules[] = {
	{ SPAN("content_block_delta"), false, DIALECT_CONTENT, false, false },
	{ SPAN("content_block_start"), false, DIALECT_PREFACE, true, false },
	{ SPAN("content_block_stop"), false, DIALECT_PREFACE, false, false },
	{ SPAN("message_start"), false, DIALECT_PREFACE, false, true },
	{ SPAN("message_delta"), false, DIALECT_CONTENT, false, true },
	{ SPAN("message_stop"), false, DIALECT_TERMINAL, false, false },
	{ SPAN("ping"), false, DIALECT_PREFACE, false, false },
	{ SPAN("error"), false, DIALECT_ERROR, false, false },
	{ SPAN(""), true, DIALECT_CONTENT, true, false },
};

/* Names of members that alone can change anything once content has passed. */
static const struct span openai_marks[] = {
	SPAN("\"finish_reason\""),
	SPAN("\"error\""),
	SPAN("\"usage\""),
	{ NULL, 0 },
};

static const struct span gemini_marks[] = {
	SPAN("\"finishReason\""),
	SPAN("\"blockReason\""),
	SPAN("\"error\""),
	{ NULL, 0 },
};

static const struct reading {
	struct json_watch_row root;
	const struct dialect_rule *rules;
	const struct span *marks;  /* NULL: the names of events tell enough */
	enum dialect_class finish; /* of a frame with FACT_FINISH */
	bool done_marker;          /* streams end with [DONE] */
	bool numbered;             /* frames carry a sequence_number */
	bool counts_on;            /* every frame counts, the last one best */
} readings[DIALECT_MAX] = {
	[DIALECT_OPENAI] = { { "", FACT_NONE, false, openai_members },
	    data_rules, openai_marks, DIALECT_CONTENT, true, false, false },
	[DIALECT_RESPONSES] = { { "", FACT_NONE, false, responses_members },
	    responses_rules, NULL, DIALECT_CONTENT, false, true, false },
	[DIALECT_CLAUDE] = { { "", FACT_NONE, false, claude_members },
	    claude_rules, NULL, DIALECT_CONTENT, false, false, false },
	[DIALECT_GEMINI] = { { "", FACT_NONE, false, gemini_members },
	    data_rules, gemini_marks, DIALECT_TERMINAL, false, false, true },
};

/* Where the text of a fact is kept. */
static const struct {
	size_t at;
	size_t size;
} texts[] = {
#define TEXT(member)                                                           \
	{                                                                      \
		offsetof(struct dialect_stream, member),                       \
		    sizeof(((struct dialect_stream *)0)->member)               \
	}
	[FACT_ERROR] = TEXT(message),
	[FACT_ERROR_CODE] = TEXT(code),
	[FACT_ERROR_TYPE] = TEXT(type),
	[FACT_ERROR_STATUS] = TEXT(status),
	[FACT_MESSAGE] = TEXT(message),
	[FACT_DELAY] = TEXT(delay),
	[FACT_QUOTA_DELAY] = TEXT(quota_delay),
	[FACT_RESETS_AT] = TEXT(resets_at),
	[FACT_KIND] = TEXT(kind),
	[FACT_SEQUENCE] = TEXT(number),
#undef TEXT
};

void
dialect_stream_init(
    struct dialect_stream *st, enum dialect d, enum dialect_framing framing)
{
	memset(st, 0, sizeof(*st));
	st->dialect = d;
	st->framing = framing;
	sse_init(&st->sse);
	json_watch_init(&st->watch, &readings[d].root);
	token_count_clear(&st->count);
	token_count_clear(&st->frame_count);
}

bool
dialect_stream_tokens(const struct dialect_stream *st, struct tokens *out)
{
	return token_count_sum(&st->count, st->dialect, out);
}

bool
dialect_stream_complete(const struct dialect_stream *st)
{
	return st->finished && !st->failed;
}

bool
dialect_stream_at_boundary(const struct dialect_stream *st)
{
	return st->framing == DIALECT_SSE && sse_at_boundary(&st->sse);
}

static bool
has_fact(const struct dialect_stream *st, unsigned int fact)
{
	return (st->watch.facts & JSON_WATCH_BIT(fact)) != 0;
}

static void
keep_text(void *ctx, uint8_t fact, const char *p, size_t len, bool first)
{
	struct dialect_stream *st = ctx;
	char *to;
	size_t size, have, i;

	if (fact >= FACT_TOKENS) {
		token_count_read(&st->frame_count,
		    (enum token_field)(fact - FACT_TOKENS), p, len, first);
		return;
	}
	assert(fact < ARRAY_LEN(texts) && texts[fact].size > 0);
	to = (char *)st + texts[fact].at;
	size = texts[fact].size;
	have = first ? 0 : strlen(to);
	if (len > size - 1 - have)
		len = size - 1 - have;
	for (i = 0; i < len; i++)
		to[have + i] = p[i] != '\0' ? p[i] : ' ';
	to[have + len] = '\0';
}

static void
forget_texts(struct dialect_stream *st)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(texts); i++) {
		if (texts[i].size > 0)
			*((char *)st + texts[i].at) = '\0';
	}
}

/* Makes ready for the next frame, once its predecessor has been looked at. */
static void
forget_frame(struct dialect_stream *st)
{
	if (st->watch.facts != 0)
		forget_texts(st);
	if (st->framing == DIALECT_JSON)
		json_watch_forget(&st->watch);
	else
		json_watch_reset(&st->watch);
	st->begun = false;
	st->ended = false;
	st->told = false;
	st->head_len = 0;
	st->data_len = 0;
}

static bool
rule_matches(const struct dialect_rule *rule, struct span name)
{
	return rule->prefix ? span_starts(name, rule->name)
			    : span_equal(name, rule->name);
}

static const struct dialect_rule *
rule_for(enum dialect d, struct span name)
{
	const struct dialect_rule *rule = readings[d].rules;

	while (!rule_matches(rule, name))
		rule++;
	return rule;
}

/* By the name of the event, or else by what the data calls itself. */
static const struct dialect_rule *
rule_of_frame(const struct dialect_stream *st)
{
	struct span name = sse_name(&st->sse);

	if (name.len == 0)
		name = span_of(st->kind);
	return rule_for(st->dialect, name);
}

/* Whether a member has the value null, going by what follows its name. */
static bool
is_null(const char *p, const char *end)
{
	static const struct span steps[] = { SPAN(":"), SPAN("null") };
	size_t i;

	for (i = 0; i < ARRAY_LEN(steps); i++) {
		while (p < end && *p == ' ')
			p++;
		if ((size_t)(end - p) < steps[i].len ||
		    memcmp(p, steps[i].p, steps[i].len) != 0)
			return false;
		p += steps[i].len;
	}
	return p < end && (*p == ',' || *p == '}');
}

static bool
has_mark(struct span data, struct span mark)
{
	const char *end = data.p + data.len;
	const char *p = data.p;

	while ((p = memmem(p, (size_t)(end - p), mark.p, mark.len)) != NULL) {
		p += mark.len;
		if (!is_null(p, end))
			return true;
	}
	return false;
}

/*
 * Most frames of a stream under way only carry its text on. That such a one
 * is nothing else is seen much faster than what it is.
 */
static bool
is_mere_content(
    const struct dialect_stream *st, struct span data, struct span behind)
{
	const struct span *mark = readings[st->dialect].marks;

	if (!st->passed || mark == NULL)
		return false;
	if (!span_starts(behind, SPAN("\n\n")) &&
	    !span_starts(behind, SPAN("\r\n\r\n")))
		return false;
	for (; mark->p != NULL; mark++) {
		if (has_mark(data, *mark))
			return false;
	}
	return true;
}

/* What a frame that is complete has counted. */
static void
take_counts(struct dialect_stream *st)
{
	if ((st->watch.facts & FACTS_TOKENS) == 0)
		return;
	token_count_merge(&st->count, &st->frame_count, st->dialect);
	token_count_clear(&st->frame_count);
}

/*
 * Reads of a frame that is mere content nothing but its counts. Should the
 * answer itself hold an object of that name, the last frame, which is read
 * whole, sets it right.
 */
static void
count_of_tail(struct dialect_stream *st, struct span data)
{
	static const struct span mark = SPAN("\"usageMetadata\":");
	const char *end = data.p + data.len;
	const char *p = memmem(data.p, data.len, mark.p, mark.len);
	bool unit;

	if (p == NULL)
		return;
	p += mark.len;
	json_watch_init(&st->watch, &usage_metadata_root);
	(void)json_watch_feed(
	    &st->watch, p, (size_t)(end - p), keep_text, st, &unit);
	take_counts(st);
	json_watch_init(&st->watch, &readings[st->dialect].root);
}

/*
 * The name of the event, which as a rule comes first, often says all there
 * is to know; then the data is read no further than need be, or not at all.
 */
static void
begin_data(struct dialect_stream *st, struct span data, struct span behind)
{
	const struct reading *reading = &readings[st->dialect];
	const struct dialect_rule *rule = rule_of_frame(st);
	bool settled = sse_name(&st->sse).len > 0 && !rule->by_data &&
		       rule->class != DIALECT_ERROR;

	st->begun = true;
	st->walking = !settled || reading->numbered || rule->counts;
	if (settled && reading->numbered && !rule->counts)
		st->watch.enough = JSON_WATCH_BIT(FACT_SEQUENCE);
	if (rule->by_data && is_mere_content(st, data, behind)) {
		st->walking = false;
		if (reading->counts_on)
			count_of_tail(st, data);
	}
}

static void
keep_head(struct dialect_stream *st, struct span data)
{
	size_t room = sizeof(st->head) - st->head_len;
	size_t n = data.len < room ? data.len : room;

	memcpy(st->head + st->head_len, data.p, n);
	st->head_len = (uint8_t)(st->head_len + n);
}

static void
take_data(struct dialect_stream *st, struct span data, struct span behind)
{
	bool unit;
	size_t n;

	if (!st->begun)
		begin_data(st, data, behind);
	keep_head(st, data);
	if (st->data_len < DIALECT_LOOKAHEAD)
		st->data_len += data.len < DIALECT_LOOKAHEAD
				    ? (uint32_t)data.len
				    : DIALECT_LOOKAHEAD;
	while (st->walking && data.len > 0) {
		n = json_watch_feed(
		    &st->watch, data.p, data.len, keep_text, st, &unit);
		data.p += n;
		data.len -= n;
	}
}

static bool
is_done_marker(const struct dialect_stream *st)
{
	struct span head = { st->head, st->head_len };

	return readings[st->dialect].done_marker &&
	       span_equal(span_trim(head), SPAN("[DONE]"));
}

static enum dialect_class
class_of_data(const struct dialect_stream *st, enum dialect_class otherwise)
{
	if (has_fact(st, FACT_ERROR))
		return DIALECT_ERROR;
	if (has_fact(st, FACT_FINISH))
		return readings[st->dialect].finish;
	if (has_fact(st, FACT_CONTENT) || st->passed)
		return DIALECT_CONTENT;
	return otherwise;
}

static enum dialect_class
class_of_frame(const struct dialect_stream *st)
{
	const struct dialect_rule *rule = rule_of_frame(st);

	if (!st->sse.has_data)
		return DIALECT_PREFACE;
	if (is_done_marker(st))
		return DIALECT_TERMINAL;
	return rule->by_data ? class_of_data(st, rule->class) : rule->class;
}

/*
 * One object is a whole answer; of an array it is what a frame would be. An
 * object that says it is an error is one whatever it is called otherwise.
 */
static enum dialect_class
class_of_document(const struct dialect_stream *st)
{
	const struct dialect_rule *rule = rule_of_frame(st);

	if (has_fact(st, FACT_ERROR) || rule->class == DIALECT_ERROR)
		return DIALECT_ERROR;
	if (st->watch.depth == 0)
		return DIALECT_TERMINAL;
	return class_of_data(st, DIALECT_PREFACE);
}

/* "37", "37s", "36.5s": whole seconds, rounded up; -1 if it is no number. */
static int64_t
seconds_of(const char *text)
{
	int64_t s = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(s, 10, &s) ||
		    __builtin_add_overflow(s, *p - '0', &s))
			return -1;
	}
	if (p == text)
		return -1;
	if (*p == '.' && strspn(p + 1, "0") != strspn(p + 1, "0123456789"))
		return s < INT64_MAX ? s + 1 : s;
	return s;
}

static void
follow_sequence(struct dialect_stream *st)
{
	int64_t number = seconds_of(st->number);

	if (number >= 0 && (uint64_t)number >= st->sequence)
		st->sequence = (uint64_t)number + 1;
}

static unsigned int
hex_of(const char *p)
{
	static const char digits[] = "0123456789abcdef";
	unsigned int value = 0;
	const char *at;
	int i;

	for (i = 0; i < 4; i++) {
		at = p[i] != '\0' ? strchr(digits, p[i] | 0x20) : NULL;
		if (at == NULL)
			return 0;
		value = value << 4 | (unsigned int)(at - digits);
	}
	return value;
}

/* Writes a character of the basic plane; all else is a question mark. */
static char *
put_utf8(char *to, unsigned int c)
{
	if (c < 0x20 || (c >= 0xd800 && c <= 0xdfff)) {
		*to++ = c == '\0' || c >= 0x20 ? '?' : ' ';
	} else if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 0x3f));
	} else {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	}
	return to;
}

/*
 * Undoes the escapes of a JSON string, in place. What they stand for is never
 * longer. Control characters become spaces: the text is for people and logs.
 */
static void
unescape(char *text)
{
	const char *from = text;
	char *to = text;

	while (*from != '\0') {
		if (*from != '\\') {
			*to++ = (unsigned char)*from < 0x20 ? ' ' : *from;
			from++;
		} else if (from[1] == 'u' && strlen(from) >= 6) {
			to = put_utf8(to, hex_of(from + 2));
			from += 6;
		} else if (from[1] == 'u' || from[1] == '\0') {
			break; /* cut in the middle */
		} else {
			*to++ =
			    strchr("bfnrt", from[1]) != NULL ? ' ' : from[1];
			from += 2;
		}
	}
	*to = '\0';
}

/* A text that was cut may have lost the end of its last character. */
static void
drop_partial_utf8(char *text)
{
	size_t len = strlen(text);
	size_t start = len;
	size_t n;

	while (start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
		start--;
	if (start == 0 || (unsigned char)text[start - 1] < 0xc0)
		return;
	start--;
	n = utf8_sequence((const unsigned char *)text + start, len - start);
	if (n != len - start)
		text[start] = '\0';
}

/* The first that is said; a sentence only where nothing else is. */
static int64_t
delay_of(const struct dialect_stream *st, int64_t resets_at_s)
{
	int64_t ms = delay_read(span_of(st->delay));

	if (ms == DELAY_NONE)
		ms = delay_read(span_of(st->quota_delay));
	if (ms == DELAY_NONE && resets_at_s < 0)
		ms = delay_in_text(span_of(st->message));
	return ms;
}

static void
describe_error(struct dialect_stream *st, struct dialect_frame *f)
{
	f->status =
	    dialect_error_status(st->code, st->type, st->status, st->message);
	f->resets_at_s = seconds_of(st->resets_at);
	f->delay_ms = delay_of(st, f->resets_at_s);
	unescape(st->code);
	unescape(st->type);
	unescape(st->message);
	drop_partial_utf8(st->message);
}

/* The verdict over a frame that is complete. */
static enum dialect_result
tell(struct dialect_stream *st, enum dialect_class class,
    struct dialect_frame *f)
{
	*f = (struct dialect_frame){
		.class = class,
		.complete = true,
		.code = st->code,
		.type = st->type,
		.message = st->message,
		.delay_ms = DELAY_NONE,
		.resets_at_s = -1,
	};
	if (class == DIALECT_ERROR)
		describe_error(st, f);
	if (has_fact(st, FACT_SEQUENCE))
		follow_sequence(st);
	take_counts(st);
	st->passed |= class == DIALECT_CONTENT && readings[st->dialect].marks;
	st->failed |= class == DIALECT_ERROR;
	st->finished |= class == DIALECT_TERMINAL || has_fact(st, FACT_FINISH);
	st->ended = true;
	return DIALECT_FRAME;
}

/* Whether a frame that goes on is told now: it is long, and no error. */
static bool
tell_early(struct dialect_stream *st, struct dialect_frame *f)
{
	enum dialect_class class;

	if (st->told || st->data_len < DIALECT_LOOKAHEAD)
		return false;
	class = class_of_frame(st);
	if (class == DIALECT_PREFACE && rule_of_frame(st)->by_data)
		class = DIALECT_CONTENT;
	if (class != DIALECT_CONTENT && class != DIALECT_TERMINAL)
		return false;
	*f = (struct dialect_frame){
		.class = class,
		.code = "",
		.type = "",
		.message = "",
		.delay_ms = DELAY_NONE,
		.resets_at_s = -1,
	};
	st->told = true;
	return true;
}

static enum dialect_result
next_frame(struct dialect_stream *st, const char *buf, size_t len, size_t *used,
    struct dialect_frame *f)
{
	enum sse_result r;
	struct span behind;
	struct span data;
	size_t n;

	for (*used = 0;;) {
		r = sse_next(&st->sse, buf + *used, len - *used, &n, &data);
		*used += n;
		if (r == SSE_MORE)
			return DIALECT_MORE;
		if (r == SSE_FRAME)
			return tell(st, class_of_frame(st), f);
		behind = (struct span){ buf + *used, len - *used };
		take_data(st, data, behind);
		if (tell_early(st, f))
			return DIALECT_FRAME;
	}
}

static enum dialect_result
next_document(struct dialect_stream *st, const char *buf, size_t len,
    size_t *used, struct dialect_frame *f)
{
	bool unit;

	*used = json_watch_feed(&st->watch, buf, len, keep_text, st, &unit);
	return unit ? tell(st, class_of_document(st), f) : DIALECT_MORE;
}

enum dialect_result
dialect_stream_next(struct dialect_stream *st, const char *buf, size_t len,
    size_t *used, struct dialect_frame *f)
{
	if (st->ended)
		forget_frame(st);
	if (st->framing == DIALECT_JSON)
		return next_document(st, buf, len, used, f);
	return next_frame(st, buf, len, used, f);
}
