#include "thread.h"

#include <signal.h>
#include <string.h>

#define STACK (512u << 10) /* bytes; MPI libraries run on it, too */

int mi_thread_start(pthread_t *thread, const char *name, void *(*run)(void *),
                    void *arg, struct mi_error *err)
{
    pthread_attr_t attributes;
    sigset_t all, old;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(thread, &attributes, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    if (rc != 0)
        return mi_fail(err, MI_ERRNO, rc, "cannot start the thread %s: %s",
                       name, strerror(rc));
    pthread_setname_np(*thread, name);
    return 0;
}
