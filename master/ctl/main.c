/* SPDX-License-Identifier: MIT */
/*
 * fairleadctl: asks the daemon on its control socket. One table of verbs says
 * what each takes and how its answer is shown; what they do the daemon knows.
 */
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build.h"
#include "common/alloc.h"
#include "common/config.h"
#include "common/str.h"
#include "master/ctl/client.h"
#include "master/ctl/pages.h"
#include "master/ctl/show.h"
#include "master/ctl/stopped.h"
#include "master/ctl/top.h"

/* Where it is when the configuration does not say, or cannot be read. */
#define DEFAULT_SOCKET "/run/fairlead/control.sock"

/* Exit statuses. */
enum {
	CTL_DONE = 0,
	CTL_FAILED = 1, /* refused, or failed: the reason is on stderr */
	CTL_USAGE = 2,
	CTL_NOT_RUNNING = 3
};

enum { ANSWER_MAX = 256 << 20, ARGS_MAX = 8, ANSWER_S = 30, LONG_S = 120 };

struct call;

struct verb {
	const char *name;
	const char *usage; /* of its arguments */
	size_t min_args, max_args;
	/*
	 * The words an argument may be, joined by "|"; one that ends in "=" is
	 * followed by a value. NULL: any.
	 */
	const char *words[ARGS_MAX];
	int timeout_s;
	show_fn *show; /* NULL: `run` does it all */
	const char *text;
	int (*run)(struct call *call);
};

static int ask(struct call *call);
static int run_pages(struct call *call);
static int run_top(struct call *call);

#define USAGE_PARTS "credential|model|day|client"
#define FILTERS     "credential=|source=|model=|limit=|after="

static const struct verb verbs[] = {
	{ "status", "", 0, 0, { 0 }, ANSWER_S, show_status,
	    "the daemon, its workers, its credentials", ask },
	{ "credentials", "", 0, 0, { 0 }, ANSWER_S, show_credentials,
	    "all credentials and their states", ask },
	{ "credential", " ID [enable|disable|reset|refresh]", 1, 2,
	    { NULL, "enable|disable|reset|refresh" }, LONG_S, show_credential,
	    "show one, or change its state", ask },
	{ "models", "", 0, 0, { 0 }, ANSWER_S, show_models,
	    "the models that are served", ask },
	{ "sessions",
	    " [credential=ID] [source=TEXT] [model=NAME] [limit=N] "
	    "[after=KEY]",
	    0, 5, { FILTERS, FILTERS, FILTERS, FILTERS, FILTERS }, ANSWER_S,
	    NULL, "the sessions that are bound", run_pages },
	{ "session", " ID", 1, 1, { 0 }, ANSWER_S, show_session,
	    "one session, by its key or id", ask },
	{ "unbind", " session|credential ID", 2, 2,
	    { "session|credential", NULL }, ANSWER_S, show_nothing,
	    "forget bindings", ask },
	{ "why", " REQUEST-ID", 1, 1, { 0 }, ANSWER_S, show_why,
	    "how a request found its credential", ask },
	{ "usage", " [--by " USAGE_PARTS "] [--since YYYY-MM-DD]", 0, 8,
	    { "--by|--since", NULL, "--by|--since", NULL, "--by|--since", NULL,
		"--by|--since", NULL },
	    ANSWER_S, show_usage, "requests and tokens, by these or as asked",
	    ask },
	{ "top", "", 0, 0, { 0 }, ANSWER_S, NULL,
	    "what goes on, once a second, until q", run_top },
	{ "reload", " [--dry-run]", 0, 1, { "--dry-run", NULL }, LONG_S,
	    show_reload, "reload the configuration, as HUP does", ask },
	{ "upgrade", "", 0, 0, { 0 }, LONG_S, show_upgrade,
	    "replace the program, as USR2 does", ask },
	{ "reopen", "", 0, 0, { 0 }, ANSWER_S, show_nothing,
	    "reopen the log files, as USR1 does", ask },
	{ "drain", "", 0, 0, { 0 }, ANSWER_S, show_nothing,
	    "begin to end when all is done, as QUIT does", ask },
	{ "stop", "", 0, 0, { 0 }, ANSWER_S, show_nothing,
	    "end within 5 seconds, as TERM does", ask },
};

struct call {
	bool json;
	char *socket;    /* NULL: of the configuration */
	char *state_dir; /* NULL: nobody knows */
	const struct verb *verb;
	char *const *args;
	size_t nargs;
};

static void
print_usage(FILE *out)
{
	char line[80];
	size_t i;

	(void)fputs("usage: fairleadctl [-j] [-s socket] verb\n", out);
	for (i = 0; i < ARRAY_LEN(verbs); i++) {
		(void)snprintf(
		    line, sizeof(line), "%s%s", verbs[i].name, verbs[i].usage);
		(void)fprintf(out,
		    strlen(line) > 20 ? "  %s\n                        %s\n"
				      : "  %-20s  %s\n",
		    line, verbs[i].text);
	}
}

static const struct verb *
find_verb(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	}
	return NULL;
}

static bool
is_one_of(const char *words, const char *word)
{
	size_t len = strlen(word), n;

	for (; *words != '\0'; words += n + (words[n] == '|')) {
		n = strcspn(words, "|");
		if (len < n || strncmp(words, word, n) != 0)
			continue;
		if (words[n - 1] == '=' ? len > n : len == n)
			return true;
	}
	return false;
}

/* Pairs of an option and its value. */
static bool
usage_fits(const struct call *call)
{
	for (size_t i = 0; i + 1 < call->nargs; i += 2) {
		const char *value = call->args[i + 1];

		if (strcmp(call->args[i], "--by") == 0
			? !is_one_of(USAGE_PARTS, value)
			: !str_is_day(value))
			return false;
	}
	return call->nargs % 2 == 0;
}

static bool
arguments_fit(const struct call *call)
{
	const struct verb *v = call->verb;
	size_t i;

	if (call->nargs < v->min_args || call->nargs > v->max_args)
		return false;
	for (i = 0; i < call->nargs; i++) {
		if (v->words[i] != NULL &&
		    !is_one_of(v->words[i], call->args[i]))
			return false;
	}
	return v->show != show_usage || usage_fits(call);
}

static int
usage_of(const struct verb *verb)
{
	(void)fprintf(
	    stderr, "usage: fairleadctl %s%s\n", verb->name, verb->usage);
	return CTL_USAGE;
}

/* CTL_DONE, or what to end with after what was said. */
static int
parse_verb(struct call *call, int argc, char **argv)
{
	if (argc == 0) {
		print_usage(stderr);
		return CTL_USAGE;
	}
	call->verb = find_verb(argv[0]);
	if (call->verb == NULL) {
		(void)fprintf(
		    stderr, "fairleadctl: unknown verb \"%s\"\n", argv[0]);
		print_usage(stderr);
		return CTL_USAGE;
	}
	call->args = argv + 1;
	call->nargs = (size_t)argc - 1;
	if (!arguments_fit(call)) {
		return usage_of(call->verb);
	}
	return CTL_DONE;
}

static int
parse(struct call *call, int argc, char **argv)
{
	int letter;

	/* The plus: what follows the verb is the verb's. */
	while ((letter = getopt(argc, argv, "+hjs:")) != -1) {
		switch (letter) {
		case 'h':
			print_usage(stdout);
			exit(CTL_DONE);
		case 'j':
			call->json = true;
			break;
		case 's':
			free(call->socket);
			call->socket = xstrdup(optarg);
			break;
		default:
			print_usage(stderr);
			return CTL_USAGE;
		}
	}
	return parse_verb(call, argc - optind, argv + optind);
}

/* As the configuration says, if that can be read. */
static void
find_places(struct call *call)
{
	struct config_report report;
	struct config *config;

	config_report_init(&report);
	if (config_load(PATH_CONFIG, &config, &report) == 0) {
		call->socket =
		    xasprintf("%s/control.sock", config->runtime_dir);
		call->state_dir = xstrdup(config->state_dir);
	} else {
		call->socket = xstrdup(DEFAULT_SOCKET);
	}
	config_free(config);
	config_report_fini(&report);
}

/* A daemon that used that socket has left beside it where its state is. */
static void
find_state(struct call *call)
{
	const char *slash = strrchr(call->socket, '/');
	int len = slash != NULL ? (int)(slash - call->socket) : 0;
	AUTO_FREE char *link = xasprintf(
	    "%.*s%sstate-dir", len, call->socket, slash != NULL ? "/" : "");
	char target[PATH_MAX];
	ssize_t n = readlink(link, target, sizeof(target) - 1);

	if (n <= 0)
		return;
	target[n] = '\0';
	free(call->state_dir);
	call->state_dir = xstrdup(target);
}

/* The reason, for people and, with -j, for programs. */
static int
fail(const struct call *call, int status, const char *why)
{
	struct buf json = BUF_INIT(1 << 20);

	(void)fprintf(stderr, "fairleadctl: %s\n", why);
	if (call->json) {
		buf_puts(&json, "{\"ok\":false,\"error\":");
		buf_json_string(&json, why, strlen(why));
		buf_puts(&json, ",\"schema\":1}");
		(void)puts(buf_string(&json));
	}
	buf_fini(&json);
	return status;
}

/* Why there is no answer. */
static int
fail_to_ask(const struct call *call, int rc)
{
	AUTO_FREE char *why = NULL;

	if (rc == CLIENT_NOT_RUNNING) {
		why = xasprintf("fairlead is not running (nobody listens on "
				"%s)",
		    call->socket);
		return fail(call, CTL_NOT_RUNNING, why);
	}
	if (rc == CLIENT_NO_ANSWER)
		return fail(call, CTL_FAILED, "fairlead gave no answer");
	why = xasprintf("%s: %s", call->socket, strerror(-rc));
	return fail(call, CTL_FAILED, why);
}

static int
show(const struct call *call, const cJSON *answer, struct buf *text)
{
	const char *error =
	    cJSON_GetStringValue(cJSON_GetObjectItem(answer, "error"));

	if (error != NULL)
		return fail(call, CTL_FAILED, error);
	if (call->json)
		(void)fputs(buf_string(text), stdout);
	else
		call->verb->show(answer);
	return CTL_DONE;
}

/* What the databases of a daemon that does not run still say. */
static int
look_at_stopped(struct call *call)
{
	show_fn *show_text =
	    call->verb->show != NULL ? call->verb->show : show_sessions;
	struct buf why = BUF_INIT(4096);
	AUTO_FREE char *text = NULL;
	cJSON *answer = NULL;

	find_state(call);
	if (call->state_dir != NULL)
		answer =
		    stopped_answer(call->state_dir, call->verb->name, &why);
	if (answer == NULL) {
		if (why.len > 0)
			(void)fprintf(
			    stderr, "fairleadctl: %s\n", buf_string(&why));
		buf_fini(&why);
		return fail_to_ask(call, CLIENT_NOT_RUNNING);
	}
	(void)fprintf(stderr,
	    "fairleadctl: fairlead is not running (nobody listens on %s); "
	    "this is what %s holds\n",
	    call->socket, call->state_dir);
	text = cJSON_PrintUnformatted(answer);
	if (call->json)
		(void)puts(text);
	else
		show_text(answer);
	cJSON_Delete(answer);
	buf_fini(&why);
	return show_text == show_status ? CTL_NOT_RUNNING : CTL_DONE;
}

static int
run_pages(struct call *call)
{
	const struct pages_ask ask = {
		.socket = call->socket,
		.timeout_s = call->verb->timeout_s,
		.args = call->args,
		.nargs = call->nargs,
		.json = call->json,
	};
	cJSON *refusal;
	int rc = pages_sessions(&ask, &refusal);

	if (rc == PAGES_USAGE)
		return usage_of(call->verb);
	if (rc == PAGES_REFUSED)
		rc = fail(call, CTL_FAILED,
		    cJSON_GetStringValue(
			cJSON_GetObjectItem(refusal, "error")));
	else if (rc == CLIENT_NOT_RUNNING && call->nargs == 0)
		rc = look_at_stopped(call);
	else if (rc != 0)
		rc = fail_to_ask(call, rc);
	cJSON_Delete(refusal);
	return rc;
}

static int
run_top(struct call *call)
{
	int rc;

	if (call->json)
		return fail(call, CTL_USAGE, "top is for people; ask status");
	rc = top_run(call->socket, call->verb->timeout_s);
	return rc == 0 ? CTL_DONE : fail_to_ask(call, rc);
}

/* One question, one answer. */
static int
ask(struct call *call)
{
	struct buf text = BUF_INIT(ANSWER_MAX);
	cJSON *answer;
	int rc;

	rc = client_ask(call->socket, call->verb->name, call->args, call->nargs,
	    call->verb->timeout_s, &text, &answer);
	if (rc == 0)
		rc = show(call, answer, &text);
	else if (rc == CLIENT_NOT_RUNNING && stopped_knows(call->verb->name))
		rc = look_at_stopped(call);
	else
		rc = fail_to_ask(call, rc);
	cJSON_Delete(answer);
	buf_fini(&text);
	return rc;
}

int
main(int argc, char **argv)
{
	struct call call = { 0 };
	int status = parse(&call, argc, argv);

	if (status == CTL_DONE && call.socket == NULL)
		find_places(&call);
	if (status == CTL_DONE)
		status = call.verb->run(&call);
	free(call.socket);
	free(call.state_dir);
	return status;
}
