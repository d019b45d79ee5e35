#include "preload.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct seen {
    struct seen *next;
    char name[];
};

struct mi_preload {
    pthread_mutex_t lock;
    struct seen *list;
};

struct mi_preload *mi_preload_create(void)
{
    struct mi_preload *preload = calloc(1, sizeof(*preload));

    if (preload)
        pthread_mutex_init(&preload->lock, NULL);
    return preload;
}

static int is_seen(const struct mi_preload *preload, const char *name)
{
    for (const struct seen *s = preload->list; s; s = s->next)
        if (strcmp(s->name, name) == 0)
            return 1;
    return 0;
}

static int is_first(struct mi_preload *preload, const char *name)
{
    struct seen *seen = NULL;

    pthread_mutex_lock(&preload->lock);
    if (!is_seen(preload, name))
        seen = malloc(sizeof(*seen) + strlen(name) + 1);
    if (seen) {
        strcpy(seen->name, name);
        seen->next = preload->list;
        preload->list = seen;
    }
    pthread_mutex_unlock(&preload->lock);
    return seen != NULL;
}

static void open_library(const char *name)
{
    if (!dlopen(name, RTLD_LAZY | RTLD_LOCAL))
        dlerror(); /* forget it: the linker will say so again, in context */
}

/* What an object needs, directly or not: strings in records of the store. */
struct needs {
    const char **list;
    size_t count, room;
};

static int needs_add(struct needs *needs, const char *text)
{
    size_t room = needs->room ? needs->room * 2 : 16;
    const char **bigger;

    for (size_t i = 0; i < needs->count; i++)
        if (strcmp(needs->list[i], text) == 0)
            return 0;
    if (needs->count == needs->room) {
        bigger = realloc(needs->list, room * sizeof(*bigger));
        if (!bigger)
            return -1;
        needs->list = bigger;
        needs->room = room;
    }
    needs->list[needs->count++] = text;
    return 0;
}

static int needs_add_all(struct needs *needs, const struct mi_record *record)
{
    const char *text = NULL;

    while ((text = mi_record_before(record, text)) != NULL)
        if (needs_add(needs, text) != 0)
            return -1;
    return 0;
}

/* -1 if something that is needed is not mirrored: nobody knows what that
 * needs, and the linker may well find it on the tree.
 */
static int collect_needs(const struct mi_record *record, mi_preload_find *find,
                         const void *arg, struct needs *needs)
{
    if (needs_add_all(needs, record) != 0)
        return -1;
    for (size_t i = 0; i < needs->count; i++) {
        if (needs->list[i][0] != '/')
            continue;
        record = find(arg, needs->list[i]);
        if (!record || record->kind != MI_KIND_MIRROR ||
            needs_add_all(needs, record) != 0)
            return -1;
    }
    return 0;
}

/* Is the library 'name' the tree's for one of those that need it?  Then which
 * one is loaded is the linker's affair.
 */
static int is_on_tree(const struct needs *needs, const char *name)
{
    for (size_t i = 0; i < needs->count; i++)
        if (needs->list[i][0] == '/' &&
            strcmp(strrchr(needs->list[i], '/') + 1, name) == 0)
            return 1;
    return 0;
}

void mi_preload_before(struct mi_preload *preload,
                       const struct mi_record *record, mi_preload_find *find,
                       const void *arg)
{
    struct needs needs = {0};

    if (collect_needs(record, find, arg, &needs) == 0)
        for (size_t i = 0; i < needs.count; i++)
            if (needs.list[i][0] != '/' &&
                !is_on_tree(&needs, needs.list[i]) &&
                is_first(preload, needs.list[i]))
                open_library(needs.list[i]);
    free(needs.list);
}
