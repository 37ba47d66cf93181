/* SPDX-License-Identifier: MIT */
/*
 * The operator's rules about errors, request-scoped-errors of fairlead.conf:
 * which of them holds for a failure. What it does is outcome.h's.
 */
#ifndef FL_WORKER_RELAY_ERROR_RULES_H
#define FL_WORKER_RELAY_ERROR_RULES_H

#include <stdbool.h>

#include "common/config.h"
#include "common/state.h"
#include "common/str.h"

/*
 * The action of the first rule for the status of which a substring or an
 * expression is found in the text; a rule that has neither holds for every
 * text. False: none does. An expression that the system cannot compile holds
 * for nothing.
 */
bool error_rules_find(const struct error_rules *rules, int status,
    struct span text, enum error_action *action);

/* The same with those of a credential's own section. */
bool error_rules_find_own(const struct state_credential *c, int status,
    struct span text, enum error_action *action);

#endif
