#include "reader.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "objects.h"
#include "pace.h"
#include "thread.h"

#define THREADS_AT_LEAST 2 /* if one of them is stuck */

/* An ask that waits for a thread, or a source that waits to be compiled. */
struct item {
    struct item *next;
    size_t size;
    unsigned char message[]; /* mi_ask_pack, or a terminated path */
};

struct queue {
    struct item *head, **tail;
};

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
    pthread_mutex_t lock;  /* of all below but 'objects' */
    pthread_cond_t landed; /* a flight has ended */
    pthread_cond_t asked;
    pthread_cond_t compile;
    struct flight *flights;
    struct queue asks, aheads, sources;
    int pending; /* asks that are queued, and all that is being answered */
    int queued;  /* asks and what is read ahead */
    int idle;    /* threads that wait for these */
    int stopped;
    struct mi_objects *objects;
    struct mi_pace pace;
    struct mi_ahead *ahead;
    int threads;
    pthread_t thread[];
};

/* ---- queues ------------------------------------------------------------- */

static void queue_init(struct queue *queue)
{
    queue->head = NULL;
    queue->tail = &queue->head;
}

static int queue_put(struct queue *queue, const void *message, size_t size)
{
    struct item *item = malloc(sizeof(*item) + size + 1);

    if (!item)
        return -1;
    item->next = NULL;
    item->size = size;
    memcpy(item->message, message, size);
    item->message[size] = '\0';
    *queue->tail = item;
    queue->tail = &item->next;
    return 0;
}

/* Put all of 'more', which is empty then, before the rest. */
static void queue_put_first(struct queue *queue, struct queue *more)
{
    if (!more->head)
        return;
    *more->tail = queue->head;
    if (!queue->head)
        queue->tail = more->tail;
    queue->head = more->head;
    queue_init(more);
}

static struct item *queue_take(struct queue *queue)
{
    struct item *item = queue->head;

    if (!item)
        return NULL;
    queue->head = item->next;
    if (!queue->head)
        queue->tail = &queue->head;
    return item;
}

static void queue_clear(struct queue *queue)
{
    struct item *item;

    while ((item = queue_take(queue)) != NULL)
        free(item);
}

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

static void follow(struct mi_reader *reader, const struct mi_record *record);

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
    follow(reader, *record);
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
    if (query != MI_MIRROR && query != MI_COPY)
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

    pthread_mutex_lock(&reader->lock);
    if (lap.wall)
        mi_pace_add(&reader->pace, &lap);
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
    if (queue_put(&reader->sources, path, strlen(path)) == 0)
        pthread_cond_signal(&reader->compile);
    pthread_mutex_unlock(&reader->lock);
}

/* 'asked': somebody waits for it.  What is read ahead is not compiled. */
static void answer_ask(struct mi_reader *reader, const struct item *item,
                       int asked)
{
    char key_text[PATH_MAX], extra_text[PATH_MAX];
    const char *key, *extra;
    size_t key_size, extra_size;
    enum mi_query query;
    const struct mi_record *record;
    struct mi_error err;
    struct mi_ask ask;
    int rc;

    if (mi_ask_unpack(item->message, item->size, &query, &key, &key_size,
                      &extra, &extra_size, &err) != 0)
        return; /* mi_reader_submit() has checked it */
    memcpy(&ask, item->message, sizeof(ask));
    memcpy(key_text, key, key_size);
    key_text[key_size] = '\0';
    memcpy(extra_text, extra, extra_size);
    extra_text[extra_size] = '\0';
    rc = answer(reader, 1, query, key_text, extra_text, ask.flags, &record,
                &err);
    if (rc < 0)
        reader->config.notice(reader->config.arg, MI_FIRST_DIRECT, err.text);
    else if (rc == 1 && record->kind == MI_KIND_ABSENT &&
             record->code == MI_CODE_PENDING && asked)
        ask_compile(reader, key_text);
}

static void *pool_thread(void *arg);

/* Have one more thread if something waits for one, and those that there are
 * mostly wait for the filesystem.  With the lock.
 */
static int add_thread(struct mi_reader *reader, struct mi_error *err)
{
    if (reader->stopped || reader->threads == reader->config.threads ||
        reader->queued <= reader->idle)
        return 0;
    if (reader->threads >= THREADS_AT_LEAST && !mi_pace_waits(&reader->pace))
        return 0;
    if (mi_thread_start(&reader->thread[reader->threads], "mpiimport-read",
                        pool_thread, reader, err) == 0)
        reader->threads++;
    return reader->threads > 0 ? 0 : -1;
}

static void look_ahead(struct mi_reader *reader, const struct item *item);

static void *pool_thread(void *arg)
{
    struct mi_reader *reader = arg;
    struct item *item;
    int asked;

    pthread_mutex_lock(&reader->lock);
    while (!reader->stopped) {
        asked = reader->asks.head != NULL;
        item = queue_take(asked ? &reader->asks : &reader->aheads);
        if (!item) {
            reader->idle++;
            pthread_cond_wait(&reader->asked, &reader->lock);
            reader->idle--;
            continue;
        }
        reader->queued--;
        reader->pending += !asked;
        pthread_mutex_unlock(&reader->lock);
        if (mi_ahead_is(item->message, item->size))
            look_ahead(reader, item);
        else
            answer_ask(reader, item, asked);
        free(item);
        pthread_mutex_lock(&reader->lock);
        add_thread(reader, NULL);
        if (--reader->pending == 0)
            mi_mailbox_kick(reader->config.mailbox); /* the end may be due */
    }
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

/* Is the same ask waiting, or being answered?  Its answer reaches everybody.
 */
static int under_way(const struct mi_reader *reader, const void *message,
                     size_t size, enum mi_query query, const char *key,
                     size_t key_size)
{
    for (const struct item *i = reader->asks.head; i; i = i->next)
        if (i->size == size && memcmp(i->message, message, size) == 0)
            return 1;
    for (const struct flight *f = reader->flights; f; f = f->next)
        if (f->query == query && query != MI_CODE &&
            !(f->flags & MI_ASK_PRESENT) && strlen(f->key) == key_size &&
            memcmp(f->key, key, key_size) == 0)
            return 1;
    return 0;
}

/* Put a message into one of the two queues of the pool. */
static int submit_locked(struct mi_reader *reader, struct queue *queue,
                         const void *message, size_t size,
                         struct mi_error *err)
{
    if (reader->config.threads == 0)
        return mi_fail(err, MI_ERRNO, EINVAL, "this reader has no threads");
    reader->queued++;
    if (add_thread(reader, err) != 0 || queue_put(queue, message, size) != 0) {
        reader->queued--;
        return reader->threads ? mi_fail_errno(err, "reader") : -1;
    }
    reader->pending += queue == &reader->asks;
    pthread_cond_signal(&reader->asked);
    return 0;
}

/* For the manifest.  The texts are not terminated. */
static void record_ask(struct mi_reader *reader, enum mi_query query,
                       const char *key, size_t key_size, const char *extra,
                       size_t extra_size)
{
    char key_text[PATH_MAX], extra_text[PATH_MAX];

    if (!reader->config.asked)
        return;
    snprintf(key_text, sizeof(key_text), "%.*s", (int)key_size, key);
    snprintf(extra_text, sizeof(extra_text), "%.*s", (int)extra_size, extra);
    mi_asked_add(reader->config.asked, query, key_text, extra_text,
                 MI_ASKER_OTHER);
}

int mi_reader_submit(struct mi_reader *reader, const void *message,
                     size_t size, struct mi_error *err)
{
    const char *key, *extra;
    size_t key_size, extra_size;
    enum mi_query query;
    const struct mi_record *record;
    int rc;

    if (mi_ask_unpack(message, size, &query, &key, &key_size, &extra,
                      &extra_size, err) != 0)
        return -1;
    record_ask(reader, query, key, key_size, extra, extra_size);
    record = mi_store_find(reader->config.store, query, key, key_size);
    if (record && record->code != MI_CODE_PENDING)
        return 0;
    pthread_mutex_lock(&reader->lock);
    rc = under_way(reader, message, size, query, key, key_size)
             ? 0
             : submit_locked(reader, &reader->asks, message, size, err);
    pthread_mutex_unlock(&reader->lock);
    return rc;
}

static int read_ahead(struct mi_reader *reader, enum mi_query query,
                      const char *key, const char *extra, unsigned flags,
                      struct mi_error *err)
{
    unsigned char message[MI_ASK_MAX];
    struct mi_ask ask;
    size_t size;
    int rc;

    if (mi_store_find(reader->config.store, query, key, strlen(key)))
        return 0;
    if (mi_ask_pack(message, query, key, strlen(key), extra, strlen(extra),
                    &size, err) != 0)
        return -1;
    memcpy(&ask, message, sizeof(ask));
    ask.flags = flags;
    memcpy(message, &ask, sizeof(ask));
    pthread_mutex_lock(&reader->lock);
    rc = submit_locked(reader, &reader->aheads, message, size, err);
    pthread_mutex_unlock(&reader->lock);
    return rc;
}

/* ---- what modules import ------------------------------------------------ */

/* What mi_ahead_work() comes to. */
struct batch {
    struct mi_reader *reader;
    struct queue queue;
    int count;
};

static void on_later(void *arg, const void *message, size_t size)
{
    struct batch *batch = arg;

    batch->count += queue_put(&batch->queue, message, size) == 0;
}

static void on_ask(void *arg, enum mi_query query, const char *key,
                   const char *extra)
{
    struct batch *batch = arg;
    unsigned char message[MI_ASK_MAX];
    struct mi_error err;
    size_t size;

    if (!mi_store_find(batch->reader->config.store, query, key, strlen(key)) &&
        mi_ask_pack(message, query, key, strlen(key), extra, strlen(extra),
                    &size, &err) == 0)
        on_later(batch, message, size);
}

/* Queue it before all else that is to be read ahead: so modules are read in
 * about the order in which they will be imported.
 */
static void queue_batch(struct mi_reader *reader, struct batch *batch)
{
    struct mi_error err;

    pthread_mutex_lock(&reader->lock);
    if (!reader->stopped)
        queue_put_first(&reader->aheads, &batch->queue);
    for (; !reader->stopped && batch->count > 0; batch->count--) {
        reader->queued++;
        if (add_thread(reader, &err) == 0)
            pthread_cond_signal(&reader->asked);
    }
    pthread_mutex_unlock(&reader->lock);
    queue_clear(&batch->queue);
}

static void look_ahead(struct mi_reader *reader, const struct item *item)
{
    struct batch batch = {.reader = reader};

    queue_init(&batch.queue);
    mi_ahead_work(reader->ahead, item->message, item->size, &batch);
    queue_batch(reader, &batch);
}

/* Have the pool do what this record gives to do: see what it imports. */
static void follow(struct mi_reader *reader, const struct mi_record *record)
{
    struct batch batch = {.reader = reader};

    queue_init(&batch.queue);
    mi_ahead_meet(reader->ahead, record, &batch);
    if (batch.count > 0)
        queue_batch(reader, &batch);
}

int mi_reader_foresee(struct mi_reader *reader,
                      const struct mi_ahead_rules *rules, char *const *path,
                      struct mi_error *err)
{
    if (reader->config.threads == 0)
        return 0;
    if (mi_ahead_path(reader->ahead, path, err) != 0)
        return -1;
    return mi_ahead_begin(reader->ahead, rules, err);
}

int mi_reader_path(struct mi_reader *reader, char *const *path,
                   struct mi_error *err)
{
    return mi_ahead_path(reader->ahead, path, err);
}

int mi_reader_program(struct mi_reader *reader, const void *code, size_t size,
                      struct mi_error *err)
{
    size_t total;
    void *message = mi_ahead_program(reader->ahead, code, size, &total);
    int rc = 0;

    if (!message)
        return 0;
    pthread_mutex_lock(&reader->lock);
    rc = submit_locked(reader, &reader->aheads, message, total, err);
    pthread_mutex_unlock(&reader->lock);
    free(message);
    return rc;
}

void mi_reader_exact(struct mi_reader *reader)
{
    mi_ahead_end(reader->ahead);
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

int mi_reader_settle(struct mi_reader *reader)
{
    int pending;

    pthread_mutex_lock(&reader->lock);
    for (struct item *item; (item = queue_take(&reader->aheads)); free(item))
        reader->queued--;
    pending = reader->pending;
    pthread_mutex_unlock(&reader->lock);
    return pending;
}

int mi_reader_compile(struct mi_reader *reader, char *path)
{
    struct item *item;

    pthread_mutex_lock(&reader->lock);
    while (!reader->stopped && !reader->sources.head)
        pthread_cond_wait(&reader->compile, &reader->lock);
    item = reader->stopped ? NULL : queue_take(&reader->sources);
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
    pthread_cond_broadcast(&reader->asked);
    pthread_mutex_unlock(&reader->lock);
}

const struct mi_traffic *mi_reader_traffic(const struct mi_reader *reader)
{
    return &reader->traffic;
}

static const struct mi_record *on_find(void *arg, const char *directory)
{
    const struct mi_reader *reader = arg;

    return mi_store_find(reader->config.store, MI_LIST, directory,
                         strlen(directory));
}

static int create_ahead(struct mi_reader *reader, struct mi_error *err)
{
    const unsigned char *magic = reader->config.rule.magic;
    const struct mi_ahead_config config = {
        .share = reader->config.share,
        .local = reader->config.local,
        .magic = (unsigned)magic[0] | (unsigned)magic[1] << 8,
        .list = on_list,
        .find = on_find,
        .arg = reader,
        .ask = on_ask,
        .later = on_later,
    };

    return mi_ahead_create(&reader->ahead, &config, err);
}

int mi_reader_create(struct mi_reader **result,
                     const struct mi_reader_config *config,
                     struct mi_error *err)
{
    struct mi_reader *reader = calloc(
        1, sizeof(*reader) + sizeof(pthread_t) * (size_t)config->threads);

    if (!reader)
        return mi_fail_errno(err, "reader");
    reader->config = *config;
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->landed, NULL);
    pthread_cond_init(&reader->asked, NULL);
    pthread_cond_init(&reader->compile, NULL);
    queue_init(&reader->asks);
    queue_init(&reader->aheads);
    queue_init(&reader->sources);
    if (mi_dirs_create(&reader->dirs, -1, &reader->traffic, err) != 0 ||
        create_ahead(reader, err) != 0 || create_objects(reader, err) != 0) {
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
    for (int i = 0; i < reader->threads; i++)
        pthread_join(reader->thread[i], NULL);
    mi_objects_destroy(reader->objects);
    mi_dirs_destroy(reader->dirs);
    mi_ahead_destroy(reader->ahead);
    queue_clear(&reader->asks);
    queue_clear(&reader->aheads);
    queue_clear(&reader->sources);
    pthread_cond_destroy(&reader->compile);
    pthread_cond_destroy(&reader->asked);
    pthread_cond_destroy(&reader->landed);
    pthread_mutex_destroy(&reader->lock);
    free(reader);
}
