/* SPDX-License-Identifier: MIT */
#include "master/ctl/top.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "master/ctl/client.h"

enum {
	ANSWER_MAX = 256 << 20,
	STEP_MS = 1000,
	LOOK_BACK = 60, /* steps that quantiles are taken over */
	BUCKETS_MAX = 64,
	WIDTH_MIN = 40,
	ESCAPE = 27
};

/* Sums of one moment; differences are what happened between. */
struct moment {
	int64_t us;
	double requests, errors, tokens, prompt, cached;
	double hits, bound;
	double first_byte[BUCKETS_MAX];
};

struct top {
	const char *socket;
	int timeout_s;
	struct moment seen[LOOK_BACK + 1]; /* a ring */
	size_t nseen;
	double bounds_ms[BUCKETS_MAX];
	size_t nbounds;
	cJSON *before; /* the answer before this one, for rates of rows */
};

/* ---- what was answered */

static double
number(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItem(object, name);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *
text(const cJSON *object, const char *name)
{
	const char *value =
	    cJSON_GetStringValue(cJSON_GetObjectItem(object, name));

	return value != NULL ? value : "";
}

static size_t
numbers(const cJSON *list, double *out)
{
	const cJSON *item;
	size_t n = 0;

	cJSON_ArrayForEach (item, list) {
		if (n < BUCKETS_MAX)
			out[n++] = item->valuedouble;
	}
	return n;
}

static struct moment *
moment_at(struct top *t, size_t back)
{
	return &t->seen[(t->nseen - 1 - back) % (LOOK_BACK + 1)];
}

static void
remember(struct top *t, const cJSON *status)
{
	const cJSON *traffic = cJSON_GetObjectItem(status, "traffic");
	const cJSON *affinity = cJSON_GetObjectItem(status, "affinity");
	struct moment *m;

	t->nseen++;
	m = moment_at(t, 0);
	*m = (struct moment){
		.us = clock_mono_us(),
		.requests = number(traffic, "requests"),
		.errors = number(traffic, "errors"),
		.tokens = number(traffic, "tokens"),
		.prompt = number(traffic, "tokens_prompt"),
		.cached = number(traffic, "tokens_cached"),
		.hits = number(affinity, "hit") + number(affinity, "new"),
	};
	m->bound = m->hits + number(affinity, "moved");
	(void)numbers(
	    cJSON_GetObjectItem(traffic, "first_byte"), m->first_byte);
	t->nbounds = numbers(
	    cJSON_GetObjectItem(traffic, "first_byte_bounds_ms"), t->bounds_ms);
}

/* The oldest moment that still counts. */
static struct moment *
moment_before(struct top *t)
{
	size_t back = t->nseen - 1;

	return moment_at(t, back < LOOK_BACK ? back : LOOK_BACK);
}

/* The bound in milliseconds below which a share of the answers began; -1. */
static double
quantile(struct top *t, double share)
{
	const struct moment *now = moment_at(t, 0), *then = moment_before(t);
	double total = 0, seen = 0, n, low;

	for (size_t i = 0; i <= t->nbounds; i++)
		total += now->first_byte[i] - then->first_byte[i];
	for (size_t i = 0; i < t->nbounds && total > 0; i++) {
		n = now->first_byte[i] - then->first_byte[i];
		low = i > 0 ? t->bounds_ms[i - 1] : 0;
		if (n > 0 && seen + n >= share * total)
			return low + (t->bounds_ms[i] - low) *
					 (share * total - seen) / n;
		seen += n;
	}
	return total > 0 ? t->bounds_ms[t->nbounds - 1] : -1;
}

/* ---- the lines */

struct screen {
	struct buf out;
	size_t rows, columns;
	size_t row;
};

/* One line, cut at the width; none below the last row. */
static void
put_line(struct screen *s, const char *line)
{
	size_t len = 0, bytes = 0;

	if (s->row >= s->rows)
		return;
	/* Characters, not bytes: what continues one is not counted. */
	while (line[bytes] != '\0' && len < s->columns) {
		bytes++;
		while (((unsigned char)line[bytes] & 0xc0) == 0x80)
			bytes++;
		len++;
	}
	buf_printf(
	    &s->out, "%s%.*s\033[K", s->row > 0 ? "\n" : "", (int)bytes, line);
	s->row++;
}

static void
put_duration(char *out, size_t size, double seconds)
{
	int64_t s = (int64_t)seconds;

	if (s >= 86400)
		(void)snprintf(out, size, "%" PRId64 "d%" PRId64 "h", s / 86400,
		    s / 3600 % 24);
	else if (s >= 3600)
		(void)snprintf(out, size, "%" PRId64 "h%" PRId64 "m", s / 3600,
		    s / 60 % 60);
	else if (s >= 60)
		(void)snprintf(
		    out, size, "%" PRId64 "m%" PRId64 "s", s / 60, s % 60);
	else
		(void)snprintf(out, size, "%" PRId64 "s", s);
}

static void
put_ms(char *out, size_t size, double ms)
{
	if (ms < 0)
		(void)snprintf(out, size, "-");
	else if (ms < 1000)
		(void)snprintf(out, size, "%.1f ms", ms);
	else
		(void)snprintf(out, size, "%.1f s", ms / 1000);
}

static void
put_share(char *out, size_t size, double part, double whole)
{
	if (whole > 0)
		(void)snprintf(out, size, "%.1f %%", 100 * part / whole);
	else
		(void)snprintf(out, size, "-");
}

static double
total_of(const cJSON *workers, const char *name)
{
	const cJSON *row;
	double total = 0;

	cJSON_ArrayForEach (row, workers)
		total += number(row, name);
	return total;
}

static void
put_head(struct top *t, struct screen *s, const cJSON *status)
{
	const cJSON *workers = cJSON_GetObjectItem(status, "workers");
	const struct moment *now = moment_at(t, 0), *then = moment_before(t);
	const struct moment *last = moment_at(t, t->nseen > 1 ? 1 : 0);
	double step_s = (double)(now->us - last->us) / 1e6;
	double span_min = (double)(now->us - then->us) / 6e7;
	char line[256], up[32], p50[32], p99[32], cache[32], kept[32];

	put_duration(up, sizeof(up), number(status, "uptime_s"));
	put_ms(p50, sizeof(p50), quantile(t, 0.5));
	put_ms(p99, sizeof(p99), quantile(t, 0.99));
	put_share(cache, sizeof(cache), now->cached - then->cached,
	    now->prompt - then->prompt);
	put_share(kept, sizeof(kept), now->hits, now->bound);
	(void)snprintf(line, sizeof(line),
	    "fairlead %s, %s, up %s, generation %.0f, %d workers",
	    text(status, "version"), text(status, "state"), up,
	    number(status, "generation"), cJSON_GetArraySize(workers));
	put_line(s, line);
	(void)snprintf(line, sizeof(line),
	    "requests %.1f/s  errors %.1f/s  streams %.0f  connections %.0f  "
	    "sessions %.0f",
	    step_s > 0 ? (now->requests - last->requests) / step_s : 0,
	    step_s > 0 ? (now->errors - last->errors) / step_s : 0,
	    total_of(workers, "streams"), total_of(workers, "connections"),
	    number(status, "sessions"));
	put_line(s, line);
	(void)snprintf(line, sizeof(line),
	    "first byte p50 %s p99 %s  tokens %.0f/min  from cache %s  kept %s",
	    p50, p99,
	    span_min > 0 ? (now->tokens - then->tokens) / span_min : 0, cache,
	    kept);
	put_line(s, line);
	put_line(s, "");
}

/* ---- credentials */

static int
urgency(const cJSON *row)
{
	return strcmp(text(row, "state"), "ready") == 0;
}

static int
by_urgency(const void *a, const void *b)
{
	const cJSON *ra, *rb;
	int order;

	memcpy(&ra, a, sizeof(ra));
	memcpy(&rb, b, sizeof(rb));
	order = urgency(ra) - urgency(rb);
	if (order == 0)
		order = (number(ra, "in_flight") < number(rb, "in_flight")) -
			(number(ra, "in_flight") > number(rb, "in_flight"));
	return order != 0 ? order : strcmp(text(ra, "id"), text(rb, "id"));
}

static const cJSON *
same_before(const struct top *t, const char *id)
{
	const cJSON *row;

	cJSON_ArrayForEach (
	    row, cJSON_GetObjectItem(t->before, "credentials")) {
		if (strcmp(text(row, "id"), id) == 0)
			return row;
	}
	return NULL;
}

/* Until an RFC 3339 time of UTC; "" for none. */
static void
put_countdown(char *out, size_t size, const char *until)
{
	struct tm tm = { 0 };

	*out = '\0';
	if (strptime(until, "%Y-%m-%dT%H:%M:%SZ", &tm) != NULL)
		put_duration(out, size, difftime(timegm(&tm), time(NULL)));
}

static void
put_credential(struct top *t, struct screen *s, const cJSON *row)
{
	const cJSON *before = same_before(t, text(row, "id"));
	double served = number(row, "succeeded");
	char line[320], left[32];

	put_countdown(left, sizeof(left), text(row, "until"));
	(void)snprintf(line, sizeof(line),
	    "%-26.26s %-11.11s %7s %6.0f %6.0f %8.1f  %s", text(row, "id"),
	    text(row, "state"), left, number(row, "in_flight"),
	    number(row, "sessions"),
	    before != NULL ? served - number(before, "succeeded") : 0,
	    text(row, "reason"));
	put_line(s, line);
}

static void
put_credentials(struct top *t, struct screen *s, const cJSON *rows)
{
	size_t n = (size_t)cJSON_GetArraySize(rows), i = 0;
	const cJSON **sorted = calloc(n + 1, sizeof(*sorted));
	const cJSON *row;

	if (sorted == NULL)
		return;
	cJSON_ArrayForEach (row, rows)
		sorted[i++] = row;
	qsort(sorted, n, sizeof(*sorted), by_urgency);
	put_line(s, "CREDENTIAL                 STATE          LEFT FLIGHT   "
		    "SESS SERVED/S  REASON");
	for (i = 0; i < n && s->row < s->rows; i++)
		put_credential(t, s, sorted[i]);
	free(sorted);
}

/* ---- the terminal */

static volatile sig_atomic_t ended;
static struct termios usual;

static void
on_end(int number_of UNUSED)
{
	ended = 1;
}

/* Only wakes poll(2); the size is asked for at each frame. */
static void
on_resize(int number_of UNUSED)
{
}

static void
enter_screen(void)
{
	struct sigaction end = { .sa_handler = on_end };
	struct sigaction resize = { .sa_handler = on_resize };
	struct termios raw;

	(void)sigaction(SIGINT, &end, NULL);
	(void)sigaction(SIGTERM, &end, NULL);
	(void)sigaction(SIGHUP, &end, NULL);
	(void)sigaction(SIGWINCH, &resize, NULL);
	if (tcgetattr(STDIN_FILENO, &usual) == 0) {
		raw = usual;
		raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	(void)fputs("\033[?1049h\033[?25l", stdout);
}

static void
leave_screen(void)
{
	(void)fputs("\033[?25h\033[?1049l", stdout);
	(void)fflush(stdout);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &usual);
}

static void
draw(struct top *t, const cJSON *status, bool live)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };
	struct screen s = { .out = BUF_INIT(1 << 20) };

	if (live)
		(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	s.rows = live ? size.ws_row : SIZE_MAX;
	s.columns = size.ws_col > WIDTH_MIN ? size.ws_col : WIDTH_MIN;
	if (live)
		buf_puts(&s.out, "\033[H");
	put_head(t, &s, status);
	put_credentials(t, &s, cJSON_GetObjectItem(status, "credentials"));
	buf_puts(&s.out, live ? "\033[J" : "\n");
	(void)fwrite(s.out.data, 1, s.out.len, stdout);
	(void)fflush(stdout);
	buf_fini(&s.out);
}

/* Until the next step is due. Whether the person has had enough. */
static bool
wait_for_key(int64_t until_us)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	int64_t left_ms = (until_us - clock_mono_us()) / 1000;
	char key;

	if (poll(&in, 1, left_ms > 0 ? (int)left_ms : 0) <= 0)
		return ended != 0;
	if (read(STDIN_FILENO, &key, 1) != 1)
		return true;
	return key == 'q' || key == 'Q' || key == ESCAPE;
}

static int
step(struct top *t, bool live, bool show)
{
	struct buf answer = BUF_INIT(ANSWER_MAX);
	cJSON *status = NULL;
	int rc = client_ask(
	    t->socket, "status", NULL, 0, t->timeout_s, &answer, &status);

	buf_fini(&answer);
	if (rc != 0) {
		cJSON_Delete(status);
		return rc;
	}
	remember(t, status);
	if (show)
		draw(t, status, live);
	cJSON_Delete(t->before);
	t->before = status;
	return 0;
}

static int
watch(struct top *t)
{
	int64_t next_us = clock_mono_us();
	int rc = 0;

	enter_screen();
	while (rc == 0 && !ended) {
		if (clock_mono_us() >= next_us) {
			rc = step(t, true, true);
			next_us += STEP_MS * INT64_C(1000);
		} else if (wait_for_key(next_us)) {
			break;
		}
	}
	leave_screen();
	return rc;
}

static int
print_once(struct top *t)
{
	const struct timespec second = { .tv_sec = STEP_MS / 1000 };
	int rc = step(t, false, false);

	if (rc != 0)
		return rc;
	(void)nanosleep(&second, NULL);
	return step(t, false, true);
}

int
top_run(const char *socket, int timeout_s)
{
	struct top t = { .socket = socket, .timeout_s = timeout_s };
	bool live = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
	int rc = live ? watch(&t) : print_once(&t);

	cJSON_Delete(t.before);
	return rc;
}
