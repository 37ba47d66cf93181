/* SPDX-License-Identifier: MIT */
/* fairlead: what the command line asks for, and nothing else. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <event2/event.h>

#include <cjson/cJSON.h>
#include <libconfig.h>
#include <lmdb.h>

#include "build.h"
#include "common/config.h"
#include "common/log.h"
#include "common/proxy.h"
#include "master/master.h"
#include "master/options.h"
#include "master/privdrop.h"
#include "master/upgrade/handover.h"

enum { STATUS_FAILED = 1, STATUS_USAGE = 2 };

static int
show_help(const struct options *options UNUSED)
{
	options_usage(stdout);
	return 0;
}

static int
show_versions(const struct options *options UNUSED)
{
	char layouts[HANDOVER_LAYOUTS_MAX];

	handover_layouts(layouts, sizeof(layouts));
	(void)printf("fairlead %s\nlibevent %s\nLMDB %d.%d.%d\n"
		     "libconfig %d.%d.%d\ncJSON %s\n%s\n",
	    FAIRLEAD_VERSION, event_get_version(), MDB_VERSION_MAJOR,
	    MDB_VERSION_MINOR, MDB_VERSION_PATCH, LIBCONFIG_VER_MAJOR,
	    LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION, cJSON_Version(),
	    layouts);
	return 0;
}

/* Says all that is wrong; NULL if anything is. The caller frees both. */
static struct config *
load(const struct options *options, struct config_report *report)
{
	struct config *config = NULL;

	config_report_init(report);
	if (config_load(options->config_path, &config, report) < 0)
		(void)fputs(buf_string(&report->errors), stderr);
	return config;
}

/* A restart would find out too late; only root can become another user. */
static bool
user_exists(const struct options *options, const struct config *config)
{
	struct privileges privileges;
	struct buf why = BUF_INIT(4096);
	bool found = privileges_look_up(&privileges, config, &why) == 0;

	if (!found)
		(void)fprintf(
		    stderr, "%s: %s\n", options->config_path, buf_string(&why));
	privileges_fini(&privileges);
	buf_fini(&why);
	return found;
}

/* The same for who only looks: warnings are said as well. */
static struct config *
test(const struct options *options)
{
	struct config_report report;
	struct config *config = load(options, &report);

	(void)fputs(buf_string(&report.warnings), stderr);
	config_report_fini(&report);
	if (config != NULL && !user_exists(options, config)) {
		config_free(config);
		return NULL;
	}
	return config;
}

static int
test_config(const struct options *options)
{
	struct config *config = test(options);

	if (config == NULL)
		return STATUS_FAILED;
	(void)printf("configuration %s is ok\n", options->config_path);
	config_free(config);
	return 0;
}

static int
dump_config(const struct options *options)
{
	struct buf text = BUF_INIT(64 << 20);
	struct config *config = test(options);
	struct proxy_env env;

	if (config == NULL)
		return STATUS_FAILED;
	proxy_env_read(&env);
	proxy_env_show(&env, &text);
	proxy_env_fini(&env);
	config_dump(config, CONFIG_DUMP_PEOPLE, &text);
	(void)fputs(buf_string(&text), stdout);
	buf_fini(&text);
	config_free(config);
	return 0;
}

/* The log gets the warnings; in the background the terminal too. */
static int
run(const struct options *options)
{
	struct config_report report;
	struct config *config = load(options, &report);
	int status = STATUS_FAILED;

	if (!options->foreground)
		(void)fputs(buf_string(&report.warnings), stderr);
	if (config != NULL)
		status = master_run(
		    options, config, buf_string(&report.warnings), NULL);
	config_report_fini(&report);
	return status;
}

/* Executed by the master before this one, in its own place. */
static int
take_over(const struct options *options, cJSON *handover)
{
	struct config_report report;
	struct config *config = load(options, &report);
	int status = master_run(options, config,
	    buf_string(config != NULL ? &report.warnings : &report.errors),
	    handover);

	config_report_fini(&report);
	return status;
}

static int (*const modes[])(const struct options *options) = {
	[OPTIONS_RUN] = run,
	[OPTIONS_TEST] = test_config,
	[OPTIONS_DUMP] = dump_config,
	[OPTIONS_VERSIONS] = show_versions,
	[OPTIONS_HELP] = show_help,
};

/*
 * Nothing that whoever started us left open, so that nobody waits for a pipe
 * that we do not know of; and nothing of ours becomes stdin, stdout or stderr.
 */
static void
settle_descriptors(void)
{
	int fd;

	(void)close_range(STDERR_FILENO + 1, ~0u, 0);
	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		(void)close(fd);
}

int
main(int argc, char **argv)
{
	struct buf why = BUF_INIT(4096);
	struct options options;
	cJSON *handover;
	int status;

	log_init("master");
	if (handover_read(&handover, &why) < 0)
		fatalx("%s", buf_string(&why));
	if (handover == NULL)
		settle_descriptors();
	if (options_parse(&options, argc, argv) == OPTIONS_USAGE)
		status = STATUS_USAGE;
	else if (handover != NULL)
		status = take_over(&options, handover);
	else
		status = modes[options.mode](&options);
	options_fini(&options);
	buf_fini(&why);
	return status;
}
