/* Tests of src/pace.c. */
#include "check.h"

#include "../../src/pace.h"

#define MS 1000000u

static void add(struct mi_pace *pace, int times, uint64_t wall, uint64_t cpu,
                long gone)
{
    const struct mi_lap lap = {.wall = wall, .cpu = cpu, .gone = gone};

    for (int i = 0; i < times; i++)
        mi_pace_add(pace, &lap);
}

static void test_nothing_known_no_waiting(void)
{
    const struct mi_pace pace = {0};

    CHECK(!mi_pace_waits(&pace));
}

static void test_far_filesystem_waits(void)
{
    struct mi_pace pace = {0};

    add(&pace, 1, MS, MS / 10, 2);
    CHECK(mi_pace_waits(&pace));
}

static void test_local_disk_does_not_wait(void)
{
    struct mi_pace pace = {0};

    add(&pace, 100, MS / 10, MS / 11, 1);
    CHECK(!mi_pace_waits(&pace));
    /* Others had the processor. */
    add(&pace, 100, 20 * MS, MS / 11, 0);
    CHECK(!mi_pace_waits(&pace));
}

static void test_change_seen_soon(void)
{
    struct mi_pace pace = {0};

    add(&pace, 1000, MS, MS, 0);
    CHECK(!mi_pace_waits(&pace));
    add(&pace, 20, MS, 0, 1);
    CHECK(mi_pace_waits(&pace));
    add(&pace, 20, MS, MS, 0);
    CHECK(!mi_pace_waits(&pace));
}

/* Others had the processor while it could have gone on. */
static void test_delay_is_no_waiting(void)
{
    const struct mi_lap lap = {
        .wall = 20 * MS, .cpu = MS, .delay = 15 * MS, .gone = 1};
    struct mi_pace pace = {0};

    mi_pace_add(&pace, &lap);
    CHECK(pace.waited == 4 * MS && !mi_pace_waits(&pace));
}

/* One slow answer counts for as long as it took. */
static void test_time_counts_not_answers(void)
{
    struct mi_pace pace = {0};

    add(&pace, 10, MS / 10, MS / 10, 0);
    add(&pace, 1, 30 * MS, MS, 1);
    CHECK(mi_pace_waits(&pace));
}

static void test_clocks_behind_cpu_not_behind(void)
{
    struct mi_pace pace = {0};

    add(&pace, 1, MS, 2 * MS, 1);
    CHECK(!mi_pace_waits(&pace) && pace.waited == 0);
}

static void test_lap_of_sleeper_waited(void)
{
    struct mi_pace pace = {0};
    struct mi_lap lap;

    mi_lap_begin(&lap);
    check_sleep(20);
    mi_lap_end(&lap);
    CHECK(lap.gone > 0 && lap.wall >= 20 * MS && lap.cpu < 20 * MS);
    mi_pace_add(&pace, &lap);
    CHECK(mi_pace_waits(&pace));
}

int main(void)
{
    test_nothing_known_no_waiting();
    test_far_filesystem_waits();
    test_local_disk_does_not_wait();
    test_change_seen_soon();
    test_delay_is_no_waiting();
    test_time_counts_not_answers();
    test_clocks_behind_cpu_not_behind();
    test_lap_of_sleeper_waited();
    return check_report();
}
