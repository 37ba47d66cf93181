/* SPDX-License-Identifier: MIT */
/*
 * For tests of what the master keeps: a directory with a configuration, a
 * catalogue, credential files, an environment `state` and a board.
 */
#ifndef FL_TESTS_UNIT_MASTER_FIXTURE_H
#define FL_TESTS_UNIT_MASTER_FIXTURE_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/board.h"
#include "common/config.h"
#include "common/proxy.h"
#include "common/state.h"
#include "common/store.h"
#include "tests/unit/scratch.h"

#define FIXTURE_BOOT "11111111-2222-3333-4444-555555555555"

struct fixture {
	struct scratch scratch;
	struct store state;
	struct board *board;
	struct proxy_env env;
	MDB_txn *txn;
};

static inline void
fixture_open_stores(struct fixture *f)
{
	if (store_open_master(
		&f->state, STORE_STATE, f->scratch.dir, FIXTURE_BOOT) != 0 ||
	    board_open_master(f->scratch.dir, FIXTURE_BOOT, &f->board) < 0)
		abort();
}

static inline void
fixture_close_stores(struct fixture *f)
{
	store_read_end(&f->state);
	store_close(&f->state, false);
	board_close(f->board);
	f->board = NULL;
}

/* As a board that did not survive a boot. */
static inline void
fixture_lose_board(struct fixture *f)
{
	AUTO_FREE char *path = xasprintf("%s/board", f->scratch.dir);

	(void)unlink(path);
}

/* A path below the directory; the caller frees it. */
static inline char *
fixture_path(const struct fixture *f, const char *name)
{
	return xasprintf("%s/%s", f->scratch.dir, name);
}

static inline void
fixture_write(const struct fixture *f, const char *name, const char *text)
{
	AUTO_FREE char *path = fixture_path(f, name);
	size_t len = strlen(text);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, text, len) != (ssize_t)len || close(fd) < 0)
		abort();
}

/* By a temporary file and a rename, as most tools save. */
static inline void
fixture_replace(const struct fixture *f, const char *name, const char *text)
{
	AUTO_FREE char *from = fixture_path(f, "replacement");
	AUTO_FREE char *to = fixture_path(f, name);

	fixture_write(f, "replacement", text);
	if (rename(from, to) < 0)
		abort();
}

static inline void
fixture_remove(const struct fixture *f, const char *name)
{
	AUTO_FREE char *path = fixture_path(f, name);

	if (unlink(path) < 0)
		abort();
}

/* The file's text; the caller frees it. */
static inline char *
fixture_read(const struct fixture *f, const char *name)
{
	AUTO_FREE char *path = fixture_path(f, name);
	char *text = xcalloc(1, 65536);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, 65535) < 0 || close(fd) < 0)
		abort();
	return text;
}

/* A configuration of these settings, with the fixture's own paths. */
static inline struct config *
fixture_config(const struct fixture *f, const char *settings)
{
	AUTO_FREE char *path = fixture_path(f, "fairlead.conf");
	AUTO_FREE char *text = xasprintf("allow-anonymous = true;\n"
					 "auth-dir = \"%s/auths\";\n"
					 "models-file = \"%s/models.json\";\n"
					 "%s\n",
	    f->scratch.dir, f->scratch.dir, settings);
	struct config_report report;
	struct config *config;

	fixture_write(f, "fairlead.conf", text);
	config_report_init(&report);
	if (config_load(path, &config, &report) < 0) {
		(void)fputs(buf_string(&report.errors), stderr);
		abort();
	}
	config_report_fini(&report);
	return config;
}

static inline void
fixture_make(struct fixture *f)
{
	AUTO_FREE char *auths = NULL;

	memset(f, 0, sizeof(*f));
	scratch_make(&f->scratch);
	auths = fixture_path(f, "auths");
	if (mkdir(auths, 0700) < 0)
		abort();
	f->env = (struct proxy_env){ xstrdup(""), xstrdup(""), xstrdup(""),
		xstrdup("") };
	fixture_write(f, "models.json",
	    "{\"claude\": [{\"id\": \"c-one\", \"context\": 1000,"
	    " \"max_output\": 64, \"display_name\": \"C One\"},"
	    " {\"id\": \"c-two\"}],"
	    " \"codex-pro\": [{\"id\": \"x-pro\"}],"
	    " \"codex-free\": [{\"id\": \"x-free\"}],"
	    " \"gemini\": [{\"id\": \"g-one\"}],"
	    " \"vertex\": [{\"id\": \"g-one\"}, {\"id\": \"v-one\"}]}");
	fixture_open_stores(f);
}

static inline void
fixture_break(struct fixture *f)
{
	fixture_close_stores(f);
	proxy_env_fini(&f->env);
	scratch_remove(&f->scratch);
}

/* What workers would read; until fixture_read_end(). NULL: no such record. */
static inline const struct state_credential *
fixture_credential(struct fixture *f, const char *id)
{
	const struct state_credential *c = NULL;

	if (!f->state.reading && store_read(&f->state, &f->txn) < 0)
		abort();
	if (state_get_credential(&f->state, f->txn, id, &c) < 0)
		return NULL;
	return c;
}

static inline const struct state_route *
fixture_route(struct fixture *f, const char *model)
{
	const struct state_route *r = NULL;

	if (!f->state.reading && store_read(&f->state, &f->txn) < 0)
		abort();
	if (state_get_route(&f->state, f->txn, model, strlen(model), &r) < 0)
		return NULL;
	return r;
}

static inline void
fixture_read_end(struct fixture *f)
{
	store_read_end(&f->state);
}

/*
 * A route as text: "8:b.json,c.json 0:a.json", "" without members, NULL if
 * there is none. The caller frees it.
 */
static inline char *
fixture_route_text(struct fixture *f, const char *model)
{
	const struct state_route *r = fixture_route(f, model);
	const struct state_tier *tiers;
	const struct state_member *members;
	struct buf text = BUF_INIT(1 << 20);
	char *copy;
	size_t i, k;

	if (r == NULL) {
		fixture_read_end(f);
		return NULL;
	}
	tiers = state_route_tiers(r);
	for (i = 0; i < r->ntiers; i++) {
		buf_printf(&text, "%s%d:", i > 0 ? " " : "", tiers[i].priority);
		members = state_tier_members(r, &tiers[i]);
		for (k = 0; k < tiers[i].nmembers; k++)
			buf_printf(&text, "%s%s", k > 0 ? "," : "",
			    state_string(r, members[k].id));
	}
	copy = xstrdup(buf_string(&text));
	buf_fini(&text);
	fixture_read_end(f);
	return copy;
}

#endif
