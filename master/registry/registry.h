/* SPDX-License-Identifier: MIT */
/*
 * The registry: every credential there is, which models it serves, and what
 * of that is published to the workers. A reload stages a whole new set and
 * commits it in one transaction; between reloads single files come and go.
 * It keeps no timer and no descriptor: watch.h calls it for file events.
 */
#ifndef FL_MASTER_REGISTRY_REGISTRY_H
#define FL_MASTER_REGISTRY_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/board.h"
#include "common/buf.h"
#include "common/config.h"
#include "common/ipc.h"
#include "common/proxy.h"
#include "common/store.h"
#include "master/credential/entry.h"
#include "master/credential/name_map.h"

struct registry;
struct registry_set;

/*
 * Takes up what an earlier master published in `state`: slots, cells,
 * incarnations, epochs and cursors stay as they are, and words that a new
 * board lacks come back from `health`. Nothing is published yet, and workers
 * must not be started before the first commit. Both are borrowed and outlive
 * the registry. 0 or negative errno.
 */
int registry_new(
    struct store *state, struct board *board, struct registry **out) MUST_CHECK;

/* Publishes nothing more; what is published stays for the next master. */
void registry_free(struct registry *reg);

/*
 * Called after each transaction that changed something for workers, so that
 * the caller may hint at it (WAKE). One listener; NULL for none.
 */
typedef void registry_published_fn(void *ctx);
void registry_set_listener(
    struct registry *reg, registry_published_fn *fn, void *ctx);

/*
 * Reads catalogue, configured keys and credential files afresh, for a start
 * or a reload. Publishes nothing and changes nothing that serves. A bad
 * credential file is logged once with its name and leaves the credential it
 * had before in place; it is never an error here. 0 and *out, which the
 * caller commits or discards; -EINVAL with the reasons in why, one line each
 * (a named models-file or auth-dir that is absent, a broken catalogue).
 *
 * config and env are borrowed until the set is discarded, or, once it is
 * committed, until the next commit has returned or the registry is freed.
 */
int registry_stage(struct registry *reg, const struct config *config,
    const struct proxy_env *env, struct registry_set **out,
    struct buf *why) MUST_CHECK;
void registry_discard(struct registry_set *set);

/*
 * What a commit of the set would change, for people and for a dry run:
 * {"credentials": {"added", "removed", "changed"}, "models": {"added",
 * "removed"}}, each a list of names. The caller owns it.
 */
cJSON *registry_diff_json(struct registry *reg, const struct registry_set *set);

/* Whether that credential serves that model now, and by the set would not. */
bool registry_would_lose(const struct registry *reg,
    const struct registry_set *set, const char *id, const char *model);

/*
 * Publishes credentials, routes and generation in one transaction. 0: the
 * registry owns the set as the current one and has freed the one before.
 * Negative errno: nothing has changed and the set is still the caller's
 * (-ENOSPC: map or disk full).
 */
int registry_commit(struct registry *reg, struct registry_set *set,
    uint64_t generation) MUST_CHECK;

enum {
	REGISTRY_UNCHANGED = 1, /* the bytes are those that are published */
	REGISTRY_RETRY = 2,     /* unreadable now: kept as it was, try again */
	REGISTRY_UNKNOWN = 3    /* no such credential */
};

/* A name in auth-dir that something happened to. */
struct registry_change {
	const char *name; /* without directory */
	bool unlinked;    /* it was deleted since, whatever stands there now:
			   * its state is not inherited */
	int result;       /* set by registry_files_changed() */
};

/*
 * Reads the named files again and publishes what has changed, together with
 * the routes it appears in, in one transaction. A file that is gone removes
 * its credential. Per name, result is 0 (published, removed or none of
 * ours), REGISTRY_UNCHANGED or REGISTRY_RETRY. Returns 0, or negative errno
 * when the transaction failed and nothing of the batch has changed; the
 * caller then tries all of it again later.
 */
int registry_files_changed(
    struct registry *reg, struct registry_change *changes, size_t n);

/* The same for one name; its result, or negative errno. */
int registry_file_changed(struct registry *reg, const char *name);

/*
 * All of auth-dir, when events were lost. 0, REGISTRY_RETRY when some file,
 * or the directory itself, cannot be read now, or negative errno.
 */
int registry_rescan(struct registry *reg);

/* Reads models-file again; results as for one credential file. */
int registry_catalog_changed(struct registry *reg);

/*
 * What upstreams list of models. registry_each_listing() names each usable
 * credential that takes part (cred->listing says in which section), in the
 * order of ids; it must not change the registry.
 *
 * registry_listed() takes over a section and publishes whom it serves. 0;
 * REGISTRY_UNCHANGED; or negative errno, and then the one before stays.
 */
struct catalog_section;
struct entry;
typedef void registry_listing_fn(void *ctx, const struct entry *e);
void
registry_each_listing(struct registry *reg, registry_listing_fn *fn, void *ctx);
int registry_listed(
    struct registry *reg, struct catalog_section *section) MUST_CHECK;

/*
 * The outcome of an attempt, from a worker: recorded in `health`, and on a
 * success the word is lowered. One that has been overtaken (another
 * incarnation, a cell given up) is dropped.
 */
void registry_result(struct registry *reg, const struct ipc_result *result);

/*
 * By hand. `disabled` is written into a credential's file, and kept in
 * `state` for a configured key; enabling starts with a clean state; reset
 * clears every cooldown and failure; unbind voids all its bindings. 0 (also
 * if it was so already), REGISTRY_UNKNOWN, or negative errno with nothing
 * changed. -EPERM: its section of the configuration disables it.
 */
int registry_enable(struct registry *reg, const char *id) MUST_CHECK;
int registry_disable(struct registry *reg, const char *id) MUST_CHECK;
int registry_reset(struct registry *reg, const char *id) MUST_CHECK;
int registry_unbind(struct registry *reg, const char *id) MUST_CHECK;

/*
 * For the refresher, of which each takes one transaction; 0,
 * REGISTRY_UNKNOWN, or negative errno with nothing changed. put_text: a
 * credential's file holds this text now, as if it had been read. put_token: a
 * service account has a new token that expires then (Unix time). note_refresh:
 * what became of a refresh.
 */
int registry_put_text(
    struct registry *reg, const char *id, const struct buf *text) MUST_CHECK;
int registry_put_token(struct registry *reg, const char *id, const char *token,
    int64_t expires_ms) MUST_CHECK;
int registry_note_refresh(struct registry *reg, const char *id,
    const struct refresh_note *note) MUST_CHECK;

/* Every struct entry that is published, by id; see publish.h. */
const struct name_map *registry_entries(const struct registry *reg);
struct entry *registry_at(const struct registry *reg, uint32_t slot);

/* The directory that is served from; NULL before the first commit. */
const char *registry_auth_dir(const struct registry *reg);

/*
 * The number of sessions bound to a credential, which the caller knows; NULL
 * leaves the figure out as null.
 */
typedef int64_t registry_sessions_fn(void *ctx, const char *id);

/*
 * Arrays for the control answers and status, in id order; the caller owns
 * them. Never a secret. registry_credential_json() is one element of the
 * array, NULL if there is no such credential.
 */
cJSON *registry_credentials_json(
    struct registry *reg, registry_sessions_fn *sessions, void *ctx);
cJSON *registry_credential_json(struct registry *reg, const char *id,
    registry_sessions_fn *sessions, void *ctx);
cJSON *registry_models_json(struct registry *reg);

size_t registry_count_credentials(const struct registry *reg);
size_t registry_count_models(const struct registry *reg);

/* "4 credentials (claude 3, codex 1; 1 disabled), 31 models" */
void registry_summary(const struct registry *reg, struct buf *out);

/* Lines about what serves but hardly as meant: an empty pool, for one. */
void registry_warnings(const struct registry *reg, struct buf *out);

#endif
