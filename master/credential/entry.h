/* SPDX-License-Identifier: MIT */
/*
 * A credential together with what it serves and with its place: slot, cells,
 * incarnation and epoch. The registry makes entries without a place; publish.h
 * gives them one and keeps those that are published.
 */
#ifndef FL_MASTER_CREDENTIAL_ENTRY_H
#define FL_MASTER_CREDENTIAL_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/board.h"
#include "common/config.h"
#include "common/proxy.h"
#include "common/secret.h"
#include "common/state.h"
#include "master/credential/credential.h"
#include "master/registry/catalog.h"
#include "master/registry/models.h"

struct path;

struct refresh_note {
	/* No refresh is begun before (clock_now_ms()); 0: whenever. */
	int64_t barred_ms;
	bool needs_login; /* its refresh was refused for good */
	bool dead;        /* and so is its access token */
	char error[96];   /* of the last refresh, for people; or "" */
};

struct entry {
	char *id; /* first: the key of maps */

	/* What it is. cred is NULL for one that was only read back. */
	struct credential *cred;
	struct served *served;
	const char *fault; /* why it cannot serve, static; or NULL */
	char *proxy;       /* resolved, "" is direct */
	char *path_name;   /* origin and proxy: what fails together */
	int64_t transient_cooldown_ms;
	uint16_t flags;       /* enum state_flag; without STATE_OWN_PATH */
	bool held;            /* disabled by hand, where no file can say so */
	struct digest secret; /* of key or token */
	struct digest target; /* of where requests go, apart from a token */

	/* What the refresher says of its token; see entry_note_refresh(). */
	struct refresh_note note;
	bool noted;              /* the note is not its predecessor's */
	int64_t next_refresh_ms; /* Unix time; 0: none. For people only */

	/* Where it stands. */
	uint32_t slot; /* BOARD_NONE: it has no place */
	uint16_t incarnation;
	uint64_t epoch;
	uint64_t token_generation;
	bool joined;       /* it is known to routes */
	struct path *path; /* while it is joined and usable */
	bool own_path;
	bool dirty; /* its record is to be written */
};

/*
 * An entry without a place, for one reference to a credential. Configuration
 * and environment say what the credential leaves open; the catalogue is
 * borrowed for as long as the entry lives.
 */
struct entry *entry_new(struct credential *cred, const struct config *config,
    const struct proxy_env *env, const struct catalog *catalog, bool held);

/* Before it is published: whether it is disabled by hand. */
void entry_hold(struct entry *e, bool held);

/*
 * Before it is published: what is known of its refreshes. One that is not
 * told inherits what its predecessor knew of the same token.
 */
void entry_note_refresh(struct entry *e, const struct refresh_note *note);
void entry_inherit_note(struct entry *e, const struct entry *old);

/* As it stands in `state`, with its place, and nothing that is not there. */
struct entry *entry_from_record(const struct state_credential *record);

void entry_free(struct entry *e);

/* Whether it is switched off, by its file, its section or by hand. */
bool entry_is_disabled(const struct entry *e);

/* Whether routes may lead to it. */
bool entry_is_usable(const struct entry *e);

/*
 * Whether requests go elsewhere, or for other models, than before: what was
 * learnt of failures then says nothing any more.
 */
bool entry_serves_otherwise(const struct entry *a, const struct entry *b);

/* Whether they are set up alike, for people who ask what changes. */
bool entry_same_settings(const struct entry *a, const struct entry *b);

/* Whether all routes would show the same of both. */
bool entry_same_in_routes(const struct entry *a, const struct entry *b);

/* Exchanges everything: an update keeps the address of the published entry. */
void entry_swap(struct entry *a, struct entry *b);

/* The record of `state`; in->models and headers borrow from *scratch. */
struct entry_record {
	struct state_credential_input in;
	struct state_model_input *models;
	const char **header_names;
	const char **header_values;
};

void entry_record_make(const struct entry *e, struct entry_record *record);
void entry_record_fini(struct entry_record *record);

#endif
