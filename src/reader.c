#include "reader.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "foresight.h"
#include "objects.h"
#include "pace.h"
#include "pool.h"
#include "queue.h"
#include "shelf.h"

#define LEAST 2 /* threads that answer others, if one of them is stuck */

/* A question that a thread is answering; on that thread's stack. */
struct flight {
    struct flight *next;
    enum mi_query query;
    const char *key;
    unsigned flags; /* of the ask: the answer may be kept to itself */
};

struct mi_reader {
    struct mi_reader_config config;
    struct mi_traffic traffic;
    struct mi_dirs *dirs;
    struct mi_objects *objects;
    struct mi_pool *pool;
    struct mi_foresight *foresight;
    struct mi_shelf *shelf; /* NULL: not alone */
    pthread_mutex_t lock;   /* of all below */
    pthread_cond_t landed;  /* a flight has ended */
    pthread_cond_t compile;
    struct flight *flights;
    struct mi_queue sources; /* to be compiled: terminated paths */
    int stopped;
    int trimmed; /* by on_rest(), of which there is one at a time */
};

/* ---- publishing --------------------------------------------------------- */

/* Nothing more can be stored: from now on everybody reads for himself. */
static void declare_full(struct mi_reader *reader, const struct mi_error *why)
{
    char text[1400];

    if (mi_mailbox_stream(reader->config.mailbox) != MI_STREAM_OPEN)
        return;
    mi_mailbox_set_stream(reader->config.mailbox, MI_STREAM_FULL);
    mi_mailbox_kick(reader->config.mailbox);
    snprintf(text, sizeof(text),
             "%s; every rank reads what is not stored yet directly from the "
             "filesystem " MI_WAY_OUT,
             why->text);
    reader->config.notice(reader->config.arg, MI_FIRST_DIRECT, text);
}

int mi_reader_publish(struct mi_reader *reader, const struct mi_entry *entry,
                      const struct mi_record **record, struct mi_error *err)
{
    const struct mi_record *own, *before;
    struct mi_entry whole = *entry;
    struct mi_error why;

    record = record ? record : &own;
    mi_error_clear(&why);
    if (entry->query == MI_CODE && !entry->changed) { /* of the source */
        before = mi_store_find(reader->config.store, MI_CODE, entry->key,
                               entry->key_size);
        whole.changed = before ? before->changed : 0;
    }
    if (mi_store_append(reader->config.store, &whole, record, &why) != 0) {
        if (why.code == ENAMETOOLONG) {
            *err = why;
            return -1;
        }
        declare_full(reader, &why);
        return 0;
    }
    mi_mailbox_grown(reader->config.mailbox);
    if (reader->config.stream)
        mi_mailbox_kick(reader->config.mailbox);
    mi_foresight_meet(reader->foresight, *record);
    return 1;
}

/* ---- objects ------------------------------------------------------------ */

static int on_list(void *arg, const char *directory,
                   const struct mi_record **record, struct mi_error *err)
{
    return mi_reader_answer(arg, MI_LIST, directory, "", record, err);
}

static int on_publish(void *arg, const struct mi_entry *entry,
                      const struct mi_record **record, struct mi_error *err)
{
    return mi_reader_publish(arg, entry, record, err);
}

static void on_refused(void *arg, const char *path, const char *why,
                       int direct)
{
    struct mi_reader *reader = arg;
    char text[PATH_MAX + 1400];

    mi_refused_add(reader->config.refused, path, why);
    if (!direct)
        return;
    snprintf(text, sizeof(text),
             "%s is not mirrored: %s; it is loaded directly from the "
             "filesystem " MI_WAY_OUT,
             path, why);
    reader->config.notice(reader->config.arg, MI_FIRST_MIRROR, text);
}

static int create_objects(struct mi_reader *reader, struct mi_error *err)
{
    struct mi_objects_config config = {
        .store = reader->config.store,
        .mailbox = reader->config.mailbox,
        .mirror = reader->config.mirror,
        .dirs = reader->dirs,
        .share = reader->config.share,
        .local = reader->config.local,
        .loaded = reader->config.loaded,
        .stream = reader->config.stream,
        .list = on_list,
        .publish = on_publish,
        .refused = on_refused,
        .arg = reader,
    };

    return mi_objects_create(&reader->objects, &config, err);
}

static int answer_mirror(struct mi_reader *reader, const char *key,
                         const struct mi_record **record, struct mi_error *err)
{
    const struct mi_entry entry = {.query = MI_MIRROR,
                                   .kind = MI_KIND_ABSENT,
                                   .code = MI_MIRROR_REFUSED,
                                   .key = key,
                                   .key_size = strlen(key)};
    struct mi_error why;
    int rc;

    if (!reader->config.mirror)
        mi_refused_add(reader->config.refused, key, "--max-store 0");
    rc = mi_objects_answer(reader->objects, key, record, &why);
    if (rc >= 0)
        return rc;
    /* Whoever asks has to get an answer. */
    on_refused(reader, key, why.text, 1);
    return mi_reader_publish(reader, &entry, record, err);
}

int mi_reader_object(struct mi_reader *reader, struct mi_object *object)
{
    return mi_objects_take(reader->objects, object);
}

/* ---- answering ---------------------------------------------------------- */

/* The file of the bytecode, or "" where the listing of the directory above
 * says that there is no __pycache__.
 */
static const char *bytecode_of(const struct mi_reader *reader,
                               const char *cached)
{
    const char *name = strrchr(cached, '/'), *end = name;
    const struct mi_record *list;
    char directory[NAME_MAX + 1];

    while (name && name > cached && name[-1] != '/')
        name--;
    if (!name || name <= cached + 1 || end - name > NAME_MAX)
        return cached;
    list = mi_store_find(reader->config.store, MI_LIST, cached,
                         (size_t)(name - 1 - cached));
    if (!list || list->kind != MI_KIND_LIST)
        return cached;
    snprintf(directory, sizeof(directory), "%.*s", (int)(end - name), name);
    return mi_entries_type(list, directory) ? cached : "";
}

/* 'most': bytes of a file that the caller can take. */
static int read_answer(struct mi_reader *reader, enum mi_query query,
                       const char *key, const char *extra, uint64_t most,
                       struct mi_answer *answer, struct mi_error *err)
{
    struct mi_dirs *dirs = reader->dirs;

    switch (query) {
    case MI_LIST:
        return mi_files_list(dirs, key, answer, err);
    case MI_STAT:
        return mi_files_stat(dirs, key, answer, err);
    case MI_LSTAT:
        return mi_files_lstat(dirs, key, answer, err);
    case MI_REAL:
        return mi_files_real(dirs, key, answer, err);
    case MI_READ:
        return mi_files_read(dirs, key, most, answer, err);
    case MI_CODE:
        return mi_files_code(dirs, &reader->config.rule, key,
                             bytecode_of(reader, extra), answer, err);
    case MI_MIRROR:
    case MI_COPY:
    default:
        return mi_fail(err, MI_FORMAT, EINVAL, "question %d", (int)query);
    }
}

/* Is there no such thing? */
static int is_absent(const struct mi_entry *entry)
{
    return entry->kind == MI_KIND_ABSENT && entry->code < MI_CODE_PENDING;
}

/* 'flags' of an ask: 0 without an answer, too. */
static int answer_read(struct mi_reader *reader, enum mi_query query,
                       const char *key, const char *extra, unsigned flags,
                       const struct mi_record **record, struct mi_error *err)
{
    struct mi_answer answer;
    int rc;

    *record = mi_store_find(reader->config.store, query, key, strlen(key));
    if (*record)
        return 1;
    if (query == MI_CODE)
        mi_asked_add(reader->config.asked, query, key, extra, MI_ASKER_NOBODY);
    if (read_answer(reader, query, key, extra,
                    mi_store_room(reader->config.store), &answer, err) != 0)
        return -1;
    if (answer.entry.code == MI_READ_REFUSED)
        mi_refused_add(reader->config.refused, key,
                       "too large for the node store");
    rc = flags & MI_ASK_PRESENT && is_absent(&answer.entry)
             ? 0
             : mi_reader_publish(reader, &answer.entry, record, err);
    mi_answer_clear(&answer);
    return rc;
}

/* Register a question as being answered.  0 if another thread is at it. */
static int take_off(struct mi_reader *reader, struct flight *flight)
{
    for (struct flight *f = reader->flights; f; f = f->next)
        if (f->query == flight->query && strcmp(f->key, flight->key) == 0)
            return 0;
    flight->next = reader->flights;
    reader->flights = flight;
    return 1;
}

static void land(struct mi_reader *reader, struct flight *flight)
{
    struct flight **f = &reader->flights;

    while (*f != flight)
        f = &(*f)->next;
    *f = flight->next;
    pthread_cond_broadcast(&reader->landed);
}

int mi_reader_read(struct mi_reader *reader, enum mi_query query,
                   const char *key, const char *extra,
                   struct mi_answer *answer, struct mi_error *err)
{
    if (reader->shelf && mi_shelf_take(reader->shelf, query, key, answer))
        return 1;
    return read_answer(reader, query, key, extra, UINT64_MAX, answer, err);
}

/* Is that file there?  Its directory's listing knows, if that is here. */
static int is_present(struct mi_reader *reader, const char *path)
{
    const char *name = strrchr(path, '/');
    const struct mi_record *list = NULL;
    struct stat status;

    if (strchr(path, '\n')) /* a library by its name: to be looked for */
        return 1;
    if (name && name > path)
        list = mi_store_find(reader->config.store, MI_LIST, path,
                             (size_t)(name - path));
    if (list && list->kind == MI_KIND_LIST)
        return mi_entries_type(list, name + 1) != 0;
    return mi_dirs_stat(reader->dirs, path, MI_DIRS_NEAR, &status) == 0;
}

static int answer_new(struct mi_reader *reader, enum mi_query query,
                      const char *key, const char *extra, unsigned flags,
                      const struct mi_record **record, struct mi_error *err)
{
    if (!mi_query_mirrors(query))
        return answer_read(reader, query, key, extra, flags, record, err);
    if (flags & MI_ASK_PRESENT && !is_present(reader, key))
        return 0;
    return query == MI_MIRROR
               ? answer_mirror(reader, key, record, err)
               : mi_objects_copy(reader->objects, key, record, err);
}

/* 'pooled': of a thread of the pool, whose pace is taken. */
static int answer(struct mi_reader *reader, int pooled, enum mi_query query,
                  const char *key, const char *extra, unsigned flags,
                  const struct mi_record **record, struct mi_error *err)
{
    struct flight flight = {.query = query, .key = key, .flags = flags};
    struct mi_lap lap = {0};
    int rc;

    pthread_mutex_lock(&reader->lock);
    while (!take_off(reader, &flight))
        pthread_cond_wait(&reader->landed, &reader->lock);
    pthread_mutex_unlock(&reader->lock);

    *record = mi_store_find(reader->config.store, query, key, strlen(key));
    if (*record) {
        rc = 1;
    } else if (mi_mailbox_stream(reader->config.mailbox) != MI_STREAM_OPEN) {
        rc = 0;
    } else {
        if (pooled)
            mi_lap_begin(&lap);
        rc = answer_new(reader, query, key, extra, flags, record, err);
        if (pooled)
            mi_lap_end(&lap);
    }

    if (lap.wall)
        mi_pool_pace(reader->pool, &lap);
    pthread_mutex_lock(&reader->lock);
    land(reader, &flight);
    pthread_mutex_unlock(&reader->lock);
    return rc;
}

int mi_reader_answer(struct mi_reader *reader, enum mi_query query,
                     const char *key, const char *extra,
                     const struct mi_record **record, struct mi_error *err)
{
    return answer(reader, 0, query, key, extra, 0, record, err);
}

/* ---- the pool ----------------------------------------------------------- */

static void ask_compile(struct mi_reader *reader, const char *path)
{
    pthread_mutex_lock(&reader->lock);
    if (mi_queue_put(&reader->sources, path, strlen(path)) == 0)
        pthread_cond_signal(&reader->compile);
    pthread_mutex_unlock(&reader->lock);
}

/* Objects that are read ahead by guess leave half of the memory to those that
 * are needed.
 */
static int has_room_for_guesses(const struct mi_reader *reader)
{
    const struct mi_mirror *mirror = reader->config.mirror;

    return mirror && mi_mirror_room(mirror) > mi_mirror_limit(mirror) / 2;
}

/* Read what the one that is alone will ask for. */
static void put_on_shelf(struct mi_reader *reader, enum mi_query query,
                         const char *key, const char *extra, unsigned flags)
{
    struct mi_answer answer = {0};
    struct mi_error err;
    struct mi_lap lap;
    int rc;

    if (!mi_shelf_begin(reader->shelf, query, key))
        return;
    mi_lap_begin(&lap);
    rc = read_answer(reader, query, key, extra, MI_SHELF_BYTES, &answer, &err);
    mi_lap_end(&lap);
    mi_pool_pace(reader->pool, &lap);
    if (rc != 0 || answer.entry.code == MI_READ_REFUSED ||
        (flags & MI_ASK_PRESENT && is_absent(&answer.entry)))
        mi_shelf_put(reader->shelf, query, key, NULL);
    else
        mi_shelf_put(reader->shelf, query, key, &answer);
    mi_answer_clear(&answer);
}

/* The texts of an ask, terminated. */
struct texts {
    char key[PATH_MAX], extra[PATH_MAX];
};

static void terminate(const struct mi_ask *ask, struct texts *texts)
{
    snprintf(texts->key, sizeof(texts->key), "%.*s", (int)ask->key_size,
             ask->key);
    snprintf(texts->extra, sizeof(texts->extra), "%.*s", (int)ask->extra_size,
             ask->extra);
}

/* 'asked': somebody waits for it.  What is read ahead is not compiled. */
static void answer_ask(struct mi_reader *reader, const void *message,
                       size_t size, int asked)
{
    const struct mi_record *record;
    struct mi_error err;
    struct texts texts;
    struct mi_ask ask;
    int rc;

    if (mi_ask_unpack(message, size, &ask, &err) != 0)
        return; /* mi_reader_submit() has checked it */
    terminate(&ask, &texts);
    if (!asked && ask.query == MI_MIRROR && !(ask.flags & MI_ASK_PRESENT) &&
        !has_room_for_guesses(reader))
        return;
    if (reader->shelf && (ask.query == MI_CODE || ask.query == MI_READ)) {
        put_on_shelf(reader, ask.query, texts.key, texts.extra, ask.flags);
        return;
    }
    rc = answer(reader, 1, ask.query, texts.key, texts.extra, ask.flags,
                &record, &err);
    if (rc < 0)
        reader->config.notice(reader->config.arg, MI_FIRST_DIRECT, err.text);
    else if (rc == 1 && record->kind == MI_KIND_ABSENT &&
             record->code == MI_CODE_PENDING && asked)
        ask_compile(reader, texts.key);
}

static void on_work(void *arg, const void *message, size_t size, int asked)
{
    struct mi_reader *reader = arg;

    if (mi_ahead_is(message, size))
        mi_foresight_work(reader->foresight, message, size);
    else
        answer_ask(reader, message, size, asked);
}

/* All is read for now: keep no memory that it took.  Later the program's own
 * heap may be large, and to go through that takes time.
 */
static void on_rest(void *arg)
{
    struct mi_reader *reader = arg;

    mi_asked_shrink(reader->config.asked, reader->config.store);
    if (!reader->trimmed)
        malloc_trim(0);
    reader->trimmed = 1;
}

/* Is the same question being answered, for everybody?  Not so what a manifest
 * asks, which may be kept back.
 */
static int is_flying(struct mi_reader *reader, const struct mi_ask *ask)
{
    int found = 0;

    pthread_mutex_lock(&reader->lock);
    for (const struct flight *f = reader->flights; f && !found; f = f->next)
        found = f->query == ask->query && ask->query != MI_CODE &&
                !(f->flags & MI_ASK_PRESENT) &&
                strlen(f->key) == ask->key_size &&
                memcmp(f->key, ask->key, ask->key_size) == 0;
    pthread_mutex_unlock(&reader->lock);
    return found;
}

/* For the manifest. */
static void record_ask(struct mi_reader *reader, const struct mi_ask *ask)
{
    struct texts texts;

    if (!reader->config.asked)
        return;
    terminate(ask, &texts);
    mi_asked_add(reader->config.asked, ask->query, texts.key, texts.extra,
                 MI_ASKER_OTHER);
}

int mi_reader_submit(struct mi_reader *reader, const void *message,
                     size_t size, struct mi_error *err)
{
    const struct mi_record *record;
    struct mi_ask ask;

    if (mi_ask_unpack(message, size, &ask, err) != 0)
        return -1;
    record_ask(reader, &ask);
    record =
        mi_store_find(reader->config.store, ask.query, ask.key, ask.key_size);
    if (record && record->code != MI_CODE_PENDING)
        return 0;
    if (is_flying(reader, &ask))
        return 0;
    return mi_pool_ask(reader->pool, message, size, err);
}

static int read_ahead(struct mi_reader *reader, enum mi_query query,
                      const char *key, const char *extra, unsigned flags,
                      struct mi_error *err)
{
    struct mi_ask ask = mi_ask_of(query, key, extra);
    unsigned char message[MI_ASK_MAX];
    size_t size;

    if (mi_store_find(reader->config.store, query, key, ask.key_size))
        return 0;
    ask.flags = flags;
    if (mi_ask_pack(message, &ask, &size, err) != 0)
        return -1;
    return mi_pool_ahead(reader->pool, message, size, err);
}

int mi_reader_foresee(struct mi_reader *reader,
                      const struct mi_ahead_rules *rules, char *const *path,
                      struct mi_error *err)
{
    if (reader->config.threads == 0)
        return 0;
    return mi_foresight_begin(reader->foresight, rules, path, err);
}

int mi_reader_path(struct mi_reader *reader, char *const *path,
                   struct mi_error *err)
{
    return mi_foresight_path(reader->foresight, path, err);
}

int mi_reader_program(struct mi_reader *reader, const void *code, size_t size,
                      struct mi_error *err)
{
    return mi_foresight_program(reader->foresight, code, size, err);
}

void mi_reader_exact(struct mi_reader *reader)
{
    mi_foresight_end(reader->foresight);
}

int mi_reader_ahead(struct mi_reader *reader, enum mi_query query,
                    const char *key, const char *extra, struct mi_error *err)
{
    return read_ahead(reader, query, key, extra, 0, err);
}

int mi_reader_replay(struct mi_reader *reader,
                     const struct mi_question *question, struct mi_error *err)
{
    return read_ahead(
        reader, question->query, question->key, question->extra,
        question->flags & MI_MANIFEST_ABSENT ? 0 : MI_ASK_PRESENT, err);
}

void mi_reader_hold(struct mi_reader *reader, int hold)
{
    mi_pool_hold(reader->pool, hold);
}

void mi_reader_complete(struct mi_reader *reader)
{
    mi_pool_complete(reader->pool);
}

int mi_reader_settle(struct mi_reader *reader)
{
    return mi_pool_settle(reader->pool);
}

/* ---- compiling ---------------------------------------------------------- */

int mi_reader_compile(struct mi_reader *reader, char *path)
{
    struct mi_item *item;

    pthread_mutex_lock(&reader->lock);
    while (!reader->stopped && !reader->sources.head)
        pthread_cond_wait(&reader->compile, &reader->lock);
    item = reader->stopped ? NULL : mi_queue_take(&reader->sources);
    pthread_mutex_unlock(&reader->lock);
    if (!item)
        return 0;
    memcpy(path, item->message, item->size + 1);
    free(item);
    return 1;
}

void mi_reader_stop(struct mi_reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    reader->stopped = 1;
    pthread_cond_broadcast(&reader->compile);
    pthread_mutex_unlock(&reader->lock);
    if (reader->shelf)
        mi_shelf_close(reader->shelf);
    mi_pool_stop(reader->pool);
}

const struct mi_traffic *mi_reader_traffic(const struct mi_reader *reader)
{
    return &reader->traffic;
}

static int create_pool(struct mi_reader *reader, struct mi_error *err)
{
    const struct mi_pool_config config = {
        .threads = reader->config.threads,
        .least = reader->config.alone ? 1 : LEAST,
        .keep = !reader->config.alone, /* its shelf has the blocks */
        .mailbox = reader->config.mailbox,
        .work = on_work,
        .rest = on_rest,
        .arg = reader,
    };

    return mi_pool_create(&reader->pool, &config, err);
}

static int create_foresight(struct mi_reader *reader, struct mi_error *err)
{
    const struct mi_foresight_config config = {
        .store = reader->config.store,
        .pool = reader->pool,
        .share = reader->config.share,
        .local = reader->config.local,
        .magic = reader->config.rule.magic,
        .list = on_list,
        .arg = reader,
    };

    return mi_foresight_create(&reader->foresight, &config, err);
}

int mi_reader_create(struct mi_reader **result,
                     const struct mi_reader_config *config,
                     struct mi_error *err)
{
    struct mi_reader *reader = calloc(1, sizeof(*reader));

    if (!reader)
        return mi_fail_errno(err, "reader");
    reader->config = *config;
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->landed, NULL);
    pthread_cond_init(&reader->compile, NULL);
    mi_queue_init(&reader->sources);
    if ((config->alone && mi_shelf_create(&reader->shelf, err) != 0) ||
        mi_dirs_create(&reader->dirs, -1, &reader->traffic, err) != 0 ||
        create_pool(reader, err) != 0 || create_foresight(reader, err) != 0 ||
        create_objects(reader, err) != 0) {
        mi_reader_destroy(reader);
        return -1;
    }
    *result = reader;
    return 0;
}

void mi_reader_destroy(struct mi_reader *reader)
{
    if (!reader)
        return;
    mi_reader_stop(reader);
    mi_pool_destroy(reader->pool);
    mi_shelf_destroy(reader->shelf);
    mi_objects_destroy(reader->objects);
    mi_dirs_destroy(reader->dirs);
    mi_foresight_destroy(reader->foresight);
    mi_queue_clear(&reader->sources);
    pthread_cond_destroy(&reader->compile);
    pthread_cond_destroy(&reader->landed);
    pthread_mutex_destroy(&reader->lock);
    free(reader);
}
