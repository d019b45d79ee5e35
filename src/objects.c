#include "objects.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "closure.h"
#include "copy.h"
#include "early.h"
#include "elf.h"
#include "list.h"
#include "search.h"

#define HEAD_SIZE 4096 /* bytes of an object that tell whether it is whole */
#define COPY_MAX ((off_t)1 << 30) /* bytes; larger data stays on the tree */
/* Has what calls dlopen(3) for the interpreter. */
#define CALLER "PyImport_ImportModule"

/* A file of the tree that is in the mirror. */
struct known {
    struct known *next;
    struct mi_identity identity;
    char place[];
};

struct queued {
    struct queued *next;
    struct mi_object object;
};

struct mi_objects {
    struct mi_objects_config config;
    pthread_mutex_t lock; /* one closure at a time; of 'search', too */
    struct mi_search search;
    struct mi_early *early;
    atomic_uint_fast64_t id; /* of the last object */
    pthread_mutex_t queue;   /* of the three: */
    struct known *known;
    struct queued *first, **last;
};

static uint64_t next_id(struct mi_objects *objects)
{
    return atomic_fetch_add(&objects->id, 1) + 1;
}

/* ---- the queue ---------------------------------------------------------- */

static int keep_bytes(struct mi_objects *objects,
                      const struct mi_object *object, struct mi_error *err)
{
    struct queued *item = malloc(sizeof(*item));

    if (!item)
        return mi_fail_errno(err, "mirror");
    *item = (struct queued){.object = *object};
    pthread_mutex_lock(&objects->queue);
    *objects->last = item;
    objects->last = &item->next;
    pthread_mutex_unlock(&objects->queue);
    return 0;
}

int mi_objects_take(struct mi_objects *objects, struct mi_object *object)
{
    struct queued *item;

    pthread_mutex_lock(&objects->queue);
    item = objects->first;
    if (item) {
        objects->first = item->next;
        if (!item->next)
            objects->last = &objects->first;
        *object = item->object;
    }
    pthread_mutex_unlock(&objects->queue);
    free(item);
    return item != NULL;
}

void mi_object_clear(struct mi_object *object)
{
    if (object->bytes)
        munmap(object->bytes, object->size);
    *object = (struct mi_object){0};
}

/* ---- closures ----------------------------------------------------------- */

static struct mi_objects *objects_of(const struct mi_closure *closure)
{
    return closure->arg;
}

static int look(void *arg, const char *directory,
                const struct mi_record **record, struct mi_error *err)
{
    const struct mi_objects *objects = arg;

    return objects->config.list(objects->config.arg, directory, record, err);
}

static struct mi_closure new_closure(struct mi_objects *objects)
{
    return (struct mi_closure){.search = &objects->search,
                               .share = objects->config.share,
                               .local = objects->config.local,
                               .look = look,
                               .arg = objects};
}

/* Name what only the linker can find: the report tells. */
static void tell_unknown(const struct mi_objects *objects,
                         const struct mi_item *item)
{
    const char *need = item->needs, *end = need + item->needs_size;
    char why[PATH_MAX + 100];

    for (; need < end; need += strlen(need) + 1)
        if (MI_NEED_KIND(need) == MI_NEED_UNKNOWN) {
            snprintf(why, sizeof(why),
                     "its library %s can be found by the dynamic linker only",
                     need + 1);
            objects->config.refused(objects->config.arg, item->path, why, 0);
        }
}

static int describe(struct mi_closure *closure, struct mi_item *item,
                    const void *image, size_t size, struct mi_error *err)
{
    if (mi_closure_describe(closure, item, image, size, err) != 0)
        return -1;
    tell_unknown(objects_of(closure), item);
    return 0;
}

/* ---- copies ------------------------------------------------------------- */

static void drop_copy(const struct mi_objects *objects, struct mi_item *item)
{
    if (item->bytes)
        munmap(item->bytes, item->size);
    item->bytes = NULL;
    if (item->part.id)
        mi_mirror_abandon(objects->config.mirror, &item->part);
    item->part.id = 0;
}

/* The item is to be loaded from the tree. */
static void refuse(const struct mi_objects *objects, struct mi_item *item,
                   const char *why)
{
    drop_copy(objects, item);
    item->entry.kind = MI_KIND_ABSENT;
    item->entry.code = MI_MIRROR_REFUSED;
    objects->config.refused(objects->config.arg, item->path, why, 1);
}

/* Make room for 'size' bytes more: of the closure's objects those that are
 * larger are given up, the largest first, so that as many as can be are
 * mirrored.  Not for what is only likely to be opened.
 */
static void make_room(const struct mi_closure *closure, uint64_t size)
{
    const struct mi_objects *objects = objects_of(closure);
    const struct mi_mirror *mirror = objects->config.mirror;
    char why[100];

    snprintf(why, sizeof(why),
             "--max-store %llu would be exceeded by all that is needed",
             (unsigned long long)mi_mirror_limit(mirror));
    while (!closure->optional && size > mi_mirror_room(mirror)) {
        struct mi_item *largest = NULL;

        for (size_t i = 0; i < closure->count; i++) {
            struct mi_item *item = closure->list[i];

            if (item->part.id && item->part.size > size &&
                (!largest || item->part.size > largest->part.size))
                largest = item;
        }
        if (!largest)
            return;
        refuse(objects, largest, why);
    }
}

/* Copy an open file, or an image of ours, into the mirror. */
static int make_copy(struct mi_objects *objects, struct mi_copy *copy,
                     const void *image, struct mi_error *err)
{
    struct mi_mirror *mirror = objects->config.mirror;

    if (mi_copy_make(copy, mirror, next_id(objects), image,
                     mi_dirs_traffic(objects->config.dirs), err) != 0)
        return -1;
    mi_mailbox_set_mirror(objects->config.mailbox, mi_mirror_root(mirror));
    return 0;
}

static int copy_item(struct mi_objects *objects, struct mi_item *item,
                     int file, struct mi_error *err)
{
    struct mi_copy copy = {
        .file = file, .identity.size = item->size, .mode = item->mode};

    if (make_copy(objects, &copy, item->image, err) != 0)
        return -1;
    item->part = copy.part;
    item->bytes = copy.bytes;
    return 0;
}

/* Describe an object that gets no copy by its original. */
static int describe_original(struct mi_closure *closure, struct mi_item *item,
                             int file, struct mi_error *err)
{
    void *bytes = mmap(NULL, item->size, PROT_READ, MAP_PRIVATE, file, 0);
    int rc;

    if (bytes == MAP_FAILED)
        return mi_fail_errno(err, "cannot map it");
    rc = describe(closure, item, bytes, item->size, err);
    munmap(bytes, item->size);
    return rc;
}

/* The file of the mirror that is the same; NULL: none. */
static const struct known *find_known(struct mi_objects *objects,
                                      const struct mi_identity *identity)
{
    const struct known *known;

    pthread_mutex_lock(&objects->queue);
    known = objects->known;
    while (known && !mi_identity_same(&known->identity, identity))
        known = known->next;
    pthread_mutex_unlock(&objects->queue);
    return known;
}

/* Place of the same file in the mirror, or NULL. */
static const char *same_file(const struct mi_closure *closure,
                             struct mi_item *item)
{
    const struct known *known =
        find_known(objects_of(closure), &item->identity);

    if (known)
        return known->place;
    for (size_t i = 0; i < closure->count; i++) {
        struct mi_item *other = closure->list[i];

        if (other != item && other->part.id &&
            mi_identity_same(&other->identity, &item->identity)) {
            item->target = other;
            return other->place;
        }
    }
    return NULL;
}

/* The file is open, and sound as files go: read it. */
static int read_object(struct mi_closure *closure, struct mi_item *item,
                       int file, struct mi_error *err)
{
    struct mi_objects *objects = objects_of(closure);
    const char *same = item->image ? NULL : same_file(closure, item);
    struct mi_error why;

    if (same) {
        drop_copy(objects, item);
        item->link = strdup(same);
        if (!item->link)
            return mi_fail_errno(err, "mirror");
        item->entry.object = 1; /* any */
        return describe_original(closure, item, file, err);
    }
    mi_error_clear(&why);
    if (!item->bytes) {
        make_room(closure, item->size);
        if (copy_item(objects, item, file, &why) != 0)
            refuse(objects, item, why.text);
    }
    item->entry.object = item->part.id;
    return item->bytes ? describe(closure, item, item->bytes, item->size, err)
           : item->image
               ? describe(closure, item, item->image, item->size, err)
               : describe_original(closure, item, file, err);
}

/* A damaged object is the importing rank's to report, as ImportError: loading
 * it could end in SIGBUS.
 */
static void tell_damaged(const struct mi_objects *objects,
                         struct mi_item *item, const struct mi_error *why)
{
    drop_copy(objects, item);
    item->entry.kind = MI_KIND_ABSENT;
    item->entry.code = MI_MIRROR_REFUSED;
    if (why->domain != MI_FORMAT || !(item->text = strdup(why->text))) {
        refuse(objects, item, why->text);
        return;
    }
    item->entry.code = MI_MIRROR_DAMAGED;
    item->entry.payload = item->text;
    item->entry.size = strlen(item->text);
}

/* The item is what was opened: its descriptor. */
static int adopt(struct mi_item *item, const struct mi_copy *copy)
{
    item->entry.device = copy->identity.device;
    item->entry.inode = copy->identity.inode;
    item->entry.file_size = copy->identity.size;
    item->entry.changed = copy->identity.ctime;
    item->entry.mode = copy->mode;
    item->identity = copy->identity;
    item->size = (size_t)copy->identity.size;
    item->mode = copy->mode;
    item->part = copy->part;
    item->bytes = copy->bytes;
    return copy->file;
}

/* Open the file and look at it: its descriptor, or -1 with the answer. */
static int open_object(const struct mi_objects *objects, struct mi_item *item)
{
    struct mi_copy copy;

    item->entry.code = mi_copy_open(&copy, objects->config.dirs, item->path);
    return item->entry.code == 0 ? adopt(item, &copy) : -1;
}

/* The same, or what another thread has read of it already. */
static int open_item(const struct mi_objects *objects, struct mi_item *item)
{
    struct mi_copy copy;

    item->begun = mi_early_begin(objects->early, item->path);
    if (!item->begun && mi_early_take(objects->early, item->path, &copy))
        return adopt(item, &copy);
    return open_object(objects, item);
}

/* What was read, or could not be, has a record, or never will. */
static void end_item(const struct mi_objects *objects, struct mi_item *item)
{
    struct mi_copy none;

    if (item->begun)
        mi_early_end(objects->early, item->path, &none);
    item->begun = 0;
}

/* Read an item; what it needs joins the closure.  The outcome is the entry to
 * publish.
 */
static void read_item(struct mi_closure *closure, struct mi_item *item)
{
    struct mi_objects *objects = objects_of(closure);
    struct mi_error why;
    int file = -1;

    item->entry = (struct mi_entry){.query = MI_MIRROR,
                                    .kind = MI_KIND_ABSENT,
                                    .key = item->path,
                                    .key_size = strlen(item->path)};
    if (mi_item_is_directory(item)) {
        item->entry.kind = MI_KIND_MIRROR;
        if (mi_closure_describe_directory(closure, item, &why) != 0)
            refuse(objects, item, why.text);
        return;
    }
    if (item->image) {
        item->size = item->image_size;
        item->mode = 0755;
    } else {
        file = open_item(objects, item);
        if (file < 0)
            return;
    }
    item->entry.kind = MI_KIND_MIRROR;
    if (read_object(closure, item, file, &why) != 0)
        tell_damaged(objects, item, &why);
    if (file >= 0)
        close(file);
}

/* ---- into the mirror ---------------------------------------------------- */

static int remember(struct mi_objects *objects, const struct mi_item *item,
                    struct mi_error *err)
{
    struct known *known = malloc(sizeof(*known) + strlen(item->place) + 1);

    if (!known)
        return mi_fail_errno(err, "mirror");
    known->identity = item->identity;
    strcpy(known->place, item->place);
    pthread_mutex_lock(&objects->queue);
    known->next = objects->known;
    objects->known = known;
    pthread_mutex_unlock(&objects->queue);
    return 0;
}

/* Move the copy to its place, and keep its bytes for the other nodes. */
static int settle(struct mi_objects *objects, struct mi_item *item,
                  struct mi_error *err)
{
    struct mi_mirror *mirror = objects->config.mirror;
    struct mi_object object = {.id = item->part.id,
                               .size = item->size,
                               .mode = item->mode,
                               .bytes = item->bytes};

    if (item->link)
        return mi_mirror_link(mirror, item->link, item->place, err);
    if (!item->part.id)
        return 0; /* refused */
    if (mi_mirror_finish(mirror, &item->part, item->place, err) != 0) {
        item->part.id = 0;
        return -1;
    }
    item->part.id = 0;
    if (remember(objects, item, err) != 0)
        return -1;
    if (!objects->config.stream)
        return 0;
    if (keep_bytes(objects, &object, err) != 0)
        return -1;
    item->bytes = NULL;
    return 0;
}

/* Put what was read into the mirror; what fails here is loaded directly. */
static void settle_item(struct mi_objects *objects, struct mi_item *item)
{
    struct mi_error why;

    if (item->entry.kind != MI_KIND_MIRROR &&
        item->entry.code != MI_MIRROR_REFUSED)
        return;
    if (item->entry.kind == MI_KIND_MIRROR &&
        settle(objects, item, &why) != 0) {
        free(item->link);
        item->link = NULL;
        refuse(objects, item, why.text);
    }
    if (item->needs && mi_item_write(item, &why) != 0)
        refuse(objects, item, why.text);
}

/* The links of a directory on this node, once its record is there. */
static void make_links(struct mi_objects *objects, const struct mi_item *item)
{
    struct mi_error why;
    const struct mi_record *record = mi_store_find(
        objects->config.store, MI_MIRROR, item->path, strlen(item->path));

    if (record &&
        mi_mirror_symlinks(objects->config.mirror, record, &why) != 0)
        objects->config.refused(objects->config.arg, item->path, why.text, 0);
}

static int publish_item(const struct mi_closure *closure, struct mi_item *item,
                        const struct mi_record **record, struct mi_error *err)
{
    const struct mi_objects_config *config = &objects_of(closure)->config;
    int rc = 1;

    if (!item->entry.key || item->published)
        return 1;
    item->published = 1;
    /* The file before the links to it. */
    if (item->target)
        rc = publish_item(closure, item->target, record, err);
    if (rc == 1)
        rc = config->publish(config->arg, &item->entry, record, err);
    if (rc == 1 && mi_item_is_directory(item))
        make_links(objects_of(closure), item);
    return rc;
}

/* Publish: what is needed first, so that whoever finds an object finds it
 * complete.
 */
static int publish(const struct mi_closure *closure,
                   const struct mi_record **record, struct mi_error *err)
{
    int rc = 1;

    for (size_t i = closure->count; rc == 1 && i-- > 0;)
        rc = publish_item(closure, closure->list[i], record, err);
    return rc;
}

/* Read what 'closure' has by now and all that this needs, and publish. */
static int complete(struct mi_closure *closure,
                    const struct mi_record **record, struct mi_error *err)
{
    struct mi_objects *objects = objects_of(closure);
    size_t next = 0;
    int rc;

    do {
        for (; next < closure->count; next++) {
            struct mi_item *item = closure->list[next];

            if (!mi_store_find(objects->config.store, MI_MIRROR, item->path,
                               strlen(item->path)))
                read_item(closure, item);
        }
    } while (mi_closure_add_opened(closure));
    for (size_t i = 0; i < closure->count; i++)
        if (closure->list[i]->entry.key)
            settle_item(objects, closure->list[i]);
    rc = publish(closure, record, err);
    for (size_t i = 0; i < closure->count; i++)
        end_item(objects, closure->list[i]);
    return rc;
}

static int answer_object(struct mi_objects *objects, const char *path,
                         const struct mi_record **record, struct mi_error *err)
{
    struct mi_closure closure = new_closure(objects);
    int rc = mi_closure_add(&closure, path, "")
                 ? complete(&closure, record, err)
                 : mi_fail_errno(err, "mirror");

    /* Item 0 may have been published before others. */
    if (rc == 1)
        *record = mi_store_find(objects->config.store, MI_MIRROR, path,
                                strlen(path));
    mi_closure_clear(&closure);
    return rc;
}

/* ---- libraries by name -------------------------------------------------- */

/* What the object 'caller' needs to find the library 'name', into 'item'. */
static int find_name(struct mi_closure *closure, const char *caller,
                     const char *name, struct mi_text *out,
                     struct mi_error *err)
{
    struct mi_objects *objects = objects_of(closure);
    struct mi_elf elf = {0};
    struct mi_item item = {.path = (char *)(uintptr_t)caller};
    void *bytes = MAP_FAILED;
    int file = caller[0] ? open_object(objects, &item) : -1, rc;

    if (file >= 0)
        bytes = mmap(NULL, item.size, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes != MAP_FAILED && mi_elf_parse(bytes, item.size, &elf, err) != 0)
        elf = (struct mi_elf){0}; /* it is running, after all */
    rc = mi_closure_find(closure, caller, &elf, name, out, err);
    mi_elf_clear(&elf);
    if (bytes != MAP_FAILED)
        munmap(bytes, item.size);
    if (file >= 0)
        close(file);
    return rc;
}

static int answer_name(struct mi_objects *objects, const char *key,
                       const char *name, const struct mi_record **record,
                       struct mi_error *err)
{
    struct mi_closure closure = new_closure(objects);
    struct mi_entry entry = {.query = MI_MIRROR,
                             .kind = MI_KIND_MIRROR,
                             .key = key,
                             .key_size = strlen(key)};
    char caller[PATH_MAX], *text = NULL;
    struct mi_text out = {.size = 0};
    int rc;

    snprintf(caller, sizeof(caller), "%.*s", (int)(name - 1 - key), key);
    mi_text_put(&out, "\0\0", 3);
    rc = find_name(&closure, caller, name, &out, err);
    if (rc == 0 && !(text = mi_text_take(&out, &entry.size)))
        rc = mi_fail_errno(err, "mirror");
    mi_text_clear(&out);
    if (rc == 0)
        rc = complete(&closure, record, err);
    entry.payload = text;
    if (rc == 0 || rc == 1)
        rc = objects->config.publish(objects->config.arg, &entry, record, err);
    free(text);
    mi_closure_clear(&closure);
    return rc;
}

/* ---- answers ------------------------------------------------------------ */

/* Where nothing is mirrored: is the object sound at least? */
static int judge(struct mi_objects *objects, const char *path,
                 const struct mi_record **record, struct mi_error *err)
{
    struct mi_item item = {.path = (char *)(uintptr_t)path};
    struct mi_entry *entry = &item.entry;
    struct mi_error why;
    char head[HEAD_SIZE];
    int file = open_object(objects, &item);
    ssize_t got = -1;

    if (file >= 0)
        got = pread(file, head, sizeof(head), 0);
    *entry = (struct mi_entry){.query = MI_MIRROR,
                               .kind = MI_KIND_ABSENT,
                               .code = MI_MIRROR_REFUSED,
                               .key = path,
                               .key_size = strlen(path)};
    if (got >= 0)
        atomic_fetch_add(&mi_dirs_traffic(objects->config.dirs)->bytes,
                         (size_t)got);
    if (got >= 0 && mi_elf_check(head, (size_t)got, item.size, &why) != 0) {
        entry->code = MI_MIRROR_DAMAGED;
        entry->payload = why.text;
        entry->size = strlen(why.text);
    }
    if (file >= 0)
        close(file);
    return objects->config.publish(objects->config.arg, entry, record, err);
}

static int answer(struct mi_objects *objects, const char *key,
                  const struct mi_record **record, struct mi_error *err)
{
    const char *name = strchr(key, '\n');

    return name ? answer_name(objects, key, name + 1, record, err)
                : answer_object(objects, key, record, err);
}

/* Read an object that somebody asks for, before it is its turn.  Not one that
 * may be given up for want of room, or that is in the mirror under another
 * name.
 */
static void read_early(struct mi_objects *objects, const char *path)
{
    struct mi_mirror *mirror = objects->config.mirror;
    struct mi_copy copy;
    struct mi_error why;
    int rc = -1;

    if (!mi_store_find(objects->config.store, MI_MIRROR, path, strlen(path)) &&
        mi_copy_open(&copy, objects->config.dirs, path) == 0) {
        if (copy.identity.size <= mi_mirror_room(mirror) / 4 &&
            !find_known(objects, &copy.identity))
            make_copy(objects, &copy, NULL, &why); /* or in its turn */
        rc = 0;
    }
    mi_early_give(objects->early, path, rc == 0 ? &copy : NULL);
}

static int answer_in_turn(struct mi_objects *objects, const char *key,
                          const struct mi_record **record,
                          struct mi_error *err)
{
    int rc;

    pthread_mutex_lock(&objects->lock);
    *record =
        mi_store_find(objects->config.store, MI_MIRROR, key, strlen(key));
    rc = *record ? 1 : answer(objects, key, record, err);
    pthread_mutex_unlock(&objects->lock);
    return rc;
}

int mi_objects_answer(struct mi_objects *objects, const char *key,
                      const struct mi_record **record, struct mi_error *err)
{
    struct mi_copy copy;
    int rc, early;

    if (!objects->config.mirror || (key[0] != '/' && !strchr(key, '\n')))
        return judge(objects, key, record, err);
    early = !strchr(key, '\n') && key[strlen(key) - 1] != '/' &&
            mi_early_begin(objects->early, key);
    if (early)
        read_early(objects, key);
    rc = answer_in_turn(objects, key, record, err);
    if (early && mi_early_end(objects->early, key, &copy))
        mi_copy_clear(&copy, objects->config.mirror);
    return rc;
}

/* ---- copies of other files ---------------------------------------------- */

/* Put the open 'file' into the mirror as 'entry' says.  Bytes go to the stream
 * last: what is there cannot be taken back.
 */
static int fill_copy(struct mi_objects *objects, int file,
                     const struct mi_entry *entry, struct mi_error *err)
{
    struct mi_mirror *mirror = objects->config.mirror;
    struct mi_object object = {
        .id = entry->object, .size = entry->file_size, .mode = entry->mode};
    struct mi_part part;
    int rc;

    if (mi_mirror_begin(mirror, entry->object, entry->file_size, entry->mode,
                        &part, err) != 0)
        return -1;
    mi_mailbox_set_mirror(objects->config.mailbox, mi_mirror_root(mirror));
    rc = mi_copy_fill(file, &part, mi_dirs_traffic(objects->config.dirs), err);
    if (rc == 0)
        rc = mi_mirror_stamp(mirror, &part, entry->mtime, err);
    if (rc == 0 && objects->config.stream && object.size)
        rc = mi_copy_map(&part, &object.bytes, err);
    if (rc == 0)
        rc = mi_mirror_finish(mirror, &part, entry->key, err);
    else
        mi_mirror_abandon(mirror, &part);
    if (rc == 0 && object.bytes)
        rc = keep_bytes(objects, &object, err);
    if (rc != 0)
        mi_object_clear(&object);
    return rc;
}

/* Copy the open 'file' to where it can be had on every node, or say in 'entry'
 * why not.  What only the kernel can resolve ("..") has no place there.
 */
static void copy_open(struct mi_objects *objects, int file,
                      struct mi_entry *entry)
{
    struct mi_error why;
    struct stat status;

    if (fstat(file, &status) != 0)
        entry->code = errno;
    else if (S_ISDIR(status.st_mode))
        entry->code = EISDIR;
    else if (!S_ISREG(status.st_mode) || status.st_size > COPY_MAX ||
             !objects->config.mirror || strstr(entry->key, "/../"))
        entry->code = MI_MIRROR_REFUSED;
    else {
        mi_entry_status(entry, &status);
        entry->object = status.st_size ? next_id(objects) : 0;
        if (fill_copy(objects, file, entry, &why) == 0) {
            entry->kind = MI_KIND_MIRROR;
            return;
        }
        entry->object = 0;
        entry->code = MI_MIRROR_REFUSED;
        objects->config.refused(objects->config.arg, entry->key, why.text, 1);
    }
}

int mi_objects_copy(struct mi_objects *objects, const char *path,
                    const struct mi_record **record, struct mi_error *err)
{
    struct mi_entry entry = {.query = MI_COPY,
                             .kind = MI_KIND_ABSENT,
                             .key = path,
                             .key_size = strlen(path)};
    int file;

    file = mi_dirs_open(objects->config.dirs, path, O_RDONLY | O_NONBLOCK);
    if (file < 0) {
        entry.code = errno;
    } else {
        copy_open(objects, file, &entry);
        close(file);
    }
    return objects->config.publish(objects->config.arg, &entry, record, err);
}

int mi_objects_create(struct mi_objects **result,
                      const struct mi_objects_config *config,
                      struct mi_error *err)
{
    struct mi_objects *objects = calloc(1, sizeof(*objects));

    if (!objects)
        return mi_fail_errno(err, "objects");
    objects->config = *config;
    pthread_mutex_init(&objects->lock, NULL);
    pthread_mutex_init(&objects->queue, NULL);
    objects->last = &objects->first;
    if (mi_early_create(&objects->early, err) != 0) {
        mi_objects_destroy(objects);
        return -1;
    }
    /* Now: the program may change its environment later on. */
    if (config->mirror &&
        mi_search_init(&objects->search, CALLER, getenv, err) != 0) {
        mi_objects_destroy(objects);
        return -1;
    }
    objects->search.dirs = config->dirs;
    if (config->loaded) {
        mi_list_clear(&objects->search.loaded);
        if (mi_list_copy(&objects->search.loaded, config->loaded) != 0) {
            mi_objects_destroy(objects);
            return mi_fail_errno(err, "objects");
        }
    }
    *result = objects;
    return 0;
}

void mi_objects_destroy(struct mi_objects *objects)
{
    struct mi_object object;
    struct known *known;

    if (!objects)
        return;
    while (mi_objects_take(objects, &object))
        mi_object_clear(&object);
    while ((known = objects->known) != NULL) {
        objects->known = known->next;
        free(known);
    }
    mi_early_destroy(objects->early);
    mi_search_clear(&objects->search);
    pthread_mutex_destroy(&objects->queue);
    pthread_mutex_destroy(&objects->lock);
    free(objects);
}
