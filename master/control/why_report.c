/* SPDX-License-Identifier: MIT */
#include "master/control/why_report.h"

#include <string.h>

#include "common/str.h"
#include "common/why.h"

static void
add_text(cJSON *object, const char *key, const char *text)
{
	if (*text == '\0')
		(void)cJSON_AddNullToObject(object, key);
	else
		(void)cJSON_AddStringToObject(object, key, text);
}

/* One without an outcome is under way, or its worker died under it. */
static void
add_attempt(cJSON *rows, const struct why_found *f, size_t i)
{
	cJSON *row = cJSON_CreateObject();
	bool ended = f->attempts[i].ended;

	add_text(row, "credential", f->attempts[i].credential);
	if (f->attempts[i].status != 0)
		(void)cJSON_AddNumberToObject(
		    row, "status", f->attempts[i].status);
	else
		(void)cJSON_AddNullToObject(row, "status");
	add_text(row, "outcome",
	    !ended && f->orphaned ? "worker_died" : f->attempts[i].outcome);
	if (ended)
		(void)cJSON_AddNumberToObject(row, "ms", f->attempts[i].ms);
	else
		(void)cJSON_AddNullToObject(row, "ms");
	(void)cJSON_AddItemToArray(rows, row);
}

static cJSON *
describe(const struct why_found *f)
{
	bool decided = *f->decision != '\0';
	bool pinned = *f->pin != '\0' && strcmp(f->pin, "none") != 0;
	cJSON *answer = cJSON_CreateObject();
	cJSON *session, *attempts, *passed, *row;
	char time[32];

	str_from_time(f->time_s, time, sizeof(time));
	add_text(answer, "request_id", f->request_id);
	add_text(answer, "time", time);
	add_text(answer, "dialect", f->dialect);
	add_text(answer, "model", f->model);
	session = cJSON_AddObjectToObject(answer, "session");
	add_text(session, "source", f->source);
	add_text(session, "id", *f->source != '\0' ? f->session : "");
	add_text(answer, "decision", decided ? f->decision : "none");
	add_text(answer, "pin", pinned ? f->pin : "");
	if (decided)
		(void)cJSON_AddNumberToObject(answer, "tier", f->tier);
	else
		(void)cJSON_AddNullToObject(answer, "tier");
	attempts = cJSON_AddArrayToObject(answer, "attempts");
	for (size_t i = 0; i < f->nattempts; i++)
		add_attempt(attempts, f, i);
	passed = cJSON_AddArrayToObject(answer, "passed_over");
	for (size_t i = 0; i < f->npassed; i++) {
		row = cJSON_CreateObject();
		add_text(row, "credential", f->passed[i].credential);
		add_text(row, "why", f->passed[i].why);
		(void)cJSON_AddItemToArray(passed, row);
	}
	return answer;
}

cJSON *
why_report(struct board *board, const char *runtime_dir, const char *request_id)
{
	unsigned used = atomic_load(&board->slots_used);
	struct why_found found;

	for (unsigned i = 0; i < used && i < BOARD_SLOTS; i++) {
		int pid = atomic_load(&board->slots[i].pid);

		if (why_find(runtime_dir, i, pid, request_id, &found) == 0)
			return describe(&found);
	}
	return NULL;
}
