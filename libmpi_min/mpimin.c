/* mpimin: the handle; initialisation and finalisation. */
#include "mpimin.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "handle.h"
#include "solo.h"
#include "tick.h"

static int is_solo(const struct mpimin *mpi)
{
    return mpi->library.family == MPIMIN_NONE;
}

/* ---- library ------------------------------------------------------------ */

static int fill(struct mpimin *mpi, struct mi_error *err)
{
    if (is_solo(mpi)) {
        mpimin_solo_fill(&mpi->abi, &mpi->calls);
        return 0;
    }
    mpi->calls = mpi->library.calls;
    return mpimin_abi_fill(&mpi->abi, mpi->library.family, mpi->library.handle,
                           mpi->library.name, err);
}

int mpimin_open(struct mpimin **mpi, const char *which, const char *libdir,
                const struct mpimin_promise *promise, struct mi_error *err)
{
    struct mpimin *made;

    if (!mpi || !promise)
        return mi_fail(err, MI_ERRNO, EINVAL, "mpimin_open: NULL argument");
    made = calloc(1, sizeof(*made));
    if (!made)
        return mi_fail(err, MI_ERRNO, ENOMEM, "no memory for an MPI handle");
    if (mpimin_library_find(&made->library, which, libdir, promise, err) < 0 ||
        fill(made, err) < 0) {
        mpimin_close(made);
        return -1;
    }
    made->pid = getpid();
    made->message_max = INT_MAX;
    atomic_init(&made->ready, 0);
    *mpi = made;
    return 0;
}

void mpimin_close(struct mpimin *mpi)
{
    int saved = errno;

    if (!mpi)
        return;
    if (mpi->hook && is_solo(mpi))
        free(mpi->hook);
    else if (mpi->hook)
        mpi->hook->mpi = NULL;
    mpimin_library_clear(&mpi->library);
    free(mpi);
    errno = saved;
}

enum mpimin_family mpimin_family(const struct mpimin *mpi)
{
    return mpi ? mpi->library.family : MPIMIN_NONE;
}

const char *mpimin_library(const struct mpimin *mpi)
{
    return mpi && mpi->library.name ? mpi->library.name : "";
}

const char *mpimin_version(const struct mpimin *mpi)
{
    return mpi && mpi->library.version ? mpi->library.version : "no MPI";
}

size_t mpimin_message_max(const struct mpimin *mpi)
{
    return mpi ? mpi->message_max : 0;
}

void mpimin_set_message_max(struct mpimin *mpi, size_t bytes)
{
    if (mpi)
        mpi->message_max = bytes && bytes < INT_MAX ? bytes : INT_MAX;
}

double mpimin_wtime(struct mpimin *mpi)
{
    struct timespec now;

    (void)mpi;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- checks ------------------------------------------------------------- */

int mpimin_check(const struct mpimin *mpi, mpimin_comm comm, const char *call,
                 struct mi_error *err)
{
    if (!mpi)
        return mi_fail(err, MI_ERRNO, EINVAL, "%s: no MPI handle", call);
    if (!atomic_load_explicit(&mpi->ready, memory_order_acquire))
        return mi_fail(err, MI_ERRNO, EINVAL,
                       "%s: MPI is not initialised or already finalised",
                       call);
    if (!comm)
        return mi_fail(err, MI_ERRNO, EINVAL, "%s: no communicator", call);
    return 0;
}

/* MPICH's texts have a line for every function on the stack. */
static void join_lines(char *text)
{
    char *end = text + strlen(text);

    while (end > text && end[-1] == '\n')
        *--end = '\0';
    for (; *text; text++) {
        if (*text == '\n')
            *text = ' ';
    }
}

int mpimin_check_code(const struct mpimin *mpi, int code, const char *call,
                      struct mi_error *err)
{
    char text[8192 + 1] = "";
    int length = 0;
    int class = 0;

    if (code == 0)
        return 0;
    if (mpi->calls.error_class(code, &class) != 0)
        class = mpi->abi.err_other;
    if (mpi->calls.error_string(code, text, &length) != 0 || !text[0])
        return mi_fail(err, MI_MPI, class, "%s: error code %d", call, code);
    join_lines(text);
    return mi_fail(err, MI_MPI, class, "%s: %s", call, text);
}

static int check_process(const struct mpimin *mpi, const char *call,
                         struct mi_error *err)
{
    if (!mpi)
        return mi_fail(err, MI_ERRNO, EINVAL, "%s: no MPI handle", call);
    if (mpi->pid != getpid())
        return mi_fail(err, MI_ERRNO, EPERM,
                       "%s: MPI belongs to the parent of this forked child",
                       call);
    return 0;
}

/* ---- initialise --------------------------------------------------------- */

int mpimin_initialized(struct mpimin *mpi, int *flag, struct mi_error *err)
{
    int found = 0;

    if (!mpi || !flag)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Initialized: no handle");
    if (is_solo(mpi))
        found = mpi->solo_initialized;
    else if (mpimin_check_code(mpi, mpi->calls.initialized(&found),
                               "MPI_Initialized", err) < 0)
        return -1;
    *flag = found != 0;
    return 0;
}

int mpimin_finalized(struct mpimin *mpi, int *flag, struct mi_error *err)
{
    int found = 0;

    if (!mpi || !flag)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Finalized: no handle");
    if (is_solo(mpi))
        found = mpi->solo_finalized;
    else if (mpimin_check_code(mpi, mpi->calls.finalized(&found),
                               "MPI_Finalized", err) < 0)
        return -1;
    *flag = found != 0;
    return 0;
}

/* The threads that MPI starts inherit what is blocked: a signal that the
 * program blocks later must not find one of them to end the process by.
 * Returns what was blocked before.
 */
static sigset_t block_signals(void)
{
    static const int own[] = {SIGSEGV, SIGBUS,  SIGFPE,
                              SIGILL,  SIGABRT, SIGTRAP};
    sigset_t set, before;

    sigfillset(&set);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_SETMASK, &set, &before);
    return before;
}

/* Bring MPI up, or find out its thread level if it is up. */
static int start(struct mpimin *mpi, enum mpimin_thread required, int ranks,
                 int *level, int *ours, struct mi_error *err)
{
    int is_up = 0;
    int rc;

    if (mpimin_initialized(mpi, &is_up, err) < 0)
        return -1;
    if (is_solo(mpi)) {
        if (!is_up)
            *level = mpi->abi.thread[required];
        else
            *level = mpi->abi.thread[MPIMIN_THREAD_MULTIPLE];
        mpi->solo_initialized = 1;
    } else if (is_up) {
        rc = mpi->calls.query_thread(level);
        if (mpimin_check_code(mpi, rc, "MPI_Query_thread", err) < 0)
            return -1;
    } else {
        sigset_t before = block_signals();
        struct mpimin_tick tick;

        mpimin_library_share(&mpi->library);
        mpimin_tick_start(&tick, ranks);
        rc = mpi->calls.init_thread(NULL, NULL, mpi->abi.thread[required],
                                    level);
        mpimin_tick_stop(&tick);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (mpimin_check_code(mpi, rc, "MPI_Init_thread", err) < 0)
            return -1;
    }
    *ours = !is_up;
    return 0;
}

/* A library that does not know the launcher's protocol starts as a world of
 * one in every process, silently.
 */
static int check_promise(struct mpimin *mpi,
                         const struct mpimin_promise *promise,
                         struct mi_error *err)
{
    const char *version = mpimin_version(mpi);
    int size;

    if (is_solo(mpi) || !promise->certain || promise->size <= 1)
        return 0;
    if (mpimin_comm_size(mpi, mpi->abi.comm_world, &size, err) < 0)
        return -1;
    if (size > 1)
        return 0;
    return mi_fail(err, MI_MPI, mpi->abi.err_other,
                   "%s started %d ranks, but the MPI library %s (%.*s) finds "
                   "itself alone in each: it does not fit this launcher. Use "
                   "that library's own mpiexec, or another library "
                   "with " MPIMIN_WAY_OUT,
                   promise->launcher, promise->size, mpi->library.name,
                   (int)strcspn(version, ","), version);
}

int mpimin_init(struct mpimin *mpi, enum mpimin_thread required,
                const struct mpimin_promise *promise,
                enum mpimin_thread *provided, int *ours, struct mi_error *err)
{
    int finalized;
    int level = 0;
    int started = 0;

    if (!mpi || !promise || !provided || !ours ||
        (int)required < MPIMIN_THREAD_SINGLE ||
        required > MPIMIN_THREAD_MULTIPLE)
        return mi_fail(err, MI_ERRNO, EINVAL, "mpimin_init: bad argument");
    if (!atomic_load(&mpi->ready))
        mpi->pid = getpid();
    if (check_process(mpi, "MPI_Init_thread", err) < 0 ||
        mpimin_finalized(mpi, &finalized, err) < 0)
        return -1;
    if (finalized)
        return mi_fail(err, MI_ERRNO, EINVAL,
                       "MPI_Init_thread: MPI is finalised already");
    if (start(mpi, required, promise->local_size, &level, &started, err) < 0)
        return -1;
    atomic_store_explicit(&mpi->ready, 1, memory_order_release);
    if (check_promise(mpi, promise, err) < 0)
        return -1;
    *provided = mpimin_abi_thread(&mpi->abi, level);
    *ours = started;
    return 0;
}

/* ---- finalise ----------------------------------------------------------- */

static void hook_run(struct mpimin_hook *hook)
{
    if (hook->pid == getpid())
        hook->fn(hook->arg);
    if (hook->mpi) {
        atomic_store_explicit(&hook->mpi->ready, 0, memory_order_release);
        hook->mpi->hook = NULL;
    }
    free(hook);
}

/* The attribute does not travel to copies of MPI_COMM_SELF.  A function of
 * our own, because Open MPI has no NULL for it.
 */
static int attribute_copy(uintptr_t comm, int keyval, void *extra,
                          void *value_in, void *value_out, int *flag)
{
    (void)comm;
    (void)keyval;
    (void)extra;
    (void)value_in;
    (void)value_out;
    *flag = 0;
    return 0;
}

static int attribute_delete(uintptr_t comm, int keyval, void *value,
                            void *extra)
{
    (void)comm;
    (void)keyval;
    (void)extra;
    hook_run(value);
    return 0;
}

/* Give 'hook' to MPI.  The key is freed at once: MPI keeps it until the
 * attribute is deleted.
 */
static int attribute_set(struct mpimin *mpi, struct mpimin_hook *hook,
                         struct mi_error *err)
{
    int keyval = 0;
    int rc;

    rc = mpi->calls.comm_create_keyval(attribute_copy, attribute_delete,
                                       &keyval, NULL);
    if (mpimin_check_code(mpi, rc, "MPI_Comm_create_keyval", err) < 0)
        return -1;
    rc = mpi->calls.comm_set_attr(mpi->abi.comm_self, keyval, hook);
    if (mpimin_check_code(mpi, rc, "MPI_Comm_set_attr", err) < 0) {
        mpi->calls.comm_free_keyval(&keyval);
        return -1;
    }
    /* A key that cannot be freed does no harm. */
    (void)mpi->calls.comm_free_keyval(&keyval);
    return 0;
}

int mpimin_on_finalize(struct mpimin *mpi, void (*fn)(void *arg), void *arg,
                       struct mi_error *err)
{
    struct mpimin_hook *hook;

    if (mpimin_check(mpi, 1, "mpimin_on_finalize", err) < 0)
        return -1;
    if (!fn || mpi->hooked)
        return mi_fail(err, MI_ERRNO, EINVAL,
                       "mpimin_on_finalize: no function, or a second one");
    hook = calloc(1, sizeof(*hook));
    if (!hook)
        return mi_fail(err, MI_ERRNO, ENOMEM, "no memory for a callback");
    hook->fn = fn;
    hook->arg = arg;
    hook->pid = getpid();
    hook->mpi = mpi;
    if (!is_solo(mpi) && attribute_set(mpi, hook, err) < 0) {
        free(hook);
        return -1;
    }
    mpi->hook = hook;
    mpi->hooked = 1;
    return 0;
}

int mpimin_finalize(struct mpimin *mpi, struct mi_error *err)
{
    int is_up = 0;
    int is_over = 0;
    int rc = 0;

    if (check_process(mpi, "MPI_Finalize", err) < 0 ||
        mpimin_initialized(mpi, &is_up, err) < 0 ||
        mpimin_finalized(mpi, &is_over, err) < 0)
        return -1;
    if (!is_up || is_over)
        return 0;
    if (!is_solo(mpi))
        rc = mpi->calls.finalize();
    else if (mpi->hook)
        hook_run(mpi->hook);
    mpi->solo_finalized = 1;
    atomic_store_explicit(&mpi->ready, 0, memory_order_release);
    return mpimin_check_code(mpi, rc, "MPI_Finalize", err);
}

void mpimin_abort(struct mpimin *mpi, int status)
{
    int is_up = 0;
    int is_over = 0;

    if (mpi && !is_solo(mpi) && mpi->pid == getpid() &&
        mpimin_initialized(mpi, &is_up, NULL) == 0 && is_up &&
        mpimin_finalized(mpi, &is_over, NULL) == 0 && !is_over)
        mpi->calls.abort(mpi->abi.comm_world, status);
    _exit(status);
}
