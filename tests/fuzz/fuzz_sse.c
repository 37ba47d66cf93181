/* SPDX-License-Identifier: MIT */
/*
 * The scanner of server-sent events and the reader of frames above it: where
 * frames end, what they hold, and what they are taken for does not depend on
 * how the bytes came in pieces. The first byte chooses dialect and framing.
 */
#include <string.h>

#include "common/attr.h"
#include "tests/fuzz/fuzz.h"
#include "worker/dialect/dialect_stream.h"
#include "worker/http/sse.h"

/* A digest (FNV-1a, 64 bits) of all that was told, in its order. */
struct digest {
	uint64_t hash;
	size_t at; /* bytes read so far */
};

static void
add(struct digest *d, const void *p, size_t len)
{
	const unsigned char *bytes = p;
	size_t i;

	for (i = 0; i < len; i++)
		d->hash = (d->hash ^ bytes[i]) * UINT64_C(0x100000001b3);
}

static void
add_number(struct digest *d, uint64_t number)
{
	add(d, &number, sizeof(number));
}

static void
scan_piece(struct sse *s, const char *p, size_t len, struct digest *d)
{
	enum sse_result r;
	struct span data;
	size_t used;

	do {
		r = sse_next(s, p, len, &used, &data);
		require(used <= len && s->name_len <= SSE_NAME_MAX);
		p += used;
		len -= used;
		d->at += used;
		if (r == SSE_DATA) {
			require(data.len > 0);
			add(d, data.p, data.len);
		} else if (r == SSE_FRAME) {
			require(sse_at_boundary(s));
			add_number(d, d->at);
			add_number(d, s->has_data);
			add(d, s->name, s->name_len);
		}
	} while (r != SSE_MORE);
	require(len == 0);
}

static void
add_frame(struct digest *d, const struct dialect_frame *f)
{
	require(f->class <= DIALECT_ERROR);
	require((f->class == DIALECT_ERROR) ==
		(f->status >= 400 && f->status <= 599));
	if (!f->complete)
		return; /* told early: that does depend on the pieces */
	add_number(d, d->at);
	add_number(d, f->class);
	add_number(d, (uint64_t)f->status);
	add_number(d, (uint64_t)f->delay_ms);
	add_number(d, (uint64_t)f->resets_at_s);
	if (f->class == DIALECT_ERROR) {
		add(d, f->code, strlen(f->code));
		add(d, f->type, strlen(f->type));
		add(d, f->message, strlen(f->message));
	}
}

static void
read_piece(
    struct dialect_stream *st, const char *p, size_t len, struct digest *d)
{
	enum dialect_result r;
	struct dialect_frame f;
	size_t used;

	do {
		r = dialect_stream_next(st, p, len, &used, &f);
		require(used <= len);
		p += used;
		len -= used;
		d->at += used;
		if (r == DIALECT_FRAME)
			add_frame(d, &f);
	} while (r != DIALECT_MORE);
	require(len == 0);
}

/* Gemini's frames under way are read for their counts in a cheaper way. */
static void
add_tokens(struct digest *d, const struct dialect_stream *st)
{
	struct tokens tokens;
	bool found = dialect_stream_tokens(st, &tokens);

	for (int i = 0; i < TOKENS_MAX; i++)
		require(found || tokens.n[i] == -1);
	if (found && st->dialect != DIALECT_GEMINI)
		add(d, &tokens, sizeof(tokens));
}

static uint64_t
digest_of(const uint8_t *data, size_t size, size_t step, unsigned int kind)
{
	struct digest frames = { 1, 0 };
	struct digest verdicts = { 2, 0 };
	struct dialect_stream st;
	struct sse s;
	size_t at;
	size_t n;

	sse_init(&s);
	dialect_stream_init(&st, (enum dialect)(kind % DIALECT_MAX),
	    kind & 4 ? DIALECT_JSON : DIALECT_SSE);
	for (at = 0; at < size; at += n) {
		n = size - at < step ? size - at : step;
		AUTO_FREE char *copy = malloc(n);

		require(copy != NULL);
		memcpy(copy, data + at, n);
		scan_piece(&s, copy, n, &frames);
		read_piece(&st, copy, n, &verdicts);
	}
	add_number(&frames, sse_at_boundary(&s));
	add_number(&verdicts, dialect_stream_complete(&st));
	add_number(&verdicts, st.sequence);
	add_tokens(&verdicts, &st);
	return frames.hash * 3 + verdicts.hash;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = { 1, 3, 50 };
	unsigned int kind;
	uint64_t want;
	size_t i;

	if (size == 0)
		return 0;
	kind = data[0];
	want = digest_of(data + 1, size - 1, size, kind);
	for (i = 0; i < ARRAY_LEN(steps); i++)
		require(digest_of(data + 1, size - 1, steps[i], kind) == want);
	return 0;
}
