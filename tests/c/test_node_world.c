/* Tests of nodes with a real MPI, to be started by its mpiexec.
 *
 *   test_node_world HERE THERE WHICH LIBDIR
 *
 * WHICH and LIBDIR as in mpimin_open().  HERE and THERE are directories for
 * stores on different filesystems.  Rank 0 prints "ok SIZE"; a failed check
 * ends the job with status 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"

#define MIB (1u << 20)
#define ABSENT "/nonexistent-directory"

/* A way to form nodes: what rank i gets, and what has to come of it. */
struct layout {
    const char *about;
    int ranks_per_node;
    int other;  /* this rank, or every one of this rest, lies THERE */
    int stride; /* 0: no rest */
    int broken; /* this rank has no directory; -1: none */
};

static const struct layout layouts[] = {
    {"all on one", 1000, -1, 0, -1},
    {"each its own", 1, -1, 0, -1},
    {"two each", 2, -1, 0, -1},
    {"three each", 3, -1, 0, -1},
    {"by what is shared", 0, -1, 0, -1},
    {"the last apart", 0, -2, 0, -1},
    {"interleaved", 0, 1, 2, -1},
    {"uneven and interleaved", 0, 0, 3, -1},
    {"a leader without store", 2, -1, 0, 2},
    {"a rank without store", 1, -1, 0, 1},
    {"a mate without store", 2, -1, 0, 3},
    {"root without store", 2, -1, 0, 0},
};

struct job {
    struct mpimin *mpi;
    mpimin_comm comm;
    int rank, size;
    const char *here, *there;
    const struct layout *layout;
};

static struct mi_error error;

static void check(const struct job *job, int ok, int line, const char *text)
{
    if (ok)
        return;
    fprintf(stderr, "%s:%d: %s: rank %d of %d failed: %s (%s)\n", __FILE__,
            line, job->layout ? job->layout->about : "start", job->rank,
            job->size, text, error.text);
    mpimin_abort(job->mpi, 1);
}

#define CHECK(ok) check(job, (ok) != 0, __LINE__, #ok)
#define WORKS(call) (mi_error_clear(&error), CHECK((call) == 0))

/* ---- what has to come of it --------------------------------------------- */

static int is_there(const struct job *job, int rank)
{
    const struct layout *layout = job->layout;

    if (layout->stride)
        return rank % layout->stride == layout->other;
    return layout->other == -2 && rank == job->size - 1;
}

static int are_mates(const struct job *job, int a, int b)
{
    const int each = job->layout->ranks_per_node;

    if (each)
        return a / each == b / each;
    return is_there(job, a) == is_there(job, b);
}

static int leader_of(const struct job *job, int rank)
{
    int leader = 0;

    while (!are_mates(job, leader, rank))
        leader++;
    return leader;
}

static int has_store(const struct job *job, int rank)
{
    const int broken = job->layout->broken;

    return broken < 0 || (rank != broken && leader_of(job, rank) != broken &&
                          leader_of(job, 0) != broken);
}

static struct mi_node expected(const struct job *job)
{
    const int leader = leader_of(job, job->rank);
    struct mi_node node = {.stored = has_store(job, job->rank)};

    for (int i = 0; i < job->size; i++) {
        if (leader_of(job, i) == i) {
            node.number += i < leader;
            node.nodes++;
        }
        if (are_mates(job, i, job->rank)) {
            node.rank += i < job->rank;
            node.size++;
            node.attached += has_store(job, i);
        }
    }
    return node;
}

/* ---- what came of it ---------------------------------------------------- */

/* The leaders with a store, in the order of their ranks, and only these. */
static void check_leaders(struct job *job, struct mi_node *node)
{
    const int mine = node->rank == 0 && node->stored;
    int rank = -1, size = -1, turn = 0, count = 0, first = job->rank;
    int64_t least = -1, most = -1;

    for (int i = 0; i < job->size; i++)
        if (leader_of(job, i) == i && has_store(job, i)) {
            turn += i < job->rank;
            count++;
        }
    CHECK((node->leaders != 0) == (mine && count > 1));
    if (!node->leaders)
        return;
    WORKS(mpimin_comm_rank(job->mpi, node->leaders, &rank, &error));
    WORKS(mpimin_comm_size(job->mpi, node->leaders, &size, &error));
    CHECK(rank == turn && size == count);
    WORKS(mpimin_bcast(job->mpi, &first, sizeof(first), 0, node->leaders,
                       &error));
    WORKS(mpimin_minmax(job->mpi, rank, &least, &most, node->leaders, &error));
    CHECK(first == 0 && least == 0 && most == count - 1);
    WORKS(mpimin_comm_free(job->mpi, &node->leaders, &error));
}

static void check_layout(struct job *job)
{
    const struct layout *layout = job->layout;
    const char *tmpdir = is_there(job, job->rank) ? job->there : job->here;
    /* The least counts, everywhere. */
    const size_t capacity = job->rank == job->size - 1 ? MIB : 8 * MIB;
    const struct mi_node right = expected(job);
    struct mi_error why = {0};
    struct mi_node node;

    if (job->rank == layout->broken)
        tmpdir = ABSENT;
    WORKS(mi_node_form(&node, job->mpi, job->comm, tmpdir,
                       layout->ranks_per_node, capacity, &why, &error));
    CHECK(node.number == right.number && node.nodes == right.nodes);
    CHECK(node.rank == right.rank && node.size == right.size);
    CHECK(node.stored == right.stored);
    CHECK((why.text[0] == '\0') == node.stored);
    CHECK(!node.store == !node.stored && !node.mailbox == !node.stored);
    if (node.rank == 0 && node.stored) {
        CHECK(node.attached == right.attached);
        CHECK(mi_store_room(node.store) > MIB / 2);
        CHECK(mi_store_room(node.store) <= MIB);
    }
    check_leaders(job, &node);
    mi_store_destroy(node.store);
    mi_mailbox_destroy(node.mailbox);
}

int main(int argc, char **argv)
{
    struct job state = {0}, *job = &state;
    enum mpimin_thread provided;
    struct mpimin_promise promise;
    int ours;

    if (argc != 5)
        return 2;
    job->here = argv[1];
    job->there = argv[2];
    mpimin_promise_read(&promise, getenv);
    WORKS(mpimin_open(&job->mpi, argv[3], argv[4], &promise, &error));
    WORKS(mpimin_init(job->mpi, MPIMIN_THREAD_MULTIPLE, &promise, &provided,
                      &ours, &error));
    WORKS(
        mpimin_comm_dup(job->mpi, mpimin_world(job->mpi), &job->comm, &error));
    WORKS(mpimin_comm_rank(job->mpi, job->comm, &job->rank, &error));
    WORKS(mpimin_comm_size(job->mpi, job->comm, &job->size, &error));
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        job->layout = &layouts[i];
        check_layout(job);
    }
    WORKS(mpimin_comm_free(job->mpi, &job->comm, &error));
    WORKS(mpimin_finalize(job->mpi, &error));
    if (job->rank == 0)
        printf("ok %d\n", job->size);
    mpimin_close(job->mpi);
    return 0;
}
