/* Tests of src/mailbox.c by many threads at once. */
#include "check.h"

#include <pthread.h>

#include "../../src/mailbox.h"

#define THREADS 8
#define ASKS 400
#define LONG 20000    /* milliseconds: a wait that has to be ended */
#define PATIENCE 30.0 /* seconds */

static struct mi_mailbox *private_box(void)
{
    struct mi_mailbox *box = NULL;

    check_need(mi_mailbox_create_private(&box, NULL) == 0, "mailbox");
    return box;
}

/* One of several threads that use a mailbox. */
struct user {
    struct mi_mailbox *box;
    uint32_t id;
    unsigned firsts;
    double waited;
};

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    check_need(pthread_create(thread, NULL, run, arg) == 0, "thread");
}

/* ---- asks ----------------------------------------------------------------
 */

/* Sizes differ, so that a slot is not always filled to the same place. */
static size_t message_of(uint32_t id, uint32_t i, uint32_t *message)
{
    size_t words = 2 + (id + i) % 60;

    message[0] = id;
    for (size_t n = 1; n < words; n++)
        message[n] = i;
    return words * sizeof(*message);
}

static void *post(void *arg)
{
    struct user *user = arg;
    uint32_t message[64];

    for (uint32_t i = 0; i < ASKS; i++) {
        size_t size = message_of(user->id, i, message);

        while (!mi_mailbox_post(user->box, message, size))
            sched_yield();
    }
    return NULL;
}

static void test_post_threads_each_taken_once(void)
{
    static unsigned char got[THREADS][ASKS];
    static uint32_t message[MI_ASK_MAX / 4 + 1], expected[64];
    struct mi_mailbox *box = private_box();
    struct user user[THREADS];
    pthread_t thread[THREADS];
    double end = check_seconds() + PATIENCE;
    int count = 0, right = 0;
    uint32_t seen;
    size_t size;

    for (uint32_t i = 0; i < THREADS; i++) {
        user[i] = (struct user){.box = box, .id = i};
        start(&thread[i], post, &user[i]);
    }
    while (count < THREADS * ASKS && check_seconds() < end) {
        seen = mi_mailbox_kicks(box);
        size = mi_mailbox_take(box, message);
        if (size == 0) {
            mi_mailbox_sleep(box, seen, 200000);
            continue;
        }
        count++;
        if (message[0] >= THREADS || message[1] >= ASKS)
            continue;
        right += size == message_of(message[0], message[1], expected) &&
                 memcmp(message, expected, size) == 0 &&
                 got[message[0]][message[1]]++ == 0;
    }
    CHECK(count == THREADS * ASKS && right == count);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK(mi_mailbox_take(box, message) == 0);
    mi_mailbox_destroy(box);
}

/* ---- waiting ---------------------------------------------------------------
 */

static void *wait_growth(void *arg)
{
    struct user *user = arg;
    double begin = check_seconds();

    mi_mailbox_wait_growth(user->box, user->id, LONG);
    user->waited = check_seconds() - begin;
    return NULL;
}

static int all_wait(void *arg)
{
    return mi_mailbox_waiters(arg) == THREADS;
}

/* All wait for growth; then wake(box) must end that. */
static void expect_woken(void (*wake)(struct mi_mailbox *box))
{
    struct mi_mailbox *box = private_box();
    struct user user[THREADS];
    pthread_t thread[THREADS];

    for (int i = 0; i < THREADS; i++) {
        user[i] = (struct user){.box = box, .id = mi_mailbox_growth(box)};
        start(&thread[i], wait_growth, &user[i]);
    }
    CHECK(check_until(all_wait, box, 10));
    check_sleep(30); /* they have counted themselves; now they sleep */
    wake(box);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        CHECK(user[i].waited < LONG / 2000.0);
    }
    CHECK(mi_mailbox_waiters(box) == 0);
    mi_mailbox_destroy(box);
}

static void end_stream(struct mi_mailbox *box)
{
    mi_mailbox_set_stream(box, MI_STREAM_GONE);
}

static void test_wait_growth_threads_woken(void)
{
    expect_woken(mi_mailbox_grown);
    expect_woken(end_stream);
}

/* Ping-pong: a wake-up that is lost costs a whole time-out. */
static void *answer(void *arg)
{
    struct user *user = arg;
    uint32_t seen = 0, now;

    for (int i = 0; i < ASKS; i++) {
        while ((now = mi_mailbox_kicks(user->box)) == seen)
            mi_mailbox_sleep(user->box, seen, LONG * 1000L);
        seen = now;
        mi_mailbox_grown(user->box);
    }
    return NULL;
}

static void test_kick_and_growth_none_lost(void)
{
    struct mi_mailbox *box = private_box();
    struct user user = {.box = box};
    double begin = check_seconds();
    pthread_t thread;
    uint32_t seen;

    start(&thread, answer, &user);
    for (int i = 0; i < ASKS; i++) {
        seen = mi_mailbox_growth(box);
        mi_mailbox_kick(box);
        while (mi_mailbox_growth(box) == seen)
            mi_mailbox_wait_growth(box, seen, LONG);
    }
    pthread_join(thread, NULL);
    CHECK(check_seconds() - begin < LONG / 2000.0);
    mi_mailbox_destroy(box);
}

static void *sleep_for_ever(void *arg)
{
    struct user *user = arg;
    double begin = check_seconds();

    mi_mailbox_sleep(user->box, user->id, -1);
    user->waited = check_seconds() - begin;
    return NULL;
}

static void test_sleep_without_limit_kicked_awake(void)
{
    struct mi_mailbox *box = private_box();
    struct user user = {.box = box, .id = mi_mailbox_kicks(box)};
    pthread_t thread;

    start(&thread, sleep_for_ever, &user);
    check_sleep(50);
    mi_mailbox_kick(box);
    pthread_join(thread, NULL);
    CHECK(user.waited < 10);
    mi_mailbox_destroy(box);
}

/* ---- what the node knows
 * ---------------------------------------------------- */

static void *be_first(void *arg)
{
    struct user *user = arg;

    for (unsigned bit = 0; bit < 32; bit++)
        user->firsts += (unsigned)mi_mailbox_first(user->box, bit);
    mi_mailbox_set_stream(user->box,
                          user->id % 2 ? MI_STREAM_FULL : MI_STREAM_GONE);
    mi_mailbox_detach(user->box);
    return NULL;
}

static void test_first_detach_stream_threads(void)
{
    struct user user[THREADS];
    pthread_t thread[THREADS];
    unsigned firsts = 0;

    for (int again = 0; again < 20; again++) {
        struct mi_mailbox *box = private_box();

        for (uint32_t i = 0; i < THREADS; i++) {
            user[i] = (struct user){.box = box, .id = i};
            start(&thread[i], be_first, &user[i]);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(thread[i], NULL);
            firsts += user[i].firsts;
        }
        CHECK(firsts == 32u * (unsigned)(again + 1));
        CHECK(mi_mailbox_detached(box) == THREADS);
        CHECK(mi_mailbox_stream(box) == MI_STREAM_GONE);
        mi_mailbox_destroy(box);
    }
}

/* The place of the mirror is set again with every object, while mates read. */
static void *read_mirror(void *arg)
{
    struct user *user = arg;
    const char *path;

    for (int i = 0; i < 100 * ASKS; i++) {
        path = mi_mailbox_mirror(user->box);
        user->firsts += strcmp(path, "/dev/shm/mirror/tree") == 0;
    }
    return NULL;
}

static void test_mirror_set_again_same_place(void)
{
    struct mi_mailbox *box = private_box();
    struct user user = {.box = box};
    pthread_t thread;

    mi_mailbox_set_mirror(box, "/dev/shm/mirror/tree");
    start(&thread, read_mirror, &user);
    for (int i = 0; i < 100 * ASKS; i++)
        mi_mailbox_set_mirror(box, "/dev/shm/mirror/tree");
    pthread_join(thread, NULL);
    CHECK(user.firsts == 100 * ASKS);
    CHECK(strcmp(mi_mailbox_mirror(box), "/dev/shm/mirror/tree") == 0);
    mi_mailbox_destroy(box);
}

int main(void)
{
    test_post_threads_each_taken_once();
    test_wait_growth_threads_woken();
    test_kick_and_growth_none_lost();
    test_sleep_without_limit_kicked_awake();
    test_first_detach_stream_threads();
    test_mirror_set_again_same_place();
    return check_report();
}
