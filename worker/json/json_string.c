/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a JSON string, 64 at a time. A block becomes one bit mask for
 * each kind of byte that matters; escapes, the end and UTF-8 are then a matter
 * of bit arithmetic, so text full of escapes costs no second look at a byte.
 * Without SSE2, and in tests with JSON_NO_SIMD, a plain loop does the same.
 */
#include "worker/json/json_string.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(JSON_NO_SIMD)

#include <emmintrin.h>

#define BLOCK_BYTES 64

/* A character that a byte belongs to begins at most 3 bytes before it. */
#define LOOK_BACK 3

/*
 * A block to look at: in the text itself, or a copy of its edge, because
 * neither the bytes before the text nor those behind it may be read. Zeros
 * behind the end are control characters, which end every search.
 */
struct window {
	const unsigned char *at;
	unsigned char copy[LOOK_BACK + BLOCK_BYTES];
};

/*
 * The kinds of bytes. Each is a test of the 16 bytes at p, which may look at
 * the three before them; the top bits of the result answer. BLOCK_MASK makes
 * the answers for a block one mask, bit i for byte i; BLOCK_ANY tells whether
 * one of them is yes. Both are written out, for -O2 unrolls no loop.
 */
#define BLOCK_MASK(test, p)                                                    \
	(lane_mask(test(p), 0) | lane_mask(test((p) + 16), 1) |                \
	    lane_mask(test((p) + 32), 2) | lane_mask(test((p) + 48), 3))

#define BLOCK_ANY(test, p)                                                     \
	(lane_mask(either(either(test(p), test((p) + 16)),                     \
		       either(test((p) + 32), test((p) + 48))),                \
	     0) != 0)

static inline uint64_t
lane_mask(__m128i v, unsigned lane)
{
	return (uint64_t)(unsigned)_mm_movemask_epi8(v) << (16 * lane);
}

static inline __m128i
load(const unsigned char *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline __m128i
each(int byte)
{
	return _mm_set1_epi8((char)byte);
}

static inline __m128i
either(__m128i a, __m128i b)
{
	return _mm_or_si128(a, b);
}

static inline __m128i
equal(__m128i v, int byte)
{
	return _mm_cmpeq_epi8(v, each(byte));
}

static inline __m128i
at_least(__m128i v, int byte)
{
	return _mm_cmpeq_epi8(_mm_max_epu8(v, each(byte)), v);
}

static inline __m128i
in_range(__m128i v, int first, int last)
{
	return _mm_and_si128(_mm_cmpgt_epi8(v, each(first - 1)),
	    _mm_cmplt_epi8(v, each(last + 1)));
}

static inline __m128i
is_quote(const unsigned char *p)
{
	return equal(load(p), '"');
}

static inline __m128i
is_backslash(const unsigned char *p)
{
	return equal(load(p), '\\');
}

static inline __m128i
is_high(const unsigned char *p)
{
	return load(p);
}

/* The comparison is signed: 80-FF are below 00. */
static inline __m128i
is_control_or_high(const unsigned char *p)
{
	return _mm_cmplt_epi8(load(p), each(0x20));
}

static inline __m128i
is_special(const unsigned char *p)
{
	return either(
	    is_control_or_high(p), either(is_quote(p), is_backslash(p)));
}

static inline __m128i
is_escape_u(const unsigned char *p)
{
	return equal(load(p), 'u');
}

static inline __m128i
is_escape_letter(const unsigned char *p)
{
	__m128i v = load(p);

	return either(either(either(equal(v, 'n'), equal(v, 't')),
			  either(equal(v, 'r'), equal(v, '/'))),
	    either(either(equal(v, 'b'), equal(v, 'f')), is_escape_u(p)));
}

static inline __m128i
is_hex_digit(const unsigned char *p)
{
	__m128i v = load(p);

	return either(
	    in_range(v, '0', '9'), in_range(either(v, each(0x20)), 'a', 'f'));
}

static inline __m128i
is_misplaced(const unsigned char *p)
{
	__m128i due = either(at_least(load(p - 1), 0xc0),
	    either(at_least(load(p - 2), 0xe0), at_least(load(p - 3), 0xf0)));

	return _mm_xor_si128(due, _mm_cmplt_epi8(load(p), each(0xc0)));
}

static inline __m128i
is_behind_special_lead(const unsigned char *p)
{
	__m128i lead = load(p - 1);

	return either(either(equal(lead, 0xe0), equal(lead, 0xed)),
	    either(in_range(lead, 0xc0 - 0x100, 0xc1 - 0x100),
		at_least(lead, 0xf0)));
}

static inline __m128i
is_forbidden(const unsigned char *p)
{
	__m128i b = load(p), lead = load(p - 1);
	__m128i low = either(
	    _mm_and_si128(equal(lead, 0xe0), _mm_cmplt_epi8(b, each(0xa0))),
	    _mm_and_si128(equal(lead, 0xf0), _mm_cmplt_epi8(b, each(0x90))));
	__m128i high = either(
	    _mm_and_si128(equal(lead, 0xed), _mm_cmpgt_epi8(b, each(0x9f))),
	    _mm_and_si128(equal(lead, 0xf4), _mm_cmpgt_epi8(b, each(0x8f))));

	return either(either(low, high),
	    either(in_range(lead, 0xc0 - 0x100, 0xc1 - 0x100),
		at_least(lead, 0xf5)));
}

static void
window_copy(struct window *w, const char *text, const char *p, const char *end)
{
	size_t before = (size_t)(p - text), behind = (size_t)(end - p);

	if (before > LOOK_BACK)
		before = LOOK_BACK;
	if (behind > BLOCK_BYTES)
		behind = BLOCK_BYTES;
	memset(w->copy, 0, sizeof(w->copy));
	memcpy(w->copy + LOOK_BACK - before, p - before, before + behind);
	w->at = w->copy + LOOK_BACK;
}

static inline void
window_move(struct window *w, const char *text, const char *p, const char *end)
{
	if (p - text >= LOOK_BACK && end - p >= BLOCK_BYTES)
		w->at = (const unsigned char *)p;
	else
		window_copy(w, text, p, end);
}

/* The bits below bit i, which may be 64. */
static inline uint64_t
bits_below(unsigned i)
{
	return i < 64 ? (UINT64_C(1) << i) - 1 : ~UINT64_C(0);
}

static inline unsigned
lowest_bit(uint64_t mask)
{
	return mask != 0 ? (unsigned)__builtin_ctzll(mask) : 64;
}

/*
 * The backslashes that begin an escape: in each run of them the first, third,
 * fifth... Adding the first bit of a run to the run carries it away, which
 * tells the runs that begin at an even place from the others.
 */
static inline uint64_t
escape_starts(uint64_t backslash)
{
	const uint64_t even = UINT64_C(0x5555555555555555);
	uint64_t first = backslash & ~(backslash << 1);
	uint64_t even_runs = backslash & ~(backslash + (first & even));

	return (even_runs & even) | (backslash & ~even_runs & ~even);
}

/* Are the four bytes behind each of these hexadecimal digits? */
static inline bool
digits_follow(uint64_t u, const unsigned char *p)
{
	uint64_t next_two = u << 1 | u << 2;

	return ((next_two | next_two << 2) & ~BLOCK_MASK(is_hex_digit, p)) == 0;
}

/*
 * Check the escapes of a block up to the end of the string and take escaped
 * quotes out of *quote. Returns how many bytes of the block are done: an
 * escape that reaches beyond the block is left to begin the next one; 0 when
 * an escape is broken.
 */
static unsigned
check_escapes(const unsigned char *p, uint64_t backslash, uint64_t *quote)
{
	/* \uXXXX is 6 bytes long, other escapes 2. */
	const uint64_t too_late = ~bits_below(BLOCK_BYTES - 1);
	const uint64_t u_too_late = ~bits_below(BLOCK_BYTES - 5);
	uint64_t sound = *quote | backslash | BLOCK_MASK(is_escape_letter, p);
	uint64_t starts = escape_starts(backslash);
	uint64_t escaped = starts << 1;
	uint64_t u = escaped & BLOCK_MASK(is_escape_u, p);
	unsigned done;

	done = lowest_bit((starts & too_late) | (u >> 1 & u_too_late));
	*quote &= ~escaped;
	escaped &= bits_below(done) & bits_below(lowest_bit(*quote));
	if ((escaped & ~sound) != 0)
		return 0;
	if ((u & escaped) != 0 && !digits_follow(u & escaped, p))
		return 0;
	return done;
}

/*
 * Where UTF-8 is seen to be broken: a continuation byte is due and does not
 * come, or comes undue, or breaks the rule of a special lead (RFC 3629,
 * section 4), of which most text has none.
 */
static inline uint64_t
utf8_errors(const unsigned char *p)
{
	uint64_t errors = BLOCK_MASK(is_misplaced, p);

	if (BLOCK_ANY(is_behind_special_lead, p))
		errors |= BLOCK_MASK(is_forbidden, p);
	return errors;
}

const char *
json_string_end(const char *text, const char *p, const char *end, bool *escaped)
{
	bool in_character = false; /* one may reach into this block */
	struct window w;
	uint64_t quote, backslash, inside, high;
	unsigned done, stop;

	for (;;) {
		window_move(&w, text, p, end);
		if (!in_character && !BLOCK_ANY(is_special, w.at)) {
			p += BLOCK_BYTES;
			continue;
		}
		quote = BLOCK_MASK(is_quote, w.at);
		backslash = BLOCK_MASK(is_backslash, w.at);
		done = BLOCK_BYTES;
		if (backslash != 0)
			done = check_escapes(w.at, backslash, &quote);
		if (done == 0)
			return NULL;
		stop = lowest_bit(quote);
		if (stop > done)
			stop = done;
		inside = bits_below(stop);
		if ((backslash & inside) != 0)
			*escaped = true;
		high = BLOCK_MASK(is_high, w.at) & inside;
		if ((BLOCK_MASK(is_control_or_high, w.at) & inside) != high)
			return NULL;
		/* The closing quote is where a cut character shows. */
		if ((high != 0 || in_character) &&
		    (utf8_errors(w.at) & (inside << 1 | 1)) != 0)
			return NULL;
		if (stop < done)
			return p + stop + 1;
		in_character = high >> (stop - LOOK_BACK) != 0;
		p += stop;
	}
}

#else /* no SSE2 */

#include "common/utf8.h"

/* The length of the escape at p, or 0. */
static size_t
escape_len(const char *p, size_t len)
{
	size_t i;

	if (len < 2 || p[1] == '\0')
		return 0;
	if (strchr("\"\\/bfnrt", p[1]) != NULL)
		return 2;
	if (p[1] != 'u' || len < 6)
		return 0;
	for (i = 2; i < 6; i++) {
		if (json_hex_digit(p[i]) < 0)
			return 0;
	}
	return 6;
}

const char *
json_string_end(const char *text, const char *p, const char *end, bool *escaped)
{
	size_t n;

	(void)text;
	while (p < end) {
		if (*p == '"')
			return p + 1;
		if ((unsigned char)*p < 0x20)
			return NULL;
		n = 1;
		if (*p == '\\') {
			*escaped = true;
			n = escape_len(p, (size_t)(end - p));
		} else if ((unsigned char)*p >= 0x80) {
			n = utf8_sequence(
			    (const unsigned char *)p, (size_t)(end - p));
		}
		if (n == 0)
			return NULL;
		p += n;
	}
	return NULL;
}

#endif

int
json_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}
