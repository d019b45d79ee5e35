#include "clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 1024 /* deeper phases are charged to the one at this depth */

struct stack {
    int depth;
    uint64_t since; /* begin of the uncharged time of the top */
    unsigned char phase[DEPTH];
};

static _Thread_local struct stack stack;
static atomic_uint_fast64_t total[MI_PHASES];
static atomic_uint_fast64_t count[MI_PHASES];

static uint64_t nanoseconds_of(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

uint64_t mi_clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return nanoseconds_of(&t);
}

/* Clock ticks after boot at which this process started; 0 if unknown. */
static unsigned long long start_ticks(void)
{
    char line[1024];
    const char *p;
    unsigned long long ticks = 0;
    FILE *f = fopen("/proc/self/stat", "re");

    if (!f)
        return 0;
    p = fgets(line, sizeof(line), f);
    fclose(f);
    if (!p)
        return 0;
    /* The name in field 2 may contain blanks and parentheses. */
    p = strrchr(line, ')');
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (p)
        ticks = strtoull(p, NULL, 10);
    return ticks;
}

uint64_t mi_clock_process_start(void)
{
    struct timespec boot;
    uint64_t now = mi_clock_now(), started, age;
    long hertz = sysconf(_SC_CLK_TCK);
    unsigned long long ticks = start_ticks();

    if (ticks == 0 || hertz <= 0 || clock_gettime(CLOCK_BOOTTIME, &boot) != 0)
        return now;
    started = (uint64_t)ticks * (1000000000u / (uint64_t)hertz);
    if (nanoseconds_of(&boot) < started)
        return now;
    age = nanoseconds_of(&boot) - started;
    return age < now ? now - age : now;
}

static void charge(enum mi_phase phase, uint64_t nanoseconds)
{
    atomic_fetch_add_explicit(&total[phase], nanoseconds,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&total[MI_ALL], nanoseconds,
                              memory_order_relaxed);
}

/* Charge what has passed to the top of the stack. */
static void settle(void)
{
    uint64_t now = mi_clock_now();
    int top = stack.depth < DEPTH ? stack.depth : DEPTH;

    if (top > 0)
        charge((enum mi_phase)stack.phase[top - 1], now - stack.since);
    stack.since = now;
}

void mi_clock_charge(enum mi_phase phase, uint64_t since)
{
    charge(phase, mi_clock_now() - since);
}

void mi_clock_enter(enum mi_phase phase)
{
    settle();
    if (stack.depth < DEPTH)
        stack.phase[stack.depth] = (unsigned char)phase;
    stack.depth++;
}

void mi_clock_switch(enum mi_phase phase)
{
    settle();
    if (stack.depth > 0 && stack.depth <= DEPTH)
        stack.phase[stack.depth - 1] = (unsigned char)phase;
}

void mi_clock_leave(void)
{
    settle();
    if (stack.depth > 0)
        stack.depth--;
}

void mi_clock_count(enum mi_phase phase)
{
    atomic_fetch_add_explicit(&count[phase], 1, memory_order_relaxed);
}

void mi_clock_read(uint64_t *nanoseconds, uint64_t *counts)
{
    settle();
    for (int i = 0; i < MI_PHASES; i++) {
        nanoseconds[i] = atomic_load(&total[i]);
        counts[i] = atomic_load(&count[i]);
    }
}

void mi_clock_reset(void)
{
    stack.depth = 0;
    for (int i = 0; i < MI_PHASES; i++) {
        atomic_store(&total[i], 0);
        atomic_store(&count[i], 0);
    }
}
