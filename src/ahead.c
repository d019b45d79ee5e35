#include "ahead.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imports.h"
#include "list.h"
#include "prefixes.h"

#define PYC_HEADER 16

/* Search paths stay: somebody may be looking through them. */
struct path {
    struct path *next;
    char **directories;
};

/* A message that waits for a directory of the search path to be listed. */
struct parked {
    struct parked *next;
    char *directory;
    size_t size;
    unsigned char message[];
};

struct mi_ahead {
    struct mi_ahead_config config;
    atomic_int state; /* enum state */
    char **suffixes;
    int suffix_count;
    char *cached;
    char **own;
    _Atomic(struct path *) path; /* the latest */
    pthread_mutex_t lock;        /* of all below */
    struct parked *parked;
    uint32_t *met; /* hashes of names and paths; 0: free */
    size_t room, count;
};

/* A message.  'query' tells it from an ask, where it is not 0. */
enum step { RECORD, PROGRAM, FIND };

struct head {
    uint32_t query;
    uint32_t step;
    /* RECORD: a pointer; PROGRAM: marshalled code; FIND: texts, each
     * terminated: the directory to begin in ("": the search path), a dotted
     * name, the names to be imported from that; an empty one.
     */
};

enum state { WAITING, ACTIVE, ENDED };

/* Somebody's work on one message. */
struct turn {
    struct mi_ahead *ahead;
    void *batch;
    const void *message;
    size_t size;
    const char *package; /* directory of the module's package; NULL: none */
};

/* ---- what has been met -------------------------------------------------- */

/* Where the hash is, or is to be. */
static uint32_t *slot_of(uint32_t *met, size_t room, uint32_t hash)
{
    size_t i = hash & (room - 1);

    while (met[i] != 0 && met[i] != hash)
        i = (i + 1) & (room - 1);
    return &met[i];
}

static int grow(struct mi_ahead *ahead)
{
    size_t room = ahead->room ? 2 * ahead->room : 4096;
    uint32_t *met = calloc(room, sizeof(*met));

    if (!met)
        return -1;
    for (size_t i = 0; i < ahead->room; i++)
        if (ahead->met[i])
            *slot_of(met, room, ahead->met[i]) = ahead->met[i];
    free(ahead->met);
    ahead->met = met;
    ahead->room = room;
    return 0;
}

/* Has 'text' been met before?  By the next time it has, if 'now'.  Two texts
 * of one hash cost what could have been read ahead, no more.
 */
static int met(struct mi_ahead *ahead, const char *text, int now)
{
    uint32_t hash = (uint32_t)mi_hash(0, text, strlen(text)), *slot;
    int before = 1;

    hash += hash == 0;
    pthread_mutex_lock(&ahead->lock);
    if (4 * ahead->count < 3 * ahead->room || grow(ahead) == 0) {
        slot = slot_of(ahead->met, ahead->room, hash);
        before = *slot == hash;
        if (now && !before) {
            *slot = hash;
            ahead->count++;
        }
    }
    pthread_mutex_unlock(&ahead->lock);
    return before;
}

/* ---- files -------------------------------------------------------------- */

static int ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), tail = strlen(end);

    return size >= tail && strcmp(text + size - tail, end) == 0;
}

/* The module file "DIRECTORY/NAME" + suffix is going to be asked for. */
static void expect(const struct turn *turn, const char *directory,
                   const char *name, const char *suffix)
{
    const struct mi_ahead *ahead = turn->ahead;
    char path[PATH_MAX], cached[PATH_MAX] = "";
    enum mi_query query = MI_MIRROR;
    int size;

    size = snprintf(path, sizeof(path), "%s/%s%s", directory, name, suffix);
    if (size < 0 || (size_t)size >= sizeof(path))
        return;
    if (strcmp(suffix, ".pyc") == 0) {
        query = MI_READ;
    } else if (strcmp(suffix, ".py") == 0) {
        query = MI_CODE;
        size = snprintf(cached, sizeof(cached), "%s/__pycache__/%s%s",
                        directory, name, ahead->cached);
        if (size < 0 || (size_t)size >= sizeof(cached))
            return;
    }
    if (!met(turn->ahead, path, 1))
        ahead->config.ask(turn->batch, query, path, cached);
}

/* ---- modules ------------------------------------------------------------ */

static int is_shared(const struct turn *turn, const char *directory)
{
    const struct mi_ahead_config *config = &turn->ahead->config;

    return mi_prefixes_shared(config->share, config->local, directory);
}

static const struct mi_record *listing(const struct turn *turn,
                                       const char *directory)
{
    const struct mi_ahead_config *config = &turn->ahead->config;
    const struct mi_record *record;
    struct mi_error err;

    if (!is_shared(turn, directory) ||
        config->list(config->arg, directory, &record, &err) != 1 ||
        record->kind != MI_KIND_LIST)
        return NULL;
    if ((record->flags & MI_FLAG_LOCAL) &&
        !mi_prefixes_has(config->share, directory))
        return NULL;
    return record;
}

static const char *match(const struct mi_ahead *ahead,
                         const struct mi_record *list, const char *name,
                         int *directory)
{
    int suffix;

    mi_entries_match(list, name, strlen(name),
                     (const char *const *)ahead->suffixes, ahead->suffix_count,
                     directory, &suffix);
    return suffix < 0 ? NULL : ahead->suffixes[suffix];
}

enum found { NOTHING, MODULE, PACKAGE, PORTION };

/* Look for the module 'name' in 'directory', and expect its file (where it is
 * the program's 'own', only that of a package).  For a
 * package and a namespace's portion its own directory goes into 'base'
 * (PATH_MAX bytes), which may be 'directory'.  Source: FileFinder.find_spec().
 */
static enum found look(const struct turn *turn, const char *directory, int own,
                       const char *name, char *base)
{
    const struct mi_record *list = listing(turn, directory), *inner;
    const char *suffix, *init;
    char below[PATH_MAX], above[PATH_MAX];
    size_t size = strlen(directory);
    int is_directory, ignored, total;

    if (!list)
        return NOTHING;
    while (size > 0 && directory[size - 1] == '/')
        size--;
    snprintf(above, sizeof(above), "%.*s", (int)size, directory);
    total = snprintf(below, sizeof(below), "%s/%s", above, name);
    if (total < 0 || (size_t)total >= sizeof(below))
        return NOTHING;
    suffix = match(turn->ahead, list, name, &is_directory);
    inner = is_directory ? listing(turn, below) : NULL;
    init = inner ? match(turn->ahead, inner, "__init__", &ignored) : NULL;
    if (init) {
        expect(turn, below, "__init__", init);
        strcpy(base, below);
        return PACKAGE;
    }
    if (suffix) {
        if (!own)
            expect(turn, above, name, suffix);
        return MODULE;
    }
    if (!inner)
        return NOTHING;
    strcpy(base, below);
    return PORTION;
}

/* Has nobody listed this directory yet?  Then the message waits for that. */
static int park(const struct turn *turn, const char *directory)
{
    struct mi_ahead *ahead = turn->ahead;
    struct parked *parked = NULL;

    pthread_mutex_lock(&ahead->lock);
    if (ahead->config.find(ahead->config.arg, directory)) {
        pthread_mutex_unlock(&ahead->lock);
        return 0;
    }
    parked = malloc(sizeof(*parked) + turn->size);
    if (parked && !(parked->directory = strdup(directory))) {
        free(parked);
        parked = NULL;
    }
    if (parked) {
        parked->size = turn->size;
        memcpy(parked->message, turn->message, turn->size);
        parked->next = ahead->parked;
        ahead->parked = parked;
    }
    pthread_mutex_unlock(&ahead->lock);
    return 1;
}

/* The same along the search path: where a package is, it ends. */
static enum found look_along(const struct turn *turn, const char *name,
                             char *base)
{
    const struct path *path = atomic_load(&turn->ahead->path);
    char portion[PATH_MAX] = "";
    enum found found;

    for (char **p = path ? path->directories : NULL; p && *p; p++) {
        if (is_shared(turn, *p) && park(turn, *p))
            return NOTHING;
        found = look(turn, *p, mi_list_has(turn->ahead->own, *p), name, base);
        if (found == MODULE || found == PACKAGE)
            return found;
        if (found == PORTION && !portion[0])
            strcpy(portion, base);
    }
    strcpy(base, portion);
    return portion[0] ? PORTION : NOTHING;
}

/* FIND: each package on the way, the module, and what is imported from it. */
static void find(const struct turn *turn, const char *begin, const char *name,
                 const char *from)
{
    char base[PATH_MAX], part[MI_IMPORT_TEXT];
    enum found found = PACKAGE;

    snprintf(base, sizeof(base), "%s", begin);
    while (*name && found != NOTHING && found != MODULE) {
        size_t size = strcspn(name, ".");

        if (size == 0)
            return; /* no such thing in sound bytecode */
        snprintf(part, sizeof(part), "%.*s", (int)size, name);
        name += size + (name[size] == '.');
        found = base[0] ? look(turn, base, 0, part, base)
                        : look_along(turn, part, base);
    }
    if (found != PACKAGE && found != PORTION)
        return;
    for (; *from; from += strlen(from) + 1) {
        char below[PATH_MAX];

        look(turn, base, 0, from, below);
    }
}

/* ---- imports ------------------------------------------------------------ */

/* Texts of a message that is being made. */
struct texts {
    char *place;
    size_t room, used;
};

/* Append 'first', and 'second' behind it, with its terminator. */
static int append(struct texts *texts, const char *first, const char *second)
{
    int size = snprintf(texts->place + texts->used, texts->room - texts->used,
                        "%s%s", first, second);

    if (size < 0 || (size_t)size >= texts->room - texts->used)
        return 0;
    texts->used += (size_t)size + 1;
    return 1;
}

/* Directory in which a relative import begins, into 'begin' (PATH_MAX). */
static int begin_in(const struct turn *turn, int level, char *begin)
{
    char *slash;

    begin[0] = '\0';
    if (level == 0)
        return 1;
    if (!turn->package)
        return 0;
    snprintf(begin, PATH_MAX, "%s", turn->package);
    while (--level > 0) {
        slash = strrchr(begin, '/');
        if (!slash || slash == begin)
            return 0;
        *slash = '\0';
    }
    return 1;
}

/* Has this import been met?  'name' is dotted, 'more' what is imported from
 * that or "".  Absolute ones may be known from the beginning.
 */
static int import_met(struct mi_ahead *ahead, const char *begin,
                      const char *name, const char *more)
{
    char text[PATH_MAX + 2 * MI_IMPORT_TEXT];

    snprintf(text, sizeof(text), "%s%s%s%s%s", begin, begin[0] ? "\n" : "",
             name, name[0] && more[0] ? "." : "", more);
    return met(ahead, text, 1);
}

/* Is it a module that is loaded, and has nothing below it? */
static int is_closed(struct mi_ahead *ahead, const char *name)
{
    char package[MI_IMPORT_TEXT + 1];

    snprintf(package, sizeof(package), "%s.", name);
    return met(ahead, name, 0) && !met(ahead, package, 0);
}

/* An import of the module whose turn it is: have it found. */
static void on_import(void *arg, const struct mi_import *import)
{
    const struct turn *turn = arg;
    struct mi_ahead *ahead = turn->ahead;
    char message[sizeof(struct head) + PATH_MAX + 2 * MI_IMPORT_TEXT];
    const struct head head = {.step = FIND};
    struct texts texts = {.place = message, .room = sizeof(message)};
    char begin[PATH_MAX];
    int wanted = 0;

    if (!begin_in(turn, import->level, begin) ||
        (!begin[0] && is_closed(ahead, import->name)))
        return;
    memcpy(message, &head, sizeof(head));
    texts.used = sizeof(head);
    if (!append(&texts, begin, "") || !append(&texts, import->name, ""))
        return;
    if (import->name[0])
        wanted = !import_met(ahead, begin, import->name, "");
    for (const char *p = import->from; *p; p += strlen(p) + 1)
        if (!import_met(ahead, begin, import->name, p))
            wanted |= append(&texts, p, "");
    if (wanted && append(&texts, "", ""))
        ahead->config.later(turn->batch, message, texts.used);
}

static void scan(struct turn *turn, const void *code, size_t size, int program)
{
    struct mi_error err; /* what cannot be understood is not read ahead */

    mi_imports_scan(code, size, turn->ahead->config.magic, program, on_import,
                    turn, &err);
}

/* RECORD: the imports of a module. */
static void scan_record(struct turn *turn, const struct mi_record *record)
{
    const char *key = mi_record_key(record);
    const char *slash = strrchr(key, '/');
    char package[PATH_MAX];

    if (!slash)
        return;
    snprintf(package, sizeof(package), "%.*s", (int)(slash - key), key);
    turn->package = package;
    scan(turn, (const char *)mi_record_payload(record) + PYC_HEADER,
         record->size - PYC_HEADER, 0);
}

/* ---- messages ----------------------------------------------------------- */

/* What has waited for this listing can be done. */
static void unpark(struct mi_ahead *ahead, const char *directory, void *batch)
{
    struct parked **p = &ahead->parked, *parked;

    pthread_mutex_lock(&ahead->lock);
    while ((parked = *p) != NULL) {
        if (strcmp(parked->directory, directory) != 0) {
            p = &parked->next;
            continue;
        }
        *p = parked->next;
        ahead->config.later(batch, parked->message, parked->size);
        free(parked->directory);
        free(parked);
    }
    pthread_mutex_unlock(&ahead->lock);
}

void mi_ahead_meet(struct mi_ahead *ahead, const struct mi_record *record,
                   void *batch)
{
    const struct head head = {.step = RECORD};
    const char *key = mi_record_key(record);
    unsigned char message[sizeof(head) + sizeof(record)];

    if (atomic_load(&ahead->state) != ACTIVE)
        return;
    if (record->query == MI_LIST)
        unpark(ahead, key, batch);
    if ((record->query != MI_CODE &&
         (record->query != MI_READ || !ends_with(key, ".pyc"))) ||
        record->kind != MI_KIND_FILE || record->size <= PYC_HEADER)
        return;
    memcpy(message, &head, sizeof(head));
    memcpy(message + sizeof(head), &record, sizeof(record));
    ahead->config.later(batch, message, sizeof(message));
}

void *mi_ahead_program(struct mi_ahead *ahead, const void *code, size_t size,
                       size_t *total)
{
    const struct head head = {.step = PROGRAM};
    char *message;

    if (atomic_load(&ahead->state) != ACTIVE)
        return NULL;
    message = malloc(sizeof(head) + size);
    if (!message)
        return NULL;
    memcpy(message, &head, sizeof(head));
    memcpy(message + sizeof(head), code, size);
    *total = sizeof(head) + size;
    return message;
}

int mi_ahead_is(const void *message, size_t size)
{
    uint32_t query;

    if (size < sizeof(query))
        return 0;
    memcpy(&query, message, sizeof(query));
    return query == 0;
}

void mi_ahead_work(struct mi_ahead *ahead, const void *message, size_t size,
                   void *batch)
{
    struct turn turn = {
        .ahead = ahead, .batch = batch, .message = message, .size = size};
    const char *body = (const char *)message + sizeof(struct head);
    const struct mi_record *record;
    struct head head;

    if (atomic_load(&ahead->state) != ACTIVE)
        return;
    memcpy(&head, message, sizeof(head));
    switch (head.step) {
    case RECORD:
        memcpy(&record, body, sizeof(record));
        scan_record(&turn, record);
        break;
    case PROGRAM:
        scan(&turn, body, size - sizeof(head), 1);
        break;
    default:
        find(&turn, body, body + strlen(body) + 1,
             body + strlen(body) + strlen(body + strlen(body) + 1) + 2);
    }
}

/* ---- begin and end ------------------------------------------------------ */

int mi_ahead_begin(struct mi_ahead *ahead, const struct mi_ahead_rules *rules,
                   struct mi_error *err)
{
    int waiting = WAITING;

    if (atomic_load(&ahead->state) != WAITING || ahead->cached)
        return 0;
    ahead->cached = strdup(rules->cached);
    if (!ahead->cached ||
        mi_list_copy(&ahead->suffixes, rules->suffixes) != 0 ||
        mi_list_copy(&ahead->own, rules->own) != 0)
        return mi_fail_errno(err, "read-ahead");
    ahead->suffix_count = (int)mi_list_length(ahead->suffixes);
    for (char *const *name = rules->known; name && *name; name++)
        met(ahead, *name, 1);
    atomic_compare_exchange_strong(&ahead->state, &waiting, ACTIVE);
    return 0;
}

void mi_ahead_end(struct mi_ahead *ahead)
{
    atomic_store(&ahead->state, ENDED);
}

int mi_ahead_path(struct mi_ahead *ahead, char *const *directories,
                  struct mi_error *err)
{
    struct path *path = calloc(1, sizeof(*path));

    if (!path || mi_list_copy(&path->directories, directories) != 0) {
        free(path);
        return mi_fail_errno(err, "read-ahead");
    }
    path->next = atomic_load(&ahead->path);
    while (!atomic_compare_exchange_weak(&ahead->path, &path->next, path))
        continue;
    return 0;
}

int mi_ahead_create(struct mi_ahead **result,
                    const struct mi_ahead_config *config, struct mi_error *err)
{
    struct mi_ahead *ahead = calloc(1, sizeof(*ahead));

    if (!ahead)
        return mi_fail_errno(err, "read-ahead");
    ahead->config = *config;
    pthread_mutex_init(&ahead->lock, NULL);
    *result = ahead;
    return 0;
}

void mi_ahead_destroy(struct mi_ahead *ahead)
{
    struct parked *parked;
    struct path *path;

    if (!ahead)
        return;
    while ((parked = ahead->parked) != NULL) {
        ahead->parked = parked->next;
        free(parked->directory);
        free(parked);
    }
    while ((path = atomic_load(&ahead->path)) != NULL) {
        atomic_store(&ahead->path, path->next);
        mi_list_clear(&path->directories);
        free(path);
    }
    mi_list_clear(&ahead->suffixes);
    mi_list_clear(&ahead->own);
    free(ahead->cached);
    free(ahead->met);
    pthread_mutex_destroy(&ahead->lock);
    free(ahead);
}
