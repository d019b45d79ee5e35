/* collective: blocking collectives of any size, by polling. */
#include <errno.h>

#include "handle.h"

static int finish(struct mpimin *mpi, mpimin_request *request,
                  struct mi_error *err)
{
    int done;

    return mpimin_wait(mpi, request, -1, &done, err);
}

/* Up to so many bytes go in pieces.  MPICH sends 12 KiB and more round a ring
 * of all ranks, unless their number is a power of two; less goes down a tree.
 */
#define PIECE ((size_t)8 << 10)
#define IN_PIECES ((size_t)512 << 10)
#define WINDOW 64 /* pieces under way at once */

/* As many pieces as are started together; 'bytes' is what they hold. */
static int bcast_window(struct mpimin *mpi, unsigned char *at, size_t bytes,
                        size_t piece, int root, mpimin_comm comm,
                        struct mi_error *err)
{
    mpimin_request requests[WINDOW] = {0};
    int count = 0, rc = 0;

    do {
        if (piece > bytes)
            piece = bytes;
        rc =
            mpimin_ibcast(mpi, at, piece, root, comm, &requests[count++], err);
        if (piece)
            at += piece;
        bytes -= piece;
    } while (rc == 0 && bytes);
    for (int i = 0; i < count && rc == 0; i++)
        rc = finish(mpi, &requests[i], err);
    return rc;
}

int mpimin_bcast(struct mpimin *mpi, void *buffer, size_t bytes, int root,
                 mpimin_comm comm, struct mi_error *err)
{
    const size_t most = mpimin_message_max(mpi);
    unsigned char *at = buffer;
    size_t piece = bytes > IN_PIECES ? most : PIECE;
    size_t size;

    if (piece > most)
        piece = most;
    do {
        /* One by one what is large. */
        size = bytes > IN_PIECES ? piece : piece * WINDOW;
        if (size > bytes)
            size = bytes;
        if (bcast_window(mpi, at, size, piece, root, comm, err) < 0)
            return -1;
        if (size)
            at += size;
        bytes -= size;
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
