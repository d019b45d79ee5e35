#include "early.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* What somebody is at. */
struct entry {
    struct entry *next;
    const char *path;
    int reading;         /* nothing was given yet */
    int full;            /* was given, and not taken */
    int takers;          /* who wait: the entry stays until they have seen */
    struct mi_copy copy; /* if it is full */
};

struct mi_early {
    pthread_mutex_t lock;
    pthread_cond_t given; /* or taken */
    struct entry *first;
};

int mi_early_create(struct mi_early **result, struct mi_error *err)
{
    struct mi_early *early = calloc(1, sizeof(*early));

    if (!early)
        return mi_fail_errno(err, "early");
    pthread_mutex_init(&early->lock, NULL);
    pthread_cond_init(&early->given, NULL);
    *result = early;
    return 0;
}

void mi_early_destroy(struct mi_early *early)
{
    if (!early)
        return;
    pthread_cond_destroy(&early->given);
    pthread_mutex_destroy(&early->lock);
    free(early);
}

static struct entry *find(const struct mi_early *early, const char *path)
{
    struct entry *entry = early->first;

    while (entry && strcmp(entry->path, path) != 0)
        entry = entry->next;
    return entry;
}

int mi_early_begin(struct mi_early *early, const char *path)
{
    struct entry *entry = malloc(sizeof(*entry));
    int begun = 0;

    if (!entry)
        return 0;
    pthread_mutex_lock(&early->lock);
    if (!find(early, path)) {
        *entry =
            (struct entry){.next = early->first, .path = path, .reading = 1};
        early->first = entry;
        begun = 1;
    }
    pthread_mutex_unlock(&early->lock);
    if (!begun)
        free(entry);
    return begun;
}

void mi_early_give(struct mi_early *early, const char *path,
                   const struct mi_copy *copy)
{
    struct entry *entry;

    pthread_mutex_lock(&early->lock);
    entry = find(early, path);
    entry->reading = 0;
    entry->full = copy != NULL;
    if (copy)
        entry->copy = *copy;
    pthread_cond_broadcast(&early->given);
    pthread_mutex_unlock(&early->lock);
}

int mi_early_take(struct mi_early *early, const char *path,
                  struct mi_copy *copy)
{
    struct entry *entry;
    int full = 0;

    pthread_mutex_lock(&early->lock);
    entry = find(early, path);
    if (entry) {
        entry->takers++;
        while (entry->reading)
            pthread_cond_wait(&early->given, &early->lock);
        full = entry->full;
        if (full)
            *copy = entry->copy;
        entry->full = 0;
        entry->takers--;
        pthread_cond_broadcast(&early->given);
    }
    pthread_mutex_unlock(&early->lock);
    return full;
}

int mi_early_end(struct mi_early *early, const char *path,
                 struct mi_copy *copy)
{
    struct entry *entry, **link;
    int full;

    pthread_mutex_lock(&early->lock);
    entry = find(early, path);
    while (entry->takers > 0)
        pthread_cond_wait(&early->given, &early->lock);
    for (link = &early->first; *link != entry; link = &(*link)->next)
        continue;
    *link = entry->next;
    full = entry->full;
    if (full)
        *copy = entry->copy;
    pthread_mutex_unlock(&early->lock);
    free(entry);
    return full;
}
