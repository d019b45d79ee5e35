#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "block.h"
#include "clock.h"
#include "thread.h"

#define LINGER 50000000 /* nanoseconds that a thread waits for more to do */

struct slot {
    struct mi_pool *pool;
    struct mi_thread thread;
    enum { FREE, RUNS, ENDS } state;
};

struct mi_pool {
    struct mi_pool_config config;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t put, gone;
    struct mi_queue asks, aheads;
    int pending; /* asks that are queued, and all that is being answered */
    int queued;  /* asks and what is read ahead */
    int idle;    /* threads that wait for these */
    int worked;  /* anything has been done since config.rest() */
    int stopped;
    int hold;     /* one thread is enough; none ends */
    int complete; /* threads end as soon as there is nothing to do */
    struct mi_pace pace;
    int sensible; /* threads: grows with each answer that had one wait */
    int threads;  /* that run */
    struct slot slots[];
};

static void *pool_thread(void *arg);

/* A slot without a thread; the threads that have ended are waited for. */
static struct slot *free_slot(struct mi_pool *pool)
{
    struct slot *found = NULL;

    for (int i = 0; i < pool->config.threads; i++) {
        struct slot *slot = &pool->slots[i];

        if (slot->state == ENDS) {
            mi_thread_join(&slot->thread);
            slot->state = FREE;
        }
        if (slot->state == FREE)
            found = slot;
    }
    return found;
}

/* Have one more thread if something waits for one, and those that there are
 * mostly wait for the filesystem.  With the lock.
 */
static int add_thread(struct mi_pool *pool, struct mi_error *err)
{
    struct slot *slot;

    if (pool->stopped || pool->threads == pool->config.threads ||
        pool->queued <= pool->idle)
        return 0;
    if (pool->threads > 0 && (pool->hold || pool->threads >= pool->sensible))
        return 0;
    slot = free_slot(pool);
    slot->pool = pool;
    if (mi_thread_start(&slot->thread, "mpiimport-read", pool_thread, slot,
                        err) == 0) {
        slot->state = RUNS;
        pool->threads++;
    }
    return pool->threads > 0 ? 0 : -1;
}

/* With the lock, which is free for a while. */
static void work(struct mi_pool *pool, struct mi_item *item, int asked)
{
    pool->queued--;
    pool->pending += !asked;
    pool->worked = 1;
    pthread_mutex_unlock(&pool->lock);
    mi_block_keep(pool->config.keep);
    pool->config.work(pool->config.arg, item->message, item->size, asked);
    free(item);
    pthread_mutex_lock(&pool->lock);
    add_thread(pool, NULL);
    if (--pool->pending == 0)
        mi_mailbox_kick(pool->config.mailbox); /* the end may be due */
}

/* There is nothing to do for the only thread.  With the lock, which is free
 * meanwhile.
 */
static void rest(struct slot *slot)
{
    struct mi_pool *pool = slot->pool;

    pool->worked = 0;
    free_slot(pool);
    pthread_mutex_unlock(&pool->lock);
    mi_block_keep(0);
    pool->config.rest(pool->config.arg);
    mi_thread_shed(&slot->thread);
    pthread_mutex_lock(&pool->lock);
}

/* Returns 0 when there was nothing to do for a while.  With the lock. */
static int wait_a_while(struct mi_pool *pool)
{
    const uint64_t end = mi_clock_now() + LINGER;
    const struct timespec until = {.tv_sec = (time_t)(end / 1000000000),
                                   .tv_nsec = (long)(end % 1000000000)};
    int rc;

    pool->idle++;
    rc = pool->hold || (pool->threads == 1 && !pool->worked)
             ? pthread_cond_wait(&pool->put, &pool->lock)
             : pthread_cond_timedwait(&pool->put, &pool->lock, &until);
    pool->idle--;
    return rc == 0 || pool->hold || pool->queued > 0;
}

/* Wait for something to do; 0: this thread is not needed any more.  The last
 * one stays, unless all is complete: later there might be none to be had.
 * With the lock.
 */
static int wait_for_work(struct slot *slot)
{
    struct mi_pool *pool = slot->pool;

    if (!pool->complete && wait_a_while(pool))
        return 1;
    if (pool->threads > 1)
        return 0;
    if (pool->worked)
        rest(slot);
    return !pool->complete;
}

static void *pool_thread(void *arg)
{
    struct slot *slot = arg;
    struct mi_pool *pool = slot->pool;
    struct mi_item *item;
    int asked;

    pthread_mutex_lock(&pool->lock);
    while (!pool->stopped) {
        asked = pool->asks.head != NULL;
        item = mi_queue_take(asked ? &pool->asks : &pool->aheads);
        if (item)
            work(pool, item, asked);
        else if (!wait_for_work(slot))
            break;
    }
    mi_block_keep(0);
    mi_thread_shed(&slot->thread);
    free_slot(pool);
    slot->state = ENDS;
    if (--pool->threads == 0)
        pthread_cond_signal(&pool->gone);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Put a message into one of the two queues.  With the lock. */
static int put_locked(struct mi_pool *pool, struct mi_queue *queue,
                      const void *message, size_t size, struct mi_error *err)
{
    if (pool->config.threads == 0)
        return mi_fail(err, MI_ERRNO, EINVAL, "this reader has no threads");
    pool->queued++;
    if (add_thread(pool, err) != 0 ||
        mi_queue_put(queue, message, size) != 0) {
        pool->queued--;
        return pool->threads ? mi_fail_errno(err, "reader") : -1;
    }
    pool->pending += queue == &pool->asks;
    pthread_cond_signal(&pool->put);
    return 0;
}

int mi_pool_ask(struct mi_pool *pool, const void *message, size_t size,
                struct mi_error *err)
{
    int rc;

    pthread_mutex_lock(&pool->lock);
    rc = mi_queue_has(&pool->asks, message, size)
             ? 0
             : put_locked(pool, &pool->asks, message, size, err);
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

int mi_pool_ahead(struct mi_pool *pool, const void *message, size_t size,
                  struct mi_error *err)
{
    int rc;

    pthread_mutex_lock(&pool->lock);
    rc = put_locked(pool, &pool->aheads, message, size, err);
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

void mi_pool_ahead_first(struct mi_pool *pool, struct mi_queue *queue,
                         int count)
{
    struct mi_error err;

    pthread_mutex_lock(&pool->lock);
    if (!pool->stopped)
        mi_queue_put_first(&pool->aheads, queue);
    for (; !pool->stopped && count > 0; count--) {
        pool->queued++;
        if (add_thread(pool, &err) == 0)
            pthread_cond_signal(&pool->put);
    }
    pthread_mutex_unlock(&pool->lock);
    mi_queue_clear(queue);
}

int mi_pool_settle(struct mi_pool *pool)
{
    struct mi_item *item;
    int pending;

    pthread_mutex_lock(&pool->lock);
    for (; (item = mi_queue_take(&pool->aheads)); free(item))
        pool->queued--;
    pending = pool->pending;
    pthread_mutex_unlock(&pool->lock);
    return pending;
}

void mi_pool_hold(struct mi_pool *pool, int hold)
{
    int before;

    pthread_mutex_lock(&pool->lock);
    pool->hold = hold;
    pthread_cond_broadcast(&pool->put); /* who waits waits otherwise */
    do {
        before = pool->threads;
        add_thread(pool, NULL);
    } while (pool->threads > before);
    pthread_mutex_unlock(&pool->lock);
}

void mi_pool_complete(struct mi_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->complete = 1;
    pthread_cond_broadcast(&pool->put);
    pthread_mutex_unlock(&pool->lock);
}

void mi_pool_pace(struct mi_pool *pool, const struct mi_lap *lap)
{
    int most;

    pthread_mutex_lock(&pool->lock);
    most = pool->hold ? pool->config.threads : 2 * pool->threads;
    if (mi_pace_add(&pool->pace, lap) && pool->sensible < most &&
        mi_lap_slept(lap))
        pool->sensible++;
    pthread_mutex_unlock(&pool->lock);
}

int mi_pool_create(struct mi_pool **result,
                   const struct mi_pool_config *config, struct mi_error *err)
{
    struct mi_pool *pool = calloc(
        1, sizeof(*pool) + sizeof(struct slot) * (size_t)config->threads);
    pthread_condattr_t monotonic;

    if (!pool)
        return mi_fail_errno(err, "reader");
    pool->config = *config;
    pool->sensible = config->least;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->put, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&pool->gone, NULL);
    mi_queue_init(&pool->asks);
    mi_queue_init(&pool->aheads);
    *result = pool;
    return 0;
}

void mi_pool_stop(struct mi_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopped = 1;
    pthread_cond_broadcast(&pool->put);
    pthread_mutex_unlock(&pool->lock);
}

void mi_pool_destroy(struct mi_pool *pool)
{
    if (!pool)
        return;
    mi_pool_stop(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->threads > 0)
        pthread_cond_wait(&pool->gone, &pool->lock);
    free_slot(pool);
    pthread_mutex_unlock(&pool->lock);
    mi_queue_clear(&pool->asks);
    mi_queue_clear(&pool->aheads);
    pthread_cond_destroy(&pool->put);
    pthread_cond_destroy(&pool->gone);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
