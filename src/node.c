#include "node.h"

#include <errno.h>
#include <fcntl.h>
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

/* ---- who shares memory ----------------------------------------------------- */

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

/* The ranks of 'comm' with the same 62 bits of identity, in rank order.  Two
 * splits, since a colour has 31 bits only.
 */
static int split(struct mpimin *mpi, mpimin_comm comm, uint64_t id, int rank,
                 mpimin_comm *mates, struct mi_error *err)
{
    mpimin_comm half;

    if (mpimin_comm_split(mpi, comm, (int)(id & 0x7fffffff), rank, &half,
                          err) != 0 ||
        mpimin_comm_split(mpi, half, (int)(id >> 31 & 0x7fffffff), rank, mates,
                          err) != 0)
        return -1;
    return mpimin_comm_free(mpi, &half, err);
}

/* ---- the memory ---------------------------------------------------------------- */

static uint64_t default_capacity(const char *tmpdir)
{
    struct statvfs fs;
    uint64_t capacity;

    if (statvfs(tmpdir, &fs) != 0)
        return CAPACITY_MOST; /* there will be no store here: no constraint */
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

static int attach(struct mi_node *node, const char *path, struct mi_error *err)
{
    int rc, dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

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

/* Tell the leader how many of its mates use the store. */
static int count_attached(struct mi_node *node, struct mpimin *mpi,
                          mpimin_comm mates, struct mi_error *err)
{
    mpimin_request request = 0;
    int *all = calloc((size_t)node->size, sizeof(int));
    int done, rc = -1;

    if (!all)
        return mi_fail_errno(err, "node");
    if (mpimin_igather(mpi, &node->stored, sizeof(int), all, 0, mates,
                       &request, err) != 0 ||
        mpimin_wait(mpi, &request, -1, &done, err) != 0)
        goto out;
    for (int i = 0; i < node->size; i++)
        node->attached += all[i];
    rc = 0;
out:
    free(all);
    return rc;
}

/* Make the store on the leader and map it on the mates.  The leader's status
 * travels with the directory's name, "" being failure.
 */
static int share(struct mi_node *node, struct mpimin *mpi, mpimin_comm mates,
                 const char *tmpdir, size_t capacity, struct mi_error *why,
                 struct mi_error *err)
{
    struct mi_jobdir jobdir = MI_JOBDIR_NONE;
    char path[PATH_MAX] = "";
    int rc;

    if (node->rank == 0 &&
        create(node, &jobdir, tmpdir, capacity, why) == 0)
        strcpy(path, jobdir.path);
    rc = mpimin_bcast(mpi, path, sizeof(path), 0, mates, err);
    node->stored = rc == 0 && path[0] != '\0';
    if (node->rank > 0 && !node->stored)
        mi_fail(why, MI_ERRNO, 0, "the leader of this node has no store");
    if (node->rank > 0 && node->stored)
        node->stored = attach(node, path, why) == 0;
    /* Nobody has to open it any more after this. */
    if (rc == 0)
        rc = count_attached(node, mpi, mates, err);
    mi_jobdir_clear(&jobdir);
    if (!node->stored)
        detach(node);
    return rc;
}

/* ---- forming ----------------------------------------------------------------------- */

/* Number the nodes and connect the leaders that have a store.  Nobody has a
 * source if root has none.
 */
static int connect_leaders(struct mi_node *node, struct mpimin *mpi,
                           mpimin_comm comm, int rank, struct mi_error *why,
                           struct mi_error *err)
{
    struct mi_error none;
    int root_stored = node->stored, size = 0;
    int leader = node->rank == 0 && node->stored;

    mi_error_clear(&none);
    if (mpimin_bcast(mpi, &root_stored, sizeof(int), 0, comm, err) != 0)
        return -1;
    if (!root_stored && node->stored) {
        detach(node);
        node->stored = 0;
        leader = 0;
        mi_fail(why, MI_ERRNO, 0, "rank 0 has no store");
    }
    if (mpimin_comm_split(mpi, comm, leader ? 0 : -1, rank, &node->leaders,
                          err) != 0)
        return -1;
    if (!node->leaders)
        return 0;
    if (mpimin_comm_size(mpi, node->leaders, &size, err) != 0)
        return -1;
    return size > 1 ? 0 : mpimin_comm_free(mpi, &node->leaders, err);
}

/* Number the nodes in the order of their leaders' ranks. */
static int number(struct mi_node *node, struct mpimin *mpi, mpimin_comm comm,
                  mpimin_comm mates, int rank, struct mi_error *err)
{
    mpimin_comm leaders;
    int place[2] = {0, 1};

    if (mpimin_comm_split(mpi, comm, node->rank == 0 ? 0 : -1, rank, &leaders,
                          err) != 0)
        return -1;
    if (leaders &&
        (mpimin_comm_rank(mpi, leaders, &place[0], err) != 0 ||
         mpimin_comm_size(mpi, leaders, &place[1], err) != 0 ||
         mpimin_comm_free(mpi, &leaders, err) != 0))
        return -1;
    if (mpimin_bcast(mpi, place, sizeof(place), 0, mates, err) != 0)
        return -1;
    node->number = place[0];
    node->nodes = place[1];
    return 0;
}

int mi_node_form(struct mi_node *node, struct mpimin *mpi, mpimin_comm comm,
                 const char *tmpdir, int ranks_per_node, size_t capacity,
                 struct mi_error *why, struct mi_error *err)
{
    mpimin_comm mates;
    int64_t least, most;
    int rank;

    *node = (struct mi_node){0};
    if (mpimin_comm_rank(mpi, comm, &rank, err) != 0 ||
        split(mpi, comm, identity(tmpdir, rank, ranks_per_node), rank, &mates,
              err) != 0 ||
        mpimin_comm_rank(mpi, mates, &node->rank, err) != 0 ||
        mpimin_comm_size(mpi, mates, &node->size, err) != 0)
        return -1;
    if (capacity == 0)
        capacity = default_capacity(tmpdir);
    /* All stores hold the same bytes, so all have the same capacity. */
    if (mpimin_minmax(mpi, (int64_t)capacity, &least, &most, comm, err) != 0 ||
        number(node, mpi, comm, mates, rank, err) != 0 ||
        share(node, mpi, mates, tmpdir, (size_t)least, why, err) != 0)
        return -1;
    if (connect_leaders(node, mpi, comm, rank, why, err) != 0)
        return -1;
    return mpimin_comm_free(mpi, &mates, err);
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
