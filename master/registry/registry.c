/* SPDX-License-Identifier: MIT */
/* Credentials from their sources to what is published; see registry.h. */
#include "master/registry/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "master/control/report.h"
#include "master/credential/atomic_file.h"
#include "master/credential/authdir.h"
#include "master/credential/credconf.h"
#include "master/credential/credfile.h"
#include "master/credential/entry.h"
#include "master/credential/name_map.h"
#include "master/registry/catalog.h"
#include "master/registry/publish.h"
#include "master/registry/registry_core.h"

enum {
	FILE_BUF_MAX = 2 * CREDFILE_BYTES_MAX,
	/* Beyond, a batch of changes is logged as a number. */
	LOG_EACH_MAX = 16
};

/* What was last said of a file or a credential, so that it is said once. */
struct remark {
	char *name; /* first: the key of maps */
	char *text;
};

/* ---- saying things once */

void
registry_say_once(
    struct registry *reg, const char *what, const char *name, const char *text)
{
	struct remark *r = name_map_find(&reg->remarks, name);

	if (r != NULL && strcmp(r->text, text) == 0)
		return;
	if (r == NULL) {
		r = xcalloc(1, sizeof(*r));
		r->name = xstrdup(name);
		(void)name_map_put(&reg->remarks, r);
	}
	free(r->text);
	r->text = xstrdup(text);
	log_warn("%s %s %s", what, name, text);
}

static void
remark_free(struct remark *r)
{
	if (r == NULL)
		return;
	free(r->name);
	free(r->text);
	free(r);
}

void
registry_forget_remark(struct registry *reg, const char *name)
{
	remark_free(name_map_remove(&reg->remarks, name));
}

void
registry_say_or_forget(
    struct registry *reg, const char *what, const char *name, struct buf *text)
{
	if (text->len > 0)
		registry_say_once(reg, what, name, buf_string(text));
	else
		registry_forget_remark(reg, name);
}

/* Files that others may read, with the command that mends it. */
static void
say_exposed(struct registry *reg, const char *dir, const char *name, size_t n)
{
	AUTO_FREE char *path =
	    xasprintf("%s/%s", dir, n == 1 ? name : "*.json");
	AUTO_FREE char *text = NULL;

	if (n == 0)
		return;
	if (n == 1)
		text = xasprintf("is refused, because others than its owner "
				 "may read it; mend it with: chmod 600 '%s'",
		    path);
	else
		text = xasprintf("are refused where others than the owner may "
				 "read them (%zu files, %s for one); mend it "
				 "with: chmod 600 %s",
		    n, name, path);
	registry_say_once(
	    reg, n == 1 ? "credential file" : "credential files", path, text);
}

/* ---- sets */

static struct registry_set *
set_new(const struct config *config, const struct proxy_env *env)
{
	struct registry_set *set = xcalloc(1, sizeof(*set));

	set->config = config;
	set->env = env;
	return set;
}

void
registry_discard(struct registry_set *set)
{
	size_t i;

	if (set == NULL)
		return;
	for (i = 0; i < set->entries.n; i++)
		entry_free(set->entries.v[i]);
	name_map_fini(&set->entries);
	auth_files_fini(&set->files);
	catalog_free(set->catalog);
	free(set->an_exposed);
	free(set);
}

/* What is published under that id, if this master published it. */
static struct entry *
published_entry(const struct registry *reg, const char *id)
{
	struct entry *e = name_map_find(publisher_entries(reg->publisher), id);

	return e != NULL && e->cred != NULL ? e : NULL;
}

static struct entry *
make_entry(const struct registry_set *set, struct credential *cred, bool held)
{
	return entry_new(cred, set->config, set->env, set->catalog, held);
}

/*
 * The token of a service account is in no file: while it has one, it is kept.
 * Of a file that says something else by now it is replaced at once.
 */
static struct credential *
carry_token(const struct registry *reg, struct credential *c)
{
	const struct entry *was = published_entry(reg, c->id);
	const struct credential *old = was != NULL ? was->cred : NULL;
	struct credential *with;

	if (!c->signs || old == NULL || !old->signs || *old->secret == '\0')
		return c;
	with = credential_with_token(c, old->secret,
	    digest_equal(&c->identity, &old->identity) ? old->expires_ms : 1);
	credential_unref(c);
	return with;
}

struct entry *
registry_remake_entry(const struct registry_set *set, const struct entry *e)
{
	return make_entry(set, credential_ref(e->cred), e->held);
}

static void
stage_entry(struct registry_set *set, struct entry *e)
{
	entry_free(name_map_put(&set->entries, e));
}

/* A fault that a person can mend is said where it is found. */
static void
say_fault(struct registry *reg, const struct entry *e, struct buf *text)
{
	if ((e->flags & STATE_PROXY_INVALID) != 0)
		buf_printf(text, "%sis not used: %s", text->len > 0 ? "; " : "",
		    e->fault);
	registry_say_or_forget(reg, "credential", e->id, text);
}

/* ---- staging: the configuration's own keys */

struct staging {
	struct registry *reg;
	struct registry_set *set;
};

/* What was disabled by hand stays so, also over a restart. */
static void
stage_key(void *ctx, struct credential *c)
{
	struct staging *s = ctx;
	const struct entry *was =
	    name_map_find(publisher_entries(s->reg->publisher), c->id);
	struct buf text = BUF_INIT(REGISTRY_LINE_MAX);
	struct entry *e;

	registry_recover_listing(s->reg, s->set, c);
	e = make_entry(s->set, c, was != NULL && was->held);
	say_fault(s->reg, e, &text);
	stage_entry(s->set, e);
	buf_fini(&text);
}

/* ---- staging: credential files */

/* Whether the published credentials come from the same directory. */
static bool
same_auth_dir(const struct registry *reg, const struct registry_set *set)
{
	return reg->current != NULL && strcmp(reg->current->config->auth_dir,
					   set->config->auth_dir) == 0;
}

/* A file that cannot be used now leaves in place what it was. */
static void
keep_published(const struct registry *reg, struct registry_set *set,
    const char *name, struct buf *said)
{
	const struct entry *was = published_entry(reg, name);
	const struct auth_file *file;

	if (was == NULL || !same_auth_dir(reg, set))
		return;
	buf_puts(said, "; it stays as it was");
	stage_entry(set, registry_remake_entry(set, was));
	file = name_map_find(&reg->current->files, name);
	if (file != NULL)
		auth_files_set(&set->files, name, &file->digest);
}

static void
note_exposed(struct registry_set *set, const char *name)
{
	if (set->exposed++ == 0)
		set->an_exposed = xstrdup(name);
}

static void
stage_file(struct registry *reg, struct registry_set *set, int dirfd,
    const char *name, struct buf *text, struct buf *said)
{
	struct auth_reading r;
	struct entry *e;

	buf_clear(said);
	r = authdir_read(dirfd, name, NULL, text, said);
	if (r.exposed)
		note_exposed(set, name);
	if (r.outcome == AUTH_FILE_GONE)
		return;
	if (r.outcome == AUTH_FILE_BAD) {
		keep_published(reg, set, name, said);
		if (!r.exposed)
			registry_say_or_forget(
			    reg, "credential file", name, said);
		return;
	}
	auth_files_set(&set->files, name, &r.digest);
	if (r.outcome == AUTH_FILE_IGNORED) {
		registry_say_or_forget(reg, "credential file", name, said);
		return;
	}
	e = make_entry(set, carry_token(reg, r.cred), false);
	say_fault(reg, e, said);
	stage_entry(set, e);
}

static void
stage_names(struct registry *reg, struct registry_set *set, int dirfd,
    char **names, size_t n)
{
	struct buf text = BUF_INIT(FILE_BUF_MAX);
	struct buf said = BUF_INIT(REGISTRY_LINE_MAX);
	size_t i;

	for (i = 0; i < n; i++)
		stage_file(reg, set, dirfd, names[i], &text, &said);
	buf_fini(&text);
	buf_fini(&said);
}

/* A default directory need not be there. */
static int
auth_dir_error(struct registry *reg, const struct config *config, int error,
    struct buf *why)
{
	if (error == -ENOENT && !config->auth_dir_given) {
		registry_say_once(reg, "auth-dir", config->auth_dir,
		    "does not exist: no credential files are read");
		return 0;
	}
	buf_printf(
	    why, "auth-dir %s: %s\n", config->auth_dir, strerror(-error));
	return -EINVAL;
}

static int
stage_files(struct registry *reg, struct registry_set *set, struct buf *why)
{
	const struct config *config = set->config;
	AUTO_CLOSE int dirfd = -1;
	char **names;
	size_t n;
	int rc;

	dirfd = open(config->auth_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return auth_dir_error(reg, config, -errno, why);
	rc = authdir_list(config->auth_dir, &names, &n);
	if (rc < 0)
		return auth_dir_error(reg, config, rc, why);
	registry_forget_remark(reg, config->auth_dir);
	if (!reg->swept)
		atomic_file_sweep(config->auth_dir);
	reg->swept = true;
	stage_names(reg, set, dirfd, names, n);
	authdir_list_free(names, n);
	say_exposed(reg, config->auth_dir, set->an_exposed, set->exposed);
	return 0;
}

int
registry_stage(struct registry *reg, const struct config *config,
    const struct proxy_env *env, struct registry_set **out, struct buf *why)
{
	struct registry_set *set = set_new(config, env);
	struct staging staging = { reg, set };
	int rc;

	*out = NULL;
	rc = registry_stage_catalog(reg, set, why);
	if (rc == 0) {
		credconf_each(config, stage_key, &staging);
		rc = stage_files(reg, set, why);
	}
	if (rc < 0) {
		registry_discard(set);
		return rc;
	}
	*out = set;
	return 0;
}

cJSON *
registry_diff_json(struct registry *reg, const struct registry_set *set)
{
	return report_diff(reg->publisher, &set->entries);
}

static bool
could_serve(const struct name_map *entries, const char *id, const char *model)
{
	const struct entry *e = name_map_find(entries, id);

	return e != NULL && e->cred != NULL && !entry_is_disabled(e) &&
	       e->fault == NULL && served_has_name(e->served, model);
}

bool
registry_would_lose(const struct registry *reg, const struct registry_set *set,
    const char *id, const char *model)
{
	return could_serve(publisher_entries(reg->publisher), id, model) &&
	       !could_serve(&set->entries, id, model);
}

/* ---- publishing */

void
registry_announce(struct registry *reg)
{
	if (reg->published != NULL)
		reg->published(reg->published_ctx);
}

struct publish_change *
registry_changes_between(
    const struct name_map *was, const struct name_map *now, size_t *n)
{
	struct publish_change *changes =
	    xcalloc(was->n + now->n, sizeof(*changes));
	size_t i = 0;
	size_t k = 0;
	int order;

	*n = 0;
	while (i < was->n || k < now->n) {
		if (i == was->n)
			order = 1;
		else if (k == now->n)
			order = -1;
		else
			order = strcmp(
			    name_map_name(was->v[i]), name_map_name(now->v[k]));
		changes[*n].now = order >= 0 ? now->v[k] : NULL;
		changes[*n].id =
		    name_map_name(order >= 0 ? now->v[k] : was->v[i]);
		(*n)++;
		i += order <= 0;
		k += order >= 0;
	}
	return changes;
}

/* What a hand did while the set was staged counts more than what it found. */
static void
take_over_holds(struct registry *reg, struct registry_set *set)
{
	const struct name_map *published = publisher_entries(reg->publisher);
	const struct entry *was;
	size_t i;

	for (i = 0; i < published->n; i++) {
		struct entry *e;

		was = published->v[i];
		e = name_map_find(&set->entries, was->id);
		if (e != NULL && e->cred->source == CREDENTIAL_FROM_CONFIG)
			entry_hold(e, was->held);
	}
}

int
registry_commit(
    struct registry *reg, struct registry_set *set, uint64_t generation)
{
	struct publish_change *changes;
	size_t n;
	int rc;

	take_over_holds(reg, set);
	changes = registry_changes_between(
	    publisher_entries(reg->publisher), &set->entries, &n);
	rc = publisher_apply(reg->publisher, changes, n, &generation);
	free(changes);
	if (rc < 0)
		return rc;
	name_map_fini(&set->entries);
	registry_discard(reg->current);
	reg->current = set;
	registry_announce(reg);
	return 0;
}

int
registry_new(struct store *state, struct board *board, struct registry **out)
{
	struct registry *reg = xcalloc(1, sizeof(*reg));
	int rc;

	rc = publisher_new(state, board, &reg->publisher);
	if (rc < 0) {
		free(reg);
		return rc;
	}
	*out = reg;
	return 0;
}

void
registry_free(struct registry *reg)
{
	size_t i;

	if (reg == NULL)
		return;
	publisher_free(reg->publisher);
	registry_discard(reg->current);
	for (i = 0; i < reg->remarks.n; i++)
		remark_free(reg->remarks.v[i]);
	name_map_fini(&reg->remarks);
	free(reg);
}

void
registry_set_listener(
    struct registry *reg, registry_published_fn *fn, void *ctx)
{
	reg->published = fn;
	reg->published_ctx = ctx;
}

/* ---- single files */

/* One name of a batch on its way from the file to `state`. */
struct file_change {
	struct registry_change *asked;
	struct auth_reading reading;
	struct entry *now;
	bool publish; /* it is part of the transaction */
};

/* A file that went, or that is whole and none of ours any more. */
static void
plan_removal(struct registry *reg, struct file_change *f)
{
	f->publish = name_map_find(publisher_entries(reg->publisher),
			 f->asked->name) != NULL;
}

static void
plan_change(struct registry *reg, struct file_change *f, int dirfd,
    struct buf *text, struct buf *said)
{
	struct registry_set *set = reg->current;
	const char *name = f->asked->name;
	const struct auth_file *known =
	    f->asked->unlinked ? NULL : name_map_find(&set->files, name);

	buf_clear(said);
	f->reading = authdir_read(dirfd, name, known, text, said);
	f->asked->result = 0;
	if (f->reading.exposed)
		say_exposed(reg, set->config->auth_dir, name, 1);
	switch (f->reading.outcome) {
	case AUTH_FILE_SAME:
		f->asked->result = REGISTRY_UNCHANGED;
		break;
	case AUTH_FILE_BAD:
		f->asked->result = REGISTRY_RETRY;
		if (f->reading.exposed)
			break;
		if (published_entry(reg, name) != NULL)
			buf_puts(said, "; it stays as it was");
		registry_say_or_forget(reg, "credential file", name, said);
		break;
	case AUTH_FILE_GONE:
	case AUTH_FILE_IGNORED:
		registry_say_or_forget(reg, "credential file", name, said);
		plan_removal(reg, f);
		break;
	case AUTH_FILE_GOOD:
		if (!f->asked->unlinked)
			f->reading.cred = carry_token(reg, f->reading.cred);
		f->now = make_entry(set, f->reading.cred, false);
		say_fault(reg, f->now, said);
		f->publish = true;
		break;
	}
}

static size_t
collect_changes(
    struct file_change *files, size_t n, struct publish_change *changes)
{
	size_t count = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		if (!files[i].publish)
			continue;
		changes[count++] = (struct publish_change){
			.id = files[i].asked->name,
			.now = files[i].now,
			.fresh = files[i].asked->unlinked,
		};
	}
	return count;
}

static void
log_change(const struct registry *reg, const struct file_change *f, bool known)
{
	const struct entry *e = published_entry(reg, f->asked->name);

	if (e == NULL)
		log_notice("credential %s: removed", f->asked->name);
	else
		log_notice("credential %s: %s (%s, %zu models%s)", e->id,
		    known ? "changed" : "added", e->cred->provider_name,
		    e->served->n, entry_is_disabled(e) ? ", disabled" : "");
}

/* Remembers the bytes that are published now, and tells. */
static void
accept_changes(
    struct registry *reg, struct file_change *files, size_t n, size_t published)
{
	struct name_map *known = &reg->current->files;
	struct file_change *f;
	bool was_known;
	size_t i;

	for (i = 0; i < n; i++) {
		f = &files[i];
		was_known = name_map_find(known, f->asked->name) != NULL;
		if (f->reading.outcome == AUTH_FILE_GONE)
			auth_files_remove(known, f->asked->name);
		else if (f->reading.outcome == AUTH_FILE_GOOD ||
			 f->reading.outcome == AUTH_FILE_IGNORED)
			auth_files_set(
			    known, f->asked->name, &f->reading.digest);
		if (f->publish && published <= LOG_EACH_MAX)
			log_change(reg, f, was_known);
	}
	if (published > LOG_EACH_MAX)
		log_notice("%zu credentials changed", published);
}

static int
publish_files(struct registry *reg, struct file_change *files, size_t n)
{
	struct publish_change *changes = xcalloc(n, sizeof(*changes));
	size_t count = collect_changes(files, n, changes);
	size_t i;
	int rc = 0;

	if (count > 0)
		rc = publisher_apply(reg->publisher, changes, count, NULL);
	free(changes);
	if (rc < 0) {
		for (i = 0; i < n; i++)
			entry_free(files[i].now);
		return rc;
	}
	accept_changes(reg, files, n, count);
	if (count > 0)
		registry_announce(reg);
	return 0;
}

static int
change_files(
    struct registry *reg, int dirfd, struct registry_change *asked, size_t n)
{
	struct file_change *files = xcalloc(n, sizeof(*files));
	struct buf text = BUF_INIT(FILE_BUF_MAX);
	struct buf said = BUF_INIT(REGISTRY_LINE_MAX);
	size_t count = 0;
	size_t i;
	int rc;

	for (i = 0; i < n; i++) {
		asked[i].result = REGISTRY_UNCHANGED;
		if (!credfile_is_name(asked[i].name))
			continue;
		files[count].asked = &asked[i];
		plan_change(reg, &files[count++], dirfd, &text, &said);
	}
	rc = publish_files(reg, files, count);
	buf_fini(&text);
	buf_fini(&said);
	free(files);
	return rc;
}

/* Without the directory nobody can say that a file is gone. */
static void
say_auth_dir_gone(struct registry *reg)
{
	const struct config *config = reg->current->config;

	if (config->auth_dir_given || publisher_entries(reg->publisher)->n > 0)
		registry_say_once(reg, "auth-dir", config->auth_dir,
		    "cannot be read now: credentials stay as they are");
}

int
registry_files_changed(
    struct registry *reg, struct registry_change *changes, size_t n)
{
	AUTO_CLOSE int dirfd = -1;
	size_t i;

	if (reg->current == NULL || n == 0)
		return 0;
	dirfd = open(
	    reg->current->config->auth_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd >= 0)
		return change_files(reg, dirfd, changes, n);
	say_auth_dir_gone(reg);
	for (i = 0; i < n; i++)
		changes[i].result = REGISTRY_RETRY;
	return 0;
}

int
registry_file_changed(struct registry *reg, const char *name)
{
	struct registry_change change = { .name = name };
	int rc = registry_files_changed(reg, &change, 1);

	return rc < 0 ? rc : change.result;
}

/* ---- all of them */

static int
rescan_names(struct registry *reg, char **names, size_t n)
{
	struct registry_change *changes = xcalloc(n, sizeof(*changes));
	size_t i;
	int rc;

	for (i = 0; i < n; i++)
		changes[i].name = names[i];
	rc = registry_files_changed(reg, changes, n);
	for (i = 0; rc == 0 && i < n; i++) {
		if (changes[i].result == REGISTRY_RETRY)
			rc = REGISTRY_RETRY;
	}
	free(changes);
	return rc;
}

int
registry_rescan(struct registry *reg)
{
	const char *dir;
	char **names;
	size_t n;
	int rc;

	if (reg->current == NULL)
		return 0;
	dir = reg->current->config->auth_dir;
	rc = authdir_list(dir, &names, &n);
	if (rc < 0) {
		say_auth_dir_gone(reg);
		return REGISTRY_RETRY;
	}
	registry_forget_remark(reg, dir);
	authdir_list_add(&names, &n, &reg->current->files);
	rc = rescan_names(reg, names, n);
	authdir_list_free(names, n);
	return rc;
}

/* ---- by hand */

void
registry_result(struct registry *reg, const struct ipc_result *result)
{
	int rc = publisher_result(reg->publisher, result);

	if (rc < 0 && !reg->results_lost)
		log_warn_e(rc, "cannot record outcomes of attempts");
	reg->results_lost = rc < 0;
}

static int
publish_one(struct registry *reg, struct entry *now)
{
	struct publish_change change = { .id = now->id, .now = now };
	int rc;

	rc = publisher_apply(reg->publisher, &change, 1, NULL);
	if (rc < 0) {
		entry_free(now);
		return rc;
	}
	registry_announce(reg);
	return 0;
}

/* A configured key: kept beside its record in `state`. */
static int
hold(struct registry *reg, const struct entry *e, bool disabled)
{
	if (e->held == disabled)
		return e->cred->disabled && !disabled ? -EPERM : 0;
	return publish_one(
	    reg, make_entry(reg->current, credential_ref(e->cred), disabled));
}

int
registry_put_text(struct registry *reg, const char *id, const struct buf *text)
{
	struct buf why = BUF_INIT(REGISTRY_LINE_MAX);
	struct digest digest;
	struct credential *cred;
	int rc;

	if (published_entry(reg, id) == NULL)
		return REGISTRY_UNKNOWN;
	rc = credfile_parse(id, text->data, text->len, &cred, &why);
	buf_fini(&why);
	if (rc != 0)
		return -EINVAL;
	rc = publish_one(
	    reg, make_entry(reg->current, carry_token(reg, cred), false));
	if (rc < 0)
		return rc;
	digest_of(text->data, text->len, &digest);
	auth_files_set(&reg->current->files, id, &digest);
	return 0;
}

int
registry_put_token(
    struct registry *reg, const char *id, const char *token, int64_t expires_ms)
{
	const struct entry *e = published_entry(reg, id);

	if (e == NULL)
		return REGISTRY_UNKNOWN;
	return publish_one(reg,
	    make_entry(reg->current,
		credential_with_token(e->cred, token, expires_ms), e->held));
}

int
registry_note_refresh(
    struct registry *reg, const char *id, const struct refresh_note *note)
{
	const struct entry *was = published_entry(reg, id);
	struct entry *e;

	if (was == NULL)
		return REGISTRY_UNKNOWN;
	e = registry_remake_entry(reg->current, was);
	entry_note_refresh(e, note);
	return publish_one(reg, e);
}

const struct name_map *
registry_entries(const struct registry *reg)
{
	return publisher_entries(reg->publisher);
}

struct entry *
registry_at(const struct registry *reg, uint32_t slot)
{
	return publisher_at(reg->publisher, slot);
}

const char *
registry_auth_dir(const struct registry *reg)
{
	return reg->current != NULL ? reg->current->config->auth_dir : NULL;
}

/* A file says so itself; its echo from the watch finds nothing new. */
static int
write_disabled(struct registry *reg, const char *id, bool disabled)
{
	struct buf text = BUF_INIT(FILE_BUF_MAX);
	int rc;

	rc = credfile_set_disabled(
	    reg->current->config->auth_dir, id, disabled, &text);
	if (rc == 0)
		rc = registry_put_text(reg, id, &text);
	credfile_wipe(&text);
	return rc;
}

static int
set_disabled(struct registry *reg, const char *id, bool disabled)
{
	struct entry *e = published_entry(reg, id);

	if (e == NULL)
		return REGISTRY_UNKNOWN;
	if (entry_is_disabled(e) == disabled)
		return 0;
	if (e->cred->source == CREDENTIAL_FROM_CONFIG)
		return hold(reg, e, disabled);
	return write_disabled(reg, id, disabled);
}

int
registry_enable(struct registry *reg, const char *id)
{
	return set_disabled(reg, id, false);
}

int
registry_disable(struct registry *reg, const char *id)
{
	return set_disabled(reg, id, true);
}

int
registry_reset(struct registry *reg, const char *id)
{
	struct entry *e = published_entry(reg, id);

	if (e == NULL)
		return REGISTRY_UNKNOWN;
	return publisher_reset(reg->publisher, e);
}

int
registry_unbind(struct registry *reg, const char *id)
{
	struct entry *e = published_entry(reg, id);
	int rc;

	if (e == NULL)
		return REGISTRY_UNKNOWN;
	rc = publisher_unbind(reg->publisher, e);
	if (rc < 0)
		return rc;
	registry_announce(reg);
	return 0;
}

/* ---- telling */

cJSON *
registry_credentials_json(
    struct registry *reg, registry_sessions_fn *sessions, void *ctx)
{
	return report_credentials(reg->publisher, sessions, ctx);
}

cJSON *
registry_credential_json(struct registry *reg, const char *id,
    registry_sessions_fn *sessions, void *ctx)
{
	return report_credential(reg->publisher, id, sessions, ctx);
}

cJSON *
registry_models_json(struct registry *reg)
{
	return report_models(reg->publisher);
}

size_t
registry_count_credentials(const struct registry *reg)
{
	return publisher_entries(reg->publisher)->n;
}

size_t
registry_count_models(const struct registry *reg)
{
	return publisher_routes(reg->publisher)->n;
}

void
registry_summary(const struct registry *reg, struct buf *out)
{
	report_summary(reg->publisher, out);
}

void
registry_warnings(const struct registry *reg, struct buf *out)
{
	report_warnings(reg->publisher, out);
}
