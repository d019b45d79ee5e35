/* Threads of our own: small stacks, all signals blocked (they are the
 * application's), named for debuggers.
 */
#ifndef MI_THREAD_H
#define MI_THREAD_H

#include <pthread.h>

#include "error.h"

struct mi_thread {
    pthread_t id;
    void *stack;
};

/* Start run(arg).  'name' has at most 15 characters. */
int mi_thread_start(struct mi_thread *thread, const char *name,
                    void *(*run)(void *), void *arg, struct mi_error *err);
/* Give back what its stack has used, but does not now; by the thread itself.
 */
void mi_thread_shed(const struct mi_thread *thread);
/* Wait for its end, and give its stack's memory back, which the C library
 * would keep for other threads.
 */
void mi_thread_join(struct mi_thread *thread);

#endif
