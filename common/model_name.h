/* SPDX-License-Identifier: MIT */
/*
 * The canonical form of a model's name: what routes, bindings and board words
 * are keyed by. A name may carry one suffix in parentheses that tunes the
 * request ("m(high)", "m(8192)") and does not select the model.
 */
#ifndef FL_COMMON_MODEL_NAME_H
#define FL_COMMON_MODEL_NAME_H

#include "common/str.h"

/* Views into the caller's name; nothing is copied or terminated. */
struct model_name {
	struct span key;
	struct span suffix; /* with its parentheses; p NULL: none */
};

/*
 * Split a name: trim white space (Unicode's); if it then ends in ')' and holds
 * a '(', cut at the last '(' and trim again; if nothing is left, the trimmed
 * whole is the key. One suffix is cut, never two; case is kept.
 */
struct model_name model_name_split(struct span name);

#endif
