/* calls: the functions of an MPI library, found by name at run time.
 *
 * The prototypes hold for all ABI families: a handle is a uintptr_t.  The
 * MPICH ABI's handles are ints; they are passed zero-extended, and read back
 * through variables that were zero before the call.  That is correct where an
 * int argument occupies the low half of a register whose high half is free,
 * and where the low half comes first in memory: x86-64 and AArch64.
 */
#ifndef MPIMIN_CALLS_H
#define MPIMIN_CALLS_H

#include <stdint.h>

#include "error.h"

/* As large as the largest MPI_Status of all families (bytes). */
struct mpimin_status {
    _Alignas(8) unsigned char bytes[32];
};

/* Callbacks of an attribute, MPI-4.1 section 7.7.2.  Their first argument may
 * have been passed as an int: its high half means nothing.
 */
typedef int mpimin_copy_fn(uintptr_t comm, int keyval, void *extra,
                           void *value_in, void *value_out, int *flag);
typedef int mpimin_delete_fn(uintptr_t comm, int keyval, void *value,
                             void *extra);

struct mpimin_calls {
    int (*init_thread)(int *argc, char ***argv, int required, int *provided);
    int (*query_thread)(int *provided);
    int (*initialized)(int *flag);
    int (*finalized)(int *flag);
    int (*finalize)(void);
    int (*abort)(uintptr_t comm, int status);
    int (*get_library_version)(char *text, int *length);
    int (*error_class)(int code, int *class);
    int (*error_string)(int code, char *text, int *length);
    int (*comm_rank)(uintptr_t comm, int *rank);
    int (*comm_size)(uintptr_t comm, int *size);
    int (*comm_idup)(uintptr_t comm, uintptr_t *result, uintptr_t *request);
    int (*comm_group)(uintptr_t comm, uintptr_t *group);
    int (*group_incl)(uintptr_t group, int count, const int *ranks,
                      uintptr_t *result);
    int (*group_free)(uintptr_t *group);
    int (*comm_create_group)(uintptr_t comm, uintptr_t group, int tag,
                             uintptr_t *result);
    int (*comm_split_type)(uintptr_t comm, int type, int key, uintptr_t info,
                           uintptr_t *result);
    int (*comm_free)(uintptr_t *comm);
    int (*comm_set_errhandler)(uintptr_t comm, uintptr_t handler);
    int (*comm_create_keyval)(mpimin_copy_fn *copy, mpimin_delete_fn *delete,
                              int *keyval, void *extra);
    int (*comm_free_keyval)(int *keyval);
    int (*comm_set_attr)(uintptr_t comm, int keyval, void *value);
    int (*ibcast)(void *buffer, int count, uintptr_t type, int root,
                  uintptr_t comm, uintptr_t *request);
    int (*igather)(const void *mine, int count, uintptr_t type, void *all,
                   int each, uintptr_t each_type, int root, uintptr_t comm,
                   uintptr_t *request);
    int (*iscatter)(const void *all, int each, uintptr_t each_type, void *mine,
                    int count, uintptr_t type, int root, uintptr_t comm,
                    uintptr_t *request);
    int (*ibarrier)(uintptr_t comm, uintptr_t *request);
    int (*iallreduce)(const void *mine, void *result, int count,
                      uintptr_t type, uintptr_t op, uintptr_t comm,
                      uintptr_t *request);
    int (*isend)(const void *buffer, int count, uintptr_t type, int dest,
                 int tag, uintptr_t comm, uintptr_t *request);
    int (*irecv)(void *buffer, int count, uintptr_t type, int source, int tag,
                 uintptr_t comm, uintptr_t *request);
    int (*iprobe)(int source, int tag, uintptr_t comm, int *flag,
                  struct mpimin_status *status);
    int (*get_count)(const struct mpimin_status *status, uintptr_t type,
                     int *count);
    int (*test)(uintptr_t *request, int *flag, struct mpimin_status *status);
};

/* Fill 'calls' from the dlopen(3) handle 'handle'.  On failure (MI_ERRNO,
 * ELIBBAD) the text names 'library' and every function that it lacks.  Local.
 */
int mpimin_calls_load(struct mpimin_calls *calls, void *handle,
                      const char *library, struct mi_error *err);

#endif
