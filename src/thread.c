#include "thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__ /* whose own part is large */
#define STACK (8u << 20)
#else
#define STACK (512u << 10) /* bytes; MPI libraries run on it, too */
#endif
/* Bytes below it that cannot be used: one of the largest pages there are. */
#define GUARD (64u << 10)

static int create(struct mi_thread *thread, void *(*run)(void *), void *arg)
{
    pthread_attr_t attributes;
    int rc;

    pthread_attr_init(&attributes);
    rc = pthread_attr_setstack(&attributes, (char *)thread->stack + GUARD,
                               STACK);
    if (rc == 0)
        rc = pthread_create(&thread->id, &attributes, run, arg);
    pthread_attr_destroy(&attributes);
    return rc;
}

/* Both return an errno value. */
static int start(struct mi_thread *thread, void *(*run)(void *), void *arg)
{
    char *stack = mmap(NULL, GUARD + STACK, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    int rc;

    if (stack == MAP_FAILED)
        return errno;
    thread->stack = stack;
    if (mprotect(stack + GUARD, STACK, PROT_READ | PROT_WRITE) != 0)
        rc = errno;
    else
        rc = create(thread, run, arg);
    if (rc != 0)
        munmap(stack, GUARD + STACK);
    return rc;
}

int mi_thread_start(struct mi_thread *thread, const char *name,
                    void *(*run)(void *), void *arg, struct mi_error *err)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = start(thread, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return mi_fail(err, MI_ERRNO, rc, "cannot start the thread %s: %s",
                       name, strerror(rc));
    pthread_setname_np(thread->id, name);
    return 0;
}

void mi_thread_shed(const struct mi_thread *thread)
{
    char *bottom = (char *)thread->stack + GUARD;
    char *here = __builtin_frame_address(0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t unused = (size_t)(here - bottom) / page * page;

    /* Not the page where this is going on. */
    if (unused > page)
        (void)madvise(bottom, unused - page, MADV_DONTNEED);
}

void mi_thread_join(struct mi_thread *thread)
{
    pthread_join(thread->id, NULL);
    munmap(thread->stack, GUARD + STACK);
}
