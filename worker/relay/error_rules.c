/* SPDX-License-Identifier: MIT */
#include "worker/relay/error_rules.h"

#include <regex.h>
#include <string.h>

#include "common/alloc.h"
#include "common/attr.h"

/* Such failures are few, so that nothing compiled is kept. */
static bool
expression_finds(const char *expression, struct span text)
{
	regmatch_t within = { .rm_so = 0, .rm_eo = (regoff_t)text.len };
	AUTO_FREE char *copy = NULL;
	regex_t regex;
	bool found;

	if (regcomp(&regex, expression, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	/* REG_STARTEND is no standard's: elsewhere a terminator is wanted. */
	copy = xmalloc(text.len + 1);
	memcpy(copy, text.len > 0 ? text.p : "", text.len);
	copy[text.len] = '\0';
	found = regexec(&regex, copy, 1, &within, REG_STARTEND) == 0;
	regfree(&regex);
	return found;
}

static bool
substring_found(const char *substring, struct span text)
{
	return text.len > 0 &&
	       memmem(text.p, text.len, substring, strlen(substring)) != NULL;
}

static bool
is_for(int rule_status, int status)
{
	return rule_status == 0 || rule_status == status;
}

bool
error_rules_find(const struct error_rules *rules, int status, struct span text,
    enum error_action *action)
{
	for (size_t i = 0; i < rules->n; i++) {
		const struct error_rule *rule = &rules->v[i];
		bool holds = rule->match.n + rule->match_regex.n == 0;

		if (!is_for(rule->status, status))
			continue;
		for (size_t k = 0; !holds && k < rule->match.n; k++)
			holds = substring_found(rule->match.v[k], text);
		for (size_t k = 0; !holds && k < rule->match_regex.n; k++)
			holds = expression_finds(rule->match_regex.v[k], text);
		*action = rule->action;
		if (holds)
			return true;
	}
	return false;
}

bool
error_rules_find_own(const struct state_credential *c, int status,
    struct span text, enum error_action *action)
{
	const struct state_error_rule *rules = state_credential_errors(c);

	for (uint32_t i = 0; i < c->nerrors; i++) {
		const struct state_error_rule *rule = &rules[i];
		const uint32_t *texts = state_error_texts(c, rule);
		uint32_t n = rule->nmatch + rule->nregex;
		bool holds = n == 0;

		if (!is_for(rule->status, status))
			continue;
		for (uint32_t k = 0; !holds && k < n; k++) {
			const char *it = state_string(c, texts[k]);

			holds = k < rule->nmatch ? substring_found(it, text)
						 : expression_finds(it, text);
		}
		*action = (enum error_action)rule->action;
		if (holds)
			return true;
	}
	return false;
}
