#include "preload.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ldcache.h"
#include "loaded.h"
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
    unsigned long long gone;  /* objects unloaded so far, but for our stubs */
    unsigned long long own;   /* our stubs that were unloaded */
    struct mi_ldcache *cache; /* only with LD_LIBRARY_PATH */
    int cached;               /* 'cache' has been opened, or cannot be */
};

/* ---- names -------------------------------------------------------------- */

static int is_noted(const struct mi_preload *preload, const char *name)
{
    for (const struct seen *s = preload->list; s; s = s->next)
        if (strcmp(s->name, name) == 0)
            return 1;
    return 0;
}

static void add_seen(struct mi_preload *preload, const char *name)
{
    struct seen *seen;

    if (is_noted(preload, name))
        return;
    seen = malloc(sizeof(*seen) + strlen(name) + 1);
    if (!seen)
        return; /* it is given once more, which does no harm */
    strcpy(seen->name, name);
    seen->next = preload->list;
    preload->list = seen;
}

/* Names go with what is unloaded: begin anew. */
static void forget_if_gone(struct mi_preload *preload)
{
    unsigned long long gone = mi_loaded_gone() - preload->own;
    struct seen *seen;

    if (gone == preload->gone)
        return;
    preload->gone = gone;
    while ((seen = preload->list) != NULL) {
        preload->list = seen->next;
        free(seen);
    }
}

/* Does the linker take something that is loaded when it is asked for 'name'?
 */
static int is_seen(struct mi_preload *preload, const char *name)
{
    if (is_noted(preload, name))
        return 1;
    if (!mi_loaded_has(name))
        return 0;
    add_seen(preload, name);
    return 1;
}

struct mi_preload *mi_preload_create(const struct mi_preload_config *config)
{
    struct mi_preload *preload = calloc(1, sizeof(*preload));

    if (!preload)
        return NULL;
    preload->config = *config;
    pthread_mutex_init(&preload->lock, NULL);
    return preload;
}

/* ---- needs -------------------------------------------------------------- */

/* One need: all texts live in the store. */
struct one {
    const char *text;   /* as of mi_record_need() */
    const char *soname; /* "": none, or not known */
    int help;           /* of one who needs it */
};

/* What an object needs, directly or not, in the linker's order. */
struct needs {
    struct one *list;
    size_t count, room;
};

/* Is it asked for by a path, or an object that answers to one? */
static int by_path(const char *need)
{
    return strchr("po", MI_NEED_KIND(need)) != NULL;
}

/* What the linker is asked for. */
static const char *name_of(const char *need)
{
    const char *slash = strrchr(need, '/');

    return by_path(need) || !slash ? need + 1 : slash + 1;
}

static int on_tree(const char *need)
{
    return strchr("mvpo", MI_NEED_KIND(need)) != NULL;
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

/* The need that answers to the same name, or NULL: the linker takes what it
 * came to first.
 */
static struct one *answers(const struct needs *needs, const char *need)
{
    const char *name = name_of(need);

    for (size_t i = 0; i < needs->count; i++) {
        struct one *one = &needs->list[i];

        if (strcmp(name_of(one->text), name) == 0 ||
            (!by_path(need) && strcmp(one->soname, name) == 0))
            return one;
    }
    return NULL;
}

static int append(struct needs *needs, const struct one *one)
{
    size_t room = needs->room ? needs->room * 2 : 64;
    struct one *bigger;

    if (needs->count == needs->room) {
        bigger = realloc(needs->list, room * sizeof(*bigger));
        if (!bigger)
            return -1;
        needs->list = bigger;
        needs->room = room;
    }
    needs->list[needs->count++] = *one;
    return 0;
}

static int add_all(const struct mi_preload *preload, struct needs *needs,
                   const struct mi_record *record);

static int add(const struct mi_preload *preload, struct needs *needs,
               const char *need, int help)
{
    const struct mi_record *record = NULL;
    struct one one = {.text = need, .soname = "", .help = help},
               *other = answers(needs, need);

    if (other) {
        other->help |= help;
        return 0;
    }
    if (on_tree(need)) {
        record = record_of(preload, need);
        if (!record)
            return -1;
        one.soname = mi_record_soname(record);
    }
    if (append(needs, &one) != 0)
        return -1;
    /* What an alias stands for comes in its place. */
    return MI_NEED_KIND(need) == MI_NEED_PATH ? add_all(preload, needs, record)
                                              : 0;
}

static int add_all(const struct mi_preload *preload, struct needs *needs,
                   const struct mi_record *record)
{
    /* Of an object without a copy, $ORIGIN is on the tree. */
    const int direct = record->kind != MI_KIND_MIRROR;
    const char *need = NULL;

    while ((need = mi_record_need(record, need)) != NULL)
        if (add(preload, needs, need, direct || MI_NEED_HELP(need)) != 0)
            return -1;
    return 0;
}

/* All that the object needs.  1 if the linker has to be helped, 0 if not, -1
 * if that cannot be done: something is known to the linker only.
 */
static int collect(struct mi_preload *preload, const struct mi_record *record,
                   struct needs *needs)
{
    int help = 0;

    if (add_all(preload, needs, record) != 0)
        return -1;
    for (size_t i = 0; i < needs->count; i++) {
        const struct one one = needs->list[i]; /* the list may move */
        int wanted = one.help && !is_seen(preload, name_of(one.text));

        help |= wanted;
        if (MI_NEED_KIND(one.text) == MI_NEED_UNKNOWN && wanted)
            return -1;
        if (!on_tree(one.text))
            continue;
        record = record_of(preload, one.text);
        if (!record || add_all(preload, needs, record) != 0)
            return -1;
        help |= record->kind != MI_KIND_MIRROR &&
                !is_seen(preload, name_of(one.text));
    }
    return help;
}

/* ---- the stub ----------------------------------------------------------- */

/* A stub in the making. */
struct build {
    struct mi_preload *preload;
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

    /* Loaded from somewhere, it must not be loaded once more from here. */
    if (is_seen(build->preload, name_of(text)))
        return need(build, name_of(text));
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
    struct mi_preload *preload = build->preload;
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
        if (!on_tree(needs->list[i].text) ||
            is_seen(build->preload, name_of(needs->list[i].text)))
            continue;
        if (!find_place(build, needs->list[i].text, place, &searched))
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
        const char *text = needs->list[i].text;

        if (on_tree(text))
            rc = need_on_tree(build, text);
        else if (MI_NEED_KIND(text) == MI_NEED_LOCAL)
            rc = need(build, text + 1);
        else
            rc = need_system(build, text + 1);
    }
    return rc;
}

static int build_stub(struct build *build, const struct mi_record *record,
                      int self, const struct needs *needs)
{
    const struct mi_preload_config *config = &build->preload->config;
    char place[PATH_MAX];

    if (self && (!config->place(config->arg, record, place) ||
                 need(build, place) != 0))
        return -1;
    return search_all(build, needs) == 0 ? need_all(build, needs) : -1;
}

static void build_clear(struct build *build)
{
    mi_stub_clear(&build->stub);
    for (size_t i = 0; i < build->count; i++)
        free(build->dirs[i]);
    free(build->dirs);
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

/* What got its name. */
static void note_all(struct mi_preload *preload, const struct needs *needs)
{
    for (size_t i = 0; i < needs->count; i++) {
        const char *text = needs->list[i].text;

        /* Others may be known by their path alone. */
        if (on_tree(text) || mi_loaded_has(name_of(text)))
            add_seen(preload, name_of(text));
    }
}

/* A stub that is open. */
struct open_stub {
    struct mi_preload *preload;
    void *handle;
};

static void *keep_open(struct mi_preload *preload, void *handle, int flags)
{
    struct open_stub *stub;

    /* What is bound later finds its symbols only while the stub is there. */
    if (!(flags & RTLD_NOW))
        return NULL;
    stub = malloc(sizeof(*stub));
    if (stub)
        *stub = (struct open_stub){.preload = preload, .handle = handle};
    return stub; /* without memory it stays open, which does no harm */
}

void *mi_preload_open(struct mi_preload *preload,
                      const struct mi_record *record, int self, int flags,
                      struct mi_error *err)
{
    struct build build = {.preload = preload};
    struct needs needs = {0};
    void *handle = NULL;
    int ready;

    mi_error_clear(err);
    pthread_mutex_lock(&preload->lock);
    forget_if_gone(preload);
    ready = collect(preload, record, &needs) > 0;
    if (ready)
        open_cache(preload);
    ready = ready && build_stub(&build, record, self, &needs) == 0;
    pthread_mutex_unlock(&preload->lock);
    /* Without the lock: constructors may come back here. */
    if (ready && mi_stub_open(&build.stub, flags, &handle, err) != 0)
        handle = NULL; /* the linker will say so again, in context */
    pthread_mutex_lock(&preload->lock);
    if (handle)
        note_all(preload, &needs);
    pthread_mutex_unlock(&preload->lock);
    build_clear(&build);
    free(needs.list);
    return handle ? keep_open(preload, handle, flags) : NULL;
}

void mi_preload_close(void *handle)
{
    struct open_stub *stub = handle;
    unsigned long long gone;

    if (!stub)
        return;
    gone = mi_loaded_gone();
    dlclose(stub->handle);
    gone = mi_loaded_gone() - gone;
    pthread_mutex_lock(&stub->preload->lock);
    stub->preload->own += gone < 1 ? gone : 1; /* more are libraries */
    pthread_mutex_unlock(&stub->preload->lock);
    free(stub);
}
