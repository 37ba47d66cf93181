/* SPDX-License-Identifier: MIT */
/*
 * What it costs to read a request body and to find its session, in nanoseconds
 * per byte, for every captured request, beside a memcpy of the body and a
 * cJSON parse of it. The argument is the directory of the captures. Prints a
 * table; asserts nothing but that each is valid.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "worker/http/http_head.h"
#include "worker/session/facts.h"
#include "worker/session/session.h"

enum { MAX_FILE_BYTES = 16 << 20, BYTES_PER_ROUND = 4 << 20, ROUNDS = 7 };

struct capture {
	struct buf text;
	struct http_head head;
	char *body, *copy;
	size_t len;
};

typedef void work_fn(struct capture *c);

static void
do_memcpy(struct capture *c)
{
	memcpy(c->copy, c->body, c->len);
	/* The copy is wanted. */
	__asm__ volatile("" : : "r"(c->copy) : "memory");
}

static void
do_identify(struct capture *c)
{
	static struct session_id session;
	static struct facts facts;

	if (facts_read(&facts, c->body, c->len) != FACTS_OK)
		abort();
	(void)session_find(&session, &c->head, &facts);
}

static void
do_cjson(struct capture *c)
{
	cJSON *json = cJSON_ParseWithLength(c->body, c->len);

	if (json == NULL)
		abort();
	cJSON_Delete(json);
}

static double
cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* The best of several rounds, per byte. */
static double
measure(struct capture *c, work_fn *work)
{
	size_t times = BYTES_PER_ROUND / c->len + 1;
	double best = 0, start, ns;

	work(c);
	for (int round = 0; round < ROUNDS; round++) {
		start = cpu_ns();
		for (size_t i = 0; i < times; i++)
			work(c);
		ns = (cpu_ns() - start) / (double)times / (double)c->len;
		if (round == 0 || ns < best)
			best = ns;
	}
	return best;
}

static cJSON *
load(const char *directory, const char *name)
{
	char path[4096];
	struct buf b;
	cJSON *json;
	FILE *f;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "re");
	if (f == NULL)
		return NULL;
	buf_init(&b, MAX_FILE_BYTES);
	while (buf_reserve(&b, 65536) == 0 &&
	       (n = fread(b.data + b.len, 1, 65536, f)) > 0)
		b.len += n;
	(void)fclose(f);
	json = cJSON_ParseWithLength(b.data, b.len);
	buf_fini(&b);
	return json;
}

static void
parse_head(struct capture *c, const cJSON *json)
{
	const cJSON *field, *headers;

	headers = cJSON_GetObjectItemCaseSensitive(json, "headers");
	buf_puts(&c->text, "POST / HTTP/1.1\r\n");
	cJSON_ArrayForEach (field, headers) {
		buf_printf(&c->text, "%s: %s\r\n",
		    cJSON_GetArrayItem(field, 0)->valuestring,
		    cJSON_GetArrayItem(field, 1)->valuestring);
	}
	buf_puts(&c->text, "\r\n");
	http_head_init(&c->head);
	if (http_head_parse(&c->head, c->text.data, c->text.len) !=
	    HTTP_HEAD_DONE)
		abort();
}

static void
measure_capture(const char *name, const cJSON *json)
{
	const cJSON *body = cJSON_GetObjectItemCaseSensitive(json, "body");
	struct capture c = { .len = 0 };
	double copied, identified, parsed;

	if (!cJSON_IsObject(body))
		return;
	buf_init(&c.text, 1 << 20);
	parse_head(&c, json);
	c.body = cJSON_PrintUnformatted(body);
	c.len = strlen(c.body);
	c.copy = xcalloc(1, c.len);
	copied = measure(&c, do_memcpy);
	identified = measure(&c, do_identify);
	parsed = measure(&c, do_cjson);
	printf("%-40s %8zu %8.3f %8.3f %8.3f %6.1fx\n", name, c.len, copied,
	    identified, parsed, parsed / identified);
	free(c.copy);
	free(c.body);
	buf_fini(&c.text);
}

static int
is_capture(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0 &&
	       strcmp(entry->d_name, "groups.json") != 0;
}

int
main(int argc, char **argv)
{
	struct dirent **names;
	cJSON *json;
	int n;

	if (argc != 2) {
		(void)fprintf(stderr, "usage: bench-identify DIRECTORY\n");
		return 2;
	}
	n = scandir(argv[1], &names, is_capture, alphasort);
	printf("%-40s %8s %8s %8s %8s\n", "ns per byte", "bytes", "memcpy",
	    "ours", "cJSON");
	for (int i = 0; i < n; i++) {
		json = load(argv[1], names[i]->d_name);
		if (json == NULL)
			abort();
		measure_capture(names[i]->d_name, json);
		cJSON_Delete(json);
		free(names[i]);
	}
	if (n > 0)
		free(names);
	return n > 0 ? 0 : 1;
}
