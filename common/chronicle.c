/* SPDX-License-Identifier: MIT */
#include "common/chronicle.h"

#include <string.h>

/*
 * Two writers could meet in one place only when one of them slept through a
 * whole round of the ring; a reader then sees a mixture once, which costs
 * nothing but a wrong line on a page.
 */
static void
put(_Atomic uint64_t *number, uint64_t told, void *place, const void *what,
    size_t size)
{
	atomic_store(number, 0);
	memcpy(place, what, size);
	atomic_store(number, told);
}

static bool
get(_Atomic uint64_t *number, uint64_t told, void *out, const void *place,
    size_t size)
{
	if (atomic_load(number) != told)
		return false;
	memcpy(out, place, size);
	atomic_thread_fence(memory_order_acquire);
	return atomic_load(number) == told;
}

static bool
is_error(int status)
{
	return status == 429 || status >= 500;
}

static void
add_requests(struct traffic *t, struct chronicle_sample *out)
{
	uint64_t n;

	for (size_t d = 0; d < DIALECT_MAX; d++) {
		for (size_t p = 0; p <= PROVIDER_MAX; p++) {
			for (unsigned int s = 0; s < TRAFFIC_STATUSES; s++) {
				n = atomic_load(&t->requests[d][p][s]);
				out->requests += n;
				if (is_error(traffic_status(s)))
					out->errors += n;
			}
		}
	}
}

void
chronicle_sample_of(
    struct traffic *t, int64_t now_ms, struct chronicle_sample *out)
{
	*out = (struct chronicle_sample){ .ms = now_ms };
	add_requests(t, out);
	out->tokens_prompt = atomic_load(&t->tokens_prompt);
	for (size_t p = 0; p < PROVIDER_MAX; p++)
		out->tokens_cached += atomic_load(&t->tokens[p][TOKENS_CACHED]);
	for (size_t i = 0; i < TRAFFIC_BUCKETS; i++)
		out->first_byte[i] = atomic_load(&t->first_byte.buckets[i]);
}

void
chronicle_add_sample(struct chronicle *c, const struct chronicle_sample *sample)
{
	uint64_t told = atomic_fetch_add(&c->samples_told, 1) + 1;
	size_t i = told % CHRONICLE_SAMPLES;

	put(&c->samples[i].number, told, &c->samples[i].sample, sample,
	    sizeof(*sample));
}

void
chronicle_add_event(struct chronicle *c, const struct chronicle_event *event)
{
	uint64_t told = atomic_fetch_add(&c->events_told, 1) + 1;
	size_t i = told % CHRONICLE_EVENTS;

	put(&c->events[i].number, told, &c->events[i].event, event,
	    sizeof(*event));
}

bool
chronicle_get_sample(
    struct chronicle *c, size_t back, struct chronicle_sample *out)
{
	uint64_t last = atomic_load(&c->samples_told);
	uint64_t told = last - back;
	size_t i = told % CHRONICLE_SAMPLES;

	return back < last && back < CHRONICLE_SAMPLES &&
	       get(&c->samples[i].number, told, out, &c->samples[i].sample,
		   sizeof(*out));
}

bool
chronicle_get_event(
    struct chronicle *c, size_t back, struct chronicle_event *out)
{
	uint64_t last = atomic_load(&c->events_told);
	uint64_t told = last - back;
	size_t i = told % CHRONICLE_EVENTS;

	return back < last && back < CHRONICLE_EVENTS &&
	       get(&c->events[i].number, told, out, &c->events[i].event,
		   sizeof(*out));
}
