/* Where the start-up time goes: exclusive phases and exact counts.
 *
 * Every thread has a stack of phases; entering one pauses the one below, so
 * that the phases of a thread add up to the time it spent inside any.  Totals
 * are of the process.  All calls are local and thread-safe, and cost two
 * clock_gettime(2) at most.
 */
#ifndef MI_CLOCK_H
#define MI_CLOCK_H

#include <stdint.h>

enum mi_phase {
    MI_FIND = 0,        /* resolving names */
    MI_IO = 1,          /* reading the shared tree, in an importing thread */
    MI_COMM = 2,        /* waiting for the pump, and start-up collectives */
    MI_LOAD = 3,        /* executing code that came through the store */
    MI_LOAD_FILE = 4,   /* dlopen from the mirror */
    MI_LOAD_DIRECT = 5, /* modules loaded straight from the filesystem */
    MI_SITE = 6,        /* the stages of site */
    MI_BOOT = 7,        /* from the start of the process to the program */
    MI_ALL = 8          /* start-up and imports: the sum of the others */
};
#define MI_PHASES 9

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t mi_clock_now(void);
/* The same clock at the start of this process, to 10 ms (proc(5), field
 * starttime); now, if that cannot be read.
 */
uint64_t mi_clock_process_start(void);

/* Charge the time since 'since' (nanoseconds) to a phase, and to ALL.  Call
 * outside of any phase.
 */
void mi_clock_charge(enum mi_phase phase, uint64_t since);

void mi_clock_enter(enum mi_phase phase);
/* Change the phase on top of the stack. */
void mi_clock_switch(enum mi_phase phase);
void mi_clock_leave(void);
/* One more of what the phase counts. */
void mi_clock_count(enum mi_phase phase);

/* Totals so far: nanoseconds and counts, MI_PHASES each.  Time inside a phase
 * that has not ended is not in them, but for the calling thread's.
 */
void mi_clock_read(uint64_t *nanoseconds, uint64_t *counts);
/* Back to nothing; of the calling thread's stack too (for tests, fork). */
void mi_clock_reset(void);

#endif
