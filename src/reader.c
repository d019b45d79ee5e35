#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf.h"
#include "thread.h"

#define CHUNK (256u << 10) /* bytes copied at a time into the mirror */

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
};

struct object_item {
    struct object_item *next;
    struct mi_object object;
};

struct mi_reader {
    struct mi_reader_config config;
    struct mi_traffic traffic;
    pthread_mutex_t lock;  /* of all below but 'mirroring' */
    pthread_cond_t landed; /* a flight has ended */
    pthread_cond_t asked;
    pthread_cond_t compile;
    struct flight *flights;
    struct queue asks, sources;
    int pending; /* asks that are queued or being answered */
    int queued;
    int idle; /* threads that wait for asks */
    int stopped;
    struct object_item *objects, **last_object;
    uint64_t object_id;
    pthread_mutex_t mirroring; /* one closure at a time */
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

int mi_reader_publish(struct mi_reader *reader, const struct mi_entry *entry,
                      const struct mi_record **record, struct mi_error *err)
{
    struct mi_error why;

    mi_error_clear(&why);
    if (mi_store_append(reader->config.store, entry, record, &why) != 0) {
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
    return 1;
}

/* ---- mirroring ---------------------------------------------------------- */

static int copy_file(struct mi_reader *reader, int file,
                     const struct mi_part *part, struct mi_error *err)
{
    uint64_t offset = 0;
    int rc = 0;
    ssize_t n;
    char *chunk = malloc(CHUNK);

    if (!chunk)
        return mi_fail_errno(err, "mirror");
    while (rc == 0 && offset < part->size) {
        n = pread(file, chunk, CHUNK, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = mi_fail_errno(err, "cannot read");
        else if (n == 0)
            rc = mi_fail(err, MI_ERRNO, EIO, "became shorter while read");
        else
            rc = mi_part_write(part, offset, chunk, (size_t)n, err);
        offset += n > 0 ? (uint64_t)n : 0;
    }
    free(chunk);
    atomic_fetch_add(&reader->traffic.bytes, offset);
    return rc;
}

static int keep_object(struct mi_reader *reader, const struct mi_part *part,
                       uint32_t mode, void *bytes, struct mi_error *err)
{
    struct object_item *item = malloc(sizeof(*item));

    if (!item)
        return mi_fail_errno(err, "mirror");
    item->next = NULL;
    item->object = (struct mi_object){
        .id = part->id, .size = part->size, .mode = mode, .bytes = bytes};
    pthread_mutex_lock(&reader->lock);
    *reader->last_object = item;
    reader->last_object = &item->next;
    pthread_mutex_unlock(&reader->lock);
    return 0;
}

int mi_reader_object(struct mi_reader *reader, struct mi_object *object)
{
    struct object_item *item;

    pthread_mutex_lock(&reader->lock);
    item = reader->objects;
    if (item) {
        reader->objects = item->next;
        if (!item->next)
            reader->last_object = &reader->objects;
        *object = item->object;
    }
    pthread_mutex_unlock(&reader->lock);
    free(item);
    return item != NULL;
}

void mi_object_clear(struct mi_object *object)
{
    if (object->bytes)
        munmap(object->bytes, object->size);
    *object = (struct mi_object){0};
}

/* An object and all it needs, in the order of discovery: a worklist, because
 * libraries may need each other in circles and in long chains.
 */
struct closure {
    struct needed {
        char *path;
        char *place;           /* where the mirror puts it: without ".." */
        char *inherited;       /* "DIR:DIR...": RPATHs of those that need it */
        struct mi_entry entry; /* to be published; its key is 'path' */
        char *text;            /* the payload of 'entry' */
        size_t text_size;
    } * list;
    size_t count, room;
};

static void needed_clear(struct needed *needed)
{
    free(needed->path);
    free(needed->place);
    free(needed->inherited);
    free(needed->text);
}

static int closure_add(struct closure *closure, const char *path,
                       const char *inherited)
{
    size_t room = closure->room ? closure->room * 2 : 8;
    struct needed *bigger;
    struct needed new = {0};

    for (size_t i = 0; i < closure->count; i++)
        if (strcmp(closure->list[i].path, path) == 0)
            return 0;
    if (closure->count == closure->room) {
        bigger = realloc(closure->list, room * sizeof(*bigger));
        if (!bigger)
            return -1;
        closure->list = bigger;
        closure->room = room;
    }
    new.path = strdup(path);
    /* Only the kernel knows where ".." leads behind a symbolic link. */
    new.place = strstr(path, "/../") ? realpath(path, NULL) : NULL;
    if (!new.place)
        new.place = strdup(path);
    new.inherited = strdup(inherited);
    if (!new.path || !new.place || !new.inherited) {
        needed_clear(&new);
        return -1;
    }
    closure->list[closure->count++] = new;
    return 0;
}

static void closure_clear(struct closure *closure)
{
    for (size_t i = 0; i < closure->count; i++)
        needed_clear(&closure->list[i]);
    free(closure->list);
}

/* The directory part of an absolute path, without a trailing slash. */
static void directory_of(const char *path, char *directory)
{
    const char *slash = strrchr(path, '/');
    size_t size = (size_t)(slash - path);

    memcpy(directory, path, size);
    directory[size] = '\0';
    if (size == 0)
        strcpy(directory, "/");
}

/* Is 'name' in the directory of 'length' bytes, on the tree?  Then it belongs
 * to the closure, and 'path' (PATH_MAX) is where it is: 1, 0 or -1.
 */
static int add_from(struct mi_reader *reader, const char *directory,
                    size_t length, const char *name, const char *inherited,
                    char *path, struct closure *closure, struct mi_error *err)
{
    const struct mi_record *list;
    int rc;

    if (length + strlen(name) + 2 > PATH_MAX)
        return 0;
    memcpy(path, directory, length);
    path[length] = '\0';
    rc = mi_reader_answer(reader, MI_LIST, path, "", &list, err);
    if (rc <= 0)
        return rc;
    if (mi_entries_type(list, name) != 'f')
        return 0;
    path[length] = '/';
    strcpy(path + length + 1, name);
    return closure_add(closure, path, inherited) == 0
               ? 1
               : mi_fail_errno(err, "mirror");
}

/* Does a search path have an empty entry: the working directory? */
static int has_empty(const char *search)
{
    return search && (search[0] == ':' || strstr(search, "::") ||
                      (search[0] && search[strlen(search) - 1] == ':'));
}

/* The directories of a search path for the object 'path', as "DIR:DIR...",
 * then those of 'more', which is such a list: the ones that are relative to
 * the object as they are; absolute ones behind a '='; "?" for those that only
 * the linker knows.  Allocated; NULL without memory.
 */
static char *expand(const char *search, const char *path, const char *more)
{
    char own[PATH_MAX], directory[PATH_MAX], *all = NULL;
    const char *entry;
    size_t length, size;
    FILE *out = open_memstream(&all, &size);

    if (!out)
        return NULL;
    if (has_empty(search))
        fputs("?:", out);
    directory_of(path, own);
    while ((entry = mi_elf_path_next(&search, &length)) != NULL)
        if (mi_elf_origin(entry, length, own, directory, sizeof(directory)) ==
            1)
            fprintf(out, "%s:", directory);
        else if (entry[0] == '/' && !memchr(entry, '$', length))
            fprintf(out, "=%.*s:", (int)length, entry);
        else
            fputs("?:", out);
    fputs(more, out);
    return fclose(out) == 0 ? all : NULL;
}

/* Is 'name' in the absolute directory of 'length' bytes, in 'path' (PATH_MAX)
 * then: 1 or 0, or -1 if that is not to be found out.
 */
static int is_in(struct mi_reader *reader, const char *directory,
                 size_t length, const char *name, char *path)
{
    const struct mi_record *list;
    struct mi_error err;

    if (length + strlen(name) + 2 > PATH_MAX)
        return -1;
    memcpy(path, directory, length);
    path[length] = '\0';
    if (mi_reader_answer(reader, MI_LIST, path, "", &list, &err) != 1)
        return -1;
    if (list->kind != MI_KIND_LIST)
        return list->code == ENOENT ? 0 : -1;
    if (mi_entries_type(list, "glibc-hwcaps"))
        return -1;
    path[length] = '/';
    strcpy(path + length + 1, name);
    return mi_entries_type(list, name) != 0;
}

/* 'name' is in no directory that is relative to the object.  Note its path if
 * it is in an absolute one, a path that nothing has if only the linker knows,
 * and the name itself if absolute ones are searched in vain (so that it is the
 * system's).
 */
static void note_absolute(struct mi_reader *reader, const char *dirs,
                          const char *name, FILE *before)
{
    const char *entry;
    char path[PATH_MAX];
    size_t length;
    int absolute = 0, rc = 0;

    while (rc == 0 && (entry = mi_elf_path_next(&dirs, &length)) != NULL) {
        if (entry[0] == '/')
            continue;
        absolute = 1;
        rc = entry[0] == '?'
                 ? -1
                 : is_in(reader, entry + 1, length - 1, name, path);
    }
    if (rc < 0)
        fprintf(before, "/?/%s%c", name, '\0');
    else if (rc > 0)
        fprintf(before, "%s%c", path, '\0');
    else if (absolute)
        fprintf(before, "%s%c", name, '\0');
}

/* Add a library that an object needs, from one of the directories 'dirs', and
 * note it in 'before'.
 */
static int add_library(struct mi_reader *reader, const char *dirs,
                       const char *name, const char *handed,
                       struct closure *closure, FILE *before,
                       struct mi_error *err)
{
    const char *cursor = dirs, *entry;
    char path[PATH_MAX];
    size_t length;
    int rc = 0;

    if (strchr(name, '/')) {
        fprintf(before, "/?/%s%c", strrchr(name, '/') + 1, '\0');
        return 0;
    }
    while (rc == 0 && (entry = mi_elf_path_next(&cursor, &length)) != NULL)
        if (entry[0] == '/')
            rc = add_from(reader, entry, length, name, handed, path, closure,
                          err);
    if (rc > 0)
        fprintf(before, "%s%c", path, '\0');
    else if (rc == 0)
        note_absolute(reader, dirs, name, before);
    return rc < 0 ? -1 : 0;
}

/* Add what object number i needs from directories relative to its own, or to
 * those that need it: a RUNPATH holds for the object alone, an RPATH also for
 * what it needs, and is ignored beside a RUNPATH (ld.so(8)).  What is not
 * found is the system's, or the linker's to complain about.
 *
 * 'before' gets what mi_record_before() lists.  Each rank's linker would look
 * for the system's libraries in the object's absolute directories, on the
 * tree, unless they are open by then.
 */
static int add_needed(struct mi_reader *reader, size_t object,
                      const struct mi_elf *elf, struct closure *closure,
                      FILE *before, struct mi_error *err)
{
    const char *path = closure->list[object].place;
    const char *inherited = closure->list[object].inherited;
    char *dirs =
        expand(mi_elf_search(elf), path, elf->runpath ? "" : inherited);
    char *handed = expand(elf->runpath ? NULL : elf->rpath, path, inherited);
    int rc = dirs && handed ? 0 : mi_fail_errno(err, "mirror");

    for (size_t i = 0; rc == 0 && i < elf->needed_count; i++)
        rc = add_library(reader, dirs, elf->needed[i], handed, closure, before,
                         err);
    free(dirs);
    free(handed);
    return rc;
}

/* add_needed(), with the payload of the object's record (mi_record_place(),
 * mi_record_before()) as its product.
 */
static int describe_object(struct mi_reader *reader, size_t object,
                           const struct mi_elf *elf, struct closure *closure,
                           struct mi_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int rc;

    if (!out)
        return mi_fail_errno(err, "mirror");
    if (strcmp(closure->list[object].path, closure->list[object].place) != 0)
        fputs(closure->list[object].place, out);
    fputc('\0', out);
    rc = add_needed(reader, object, elf, closure, out, err);
    if (fclose(out) != 0 && rc == 0)
        rc = mi_fail_errno(err, "mirror");
    closure->list[object].text = text; /* the list may have moved */
    closure->list[object].text_size = size > 1 ? size : 0;
    return rc;
}

/* The object is in 'part': keep its bytes for the stream, see what it needs,
 * and move it to its place.
 */
static int settle_object(struct mi_reader *reader, struct closure *closure,
                         size_t object, uint32_t mode, struct mi_part *part,
                         struct mi_error *err)
{
    struct mi_elf elf = {0};
    const size_t size = part->size; /* 'part' is cleared on the way */
    int rc = -1, kept = 0;
    /* Writable, since MPI may receive into the root's buffer of a broadcast,
     * too (the same bytes): some algorithms pass pieces around in a ring.
     */
    void *bytes =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, part->file, 0);

    if (bytes == MAP_FAILED)
        return mi_fail_errno(err, "cannot map the mirror's copy");
    if (mi_elf_parse(bytes, size, &elf, err) != 0 ||
        describe_object(reader, object, &elf, closure, err) != 0)
        goto out;
    if (reader->config.stream) {
        if (keep_object(reader, part, mode, bytes, err) != 0)
            goto out;
        kept = 1;
    }
    rc = mi_mirror_finish(reader->config.mirror, part,
                          closure->list[object].place, err);
out:
    mi_elf_clear(&elf);
    if (!kept)
        munmap(bytes, size);
    return rc;
}

static int fill_object(struct mi_reader *reader, struct closure *closure,
                       size_t object, int file, const struct stat *status,
                       uint64_t id, struct mi_error *err)
{
    struct mi_part part;
    int rc;

    if (mi_mirror_begin(reader->config.mirror, id, (uint64_t)status->st_size,
                        status->st_mode, &part, err) != 0)
        return -1;
    mi_mailbox_set_mirror(reader->config.mailbox,
                          mi_mirror_root(reader->config.mirror));
    rc = copy_file(reader, file, &part, err);
    if (rc == 0)
        rc = settle_object(reader, closure, object, (uint32_t)status->st_mode,
                           &part, err);
    if (part.file >= 0)
        mi_mirror_abandon(reader->config.mirror, &part);
    return rc;
}

static void say_refused(struct mi_reader *reader, const char *path,
                        const struct mi_error *why)
{
    char text[PATH_MAX + 1400];

    mi_refused_add(reader->config.refused, path, why->text);
    snprintf(text, sizeof(text),
             "%s is not mirrored: %s; it is loaded directly from "
             "the filesystem " MI_WAY_OUT,
             path, why->text);
    reader->config.notice(reader->config.arg, MI_FIRST_MIRROR, text);
}

/* A damaged object is the importing rank's to report, as ImportError: loading
 * it could end in SIGBUS.
 */
static void say_damaged(struct needed *needed, struct mi_entry *entry,
                        const struct mi_error *why)
{
    free(needed->text);
    needed->text = strdup(why->text);
    if (!needed->text)
        return;
    entry->code = MI_MIRROR_DAMAGED;
    entry->payload = needed->text;
    entry->size = strlen(needed->text);
}

/* Put object number i of the closure into the mirror; what it needs joins the
 * closure.  The outcome is the entry to publish.
 */
static void mirror_object(struct mi_reader *reader, struct closure *closure,
                          size_t i)
{
    const char *path = closure->list[i].path;
    struct mi_entry entry = {.query = MI_MIRROR,
                             .kind = MI_KIND_ABSENT,
                             .key = path,
                             .key_size = strlen(path)};
    struct mi_error why;
    struct stat status;
    int file;

    atomic_fetch_add(&reader->traffic.operations, 1);
    file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        entry.code = errno;
    } else if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode) ||
               status.st_size == 0) {
        entry.code = EINVAL;
    } else {
        entry.object = ++reader->object_id;
        entry.device = (uint64_t)status.st_dev;
        entry.inode = (uint64_t)status.st_ino;
        entry.file_size = (uint64_t)status.st_size;
        entry.mode = (uint32_t)status.st_mode;
        entry.kind = MI_KIND_MIRROR;
        if (fill_object(reader, closure, i, file, &status, entry.object,
                        &why) == 0) {
            entry.payload = closure->list[i].text;
            entry.size = closure->list[i].text_size;
        } else {
            entry.kind = MI_KIND_ABSENT;
            entry.code = MI_MIRROR_REFUSED;
            if (why.domain == MI_FORMAT)
                say_damaged(&closure->list[i], &entry, &why);
            else
                say_refused(reader, path, &why);
        }
    }
    if (file >= 0)
        close(file);
    closure->list[i].entry = entry; /* the list may have moved meanwhile */
}

/* Mirror an object with all it needs, and then publish: what is needed first,
 * so that whoever finds an object finds it complete.  The caller holds
 * 'mirroring'.  1, 0 or -1 as mi_reader_answer().
 */
static int mirror_closure(struct mi_reader *reader, const char *path,
                          const struct mi_record **record,
                          struct mi_error *err)
{
    struct closure closure = {0};
    int rc = 1;

    if (closure_add(&closure, path, "") != 0)
        rc = mi_fail_errno(err, "mirror");
    for (size_t i = 0; i < closure.count; i++)
        if (!mi_store_find(reader->config.store, MI_MIRROR,
                           closure.list[i].path, strlen(closure.list[i].path)))
            mirror_object(reader, &closure, i);
    for (size_t i = closure.count; rc == 1 && i-- > 0;)
        if (closure.list[i].entry.key)
            rc =
                mi_reader_publish(reader, &closure.list[i].entry, record, err);
    closure_clear(&closure);
    return rc;
}

/* Where nothing is mirrored: is the object sound at least? */
static int judge_object(struct mi_reader *reader, const char *path,
                        const struct mi_record **record, struct mi_error *err)
{
    struct mi_entry entry = {.query = MI_MIRROR,
                             .kind = MI_KIND_ABSENT,
                             .code = MI_MIRROR_REFUSED,
                             .key = path,
                             .key_size = strlen(path)};
    struct mi_elf elf = {0};
    struct stat status;
    struct mi_error why;
    void *bytes = MAP_FAILED;
    int file;

    atomic_fetch_add(&reader->traffic.operations, 1);
    file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file >= 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
        status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE,
                     file, 0);
    if (bytes != MAP_FAILED) {
        if (mi_elf_parse(bytes, (size_t)status.st_size, &elf, &why) != 0 &&
            why.domain == MI_FORMAT) {
            entry.code = MI_MIRROR_DAMAGED;
            entry.payload = why.text;
            entry.size = strlen(why.text);
        }
        mi_elf_clear(&elf);
        munmap(bytes, (size_t)status.st_size);
    }
    if (file >= 0)
        close(file);
    return mi_reader_publish(reader, &entry, record, err);
}

static int answer_mirror(struct mi_reader *reader, const char *path,
                         const struct mi_record **record, struct mi_error *err)
{
    int rc;

    if (!reader->config.mirror)
        mi_refused_add(reader->config.refused, path, "--max-store 0");
    if (!reader->config.mirror || path[0] != '/')
        return judge_object(reader, path, record, err);
    pthread_mutex_lock(&reader->mirroring);
    *record =
        mi_store_find(reader->config.store, MI_MIRROR, path, strlen(path));
    rc = *record ? 1 : mirror_closure(reader, path, record, err);
    pthread_mutex_unlock(&reader->mirroring);
    return rc;
}

/* ---- answering ---------------------------------------------------------- */

/* 'most': bytes of a file that the caller can take. */
static int read_answer(struct mi_reader *reader, enum mi_query query,
                       const char *key, const char *extra, uint64_t most,
                       struct mi_answer *answer, struct mi_error *err)
{
    struct mi_traffic *traffic = &reader->traffic;

    switch (query) {
    case MI_LIST:
        return mi_files_list(traffic, key, answer, err);
    case MI_STAT:
        return mi_files_stat(traffic, key, answer, err);
    case MI_REAL:
        return mi_files_real(traffic, key, answer, err);
    case MI_READ:
        return mi_files_read(traffic, key, most, answer, err);
    case MI_CODE:
        return mi_files_code(traffic, &reader->config.rule, key, extra, answer,
                             err);
    case MI_MIRROR:
    default:
        return mi_fail(err, MI_FORMAT, EINVAL, "question %d", (int)query);
    }
}

static int answer_read(struct mi_reader *reader, enum mi_query query,
                       const char *key, const char *extra,
                       const struct mi_record **record, struct mi_error *err)
{
    struct mi_answer answer;
    int rc;

    *record = mi_store_find(reader->config.store, query, key, strlen(key));
    if (*record)
        return 1;
    if (read_answer(reader, query, key, extra,
                    mi_store_room(reader->config.store), &answer, err) != 0)
        return -1;
    if (answer.entry.code == MI_READ_REFUSED)
        mi_refused_add(reader->config.refused, key,
                       "too large for the node store");
    rc = mi_reader_publish(reader, &answer.entry, record, err);
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

int mi_reader_answer(struct mi_reader *reader, enum mi_query query,
                     const char *key, const char *extra,
                     const struct mi_record **record, struct mi_error *err)
{
    struct flight flight = {.query = query, .key = key};
    int rc;

    pthread_mutex_lock(&reader->lock);
    while (!take_off(reader, &flight))
        pthread_cond_wait(&reader->landed, &reader->lock);
    pthread_mutex_unlock(&reader->lock);

    *record = mi_store_find(reader->config.store, query, key, strlen(key));
    if (*record)
        rc = 1;
    else if (mi_mailbox_stream(reader->config.mailbox) != MI_STREAM_OPEN)
        rc = 0;
    else if (query == MI_MIRROR)
        rc = answer_mirror(reader, key, record, err);
    else
        rc = answer_read(reader, query, key, extra, record, err);

    pthread_mutex_lock(&reader->lock);
    land(reader, &flight);
    pthread_mutex_unlock(&reader->lock);
    return rc;
}

/* ---- the pool ----------------------------------------------------------- */

static void ask_compile(struct mi_reader *reader, const char *path)
{
    pthread_mutex_lock(&reader->lock);
    if (queue_put(&reader->sources, path, strlen(path)) == 0)
        pthread_cond_signal(&reader->compile);
    pthread_mutex_unlock(&reader->lock);
}

static void answer_ask(struct mi_reader *reader, const struct item *item)
{
    char key_text[PATH_MAX], extra_text[PATH_MAX];
    const char *key, *extra;
    size_t key_size, extra_size;
    enum mi_query query;
    const struct mi_record *record;
    struct mi_error err;
    int rc;

    if (mi_ask_unpack(item->message, item->size, &query, &key, &key_size,
                      &extra, &extra_size, &err) != 0)
        return; /* mi_reader_submit() has checked it */
    memcpy(key_text, key, key_size);
    key_text[key_size] = '\0';
    memcpy(extra_text, extra, extra_size);
    extra_text[extra_size] = '\0';
    rc = mi_reader_answer(reader, query, key_text, extra_text, &record, &err);
    if (rc < 0)
        reader->config.notice(reader->config.arg, MI_FIRST_DIRECT, err.text);
    else if (rc == 1 && record->kind == MI_KIND_ABSENT &&
             record->code == MI_CODE_PENDING)
        ask_compile(reader, key_text);
}

static void *pool_thread(void *arg)
{
    struct mi_reader *reader = arg;
    struct item *item;

    pthread_mutex_lock(&reader->lock);
    while (!reader->stopped) {
        item = queue_take(&reader->asks);
        if (!item) {
            reader->idle++;
            pthread_cond_wait(&reader->asked, &reader->lock);
            reader->idle--;
            continue;
        }
        reader->queued--;
        pthread_mutex_unlock(&reader->lock);
        answer_ask(reader, item);
        free(item);
        pthread_mutex_lock(&reader->lock);
        if (--reader->pending == 0)
            mi_mailbox_kick(reader->config.mailbox); /* the end may be due */
    }
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

/* Have one more thread if all are busy: a fast filesystem needs few. */
static int add_thread(struct mi_reader *reader, struct mi_error *err)
{
    if (reader->config.threads == 0)
        return mi_fail(err, MI_ERRNO, EINVAL, "this reader has no threads");
    if (reader->idle > reader->queued ||
        reader->threads == reader->config.threads)
        return 0;
    if (mi_thread_start(&reader->thread[reader->threads], "mpiimport-read",
                        pool_thread, reader, err) == 0)
        reader->threads++;
    return reader->threads > 0 ? 0 : -1;
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
            strlen(f->key) == key_size && memcmp(f->key, key, key_size) == 0)
            return 1;
    return 0;
}

static int submit_locked(struct mi_reader *reader, const void *message,
                         size_t size, struct mi_error *err)
{
    if (add_thread(reader, err) != 0)
        return -1;
    if (queue_put(&reader->asks, message, size) != 0)
        return mi_fail_errno(err, "reader");
    reader->queued++;
    reader->pending++;
    pthread_cond_signal(&reader->asked);
    return 0;
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
    record = mi_store_find(reader->config.store, query, key, key_size);
    if (record && record->code != MI_CODE_PENDING)
        return 0;
    pthread_mutex_lock(&reader->lock);
    rc = under_way(reader, message, size, query, key, key_size)
             ? 0
             : submit_locked(reader, message, size, err);
    pthread_mutex_unlock(&reader->lock);
    return rc;
}

int mi_reader_pending(struct mi_reader *reader)
{
    int pending;

    pthread_mutex_lock(&reader->lock);
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
    pthread_mutex_init(&reader->mirroring, NULL);
    pthread_cond_init(&reader->landed, NULL);
    pthread_cond_init(&reader->asked, NULL);
    pthread_cond_init(&reader->compile, NULL);
    queue_init(&reader->asks);
    queue_init(&reader->sources);
    reader->last_object = &reader->objects;
    *result = reader;
    return 0;
}

void mi_reader_destroy(struct mi_reader *reader)
{
    struct mi_object object;

    if (!reader)
        return;
    mi_reader_stop(reader);
    for (int i = 0; i < reader->threads; i++)
        pthread_join(reader->thread[i], NULL);
    while (mi_reader_object(reader, &object))
        mi_object_clear(&object);
    queue_clear(&reader->asks);
    queue_clear(&reader->sources);
    pthread_cond_destroy(&reader->compile);
    pthread_cond_destroy(&reader->asked);
    pthread_cond_destroy(&reader->landed);
    pthread_mutex_destroy(&reader->mirroring);
    pthread_mutex_destroy(&reader->lock);
    free(reader);
}
