/* SPDX-License-Identifier: MIT */
/* Answers of the daemon as people read them, on stdout. */
#ifndef FL_MASTER_CTL_SHOW_H
#define FL_MASTER_CTL_SHOW_H

#include <cjson/cJSON.h>

typedef void show_fn(const cJSON *answer);

show_fn show_status;
show_fn show_credentials;
show_fn show_credential;
show_fn show_models;
show_fn show_sessions;
show_fn show_session;
show_fn show_reload;
show_fn show_upgrade;
show_fn show_why;
show_fn show_usage;
show_fn show_nothing;

#endif
