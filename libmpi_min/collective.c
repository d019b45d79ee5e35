/* collective: blocking collectives of any size, by polling. */
#include <errno.h>

#include "handle.h"

static int finish(struct mpimin *mpi, mpimin_request *request,
                  struct mi_error *err)
{
    int done;

    return mpimin_wait(mpi, request, -1, &done, err);
}

int mpimin_bcast(struct mpimin *mpi, void *buffer, size_t bytes, int root,
                 mpimin_comm comm, struct mi_error *err)
{
    unsigned char *at = buffer;
    mpimin_request request = 0;
    size_t piece;

    do {
        piece = bytes;
        if (mpi && piece > mpi->message_max)
            piece = mpi->message_max;
        if (mpimin_ibcast(mpi, at, piece, root, comm, &request, err) < 0 ||
            finish(mpi, &request, err) < 0)
            return -1;
        if (piece)
            at += piece;
        bytes -= piece;
    } while (bytes);
    return 0;
}

int mpimin_barrier(struct mpimin *mpi, mpimin_comm comm, struct mi_error *err)
{
    mpimin_request request = 0;

    if (mpimin_ibarrier(mpi, comm, &request, err) < 0)
        return -1;
    return finish(mpi, &request, err);
}

/* One reduction gives both: ~x reverses the order of integers, without the
 * overflow that -x has.
 */
int mpimin_minmax(struct mpimin *mpi, int64_t value, int64_t *min,
                  int64_t *max, mpimin_comm comm, struct mi_error *err)
{
    int64_t mine[2] = {value, ~value};
    int64_t most[2] = {0, 0};
    mpimin_request made = 0;
    mpimin_request request;
    int rc;

    if (mpimin_check(mpi, comm, "MPI_Iallreduce", err) < 0)
        return -1;
    if (!min || !max)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Iallreduce: NULL result");
    rc = mpi->calls.iallreduce(mine, most, 2, mpi->abi.int64, mpi->abi.max,
                               comm, &made);
    if (mpimin_check_code(mpi, rc, "MPI_Iallreduce", err) < 0)
        return -1;
    request = made == mpi->abi.request_null ? 0 : made;
    if (finish(mpi, &request, err) < 0)
        return -1;
    *max = most[0];
    *min = ~most[1];
    return 0;
}
