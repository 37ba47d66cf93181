/* SPDX-License-Identifier: MIT */
/*
 * The records of the `state` environment, written by the master and read by
 * all, without decoding: a record is one block of memory with offsets, which
 * a reader uses in place while its transaction lasts. Keys and records of the
 * tables read that way are padded to multiples of eight bytes, which is what
 * keeps records aligned within LMDB's pages.
 *
 *   meta        one record, key "meta"
 *   credential  id                -> all that a worker needs to use it
 *   route.2     canonical model   -> tiers of members, by provider and id
 *   health      id NUL model      -> what outlives the board ("" for model:
 *                                    the credential as a whole)
 */
#ifndef FL_COMMON_STATE_H
#define FL_COMMON_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/config.h"
#include "common/provider.h"
#include "common/store.h"
#include "common/str.h"

struct state_meta {
	uint64_t generation;
	uint64_t last_epoch; /* the epochs given out so far */
	int64_t clock_base_ms;
	int64_t last_ms; /* clock_now_ms() when last written */
	char boot_id[40];
};

/*
 * A model as one credential serves it. Several upstream models of one name are
 * a pool: they stand together, in the order of the configuration.
 */
struct state_model {
	uint64_t hash;     /* state_model_hash() of the client-visible name */
	uint32_t cell;     /* on the board */
	uint32_t name;     /* offset of the canonical, client-visible name */
	uint32_t upstream; /* offset of the name sent upstream */
	uint32_t cursor;   /* of the pool it is the first of, or BOARD_NONE */
};

struct state_header {
	uint32_t name; /* offset */
	uint32_t value;
};

/* One of its section's request-scoped-errors. */
struct state_error_rule {
	int32_t status;  /* 0: any */
	uint32_t action; /* enum error_action */
	uint32_t texts;  /* offset of uint32_t[]: offsets of strings */
	uint32_t nmatch; /* substrings first, */
	uint32_t nregex; /* then expressions */
};

enum state_flag {
	STATE_DISABLED = 1,
	STATE_OAUTH = 2,
	STATE_REFRESHABLE = 4, /* has a refresh token, in the master */
	STATE_DISABLE_COOLING = 8,
	STATE_OWN_PATH = 16,      /* its proxy or origin is its alone */
	STATE_PROXY_INVALID = 32, /* fails closed */
	STATE_FROM_FILE = 64,
	STATE_HELD = 128 /* disabled by hand, where no file can say so */
};

/*
 * A credential. Offsets are from the start of the record and lead to
 * terminated strings; offset 0 is the empty string.
 */
struct state_credential {
	uint32_t size;
	uint32_t slot;        /* on the board */
	uint16_t incarnation; /* of its words */
	uint8_t provider;     /* enum provider_id */
	uint8_t dialects;     /* DIALECT_BIT of what it serves natively */
	uint8_t auth_style;   /* enum auth_style */
	uint8_t flags_unused;
	uint16_t flags; /* enum state_flag */
	uint64_t epoch; /* bindings of an earlier one are void */
	uint64_t token_generation;
	int64_t expires_ms; /* of the token; 0: unknown or never */
	int64_t transient_cooldown_ms;
	int32_t priority;
	int32_t weight;
	int32_t request_retry; /* -1: inherit */
	uint32_t id;
	uint32_t label;
	uint32_t provider_name; /* "claude"; of a compat section its name */
	uint32_t source;        /* "file" or "config" */
	uint32_t base_url;      /* without a trailing slash */
	uint32_t proxy;         /* resolved: "" is direct */
	uint32_t secret;        /* API key or access token */
	uint32_t account_id;    /* chatgpt-account-id, or "" */
	uint32_t prefix;
	uint32_t headers, nheaders; /* offset of struct state_header[] */
	uint32_t models, nmodels;  /* offset of struct state_model[], by hash */
	uint32_t errors, nerrors;  /* offset of struct state_error_rule[] */
	int64_t refresh_barred_ms; /* its token is not refreshed before; 0 */
};

struct state_member {
	uint64_t id_hash;    /* state_model_hash() of the id */
	uint32_t id;         /* offset of the credential's id in the route */
	uint32_t credential; /* slot */
	uint32_t cell;
	uint16_t incarnation;
	uint8_t dialects;
	uint8_t provider;
	int32_t weight;
	uint32_t pool; /* offset of {n, cells[n]}, uint32_t[]; 0: one cell */
};

/*
 * The smooth weighted sequence of those members of a tier that speak one
 * dialect: indices of members. Empty where their weights are all the same and
 * they are of one provider, which leaves the order of ids.
 */
struct state_sequence {
	uint32_t turns, nturns; /* offset of uint16_t[] */
	uint32_t version; /* 16 bits: who has which weight; 0: it is empty */
};

/* Those members of a tier that are of one provider; they stand together. */
struct state_group {
	uint32_t provider;        /* offset of its name */
	uint32_t first, nmembers; /* among the members of the tier */
	uint32_t cursors;         /* the first of DIALECT_MAX on the board */
};

struct state_tier {
	int32_t priority;
	uint32_t members, nmembers; /* offset of struct state_member[] */
	uint32_t groups, ngroups;   /* offset of struct state_group[] */
	uint32_t cursors; /* likewise; of one group alone they are its */
	struct state_sequence sequences[DIALECT_MAX];
};

struct state_route {
	uint32_t size;
	uint32_t name;          /* offset: canonical model */
	uint32_t tiers, ntiers; /* offset of struct state_tier[], best first */
	uint8_t dialects;       /* of all members */
	uint8_t listed;         /* shown in model lists */
	uint8_t reserved[2];
	int64_t created_s; /* catalogue facts for the lists; 0: unknown */
	uint32_t owned_by, display_name; /* offsets */
	uint32_t max_input_tokens, max_output_tokens;
};

struct state_health {
	int64_t until_ms;
	uint16_t incarnation;
	uint16_t status;
	uint8_t kind;   /* enum board_kind */
	uint8_t reason; /* enum cool_reason */
	uint8_t level;
	uint8_t reserved;
};

/* Of models' names and credentials' ids; the same on every host. */
uint64_t state_model_hash(const char *name, size_t len);

static inline const char *
state_string(const void *record, uint32_t offset)
{
	return offset == 0 ? "" : (const char *)record + offset;
}

/*
 * 0, -ENOENT, or negative errno: -EBADMSG for a record that is damaged.
 * Records are the transaction's.
 */
int state_get_meta(
    struct store *s, MDB_txn *txn, struct state_meta *meta) MUST_CHECK;
int state_get_credential(struct store *s, MDB_txn *txn, const char *id,
    const struct state_credential **out) MUST_CHECK;
int state_get_route(struct store *s, MDB_txn *txn, const char *model,
    size_t len, const struct state_route **out) MUST_CHECK;

/*
 * The model as this credential serves it, the first of a pool; NULL if it
 * does not. state_pool_size() says how many stand together from there on.
 */
const struct state_model *
state_credential_model(const struct state_credential *c, uint64_t hash);
size_t
state_pool_size(const struct state_credential *c, const struct state_model *m);
const struct state_model *
state_credential_models(const struct state_credential *c);
const struct state_header *
state_credential_headers(const struct state_credential *c);
const struct state_error_rule *
state_credential_errors(const struct state_credential *c);
/* The string offsets of a rule. */
const uint32_t *state_error_texts(
    const struct state_credential *c, const struct state_error_rule *rule);
const struct state_tier *state_route_tiers(const struct state_route *r);
const struct state_group *
state_tier_groups(const struct state_route *r, const struct state_tier *t);
const uint16_t *state_sequence_turns(
    const struct state_route *r, const struct state_sequence *sequence);
/* The cells of a member, of which one must be ready; *n is at least 1. */
const uint32_t *state_member_cells(
    const struct state_route *r, const struct state_member *m, uint32_t *n);
const struct state_member *
state_tier_members(const struct state_route *r, const struct state_tier *t);

/*
 * Walks a table in key order; each returns non-zero to stop, which is then
 * the result.
 */
typedef int state_credential_fn(void *ctx, const struct state_credential *c);
typedef int state_route_fn(void *ctx, const struct state_route *r);
int state_each_credential(
    struct store *s, MDB_txn *txn, state_credential_fn *fn, void *ctx);
int
state_each_route(struct store *s, MDB_txn *txn, state_route_fn *fn, void *ctx);

/*
 * What the master puts into a record; the functions copy. -EINVAL for an id
 * or name that cannot be a key (empty or longer than STATE_KEY_MAX bytes; for
 * ids BINDING_ID_MAX - 1), or for too few cursors.
 */
enum { STATE_KEY_MAX = 504 };

struct state_model_input {
	const char *name;
	const char *upstream;
	uint32_t cell;
	uint32_t cursor; /* of a pool; 0 or BOARD_NONE: of none */
};

struct state_credential_input {
	struct state_credential fixed; /* offsets are ignored */
	const char *id, *label, *provider_name, *source, *base_url, *proxy,
	    *secret, *account_id, *prefix;
	const char *const *header_names;
	const char *const *header_values;
	size_t nheaders;
	const struct state_model_input *models;
	size_t nmodels;
	const struct error_rules *errors; /* NULL: none */
};

/*
 * Within a tier providers stand in the order of `rank`, then of their names,
 * and the members of each in the order of their ids.
 */
struct state_member_input {
	const char *id;
	int32_t priority;
	struct state_member fixed; /* the offset is ignored */
	const char *provider;      /* NULL: "" */
	uint32_t rank;
	const uint32_t *pool; /* the cells of a pool; NULL: fixed.cell */
	uint32_t npool;
};

struct state_route_input {
	struct state_route fixed; /* offsets are ignored */
	const char *name, *owned_by, *display_name;
	const struct state_member_input *members; /* in any order */
	size_t nmembers;
	/*
	 * Per tier, best first: of several providers one for the tier, then
	 * one for each of them; of one alone just one.
	 */
	const uint32_t *cursors;
	size_t ncursors;
};

int state_put_meta(
    struct store *s, MDB_txn *txn, const struct state_meta *meta) MUST_CHECK;
int state_put_credential(struct store *s, MDB_txn *txn,
    const struct state_credential_input *in) MUST_CHECK;
int state_put_route(struct store *s, MDB_txn *txn,
    const struct state_route_input *in) MUST_CHECK;
int state_delete_credential(struct store *s, MDB_txn *txn, const char *id);
int state_delete_route(struct store *s, MDB_txn *txn, const char *model);

int state_put_health(struct store *s, MDB_txn *txn, const char *id,
    const char *model, const struct state_health *h) MUST_CHECK;
int state_get_health(struct store *s, MDB_txn *txn, const char *id,
    const char *model, struct state_health *h) MUST_CHECK;
int state_delete_health(
    struct store *s, MDB_txn *txn, const char *id, const char *model);
typedef int state_health_fn(
    void *ctx, const char *id, const char *model, const struct state_health *h);
int state_each_health(
    struct store *s, MDB_txn *txn, state_health_fn *fn, void *ctx);

#endif
