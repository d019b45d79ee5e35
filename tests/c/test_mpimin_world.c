/* Tests of libmpi_min with a real MPI, to be started by its mpiexec.
 *
 *   test_mpimin_world MODE WHICH [LIBDIR]
 *
 * WHICH and LIBDIR as in mpimin_open(), "auto" for its choice.  Modes:
 *   calls    every call, with as many ranks as there are
 *   other    somebody else initialises and finalises MPI
 *   closed   the handle is closed before MPI is finalised
 *   start    only open, initialise and finalise
 *   abort    the last rank aborts with status 7, the others wait
 *   fork     a forked child leaves by mpimin_abort()
 *
 * Rank 0 prints "ok FAMILY SIZE CALLBACKS VERSION".  Status 1 is a failed
 * check, 3 an open or init that failed, whose text goes to stdout.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mpimin.h"

/* What all modes have at hand. */
struct job {
    struct mpimin *mpi;
    void *library; /* dlopen(3)'s */
    enum mpimin_family family;
    mpimin_comm world;
    mpimin_comm comm; /* private copy of world */
    int rank;
    int size;
    int ours;
    int callbacks;
};

static struct mi_error error; /* of the call that is being checked */

/* A failed check ends the job: the others might wait for this rank. */
static void check(struct job *job, int ok, int line, const char *text)
{
    if (ok)
        return;
    fprintf(stderr, "%s:%d: rank %d failed: %s (%s)\n", __FILE__, line,
            job->rank, text, error.text);
    mpimin_abort(job->mpi, 1);
}

#define CHECK(ok) check(job, (ok) != 0, __LINE__, #ok)
#define WORKS(call) (mi_error_clear(&error), CHECK((call) == 0))
#define FAILS(call, wanted_domain, wanted_code)                               \
    (mi_error_clear(&error), CHECK((call) == -1),                             \
     CHECK(error.domain == (wanted_domain)),                                  \
     CHECK(error.code == (wanted_code)), CHECK(error.text[0] != '\0'))

/* ---- pieces ------------------------------------------------------------- */

static unsigned char pattern(size_t i, int root)
{
    return (unsigned char)(i * 7 + (size_t)root * 31 + 3);
}

static int bcast_arrives(struct job *job, size_t bytes, int root,
                         mpimin_comm comm)
{
    unsigned char *buffer = malloc(bytes + 1);
    size_t wrong = 0;
    size_t i;

    CHECK(buffer != NULL);
    memset(buffer, 0, bytes + 1);
    for (i = 0; i < bytes && job->rank == root; i++)
        buffer[i] = pattern(i, root);
    WORKS(mpimin_bcast(job->mpi, buffer, bytes, root, comm, &error));
    for (i = 0; i < bytes; i++)
        wrong += buffer[i] != pattern(i, root);
    wrong += buffer[bytes] != 0;
    free(buffer);
    return wrong == 0;
}

static void test_bcast_any_size_arrives(struct job *job)
{
    static const size_t sizes[] = {0,    1,    9,      10,     11,    4096,
                                   8192, 8193, 100003, 524288, 524289};
    size_t i;
    int root;

    for (root = 0; root < job->size; root++) {
        for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            CHECK(bcast_arrives(job, sizes[i], root, job->comm));
    }
    mpimin_set_message_max(job->mpi, 10);
    CHECK(mpimin_message_max(job->mpi) == 10);
    for (i = 0; i < 5; i++)
        CHECK(bcast_arrives(job, sizes[i], job->size - 1, job->comm));
    mpimin_set_message_max(job->mpi, 0);
    CHECK(bcast_arrives(job, 3000000, 0, job->comm));
}

static void test_ibcast_in_a_row_arrives(struct job *job)
{
    enum { ROW = 8 };
    mpimin_request requests[ROW];
    int values[ROW];
    int done;
    int i;

    for (i = 0; i < ROW; i++) {
        values[i] = job->rank == 0 ? i * i : -1;
        requests[i] = 0;
        WORKS(mpimin_ibcast(job->mpi, &values[i], sizeof(values[i]), 0,
                            job->comm, &requests[i], &error));
    }
    for (i = ROW - 1; i >= 0; i--) {
        done = 0;
        WORKS(mpimin_wait(job->mpi, &requests[i], 30, &done, &error));
        CHECK(done == 1 && requests[i] == 0 && values[i] == i * i);
    }
}

static void test_igather_from_all_ordered(struct job *job)
{
    int root = job->size - 1;
    int mine[2] = {job->rank, -job->rank};
    int *all = calloc((size_t)job->size, sizeof(mine));
    mpimin_request request = 0;
    int done = 0;
    int i;

    CHECK(all != NULL);
    WORKS(mpimin_igather(job->mpi, mine, sizeof(mine),
                         job->rank == root ? all : NULL, root, job->comm,
                         &request, &error));
    WORKS(mpimin_wait(job->mpi, &request, -1, &done, &error));
    CHECK(done == 1 && request == 0);
    for (i = 0; i < job->size && job->rank == root; i++)
        CHECK(all[2 * i] == i && all[2 * i + 1] == -i);
    free(all);
}

/* Each size is one of 'bytes' for rank i, all of them i and root. */
static void test_iscatter_each_its_own(struct job *job)
{
    static const size_t sizes[] = {0, 1, 12, 64, 70000};
    const size_t most = 70000;
    unsigned char *all = malloc(most * (size_t)job->size);
    unsigned char *mine = malloc(most + 1);
    mpimin_request request = 0;
    size_t wrong;
    int done = 0;
    int root;

    CHECK(all && mine);
    for (root = 0; root < job->size; root++) {
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            const size_t bytes = sizes[s];

            for (size_t i = 0; i < bytes * (size_t)job->size; i++)
                all[i] = pattern(i % bytes, root + (int)(i / bytes));
            memset(mine, 0, bytes + 1);
            WORKS(mpimin_iscatter(job->mpi, job->rank == root ? all : NULL,
                                  mine, bytes, root, job->comm, &request,
                                  &error));
            WORKS(mpimin_wait(job->mpi, &request, -1, &done, &error));
            CHECK(done == 1 && request == 0);
            wrong = mine[bytes] != 0;
            for (size_t i = 0; i < bytes; i++)
                wrong += mine[i] != pattern(i, root + job->rank);
            CHECK(wrong == 0);
        }
    }
    free(mine);
    free(all);
}

static void test_minmax_extremes_found(struct job *job)
{
    int last = job->rank == job->size - 1;
    int64_t min = 0;
    int64_t max = 0;

    WORKS(
        mpimin_minmax(job->mpi, job->rank - 1, &min, &max, job->comm, &error));
    CHECK(min == -1 && max == job->size - 2);
    WORKS(mpimin_minmax(job->mpi, last ? INT64_MIN : INT64_MAX, &min, &max,
                        job->comm, &error));
    CHECK(min == INT64_MIN);
    CHECK(max == (job->size == 1 ? INT64_MIN : INT64_MAX));
}

/* Everybody, rank 0 too, sends 'bytes' to rank 0, which takes them as they
 * come.
 */
static void messages_to_root(struct job *job, size_t bytes)
{
    unsigned char *out = calloc(1, bytes + 1);
    unsigned char *in = calloc(1, bytes + 1);
    mpimin_request request = 0;
    size_t got = 0;
    int source = -1;
    int left = job->rank == 0 ? job->size : 0;
    int seen = 0;
    int done = 0;
    int flag = 0;

    CHECK(out && in);
    memset(out, job->rank + 1, bytes);
    WORKS(
        mpimin_isend(job->mpi, out, bytes, 0, 5, job->comm, &request, &error));
    while (left > 0) {
        WORKS(mpimin_test(job->mpi, &request, &done, &error));
        WORKS(mpimin_iprobe(job->mpi, 5, job->comm, &flag, &source, &got,
                            &error));
        if (!flag)
            continue;
        CHECK(got == bytes && source >= 0 && source < job->size);
        WORKS(mpimin_recv(job->mpi, in, got, source, 5, job->comm, &error));
        CHECK(bytes == 0 || (in[0] == source + 1 && in[bytes - 1] == in[0]));
        CHECK(in[bytes] == 0);
        seen += source;
        left--;
    }
    CHECK(job->rank != 0 || seen == job->size * (job->size - 1) / 2);
    WORKS(mpimin_wait(job->mpi, &request, 30, &done, &error));
    CHECK(done == 1);
    free(in);
    free(out);
    WORKS(mpimin_iprobe(job->mpi, 6, job->comm, &flag, &source, &got, &error));
    CHECK(flag == 0);
    WORKS(mpimin_barrier(job->mpi, job->comm, &error));
}

static void test_wait_times_out_and_completes(struct job *job)
{
    mpimin_request request = 0;
    double start = mpimin_wtime(job->mpi);
    int done = 7;

    if (job->size == 1)
        return;
    if (job->rank == 0) {
        WORKS(mpimin_ibarrier(job->mpi, job->comm, &request, &error));
        WORKS(mpimin_wait(job->mpi, &request, 0.05, &done, &error));
        CHECK(done == 0 && request != 0);
        CHECK(mpimin_wtime(job->mpi) - start >= 0.05);
    } else {
        usleep(400000);
        WORKS(mpimin_ibarrier(job->mpi, job->comm, &request, &error));
    }
    WORKS(mpimin_wait(job->mpi, &request, -1, &done, &error));
    CHECK(done == 1 && request == 0);
}

/* Odd and even ranks make theirs at the same time, the highest rank first. */
static void test_create_halves_apart(struct job *job)
{
    int *ranks = calloc((size_t)job->size, sizeof(*ranks));
    mpimin_comm half = 0;
    int colour = job->rank % 2;
    int count = 0;
    int rank = -1;
    int size = -1;
    int value = job->rank;
    int i;

    CHECK(ranks != NULL);
    for (i = job->size - 1; i >= 0; i--) {
        if (i % 2 == colour)
            ranks[count++] = i;
    }
    WORKS(mpimin_comm_create(job->mpi, job->comm, ranks, count, 3, &half,
                             &error));
    free(ranks);
    CHECK(half != 0 && half != job->comm);
    WORKS(mpimin_comm_rank(job->mpi, half, &rank, &error));
    WORKS(mpimin_comm_size(job->mpi, half, &size, &error));
    CHECK(size == (job->size + 1 - colour) / 2);
    CHECK(rank == size - 1 - job->rank / 2);
    WORKS(
        mpimin_bcast(job->mpi, &value, sizeof(value), size - 1, half, &error));
    CHECK(value == colour);
    FAILS(mpimin_bcast(job->mpi, &value, 1, size, half, &error), MI_MPI,
          job->family == MPIMIN_MPICH ? 7 : 8);
    WORKS(mpimin_comm_free(job->mpi, &half, &error));
    CHECK(half == 0);
}

/* Nobody else takes part. */
static void test_create_of_one_alone(struct job *job)
{
    mpimin_comm only = 0;
    int last = job->size - 1;
    int size = -1;

    if (job->rank == last) {
        WORKS(mpimin_comm_create(job->mpi, job->comm, &last, 1, 3, &only,
                                 &error));
        WORKS(mpimin_comm_size(job->mpi, only, &size, &error));
        CHECK(only != 0 && size == 1);
        WORKS(mpimin_comm_free(job->mpi, &only, &error));
    }
    FAILS(mpimin_comm_create(job->mpi, job->comm, &job->size, 1, 3, &only,
                             &error),
          MI_ERRNO, EINVAL);
    CHECK(only == 0);
}

static void test_split_shared_usable(struct job *job)
{
    mpimin_comm node = 0;
    int size = -1;

    WORKS(mpimin_comm_split_shared(job->mpi, job->comm, job->rank, &node,
                                   &error));
    CHECK(node != 0);
    WORKS(mpimin_comm_size(job->mpi, node, &size, &error));
    CHECK(size >= 1 && size <= job->size);
    WORKS(mpimin_barrier(job->mpi, node, &error));
    WORKS(mpimin_comm_free(job->mpi, &node, &error));
}

/* All of these fail locally, before anything is sent. */
static void test_errors_have_class_and_text(struct job *job)
{
    int class_root = job->family == MPIMIN_MPICH ? 7 : 8;
    mpimin_request request = 5;
    char byte = 0;

    FAILS(mpimin_bcast(job->mpi, &byte, 1, job->size, job->comm, &error),
          MI_MPI, class_root);
    CHECK(strstr(error.text, "MPI_Ibcast") != NULL);
    CHECK(strchr(error.text, '\n') == NULL);
    CHECK(strlen(error.text) > strlen("MPI_Ibcast: ") + 5);
    FAILS(mpimin_isend(job->mpi, &byte, 1, job->size, 1, job->comm, &request,
                       &error),
          MI_MPI, 6);
    FAILS(
        mpimin_isend(job->mpi, &byte, 1, 0, -77, job->comm, &request, &error),
        MI_MPI, 4);
    CHECK(request == 5);
    mpimin_set_message_max(job->mpi, 1);
    FAILS(mpimin_ibcast(job->mpi, &byte, 2, 0, job->comm, &request, &error),
          MI_ERRNO, EMSGSIZE);
    FAILS(mpimin_iscatter(job->mpi, &byte, &byte, 2, 0, job->comm, &request,
                          &error),
          MI_ERRNO, EMSGSIZE);
    mpimin_set_message_max(job->mpi, 0);
    FAILS(mpimin_iscatter(job->mpi, &byte, NULL, 1, 0, job->comm, &request,
                          &error),
          MI_ERRNO, EINVAL);
    FAILS(mpimin_ibcast(job->mpi, NULL, 2, 0, job->comm, &request, &error),
          MI_ERRNO, EINVAL);
    FAILS(mpimin_barrier(job->mpi, 0, &error), MI_ERRNO, EINVAL);
    CHECK(request == 5);
}

/* ---- begin and end ------------------------------------------------------ */

/* Still able to communicate when MPI_Finalize calls it. */
static void on_finalize(void *arg)
{
    struct job *job = arg;
    int64_t min = -1;
    int64_t max = -1;

    job->callbacks++;
    if (!job->comm)
        return;
    WORKS(mpimin_minmax(job->mpi, job->rank, &min, &max, job->comm, &error));
    CHECK(min == 0 && max == job->size - 1);
    WORKS(mpimin_comm_free(job->mpi, &job->comm, &error));
}

static void check_is_over(struct job *job)
{
    mpimin_comm copy = 0;
    int flag = 0;

    WORKS(mpimin_finalized(job->mpi, &flag, &error));
    CHECK(flag == 1);
    WORKS(mpimin_finalize(job->mpi, &error));
    FAILS(mpimin_barrier(job->mpi, job->world, &error), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_dup(job->mpi, job->world, &copy, &error), MI_ERRNO,
          EINVAL);
    CHECK(job->callbacks == 1);
}

static void open_job(struct job *job, const char *which, const char *libdir,
                     struct mpimin_promise *promise)
{
    mpimin_promise_read(promise, getenv);
    if (strcmp(which, "auto") == 0)
        which = NULL;
    if (mpimin_open(&job->mpi, which, libdir, promise, &error) < 0) {
        puts(error.text);
        exit(3);
    }
    job->family = mpimin_family(job->mpi);
    job->world = mpimin_world(job->mpi);
}

static void init_job(struct job *job, const struct mpimin_promise *promise)
{
    enum mpimin_thread provided = MPIMIN_THREAD_SINGLE;
    int flag = -1;

    if (mpimin_init(job->mpi, MPIMIN_THREAD_MULTIPLE, promise, &provided,
                    &job->ours, &error) < 0) {
        puts(error.text);
        fflush(stdout);
        mi_error_clear(&error);
        if (mpimin_finalize(job->mpi, &error) < 0)
            puts(error.text);
        exit(3);
    }
    WORKS(mpimin_comm_rank(job->mpi, job->world, &job->rank, &error));
    WORKS(mpimin_comm_size(job->mpi, job->world, &job->size, &error));
    CHECK(!job->ours || provided == MPIMIN_THREAD_MULTIPLE ||
          job->family != MPIMIN_MPICH);
    CHECK((int)provided >= MPIMIN_THREAD_SINGLE &&
          provided <= MPIMIN_THREAD_MULTIPLE);
    CHECK(promise->size <= 0 || !promise->certain ||
          promise->size == job->size);
    CHECK(promise->rank < 0 || !promise->certain ||
          promise->rank == job->rank);
    WORKS(mpimin_initialized(job->mpi, &flag, &error));
    CHECK(flag == 1);
    WORKS(mpimin_finalized(job->mpi, &flag, &error));
    CHECK(flag == 0);
    WORKS(mpimin_comm_dup(job->mpi, job->world, &job->comm, &error));
    CHECK(job->comm != 0);
    WORKS(mpimin_on_finalize(job->mpi, on_finalize, job, &error));
    FAILS(mpimin_on_finalize(job->mpi, on_finalize, job, &error), MI_ERRNO,
          EINVAL);
}

static void init_twice(struct job *job, const struct mpimin_promise *promise)
{
    enum mpimin_thread provided = MPIMIN_THREAD_SINGLE;
    int ours = 7;

    WORKS(mpimin_init(job->mpi, MPIMIN_THREAD_SINGLE, promise, &provided,
                      &ours, &error));
    CHECK(ours == 0);
}

/* ---- modes -------------------------------------------------------------- */

static void run_calls(struct job *job)
{
    test_bcast_any_size_arrives(job);
    test_ibcast_in_a_row_arrives(job);
    test_igather_from_all_ordered(job);
    test_iscatter_each_its_own(job);
    test_minmax_extremes_found(job);
    messages_to_root(job, 0);
    messages_to_root(job, 12);
    messages_to_root(job, 500000);
    test_wait_times_out_and_completes(job);
    test_create_halves_apart(job);
    test_create_of_one_alone(job);
    test_split_shared_usable(job);
    test_errors_have_class_and_text(job);
}

static int (*library_function(struct job *job, const char *name))(void)
{
    void *symbol = job->library ? dlsym(job->library, name) : NULL;
    int (*function)(void);

    CHECK(symbol != NULL);
    memcpy(&function, &symbol, sizeof(symbol));
    return function;
}

/* What an application does that knows nothing of us. */
static void other_init(struct job *job)
{
    int (*function)(void) = library_function(job, "MPI_Init");
    int (*init)(int *argc, char ***argv);

    memcpy(&init, &function, sizeof(function));
    CHECK(init(NULL, NULL) == 0);
}

static void other_finalize(struct job *job)
{
    CHECK(library_function(job, "MPI_Finalize")() == 0);
}

static void run_abort(struct job *job)
{
    if (job->rank == job->size - 1)
        mpimin_abort(job->mpi, 7);
    WORKS(mpimin_barrier(job->mpi, job->comm, &error));
    CHECK(!"the barrier is passed without the last rank");
}

static void run_fork(struct job *job)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        if (mpimin_finalize(job->mpi, &error) == 0 || error.code != EPERM)
            _exit(99);
        mpimin_abort(job->mpi, 6);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 6);
    run_calls(job);
}

int main(int argc, char **argv)
{
    struct job state = {.callbacks = 0};
    struct job *job = &state;
    struct mpimin_promise promise;
    const char *mode = argc > 1 ? argv[1] : "calls";
    int is_other = strcmp(mode, "other") == 0;
    int is_closed = strcmp(mode, "closed") == 0;
    char version[200];

    open_job(job, argc > 2 ? argv[2] : "auto", argc > 3 ? argv[3] : NULL,
             &promise);
    snprintf(version, sizeof(version), "%s", mpimin_version(job->mpi));
    job->library = dlopen(mpimin_library(job->mpi), RTLD_NOW | RTLD_NOLOAD);
    if (is_other)
        other_init(job);
    init_job(job, &promise);
    CHECK(job->ours == !is_other);
    init_twice(job, &promise);
    if (strcmp(mode, "abort") == 0)
        run_abort(job);
    else if (strcmp(mode, "fork") == 0)
        run_fork(job);
    else if (strcmp(mode, "start") != 0)
        run_calls(job);
    if (is_closed) {
        WORKS(mpimin_comm_free(job->mpi, &job->comm, &error));
        mpimin_close(job->mpi);
        job->mpi = NULL;
        other_finalize(job);
        CHECK(job->callbacks == 1);
    } else {
        if (is_other)
            other_finalize(job);
        else
            WORKS(mpimin_finalize(job->mpi, &error));
        check_is_over(job);
    }
    if (job->rank == 0)
        printf("ok %d %d %d %s\n", (int)job->family, job->size, job->callbacks,
               version);
    mpimin_close(job->mpi);
    return 0;
}
