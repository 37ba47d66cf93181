/* SPDX-License-Identifier: MIT */
/*
 * What an upstream's model endpoint answers, as a section of the catalogue.
 * Understood are the lists of OpenAI and Anthropic ("data" of objects with
 * "id") and of Gemini ("models" of objects with "name").
 */
#ifndef FL_MASTER_REGISTRY_LISTING_H
#define FL_MASTER_REGISTRY_LISTING_H

#include <stddef.h>

#include "common/attr.h"
#include "common/buf.h"
#include "master/registry/catalog.h"

enum { LISTING_BYTES_MAX = 4 << 20, LISTING_MODELS_MAX = 1024 };

/*
 * 0 and *out, of that name, with LISTING_MODELS_MAX models at most, and in why
 * that there are more; -EINVAL with the reason in why, also for a list without
 * models. What cannot be a model's name, and of Gemini what generates no
 * content, is passed over.
 */
int listing_parse(const char *text, size_t len, const char *name,
    struct catalog_section **out, struct buf *why) MUST_CHECK;

#endif
