/* SPDX-License-Identifier: MIT */
/* The command line of fairlead: one table of options. */
#ifndef FL_MASTER_OPTIONS_H
#define FL_MASTER_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "common/attr.h"

/* What the program is asked to do; of several, the last one named here. */
enum options_mode {
	OPTIONS_RUN,
	OPTIONS_TEST,     /* -t */
	OPTIONS_DUMP,     /* -T */
	OPTIONS_VERSIONS, /* -V */
	OPTIONS_HELP      /* -h */
};

struct options {
	enum options_mode mode;
	bool foreground;
	int verbose;        /* how often -v was given */
	char *program_path; /* what an upgrade executes; absolute */
	char *config_path;  /* absolute, as is the next */
	char *pid_path;     /* NULL: in runtime-dir */
};

enum { OPTIONS_USAGE = 1 /* said on stderr what is wrong */ };

/* 0 or OPTIONS_USAGE. Either way options_fini() frees what was set. */
int options_parse(struct options *options, int argc, char **argv) MUST_CHECK;
void options_fini(struct options *options);

void options_usage(FILE *out);

#endif
