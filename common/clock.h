/* SPDX-License-Identifier: MIT */
/*
 * The one clock of everything that is stored or shared: CLOCK_BOOTTIME plus
 * a base that is fixed for the life of a boot. It counts milliseconds since
 * about the epoch, and no step of the wall clock touches it. The master
 * chooses the base and publishes it on the board; every process sets it
 * before it reads the clock.
 */
#ifndef FL_COMMON_CLOCK_H
#define FL_COMMON_CLOCK_H

#include <stdint.h>

/* Milliseconds since boot, suspended time included. */
int64_t clock_boot_ms(void);

/* Microseconds of CLOCK_MONOTONIC, for measuring durations. */
int64_t clock_mono_us(void);

void clock_set_base(int64_t base_ms);
int64_t clock_base(void);

/* Now: clock_boot_ms() + base. */
int64_t clock_now_ms(void);

/*
 * The base for a boot whose state says that time stood at last_ms (0:
 * unknown). Time goes on by the wall clock's difference, never backwards and
 * never further than longest_ms, so that a wrong wall clock can neither
 * revive nor kill what is stored.
 */
int64_t clock_choose_base(int64_t last_ms, int64_t longest_ms);

/* The kernel's boot id, 36 characters and a zero. 0 or negative errno. */
int clock_boot_id(char id[37]);

#endif
