/* SPDX-License-Identifier: MIT */
#include "master/signals.h"

#include <signal.h>
#include <stdlib.h>

#include "common/alloc.h"
#include "common/log.h"
#include "master/master.h"

const struct signal_row signal_table[] = {
	{ SIGHUP, "HUP", master_reload, "reload the configuration" },
	{ SIGUSR1, "USR1", master_reopen, "reopen the log files" },
	{ SIGQUIT, "QUIT", master_drain, "drain, then exit" },
	{ SIGTERM, "TERM", master_stop, "drain for 5 seconds at most, exit" },
	{ SIGINT, "INT", master_stop, "the same" },
	{ SIGUSR2, "USR2", master_upgrade, "replace the program in place" },
	{ SIGCHLD, "CHLD", master_reap, "collect workers that have ended" },
	{ SIGPIPE, "PIPE", NULL, "ignored" },
};

const size_t signal_table_len = ARRAY_LEN(signal_table);

struct signals {
	struct master *master;
	struct event *events[ARRAY_LEN(signal_table)];
};

/* All rows of one number are the same row, so the first is the one. */
static void
act(struct master *master, int number)
{
	const struct signal_row *row = signal_table;

	while (row->number != number)
		row++;
	log_debug("signal %s: %s", row->name, row->text);
	row->action(master);
}

static void
on_signal(evutil_socket_t number, short what UNUSED, void *arg)
{
	act(arg, (int)number);
}

static void
take_up(struct signals *s, struct event_base *base, size_t i)
{
	const struct signal_row *row = &signal_table[i];

	if (row->action == NULL) {
		(void)signal(row->number, SIG_IGN);
		return;
	}
	s->events[i] = evsignal_new(base, row->number, on_signal, s->master);
	if (s->events[i] == NULL || evsignal_add(s->events[i], NULL) < 0)
		fatalx("cannot take up signal %s", row->name);
}

struct signals *
signals_new(struct event_base *base, struct master *master)
{
	struct signals *s = xcalloc(1, sizeof(*s));
	size_t i;

	s->master = master;
	for (i = 0; i < ARRAY_LEN(signal_table); i++)
		take_up(s, base, i);
	return s;
}

void
signals_free(struct signals *s)
{
	size_t i;

	if (s == NULL)
		return;
	for (i = 0; i < ARRAY_LEN(signal_table); i++) {
		if (s->events[i] != NULL)
			event_free(s->events[i]);
	}
	free(s);
}

void
signals_unblock(void)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}
