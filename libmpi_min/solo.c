#include "solo.h"

#include <string.h>

/* Handles; all communicators that were made are alike. */
enum { WORLD = 1, MADE = 2, NOTHING = 0x100, BYTE = 0x247, INT64 = 0x258 };

enum {
    SUCCESS = 0,
    ERR_COUNT = 2,
    ERR_COMM = 5,
    ERR_ROOT = 8,
    ERR_OTHER = 16
};

static int valid(uintptr_t comm)
{
    return comm == WORLD || comm == MADE;
}

static int complete(uintptr_t comm, uintptr_t *request)
{
    if (!valid(comm))
        return ERR_COMM;
    *request = NOTHING;
    return SUCCESS;
}

static int solo_error_class(int code, int *class)
{
    *class = code;
    return SUCCESS;
}

static int solo_error_string(int code, char *text, int *length)
{
    const char *known = "error in a world of one";

    switch (code) {
    case ERR_COUNT:
        known = "invalid count";
        break;
    case ERR_COMM:
        known = "invalid communicator";
        break;
    case ERR_ROOT:
        known = "invalid root: there is only rank 0";
        break;
    case ERR_OTHER:
        known = "no MPI: a world of one has nobody to talk to";
        break;
    default:
        break;
    }
    strcpy(text, known);
    *length = (int)strlen(known);
    return SUCCESS;
}

static int solo_comm_rank(uintptr_t comm, int *rank)
{
    if (!valid(comm))
        return ERR_COMM;
    *rank = 0;
    return SUCCESS;
}

static int solo_comm_size(uintptr_t comm, int *size)
{
    if (!valid(comm))
        return ERR_COMM;
    *size = 1;
    return SUCCESS;
}

static int solo_comm_idup(uintptr_t comm, uintptr_t *result,
                          uintptr_t *request)
{
    if (!valid(comm))
        return ERR_COMM;
    *result = MADE;
    return complete(comm, request);
}

/* All groups are alike, too. */
static int solo_comm_group(uintptr_t comm, uintptr_t *group)
{
    if (!valid(comm))
        return ERR_COMM;
    *group = MADE;
    return SUCCESS;
}

static int solo_group_incl(uintptr_t group, int count, const int *ranks,
                           uintptr_t *result)
{
    (void)count;
    (void)ranks;
    *result = group;
    return SUCCESS;
}

static int solo_group_free(uintptr_t *group)
{
    *group = NOTHING;
    return SUCCESS;
}

static int solo_comm_create_group(uintptr_t comm, uintptr_t group, int tag,
                                  uintptr_t *result)
{
    (void)group;
    (void)tag;
    if (!valid(comm))
        return ERR_COMM;
    *result = MADE;
    return SUCCESS;
}

static int solo_comm_split_type(uintptr_t comm, int type, int key,
                                uintptr_t info, uintptr_t *result)
{
    (void)type;
    (void)key;
    (void)info;
    if (!valid(comm))
        return ERR_COMM;
    *result = MADE;
    return SUCCESS;
}

static int solo_comm_free(uintptr_t *comm)
{
    if (*comm != MADE)
        return ERR_COMM;
    *comm = NOTHING;
    return SUCCESS;
}

static int solo_comm_set_errhandler(uintptr_t comm, uintptr_t handler)
{
    (void)handler;
    return valid(comm) ? SUCCESS : ERR_COMM;
}

static int solo_ibcast(void *buffer, int count, uintptr_t type, int root,
                       uintptr_t comm, uintptr_t *request)
{
    (void)buffer;
    (void)count;
    (void)type;
    if (!valid(comm))
        return ERR_COMM;
    if (root != 0)
        return ERR_ROOT;
    return complete(comm, request);
}

static int solo_igather(const void *mine, int count, uintptr_t type, void *all,
                        int each, uintptr_t each_type, int root,
                        uintptr_t comm, uintptr_t *request)
{
    if (!valid(comm))
        return ERR_COMM;
    if (root != 0)
        return ERR_ROOT;
    if (count != each || type != BYTE || each_type != BYTE)
        return ERR_COUNT;
    if (count > 0)
        memmove(all, mine, (size_t)count);
    return complete(comm, request);
}

static int solo_iscatter(const void *all, int each, uintptr_t each_type,
                         void *mine, int count, uintptr_t type, int root,
                         uintptr_t comm, uintptr_t *request)
{
    return solo_igather(all, each, each_type, mine, count, type, root, comm,
                        request);
}

static int solo_ibarrier(uintptr_t comm, uintptr_t *request)
{
    return complete(comm, request);
}

static int solo_iallreduce(const void *mine, void *result, int count,
                           uintptr_t type, uintptr_t op, uintptr_t comm,
                           uintptr_t *request)
{
    (void)op;
    if (!valid(comm))
        return ERR_COMM;
    if (type != INT64)
        return ERR_COUNT;
    memmove(result, mine, (size_t)count * sizeof(int64_t));
    return complete(comm, request);
}

static int solo_isend(const void *buffer, int count, uintptr_t type, int dest,
                      int tag, uintptr_t comm, uintptr_t *request)
{
    (void)buffer;
    (void)count;
    (void)type;
    (void)dest;
    (void)tag;
    (void)request;
    return valid(comm) ? ERR_OTHER : ERR_COMM;
}

static int solo_irecv(void *buffer, int count, uintptr_t type, int source,
                      int tag, uintptr_t comm, uintptr_t *request)
{
    (void)buffer;
    (void)count;
    (void)type;
    (void)source;
    (void)tag;
    (void)request;
    return valid(comm) ? ERR_OTHER : ERR_COMM;
}

static int solo_iprobe(int source, int tag, uintptr_t comm, int *flag,
                       struct mpimin_status *status)
{
    (void)source;
    (void)tag;
    (void)status;
    if (!valid(comm))
        return ERR_COMM;
    *flag = 0;
    return SUCCESS;
}

static int solo_test(uintptr_t *request, int *flag,
                     struct mpimin_status *status)
{
    (void)status;
    *request = NOTHING;
    *flag = 1;
    return SUCCESS;
}

void mpimin_solo_fill(struct mpimin_abi *abi, struct mpimin_calls *calls)
{
    *abi = (struct mpimin_abi){
        .comm_world = WORLD,
        .comm_null = NOTHING,
        .byte = BYTE,
        .int64 = INT64,
        .request_null = NOTHING,
        .err_other = ERR_OTHER,
        .thread = {0, 1, 2, 3},
    };
    *calls = (struct mpimin_calls){
        .error_class = solo_error_class,
        .error_string = solo_error_string,
        .comm_rank = solo_comm_rank,
        .comm_size = solo_comm_size,
        .comm_idup = solo_comm_idup,
        .comm_group = solo_comm_group,
        .group_incl = solo_group_incl,
        .group_free = solo_group_free,
        .comm_create_group = solo_comm_create_group,
        .comm_split_type = solo_comm_split_type,
        .comm_free = solo_comm_free,
        .comm_set_errhandler = solo_comm_set_errhandler,
        .ibcast = solo_ibcast,
        .igather = solo_igather,
        .iscatter = solo_iscatter,
        .ibarrier = solo_ibarrier,
        .iallreduce = solo_iallreduce,
        .isend = solo_isend,
        .irecv = solo_irecv,
        .iprobe = solo_iprobe,
        .test = solo_test,
    };
}
