#include "preload.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ldcache.h"
#include "search.h"
#include "stub.h"

/* A name that the linker has by now. */
struct seen {
    struct seen *next;
    char name[];
};

struct mi_preload {
    struct mi_preload_config config;
    pthread_mutex_t lock; /* of what follows */
    struct seen *list;
    struct mi_ldcache *cache; /* only with LD_LIBRARY_PATH */
    int cached;               /* 'cache' has been opened, or cannot be */
};

/* ---- names -------------------------------------------------------------- */

static int is_seen(const struct mi_preload *preload, const char *name)
{
    for (const struct seen *s = preload->list; s; s = s->next)
        if (strcmp(s->name, name) == 0)
            return 1;
    return 0;
}

static void add_seen(struct mi_preload *preload, const char *name)
{
    struct seen *seen;

    if (is_seen(preload, name))
        return;
    seen = malloc(sizeof(*seen) + strlen(name) + 1);
    if (!seen)
        return; /* it is given once more, which does no harm */
    strcpy(seen->name, name);
    seen->next = preload->list;
    preload->list = seen;
}

/* What is loaded from the system before the program is known by its file's
 * name.
 */
static int add_loaded(struct dl_phdr_info *info, size_t size, void *preload)
{
    const char *slash = strrchr(info->dlpi_name, '/');
    char directory[PATH_MAX];

    (void)size;
    if (!slash || strlen(info->dlpi_name) >= sizeof(directory))
        return 0;
    mi_search_directory(info->dlpi_name, directory);
    if (mi_search_default(directory))
        add_seen(preload, slash + 1);
    return 0;
}

struct mi_preload *mi_preload_create(const struct mi_preload_config *config)
{
    struct mi_preload *preload = calloc(1, sizeof(*preload));

    if (!preload)
        return NULL;
    preload->config = *config;
    pthread_mutex_init(&preload->lock, NULL);
    dl_iterate_phdr(add_loaded, preload);
    return preload;
}

/* ---- needs -------------------------------------------------------------- */

/* What an object needs, directly or not, in the linker's order: texts of
 * mi_record_need(), which live in the store.
 */
struct needs {
    const char **list;
    size_t count, room;
};

/* What the linker is asked for. */
static const char *name_of(const char *need)
{
    const char *slash = strrchr(need, '/');

    return MI_NEED_KIND(need) == MI_NEED_PATH || !slash ? need + 1 : slash + 1;
}

static int needs_add(struct needs *needs, const char *need)
{
    size_t room = needs->room ? needs->room * 2 : 64;
    const char **bigger;

    for (size_t i = 0; i < needs->count; i++)
        if (strcmp(needs->list[i] + 1, need + 1) == 0) {
            if (MI_NEED_HELP(need))
                needs->list[i] = need;
            return 0;
        }
    if (needs->count == needs->room) {
        bigger = realloc(needs->list, room * sizeof(*bigger));
        if (!bigger)
            return -1;
        needs->list = bigger;
        needs->room = room;
    }
    needs->list[needs->count++] = need;
    return 0;
}

static int needs_add_all(struct needs *needs, const struct mi_record *record)
{
    const char *need = NULL;

    while ((need = mi_record_need(record, need)) != NULL)
        if (needs_add(needs, need) != 0)
            return -1;
    return 0;
}

static int on_tree(const char *need)
{
    return strchr("mvp", MI_NEED_KIND(need)) != NULL;
}

/* The record of something that can be opened, or NULL. */
static const struct mi_record *record_of(const struct mi_preload *preload,
                                         const char *need)
{
    const struct mi_record *record =
        preload->config.find(preload->config.arg, need + 1);

    return record && (record->kind == MI_KIND_MIRROR ||
                      record->code == MI_MIRROR_REFUSED)
               ? record
               : NULL;
}

/* All that the object needs.  1 if the linker has to be helped, 0 if not, -1
 * if that cannot be done: something is known to the linker only.
 */
static int collect(const struct mi_preload *preload,
                   const struct mi_record *record, struct needs *needs)
{
    const int direct = record->kind != MI_KIND_MIRROR;
    int help = 0;

    if (needs_add_all(needs, record) != 0)
        return -1;
    for (size_t i = 0; i < needs->count; i++) {
        const char *need = needs->list[i];
        int seen = is_seen(preload, name_of(need));

        /* Of an object without a copy, $ORIGIN is on the tree. */
        help |= (MI_NEED_HELP(need) || direct) && !seen;
        if (MI_NEED_KIND(need) == MI_NEED_UNKNOWN && !seen)
            return -1;
        if (!on_tree(need))
            continue;
        record = record_of(preload, need);
        if (!record || needs_add_all(needs, record) != 0)
            return -1;
        help |= record->kind != MI_KIND_MIRROR && !seen;
    }
    return help;
}

/* ---- the stub ----------------------------------------------------------- */

/* A stub in the making. */
struct build {
    const struct mi_preload *preload;
    struct mi_stub stub;
    char **dirs; /* that it searches: copies, up to a NULL */
    size_t count;
};

/* The linker gives '$' a meaning. */
static int is_plain(const char *text)
{
    return !strchr(text, '$');
}

static int need(struct build *build, const char *name)
{
    struct mi_error err;

    return is_plain(name) ? mi_stub_need(&build->stub, name, &err) : -1;
}

/* Would a search in the stub's directories find another 'name' before that in
 * number 'own' (or any, if that is the count)?
 */
static int is_hidden(const struct build *build, const char *name, size_t own)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < own; i++) {
        if (strlen(build->dirs[i]) + strlen(name) + 2 > sizeof(path))
            return 1;
        strcpy(path, build->dirs[i]);
        strcat(path, "/");
        strcat(path, name);
        if (access(path, F_OK) == 0)
            return 1;
    }
    return 0;
}

/* Number of the directory among those of the stub; -1 on failure. */
static long search_in(struct build *build, const char *directory)
{
    struct mi_error err;
    char **bigger;
    size_t i;

    for (i = 0; i < build->count; i++)
        if (strcmp(build->dirs[i], directory) == 0)
            return (long)i;
    bigger = realloc(build->dirs, (i + 1) * sizeof(*bigger));
    if (!bigger)
        return -1;
    build->dirs = bigger;
    if (!is_plain(directory) || !(bigger[i] = strdup(directory)))
        return -1;
    build->count++;
    return mi_stub_search(&build->stub, directory, &err) == 0 ? (long)i : -1;
}

/* Where something of the tree is to be opened: 1, or 0.  '*searched' if the
 * linker has to find it by its name, in the directory of that place.
 */
static int find_place(const struct build *build, const char *text, char *place,
                      int *searched)
{
    const struct mi_preload_config *config = &build->preload->config;
    const struct mi_record *record = record_of(build->preload, text);
    char kind = MI_NEED_KIND(text);

    if (!record || !config->place(config->arg, record, place))
        return 0;
    *searched = kind == MI_NEED_VARIANT ||
                (kind == MI_NEED_MIRROR &&
                 strcmp(mi_record_soname(record), name_of(text)) != 0);
    return 1;
}

static int need_on_tree(struct build *build, const char *text)
{
    char place[PATH_MAX], directory[PATH_MAX];
    int searched;
    long own;

    if (!find_place(build, text, place, &searched))
        return -1;
    if (!searched)
        return need(build, place);
    mi_search_directory(place, directory);
    own = search_in(build, directory);
    if (own < 0 || is_hidden(build, name_of(text), (size_t)own))
        return -1;
    return need(build, name_of(text));
}

static int need_system(struct build *build, const char *name)
{
    const struct mi_preload *preload = build->preload;
    const char *path = NULL;

    /* LD_LIBRARY_PATH comes before the system's directories. */
    if (preload->cache && !is_seen(preload, name))
        path = mi_ldcache_find(preload->cache, name);
    if (path)
        return need(build, path);
    return is_hidden(build, name, build->count) ? -1 : need(build, name);
}

/* All directories to be searched, so that it is known of each name which of
 * them hide it.
 */
static int search_all(struct build *build, const struct needs *needs)
{
    char place[PATH_MAX], directory[PATH_MAX];
    int searched;

    for (size_t i = 0; i < needs->count; i++) {
        if (!on_tree(needs->list[i]))
            continue;
        if (!find_place(build, needs->list[i], place, &searched))
            return -1;
        mi_search_directory(place, directory);
        if (searched && search_in(build, directory) < 0)
            return -1;
    }
    return 0;
}

static int need_all(struct build *build, const struct needs *needs)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < needs->count; i++) {
        const char *text = needs->list[i];

        if (on_tree(text))
            rc = need_on_tree(build, text);
        else if (MI_NEED_KIND(text) == MI_NEED_LOCAL)
            rc = need(build, text + 1);
        else
            rc = need_system(build, text + 1);
    }
    return rc;
}

static void *open_stub(const struct mi_preload *preload,
                       const struct mi_record *record, int self, int flags,
                       const struct needs *needs)
{
    struct build build = {.preload = preload};
    char place[PATH_MAX];
    struct mi_error err;
    void *handle = NULL;
    int rc = 0;

    if (self)
        rc = preload->config.place(preload->config.arg, record, place)
                 ? need(&build, place)
                 : -1;
    if (rc == 0)
        rc = search_all(&build, needs);
    if (rc == 0)
        rc = need_all(&build, needs);
    if (rc == 0 && mi_stub_open(&build.stub, flags, &handle, &err) != 0)
        handle = NULL; /* the linker will say so again, in context */
    mi_stub_clear(&build.stub);
    for (size_t i = 0; i < build.count; i++)
        free(build.dirs[i]);
    free(build.dirs);
    return handle;
}

static void open_cache(struct mi_preload *preload)
{
    struct mi_error err;

    if (preload->cached)
        return;
    preload->cached = 1;
    if (preload->config.library_path &&
        mi_ldcache_open(&preload->cache, NULL, &err) != 0)
        preload->cache = NULL; /* then the linker looks */
}

void *mi_preload_open(struct mi_preload *preload,
                      const struct mi_record *record, int self, int flags)
{
    struct needs needs = {0};
    void *handle = NULL;
    int help;

    pthread_mutex_lock(&preload->lock);
    help = collect(preload, record, &needs);
    if (help > 0)
        open_cache(preload);
    pthread_mutex_unlock(&preload->lock);
    /* Constructors may come back here. */
    if (help > 0)
        handle = open_stub(preload, record, self, flags, &needs);
    if (handle) {
        pthread_mutex_lock(&preload->lock);
        for (size_t i = 0; i < needs.count; i++)
            add_seen(preload, name_of(needs.list[i]));
        pthread_mutex_unlock(&preload->lock);
    }
    free(needs.list);
    /* What is bound later finds its symbols only while the stub is there. */
    return flags & RTLD_NOW ? handle : NULL;
}

void mi_preload_close(void *handle)
{
    if (handle)
        dlclose(handle);
}
