/* SPDX-License-Identifier: MIT */
/* Points in time as text; see time_text.h. */
#include "master/credential/time_text.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "common/str.h"

/* Above, a number cannot mean seconds. */
#define SECONDS_MAX 1e12

/* Reads exactly n digits within [min, max] and moves on. */
static bool
take_digits(const char **s, int n, int min, int max, int *value)
{
	int v = 0;

	for (; n > 0; n--, (*s)++) {
		if (!isdigit((unsigned char)**s))
			return false;
		v = v * 10 + (**s - '0');
	}
	*value = v;
	return v >= min && v <= max;
}

static bool
take(const char **s, const char *any)
{
	if (**s == '\0' || strchr(any, **s) == NULL)
		return false;
	(*s)++;
	return true;
}

static bool
take_date(const char **s, struct tm *tm)
{
	if (!take_digits(s, 4, 1, 9999, &tm->tm_year) || !take(s, "-") ||
	    !take_digits(s, 2, 1, 12, &tm->tm_mon) || !take(s, "-") ||
	    !take_digits(s, 2, 1, 31, &tm->tm_mday))
		return false;
	tm->tm_year -= 1900;
	tm->tm_mon--;
	return true;
}

static bool
take_time(const char **s, struct tm *tm)
{
	if (!take_digits(s, 2, 0, 23, &tm->tm_hour) || !take(s, ":") ||
	    !take_digits(s, 2, 0, 59, &tm->tm_min))
		return false;
	if (!take(s, ":"))
		return true;
	return take_digits(s, 2, 0, 60, &tm->tm_sec);
}

/* ".123456", of which milliseconds count. */
static bool
take_fraction(const char **s, int64_t *ms)
{
	int digits = 0;

	*ms = 0;
	if (!take(s, ".,"))
		return true;
	for (; isdigit((unsigned char)**s); (*s)++, digits++) {
		if (digits < 3)
			*ms = *ms * 10 + (**s - '0');
	}
	for (; digits > 0 && digits < 3; digits++)
		*ms *= 10;
	return digits > 0;
}

/* "Z" or "+02:00"; nothing is UTC. */
static bool
take_offset(const char **s, int64_t *offset_s)
{
	int hours, minutes;
	bool west;

	*offset_s = 0;
	if (**s == '\0' || take(s, "Zz"))
		return true;
	west = **s == '-';
	if (!take(s, "+-") || !take_digits(s, 2, 0, 23, &hours) ||
	    !take(s, ":") || !take_digits(s, 2, 0, 59, &minutes))
		return false;
	*offset_s = (west ? -1 : 1) * (hours * 3600 + minutes * 60);
	return true;
}

int64_t
time_from_number(double number)
{
	if (!(number > 0) || number > 9e15)
		return 0;
	return (int64_t)(number > SECONDS_MAX ? number : number * 1000);
}

int
time_from_text(const char *text, int64_t *ms)
{
	struct tm tm = { 0 };
	int64_t fraction_ms, offset_s, number;

	text += strspn(text, " \t");
	if (str_to_int(text, INT64_MIN, INT64_MAX, &number) == 0) {
		*ms = time_from_number((double)number);
		return 0;
	}
	if (!take_date(&text, &tm) || !take(&text, "Tt ") ||
	    !take_time(&text, &tm) || !take_fraction(&text, &fraction_ms) ||
	    !take_offset(&text, &offset_s) || text[strspn(text, " \t")] != '\0')
		return -EINVAL;
	*ms = ((int64_t)timegm(&tm) - offset_s) * 1000 + fraction_ms;
	return 0;
}
