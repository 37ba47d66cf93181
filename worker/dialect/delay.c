/* SPDX-License-Identifier: MIT */
#include "worker/dialect/delay.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "common/attr.h"

/* Longer names first where one begins with another. */
static const struct {
	struct span name;
	int64_t ns;
} units[] = {
	{ SPAN("ms"), 1000000 },
	{ SPAN("us"), 1000 },
	{ SPAN("\xc2\xb5s"), 1000 },
	{ SPAN("ns"), 1 },
	{ SPAN("d"), INT64_C(86400) * 1000000000 },
	{ SPAN("h"), INT64_C(3600) * 1000000000 },
	{ SPAN("m"), INT64_C(60) * 1000000000 },
	{ SPAN("s"), 1000000000 },
};

static const int64_t ns_per_ms = 1000000;
static const int64_t ns_per_s = 1000000000;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
starts_with_digit(struct span s)
{
	return s.len > 0 && is_digit(s.p[0]);
}

static void
advance(struct span *s, size_t n)
{
	s->p += n;
	s->len -= n;
}

static int64_t
capped_add(int64_t a, int64_t b)
{
	return a > DELAY_MAX_MS - b ? DELAY_MAX_MS : a + b;
}

/* A decimal number; its fraction is cut to billionths. */
struct number {
	int64_t whole;
	int64_t billionths;
};

static bool
take_number(struct span *s, struct number *n)
{
	int64_t place = 100000000;

	*n = (struct number){ 0 };
	if (!starts_with_digit(*s))
		return false;
	for (; starts_with_digit(*s); advance(s, 1))
		if (n->whole < DELAY_MAX_MS / 10)
			n->whole = n->whole * 10 + (s->p[0] - '0');
	if (s->len == 0 || s->p[0] != '.')
		return true;
	advance(s, 1);
	for (; starts_with_digit(*s); advance(s, 1), place /= 10)
		n->billionths += (s->p[0] - '0') * place;
	return true;
}

/* How many nanoseconds the unit at the front is; 0: there is none. */
static int64_t
take_unit(struct span *s)
{
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (!span_starts(*s, units[i].name))
			continue;
		advance(s, units[i].name.len);
		return units[i].ns;
	}
	return 0;
}

/* Rounded up. */
static int64_t
in_ms(const struct number *n, int64_t unit_ns)
{
	int64_t unit_ms = unit_ns / ns_per_ms, whole_ms = 0, part_ns;

	part_ns = unit_ns >= ns_per_s ? n->billionths * (unit_ns / ns_per_s)
				      : n->billionths / (ns_per_s / unit_ns);
	if (n->whole > DELAY_MAX_MS / (unit_ms > 0 ? unit_ms : unit_ns))
		return DELAY_MAX_MS;
	if (unit_ms > 0)
		whole_ms = n->whole * unit_ms;
	else
		part_ns += n->whole * unit_ns;
	return capped_add(whole_ms, (part_ns + ns_per_ms - 1) / ns_per_ms);
}

/* Numbers with units, one behind the other, as far as they go. */
static int64_t
take_delay(struct span *s)
{
	int64_t ms = DELAY_NONE, unit_ns;
	struct span at = *s;
	struct number n;

	while (take_number(&at, &n) && (unit_ns = take_unit(&at)) != 0) {
		ms = capped_add(ms == DELAY_NONE ? 0 : ms, in_ms(&n, unit_ns));
		*s = at;
	}
	return ms;
}

int64_t
delay_read(struct span text)
{
	struct span rest = text;
	struct number n;
	int64_t ms;

	if (take_number(&rest, &n) && rest.len == 0)
		return in_ms(&n, ns_per_s);
	rest = text;
	ms = take_delay(&rest);
	return rest.len == 0 ? ms : DELAY_NONE;
}

/* What stands before a delay that is meant for us. */
static const struct span leads[] = {
	SPAN("after "),
	SPAN("again in "),
	SPAN("retry in "),
	SPAN("reset in "),
};

static bool
starts_nocase(struct span s, struct span prefix)
{
	return s.len >= prefix.len &&
	       strncasecmp(s.p, prefix.p, prefix.len) == 0;
}

int64_t
delay_in_text(struct span text)
{
	int64_t ms;

	for (; text.len > 0; advance(&text, 1)) {
		for (size_t i = 0; i < ARRAY_LEN(leads); i++) {
			struct span rest = text;

			if (!starts_nocase(text, leads[i]))
				continue;
			advance(&rest, leads[i].len);
			ms = take_delay(&rest);
			if (ms != DELAY_NONE)
				return ms;
		}
	}
	return DELAY_NONE;
}
