/* SPDX-License-Identifier: MIT */
/*
 * A strict JSON reader (RFC 8259) that goes over a text once, allocates
 * nothing and keeps nothing: the caller pulls the members it wants and skips
 * the rest at the speed of the vector unit. Every byte that is passed over is
 * validated, UTF-8 included (RFC 3629). Edits are splices by offset, so
 * nothing here prints.
 *
 * Beyond the RFC: escapes of lone surrogates are accepted, as providers accept
 * them, and decode to U+FFFD; more than JSON_MAX_DEPTH containers inside each
 * other are refused; repeated names are the caller's matter.
 */
#ifndef FL_WORKER_JSON_JSON_H
#define FL_WORKER_JSON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define JSON_MAX_DEPTH 512

/* Bytes json_decode may leave unused because a character did not fit. */
#define JSON_DECODE_SLACK 3

enum json_outcome {
	JSON_OK,
	JSON_INVALID,
	JSON_TOO_DEEP,
};

enum json_type {
	JSON_NONE, /* no value: absent, or the text is broken here */
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

/*
 * Where a value stands in the text: offset and length of the whole token, the
 * quotes or brackets included. All zero is "no value".
 */
struct json_value {
	size_t at;
	size_t len;
	enum json_type type;
	bool escaped; /* a string with at least one backslash */
};

/*
 * A reader over text[0..len). The text belongs to the caller, stays in place
 * and unchanged while the reader is used, and needs no terminator or padding.
 * The members are private.
 */
struct json_reader {
	const char *text;
	const char *at;
	const char *end;
	enum json_outcome outcome;
	unsigned depth;
	bool first;   /* just entered a container: no comma is due */
	bool escaped; /* the string read last held a backslash */
	char closer[JSON_MAX_DEPTH];
};

void json_reader_init(struct json_reader *reader, const char *text, size_t len);

/*
 * The type of the value that comes next, told by its first byte alone;
 * JSON_NONE when none can begin here. Reads nothing.
 */
enum json_type json_peek(struct json_reader *reader);

/*
 * Read the value that comes next, with all it holds, and say where it stood;
 * value may be NULL. False: the text is broken or too deep; value is as it
 * was.
 */
bool json_read(struct json_reader *reader, struct json_value *value);

/*
 * Step into the object or array that comes next (json_peek has told which),
 * then walk it:
 *
 *	if (json_enter(r))
 *		while (json_member(r, &name))
 *			json_read(r, &value);
 *
 * json_member and json_element return true with the reader in front of a
 * value, which must then be read or entered, and false at the end of the
 * container, which is left thereby, or on an error, which stays. They must fit
 * the kind of the container. False from json_enter: no container begins here
 * (an error), or it is too deep. json_enter_if reads over a value of another
 * type, and then returns false too.
 */
bool json_enter(struct json_reader *reader);
bool json_enter_if(struct json_reader *reader, enum json_type type);
bool json_member(struct json_reader *reader, struct json_value *name);
bool json_element(struct json_reader *reader);

/*
 * Skip what is left of the innermost container and leave it. The reader must
 * stand behind a whole value or just inside the container.
 */
bool json_leave(struct json_reader *reader);

/*
 * End of reading, after the one top-level value has been read or left: only
 * white space may follow. Returns what became of the whole text.
 */
enum json_outcome json_finish(struct json_reader *reader);

/*
 * Offset of the byte the reader stands at; after an error, of the token that
 * could not be read.
 */
size_t json_offset(const struct json_reader *reader);

/* Is value a string that decodes to exactly these len bytes? */
bool json_equals_decoded(const char *text, const struct json_value *value,
    const char *bytes, size_t len);

static inline bool
json_equals(const char *text, const struct json_value *value, const char *bytes,
    size_t len)
{
	if (value->type != JSON_STRING)
		return false;
	if (value->escaped)
		return json_equals_decoded(text, value, bytes, len);
	return value->len == len + 2 &&
	       memcmp(text + value->at + 1, bytes, len) == 0;
}

static inline bool
json_is(const char *text, const struct json_value *value, const char *word)
{
	return json_equals(text, value, word, strlen(word));
}

/* Is it one of these words? The list ends with NULL. */
bool json_is_any(
    const char *text, const struct json_value *value, const char *const *words);

/*
 * Decode a string that json_read (or json_member) has validated, piece by
 * piece. json_decode fills buf with up to cap bytes of UTF-8 and returns how
 * many; it stops up to JSON_DECODE_SLACK bytes early rather than divide an
 * escaped character (cap must exceed that), so only 0 means the end. Raw
 * characters may be divided. Escaped NULs decode to NUL bytes; nothing is
 * terminated.
 */
struct json_decoder {
	const char *at;
	const char *end;
};

void json_decoder_init(struct json_decoder *decoder, const char *text,
    const struct json_value *value);
size_t json_decode(struct json_decoder *decoder, char *buf, size_t cap);

/*
 * The text of any value, the way lenient readers take it: a string decoded,
 * null or no value empty, anything else as it is written. Fills buf with at
 * most cap bytes (it may cut the last character) and returns the length, or
 * cap + 1 when the text is longer than cap. No terminator.
 */
size_t json_text(
    const char *text, const struct json_value *value, char *buf, size_t cap);

#endif
