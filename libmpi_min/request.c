/* request: nonblocking operations and waiting for them. */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "handle.h"

/* A start of an operation: may it be made, and is its length an int? */
static int check_start(const struct mpimin *mpi, mpimin_comm comm,
                       const void *buffer, size_t bytes,
                       const mpimin_request *request, const char *call,
                       struct mi_error *err)
{
    if (mpimin_check(mpi, comm, call, err) < 0)
        return -1;
    if (!request || (!buffer && bytes))
        return mi_fail(err, MI_ERRNO, EINVAL, "%s: NULL argument", call);
    if (bytes > mpi->message_max)
        return mi_fail(err, MI_ERRNO, EMSGSIZE,
                       "%s: a message of %zu bytes, at most %zu are possible",
                       call, bytes, mpi->message_max);
    return 0;
}

/* Hand out the request that 'call' has made with the return code 'code'. */
static int started(struct mpimin *mpi, mpimin_request made, int code,
                   const char *call, mpimin_request *request,
                   struct mi_error *err)
{
    if (mpimin_check_code(mpi, code, call, err) < 0)
        return -1;
    *request = made == mpi->abi.request_null ? 0 : made;
    return 0;
}

int mpimin_ibcast(struct mpimin *mpi, void *buffer, size_t bytes, int root,
                  mpimin_comm comm, mpimin_request *request,
                  struct mi_error *err)
{
    mpimin_request made = 0;
    int rc;

    if (check_start(mpi, comm, buffer, bytes, request, "MPI_Ibcast", err) < 0)
        return -1;
    rc = mpi->calls.ibcast(buffer, (int)bytes, mpi->abi.byte, root, comm,
                           &made);
    return started(mpi, made, rc, "MPI_Ibcast", request, err);
}

int mpimin_igather(struct mpimin *mpi, const void *mine, size_t bytes,
                   void *all, int root, mpimin_comm comm,
                   mpimin_request *request, struct mi_error *err)
{
    mpimin_request made = 0;
    int rc;

    if (check_start(mpi, comm, mine, bytes, request, "MPI_Igather", err) < 0)
        return -1;
    rc = mpi->calls.igather(mine, (int)bytes, mpi->abi.byte, all, (int)bytes,
                            mpi->abi.byte, root, comm, &made);
    return started(mpi, made, rc, "MPI_Igather", request, err);
}

int mpimin_iscatter(struct mpimin *mpi, const void *all, void *mine,
                    size_t bytes, int root, mpimin_comm comm,
                    mpimin_request *request, struct mi_error *err)
{
    mpimin_request made = 0;
    int rc;

    if (check_start(mpi, comm, mine, bytes, request, "MPI_Iscatter", err) < 0)
        return -1;
    rc = mpi->calls.iscatter(all, (int)bytes, mpi->abi.byte, mine, (int)bytes,
                             mpi->abi.byte, root, comm, &made);
    return started(mpi, made, rc, "MPI_Iscatter", request, err);
}

int mpimin_ibarrier(struct mpimin *mpi, mpimin_comm comm,
                    mpimin_request *request, struct mi_error *err)
{
    mpimin_request made = 0;
    int rc;

    if (check_start(mpi, comm, NULL, 0, request, "MPI_Ibarrier", err) < 0)
        return -1;
    rc = mpi->calls.ibarrier(comm, &made);
    return started(mpi, made, rc, "MPI_Ibarrier", request, err);
}

int mpimin_isend(struct mpimin *mpi, const void *buffer, size_t bytes,
                 int dest, int tag, mpimin_comm comm, mpimin_request *request,
                 struct mi_error *err)
{
    mpimin_request made = 0;
    int rc;

    if (check_start(mpi, comm, buffer, bytes, request, "MPI_Isend", err) < 0)
        return -1;
    rc = mpi->calls.isend(buffer, (int)bytes, mpi->abi.byte, dest, tag, comm,
                          &made);
    return started(mpi, made, rc, "MPI_Isend", request, err);
}

/* ---- receiving ---------------------------------------------------------- */

static int status_source(const struct mpimin *mpi,
                         const struct mpimin_status *status)
{
    int source;

    memcpy(&source, status->bytes + mpi->abi.status_source, sizeof(source));
    return source;
}

int mpimin_iprobe(struct mpimin *mpi, int tag, mpimin_comm comm, int *flag,
                  int *source, size_t *bytes, struct mi_error *err)
{
    struct mpimin_status status = {{0}};
    int found = 0;
    int count = 0;
    int rc;

    if (mpimin_check(mpi, comm, "MPI_Iprobe", err) < 0)
        return -1;
    if (!flag || !source || !bytes)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Iprobe: NULL argument");
    rc = mpi->calls.iprobe(mpi->abi.any_source, tag, comm, &found, &status);
    if (mpimin_check_code(mpi, rc, "MPI_Iprobe", err) < 0)
        return -1;
    if (!found) {
        *flag = 0;
        return 0;
    }
    rc = mpi->calls.get_count(&status, mpi->abi.byte, &count);
    if (mpimin_check_code(mpi, rc, "MPI_Get_count", err) < 0)
        return -1;
    if (count < 0)
        return mi_fail(err, MI_ERRNO, EMSGSIZE,
                       "MPI_Iprobe: a message whose length is no int");
    *flag = 1;
    *source = status_source(mpi, &status);
    *bytes = (size_t)count;
    return 0;
}

int mpimin_recv(struct mpimin *mpi, void *buffer, size_t bytes, int source,
                int tag, mpimin_comm comm, struct mi_error *err)
{
    mpimin_request made = 0;
    mpimin_request request = 0;
    int done;
    int rc;

    if (check_start(mpi, comm, buffer, bytes, &request, "MPI_Irecv", err) < 0)
        return -1;
    rc = mpi->calls.irecv(buffer, (int)bytes, mpi->abi.byte, source, tag, comm,
                          &made);
    if (started(mpi, made, rc, "MPI_Irecv", &request, err) < 0)
        return -1;
    return mpimin_wait(mpi, &request, -1, &done, err);
}

/* ---- completion --------------------------------------------------------- */

int mpimin_test(struct mpimin *mpi, mpimin_request *request, int *done,
                struct mi_error *err)
{
    struct mpimin_status status = {{0}};
    mpimin_request active;
    int flag = 0;
    int rc;

    if (!request || !done)
        return mi_fail(err, MI_ERRNO, EINVAL, "MPI_Test: NULL argument");
    if (mpimin_check(mpi, 1, "MPI_Test", err) < 0)
        return -1;
    if (*request == 0) {
        *done = 1;
        return 0;
    }
    active = *request;
    rc = mpi->calls.test(&active, &flag, &status);
    if (active == mpi->abi.request_null)
        *request = 0;
    if (mpimin_check_code(mpi, rc, "MPI_Test", err) < 0)
        return -1;
    *done = flag != 0;
    return 0;
}

/* How a poll gives way: not at all, to other threads, by sleeping longer and
 * longer.
 */
struct patience {
    int rounds;
    long sleep; /* nanoseconds */
};

static const long sleep_first = 20 * 1000;
static const long sleep_most = 1000 * 1000;

static void give_way(struct patience *patience, double left)
{
    struct timespec time = {0, 0};

    if (patience->rounds < 32) {
        patience->rounds++;
        if (patience->rounds > 16)
            sched_yield();
        return;
    }
    time.tv_nsec = patience->sleep;
    if (left >= 0 && left * 1e9 < (double)patience->sleep)
        time.tv_nsec = (long)(left * 1e9);
    nanosleep(&time, NULL);
    patience->sleep += patience->sleep / 4;
    if (patience->sleep > sleep_most)
        patience->sleep = sleep_most;
}

int mpimin_wait(struct mpimin *mpi, mpimin_request *request, double seconds,
                int *done, struct mi_error *err)
{
    struct patience patience = {0, sleep_first};
    double start = mpimin_wtime(mpi);
    double left = -1;
    int complete = 0;

    if (!done || isnan(seconds))
        return mi_fail(err, MI_ERRNO, EINVAL, "mpimin_wait: bad argument");
    for (;;) {
        if (mpimin_test(mpi, request, &complete, err) < 0)
            return -1;
        if (complete)
            break;
        if (seconds >= 0) {
            left = start + seconds - mpimin_wtime(mpi);
            if (left <= 0)
                break;
        }
        give_way(&patience, left);
    }
    *done = complete;
    return 0;
}
