/* A server that does one thing at a time, on a clock of its own.
 *
 * Nothing is served here: a queue only tells when a request would have been
 * done.  Times are nanoseconds of CLOCK_MONOTONIC.  All calls are
 * thread-safe.
 */
#ifndef SLOW_QUEUE_H
#define SLOW_QUEUE_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

struct slow_queue {
    pthread_mutex_t lock;
    int64_t free_at; /* when the server has done all that it was given */
    int64_t busy;    /* nanoseconds of service since the last reset */
};
#define SLOW_QUEUE_INIT                                                       \
    {                                                                         \
        PTHREAD_MUTEX_INITIALIZER, 0, 0                                       \
    }

int64_t slow_queue_now(void);

/* 'time' as the system's functions want it. */
struct timespec slow_queue_timespec(int64_t time);

/* Give the server, at 'time', something that takes it 'service' nanoseconds;
 * return when it is done with that.
 */
int64_t slow_queue_take(struct slow_queue *queue, int64_t time,
                        int64_t service);

/* Sleep until 'time' has come; signals do not end it early. */
void slow_queue_sleep(int64_t time);

/* Return how long the server was busy since the last reset. */
int64_t slow_queue_busy(struct slow_queue *queue);
void slow_queue_reset(struct slow_queue *queue);

#endif
