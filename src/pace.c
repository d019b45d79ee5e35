#include "pace.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MEMORY 8 /* answers */
#define SCHEDULED "/proc/thread-self/schedstat"

static _Thread_local struct mi_lap *current;
static _Thread_local uint64_t delayed; /* at the last look */
static _Thread_local int doubtful;     /* the last look said: no sleep */

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

/* For how long the calling thread could have run and had no processor since
 * the last look, in nanoseconds; 0 where the kernel does not tell.
 */
static uint64_t look_at_delay(void)
{
    const uint64_t before = delayed;
    char text[80], *end;
    ssize_t size;
    int fd = open(SCHEDULED, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    size = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    strtoull(text, &end, 10); /* for how long it ran */
    delayed = strtoull(end, NULL, 10);
    return delayed - before;
}

void mi_lap_begin(struct mi_lap *lap)
{
    if (doubtful)
        look_at_delay(); /* what was before does not count */
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

int mi_lap_slept(const struct mi_lap *lap)
{
    const uint64_t delay = look_at_delay();

    doubtful =
        delay >= lap->waited || !waits(lap->wall - delay, lap->waited - delay);
    return !doubtful;
}
