/* Tests of src/pace.c. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/pace.h"

#define MS 1000000u

/* What the last of so many answers says. */
static int add(struct mi_pace *pace, int times, uint64_t wall, uint64_t waited)
{
    const struct mi_lap lap = {.wall = wall, .waited = waited};
    int last = 0;

    for (int i = 0; i < times; i++)
        last = mi_pace_add(pace, &lap);
    return last;
}

static void test_nothing_done_no_waiting(void)
{
    struct mi_pace pace = {0};

    CHECK(!add(&pace, 1, 0, 0));
}

static void test_far_filesystem_waits(void)
{
    struct mi_pace pace = {0};

    CHECK(add(&pace, 1, MS, MS - MS / 10));
}

static void test_local_disk_does_not_wait(void)
{
    struct mi_pace pace = {0};

    CHECK(!add(&pace, 100, MS / 10, MS / 100));
}

static void test_change_seen_soon(void)
{
    struct mi_pace pace = {0};

    CHECK(!add(&pace, 1000, MS, 0));
    CHECK(!add(&pace, 1, MS, MS));
    CHECK(add(&pace, 20, MS, MS));
    CHECK(!add(&pace, 1, MS, 0));
    CHECK(!add(&pace, 20, MS, 0));
}

/* One slow answer counts for as long as it took. */
static void test_time_counts_not_answers(void)
{
    struct mi_pace pace = {0};

    add(&pace, 10, MS / 10, 0);
    CHECK(add(&pace, 1, 30 * MS, 29 * MS));
}

static void test_call_that_sleeps_waited(void)
{
    struct mi_lap lap;

    mi_lap_begin(&lap);
    mi_lap_call();
    check_sleep(20);
    mi_lap_return();
    mi_lap_end(&lap);
    CHECK(lap.waited >= 20 * MS && lap.wall >= lap.waited);
}

static void test_sleep_outside_of_calls_is_no_waiting(void)
{
    struct mi_lap lap;

    mi_lap_begin(&lap);
    check_sleep(20);
    mi_lap_call();
    mi_lap_return();
    mi_lap_end(&lap);
    CHECK(lap.waited == 0 && lap.wall >= 20 * MS);
}

static void test_call_that_works_is_no_waiting(void)
{
    static char bytes[1 << 20];
    struct mi_lap lap;
    int file = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    mi_lap_begin(&lap);
    mi_lap_call();
    for (int i = 0; i < 20; i++)
        CHECK(read(file, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes));
    mi_lap_return();
    mi_lap_end(&lap);
    close(file);
    CHECK(lap.waited == 0 && lap.wall > 0);
}

static void test_without_a_lap_nothing_happens(void)
{
    struct mi_lap lap;

    errno = ENOENT;
    mi_lap_call();
    mi_lap_return();
    mi_lap_begin(&lap);
    mi_lap_end(&lap);
    mi_lap_call();
    check_sleep(5);
    mi_lap_return();
    CHECK(lap.waited == 0 && errno == ENOENT);
}

static void work_for(time_t seconds)
{
    const time_t end = time(NULL) + seconds + 1;

    while (time(NULL) < end)
        continue;
}

/* Work for a while where another process has half of the processor. */
static void be_held_up(void)
{
    cpu_set_t before, one;
    pid_t other;

    check_need(sched_getaffinity(0, sizeof(before), &before) == 0, "affinity");
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one);
    check_need(sched_setaffinity(0, sizeof(one), &one) == 0, "affinity");
    other = fork();
    check_need(other >= 0, "fork");
    if (other == 0) {
        alarm(20);
        for (;;)
            continue;
    }
    work_for(1);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    CHECK(sched_setaffinity(0, sizeof(before), &before) == 0);
}

/* Kernels may do without these figures. */
static int is_told(void)
{
    unsigned long long ran, delay = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "re");

    if (file && fscanf(file, "%llu %llu", &ran, &delay) < 2)
        delay = 0;
    if (file)
        fclose(file);
    return delay > 0;
}

static void test_time_without_a_processor_is_no_sleep(void)
{
    const struct mi_lap a_second = {.wall = 1000 * MS, .waited = 1000 * MS};
    const struct mi_lap moment = {.wall = MS, .waited = MS};

    be_held_up();
    CHECK(mi_lap_slept(&moment) == !is_told());
    CHECK(mi_lap_slept(&a_second)); /* that was before */
}

int main(void)
{
    test_nothing_done_no_waiting();
    test_far_filesystem_waits();
    test_local_disk_does_not_wait();
    test_change_seen_soon();
    test_time_counts_not_answers();
    test_call_that_sleeps_waited();
    test_sleep_outside_of_calls_is_no_waiting();
    test_call_that_works_is_no_waiting();
    test_without_a_lap_nothing_happens();
    test_time_without_a_processor_is_no_sleep();
    return check_report();
}
