/* abi: the values of one MPI ABI family.
 *
 * MPICH's are fixed ints since its ABI initiative, the standard's since MPI-5
 * (chapter 20); Open MPI's handles are addresses in the library.
 */
#ifndef MPIMIN_ABI_H
#define MPIMIN_ABI_H

#include <stddef.h>
#include <stdint.h>

#include "mpimin.h"

struct mpimin_abi {
    uintptr_t comm_world;
    uintptr_t comm_self;
    uintptr_t comm_null;
    uintptr_t byte;
    uintptr_t int64;
    uintptr_t max;
    uintptr_t info_null;
    uintptr_t request_null;
    uintptr_t errors_return;
    int any_source;
    int comm_type_shared;
    int err_other;
    int thread[4];        /* by enum mpimin_thread */
    size_t status_source; /* offset of MPI_SOURCE in MPI_Status, bytes */
};

/* Fill 'abi' for 'family', which is not MPIMIN_NONE.  'handle' is the
 * dlopen(3) handle of 'library', where Open MPI's addresses are looked up: if
 * one is missing, that is MI_ERRNO, ELIBBAD with its name.  Local.
 */
int mpimin_abi_fill(struct mpimin_abi *abi, enum mpimin_family family,
                    void *handle, const char *library, struct mi_error *err);

/* MPIMIN_THREAD_* for a thread level of the library; a level between two of
 * them counts as the lower one.
 */
enum mpimin_thread mpimin_abi_thread(const struct mpimin_abi *abi, int level);

#endif
