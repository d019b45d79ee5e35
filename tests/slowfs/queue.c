#include "queue.h"

#include <errno.h>

#define SECOND 1000000000

int64_t slow_queue_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

int64_t slow_queue_take(struct slow_queue *queue, int64_t time,
                        int64_t service)
{
    int64_t start = time, end;

    pthread_mutex_lock(&queue->lock);
    if (queue->free_at > start)
        start = queue->free_at;
    end = queue->free_at = start + service;
    queue->busy += service;
    pthread_mutex_unlock(&queue->lock);
    return end;
}

struct timespec slow_queue_timespec(int64_t time)
{
    return (struct timespec){
        .tv_sec = time / SECOND,
        .tv_nsec = time % SECOND,
    };
}

void slow_queue_sleep(int64_t time)
{
    struct timespec t = slow_queue_timespec(time);

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        continue;
}

int64_t slow_queue_busy(struct slow_queue *queue)
{
    int64_t busy;

    pthread_mutex_lock(&queue->lock);
    busy = queue->busy;
    pthread_mutex_unlock(&queue->lock);
    return busy;
}

void slow_queue_reset(struct slow_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->busy = 0;
    pthread_mutex_unlock(&queue->lock);
}
