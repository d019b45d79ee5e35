/* Pool: the threads of the reader, and what they are to do.
 *
 * Messages of two kinds: asks, for which somebody waits; and what is read
 * ahead, whenever there is no ask.  Threads are started as there is something
 * to do for them, as long as it makes sense to have one more (pace.h).  When
 * there has been nothing for a while, all but one end, and the memory that
 * they took is given back.
 *
 * Part of the reader.  Thread-safe.
 */
#ifndef MI_POOL_H
#define MI_POOL_H

#include <stddef.h>

#include "error.h"
#include "mailbox.h"
#include "pace.h"
#include "queue.h"

struct mi_pool;

/* All is borrowed and outlives the pool. */
struct mi_pool_config {
    int threads; /* at most; 0: nothing can be queued */
    int least;   /* make sense in any case; at least 1 */
    int keep;    /* the threads free what they read: mi_block_keep() */
    struct mi_mailbox *mailbox; /* kicked when mi_pool_settle() comes to 0 */
    /* Do what a message says, in a thread of the pool; 'asked': it was put by
     * mi_pool_ask().
     */
    void (*work)(void *arg, const void *message, size_t size, int asked);
    /* There has been something to do, and now nothing for a while.  Called in
     * the last thread of the pool.
     */
    void (*rest)(void *arg);
    void *arg;
};

int mi_pool_create(struct mi_pool **pool, const struct mi_pool_config *config,
                   struct mi_error *err);
/* Have the threads end when they are done with what they have begun.  NULL is
 * allowed.
 */
void mi_pool_stop(struct mi_pool *pool);
/* The same, wait for them, and free.  NULL is allowed. */
void mi_pool_destroy(struct mi_pool *pool);

/* Queue an ask, unless the same one is waiting. */
int mi_pool_ask(struct mi_pool *pool, const void *message, size_t size,
                struct mi_error *err);
/* Queue what is to be done ahead, last. */
int mi_pool_ahead(struct mi_pool *pool, const void *message, size_t size,
                  struct mi_error *err);
/* Queue 'count' messages, which are all of 'queue', before all else that is to
 * be done ahead.  'queue' is empty then.
 */
void mi_pool_ahead_first(struct mi_pool *pool, struct mi_queue *queue,
                         int count);
/* Forget what was to be done ahead.  Returns the number of asks that wait, and
 * of messages that are being worked at.
 */
int mi_pool_settle(struct mi_pool *pool);

/* Use one thread only, and let none end, or (0, as at first) use as many as
 * make sense.
 */
void mi_pool_hold(struct mi_pool *pool, int hold);

/* Nothing more will be queued: the threads end as soon as all is done. */
void mi_pool_complete(struct mi_pool *pool);

/* How an answer was made, in a thread of the pool. */
void mi_pool_pace(struct mi_pool *pool, const struct mi_lap *lap);

#endif
