/* Tests of src/pool.c: how many threads there are. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

#include "../../src/pool.h"

enum { LEAST = 3, MOST = 8, ITEMS = 60 };

struct place {
    struct mi_pool *pool;
    struct mi_mailbox *mailbox;
    int slow; /* milliseconds that the filesystem takes for an answer */
    int before;
    atomic_int done, most, rests;
};

static int count_threads(void)
{
    return check_entries("/proc/self/task");
}

static void work(void *arg, const void *message, size_t size, int asked)
{
    struct place *place = arg;
    struct mi_lap lap;
    int threads, most = atomic_load(&place->most);

    (void)message;
    (void)size;
    (void)asked;
    mi_lap_begin(&lap);
    mi_lap_call();
    if (place->slow)
        check_sleep(place->slow);
    mi_lap_return();
    mi_lap_end(&lap);
    mi_pool_pace(place->pool, &lap);
    threads = count_threads() - place->before;
    while (most < threads &&
           !atomic_compare_exchange_weak(&place->most, &most, threads))
        ;
    atomic_fetch_add(&place->done, 1);
}

static void rest(void *arg)
{
    struct place *place = arg;

    atomic_fetch_add(&place->rests, 1);
}

static void begin(struct place *place, int slow)
{
    struct mi_pool_config config = {.threads = MOST,
                                    .least = LEAST,
                                    .keep = 1,
                                    .work = work,
                                    .rest = rest};

    *place = (struct place){.slow = slow, .before = count_threads()};
    check_need(mi_mailbox_create_private(&place->mailbox, NULL) == 0,
               "mailbox");
    config.mailbox = place->mailbox;
    config.arg = place;
    check_need(mi_pool_create(&place->pool, &config, NULL) == 0, "pool");
}

static void put(struct place *place)
{
    for (int i = 0; i < ITEMS; i++)
        CHECK(mi_pool_ahead(place->pool, &i, sizeof(i), NULL) == 0);
}

static int all_done(void *arg)
{
    struct place *place = arg;

    return atomic_load(&place->done) == ITEMS;
}

static int some_done(void *arg)
{
    struct place *place = arg;

    return atomic_load(&place->done) >= 2 * MOST;
}

static int threads_gone(void *arg)
{
    struct place *place = arg;

    return count_threads() == place->before;
}

static void end(struct place *place)
{
    mi_pool_destroy(place->pool);
    mi_mailbox_destroy(place->mailbox);
    CHECK(check_until(threads_gone, place, 20));
}

/* The most threads that there were while something was done. */
static int threads_for(int slow)
{
    struct place place;

    begin(&place, slow);
    put(&place);
    CHECK(check_until(all_done, &place, 20));
    end(&place);
    return atomic_load(&place.most);
}

static void test_as_many_as_allowed_while_they_wait(void)
{
    CHECK(threads_for(10) == MOST);
}

static void test_the_least_where_nothing_waits(void)
{
    CHECK(threads_for(0) == LEAST);
}

static void test_one_while_held_then_all_at_once(void)
{
    struct place place;

    begin(&place, 5);
    mi_pool_hold(place.pool, 1);
    put(&place);
    CHECK(check_until(some_done, &place, 20));
    CHECK(count_threads() - place.before == 1);
    mi_pool_hold(place.pool, 0);
    CHECK(count_threads() - place.before == MOST);
    CHECK(check_until(all_done, &place, 20));
    end(&place);
}

static void test_complete_threads_end_when_all_is_done(void)
{
    struct place place;

    begin(&place, 1);
    put(&place);
    mi_pool_complete(place.pool);
    CHECK(check_until(threads_gone, &place, 20));
    CHECK(all_done(&place));
    CHECK(atomic_load(&place.rests) == 1);
    end(&place);
}

static int one_left(void *arg)
{
    struct place *place = arg;

    return count_threads() == place->before + 1;
}

static int rested(void *arg)
{
    struct place *place = arg;

    return atomic_load(&place->rests) > 0;
}

/* With nothing to do all but one end, and it is said; with more to do they
 * begin.
 */
static void test_threads_end_and_come_back(void)
{
    struct place place;

    begin(&place, 10);
    for (int i = 0; i < 3; i++) {
        atomic_store(&place.done, 0);
        atomic_store(&place.most, 0);
        put(&place);
        CHECK(check_until(all_done, &place, 20));
        CHECK(check_until(one_left, &place, 20));
        CHECK(atomic_load(&place.most) == MOST);
    }
    CHECK(check_until(rested, &place, 20));
    end(&place);
}

static void test_the_one_that_is_held_stays(void)
{
    struct place place;

    begin(&place, 1);
    mi_pool_hold(place.pool, 1);
    put(&place);
    CHECK(check_until(all_done, &place, 20));
    check_sleep(200);
    CHECK(count_threads() - place.before == 1);
    CHECK(atomic_load(&place.rests) == 0);
    mi_pool_hold(place.pool, 0);
    CHECK(check_until(rested, &place, 20));
    check_sleep(200);
    CHECK(count_threads() - place.before == 1);
    CHECK(atomic_load(&place.rests) == 1);
    end(&place);
}

static void *nothing(void *arg)
{
    return arg;
}

int main(void)
{
    pthread_t thread;

    /* A sanitizer has a thread of its own as soon as there is one. */
    check_need(pthread_create(&thread, NULL, nothing, NULL) == 0, "thread");
    pthread_join(thread, NULL);
    test_as_many_as_allowed_while_they_wait();
    test_the_least_where_nothing_waits();
    test_one_while_held_then_all_at_once();
    test_complete_threads_end_when_all_is_done();
    test_threads_end_and_come_back();
    test_the_one_that_is_held_stays();
    return check_report();
}
