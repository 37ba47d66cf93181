/* SPDX-License-Identifier: MIT */
#include "worker/client/decoder.h"

#include <errno.h>
#include <stdlib.h>

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

struct coding {
	struct span name;
	int (*open)(struct decoder *d);
	void (*close)(struct decoder *d);
	bool (*restart)(struct decoder *d); /* for the next member */
	enum decoder_result (*run)(struct decoder *d, const char *in,
	    size_t in_len, size_t *used, char *out, size_t room, size_t *made);
};

struct decoder {
	const struct coding *coding;
	z_stream gzip;
	ZSTD_DStream *zstd;
	bool ended;
};

/* log2 of the largest window that a zstd frame may ask for: 8 MB. */
enum { ZSTD_WINDOW_LOG = 23, GZIP_WINDOW_BITS = 15, GZIP_WRAPPER = 16 };

static int
gzip_open(struct decoder *d)
{
	return inflateInit2(&d->gzip, GZIP_WINDOW_BITS + GZIP_WRAPPER) == Z_OK
		   ? 0
		   : -ENOMEM;
}

static void
gzip_close(struct decoder *d)
{
	(void)inflateEnd(&d->gzip);
}

static bool
gzip_restart(struct decoder *d)
{
	return inflateReset(&d->gzip) == Z_OK;
}

static enum decoder_result
gzip_run(struct decoder *d, const char *in, size_t in_len, size_t *used,
    char *out, size_t room, size_t *made)
{
	z_stream *z = &d->gzip;
	int rc;

	z->next_in = (z_const Bytef *)in;
	z->avail_in = (uInt)in_len;
	z->next_out = (Bytef *)out;
	z->avail_out = (uInt)room;
	rc = inflate(z, Z_NO_FLUSH);
	*used = in_len - z->avail_in;
	*made = room - z->avail_out;
	if (rc == Z_STREAM_END)
		return DECODER_END;
	/* Z_BUF_ERROR: no progress without more input or more room. */
	return rc == Z_OK || rc == Z_BUF_ERROR ? DECODER_MORE : DECODER_BAD;
}

static int
zstd_open(struct decoder *d)
{
	d->zstd = ZSTD_createDStream();
	if (d->zstd == NULL)
		return -ENOMEM;
	if (ZSTD_isError(ZSTD_DCtx_setParameter(
		d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)))
		return -EINVAL;
	return 0;
}

static void
zstd_close(struct decoder *d)
{
	(void)ZSTD_freeDStream(d->zstd);
}

/* Behind the end of a frame it looks for the next one by itself. */
static bool
zstd_restart(struct decoder *d UNUSED)
{
	return true;
}

static enum decoder_result
zstd_run(struct decoder *d, const char *in, size_t in_len, size_t *used,
    char *out, size_t room, size_t *made)
{
	ZSTD_inBuffer input = { in, in_len, 0 };
	ZSTD_outBuffer output = { out, room, 0 };
	size_t rc = ZSTD_decompressStream(d->zstd, &output, &input);

	*used = input.pos;
	*made = output.pos;
	if (ZSTD_isError(rc))
		return DECODER_BAD;
	return rc == 0 ? DECODER_END : DECODER_MORE;
}

static const struct coding codings[] = {
	{ { "gzip", 4 }, gzip_open, gzip_close, gzip_restart, gzip_run },
	{ { "x-gzip", 6 }, gzip_open, gzip_close, gzip_restart, gzip_run },
	{ { "zstd", 4 }, zstd_open, zstd_close, zstd_restart, zstd_run },
};

int
decoder_new(struct span name, struct decoder **out)
{
	size_t i;
	int rc;

	*out = NULL;
	if (name.len == 0 || span_equal_nocase(name, SPAN("identity")))
		return 0;
	for (i = 0; i < ARRAY_LEN(codings); i++) {
		if (span_equal_nocase(name, codings[i].name))
			break;
	}
	if (i == ARRAY_LEN(codings))
		return DECODER_UNKNOWN;
	*out = calloc(1, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	(*out)->coding = &codings[i];
	rc = codings[i].open(*out);
	if (rc < 0) {
		decoder_free(*out);
		*out = NULL;
	}
	return rc;
}

void
decoder_free(struct decoder *d)
{
	if (d == NULL)
		return;
	d->coding->close(d);
	free(d);
}

enum decoder_result
decoder_run(struct decoder *d, const char *in, size_t in_len, size_t *used,
    char *out, size_t room, size_t *made)
{
	enum decoder_result result;

	*used = 0;
	*made = 0;
	if (d->ended && in_len == 0)
		return DECODER_END;
	if (d->ended && !d->coding->restart(d))
		return DECODER_BAD;
	result = d->coding->run(d, in, in_len, used, out, room, made);
	d->ended = result == DECODER_END;
	return result;
}
