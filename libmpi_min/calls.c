#include "calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct entry {
    const char *name;
    size_t offset; /* of the function pointer in struct mpimin_calls */
};

static const struct entry entries[] = {
    {"MPI_Init_thread", offsetof(struct mpimin_calls, init_thread)},
    {"MPI_Query_thread", offsetof(struct mpimin_calls, query_thread)},
    {"MPI_Initialized", offsetof(struct mpimin_calls, initialized)},
    {"MPI_Finalized", offsetof(struct mpimin_calls, finalized)},
    {"MPI_Finalize", offsetof(struct mpimin_calls, finalize)},
    {"MPI_Abort", offsetof(struct mpimin_calls, abort)},
    {"MPI_Get_library_version",
     offsetof(struct mpimin_calls, get_library_version)},
    {"MPI_Error_class", offsetof(struct mpimin_calls, error_class)},
    {"MPI_Error_string", offsetof(struct mpimin_calls, error_string)},
    {"MPI_Comm_rank", offsetof(struct mpimin_calls, comm_rank)},
    {"MPI_Comm_size", offsetof(struct mpimin_calls, comm_size)},
    {"MPI_Comm_idup", offsetof(struct mpimin_calls, comm_idup)},
    {"MPI_Comm_group", offsetof(struct mpimin_calls, comm_group)},
    {"MPI_Group_incl", offsetof(struct mpimin_calls, group_incl)},
    {"MPI_Group_free", offsetof(struct mpimin_calls, group_free)},
    {"MPI_Comm_create_group",
     offsetof(struct mpimin_calls, comm_create_group)},
    {"MPI_Comm_split_type", offsetof(struct mpimin_calls, comm_split_type)},
    {"MPI_Comm_free", offsetof(struct mpimin_calls, comm_free)},
    {"MPI_Comm_set_errhandler",
     offsetof(struct mpimin_calls, comm_set_errhandler)},
    {"MPI_Comm_create_keyval",
     offsetof(struct mpimin_calls, comm_create_keyval)},
    {"MPI_Comm_free_keyval", offsetof(struct mpimin_calls, comm_free_keyval)},
    {"MPI_Comm_set_attr", offsetof(struct mpimin_calls, comm_set_attr)},
    {"MPI_Ibcast", offsetof(struct mpimin_calls, ibcast)},
    {"MPI_Igather", offsetof(struct mpimin_calls, igather)},
    {"MPI_Iscatter", offsetof(struct mpimin_calls, iscatter)},
    {"MPI_Ibarrier", offsetof(struct mpimin_calls, ibarrier)},
    {"MPI_Iallreduce", offsetof(struct mpimin_calls, iallreduce)},
    {"MPI_Isend", offsetof(struct mpimin_calls, isend)},
    {"MPI_Irecv", offsetof(struct mpimin_calls, irecv)},
    {"MPI_Iprobe", offsetof(struct mpimin_calls, iprobe)},
    {"MPI_Get_count", offsetof(struct mpimin_calls, get_count)},
    {"MPI_Test", offsetof(struct mpimin_calls, test)},
};

/* Every slot of the structure has its entry. */
_Static_assert(sizeof(entries) / sizeof(entries[0]) * sizeof(void *) ==
                   sizeof(struct mpimin_calls),
               "a call without an entry");

/* Append " name" to a list that may fill up. */
static void list_add(char *list, size_t room, const char *name)
{
    size_t used = strlen(list);

    snprintf(list + used, room - used, " %s", name);
}

int mpimin_calls_load(struct mpimin_calls *calls, void *handle,
                      const char *library, struct mi_error *err)
{
    struct mpimin_calls found;
    char missing[600] = "";
    void *symbol;
    size_t i;

    memset(&found, 0, sizeof(found));
    for (i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        symbol = dlsym(handle, entries[i].name);
        if (!symbol)
            list_add(missing, sizeof(missing), entries[i].name);
        memcpy((char *)&found + entries[i].offset, &symbol, sizeof(symbol));
    }
    if (missing[0])
        return mi_fail(err, MI_ERRNO, ELIBBAD, "%s lacks%s", library, missing);
    *calls = found;
    return 0;
}
