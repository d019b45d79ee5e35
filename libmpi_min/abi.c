#include "abi.h"

#include <dlfcn.h>
#include <errno.h>

static const struct mpimin_abi mpich = {
    .comm_world = 0x44000000,
    .comm_self = 0x44000001,
    .comm_null = 0x04000000,
    .byte = 0x4c00010d,
    .int64 = 0x4c00083a,
    .max = 0x58000001,
    .info_null = 0x1c000000,
    .request_null = 0x2c000000,
    .errors_return = 0x54000001,
    .any_source = -2,
    .comm_type_shared = 1,
    .err_other = 15,
    .thread = {0, 1, 2, 3},
    .status_source = 8,
};

/* The handles are filled in from the library. */
static const struct mpimin_abi openmpi = {
    .any_source = -1,
    .comm_type_shared = 0,
    .err_other = 16,
    .thread = {0, 1, 2, 3},
    .status_source = 0,
};

static const struct mpimin_abi standard = {
    .comm_world = 0x101,
    .comm_self = 0x102,
    .comm_null = 0x100,
    .byte = 0x247,
    .int64 = 0x258,
    .max = 0x23,
    .info_null = 0x130,
    .request_null = 0x180,
    .errors_return = 0x143,
    .any_source = -1,
    .comm_type_shared = 221,
    .err_other = 16,
    .thread = {0, 1024, 2048, 4096},
    .status_source = 0,
};

static int openmpi_fill(struct mpimin_abi *abi, void *handle,
                        const char *library, struct mi_error *err)
{
    struct mpimin_abi found = openmpi;
    const struct {
        const char *name;
        uintptr_t *value;
    } symbols[] = {
        {"ompi_mpi_comm_world", &found.comm_world},
        {"ompi_mpi_comm_self", &found.comm_self},
        {"ompi_mpi_comm_null", &found.comm_null},
        {"ompi_mpi_byte", &found.byte},
        {"ompi_mpi_int64_t", &found.int64},
        {"ompi_mpi_op_max", &found.max},
        {"ompi_mpi_info_null", &found.info_null},
        {"ompi_request_null", &found.request_null},
        {"ompi_mpi_errors_return", &found.errors_return},
    };
    size_t i;

    for (i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        *symbols[i].value = (uintptr_t)dlsym(handle, symbols[i].name);
        if (!*symbols[i].value)
            return mi_fail(err, MI_ERRNO, ELIBBAD, "%s lacks %s", library,
                           symbols[i].name);
    }
    *abi = found;
    return 0;
}

int mpimin_abi_fill(struct mpimin_abi *abi, enum mpimin_family family,
                    void *handle, const char *library, struct mi_error *err)
{
    switch (family) {
    case MPIMIN_MPICH:
        *abi = mpich;
        return 0;
    case MPIMIN_OPENMPI:
        return openmpi_fill(abi, handle, library, err);
    case MPIMIN_ABI:
        *abi = standard;
        return 0;
    case MPIMIN_NONE:
        break;
    }
    return mi_fail(err, MI_ERRNO, EINVAL, "no such MPI family: %d",
                   (int)family);
}

enum mpimin_thread mpimin_abi_thread(const struct mpimin_abi *abi, int level)
{
    int i = MPIMIN_THREAD_MULTIPLE;

    while (i > MPIMIN_THREAD_SINGLE && abi->thread[i] > level)
        i--;
    return (enum mpimin_thread)i;
}
