#include "pace.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

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

/* Source: proc(5), /proc/PID/schedstat. */
static uint64_t read_delay(void)
{
    unsigned long long ran, delay;
    char text[100];
    ssize_t size;
    int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return 0;
    size = read(file, text, sizeof(text) - 1);
    close(file);
    text[size > 0 ? size : 0] = '\0';
    return sscanf(text, "%llu %llu", &ran, &delay) == 2 ? delay : 0;
}

void mi_lap_begin(struct mi_lap *lap)
{
    lap->delay = read_delay();
    lap->gone = count_sleeps();
    lap->cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
    lap->wall = read_clock(CLOCK_MONOTONIC);
}

void mi_lap_end(struct mi_lap *lap)
{
    lap->wall = read_clock(CLOCK_MONOTONIC) - lap->wall;
    lap->cpu = read_clock(CLOCK_THREAD_CPUTIME_ID) - lap->cpu;
    lap->gone = count_sleeps() - lap->gone;
    lap->delay = read_delay() - lap->delay;
}

void mi_pace_add(struct mi_pace *pace, const struct mi_lap *lap)
{
    uint64_t busy = lap->cpu + lap->delay;
    uint64_t waited = lap->wall > busy ? lap->wall - busy : 0;

    pace->wall += lap->wall - pace->wall / MEMORY;
    pace->waited += (lap->gone > 0 ? waited : 0) - pace->waited / MEMORY;
}

int mi_pace_waits(const struct mi_pace *pace)
{
    return pace->wall > 0 && pace->waited >= pace->wall / 2;
}
