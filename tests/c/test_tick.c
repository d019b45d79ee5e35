/* Tests of libmpi_min/tick.c: when there is a thread, and that it ticks. */
#include "check.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../libmpi_min/tick.h"

#define MILLISECOND 1000000

static int processors(void)
{
    cpu_set_t set;

    CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
    return CPU_COUNT(&set);
}

/* Return how often the threads but this one have slept, added up; *count gets
 * how many they are.  Source: proc(5), /proc/PID/task/TID/status.
 */
static long others(int *count)
{
    static const char key[] = "voluntary_ctxt_switches:";
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    char path[300], line[256];
    long sum = 0;
    FILE *file;

    CHECK(tasks != NULL);
    *count = 0;
    while ((entry = readdir(tasks))) {
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
            continue;
        snprintf(path, sizeof(path), "/proc/self/task/%s/status",
                 entry->d_name);
        file = fopen(path, "r");
        if (!file)
            continue; /* it has just ended */
        ++*count;
        while (fgets(line, sizeof(line), file)) {
            if (strncmp(line, key, sizeof(key) - 1) == 0)
                sum += atol(line + sizeof(key) - 1);
        }
        fclose(file);
    }
    closedir(tasks);
    return sum;
}

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void test_room_for_all_no_thread(void)
{
    struct mpimin_tick tick;
    int count;

    mpimin_tick_start(&tick, -1); /* nobody has said */
    CHECK(!tick.is_running);
    mpimin_tick_stop(&tick);
    mpimin_tick_start(&tick, processors());
    CHECK(!tick.is_running);
    others(&count);
    CHECK(count == 0);
    mpimin_tick_stop(&tick);
}

static void test_crowded_ticks_until_stopped(void)
{
    struct timespec pause = {.tv_nsec = 10 * MILLISECOND};
    struct mpimin_tick tick;
    int64_t start = now();
    int count = 0;

    mpimin_tick_start(&tick, processors() + 1);
    CHECK(tick.is_running);
    while (others(&count) < 20 && now() - start < (int64_t)10000000000)
        nanosleep(&pause, NULL);
    CHECK(count == 1);
    CHECK(others(&count) >= 20);
    mpimin_tick_stop(&tick);
    start = now(); /* a thread that has been joined may still be listed */
    do
        others(&count);
    while (count > 0 && now() - start < (int64_t)10000000000);
    CHECK(count == 0);
}

static void test_stopped_at_any_time(void)
{
    struct mpimin_tick tick;

    for (int i = 0; i < 200; i++) { /* before it runs, while it waits */
        mpimin_tick_start(&tick, processors() + 1);
        CHECK(tick.is_running);
        mpimin_tick_stop(&tick);
    }
}

/* A thread that was bound by its launcher is not alone on the node. */
static void test_bound_to_one_counts_the_launcher_s(void)
{
    cpu_set_t all, one;
    struct mpimin_tick tick;
    int first = 0;

    CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
    while (!CPU_ISSET((size_t)first, &all))
        first++;
    CPU_ZERO(&one);
    CPU_SET((size_t)first, &one);
    CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
    mpimin_tick_start(&tick, CPU_COUNT(&all));
    CHECK(!tick.is_running);
    mpimin_tick_stop(&tick);
    mpimin_tick_start(&tick, CPU_COUNT(&all) + 1);
    CHECK(tick.is_running);
    mpimin_tick_stop(&tick);
    CHECK(sched_setaffinity(0, sizeof(all), &all) == 0);
}

int main(void)
{
    test_room_for_all_no_thread();
    test_crowded_ticks_until_stopped();
    test_stopped_at_any_time();
    test_bound_to_one_counts_the_launcher_s();
    return check_report();
}
