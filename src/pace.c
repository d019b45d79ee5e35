#include "pace.h"

#include <sys/resource.h>
#include <time.h>

#define MEMORY 8 /* answers */

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;

    if (clock_gettime(clock, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static long count_sleeps(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

void mi_lap_begin(struct mi_lap *lap)
{
    lap->gone = count_sleeps();
    lap->cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
    lap->wall = read_clock(CLOCK_MONOTONIC);
}

void mi_lap_end(struct mi_lap *lap)
{
    lap->wall = read_clock(CLOCK_MONOTONIC) - lap->wall;
    lap->cpu = read_clock(CLOCK_THREAD_CPUTIME_ID) - lap->cpu;
    lap->gone = count_sleeps() - lap->gone;
}

void mi_pace_add(struct mi_pace *pace, const struct mi_lap *lap)
{
    uint64_t waited = lap->wall > lap->cpu ? lap->wall - lap->cpu : 0;

    pace->wall += lap->wall - pace->wall / MEMORY;
    pace->waited += (lap->gone > 0 ? waited : 0) - pace->waited / MEMORY;
}

int mi_pace_waits(const struct mi_pace *pace)
{
    return pace->wall > 0 && pace->waited >= pace->wall / 2;
}
