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

/* All ranks exchange what they know in three rounds, each a gather to rank 0
 * and a broadcast of what follows from it: who shares a node, what the stores
 * are called, and who could map them.  No communicator is made for that: it
 * would cost each rank tens of milliseconds of spinning.
 */
struct round {
    struct mpimin *mpi;
    mpimin_comm comm;
    int rank, size;
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

/* The first round's card, and what it leads to. */
struct card {
    uint64_t identity;
    uint64_t capacity;
};

struct place {
    int32_t number; /* of the node */
    int32_t rank;   /* in the node */
    int32_t size;   /* of the node */
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
static int assign(const struct card *cards, int size, struct place *places,
                  int *nodes, struct mi_error *err)
{
    struct order *order = calloc((size_t)size, sizeof(*order));
    int first = 0, count = 0;

    if (!order)
        return mi_fail_errno(err, "node");
    for (int i = 0; i < size; i++)
        order[i] = (struct order){.identity = cards[i].identity, .rank = i};
    qsort(order, (size_t)size, sizeof(*order), by_identity);
    for (int i = 0; i < size; i++) {
        if (order[i].identity != order[first].identity)
            first = i;
        places[order[i].rank].rank = i - first;
        /* The leader's rank for now, and the size at the leader. */
        places[order[i].rank].number = order[first].rank;
        places[order[first].rank].size = i - first + 1;
    }
    for (int i = 0; i < size; i++) {
        int leader = places[i].number;

        places[i].size = places[leader].size;
        places[i].number = leader == i ? count++ : places[leader].number;
    }
    *nodes = count;
    free(order);
    return 0;
}

/* Who shares a node; *capacity becomes the least of all. */
static int find_place(struct mi_node *node, const struct round *round,
                      const char *tmpdir, int ranks_per_node,
                      uint64_t *capacity, struct mi_error *err)
{
    struct card mine = {identity(tmpdir, round->rank, ranks_per_node),
                        *capacity};
    struct place *places =
        calloc((size_t)round->size + 1, sizeof(struct place));
    uint64_t agreed[2] = {mine.capacity, 0};
    void *all = NULL;
    int rc = -1;

    if (!places)
        return mi_fail_errno(err, "node");
    if (collect(round, &mine, sizeof(mine), &all, err) != 0)
        goto out;
    if (round->rank == 0) {
        const struct card *cards = all;
        int nodes = 0;

        if (assign(cards, round->size, places, &nodes, err) != 0)
            goto out;
        for (int i = 0; i < round->size; i++)
            if (cards[i].capacity < agreed[0])
                agreed[0] = cards[i].capacity;
        agreed[1] = (uint64_t)nodes;
    }
    if (mpimin_bcast(round->mpi, agreed, sizeof(agreed), 0, round->comm,
                     err) != 0 ||
        mpimin_bcast(round->mpi, places, (size_t)round->size * sizeof(*places),
                     0, round->comm, err) != 0)
        goto out;
    *capacity = agreed[0];
    node->nodes = (int)agreed[1];
    node->number = places[round->rank].number;
    node->rank = places[round->rank].rank;
    node->size = places[round->rank].size;
    rc = 0;
out:
    free(all);
    free(places);
    return rc;
}

/* The second round: each leader says what its store's directory is called. */
struct sign {
    int32_t number; /* of the node; -1 from a mate */
    char name[60];  /* "": there is no store */
};

static int share_names(struct mi_node *node, const struct round *round,
                       const char *path, struct sign *mine,
                       struct mi_error *err)
{
    const char *slash = strrchr(path, '/');
    struct sign *signs = calloc((size_t)node->nodes, sizeof(*signs));
    void *all = NULL;
    int rc = -1;

    if (!signs)
        return mi_fail_errno(err, "node");
    *mine = (struct sign){.number = node->rank == 0 ? node->number : -1};
    if (slash)
        snprintf(mine->name, sizeof(mine->name), "%s", slash + 1);
    if (collect(round, mine, sizeof(*mine), &all, err) != 0)
        goto out;
    for (int i = 0; all && i < round->size; i++) {
        const struct sign *sign = (const struct sign *)all + i;

        if (sign->number >= 0 && sign->number < node->nodes)
            signs[sign->number] = *sign;
    }
    if (mpimin_bcast(round->mpi, signs, (size_t)node->nodes * sizeof(*signs),
                     0, round->comm, err) != 0)
        goto out;
    *mine = signs[node->number];
    rc = 0;
out:
    free(all);
    free(signs);
    return rc;
}

/* The third round: how many ranks use each store.  *stores is the number of
 * nodes that have one.
 */
static int count_users(struct mi_node *node, const struct round *round,
                       int *root_stored, int *stores, struct mi_error *err)
{
    int32_t mine = node->stored ? node->number : -1;
    int32_t *users = calloc((size_t)node->nodes, sizeof(*users));
    void *all = NULL;
    int rc = -1;

    if (!users)
        return mi_fail_errno(err, "node");
    if (collect(round, &mine, sizeof(mine), &all, err) != 0)
        goto out;
    for (int i = 0; all && i < round->size; i++) {
        int32_t number = ((const int32_t *)all)[i];

        if (number >= 0 && number < node->nodes)
            users[number]++;
    }
    if (mpimin_bcast(round->mpi, users, (size_t)node->nodes * sizeof(*users),
                     0, round->comm, err) != 0)
        goto out;
    node->attached = users[node->number];
    *root_stored = users[0] > 0;
    *stores = 0;
    for (int i = 0; i < node->nodes; i++)
        *stores += users[i] > 0;
    rc = 0;
out:
    free(all);
    free(users);
    return rc;
}

/* Make the store on the leader and map it on the mates. */
static int share(struct mi_node *node, const struct round *round,
                 const char *tmpdir, size_t capacity, struct mi_error *why,
                 struct mi_error *err)
{
    struct mi_jobdir jobdir = MI_JOBDIR_NONE;
    struct sign sign = {0};
    int root_stored = 0, stores = 0, leader, rc;

    if (node->rank == 0)
        node->stored = create(node, &jobdir, tmpdir, capacity, why) == 0;
    rc = share_names(node, round, node->stored ? jobdir.path : "", &sign, err);
    if (node->rank > 0 && rc == 0) {
        if (sign.name[0])
            node->stored = attach(node, tmpdir, sign.name, why) == 0;
        else
            mi_fail(why, MI_ERRNO, 0, "the leader of this node has no store");
    }
    /* After this round nobody has to open it any more. */
    if (rc == 0)
        rc = count_users(node, round, &root_stored, &stores, err);
    mi_jobdir_clear(&jobdir);
    if (node->stored && !root_stored) {
        node->stored = 0;
        mi_fail(why, MI_ERRNO, 0, "rank 0 has no store");
    }
    if (!node->stored)
        detach(node);
    if (rc != 0 || !root_stored || stores == 1)
        return rc;
    leader = node->rank == 0 && node->stored;
    return mpimin_comm_split(round->mpi, round->comm, leader ? 0 : -1,
                             round->rank, &node->leaders, err);
}

int mi_node_form(struct mi_node *node, struct mpimin *mpi, mpimin_comm comm,
                 const char *tmpdir, int ranks_per_node, size_t capacity,
                 struct mi_error *why, struct mi_error *err)
{
    struct round round = {.mpi = mpi, .comm = comm};
    uint64_t least = capacity ? capacity : default_capacity(tmpdir);

    *node = (struct mi_node){0};
    if (mpimin_comm_rank(mpi, comm, &round.rank, err) != 0 ||
        mpimin_comm_size(mpi, comm, &round.size, err) != 0 ||
        find_place(node, &round, tmpdir, ranks_per_node, &least, err) != 0)
        return -1;
    return share(node, &round, tmpdir, (size_t)least, why, err);
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
