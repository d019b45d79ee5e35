#include "refused.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *path;
    char *why; /* in the same block */
};

struct mi_refused {
    pthread_mutex_t lock;
    size_t kept, count;
    struct entry *list;
};

struct mi_refused *mi_refused_create(void)
{
    struct mi_refused *refused = calloc(1, sizeof(*refused));

    if (refused)
        pthread_mutex_init(&refused->lock, NULL);
    return refused;
}

void mi_refused_destroy(struct mi_refused *refused)
{
    if (!refused)
        return;
    for (size_t i = 0; i < refused->kept; i++)
        free(refused->list[i].path);
    pthread_mutex_destroy(&refused->lock);
    free(refused->list);
    free(refused);
}

static int has(const struct mi_refused *refused, const char *path)
{
    for (size_t i = 0; i < refused->kept; i++)
        if (strcmp(refused->list[i].path, path) == 0)
            return 1;
    return 0;
}

/* Room for one more entry. */
static int make_room(struct mi_refused *refused)
{
    size_t kept = refused->kept;
    struct entry *list;

    if (kept == MI_REFUSED_MOST)
        return -1;
    if ((kept & (kept - 1)) != 0) /* what it has room for is a power of two */
        return 0;
    list = realloc(refused->list, (kept ? 2 * kept : 1) * sizeof(*list));
    if (!list)
        return -1;
    refused->list = list;
    return 0;
}

static void keep(struct mi_refused *refused, const char *path, const char *why)
{
    size_t size = strlen(path) + 1;
    char *block;

    if (make_room(refused) != 0 || !(block = malloc(size + strlen(why) + 1)))
        return;
    strcpy(block, path);
    strcpy(block + size, why);
    refused->list[refused->kept++] = (struct entry){block, block + size};
}

void mi_refused_add(struct mi_refused *refused, const char *path,
                    const char *why)
{
    if (!refused)
        return;
    pthread_mutex_lock(&refused->lock);
    if (!has(refused, path)) {
        keep(refused, path, why);
        refused->count++;
    }
    pthread_mutex_unlock(&refused->lock);
}

int mi_refused_get(struct mi_refused *refused, size_t i, const char **path,
                   const char **why)
{
    int there;

    if (!refused)
        return 0;
    pthread_mutex_lock(&refused->lock);
    there = i < refused->kept;
    if (there) {
        *path = refused->list[i].path;
        *why = refused->list[i].why;
    }
    pthread_mutex_unlock(&refused->lock);
    return there;
}

size_t mi_refused_count(struct mi_refused *refused)
{
    size_t count;

    if (!refused)
        return 0;
    pthread_mutex_lock(&refused->lock);
    count = refused->count;
    pthread_mutex_unlock(&refused->lock);
    return count;
}
