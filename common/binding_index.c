/* SPDX-License-Identifier: MIT */
/*
 * See binding_index.h. A bucket is a line of the cache; it is found by one
 * half of the key's hash, the entry in it by the other. There is one writer,
 * who holds the lock; readers see a tag that changed under them by its
 * version.
 */
#include "common/binding_index.h"

#include <string.h>

enum {
	TAG_SLOT_BITS = 14,
	TAG_VERSION_BITS = 2,
	TAG_HASH_SHIFT = TAG_SLOT_BITS + TAG_VERSION_BITS
};

#define TAG_HASH_MASK    (~((UINT64_C(1) << TAG_HASH_SHIFT) - 1))
#define TAG_VERSION_MASK ((UINT64_C(1) << TAG_VERSION_BITS) - 1)

_Static_assert(BOARD_CREDENTIALS <= 1 << TAG_SLOT_BITS, "a slot fits");
_Static_assert(sizeof(struct board_index_bucket) == 64, "one line");

struct place {
	struct board_index_bucket *bucket;
	uint64_t hash; /* where a tag has it, never 0 */
};

/* Keys are hashes already; the model's is mixed in. */
static struct place
place_of(struct board *board, const struct binding_key *key)
{
	uint64_t salt =
	    atomic_load_explicit(&board->index_salt, memory_order_relaxed);
	uint32_t buckets =
	    atomic_load_explicit(&board->index_buckets, memory_order_relaxed);
	uint64_t word[BINDING_KEY_LEN / sizeof(uint64_t)];
	uint64_t model, hash;

	memcpy(word, key->bytes, sizeof(word));
	model = word[2] * UINT64_C(0x9e3779b97f4a7c15);
	hash = (word[1] ^ model ^ salt * UINT64_C(0xbf58476d1ce4e5b9)) &
	       TAG_HASH_MASK;
	if (buckets == 0)
		return (struct place){ .bucket = NULL };
	return (struct place){
		.bucket =
		    &board->index[(word[0] ^ model >> 32) & (buckets - 1)],
		.hash = hash != 0 ? hash : UINT64_C(1) << TAG_HASH_SHIFT,
	};
}

static struct board_index_entry *
find(const struct place *place)
{
	struct board_index_entry *e;
	uint64_t tag;

	for (int i = 0; place->bucket != NULL && i < BOARD_INDEX_WAYS; i++) {
		e = &place->bucket->entries[i];
		tag = atomic_load_explicit(&e->tag, memory_order_acquire);
		if ((tag & TAG_HASH_MASK) == place->hash)
			return e;
	}
	return NULL;
}

bool
binding_index_get(struct board *board, const struct binding_key *key,
    struct binding_brief *brief)
{
	struct place place = place_of(board, key);
	struct board_index_entry *e = find(&place);
	uint64_t tag, value;

	if (e == NULL)
		return false;
	tag = atomic_load_explicit(&e->tag, memory_order_acquire);
	value = atomic_load_explicit(&e->value, memory_order_acquire);
	if ((tag & TAG_HASH_MASK) != place.hash ||
	    atomic_load_explicit(&e->tag, memory_order_acquire) != tag)
		return false;
	brief->slot =
	    (uint32_t)(tag >> TAG_VERSION_BITS) & ((1u << TAG_SLOT_BITS) - 1);
	brief->epoch = (uint32_t)(value >> 32);
	brief->expires_ms = (int64_t)(uint32_t)value * 1000;
	return true;
}

static void
write_entry(struct board_index_entry *e, uint64_t tag, uint64_t value)
{
	uint64_t version = (atomic_load(&e->tag) + 1) & TAG_VERSION_MASK;

	atomic_store(&e->tag, version);
	atomic_store(&e->value, value);
	atomic_store(&e->tag, tag | version);
}

/* Its own entry, a free one, or that which ends first. */
static struct board_index_entry *
room_for(const struct place *place)
{
	struct board_index_entry *e = find(place), *first = NULL;

	for (int i = 0; e == NULL && i < BOARD_INDEX_WAYS; i++) {
		struct board_index_entry *other = &place->bucket->entries[i];

		if ((atomic_load(&other->tag) & TAG_HASH_MASK) == 0)
			return other;
		if (first == NULL || (uint32_t)atomic_load(&other->value) <
					 (uint32_t)atomic_load(&first->value))
			first = other;
	}
	return e != NULL ? e : first;
}

void
binding_index_put(
    struct board *board, const struct binding_key *key, const struct binding *b)
{
	struct place place = place_of(board, key);
	int64_t expires_s = b->expires_ms / 1000;

	if (place.bucket == NULL || b->slot >= BOARD_CREDENTIALS ||
	    expires_s < 0 || expires_s > UINT32_MAX)
		return;
	write_entry(room_for(&place),
	    place.hash | (uint64_t)b->slot << TAG_VERSION_BITS,
	    b->epoch << 32 | (uint64_t)expires_s);
}

void
binding_index_drop(struct board *board, const struct binding_key *key)
{
	struct place place = place_of(board, key);
	struct board_index_entry *e;

	while ((e = find(&place)) != NULL)
		write_entry(e, 0, 0);
}

/*
 * Twice as many buckets leave half of the entries where nobody finds them;
 * they are looked up and put again. It never shrinks, so that no entry is
 * found again that was not dropped when its binding changed.
 */
void
binding_index_fit(struct board *board, int64_t sessions)
{
	uint32_t buckets = atomic_load(&board->index_buckets);

	if (buckets == 0 || buckets >= BOARD_INDEX_BUCKETS ||
	    sessions <= (int64_t)buckets)
		return;
	while (buckets < BOARD_INDEX_BUCKETS && (int64_t)buckets < sessions)
		buckets *= 2;
	if (board_index_claim(board, buckets) < 0)
		return; /* it stays as small as it is */
}
