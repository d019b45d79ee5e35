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

int mi_preload_first(struct mi_preload *preload, const char *name)
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

void mi_preload_open(const char *name)
{
    if (!dlopen(name, RTLD_LAZY | RTLD_LOCAL))
        dlerror(); /* forget it: the linker will say so again, in context */
}
