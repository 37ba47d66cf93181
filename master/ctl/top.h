/* SPDX-License-Identifier: MIT */
/* A screen of what goes on, drawn again every second until q is pressed. */
#ifndef FL_MASTER_CTL_TOP_H
#define FL_MASTER_CTL_TOP_H

#include "common/attr.h"

/*
 * Asks for status again and again. Where stdout is no terminal it is drawn
 * once, after the second that rates need. 0, or what client_ask() said.
 */
int top_run(const char *socket, int timeout_s) MUST_CHECK;

#endif
