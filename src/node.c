#include "node.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "format.h"
#include "jobdir.h"

#define STORE "store"
#define MAILBOX "mailbox"
#define TAG 1 /* of the leaders' messages on the job's communicator */
#define CAPACITY_LEAST (64u << 10)
#define CAPACITY_MOST ((uint64_t)64 << 30)

/* ---- who shares memory -------------------------------------------------- */

/* A name for the memory at 'tmpdir' that is the same for all who share it and
 * for nobody else: the running kernel, and the filesystem's device there.
 */
static uint64_t identity(const char *tmpdir, int rank, int ranks_per_node)
{
    char text[512] = "", host[256] = "";
    struct stat status = {0};
    size_t size;
    FILE *f;

    if (ranks_per_node > 0)
        return mi_hash(4, &(int){rank / ranks_per_node}, sizeof(int));
    f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f) {
        size = fread(text, 1, 64, f);
        text[size] = '\0';
        fclose(f);
    }
    if (gethostname(host, sizeof(host) - 1) != 0)
        host[0] = '\0';
    if (stat(tmpdir, &status) != 0)
        status.st_dev = 0;
    size = strlen(text);
    snprintf(text + size, sizeof(text) - size, " %s %llu", host,
             (unsigned long long)status.st_dev);
    return mi_hash(5, text, strlen(text));
}

/* ---- the memory --------------------------------------------------------- */

static uint64_t default_capacity(const char *tmpdir)
{
    struct statvfs fs;
    uint64_t capacity;

    /* There will be no store here, or it has no size: no constraint. */
    if (statvfs(tmpdir, &fs) != 0 || fs.f_blocks == 0)
        return CAPACITY_MOST;
    capacity = (uint64_t)fs.f_blocks * fs.f_frsize / 4;
    capacity = capacity < CAPACITY_MOST ? capacity : CAPACITY_MOST;
    return capacity > CAPACITY_LEAST ? capacity : CAPACITY_LEAST;
}

static int create(struct mi_node *node, struct mi_jobdir *jobdir,
                  const char *tmpdir, size_t capacity, struct mi_error *err)
{
    mi_jobdir_sweep(tmpdir);
    if (mi_jobdir_create(jobdir, tmpdir, err) != 0)
        return -1;
    if (mi_store_create(&node->store, jobdir->dir, STORE, capacity, err) != 0)
        return -1;
    return mi_mailbox_create(&node->mailbox, jobdir->dir, MAILBOX, err);
}

static int attach(struct mi_node *node, const char *tmpdir, const char *name,
                  struct mi_error *err)
{
    char path[PATH_MAX];
    int rc, dir;

    if (snprintf(path, sizeof(path), "%s/%s", tmpdir, name) >=
        (int)sizeof(path))
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG, "%s", tmpdir);
    dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return mi_fail_errno(err, "cannot open %s", path);
    rc = mi_store_open(&node->store, dir, STORE, err);
    if (rc == 0)
        rc = mi_mailbox_open(&node->mailbox, dir, MAILBOX, err);
    close(dir);
    return rc;
}

static void detach(struct mi_node *node)
{
    mi_store_destroy(node->store);
    mi_mailbox_destroy(node->mailbox);
    node->store = NULL;
    node->mailbox = NULL;
}

/* ---- agreeing ----------------------------------------------------------- */

/* What a rank learns in the first of three rounds. */
struct place {
    uint64_t capacity; /* the least of all */
    int32_t nodes;     /* how many there are */
    int32_t number;    /* of the node */
    int32_t rank;      /* in the node */
    int32_t size;      /* of the node */
};

/* All ranks exchange what they know in three rounds: who shares a node, what
 * the stores are called, and who could map them.  In each, rank 0 gathers all
 * that there is to know and scatters what follows from it: every rank gets its
 * own part only, since MPI libraries send a long broadcast round a ring of all
 * ranks.  No communicator is made for that: it would cost each rank tens of
 * milliseconds of spinning.
 */
struct round {
    struct mpimin *mpi;
    mpimin_comm comm;
    int rank, size;
    /* Rank 0: of every rank, and of every node.  From the first round on. */
    struct place *places;
    int *leaders;
};

/* 'mine' (of 'bytes') from all ranks, on rank 0, allocated; NULL elsewhere. */
static int collect(const struct round *round, const void *mine, size_t bytes,
                   void **all, struct mi_error *err)
{
    mpimin_request request = 0;
    void *room = NULL;
    int done;

    if (round->rank == 0) {
        room = calloc((size_t)round->size, bytes);
        if (!room)
            return mi_fail_errno(err, "node");
    }
    if (mpimin_igather(round->mpi, mine, bytes, room, 0, round->comm, &request,
                       err) != 0 ||
        mpimin_wait(round->mpi, &request, -1, &done, err) != 0) {
        free(room);
        return -1;
    }
    *all = room;
    return 0;
}

/* 'mine' (of 'bytes') of each rank's own from 'all', which only rank 0 has. */
static int deal(const struct round *round, const void *all, void *mine,
                size_t bytes, struct mi_error *err)
{
    mpimin_request request = 0;
    int done;

    if (mpimin_iscatter(round->mpi, all, mine, bytes, 0, round->comm, &request,
                        err) != 0)
        return -1;
    return mpimin_wait(round->mpi, &request, -1, &done, err);
}

/* The first round's card.
 *
 * What ranks hand on is 1, 2, 4, ... times as large.  Of 24 and 48 bytes none
 * of these is between 53 and 95: UCX, below MPICH, allocates and fills 144 KiB
 * for the first message of such a size that comes before it is waited for.
 */
struct card {
    uint64_t identity;
    uint64_t capacity;
    uint64_t zero;
};

struct order {
    uint64_t identity;
    int32_t rank;
};

static int by_identity(const void *a, const void *b)
{
    const struct order *x = a, *y = b;

    if (x->identity != y->identity)
        return x->identity < y->identity ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Rank 0: group the ranks, and number the nodes by their lowest ranks. */
static int group(struct round *round, const struct card *cards,
                 struct mi_error *err)
{
    struct order *order = calloc((size_t)round->size, sizeof(*order));
    struct place *places = round->places;
    int first = 0, nodes = 0;

    if (!order)
        return mi_fail_errno(err, "node");
    for (int i = 0; i < round->size; i++)
        order[i] = (struct order){.identity = cards[i].identity, .rank = i};
    qsort(order, (size_t)round->size, sizeof(*order), by_identity);
    for (int i = 0; i < round->size; i++) {
        if (order[i].identity != order[first].identity)
            first = i;
        places[order[i].rank].rank = i - first;
        /* The leader's rank for now, and the size at the leader. */
        places[order[i].rank].number = order[first].rank;
        places[order[first].rank].size = i - first + 1;
    }
    for (int i = 0; i < round->size; i++) {
        int leader = places[i].number;

        places[i].size = places[leader].size;
        if (leader == i)
            round->leaders[nodes] = i;
        places[i].number = leader == i ? nodes++ : places[leader].number;
    }
    for (int i = 0; i < round->size; i++)
        places[i].nodes = nodes;
    free(order);
    return 0;
}

/* Rank 0: everybody's place, from the cards. */
static int assign(struct round *round, const struct card *cards,
                  struct mi_error *err)
{
    uint64_t least = cards[0].capacity;

    round->places = calloc((size_t)round->size, sizeof(*round->places));
    round->leaders = calloc((size_t)round->size, sizeof(*round->leaders));
    if (!round->places || !round->leaders)
        return mi_fail_errno(err, "node");
    if (group(round, cards, err) != 0)
        return -1;
    for (int i = 1; i < round->size; i++)
        least = cards[i].capacity < least ? cards[i].capacity : least;
    for (int i = 0; i < round->size; i++)
        round->places[i].capacity = least;
    return 0;
}

/* Who shares a node; *capacity becomes the least of all. */
static int find_place(struct mi_node *node, struct round *round,
                      const char *tmpdir, int ranks_per_node,
                      uint64_t *capacity, struct mi_error *err)
{
    struct card mine = {.identity =
                            identity(tmpdir, round->rank, ranks_per_node),
                        .capacity = *capacity};
    struct place place;
    void *cards = NULL;
    int rc;

    if (collect(round, &mine, sizeof(mine), &cards, err) != 0)
        return -1;
    rc = cards ? assign(round, cards, err) : 0;
    free(cards);
    if (rc != 0 || deal(round, round->places, &place, sizeof(place), err) != 0)
        return -1;
    *capacity = place.capacity;
    node->nodes = place.nodes;
    node->number = place.number;
    node->rank = place.rank;
    node->size = place.size;
    return 0;
}

/* The second round: each leader says what its store's directory is called,
 * and its mates hear it.
 */
struct sign {
    char name[48]; /* "": there is no store */
};

static int share_name(const struct round *round, const char *path,
                      struct sign *mine, struct mi_error *err)
{
    const char *slash = strrchr(path, '/');
    struct sign *signs;
    void *all = NULL;
    int rc;

    *mine = (struct sign){""};
    if (slash)
        snprintf(mine->name, sizeof(mine->name), "%s", slash + 1);
    if (collect(round, mine, sizeof(*mine), &all, err) != 0)
        return -1;
    signs = all;
    for (int i = 0; signs && i < round->size; i++)
        signs[i] = signs[round->leaders[round->places[i].number]];
    rc = deal(round, signs, mine, sizeof(*mine), err);
    free(all);
    return rc;
}

/* The third round: who could map its store, and what follows. */
struct usage {
    int32_t users;  /* of this rank's store */
    int32_t stores; /* nodes that have one; 0 if root's has none */
    int32_t turn;   /* of a leader among these; -1: not one of them */
    int32_t above;  /* rank of the leader that tells it who they are */
};

/* Rank 0: everybody's usage, allocated; NULL without memory.  The nodes whose
 * store nobody uses leave round->leaders.
 */
static struct usage *count_users(struct round *round, int nodes,
                                 const int32_t *stored, struct mi_error *err)
{
    struct usage *usages = calloc((size_t)round->size, sizeof(*usages));
    int32_t *users = calloc((size_t)nodes, sizeof(*users));
    int *leaders = round->leaders, stores = 0;

    if (!usages || !users) {
        mi_fail_errno(err, "node");
        free(usages);
        usages = NULL;
        goto out;
    }
    for (int i = 0; i < round->size; i++)
        users[round->places[i].number] += stored[i];
    for (int n = 0; n < nodes && users[0] > 0; n++)
        if (users[n] > 0)
            leaders[stores++] = leaders[n];
    for (int i = 0; i < round->size; i++)
        usages[i] =
            (struct usage){users[round->places[i].number], stores, -1, -1};
    for (int turn = 0; turn < stores; turn++) {
        usages[leaders[turn]].turn = turn;
        /* Without its lowest bit: see tell_leaders(). */
        usages[leaders[turn]].above = leaders[turn & (turn - 1)];
    }
out:
    free(users);
    return usages;
}

static int learn_usage(const struct mi_node *node, struct round *round,
                       struct usage *mine, struct mi_error *err)
{
    int32_t stored = node->stored;
    struct usage *usages = NULL;
    void *all = NULL;
    int rc = -1;

    if (collect(round, &stored, sizeof(stored), &all, err) != 0)
        return -1;
    if (!all || (usages = count_users(round, node->nodes, all, err)))
        rc = deal(round, usages, mine, sizeof(*mine), err);
    free(all);
    free(usages);
    return rc;
}

/* ---- the leaders' communicator ------------------------------------------ */

/* Fill 'leaders' with the ranks of all leaders that have a store, which root
 * knows, on all of them: down a binomial tree, whose branches are the bits of
 * a leader's turn.
 */
static int tell_leaders(const struct round *round, const struct usage *usage,
                        int *leaders, struct mi_error *err)
{
    const uint32_t turn = (uint32_t)usage->turn;
    const uint32_t stores = (uint32_t)usage->stores;
    const size_t bytes = stores * sizeof(*leaders);
    mpimin_request requests[32] = {0};
    uint32_t bit = 1;
    int count = 0, done;

    if (turn > 0 && mpimin_recv(round->mpi, leaders, bytes, usage->above, TAG,
                                round->comm, err) != 0)
        return -1;
    while (turn + bit < stores && !(turn & bit))
        bit <<= 1;
    /* The largest branch first. */
    while (bit >>= 1)
        if (mpimin_isend(round->mpi, leaders, bytes, leaders[turn + bit], TAG,
                         round->comm, &requests[count++], err) != 0)
            return -1;
    while (count-- > 0)
        if (mpimin_wait(round->mpi, &requests[count], -1, &done, err) != 0)
            return -1;
    return 0;
}

/* Make the communicator of the leaders that have a store; called by these. */
static int join_leaders(struct mi_node *node, const struct round *round,
                        const struct usage *usage, struct mi_error *err)
{
    int *leaders = round->leaders, rc = -1;

    if (!leaders)
        leaders = calloc((size_t)usage->stores, sizeof(*leaders));
    if (!leaders)
        return mi_fail_errno(err, "node");
    if (tell_leaders(round, usage, leaders, err) == 0)
        rc = mpimin_comm_create(round->mpi, round->comm, leaders,
                                usage->stores, TAG, &node->leaders, err);
    if (leaders != round->leaders)
        free(leaders);
    return rc;
}

/* Make the store on the leader and map it on the mates. */
static int share(struct mi_node *node, struct round *round, const char *tmpdir,
                 size_t capacity, struct mi_error *why, struct mi_error *err)
{
    struct mi_jobdir jobdir = MI_JOBDIR_NONE;
    struct usage usage = {0};
    struct sign sign;
    int rc;

    if (node->rank == 0)
        node->stored = create(node, &jobdir, tmpdir, capacity, why) == 0;
    rc = share_name(round, node->stored ? jobdir.path : "", &sign, err);
    if (node->rank > 0 && rc == 0) {
        if (sign.name[0])
            node->stored = attach(node, tmpdir, sign.name, why) == 0;
        else
            mi_fail(why, MI_ERRNO, 0, "the leader of this node has no store");
    }
    /* After this round nobody has to open it any more. */
    if (rc == 0)
        rc = learn_usage(node, round, &usage, err);
    mi_jobdir_clear(&jobdir);
    node->attached = usage.users;
    if (node->stored && !usage.stores) {
        node->stored = 0;
        mi_fail(why, MI_ERRNO, 0, "rank 0 has no store");
    }
    if (!node->stored)
        detach(node);
    if (rc != 0 || usage.stores < 2 || usage.turn < 0)
        return rc;
    return join_leaders(node, round, &usage, err);
}

int mi_node_form(struct mi_node *node, struct mpimin *mpi, mpimin_comm comm,
                 const char *tmpdir, int ranks_per_node, size_t capacity,
                 struct mi_error *why, struct mi_error *err)
{
    struct round round = {.mpi = mpi, .comm = comm};
    uint64_t least = capacity ? capacity : default_capacity(tmpdir);
    int rc = 0;

    *node = (struct mi_node){0};
    if (mpimin_comm_rank(mpi, comm, &round.rank, err) != 0 ||
        mpimin_comm_size(mpi, comm, &round.size, err) != 0 ||
        find_place(node, &round, tmpdir, ranks_per_node, &least, err) != 0 ||
        share(node, &round, tmpdir, (size_t)least, why, err) != 0)
        rc = -1;
    free(round.places);
    free(round.leaders);
    return rc;
}

int mi_node_alone(struct mi_node *node, size_t capacity, struct mi_error *err)
{
    *node =
        (struct mi_node){.size = 1, .attached = 1, .nodes = 1, .stored = 1};
    if (mi_store_create_private(&node->store, capacity, err) != 0)
        return -1;
    if (mi_mailbox_create_private(&node->mailbox, err) != 0) {
        detach(node);
        return -1;
    }
    return 0;
}
