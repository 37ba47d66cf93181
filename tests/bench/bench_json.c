/* SPDX-License-Identifier: MIT */
/*
 * What the pass over a request body costs, per kind of body: nanoseconds per
 * byte and the ratio to memcpy and to cJSON. Bodies of 1 MB are made here;
 * captured ones are read from the directory given as argument (or in
 * FAIRLEAD_FIXTURES). Prints a table; asserts nothing.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "common/buf.h"
#include "worker/json/json.h"
#include "worker/session/facts.h"

enum { BODY_BYTES = 1 << 20, ROUNDS = 15 };

struct body {
	const char *data;
	size_t len;
	char *copy; /* room for memcpy */
};

static double
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
run_memcpy(const struct body *body)
{
	memcpy(body->copy, body->data, body->len);
	__asm__ volatile("" : : "r"(body->copy) : "memory");
}

static void
run_json(const struct body *body)
{
	struct json_reader r;

	json_reader_init(&r, body->data, body->len);
	if (!json_read(&r, NULL) || json_finish(&r) != JSON_OK)
		abort();
}

static void
run_facts(const struct body *body)
{
	static struct facts facts;

	if (facts_read(&facts, body->data, body->len) != FACTS_OK)
		abort();
}

static void
run_cjson(const struct body *body)
{
	cJSON *tree = cJSON_ParseWithLength(body->data, body->len);

	if (tree == NULL)
		abort();
	cJSON_Delete(tree);
}

/* The best of several rounds, each long enough for the clock. */
static double
measure(void (*run)(const struct body *), const struct body *body)
{
	size_t times = 1 + (size_t)(1 << 20) / (body->len + 64), i;
	double best = 0, ns;
	int round;

	for (round = 0; round < ROUNDS; round++) {
		ns = now_ns();
		for (i = 0; i < times; i++)
			run(body);
		ns = (now_ns() - ns) / (double)times;
		if (round == 0 || ns < best)
			best = ns;
	}
	return best;
}

static void
report(const char *name, const char *data, size_t len)
{
	struct body body = { data, len, malloc(len + 1) };
	double copy, json, facts, cjson;

	if (body.copy == NULL)
		abort();
	copy = measure(run_memcpy, &body);
	json = measure(run_json, &body);
	facts = measure(run_facts, &body);
	cjson = measure(run_cjson, &body);
	printf("%-34s %9zu %8.4f %8.4f %8.4f %8.1f %8.1f\n", name, len,
	    json / (double)len, facts / (double)len, cjson / (double)len,
	    facts / copy, cjson / facts);
	free(body.copy);
}

struct shape {
	const char *name;
	const char *head;
	const char *unit; /* repeated up to the size of the body */
	const char *joint;
	const char *tail;
};

#define CHAT "{\"model\":\"m\",\"stream\":true,\"messages\":["
#define USER CHAT "{\"role\":\"user\",\"content\":\""

static const struct shape shapes[] = {
	{ "text", USER,
	    "The quick brown fox jumps over the lazy dog, and the dog does "
	    "not mind at all; it has seen worse. ",
	    "", "\"}]}" },
	{ "code: an escape every 10 bytes", USER,
	    "if (a <b)\\n\\treturn \\\"x\\\";\\n\\tfor (i = 0; i < n; i++) {\\n"
	    "\\t\\tprintf(\\\"%d\\\\n\\\", i);\\n\\t}\\n",
	    "", "\"}]}" },
	{ "CJK", USER,
	    "\xe4\xbb\x8a\xe5\xa4\xa9\xe5\xa4\xa9\xe6\xb0\x94\xe5\xbe\x88"
	    "\xe5\xa5\xbd\xef\xbc\x8c\xe6\x88\x91\xe4\xbb\xac\xe5\x8e\xbb"
	    "\xe5\x85\xac\xe5\x9b\xad\xe6\x95\xa3\xe6\xad\xa5\xe3\x80\x82",
	    "", "\"}]}" },
	{ "mixed scripts, emoji", USER,
	    "Gr\xc3\xbc\xc3\x9f"
	    "e aus K\xc3\xb6ln \xf0\x9f\x98\x80 "
	    "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, plain words ",
	    "", "\"}]}" },
	{ "\\u escapes", USER, "\\u4eca\\u5929 \\ud83d\\ude00 ", "", "\"}]}" },
	{ "tools", "{\"model\":\"m\",\"tools\":[",
	    "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\","
	    "\"description\":\"Get the weather\",\"parameters\":{\"type\":"
	    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"},"
	    "\"days\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":14}},"
	    "\"required\":[\"city\"],\"additionalProperties\":false}}}",
	    ",", "]}" },
	{ "tool results", CHAT,
	    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
	    "\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"ls\","
	    "\"arguments\":\"{\\\"path\\\":\\\"/tmp\\\"}\"}}]},{\"role\":"
	    "\"tool\",\"tool_call_id\":\"call_1\",\"content\":\"[{\\\"n\\\":1,"
	    "\\\"f\\\":\\\"a.c\\\"},{\\\"n\\\":2,\\\"f\\\":\\\"b.c\\\"}]\"}",
	    ",", "]}" },
	{ "numbers", "{\"model\":\"m\",\"v\":[",
	    "0.0123,-1.5e-3,17,-0.25,3.14159,100000", ",", "]}" },
};

static void
report_shape(const struct shape *shape)
{
	struct buf b;
	bool more = false;

	buf_init(&b, BODY_BYTES * 2);
	buf_puts(&b, shape->head);
	while (b.len < BODY_BYTES) {
		if (more)
			buf_puts(&b, shape->joint);
		buf_puts(&b, shape->unit);
		more = true;
	}
	buf_puts(&b, shape->tail);
	report(shape->name, b.data, b.len);
	buf_fini(&b);
}

/* A captured request: its body as compact JSON, or NULL. */
static char *
captured_body(const char *path)
{
	struct buf b;
	FILE *f = fopen(path, "re");
	cJSON *capture, *body;
	char *text = NULL;
	size_t n;

	if (f == NULL)
		return NULL;
	buf_init(&b, 1 << 24);
	while (buf_reserve(&b, 65536) == 0 &&
	       (n = fread(b.data + b.len, 1, 65536, f)) > 0)
		b.len += n;
	(void)fclose(f);
	capture = cJSON_ParseWithLength(b.data, b.len);
	body = cJSON_GetObjectItemCaseSensitive(capture, "body");
	if (cJSON_IsObject(body))
		text = cJSON_PrintUnformatted(body);
	cJSON_Delete(capture);
	buf_fini(&b);
	return text;
}

static void
report_captures(const char *dir)
{
	struct dirent **names;
	int i, n = scandir(dir, &names, NULL, alphasort);
	char path[4096], *text;

	for (i = 0; i < n; i++) {
		(void)snprintf(
		    path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		text = captured_body(path);
		if (text != NULL)
			report(names[i]->d_name, text, strlen(text));
		free(text);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : getenv("FAIRLEAD_FIXTURES");
	size_t i;

	printf("%-34s %9s %8s %8s %8s %8s %8s\n", "body", "bytes", "json ns/B",
	    "facts", "cJSON", "/memcpy", "cJSON/");
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		report_shape(&shapes[i]);
	if (dir != NULL)
		report_captures(dir);
	return 0;
}
