#include "nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define ROOT 1u
#define SLOTS 16384u

struct node {
    struct node *next;
    dev_t device;
    ino_t inode;
    uint64_t lookups;
    int fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *slots[SLOTS];
static size_t nodes;
static int root_fd = -1;

static struct node **slot_of(dev_t device, ino_t inode)
{
    uint64_t hash = (inode ^ device << 20) * UINT64_C(0x9e3779b97f4a7c15);

    return &slots[hash >> 32 & (SLOTS - 1)];
}

int slow_nodes_start(const char *path)
{
    root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root_fd < 0 ? errno : 0;
}

int slow_nodes_fd(uint64_t id)
{
    return id == ROOT ? root_fd : ((struct node *)(uintptr_t)id)->fd;
}

/* Return the node of a file, found or made; it keeps 'fd' in the second case,
 * else it is closed.  NULL without memory.
 */
static struct node *keep(int fd, const struct stat *status)
{
    struct node **slot = slot_of(status->st_dev, status->st_ino), *node;

    pthread_mutex_lock(&lock);
    for (node = *slot; node; node = node->next) {
        if (node->inode == status->st_ino && node->device == status->st_dev)
            break;
    }
    if (node) {
        close(fd);
    } else if ((node = calloc(1, sizeof(*node)))) {
        node->device = status->st_dev;
        node->inode = status->st_ino;
        node->fd = fd;
        node->next = *slot;
        *slot = node;
        nodes++;
    } else {
        close(fd);
    }
    if (node)
        node->lookups++;
    pthread_mutex_unlock(&lock);
    return node;
}

int slow_nodes_lookup(uint64_t parent, const char *name, uint64_t *id,
                      struct stat *status)
{
    int fd =
        openat(slow_nodes_fd(parent), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct node *node;

    if (fd < 0)
        return errno;
    if (fstatat(fd, "", status, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
        int code = errno;

        close(fd);
        return code;
    }
    node = keep(fd, status);
    if (!node)
        return ENOMEM;
    *id = (uint64_t)(uintptr_t)node;
    return 0;
}

void slow_nodes_forget(uint64_t id, uint64_t count)
{
    struct node *node = (struct node *)(uintptr_t)id, **p;

    if (id == ROOT)
        return;
    pthread_mutex_lock(&lock);
    node->lookups -= count;
    if (node->lookups == 0) {
        p = slot_of(node->device, node->inode);
        while (*p != node)
            p = &(*p)->next;
        *p = node->next;
        close(node->fd);
        free(node);
        nodes--;
    }
    pthread_mutex_unlock(&lock);
}

uint64_t *slow_nodes_list(size_t *count)
{
    uint64_t *ids;

    *count = 0;
    pthread_mutex_lock(&lock);
    ids = malloc((nodes + 1) * sizeof(*ids));
    for (size_t i = 0; ids && i < SLOTS; i++)
        for (const struct node *node = slots[i]; node; node = node->next)
            ids[(*count)++] = (uint64_t)(uintptr_t)node;
    pthread_mutex_unlock(&lock);
    return ids;
}
