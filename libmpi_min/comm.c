/* comm: communicators. */
#include <errno.h>

#include "handle.h"

mpimin_comm mpimin_world(const struct mpimin *mpi)
{
    return mpi ? mpi->abi.comm_world : 0;
}

int mpimin_comm_rank(struct mpimin *mpi, mpimin_comm comm, int *rank,
                     struct mi_error *err)
{
    int found = 0;

    if (mpimin_check(mpi, comm, "MPI_Comm_rank", err) < 0)
        return -1;
    if (!rank)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Comm_rank: NULL result");
    if (mpimin_check_code(mpi, mpi->calls.comm_rank(comm, &found),
                          "MPI_Comm_rank", err) < 0)
        return -1;
    *rank = found;
    return 0;
}

int mpimin_comm_size(struct mpimin *mpi, mpimin_comm comm, int *size,
                     struct mi_error *err)
{
    int found = 0;

    if (mpimin_check(mpi, comm, "MPI_Comm_size", err) < 0)
        return -1;
    if (!size)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Comm_size: NULL result");
    if (mpimin_check_code(mpi, mpi->calls.comm_size(comm, &found),
                          "MPI_Comm_size", err) < 0)
        return -1;
    *size = found;
    return 0;
}

/* Hand out the communicator that 'call' has made with the return code
 * 'code', once its errors are returned.
 */
static int adopt(struct mpimin *mpi, mpimin_comm made, int code,
                 const char *call, mpimin_comm *result, struct mi_error *err)
{
    if (mpimin_check_code(mpi, code, call, err) < 0)
        return -1;
    if (made == mpi->abi.comm_null) {
        *result = 0;
        return 0;
    }
    code = mpi->calls.comm_set_errhandler(made, mpi->abi.errors_return);
    if (mpimin_check_code(mpi, code, "MPI_Comm_set_errhandler", err) < 0) {
        (void)mpi->calls.comm_free(&made);
        return -1;
    }
    *result = made;
    return 0;
}

/* There is no nonblocking split.  So the ranks meet first in a barrier that
 * sleeps, and then do not spin for long in the call itself.
 */
static int meet(struct mpimin *mpi, mpimin_comm comm,
                const mpimin_comm *result, const char *call,
                struct mi_error *err)
{
    if (mpimin_check(mpi, comm, call, err) < 0)
        return -1;
    if (!result)
        return mi_fail(err, MI_ERRNO, EINVAL, "%s: NULL result", call);
    return mpimin_barrier(mpi, comm, err);
}

int mpimin_comm_dup(struct mpimin *mpi, mpimin_comm comm, mpimin_comm *result,
                    struct mi_error *err)
{
    mpimin_comm made = 0;
    mpimin_request started = 0, request;
    int done, rc;

    if (mpimin_check(mpi, comm, "MPI_Comm_idup", err) < 0)
        return -1;
    if (!result)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Comm_idup: NULL result");
    rc = mpi->calls.comm_idup(comm, &made, &started);
    if (mpimin_check_code(mpi, rc, "MPI_Comm_idup", err) < 0)
        return -1;
    request = started == mpi->abi.request_null ? 0 : started;
    if (mpimin_wait(mpi, &request, -1, &done, err) < 0)
        return -1;
    return adopt(mpi, made, rc, "MPI_Comm_idup", result, err);
}

/* Are these ranks of 'comm'?  MPI's own check of a group goes to the error
 * handler of the application's world.
 */
static int check_ranks(struct mpimin *mpi, mpimin_comm comm, const int *ranks,
                       int count, struct mi_error *err)
{
    int size = 0;

    if (mpimin_comm_size(mpi, comm, &size, err) < 0)
        return -1;
    if (!ranks || count < 1 || count > size)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Group_incl: %d of %d ranks",
                       count, size);
    for (int i = 0; i < count; i++) {
        if (ranks[i] < 0 || ranks[i] >= size)
            return mi_fail(err, MI_ERRNO, EINVAL,
                           "MPI_Group_incl: rank %d of %d", ranks[i], size);
    }
    return 0;
}

/* The group of these ranks, which the caller frees. */
static int make_group(struct mpimin *mpi, mpimin_comm comm, const int *ranks,
                      int count, uintptr_t *group, struct mi_error *err)
{
    uintptr_t all = 0, some = 0;
    int rc = mpi->calls.comm_group(comm, &all);

    if (mpimin_check_code(mpi, rc, "MPI_Comm_group", err) < 0)
        return -1;
    rc = mpi->calls.group_incl(all, count, ranks, &some);
    (void)mpi->calls.group_free(&all);
    if (mpimin_check_code(mpi, rc, "MPI_Group_incl", err) < 0)
        return -1;
    *group = some;
    return 0;
}

int mpimin_comm_create(struct mpimin *mpi, mpimin_comm comm, const int *ranks,
                       int count, int tag, mpimin_comm *result,
                       struct mi_error *err)
{
    mpimin_comm made = 0;
    uintptr_t group;
    int rc;

    if (mpimin_check(mpi, comm, "MPI_Comm_create_group", err) < 0)
        return -1;
    if (!result)
        return mi_fail(err, MI_ERRNO, EINVAL,
                       "MPI_Comm_create_group: NULL result");
    if (check_ranks(mpi, comm, ranks, count, err) < 0 ||
        make_group(mpi, comm, ranks, count, &group, err) < 0)
        return -1;
    rc = mpi->calls.comm_create_group(comm, group, tag, &made);
    (void)mpi->calls.group_free(&group);
    return adopt(mpi, made, rc, "MPI_Comm_create_group", result, err);
}

int mpimin_comm_split_shared(struct mpimin *mpi, mpimin_comm comm, int key,
                             mpimin_comm *result, struct mi_error *err)
{
    mpimin_comm made = 0;
    int rc;

    if (meet(mpi, comm, result, "MPI_Comm_split_type", err) < 0)
        return -1;
    rc = mpi->calls.comm_split_type(comm, mpi->abi.comm_type_shared, key,
                                    mpi->abi.info_null, &made);
    return adopt(mpi, made, rc, "MPI_Comm_split_type", result, err);
}

int mpimin_comm_free(struct mpimin *mpi, mpimin_comm *comm,
                     struct mi_error *err)
{
    mpimin_comm freed;

    if (comm && *comm == 0)
        return 0;
    if (mpimin_check(mpi, comm ? *comm : 0, "MPI_Comm_free", err) < 0)
        return -1;
    freed = *comm;
    if (mpimin_check_code(mpi, mpi->calls.comm_free(&freed), "MPI_Comm_free",
                          err) < 0)
        return -1;
    *comm = 0;
    return 0;
}
