/* Tests of src/clock.c. */
#include "check.h"

#include <pthread.h>

#include "../../src/clock.h"

#define MILLISECOND 1000000u

struct totals {
    uint64_t time[MI_PHASES];
    uint64_t count[MI_PHASES];
};

static void take(struct totals *totals)
{
    mi_clock_read(totals->time, totals->count);
}

/* Nanoseconds of all phases but ALL, which they must add up to. */
static uint64_t sum(const struct totals *totals)
{
    uint64_t all = 0;

    for (int i = 0; i < MI_ALL; i++)
        all += totals->time[i];
    return all;
}

static void spend(unsigned milliseconds)
{
    uint64_t end = mi_clock_now() + milliseconds * (uint64_t)MILLISECOND;

    while (mi_clock_now() < end)
        continue;
}

static void test_now_forward(void)
{
    uint64_t before = mi_clock_now();
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    CHECK(before <= (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
    CHECK(before + 1000 * (uint64_t)MILLISECOND >
          (uint64_t)t.tv_sec * 1000000000u);
    CHECK(mi_clock_now() >= before);
}

static int check_child_start(void *arg)
{
    const uint64_t *forked = arg;
    uint64_t start = mi_clock_process_start();

    CHECK(start <= mi_clock_now());
    CHECK(start + 30 * (uint64_t)MILLISECOND >= *forked);
    CHECK(start <= *forked + 1000 * (uint64_t)MILLISECOND);
    CHECK(mi_clock_process_start() <= start + 20 * (uint64_t)MILLISECOND);
    return 0;
}

static void test_process_start_forked_near_fork(void)
{
    uint64_t start = mi_clock_process_start(), forked;

    CHECK(start <= mi_clock_now());
    check_sleep(60);
    CHECK(mi_clock_process_start() + 40 * (uint64_t)MILLISECOND <
          mi_clock_now());
    forked = mi_clock_now();
    check_child(check_child_start, &forked, __func__);
}

static void test_read_nothing_zero(void)
{
    struct totals t;

    mi_clock_reset();
    spend(2);
    take(&t);
    for (int i = 0; i < MI_PHASES; i++)
        CHECK(t.time[i] == 0 && t.count[i] == 0);
}

static void test_nested_exclusive_sum_all(void)
{
    struct totals t;
    uint64_t begin, wall;

    mi_clock_reset();
    begin = mi_clock_now();
    mi_clock_enter(MI_FIND);
    spend(10);
    mi_clock_enter(MI_IO);
    spend(20);
    mi_clock_enter(MI_FIND);
    spend(5);
    mi_clock_leave();
    mi_clock_leave();
    spend(10);
    mi_clock_leave();
    wall = mi_clock_now() - begin;
    spend(5); /* outside of all phases */
    take(&t);
    CHECK(sum(&t) == t.time[MI_ALL]);
    CHECK(t.time[MI_FIND] >= 25 * (uint64_t)MILLISECOND);
    CHECK(t.time[MI_IO] >= 20 * (uint64_t)MILLISECOND);
    CHECK(t.time[MI_ALL] <= wall);
    CHECK(wall - t.time[MI_ALL] < 500 * (uint64_t)MILLISECOND);
    CHECK(t.time[MI_COMM] == 0 && t.time[MI_LOAD] == 0);
}

static void test_switch_time_divided(void)
{
    struct totals t;

    mi_clock_reset();
    mi_clock_enter(MI_FIND);
    spend(4);
    mi_clock_switch(MI_LOAD);
    spend(8);
    mi_clock_leave();
    spend(4);
    take(&t);
    CHECK(t.time[MI_FIND] >= 4 * (uint64_t)MILLISECOND);
    CHECK(t.time[MI_LOAD] >= 8 * (uint64_t)MILLISECOND);
    CHECK(sum(&t) == t.time[MI_ALL]);
}

static void test_switch_nothing_entered_ignored(void)
{
    struct totals t;

    mi_clock_reset();
    mi_clock_switch(MI_LOAD);
    spend(2);
    mi_clock_leave();
    mi_clock_leave();
    spend(2);
    take(&t);
    CHECK(t.time[MI_ALL] == 0 && t.time[MI_LOAD] == 0);
    mi_clock_enter(MI_IO);
    spend(2);
    mi_clock_leave();
    take(&t);
    CHECK(t.time[MI_IO] >= 2 * (uint64_t)MILLISECOND);
    CHECK(t.time[MI_IO] == t.time[MI_ALL]);
}

static void test_read_open_phase_included(void)
{
    struct totals first, second;

    mi_clock_reset();
    mi_clock_enter(MI_SITE);
    spend(4);
    take(&first);
    CHECK(first.time[MI_SITE] >= 4 * (uint64_t)MILLISECOND);
    CHECK(sum(&first) == first.time[MI_ALL]);
    spend(4);
    mi_clock_leave();
    take(&second);
    CHECK(second.time[MI_SITE] >=
          first.time[MI_SITE] + 4 * (uint64_t)MILLISECOND);
    CHECK(sum(&second) == second.time[MI_ALL]);
}

static void test_charge_since_counted_once(void)
{
    struct totals t;
    uint64_t since = mi_clock_now();

    mi_clock_reset();
    spend(5);
    mi_clock_charge(MI_BOOT, since);
    take(&t);
    CHECK(t.time[MI_BOOT] >= 5 * (uint64_t)MILLISECOND);
    CHECK(t.time[MI_BOOT] == t.time[MI_ALL] && sum(&t) == t.time[MI_ALL]);
    CHECK(t.count[MI_BOOT] == 0);
}

static void test_count_exact(void)
{
    struct totals t;

    mi_clock_reset();
    for (int i = 0; i < MI_PHASES; i++)
        for (int n = 0; n <= 3 * i; n++)
            mi_clock_count((enum mi_phase)i);
    take(&t);
    for (int i = 0; i < MI_PHASES; i++)
        CHECK(t.count[i] == (uint64_t)(3 * i + 1) && t.time[i] == 0);
}

static void test_enter_beyond_limit_charged_to_limit(void)
{
    const int deep = 5000; /* far beyond the stack's depth */
    struct totals t;

    mi_clock_reset();
    for (int i = 0; i < deep; i++)
        mi_clock_enter(MI_LOAD);
    mi_clock_enter(MI_COMM);
    mi_clock_switch(MI_COMM);
    spend(3);
    take(&t);
    CHECK(t.time[MI_COMM] == 0);
    CHECK(t.time[MI_LOAD] >= 3 * (uint64_t)MILLISECOND);
    for (int i = 0; i < deep; i++)
        mi_clock_leave();
    take(&t);
    CHECK(sum(&t) == t.time[MI_ALL]);
    mi_clock_switch(MI_SITE); /* of the only one that is left */
    spend(3);
    mi_clock_leave();
    spend(3);
    take(&t);
    CHECK(t.time[MI_SITE] >= 3 * (uint64_t)MILLISECOND);
    CHECK(sum(&t) == t.time[MI_ALL] && t.time[MI_COMM] == 0);
    mi_clock_enter(MI_IO);
    spend(1);
    mi_clock_leave();
    take(&t);
    CHECK(t.time[MI_IO] >= MILLISECOND && sum(&t) == t.time[MI_ALL]);
}

static void test_reset_open_phase_forgotten(void)
{
    struct totals t;

    mi_clock_enter(MI_FIND);
    mi_clock_enter(MI_IO);
    mi_clock_count(MI_IO);
    mi_clock_reset();
    spend(3);
    take(&t);
    CHECK(t.time[MI_ALL] == 0 && t.count[MI_IO] == 0);
}

#define THREADS 4
#define ROUNDS 2000

static void *work(void *arg)
{
    uint64_t *wall = arg;
    uint64_t begin = mi_clock_now();

    mi_clock_enter(MI_FIND);
    for (int i = 0; i < ROUNDS; i++) {
        mi_clock_enter((enum mi_phase)(i % MI_ALL));
        mi_clock_count((enum mi_phase)(i % MI_ALL));
        mi_clock_enter(MI_LOAD);
        mi_clock_switch(MI_COMM);
        mi_clock_leave();
        mi_clock_leave();
    }
    mi_clock_leave();
    *wall = mi_clock_now() - begin;
    return NULL;
}

static void test_threads_sum_all(void)
{
    pthread_t thread[THREADS];
    uint64_t wall[THREADS], all = 0;
    struct totals t;

    mi_clock_reset();
    mi_clock_enter(MI_SITE);
    for (int i = 0; i < THREADS; i++)
        check_need(pthread_create(&thread[i], NULL, work, &wall[i]) == 0,
                   "thread");
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        all += wall[i];
    }
    mi_clock_leave();
    take(&t);
    CHECK(sum(&t) == t.time[MI_ALL]);
    CHECK(t.time[MI_ALL] - t.time[MI_SITE] <= all);
    CHECK(t.time[MI_SITE] > 0 && t.time[MI_COMM] > 0);
    for (int i = 0; i < MI_ALL; i++)
        CHECK(t.count[i] == THREADS * ROUNDS / MI_ALL);
}

int main(void)
{
    test_now_forward();
    test_process_start_forked_near_fork();
    test_read_nothing_zero();
    test_nested_exclusive_sum_all();
    test_switch_time_divided();
    test_switch_nothing_entered_ignored();
    test_read_open_phase_included();
    test_charge_since_counted_once();
    test_count_exact();
    test_enter_beyond_limit_charged_to_limit();
    test_reset_open_phase_forgotten();
    test_threads_sum_all();
    return check_report();
}
