/* SPDX-License-Identifier: MIT */
/*
 * The last quarter of an hour, for people: samples of the counters, taken by
 * the master, and the last failures and moves, told by the workers. Both are
 * rings on the board. Nothing depends on them; a reader skips what is being
 * overwritten.
 */
#ifndef FL_COMMON_CHRONICLE_H
#define FL_COMMON_CHRONICLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/traffic.h"

enum {
	CHRONICLE_STEP_MS = 15 * 1000,
	CHRONICLE_SAMPLES = 61, /* one more than a quarter of an hour has */
	CHRONICLE_EVENTS = 64
};

/* Sums since the board was made; differences are what happened between. */
struct chronicle_sample {
	int64_t ms;
	uint64_t requests;
	uint64_t errors; /* 429 and 5xx, as clients were told */
	uint64_t tokens_prompt, tokens_cached;
	uint64_t first_byte[TRAFFIC_BUCKETS];
};

enum chronicle_kind {
	CHRONICLE_FAILED, /* an attempt with `credential` */
	CHRONICLE_MOVED   /* a session, from `from` to `credential` */
};

struct chronicle_event {
	int64_t ms;
	enum chronicle_kind kind;
	int status; /* FAILED; 0: none */
	char credential[64];
	char from[64];
	char model[64];
	char why[24];
	char request_id[24];
};

struct chronicle {
	_Atomic uint64_t samples_told, events_told;
	struct {
		_Atomic uint64_t number; /* 0: being written */
		struct chronicle_sample sample;
	} samples[CHRONICLE_SAMPLES];
	struct {
		_Atomic uint64_t number;
		struct chronicle_event event;
	} events[CHRONICLE_EVENTS];
};

/* What a sample is made of. */
void chronicle_sample_of(
    struct traffic *t, int64_t now_ms, struct chronicle_sample *out);

void chronicle_add_sample(
    struct chronicle *c, const struct chronicle_sample *sample);
void
chronicle_add_event(struct chronicle *c, const struct chronicle_event *event);

/*
 * The sample or event that was told `back` before the last, 0: the last.
 * False if there is none, or it is just being overwritten.
 */
bool chronicle_get_sample(
    struct chronicle *c, size_t back, struct chronicle_sample *out);
bool chronicle_get_event(
    struct chronicle *c, size_t back, struct chronicle_event *out);

#endif
