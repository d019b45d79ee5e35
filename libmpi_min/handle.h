/* handle: what is inside a struct mpimin, for the files of this library. */
#ifndef MPIMIN_HANDLE_H
#define MPIMIN_HANDLE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "abi.h"
#include "calls.h"
#include "library.h"
#include "mpimin.h"

/* A function to be called in MPI_Finalize.  It belongs to an attribute of
 * MPI_COMM_SELF, which may outlive the handle.
 */
struct mpimin_hook {
    void (*fn)(void *arg);
    void *arg;
    pid_t pid;          /* a forked child does not call it */
    struct mpimin *mpi; /* NULL once the handle is closed */
};

/* 'ready' is 1 from mpimin_init() until MPI is known to be finalised: only
 * then may communication be called.  Other threads read it.
 */
struct mpimin {
    struct mpimin_library library;
    struct mpimin_abi abi;
    struct mpimin_calls calls; /* the library's, or those of "solo" */
    size_t message_max;
    atomic_int ready;
    int hooked;               /* mpimin_on_finalize() was called */
    struct mpimin_hook *hook; /* NULL when it has run */
    int solo_initialized;     /* the world of one's own state */
    int solo_finalized;
    pid_t pid; /* that opened the handle */
};

/* 0 if 'call' may be made on 'comm' now; else -1 with EINVAL. */
int mpimin_check(const struct mpimin *mpi, mpimin_comm comm, const char *call,
                 struct mi_error *err);

/* 0 for MPI_SUCCESS; else -1 with the class and the text of MPI's error code
 * 'code', which 'call' ("MPI_Ibcast") has returned.
 */
int mpimin_check_code(const struct mpimin *mpi, int code, const char *call,
                      struct mi_error *err);

#endif
