/* Threads of our own: small stacks, all signals blocked (they are the
 * application's), named for debuggers.
 */
#ifndef MI_THREAD_H
#define MI_THREAD_H

#include <pthread.h>

#include "error.h"

/* Start run(arg).  'name' has at most 15 characters. */
int mi_thread_start(pthread_t *thread, const char *name, void *(*run)(void *),
                    void *arg, struct mi_error *err);

#endif
