#include "pace.h"

#include <stddef.h>
#include <sys/resource.h>
#include <time.h>

#define MEMORY 8 /* answers */

static _Thread_local struct mi_lap *current;

static uint64_t read_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static long count_sleeps(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

void mi_lap_begin(struct mi_lap *lap)
{
    *lap = (struct mi_lap){.wall = read_clock()};
    current = lap;
}

void mi_lap_end(struct mi_lap *lap)
{
    lap->wall = read_clock() - lap->wall;
    current = NULL;
}

void mi_lap_call(void)
{
    if (!current)
        return;
    current->sleeps = count_sleeps();
    current->called = read_clock();
}

void mi_lap_return(void)
{
    if (current && count_sleeps() > current->sleeps)
        current->waited += read_clock() - current->called;
}

static int waits(uint64_t wall, uint64_t waited)
{
    return wall > 0 && waited >= wall / 2;
}

int mi_pace_add(struct mi_pace *pace, const struct mi_lap *lap)
{
    pace->wall += lap->wall - pace->wall / MEMORY;
    pace->waited += lap->waited - pace->waited / MEMORY;
    return waits(lap->wall, lap->waited) && waits(pace->wall, pace->waited);
}
