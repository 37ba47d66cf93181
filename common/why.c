/* SPDX-License-Identifier: MIT */
#include "common/why.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/str.h"

#define WHY_MAGIC "flwhy"

enum { LAYOUT = 1, NAMES = 4096, NAME_PROBES = 4, US_PER_TICK = 100 };

struct attempt {
	uint32_t credential; /* hash of its id */
	uint16_t status;
	uint8_t outcome;
	uint8_t ended;
	uint32_t ticks; /* how long it took */
};

struct passed {
	uint32_t credential;
	uint8_t why;
	uint8_t reserved[3];
};

struct record {
	_Atomic uint64_t number; /* 0: it is being begun */
	int64_t time_s;
	char request_id[WHY_REQUEST_SIZE];
	char model[WHY_MODEL_SIZE];
	char source[WHY_SOURCE_SIZE];
	char session[WHY_SESSION_SIZE];
	int32_t tier;
	uint8_t dialect;
	uint8_t decision;
	uint8_t pin;
	uint8_t decided;
	_Atomic uint8_t nattempts;
	_Atomic uint8_t npassed;
	struct attempt attempts[WHY_ATTEMPTS];
	struct passed passed[WHY_PASSED];
};

/* Ids of credentials by their hash; the latest wins a place. */
struct name {
	uint32_t hash;
	char id[WHY_ID_SIZE];
};

struct why {
	char magic[8];
	uint32_t layout;
	uint32_t size;
	_Atomic uint64_t last;  /* number of the latest record */
	_Atomic uint64_t first; /* of the process that writes now */
	_Atomic int32_t pid;
	char words[WHY_KINDS][WHY_WORDS][WHY_WORD_SIZE];
	struct name names[NAMES];
	struct record records[WHY_RECORDS];
};

/* ---- the file */

static int
path_of(char *path, size_t size, const char *dir, unsigned slot)
{
	int n = snprintf(path, size, "%s/why.%u", dir, slot);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static bool
layout_fits(const struct why *w)
{
	return memcmp(w->magic, WHY_MAGIC, sizeof(WHY_MAGIC)) == 0 &&
	       w->layout == LAYOUT && w->size == sizeof(*w);
}

static int
map(int fd, bool write, struct why **out)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size != (off_t)sizeof(struct why))
		return -ESTALE;
	p = mmap(NULL, sizeof(struct why),
	    write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (write)
		(void)madvise(p, sizeof(struct why), MADV_DONTDUMP);
	*out = p;
	return 0;
}

static int
open_existing(const char *path, bool write, struct why **out)
{
	AUTO_CLOSE int fd =
	    open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
	int rc;

	if (fd < 0)
		return -errno;
	rc = map(fd, write, out);
	if (rc == 0 && !layout_fits(*out)) {
		(void)munmap(*out, sizeof(struct why));
		*out = NULL;
		rc = -ESTALE;
	}
	return rc;
}

/* Who still has an old file mapped keeps it. */
static int
make(const char *path, struct why **out)
{
	AUTO_CLOSE int fd = -1;
	int rc;

	(void)unlink(path);
	fd = open(
	    path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	rc = -posix_fallocate(fd, 0, (off_t)sizeof(struct why));
	if (rc == 0)
		rc = map(fd, true, out);
	if (rc < 0) {
		(void)unlink(path);
		return rc;
	}
	(*out)->layout = LAYOUT;
	(*out)->size = sizeof(struct why);
	memcpy((*out)->magic, WHY_MAGIC, sizeof(WHY_MAGIC));
	return 0;
}

int
why_open(const char *dir, unsigned slot, struct why **out)
{
	char path[PATH_MAX];
	int rc = path_of(path, sizeof(path), dir, slot);

	*out = NULL;
	if (rc == 0)
		rc = open_existing(path, true, out);
	if (rc == -ENOENT || rc == -ESTALE)
		rc = make(path, out);
	if (rc < 0)
		return rc;
	atomic_store(&(*out)->first, atomic_load(&(*out)->last) + 1);
	atomic_store(&(*out)->pid, getpid());
	return 0;
}

void
why_close(struct why *w)
{
	if (w != NULL)
		(void)munmap(w, sizeof(*w));
}

/* ---- writing */

void
why_word(struct why *w, enum why_words kind, unsigned code, const char *word)
{
	if (w != NULL && code < WHY_WORDS)
		(void)str_copy(w->words[kind][code], WHY_WORD_SIZE, word);
}

/* FNV-1a; 0 is no credential. */
static uint32_t
hash_of(const char *id)
{
	uint32_t h = 2166136261u;

	for (; *id != '\0'; id++)
		h = (h ^ (unsigned char)*id) * 16777619u;
	return h != 0 ? h : 1;
}

static uint32_t
keep_name(struct why *w, const char *id)
{
	uint32_t hash = hash_of(id);
	struct name *name, *taken = NULL;

	for (uint32_t i = 0; i < NAME_PROBES; i++) {
		name = &w->names[(hash + i) % NAMES];
		if (name->hash == hash)
			return hash;
		if (taken == NULL && name->hash == 0)
			taken = name;
	}
	if (taken == NULL)
		taken = &w->names[(hash + (hash >> 16) % NAME_PROBES) % NAMES];
	(void)str_copy(taken->id, sizeof(taken->id), id);
	taken->hash = hash;
	return hash;
}

/* NULL when others have come since and taken its place. */
static struct record *
record_of(struct why *w, uint64_t number)
{
	struct record *r;

	if (w == NULL || number == 0)
		return NULL;
	r = &w->records[number % WHY_RECORDS];
	return atomic_load_explicit(&r->number, memory_order_relaxed) == number
		   ? r
		   : NULL;
}

static void
copy(char *dst, size_t size, const char *src)
{
	(void)str_copy(dst, size, src != NULL ? src : "");
}

uint64_t
why_begin(struct why *w, const struct why_request *request)
{
	struct record *r;
	uint64_t number;

	if (w == NULL)
		return 0;
	number = atomic_load_explicit(&w->last, memory_order_relaxed) + 1;
	r = &w->records[number % WHY_RECORDS];
	atomic_store_explicit(&r->number, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	r->time_s = time(NULL);
	copy(r->request_id, sizeof(r->request_id), request->request_id);
	copy(r->model, sizeof(r->model), request->model);
	copy(r->source, sizeof(r->source), request->source);
	copy(r->session, sizeof(r->session), request->session);
	r->tier = 0;
	r->dialect = (uint8_t)request->dialect;
	r->decided = 0;
	r->pin = 0;
	atomic_store_explicit(&r->nattempts, 0, memory_order_relaxed);
	atomic_store_explicit(&r->npassed, 0, memory_order_relaxed);
	atomic_store_explicit(&r->number, number, memory_order_release);
	atomic_store_explicit(&w->last, number, memory_order_release);
	return number;
}

void
why_decided(struct why *w, uint64_t number, unsigned decision, unsigned pin,
    int32_t tier)
{
	struct record *r = record_of(w, number);

	if (r == NULL)
		return;
	r->decision = (uint8_t)decision;
	r->pin = (uint8_t)pin;
	r->tier = tier;
	r->decided = 1;
}

void
why_passed_over(
    struct why *w, uint64_t number, const char *credential, unsigned why)
{
	struct record *r = record_of(w, number);
	uint32_t hash;
	uint8_t n, i;

	if (r == NULL)
		return;
	hash = keep_name(w, credential);
	n = atomic_load_explicit(&r->npassed, memory_order_relaxed);
	for (i = 0; i < n; i++)
		if (r->passed[i].credential == hash && r->passed[i].why == why)
			return;
	if (n == WHY_PASSED)
		return;
	r->passed[n].credential = hash;
	r->passed[n].why = (uint8_t)why;
	atomic_store_explicit(&r->npassed, n + 1, memory_order_release);
}

int
why_attempt_begin(struct why *w, uint64_t number, const char *credential)
{
	struct record *r = record_of(w, number);
	uint8_t n;

	if (r == NULL)
		return -1;
	n = atomic_load_explicit(&r->nattempts, memory_order_relaxed);
	if (n == WHY_ATTEMPTS)
		return -1;
	r->attempts[n] = (struct attempt){
		.credential = keep_name(w, credential),
	};
	atomic_store_explicit(&r->nattempts, n + 1, memory_order_release);
	return n;
}

void
why_attempt_end(struct why *w, uint64_t number, int index, int status,
    unsigned outcome, int64_t us)
{
	struct record *r = record_of(w, number);
	struct attempt *a;

	if (r == NULL || index < 0)
		return;
	a = &r->attempts[index];
	a->status = (uint16_t)status;
	a->outcome = (uint8_t)outcome;
	us /= US_PER_TICK;
	a->ticks = us < (int64_t)UINT32_MAX ? (uint32_t)us : UINT32_MAX;
	atomic_thread_fence(memory_order_release);
	a->ended = 1;
}

void
why_attempt_drop(struct why *w, uint64_t number, int index)
{
	struct record *r = record_of(w, number);

	if (r != NULL && index >= 0)
		atomic_store_explicit(
		    &r->nattempts, (uint8_t)index, memory_order_release);
}

/* ---- reading */

static void
copy_word(const struct why *w, enum why_words kind, unsigned code,
    char out[WHY_WORD_SIZE])
{
	memset(out, 0, WHY_WORD_SIZE);
	if (code < WHY_WORDS)
		memcpy(out, w->words[kind][code], WHY_WORD_SIZE - 1);
}

static void
copy_name(const struct why *w, uint32_t hash, char out[WHY_ID_SIZE])
{
	memset(out, 0, WHY_ID_SIZE);
	for (uint32_t i = 0; i < NAME_PROBES; i++) {
		const struct name *name = &w->names[(hash + i) % NAMES];

		if (name->hash == hash) {
			memcpy(out, name->id, WHY_ID_SIZE - 1);
			return;
		}
	}
	(void)str_copy(out, WHY_ID_SIZE, "?");
}

static size_t
at_most(size_t n, size_t max)
{
	return n < max ? n : max;
}

static void
describe(const struct why *w, const struct record *r, struct why_found *out)
{
	*out = (struct why_found){ .time_s = r->time_s, .tier = r->tier };
	memcpy(out->request_id, r->request_id, WHY_REQUEST_SIZE - 1);
	memcpy(out->model, r->model, WHY_MODEL_SIZE - 1);
	memcpy(out->source, r->source, WHY_SOURCE_SIZE - 1);
	memcpy(out->session, r->session, WHY_SESSION_SIZE - 1);
	copy_word(w, WHY_DIALECT, r->dialect, out->dialect);
	if (r->decided) {
		copy_word(w, WHY_DECISION, r->decision, out->decision);
		copy_word(w, WHY_PIN, r->pin, out->pin);
	}
	out->nattempts = at_most(r->nattempts, WHY_ATTEMPTS);
	for (size_t i = 0; i < out->nattempts; i++) {
		const struct attempt *a = &r->attempts[i];

		copy_name(w, a->credential, out->attempts[i].credential);
		out->attempts[i].ended = a->ended != 0;
		if (!a->ended)
			continue;
		out->attempts[i].status = a->status;
		out->attempts[i].ms = (double)a->ticks * US_PER_TICK / 1000;
		copy_word(w, WHY_OUTCOME, a->outcome, out->attempts[i].outcome);
	}
	out->npassed = at_most(r->npassed, WHY_PASSED);
	for (size_t i = 0; i < out->npassed; i++) {
		copy_name(
		    w, r->passed[i].credential, out->passed[i].credential);
		copy_word(
		    w, WHY_PASSED_OVER, r->passed[i].why, out->passed[i].why);
	}
}

/* A record that was overwritten while it was read is another request's. */
static int
find(
    const struct why *w, int pid, const char *request_id, struct why_found *out)
{
	const struct record *r;
	uint64_t number;

	for (r = w->records; r < w->records + WHY_RECORDS; r++) {
		number = atomic_load_explicit(&r->number, memory_order_acquire);
		if (number == 0 ||
		    strncmp(r->request_id, request_id, WHY_REQUEST_SIZE) != 0)
			continue;
		describe(w, r, out);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&r->number, memory_order_relaxed) !=
		    number)
			return WHY_MISS;
		out->orphaned = number < atomic_load(&w->first) ||
				pid != atomic_load(&w->pid);
		return 0;
	}
	return WHY_MISS;
}

int
why_find(const char *dir, unsigned slot, int pid, const char *request_id,
    struct why_found *out)
{
	struct why *w;
	char path[PATH_MAX];
	int rc = path_of(path, sizeof(path), dir, slot);

	if (rc == 0)
		rc = open_existing(path, false, &w);
	if (rc == -ENOENT || rc == -ESTALE)
		return WHY_MISS;
	if (rc < 0)
		return rc;
	rc = find(w, pid, request_id, out);
	why_close(w);
	return rc;
}
