/* Tests of libmpi_min without MPI: promises, arguments, the world of one.
 *
 *   test_mpimin                      run all checks
 *   test_mpimin open WHICH LIBDIR [LOADED]
 *       open a library ("auto": NULL), with the promise of the environment,
 *       after loading the library LOADED with local symbols; print
 *       "FAMILY|NAME|VERSION" or, with status 1, the error's text
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mpimin.h"

static int passed;
static int failed;

static void check(int ok, int line, const char *text, const char *about)
{
    if (ok) {
        passed++;
        return;
    }
    failed++;
    fprintf(stderr, "%s:%d: failed: %s (%s)\n", __FILE__, line, text, about);
}

#define CHECK_FOR(about, ok) check((ok) != 0, __LINE__, #ok, (about))
#define CHECK(ok) CHECK_FOR(__func__, ok)

/* The call fails with this code, and says something. */
#define FAILS(call, wanted_domain, wanted_code)                               \
    do {                                                                      \
        struct mi_error e = {MI_NONE, 0, ""};                                 \
        struct mi_error *err = &e;                                            \
        CHECK_FOR(e.text, (call) == -1);                                      \
        CHECK_FOR(e.text, e.domain == (wanted_domain));                       \
        CHECK_FOR(e.text, e.code == (wanted_code));                           \
        CHECK_FOR(#call, e.text[0] != '\0');                                  \
    } while (0)

#define WORKS(call)                                                           \
    do {                                                                      \
        struct mi_error e = {MI_NONE, 0, ""};                                 \
        struct mi_error *err = &e;                                            \
        CHECK_FOR(e.text, (call) == 0);                                       \
    } while (0)

/* ---- promises ----------------------------------------------------------- */

static const char *const *environment; /* "NAME=value", ..., NULL */
static char value[128];                /* the answer, until the next one */

static char *fake_getenv(const char *name)
{
    size_t length = strlen(name);
    const char *const *at;

    for (at = environment; *at; at++) {
        if (strncmp(*at, name, length) == 0 && (*at)[length] == '=') {
            snprintf(value, sizeof(value), "%s", *at + length + 1);
            return value;
        }
    }
    return NULL;
}

static struct mpimin_promise read_promise(const char *const *variables)
{
    struct mpimin_promise promise;

    memset(&promise, 0x5a, sizeof(promise));
    environment = variables;
    mpimin_promise_read(&promise, fake_getenv);
    return promise;
}

struct promise_case {
    const char *variables[10];
    const char *launcher; /* how it begins */
    enum mpimin_family family;
    int intel;
    int pmix;
    int rank;
    int size;
    int certain;
};

static const struct promise_case promise_cases[] = {
    {{NULL}, "", MPIMIN_NONE, 0, 0, -1, -1, 0},
    {{"HOME=/root", "PMI_FD=6", NULL}, "", MPIMIN_NONE, 0, 0, -1, -1, 0},
    /* Hydra */
    {{"PMI_FD=6", "PMI_RANK=1", "PMI_SIZE=4", "MPI_LOCALRANKID=1",
      "MPI_LOCALNRANKS=4", "HYDI_CONTROL_FD=7", NULL},
     "Hydra",
     MPIMIN_MPICH,
     0,
     0,
     1,
     4,
     1},
    {{"PMI_PORT=host:123", "PMI_ID=2", NULL},
     "Hydra",
     MPIMIN_MPICH,
     0,
     0,
     2,
     -1,
     1},
    {{"PMI_PORT=host:123", "PMI_ID=2", "PMI_SIZE=8", NULL},
     "Hydra",
     MPIMIN_MPICH,
     0,
     0,
     2,
     8,
     1},
    {{"HYDI_CONTROL_FD=7", NULL}, "", MPIMIN_NONE, 0, 0, -1, -1, 0},
    /* Intel */
    {{"I_MPI_HYDRA_TOPOLIB=hwloc", "PMI_FD=6", "PMI_RANK=0", "PMI_SIZE=2",
      "MPI_LOCALRANKID=0", "HYDI_CONTROL_FD=7", NULL},
     "Intel MPI",
     MPIMIN_MPICH,
     1,
     0,
     0,
     2,
     1},
    {{"I_MPI_HYDRA_TOPOLIB=hwloc", NULL}, "", MPIMIN_NONE, 0, 0, -1, -1, 0},
    /* Open MPI 4, 5 and 6 */
    {{"OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=5",
      "OMPI_COMM_WORLD_LOCAL_RANK=3", "PMIX_NAMESPACE=1", "PMIX_RANK=3",
      "OMPI_MCA_orte_jobid=1", NULL},
     "Open MPI",
     MPIMIN_OPENMPI,
     0,
     1,
     3,
     5,
     1},
    {{"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2", "PRTE_LAUNCHED=1",
      "OMPI_VERSION=5.0.8", "PMIX_RANK=0", NULL},
     "Open MPI",
     MPIMIN_OPENMPI,
     0,
     1,
     0,
     2,
     1},
    {{"OMPI_COMM_WORLD_SIZE=2", "PMIX_RANK=1", "OMPI_VERSION=6.0.0", NULL},
     "Open MPI",
     MPIMIN_OPENMPI,
     0,
     1,
     1,
     2,
     1},
    /* Slurm: a batch script, pmi2, pmix */
    {{"SLURM_PROCID=0", "SLURM_NTASKS=16", NULL},
     "Slurm",
     MPIMIN_NONE,
     0,
     0,
     0,
     16,
     0},
    {{"SLURM_PROCID=2", "SLURM_NTASKS=16", "SLURM_STEP_NUM_TASKS=4", NULL},
     "Slurm",
     MPIMIN_NONE,
     0,
     0,
     2,
     4,
     0},
    {{"SLURM_NTASKS=16", NULL}, "", MPIMIN_NONE, 0, 0, -1, -1, 0},
    {{"SLURM_PROCID=2", "SLURM_NTASKS=4", "PMI_RANK=2", "PMI_SIZE=4",
      "PMI_FD=9", NULL},
     "Slurm",
     MPIMIN_NONE,
     0,
     0,
     2,
     4,
     1},
    {{"SLURM_PROCID=2", "SLURM_STEP_NUM_TASKS=4", "PMIX_RANK=2", NULL},
     "Slurm",
     MPIMIN_NONE,
     0,
     1,
     2,
     4,
     1},
    {{"SLURM_PROCID=2", "SLURM_NTASKS=4", "PMIX_RANK=2", NULL},
     "Slurm",
     MPIMIN_NONE,
     0,
     1,
     2,
     -1,
     1},
    /* mpiexec inside a Slurm allocation */
    {{"SLURM_PROCID=0", "SLURM_NTASKS=16", "PMI_RANK=1", "PMI_SIZE=2",
      "HYDI_CONTROL_FD=7", NULL},
     "Hydra",
     MPIMIN_MPICH,
     0,
     0,
     1,
     2,
     1},
    {{"SLURM_PROCID=0", "SLURM_NTASKS=16", "OMPI_COMM_WORLD_RANK=1",
      "OMPI_COMM_WORLD_SIZE=2", NULL},
     "Open MPI",
     MPIMIN_OPENMPI,
     0,
     1,
     1,
     2,
     1},
    /* PALS, ALPS */
    {{"PALS_RANKID=5", "PALS_APID=1", NULL},
     "PALS",
     MPIMIN_NONE,
     0,
     0,
     5,
     -1,
     1},
    {{"PALS_RANKID=5", "PMI_RANK=5", "PMI_SIZE=8", "SLURM_PROCID=5", NULL},
     "PALS",
     MPIMIN_NONE,
     0,
     0,
     5,
     8,
     1},
    {{"ALPS_APP_PE=7", NULL}, "ALPS", MPIMIN_NONE, 0, 0, 7, -1, 1},
    /* Flux, and the initial program of an instance inside a job */
    {{"FLUX_TASK_RANK=1", "FLUX_JOB_SIZE=2", "PMI_RANK=1", "PMI_SIZE=2",
      "PMI_FD=5", NULL},
     "Flux",
     MPIMIN_NONE,
     0,
     0,
     1,
     2,
     1},
    {{"FLUX_TASK_RANK=1", "FLUX_JOB_SIZE=2", "PMIX_RANK=1", NULL},
     "Flux",
     MPIMIN_NONE,
     0,
     1,
     1,
     2,
     1},
    {{"FLUX_TASK_RANK=0", NULL}, "", MPIMIN_NONE, 0, 0, -1, -1, 0},
    /* anything that speaks PMI or PMIx */
    {{"PMI_RANK=1", "PMI_SIZE=3", NULL}, "a PMI", MPIMIN_NONE, 0, 0, 1, 3, 1},
    {{"PMI_RANK=1", NULL}, "", MPIMIN_NONE, 0, 0, -1, -1, 0},
    {{"PMIX_RANK=1", "PMIX_NAMESPACE=x", NULL},
     "a PMIx",
     MPIMIN_NONE,
     0,
     1,
     1,
     -1,
     1},
    /* what is no number */
    {{"OMPI_COMM_WORLD_RANK=x", "OMPI_COMM_WORLD_SIZE=-4", NULL},
     "Open MPI",
     MPIMIN_OPENMPI,
     0,
     1,
     -1,
     -1,
     1},
    {{"OMPI_COMM_WORLD_RANK= 1", "OMPI_COMM_WORLD_SIZE=0", NULL},
     "Open MPI",
     MPIMIN_OPENMPI,
     0,
     1,
     -1,
     -1,
     1},
    {{"OMPI_COMM_WORLD_RANK=1x", "PMIX_RANK=2",
      "OMPI_COMM_WORLD_SIZE=99999999999999999999", NULL},
     "Open MPI",
     MPIMIN_OPENMPI,
     0,
     1,
     2,
     -1,
     1},
    {{"OMPI_COMM_WORLD_RANK=", "OMPI_COMM_WORLD_SIZE=", NULL},
     "",
     MPIMIN_NONE,
     0,
     0,
     -1,
     -1,
     0},
};

static void test_promise_every_launcher_recognised(void)
{
    const struct promise_case *c;
    struct mpimin_promise got;
    char about[64];
    size_t i;

    for (i = 0; i < sizeof(promise_cases) / sizeof(promise_cases[0]); i++) {
        c = &promise_cases[i];
        got = read_promise(c->variables);
        snprintf(about, sizeof(about), "case %zu: '%.31s'", i, got.launcher);
        CHECK_FOR(about, strncmp(got.launcher, c->launcher,
                                 strlen(c->launcher)) == 0);
        CHECK_FOR(about, !got.launcher[0] == !c->launcher[0]);
        CHECK_FOR(about, got.family == c->family);
        CHECK_FOR(about, got.intel == c->intel);
        CHECK_FOR(about, got.pmix == c->pmix);
        CHECK_FOR(about, got.rank == c->rank);
        CHECK_FOR(about, got.size == c->size);
        CHECK_FOR(about, got.certain == c->certain);
    }
}

static int local_size_of(const char *const *variables)
{
    return read_promise(variables).local_size;
}

static void test_promise_says_how_many_are_on_the_node(void)
{
    static const char *const hydra[] = {"PMI_RANK=1", "PMI_SIZE=64",
                                        "HYDI_CONTROL_FD=7",
                                        "MPI_LOCALNRANKS=16", NULL};
    static const char *const silent[] = {"PMI_RANK=1", "PMI_SIZE=64",
                                         "HYDI_CONTROL_FD=7", NULL};
    static const char *const open_mpi[] = {
        "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=64",
        "OMPI_COMM_WORLD_LOCAL_SIZE=8", "MPI_LOCALNRANKS=16", NULL};
    static const char *const nobody[] = {"MPI_LOCALNRANKS=16", NULL};

    CHECK(local_size_of(hydra) == 16);
    CHECK(local_size_of(silent) == -1);
    CHECK(local_size_of(open_mpi) == 8);
    CHECK(local_size_of(nobody) == -1);
}

/* ---- opening ------------------------------------------------------------ */

static const char *const nothing[] = {NULL};

static void check_open_fails(const char *which, const char *libdir, int code,
                             const char *says)
{
    struct mpimin_promise none = read_promise(nothing);
    struct mpimin *mpi = (struct mpimin *)8;
    struct mi_error err = {MI_NONE, 0, ""};

    CHECK_FOR(which, mpimin_open(&mpi, which, libdir, &none, &err) == -1);
    CHECK_FOR(which, mpi == (struct mpimin *)8);
    CHECK_FOR(err.text, err.domain == MI_ERRNO && err.code == code);
    CHECK_FOR(err.text, strstr(err.text, says) != NULL);
    CHECK_FOR(err.text, strstr(err.text, "PYTHON_MPI_MPI") != NULL);
    CHECK_FOR(err.text, strchr(err.text, '\n') == NULL);
}

static void test_open_wrong_library_refused(void)
{
    char longer[3000];

    check_open_fails("mpich2", NULL, EINVAL, "mpich2");
    check_open_fails("/no/such/libmpi.so", NULL, ENOENT, "not found");
    check_open_fails("/no/such/libmpi.so", NULL, ENOENT, "/no/such/libmpi");
    check_open_fails("libnosuchmpi.so", NULL, ENOENT, "not found");
    check_open_fails("libnosuchmpi.so", "/no/dir", ENOENT,
                     "/no/dir/libnosuchmpi.so: not found");
    check_open_fails("/", NULL, ENOENT, "/");
    check_open_fails("/dev/null", NULL, ENOENT, "/dev/null: file too short");
    check_open_fails("libm.so.6", NULL, ENOENT, "not an MPI library");
    memset(longer, 'x', sizeof(longer));
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    check_open_fails(longer, NULL, ENOENT, "/xxx");
}

static void test_open_null_argument_refused(void)
{
    struct mpimin_promise none = read_promise(nothing);
    struct mpimin *mpi;

    FAILS(mpimin_open(NULL, "none", NULL, &none, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_open(&mpi, "none", NULL, NULL, err), MI_ERRNO, EINVAL);
    CHECK(mpimin_open(NULL, "none", NULL, &none, NULL) == -1);
}

static void test_null_handle_harmless(void)
{
    enum mpimin_thread provided;
    mpimin_request request = 0;
    mpimin_comm comm = 0;
    size_t bytes;
    int64_t low;
    int64_t high;
    char byte = 0;
    int n;

    errno = ENOTTY;
    mpimin_close(NULL);
    CHECK(errno == ENOTTY);
    CHECK(mpimin_family(NULL) == MPIMIN_NONE);
    CHECK(strcmp(mpimin_library(NULL), "") == 0);
    CHECK(strcmp(mpimin_version(NULL), "no MPI") == 0);
    CHECK(mpimin_world(NULL) == 0);
    CHECK(mpimin_message_max(NULL) == 0);
    mpimin_set_message_max(NULL, 1);
    FAILS(mpimin_init(NULL, 0, NULL, &provided, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_initialized(NULL, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_finalized(NULL, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_finalize(NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_on_finalize(NULL, NULL, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_rank(NULL, 1, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_size(NULL, 1, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_dup(NULL, 1, &comm, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_create(NULL, 1, &n, 1, 0, &comm, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_split_shared(NULL, 1, 0, &comm, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_ibcast(NULL, &byte, 1, 0, 1, &request, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_igather(NULL, &byte, 1, &byte, 0, 1, &request, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_iscatter(NULL, &byte, &byte, 1, 0, 1, &request, err),
          MI_ERRNO, EINVAL);
    FAILS(mpimin_ibarrier(NULL, 1, &request, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_isend(NULL, &byte, 1, 0, 0, 1, &request, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_iprobe(NULL, 0, 1, &n, &n, &bytes, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_recv(NULL, &byte, 1, 0, 0, 1, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_test(NULL, &request, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_wait(NULL, &request, 0, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_bcast(NULL, &byte, 1, 0, 1, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_barrier(NULL, 1, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_minmax(NULL, 0, &low, &high, 1, err), MI_ERRNO, EINVAL);
}

/* ---- the world of one --------------------------------------------------- */

static struct mpimin *open_one(const char *which)
{
    struct mpimin_promise none = read_promise(nothing);
    struct mpimin *mpi = NULL;

    WORKS(mpimin_open(&mpi, which, NULL, &none, err));
    if (!mpi)
        abort();
    return mpi;
}

static struct mpimin *start_one(void)
{
    struct mpimin_promise none = read_promise(nothing);
    struct mpimin *mpi = open_one("none");
    enum mpimin_thread provided = MPIMIN_THREAD_SINGLE;
    int ours = 0;

    WORKS(mpimin_init(mpi, MPIMIN_THREAD_MULTIPLE, &none, &provided, &ours,
                      err));
    CHECK(provided == MPIMIN_THREAD_MULTIPLE);
    CHECK(ours == 1);
    return mpi;
}

static void test_open_without_launcher_is_world_of_one(void)
{
    static const char *const batch[] = {"SLURM_PROCID=0", "SLURM_NTASKS=4",
                                        NULL};
    const char *const ways[] = {NULL, "", "none"};
    struct mpimin_promise weak = read_promise(batch);
    struct mpimin *mpi;
    size_t i;

    for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        mpi = open_one(ways[i]);
        CHECK(mpimin_family(mpi) == MPIMIN_NONE);
        CHECK(strcmp(mpimin_library(mpi), "") == 0);
        CHECK(strcmp(mpimin_version(mpi), "no MPI") == 0);
        errno = ENOTTY;
        mpimin_close(mpi);
        CHECK(errno == ENOTTY);
    }
    WORKS(mpimin_open(&mpi, "none", NULL, &weak, err));
    CHECK(mpimin_family(mpi) == MPIMIN_NONE);
    mpimin_close(mpi);
}

static void test_one_bad_init_refused(void)
{
    struct mpimin_promise none = read_promise(nothing);
    struct mpimin *mpi = open_one("none");
    enum mpimin_thread provided = MPIMIN_THREAD_SINGLE;
    const enum mpimin_thread all = MPIMIN_THREAD_MULTIPLE;
    int ours = 7;
    int n = 7;

    FAILS(
        mpimin_init(mpi, (enum mpimin_thread)4, &none, &provided, &ours, err),
        MI_ERRNO, EINVAL);
    FAILS(mpimin_init(mpi, (enum mpimin_thread) - 1, &none, &provided, &ours,
                      err),
          MI_ERRNO, EINVAL);
    FAILS(mpimin_init(mpi, all, NULL, &provided, &ours, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_init(mpi, all, &none, NULL, &ours, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_init(mpi, all, &none, &provided, NULL, err), MI_ERRNO,
          EINVAL);
    CHECK(ours == 7);
    FAILS(mpimin_comm_rank(mpi, mpimin_world(mpi), &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_barrier(mpi, mpimin_world(mpi), err), MI_ERRNO, EINVAL);
    CHECK(n == 7);
    FAILS(mpimin_initialized(mpi, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_finalized(mpi, NULL, err), MI_ERRNO, EINVAL);
    WORKS(mpimin_initialized(mpi, &n, err));
    CHECK(n == 0);
    WORKS(mpimin_finalize(mpi, err)); /* nothing to do */
    WORKS(mpimin_finalized(mpi, &n, err));
    CHECK(n == 0);
    mpimin_close(mpi);
}

static void count(void *arg)
{
    ++*(int *)arg;
}

static void test_one_begin_and_end(void)
{
    static const char *const four[] = {"OMPI_COMM_WORLD_RANK=0",
                                       "OMPI_COMM_WORLD_SIZE=4", NULL};
    struct mpimin_promise promise = read_promise(four);
    struct mpimin *mpi = start_one();
    enum mpimin_thread provided = MPIMIN_THREAD_SINGLE;
    int called = 0;
    int ours = 7;
    int n = 7;

    /* The user's "none" overrules the promise. */
    WORKS(mpimin_init(mpi, MPIMIN_THREAD_SERIALIZED, &promise, &provided,
                      &ours, err));
    CHECK(ours == 0 && provided == MPIMIN_THREAD_MULTIPLE);
    WORKS(mpimin_initialized(mpi, &n, err));
    CHECK(n == 1);
    FAILS(mpimin_on_finalize(mpi, NULL, NULL, err), MI_ERRNO, EINVAL);
    WORKS(mpimin_on_finalize(mpi, count, &called, err));
    FAILS(mpimin_on_finalize(mpi, count, &called, err), MI_ERRNO, EINVAL);
    CHECK(called == 0);
    WORKS(mpimin_finalize(mpi, err));
    WORKS(mpimin_finalize(mpi, err));
    CHECK(called == 1);
    WORKS(mpimin_finalized(mpi, &n, err));
    CHECK(n == 1);
    FAILS(mpimin_comm_rank(mpi, mpimin_world(mpi), &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_init(mpi, MPIMIN_THREAD_SERIALIZED, &promise, &provided,
                      &ours, err),
          MI_ERRNO, EINVAL);
    mpimin_close(mpi);
    mpi = start_one();
    WORKS(mpimin_on_finalize(mpi, count, &called, err));
    mpimin_close(mpi); /* does not finalise */
    CHECK(called == 1);
}

static void test_one_communicators(void)
{
    struct mpimin *mpi = start_one();
    mpimin_comm world = mpimin_world(mpi);
    mpimin_comm copy = 0;
    mpimin_comm part = 9;
    mpimin_comm node = 0;
    int n = 7;

    WORKS(mpimin_comm_rank(mpi, world, &n, err));
    CHECK(n == 0);
    WORKS(mpimin_comm_size(mpi, world, &n, err));
    CHECK(n == 1);
    WORKS(mpimin_comm_dup(mpi, world, &copy, err));
    CHECK(copy != 0 && copy != world);
    FAILS(mpimin_comm_create(mpi, copy, &(int){1}, 1, 3, &part, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_comm_create(mpi, copy, &(int){-1}, 1, 3, &part, err),
          MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_create(mpi, copy, &(int){0}, 0, 3, &part, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_comm_create(mpi, copy, &(int){0}, 2, 3, &part, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_comm_create(mpi, copy, NULL, 1, 3, &part, err), MI_ERRNO,
          EINVAL);
    CHECK(part == 9);
    WORKS(mpimin_comm_create(mpi, copy, &(int){0}, 1, 3, &part, err));
    WORKS(mpimin_comm_split_shared(mpi, part, 0, &node, err));
    WORKS(mpimin_comm_size(mpi, node, &n, err));
    CHECK(n == 1);
    WORKS(mpimin_comm_free(mpi, &node, err));
    CHECK(node == 0);
    WORKS(mpimin_comm_free(mpi, &node, err));
    WORKS(mpimin_comm_free(mpi, &part, err));
    WORKS(mpimin_comm_free(mpi, &copy, err));
    FAILS(mpimin_comm_free(mpi, &world, err), MI_MPI, 5);
    CHECK(world == mpimin_world(mpi));
    FAILS(mpimin_comm_free(mpi, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_dup(mpi, 0, &copy, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_dup(mpi, world, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_create(mpi, world, &(int){0}, 1, 3, NULL, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_comm_create(mpi, 77, &(int){0}, 1, 3, &part, err), MI_MPI, 5);
    FAILS(mpimin_comm_split_shared(mpi, world, 0, NULL, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_comm_rank(mpi, 77, &n, err), MI_MPI, 5);
    FAILS(mpimin_comm_size(mpi, 77, &n, err), MI_MPI, 5);
    FAILS(mpimin_comm_rank(mpi, 0, &n, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_rank(mpi, world, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_comm_size(mpi, world, NULL, err), MI_ERRNO, EINVAL);
    mpimin_close(mpi);
}

static void test_one_collectives(void)
{
    struct mpimin *mpi = start_one();
    mpimin_comm world = mpimin_world(mpi);
    mpimin_request request = 5;
    char mine[5] = "data";
    char all[5] = "";
    int64_t min = 1;
    int64_t max = 1;
    int done = 0;

    WORKS(mpimin_bcast(mpi, mine, sizeof(mine), 0, world, err));
    CHECK(strcmp(mine, "data") == 0);
    WORKS(mpimin_bcast(mpi, NULL, 0, 0, world, err));
    WORKS(mpimin_barrier(mpi, world, err));
    WORKS(mpimin_minmax(mpi, INT64_MIN, &min, &max, world, err));
    CHECK(min == INT64_MIN && max == INT64_MIN);
    WORKS(mpimin_minmax(mpi, INT64_MAX, &min, &max, world, err));
    CHECK(min == INT64_MAX && max == INT64_MAX);
    WORKS(
        mpimin_igather(mpi, mine, sizeof(mine), all, 0, world, &request, err));
    CHECK(request == 0 && strcmp(all, "data") == 0);
    WORKS(mpimin_wait(mpi, &request, -1, &done, err));
    CHECK(done == 1);
    WORKS(mpimin_iscatter(mpi, "else", mine, sizeof(mine), 0, world, &request,
                          err));
    CHECK(request == 0 && strcmp(mine, "else") == 0);
    FAILS(mpimin_bcast(mpi, mine, 1, 1, world, err), MI_MPI, 8);
    FAILS(mpimin_bcast(mpi, mine, 1, 0, 77, err), MI_MPI, 5);
    FAILS(mpimin_bcast(mpi, NULL, 1, 0, world, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_igather(mpi, NULL, 1, all, 0, world, &request, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_igather(mpi, mine, 1, all, -1, world, &request, err), MI_MPI,
          8);
    FAILS(mpimin_iscatter(mpi, all, NULL, 1, 0, world, &request, err),
          MI_ERRNO, EINVAL);
    FAILS(mpimin_iscatter(mpi, all, mine, 1, 1, world, &request, err), MI_MPI,
          8);
    FAILS(mpimin_iscatter(mpi, all, mine, 1, 0, world, NULL, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_ibcast(mpi, mine, 1, 0, world, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_ibarrier(mpi, world, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_minmax(mpi, 0, NULL, &max, world, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_minmax(mpi, 0, &min, NULL, world, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_minmax(mpi, 0, &min, &max, 77, err), MI_MPI, 5);
    mpimin_close(mpi);
}

static void test_one_messages_find_nobody(void)
{
    struct mpimin *mpi = start_one();
    mpimin_comm world = mpimin_world(mpi);
    mpimin_request request = 5;
    char byte = 'a';
    size_t bytes = 7;
    int source = 7;
    int flag = 7;

    WORKS(mpimin_iprobe(mpi, 1, world, &flag, &source, &bytes, err));
    CHECK(flag == 0 && source == 7 && bytes == 7);
    FAILS(mpimin_isend(mpi, &byte, 1, 0, 1, world, &request, err), MI_MPI, 16);
    CHECK(request == 5);
    FAILS(mpimin_recv(mpi, &byte, 1, 0, 1, world, err), MI_MPI, 16);
    FAILS(mpimin_isend(mpi, NULL, 1, 0, 1, world, &request, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_recv(mpi, NULL, 1, 0, 1, world, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_iprobe(mpi, 1, world, NULL, &source, &bytes, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_iprobe(mpi, 1, world, &flag, NULL, &bytes, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_iprobe(mpi, 1, world, &flag, &source, NULL, err), MI_ERRNO,
          EINVAL);
    FAILS(mpimin_iprobe(mpi, 1, 77, &flag, &source, &bytes, err), MI_MPI, 5);
    mpimin_close(mpi);
}

static void test_one_test_and_wait(void)
{
    struct mpimin *mpi = start_one();
    mpimin_request request = 0;
    int done = 0;

    WORKS(mpimin_ibarrier(mpi, mpimin_world(mpi), &request, err));
    WORKS(mpimin_test(mpi, &request, &done, err));
    CHECK(done == 1 && request == 0);
    done = 0;
    WORKS(mpimin_wait(mpi, &request, 0, &done, err));
    CHECK(done == 1);
    FAILS(mpimin_test(mpi, NULL, &done, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_test(mpi, &request, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_wait(mpi, NULL, 0, &done, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_wait(mpi, &request, 0, NULL, err), MI_ERRNO, EINVAL);
    FAILS(mpimin_wait(mpi, &request, (double)NAN, &done, err), MI_ERRNO,
          EINVAL);
    mpimin_close(mpi);
}

static void test_message_max_is_kept(void)
{
    struct mpimin *mpi = start_one();
    mpimin_comm world = mpimin_world(mpi);
    mpimin_request request = 5;
    char text[8] = "message";

    CHECK(mpimin_message_max(mpi) == INT_MAX);
    mpimin_set_message_max(mpi, (size_t)INT_MAX + 1);
    CHECK(mpimin_message_max(mpi) == INT_MAX);
    mpimin_set_message_max(mpi, 3);
    CHECK(mpimin_message_max(mpi) == 3);
    WORKS(mpimin_bcast(mpi, text, sizeof(text), 0, world, err));
    WORKS(mpimin_ibcast(mpi, text, 3, 0, world, &request, err));
    FAILS(mpimin_ibcast(mpi, text, 4, 0, world, &request, err), MI_ERRNO,
          EMSGSIZE);
    FAILS(mpimin_igather(mpi, text, 4, text, 0, world, &request, err),
          MI_ERRNO, EMSGSIZE);
    FAILS(mpimin_iscatter(mpi, text, text, 4, 0, world, &request, err),
          MI_ERRNO, EMSGSIZE);
    FAILS(mpimin_isend(mpi, text, 4, 0, 1, world, &request, err), MI_ERRNO,
          EMSGSIZE);
    FAILS(mpimin_recv(mpi, text, 4, 0, 1, world, err), MI_ERRNO, EMSGSIZE);
    mpimin_set_message_max(mpi, 0);
    CHECK(mpimin_message_max(mpi) == INT_MAX);
    mpimin_close(mpi);
}

static void test_wtime_grows(void)
{
    struct mpimin *mpi = open_one("none");
    double first = mpimin_wtime(mpi);

    usleep(2000);
    CHECK(mpimin_wtime(mpi) - first >= 0.002);
    CHECK(mpimin_wtime(mpi) - first < 60);
    mpimin_close(mpi);
}

/* Run 'body' in a forked child; its exit status. */
static int in_child(void (*body)(struct mpimin *mpi), struct mpimin *mpi)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        body(mpi);
        _exit(99);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static void abort_five(struct mpimin *mpi)
{
    mpimin_abort(mpi, 5);
}

static void finalize_forked(struct mpimin *mpi)
{
    struct mpimin_promise none = read_promise(nothing);
    enum mpimin_thread provided;
    struct mi_error err;
    int ours;

    if (mpimin_finalize(mpi, &err) == 0 || err.code != EPERM)
        _exit(1);
    if (mpimin_init(mpi, MPIMIN_THREAD_SINGLE, &none, &provided, &ours,
                    &err) == 0 ||
        err.code != EPERM)
        _exit(2);
    _exit(0);
}

static void test_forked_child_refused(void)
{
    struct mpimin *mpi = start_one();
    int called = 0;

    CHECK(in_child(abort_five, NULL) == 5);
    CHECK(in_child(abort_five, mpi) == 5);
    WORKS(mpimin_on_finalize(mpi, count, &called, err));
    CHECK(in_child(finalize_forked, mpi) == 0);
    WORKS(mpimin_finalize(mpi, err));
    CHECK(called == 1);
    mpimin_close(mpi);
}

/* ---- as a program ------------------------------------------------------- */

static int open_and_tell(const char *which, const char *libdir)
{
    struct mpimin_promise promise;
    struct mpimin *mpi;
    struct mi_error err;

    if (strcmp(which, "auto") == 0)
        which = NULL;
    mpimin_promise_read(&promise, getenv);
    if (mpimin_open(&mpi, which, libdir, &promise, &err) < 0) {
        puts(err.text);
        return 1;
    }
    printf("%d|%s|%s\n", (int)mpimin_family(mpi), mpimin_library(mpi),
           mpimin_version(mpi));
    mpimin_close(mpi);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 4 && !dlopen(argv[4], RTLD_NOW | RTLD_LOCAL))
        return 2;
    if (argc > 3 && strcmp(argv[1], "open") == 0)
        return open_and_tell(argv[2], argv[3]);
    test_promise_every_launcher_recognised();
    test_promise_says_how_many_are_on_the_node();
    test_open_wrong_library_refused();
    test_open_null_argument_refused();
    test_null_handle_harmless();
    test_open_without_launcher_is_world_of_one();
    test_one_bad_init_refused();
    test_one_begin_and_end();
    test_one_communicators();
    test_one_collectives();
    test_one_messages_find_nobody();
    test_one_test_and_wait();
    test_message_max_is_kept();
    test_wtime_grows();
    test_forked_child_refused();
    printf("test_mpimin: %d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
