/* library: finding and opening an MPI library. */
#ifndef MPIMIN_LIBRARY_H
#define MPIMIN_LIBRARY_H

#include "calls.h"
#include "mpimin.h"

/* How the user chooses another library, for error texts. */
#define MPIMIN_WAY_OUT "-I mpich|openmpi|intel|abi|PATH or PYTHON_MPI_MPI"

struct mpimin_library {
    enum mpimin_family family; /* MPIMIN_NONE: no library, the rest unset */
    void *handle;              /* dlopen(3)'s; never closed */
    char *name;                /* as it was opened; owned */
    char *version;             /* MPI_Get_library_version, line 1; owned */
    struct mpimin_calls calls;
};

/* Search as mpimin_open() describes.  The caller clears 'library' with
 * mpimin_library_clear().  Errors are MI_ERRNO: EINVAL for a 'which' that is
 * neither a known word nor a file name, ENOENT with the list of what was
 * tried, ENOMEM.  Opens shared objects; not thread-safe.
 */
int mpimin_library_find(struct mpimin_library *library, const char *which,
                        const char *libdir,
                        const struct mpimin_promise *promise,
                        struct mi_error *err);

/* Before MPI_Init: let shared objects that are opened later find its symbols,
 * as if it had been opened with RTLD_GLOBAL, where plugins need that (Open
 * MPI).  Elsewhere each symbol of each later object would be looked for in MPI
 * and all that it is linked to first (1.3 % of the instructions of a start),
 * and MPICH's hwloc would load its plugins, with X11 and OpenCL.
 * Source: dlopen(3), RTLD_NOLOAD.
 */
void mpimin_library_share(const struct mpimin_library *library);

/* Free what it owns; the shared object stays open. */
void mpimin_library_clear(struct mpimin_library *library);

/* "MPICH", "Open MPI", "MPI standard ABI", "no MPI". */
const char *mpimin_library_family(enum mpimin_family family);

#endif
