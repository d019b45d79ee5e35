#include "asked.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_MIN 64 /* items that there is room for beyond the manifest's */
#define CACHE "/__pycache__/"

/* Those of the manifest come first, in its order. */
struct item {
    const char *key, *extra; /* as struct mi_question */
    uint32_t hash;
    uint8_t query, flags, age; /* of the manifest */
    uint8_t state;             /* bits: */
};

#define OTHER 1u /* another rank has asked in this run, or is about to */
#define OWN 2u   /* this rank's program has */
#define ASKED (OTHER | OWN)
#define YOUNG 4u     /* modified in this run */
#define ANSWERED 8u  /* there is an answer, */
#define ABSENT 16u   /* which is that there is no such thing */
#define BESIDE 32u   /* 'extra' is what make_extra() makes of the key */
#define MINE_KEY 64u /* the texts: allocated here */
#define MINE_EXTRA 128u

struct mi_asked {
    pthread_mutex_t lock;
    struct item *items;
    size_t count, room;
    size_t known;    /* items of the manifest */
    uint32_t *order; /* numbers of items as they were first asked; 'room' */
    size_t asked;    /* so many are in it */
    uint32_t *slots; /* 1 + number of an item, by its hash; 0: none */
    uint32_t mask;
    size_t bytes;  /* of new texts */
    char *own;     /* the program's directory; or NULL */
    char *ending;  /* of bytecode's names, ".cpython-311.pyc"; or NULL */
    size_t shrunk; /* so many items are: nothing to do for them */
    struct mi_manifest *manifest;
};

/* ---- the table ---------------------------------------------------------- */

static uint32_t hash_of(enum mi_query query, const char *key)
{
    return (uint32_t)mi_key_hash(query, key, strlen(key));
}

static int is_it(const struct item *item, enum mi_query query, const char *key,
                 uint32_t hash)
{
    return item->hash == hash && item->query == query &&
           strcmp(item->key, key) == 0;
}

/* Its slot, or the empty one where it would be. */
static uint32_t *find(const struct mi_asked *asked, enum mi_query query,
                      const char *key, uint32_t hash)
{
    uint32_t i = hash & asked->mask;

    while (asked->slots[i] &&
           !is_it(&asked->items[asked->slots[i] - 1], query, key, hash))
        i = (i + 1) & asked->mask;
    return &asked->slots[i];
}

static uint32_t *find_item(const struct mi_asked *asked,
                           const struct item *item)
{
    return find(asked, (enum mi_query)item->query, item->key, item->hash);
}

/* Have slots for 'room' items. */
static int rehash(struct mi_asked *asked, size_t room)
{
    size_t size = 2 * ROOM_MIN;
    uint32_t *slots;

    while (size < room + room / 2)
        size *= 2;
    slots = calloc(size, sizeof(*slots));
    if (!slots)
        return -1;
    free(asked->slots);
    asked->slots = slots;
    asked->mask = (uint32_t)(size - 1);
    for (size_t i = 0; i < asked->count; i++)
        *find_item(asked, &asked->items[i]) = (uint32_t)i + 1;
    return 0;
}

/* Room for one more item. */
static int make_room(struct mi_asked *asked)
{
    size_t room = asked->room * 2;
    struct item *items;
    uint32_t *order;

    if (asked->count < asked->room)
        return 0;
    if (room > UINT32_MAX / 4)
        return -1;
    items = realloc(asked->items, room * sizeof(*items));
    if (!items)
        return -1;
    asked->items = items;
    order = realloc(asked->order, room * sizeof(*order));
    if (!order)
        return -1;
    asked->order = order;
    if (rehash(asked, room) != 0)
        return -1;
    asked->room = room;
    return 0;
}

static int start(struct mi_asked *asked, size_t known)
{
    size_t room = known + ROOM_MIN;

    asked->items = calloc(room, sizeof(*asked->items));
    asked->order = calloc(room, sizeof(*asked->order));
    asked->room = room;
    return asked->items && asked->order ? rehash(asked, room) : -1;
}

static void know(struct mi_asked *asked, const struct mi_manifest *manifest)
{
    for (size_t i = 0; i < manifest->count; i++) {
        const struct mi_question *question = &manifest->questions[i];
        const struct item item = {.key = question->key,
                                  .extra = question->extra,
                                  .hash =
                                      hash_of(question->query, question->key),
                                  .query = (uint8_t)question->query,
                                  .flags = (uint8_t)question->flags,
                                  .age = (uint8_t)question->age};
        uint32_t *slot = find_item(asked, &item);

        if (*slot)
            continue;
        asked->items[asked->count] = item;
        *slot = (uint32_t)++asked->count;
    }
    asked->known = asked->count;
}

static void set(struct item *item, unsigned bit, int on)
{
    item->state = (uint8_t)(on ? item->state | bit : item->state & ~bit);
}

static void drop(struct item *item, const char **text, unsigned mine)
{
    if (item->state & mine)
        free((char *)(uintptr_t)*text);
    set(item, mine, 0);
    *text = "";
}

struct mi_asked *mi_asked_create(struct mi_manifest *manifest)
{
    struct mi_asked *asked = calloc(1, sizeof(*asked));

    if (!asked)
        return NULL;
    pthread_mutex_init(&asked->lock, NULL);
    if (start(asked, manifest->count) != 0) {
        mi_asked_destroy(asked);
        return NULL;
    }
    know(asked, manifest);
    asked->manifest = manifest;
    return asked;
}

void mi_asked_destroy(struct mi_asked *asked)
{
    if (!asked)
        return;
    for (size_t i = 0; i < asked->count; i++) {
        drop(&asked->items[i], &asked->items[i].key, MINE_KEY);
        drop(&asked->items[i], &asked->items[i].extra, MINE_EXTRA);
    }
    pthread_mutex_destroy(&asked->lock);
    free(asked->items);
    free(asked->order);
    free(asked->slots);
    free(asked->own);
    free(asked->ending);
    free(asked);
}

/* ---- texts -------------------------------------------------------------- */

/* The end of 'extra' that 'key' does not say: of "/a/__pycache__/b.c-3.pyc",
 * for "/a/b.py", it is ".c-3.pyc".  NULL if they differ otherwise.
 */
static const char *ending_of(const char *key, const char *extra)
{
    const char *name = strrchr(key, '/'), *dot = strrchr(key, '.');
    size_t above = name ? (size_t)(name - key) : 0;
    size_t stem = name && dot > name ? (size_t)(dot - name) - 1 : 0;
    const size_t cache = sizeof(CACHE) - 1;

    if (stem == 0 || strcmp(dot, ".py") != 0 ||
        strncmp(extra, key, above) != 0 ||
        strncmp(extra + above, CACHE, cache) != 0 ||
        strncmp(extra + above + cache, name + 1, stem) != 0)
        return NULL;
    return extra + above + cache + stem;
}

/* Can make_extra() make it of the key?  All have the ending of the first. */
static int is_beside(struct mi_asked *asked, const char *key,
                     const char *extra)
{
    const char *ending = ending_of(key, extra);

    if (ending && !asked->ending)
        asked->ending = strdup(ending);
    return ending && asked->ending && strcmp(ending, asked->ending) == 0;
}

static int make_extra(const struct mi_asked *asked, struct item *item)
{
    const char *key = item->key, *name = strrchr(key, '/');
    char *text;

    if (asprintf(&text, "%.*s" CACHE "%.*s%s", (int)(name - key), key,
                 (int)(strrchr(key, '.') - name) - 1, name + 1,
                 asked->ending) < 0)
        return -1;
    item->extra = text;
    set(item, MINE_EXTRA, 1);
    return 0;
}

/* Have 'text' allocated here, unless it is empty. */
static int keep(struct item *item, const char **text, unsigned mine)
{
    char *kept;

    if (item->state & mine)
        return 0;
    if (!**text) {
        *text = "";
        return 0;
    }
    kept = strdup(*text);
    if (!kept)
        return -1;
    *text = kept;
    set(item, mine, 1);
    return 0;
}

static const struct mi_record *record_of(const struct item *item,
                                         const struct mi_store *store)
{
    return mi_store_find(store, item->query, item->key, strlen(item->key));
}

static int shrink(struct mi_asked *asked, struct item *item,
                  const struct mi_store *store)
{
    const struct mi_record *record = record_of(item, store);

    if (is_beside(asked, item->key, item->extra)) {
        set(item, BESIDE, 1);
        drop(item, &item->extra, MINE_EXTRA);
    }
    if (record) {
        drop(item, &item->key, MINE_KEY);
        item->key = mi_record_key(record);
    } else if (keep(item, &item->key, MINE_KEY) != 0) {
        return -1;
    }
    return keep(item, &item->extra, MINE_EXTRA);
}

void mi_asked_shrink(struct mi_asked *asked, const struct mi_store *store)
{
    if (!asked)
        return;
    pthread_mutex_lock(&asked->lock);
    while (asked->shrunk < asked->count &&
           shrink(asked, &asked->items[asked->shrunk], store) == 0)
        asked->shrunk++;
    if (asked->shrunk == asked->count)
        mi_manifest_clear(asked->manifest);
    pthread_mutex_unlock(&asked->lock);
}

/* ---- asking ------------------------------------------------------------- */

/* A copy within the bounds of a manifest, or NULL. */
static char *copy(struct mi_asked *asked, const char *text)
{
    size_t size = strlen(text) + 1;

    if (size > MI_PATH || asked->bytes + size > MI_MANIFEST_MAX)
        return NULL;
    asked->bytes += size;
    return strdup(text);
}

/* The item of that question, which is made if there is none; or NULL. */
static struct item *item_of(struct mi_asked *asked, enum mi_query query,
                            const char *key, uint32_t hash)
{
    uint32_t *slot = find(asked, query, key, hash);
    char *text;

    if (*slot)
        return &asked->items[*slot - 1];
    text = make_room(asked) == 0 ? copy(asked, key) : NULL;
    if (!text)
        return NULL;
    asked->items[asked->count] = (struct item){.key = text,
                                               .extra = "",
                                               .hash = hash,
                                               .query = (uint8_t)query,
                                               .state = MINE_KEY};
    *find(asked, query, key, hash) = (uint32_t)++asked->count;
    return &asked->items[asked->count - 1];
}

static void set_extra(struct mi_asked *asked, struct item *item,
                      const char *extra)
{
    char *text;

    if (!extra[0] || strlen(extra) >= MI_PATH || item->extra[0] ||
        item->state & BESIDE)
        return;
    set(item, BESIDE, is_beside(asked, item->key, extra));
    text = item->state & BESIDE ? NULL : copy(asked, extra);
    if (!text)
        return;
    item->extra = text;
    set(item, MINE_EXTRA, 1);
}

static void count(struct mi_asked *asked, struct item *item,
                  enum mi_asker asker)
{
    if (asker == MI_ASKER_NOBODY)
        return;
    if (!(item->state & ASKED))
        asked->order[asked->asked++] = (uint32_t)(item - asked->items);
    set(item, asker == MI_ASKER_OWN ? OWN : OTHER, 1);
}

static void add(struct mi_asked *asked, enum mi_query query, const char *key,
                uint32_t hash, const char *extra, enum mi_asker asker)
{
    struct item *item;

    pthread_mutex_lock(&asked->lock);
    item = item_of(asked, query, key, hash);
    if (item) {
        set_extra(asked, item, extra);
        count(asked, item, asker);
    }
    pthread_mutex_unlock(&asked->lock);
}

void mi_asked_add(struct mi_asked *asked, enum mi_query query, const char *key,
                  const char *extra, enum mi_asker asker)
{
    if (asked && key[0] == '/')
        add(asked, query, key, hash_of(query, key), extra, asker);
}

void mi_asked_mark(struct mi_asked *asked, const struct mi_record *record)
{
    if (asked)
        add(asked, (enum mi_query)record->query, mi_record_key(record),
            (uint32_t)record->hash, "", MI_ASKER_OWN);
}

void mi_asked_own(struct mi_asked *asked, const char *directory)
{
    if (!asked || asked->own)
        return;
    pthread_mutex_lock(&asked->lock);
    asked->own = strdup(directory); /* without memory it is a hint less */
    pthread_mutex_unlock(&asked->lock);
}

/* ---- the next manifest -------------------------------------------------- */

static int is_known(const struct mi_asked *asked, const struct item *item)
{
    return item < asked->items + asked->known;
}

/* Is it a file right in the program's directory, or that directory? */
static int is_own(const struct mi_asked *asked, const struct item *item)
{
    size_t size = asked->own ? strlen(asked->own) : 0;
    const char *rest = item->key + size;

    if (size == 0 || strncmp(item->key, asked->own, size) != 0)
        return 0;
    return !rest[0] || (rest[0] == '/' && !strchr(rest + 1, '/') &&
                        item->query != MI_LIST);
}

/* Can it be read ahead?  Bytecode only where it is known to lie. */
static int is_fit(const struct mi_asked *asked, const struct item *item)
{
    return !(item->state & YOUNG) && !is_own(asked, item) &&
           (item->query != MI_CODE || item->extra[0] || item->state & BESIDE);
}

static void judge(struct mi_asked *asked, const struct mi_store *store,
                  int64_t since)
{
    const struct mi_record *record;

    for (size_t i = 0; i < asked->count; i++) {
        struct item *item = &asked->items[i];

        record = record_of(item, store);
        set(item, YOUNG,
            record && (record->mtime >= since || record->changed >= since));
        set(item, ANSWERED, record != NULL);
        set(item, ABSENT,
            record && record->kind == MI_KIND_ABSENT &&
                record->code < MI_CODE_PENDING);
    }
}

static unsigned flags_of(const struct item *item)
{
    unsigned flags = item->flags;

    if (item->state & OWN)
        flags |= MI_MANIFEST_OWN;
    if (item->state & ANSWERED)
        flags = item->state & ABSENT ? flags | MI_MANIFEST_ABSENT
                                     : flags & ~MI_MANIFEST_ABSENT;
    return flags;
}

/* What the next run will know of a question that has been asked. */
static int is_new(const struct mi_asked *asked, const struct item *item)
{
    return item->state & ASKED && !is_known(asked, item) &&
           is_fit(asked, item);
}

/* Has rank 0's program begun or ceased to ask it?  Of the others' questions
 * only the first is ever seen: later runs have answered them before.
 */
static int has_changed(const struct mi_asked *asked, const struct item *item)
{
    if (!is_known(asked, item))
        return is_new(asked, item);
    if (!is_fit(asked, item) || flags_of(item) != item->flags)
        return 1;
    if (item->flags & MI_MANIFEST_OWN)
        return !(item->state & OWN) || item->age > 0;
    return 0;
}

/* It as the next manifest has it; 0 if that has not. */
static int next(const struct mi_asked *asked, const struct item *item,
                struct mi_question *question)
{
    *question = (struct mi_question){.query = (enum mi_query)item->query,
                                     .flags = flags_of(item),
                                     .key = item->key,
                                     .extra = item->extra};
    if (!is_fit(asked, item))
        return 0;
    if (item->state & ASKED)
        return 1;
    question->age = item->age + 1u;
    return is_known(asked, item) && question->age < MI_MANIFEST_AGE;
}

/* The known ones from number i on that nobody has asked. */
static size_t put_unasked(const struct mi_asked *asked, size_t i,
                          struct mi_question *to)
{
    size_t n = 0;

    for (; i < asked->known && !(asked->items[i].state & ASKED); i++)
        n += (size_t)next(asked, &asked->items[i], to + n);
    return n;
}

static size_t put_all(const struct mi_asked *asked, struct mi_question *to)
{
    size_t n = put_unasked(asked, 0, to);

    for (size_t i = 0; i < asked->asked; i++) {
        const struct item *item = &asked->items[asked->order[i]];

        n += (size_t)next(asked, item, to + n);
        if (is_known(asked, item))
            n += put_unasked(asked, asked->order[i] + 1u, to + n);
    }
    return n;
}

static int merge(struct mi_asked *asked, struct mi_question **questions,
                 size_t *count)
{
    size_t i = 0;

    while (i < asked->count && !has_changed(asked, &asked->items[i]))
        i++;
    if (i == asked->count)
        return 0;
    for (i = 0; i < asked->count; i++)
        if (asked->items[i].state & BESIDE && !asked->items[i].extra[0] &&
            make_extra(asked, &asked->items[i]) != 0)
            return -1;
    *questions = calloc(asked->count + 1, sizeof(**questions));
    if (!*questions)
        return -1;
    *count = put_all(asked, *questions);
    return 1;
}

int mi_asked_merge(struct mi_asked *asked, const struct mi_store *store,
                   int64_t since, struct mi_question **questions,
                   size_t *count)
{
    int rc;

    pthread_mutex_lock(&asked->lock);
    judge(asked, store, since);
    rc = merge(asked, questions, count);
    pthread_mutex_unlock(&asked->lock);
    return rc;
}

void mi_asked_counts(struct mi_asked *asked, struct mi_asked_count *counts)
{
    struct mi_question question;

    *counts = (struct mi_asked_count){.known = 0};
    if (!asked)
        return;
    pthread_mutex_lock(&asked->lock);
    counts->known = asked->known;
    for (size_t i = 0; i < asked->count; i++) {
        const struct item *item = &asked->items[i];

        counts->used += is_known(asked, item) && item->state & OWN;
        counts->added += (size_t)is_new(asked, item);
        counts->dropped +=
            is_known(asked, item) && !next(asked, item, &question);
    }
    pthread_mutex_unlock(&asked->lock);
}
