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

#include "elf.h"
#include "list.h"
#include "needs.h"
#include "search.h"
#include "stub.h"

#define CHUNK (256u << 10)        /* bytes copied at a time into the mirror */
#define COPY_MAX ((off_t)1 << 30) /* bytes; larger data stays on the tree */
/* What an object answers to by name lies beside it, under its name and: */
#define ALIAS ".mpiimport-alias"
/* Has what calls dlopen(3) for the interpreter. */
#define CALLER "PyImport_ImportModule"

/* Which file, and as it is now: an inode may be written again, or be another
 * file's by and by.
 */
struct identity {
    uint64_t device, inode, size;
    int64_t mtime, ctime; /* nanoseconds */
};

/* A file of the tree that is in the mirror. */
struct known {
    struct known *next;
    struct identity identity;
    char place[];
};

struct queued {
    struct queued *next;
    struct mi_object object;
};

struct mi_objects {
    struct mi_objects_config config;
    pthread_mutex_t lock; /* one closure at a time; of what follows, too */
    struct mi_search search;
    struct known *known;
    atomic_uint_fast64_t id; /* of the last object */
    pthread_mutex_t queue;   /* of the two: */
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

/* An object on its way. */
struct item {
    char *path;
    char *place;     /* where the mirror puts it: without ".." */
    char *inherited; /* RPATHs of those that need it */
    void *image;     /* of an object of ours, allocated; or NULL */
    size_t image_size;
    struct mi_part part; /* id 0: it has no copy */
    void *bytes;         /* the copy, mapped; NULL: given away */
    size_t size;
    uint32_t mode;
    struct identity identity;
    char *link;          /* place of the same file; or NULL */
    struct item *target; /* the item of the same file; or NULL */
    int published;
    char *text;  /* the payload of 'entry' */
    char *needs; /* texts of mi_record_need() */
    size_t needs_size;
    char *soname;
    struct mi_entry entry; /* to be published; no key: it has a record */
};

/* What an object may open itself. */
struct opened {
    struct opened *next;
    char *inherits;
    char path[];
};

/* An object and all it needs, in the order of discovery: a worklist, because
 * libraries may need each other in circles and in long chains.
 */
struct closure {
    struct mi_objects *objects;
    struct item **list;
    size_t count, room;
    struct opened *opened; /* join when all that is needed has */
    int optional;          /* from now on what joins is not needed */
};

static void item_free(struct item *item)
{
    if (!item)
        return;
    if (item->bytes)
        munmap(item->bytes, item->size);
    free(item->path);
    free(item->place);
    free(item->inherited);
    free(item->image);
    free(item->link);
    free(item->text);
    free(item->needs);
    free(item->soname);
    free(item);
}

static void opened_free(struct opened *opened)
{
    free(opened->inherits);
    free(opened);
}

static void closure_clear(struct closure *closure)
{
    struct opened *opened;

    while ((opened = closure->opened) != NULL) {
        closure->opened = opened->next;
        opened_free(opened);
    }
    for (size_t i = 0; i < closure->count; i++)
        item_free(closure->list[i]);
    free(closure->list);
}

static struct item *closure_find(const struct closure *closure,
                                 const char *path)
{
    for (size_t i = 0; i < closure->count; i++)
        if (strcmp(closure->list[i]->path, path) == 0)
            return closure->list[i];
    return NULL;
}

static struct item *item_new(const char *path, const char *inherited)
{
    struct item *item = calloc(1, sizeof(*item));

    if (!item)
        return NULL;
    item->path = strdup(path);
    /* Only the kernel knows where ".." leads behind a symbolic link. */
    item->place = strstr(path, "/../") ? realpath(path, NULL) : NULL;
    if (!item->place)
        item->place = strdup(path);
    item->inherited = strdup(inherited);
    if (item->path && item->place && item->inherited)
        return item;
    item_free(item);
    return NULL;
}

/* The item of 'path', which joins the closure; NULL without memory. */
static struct item *closure_add(struct closure *closure, const char *path,
                                const char *inherited)
{
    size_t room = closure->room ? closure->room * 2 : 8;
    struct item *item = closure_find(closure, path), **bigger;

    if (item)
        return item;
    if (closure->count == closure->room) {
        bigger = realloc(closure->list, room * sizeof(struct item *));
        if (!bigger)
            return NULL;
        closure->list = bigger;
        closure->room = room;
    }
    item = item_new(path, inherited);
    if (item)
        closure->list[closure->count++] = item;
    return item;
}

static int on_list(void *arg, const char *directory,
                   const struct mi_record **list, struct mi_error *err)
{
    const struct mi_objects *objects = ((struct closure *)arg)->objects;

    return objects->config.list(objects->config.arg, directory, list, err);
}

static int on_add(void *arg, const char *path, const char *inherits,
                  struct mi_error *err)
{
    return closure_add(arg, path, inherits) ? 0 : mi_fail_errno(err, "mirror");
}

static int on_open(void *arg, const char *path, const char *inherits,
                   struct mi_error *err)
{
    struct closure *closure = arg;
    struct opened *opened = malloc(sizeof(*opened) + strlen(path) + 1);

    if (!opened || !(opened->inherits = strdup(inherits))) {
        free(opened);
        return mi_fail_errno(err, "mirror");
    }
    strcpy(opened->path, path);
    opened->next = closure->opened;
    closure->opened = opened;
    return 0;
}

/* Have one of these join: 1, 0 if there is none. */
static int take_opened(struct closure *closure)
{
    struct opened *opened = closure->opened;

    if (!opened)
        return 0;
    closure->opened = opened->next;
    closure->optional = 1;
    closure_add(closure, opened->path, opened->inherits); /* or do without */
    opened_free(opened);
    return 1;
}

/* An object of ours named 'path', which needs the genuine one beside it. */
static int make_alias(const char *path, const struct item *genuine,
                      struct item *alias, struct mi_error *err)
{
    struct mi_stub stub = {0};
    char needed[PATH_MAX + 10];
    int rc;

    snprintf(needed, sizeof(needed), "$ORIGIN/%s",
             strrchr(genuine->place, '/') + 1);
    rc = mi_stub_name(&stub, path, err);
    if (rc == 0)
        rc = mi_stub_need(&stub, needed, err);
    if (rc == 0)
        rc = mi_stub_image(&stub, &alias->image, &alias->image_size, err);
    mi_stub_clear(&stub);
    return rc;
}

static int on_alias(void *arg, const char *path, const char *inherits,
                    const char **name, struct mi_error *err)
{
    char text[PATH_MAX + sizeof(ALIAS)];
    struct item *genuine, *alias;
    char *place;

    snprintf(text, sizeof(text), "%s" ALIAS, path);
    if (strlen(text) > MI_PATH)
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG, "%s", path);
    genuine = closure_add(arg, path, inherits);
    alias = genuine ? closure_add(arg, text, "") : NULL;
    if (!alias)
        return mi_fail_errno(err, "mirror");
    *name = alias->path;
    if (alias->image)
        return 0;
    if (asprintf(&place, "%s" ALIAS, genuine->place) < 0)
        return mi_fail_errno(err, "mirror");
    free(alias->place);
    alias->place = place;
    return make_alias(path, genuine, alias, err);
}

/* The item of a directory, to whose libraries links are wanted. */
static int on_link(void *arg, const char *directory, struct mi_error *err)
{
    char path[PATH_MAX + 1];

    snprintf(path, sizeof(path), "%s/", directory);
    return strlen(path) > MI_PATH ? 0 : on_add(arg, path, "", err);
}

/* ---- what an object needs ----------------------------------------------- */

static struct mi_needs_config needs_config(struct closure *closure)
{
    struct mi_objects *objects = closure->objects;

    return (struct mi_needs_config){.search = &objects->search,
                                    .share = objects->config.share,
                                    .local = objects->config.local,
                                    .list = on_list,
                                    .add = on_add,
                                    .add_alias = on_alias,
                                    .open = on_open,
                                    .link = on_link,
                                    .arg = closure};
}

/* Name what only the linker can find: the report tells. */
static void tell_unknown(const struct mi_objects *objects,
                         const struct item *item)
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

/* Fill in soname and needs from the image of 'size' bytes; what is needed
 * joins the closure.
 */
static int describe(struct closure *closure, struct item *item,
                    const void *image, size_t size, struct mi_error *err)
{
    struct mi_objects *objects = closure->objects;
    struct mi_needs_config config = needs_config(closure);
    struct mi_elf elf = {0};
    struct mi_needs_object object = {.path = item->place,
                                     .inherited = item->inherited,
                                     .elf = &elf,
                                     .image = image,
                                     .size = size};
    FILE *out;
    int rc;

    if (mi_elf_parse(image, size, &elf, err) != 0)
        return -1;
    item->soname = strdup(elf.soname ? elf.soname : "");
    out = open_memstream(&item->needs, &item->needs_size);
    if (!out || !item->soname) {
        rc = mi_fail_errno(err, "mirror");
    } else if (item->image) { /* an alias */
        fprintf(out, "%c%.*s%c", MI_NEED_ORIGIN,
                (int)(strlen(item->path) - strlen(ALIAS)), item->path, '\0');
        rc = 0;
    } else {
        rc = mi_needs_write(&config, &object, out, err);
    }
    if (out && fclose(out) != 0 && rc == 0)
        rc = mi_fail_errno(err, "mirror");
    mi_elf_clear(&elf);
    if (rc == 0)
        tell_unknown(objects, item);
    return rc;
}

/* The payload of the item's record. */
static int write_text(struct item *item, struct mi_error *err)
{
    size_t size = 0;
    FILE *out = open_memstream(&item->text, &size);

    if (!out)
        return mi_fail_errno(err, "mirror");
    if (strcmp(item->path, item->place) != 0)
        fputs(item->place, out);
    fprintf(out, "%c%s%c%s%c", '\0', item->soname, '\0',
            item->link ? item->link : "", '\0');
    fwrite(item->needs, 1, item->needs_size, out);
    if (fclose(out) != 0)
        return mi_fail_errno(err, "mirror");
    item->entry.payload = item->text;
    item->entry.size = size;
    return 0;
}

/* ---- copies ------------------------------------------------------------- */

static int copy_file(const struct mi_objects *objects, int file,
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
    atomic_fetch_add(&objects->config.traffic->bytes, offset);
    return rc;
}

static void drop_copy(const struct mi_objects *objects, struct item *item)
{
    if (item->bytes)
        munmap(item->bytes, item->size);
    item->bytes = NULL;
    if (item->part.id)
        mi_mirror_abandon(objects->config.mirror, &item->part);
    item->part.id = 0;
}

/* The item is to be loaded from the tree. */
static void refuse(const struct mi_objects *objects, struct item *item,
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
static void make_room(const struct closure *closure, uint64_t size)
{
    const struct mi_objects *objects = closure->objects;
    const struct mi_mirror *mirror = objects->config.mirror;
    char why[100];

    snprintf(why, sizeof(why),
             "--max-store %llu would be exceeded by all that is needed",
             (unsigned long long)mi_mirror_limit(mirror));
    while (!closure->optional && size > mi_mirror_room(mirror)) {
        struct item *largest = NULL;

        for (size_t i = 0; i < closure->count; i++) {
            struct item *item = closure->list[i];

            if (item->part.id && item->part.size > size &&
                (!largest || item->part.size > largest->part.size))
                largest = item;
        }
        if (!largest)
            return;
        refuse(objects, largest, why);
    }
}

/* Map a copy to read, and to send.  Private and writable, since MPI may
 * receive into the root's buffer of a broadcast, too (the same bytes): some
 * algorithms pass pieces around in a ring.
 */
static int map_part(const struct mi_part *part, void **bytes,
                    struct mi_error *err)
{
    void *mapped = mmap(NULL, part->size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
                        part->file, 0);

    if (mapped == MAP_FAILED)
        return mi_fail_errno(err, "cannot map the mirror's copy");
    *bytes = mapped;
    return 0;
}

/* Copy the open file into the mirror, and map the copy. */
static int make_copy(struct mi_objects *objects, struct item *item, int file,
                     struct mi_error *err)
{
    struct mi_mirror *mirror = objects->config.mirror;
    int rc;

    if (mi_mirror_begin(mirror, next_id(objects), item->size, item->mode,
                        &item->part, err) != 0) {
        item->part.id = 0;
        return -1;
    }
    mi_mailbox_set_mirror(objects->config.mailbox, mi_mirror_root(mirror));
    rc = item->image
             ? mi_part_write(&item->part, 0, item->image, item->size, err)
             : copy_file(objects, file, &item->part, err);
    if (rc == 0)
        rc = map_part(&item->part, &item->bytes, err);
    mi_part_close(&item->part); /* a closure may have thousands */
    if (rc != 0)
        drop_copy(objects, item);
    return rc;
}

/* Describe an object that gets no copy by its original. */
static int describe_original(struct closure *closure, struct item *item,
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

static int is_same(const struct identity *a, const struct identity *b)
{
    return a->device == b->device && a->inode == b->inode &&
           a->size == b->size && a->mtime == b->mtime && a->ctime == b->ctime;
}

/* Place of the same file in the mirror, or NULL. */
static const char *same_file(const struct closure *closure, struct item *item)
{
    for (const struct known *k = closure->objects->known; k; k = k->next)
        if (is_same(&k->identity, &item->identity))
            return k->place;
    for (size_t i = 0; i < closure->count; i++) {
        struct item *other = closure->list[i];

        if (other != item && other->part.id &&
            is_same(&other->identity, &item->identity)) {
            item->target = other;
            return other->place;
        }
    }
    return NULL;
}

/* The file is open, and sound as files go: read it. */
static int read_object(struct closure *closure, struct item *item, int file,
                       struct mi_error *err)
{
    struct mi_objects *objects = closure->objects;
    const char *same = item->image ? NULL : same_file(closure, item);
    struct mi_error why;

    if (same) {
        item->link = strdup(same);
        if (!item->link)
            return mi_fail_errno(err, "mirror");
        item->entry.object = 1; /* any */
        return describe_original(closure, item, file, err);
    }
    mi_error_clear(&why);
    make_room(closure, item->size);
    if (make_copy(objects, item, file, &why) != 0)
        refuse(objects, item, why.text);
    item->entry.object = item->part.id;
    return item->bytes ? describe(closure, item, item->bytes, item->size, err)
           : item->image
               ? describe(closure, item, item->image, item->size, err)
               : describe_original(closure, item, file, err);
}

/* A damaged object is the importing rank's to report, as ImportError: loading
 * it could end in SIGBUS.
 */
static void tell_damaged(const struct mi_objects *objects, struct item *item,
                         const struct mi_error *why)
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

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

/* Open the file and look at it: its descriptor, or -1 with the answer. */
static int open_object(const struct mi_objects *objects, struct item *item)
{
    struct stat status;
    int file;

    atomic_fetch_add(&objects->config.traffic->operations, 1);
    file = open(item->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        item->entry.code = errno;
        return -1;
    }
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_size == 0) {
        item->entry.code = EINVAL;
        close(file);
        return -1;
    }
    item->entry.device = (uint64_t)status.st_dev;
    item->entry.inode = (uint64_t)status.st_ino;
    item->entry.file_size = (uint64_t)status.st_size;
    item->entry.mode = (uint32_t)status.st_mode;
    item->identity = (struct identity){.device = (uint64_t)status.st_dev,
                                       .inode = (uint64_t)status.st_ino,
                                       .size = (uint64_t)status.st_size,
                                       .mtime = nanoseconds(&status.st_mtim),
                                       .ctime = nanoseconds(&status.st_ctim)};
    item->size = (size_t)status.st_size;
    item->mode = (uint32_t)status.st_mode;
    return file;
}

static int is_directory(const struct item *item)
{
    return item->path[strlen(item->path) - 1] == '/';
}

/* Name the libraries of a directory. */
static int list_directory(struct closure *closure, struct item *item,
                          struct mi_error *err)
{
    char directory[PATH_MAX], type;
    const struct mi_record *list = NULL;
    const char *name;
    FILE *out = open_memstream(&item->needs, &item->needs_size);
    int rc;

    item->soname = strdup("");
    if (!out || !item->soname)
        return mi_fail_errno(err, "mirror");
    snprintf(directory, sizeof(directory), "%.*s", (int)strlen(item->path) - 1,
             item->path);
    rc = on_list(closure, directory, &list, err);
    for (uint32_t i = 0;
         rc == 1 && (name = mi_entries_name(list, i, &type)) != NULL; i++)
        if (type == 'f' && strstr(name, ".so"))
            fprintf(out, "%c%s%c", MI_NEED_LINK, name, '\0');
    if (fclose(out) != 0 && rc >= 0)
        rc = mi_fail_errno(err, "mirror");
    return rc < 0 ? -1 : 0;
}

/* Read an item; what it needs joins the closure.  The outcome is the entry to
 * publish.
 */
static void read_item(struct closure *closure, struct item *item)
{
    struct mi_objects *objects = closure->objects;
    struct mi_error why;
    int file = -1;

    item->entry = (struct mi_entry){.query = MI_MIRROR,
                                    .kind = MI_KIND_ABSENT,
                                    .key = item->path,
                                    .key_size = strlen(item->path)};
    if (is_directory(item)) {
        item->entry.kind = MI_KIND_MIRROR;
        if (list_directory(closure, item, &why) != 0)
            refuse(objects, item, why.text);
        return;
    }
    if (item->image) {
        item->size = item->image_size;
        item->mode = 0755;
    } else {
        file = open_object(objects, item);
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

static int remember(struct mi_objects *objects, const struct item *item,
                    struct mi_error *err)
{
    struct known *known = malloc(sizeof(*known) + strlen(item->place) + 1);

    if (!known)
        return mi_fail_errno(err, "mirror");
    known->identity = item->identity;
    strcpy(known->place, item->place);
    known->next = objects->known;
    objects->known = known;
    return 0;
}

/* Move the copy to its place, and keep its bytes for the other nodes. */
static int settle(struct mi_objects *objects, struct item *item,
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
static void settle_item(struct mi_objects *objects, struct item *item)
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
    if (item->needs && write_text(item, &why) != 0)
        refuse(objects, item, why.text);
}

/* The links of a directory on this node, once its record is there. */
static void make_links(struct mi_objects *objects, const struct item *item)
{
    struct mi_error why;
    const struct mi_record *record = mi_store_find(
        objects->config.store, MI_MIRROR, item->path, strlen(item->path));

    if (record &&
        mi_mirror_symlinks(objects->config.mirror, record, &why) != 0)
        objects->config.refused(objects->config.arg, item->path, why.text, 0);
}

static int publish_item(const struct closure *closure, struct item *item,
                        const struct mi_record **record, struct mi_error *err)
{
    const struct mi_objects_config *config = &closure->objects->config;
    int rc = 1;

    if (!item->entry.key || item->published)
        return 1;
    item->published = 1;
    /* The file before the links to it. */
    if (item->target)
        rc = publish_item(closure, item->target, record, err);
    if (rc == 1)
        rc = config->publish(config->arg, &item->entry, record, err);
    if (rc == 1 && is_directory(item))
        make_links(closure->objects, item);
    return rc;
}

/* Publish: what is needed first, so that whoever finds an object finds it
 * complete.
 */
static int publish(const struct closure *closure,
                   const struct mi_record **record, struct mi_error *err)
{
    int rc = 1;

    for (size_t i = closure->count; rc == 1 && i-- > 0;)
        rc = publish_item(closure, closure->list[i], record, err);
    return rc;
}

/* Read what 'closure' has by now and all that this needs, and publish. */
static int complete(struct closure *closure, const struct mi_record **record,
                    struct mi_error *err)
{
    struct mi_objects *objects = closure->objects;
    size_t next = 0;

    do {
        for (; next < closure->count; next++) {
            struct item *item = closure->list[next];

            if (!mi_store_find(objects->config.store, MI_MIRROR, item->path,
                               strlen(item->path)))
                read_item(closure, item);
        }
    } while (take_opened(closure));
    for (size_t i = 0; i < closure->count; i++)
        if (closure->list[i]->entry.key)
            settle_item(objects, closure->list[i]);
    return publish(closure, record, err);
}

static int answer_object(struct mi_objects *objects, const char *path,
                         const struct mi_record **record, struct mi_error *err)
{
    struct closure closure = {.objects = objects};
    int rc = closure_add(&closure, path, "") ? complete(&closure, record, err)
                                             : mi_fail_errno(err, "mirror");

    /* Item 0 may have been published before others. */
    if (rc == 1)
        *record = mi_store_find(objects->config.store, MI_MIRROR, path,
                                strlen(path));
    closure_clear(&closure);
    return rc;
}

/* ---- libraries by name -------------------------------------------------- */

/* What the object 'caller' needs to find the library 'name', into 'item'. */
static int find_name(struct closure *closure, const char *caller,
                     const char *name, FILE *out, struct mi_error *err)
{
    struct mi_objects *objects = closure->objects;
    struct mi_needs_config config = needs_config(closure);
    struct mi_elf elf = {0};
    struct mi_needs_object object = {
        .path = caller, .inherited = "", .elf = &elf};
    struct item item = {.path = (char *)(uintptr_t)caller};
    void *bytes = MAP_FAILED;
    int file = caller[0] ? open_object(objects, &item) : -1, rc;

    if (file >= 0)
        bytes = mmap(NULL, item.size, PROT_READ, MAP_PRIVATE, file, 0);
    if (bytes != MAP_FAILED && mi_elf_parse(bytes, item.size, &elf, err) != 0)
        elf = (struct mi_elf){0}; /* it is running, after all */
    rc = mi_needs_write_one(&config, &object, name, out, err);
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
    struct closure closure = {.objects = objects};
    struct mi_entry entry = {.query = MI_MIRROR,
                             .kind = MI_KIND_MIRROR,
                             .key = key,
                             .key_size = strlen(key)};
    char caller[PATH_MAX], *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int rc = 0;

    snprintf(caller, sizeof(caller), "%.*s", (int)(name - 1 - key), key);
    if (!out)
        return mi_fail_errno(err, "mirror");
    fprintf(out, "%c%c%c", '\0', '\0', '\0');
    if (find_name(&closure, caller, name, out, err) != 0)
        rc = -1;
    if (fclose(out) != 0 && rc == 0)
        rc = mi_fail_errno(err, "mirror");
    if (rc == 0)
        rc = complete(&closure, record, err);
    entry.payload = text;
    entry.size = size;
    if (rc == 0 || rc == 1)
        rc = objects->config.publish(objects->config.arg, &entry, record, err);
    free(text);
    closure_clear(&closure);
    return rc;
}

/* ---- answers ------------------------------------------------------------ */

/* Where nothing is mirrored: is the object sound at least? */
static int judge(struct mi_objects *objects, const char *path,
                 const struct mi_record **record, struct mi_error *err)
{
    struct item item = {.path = (char *)(uintptr_t)path};
    struct mi_entry *entry = &item.entry;
    struct mi_elf elf = {0};
    struct mi_error why;
    void *bytes = MAP_FAILED;
    int file = open_object(objects, &item);

    if (file >= 0)
        bytes = mmap(NULL, item.size, PROT_READ, MAP_PRIVATE, file, 0);
    *entry = (struct mi_entry){.query = MI_MIRROR,
                               .kind = MI_KIND_ABSENT,
                               .code = MI_MIRROR_REFUSED,
                               .key = path,
                               .key_size = strlen(path)};
    if (bytes != MAP_FAILED) {
        if (mi_elf_parse(bytes, item.size, &elf, &why) != 0 &&
            why.domain == MI_FORMAT) {
            entry->code = MI_MIRROR_DAMAGED;
            entry->payload = why.text;
            entry->size = strlen(why.text);
        }
        mi_elf_clear(&elf);
        munmap(bytes, item.size);
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

int mi_objects_answer(struct mi_objects *objects, const char *key,
                      const struct mi_record **record, struct mi_error *err)
{
    int rc;

    if (!objects->config.mirror || (key[0] != '/' && !strchr(key, '\n')))
        return judge(objects, key, record, err);
    pthread_mutex_lock(&objects->lock);
    *record =
        mi_store_find(objects->config.store, MI_MIRROR, key, strlen(key));
    rc = *record ? 1 : answer(objects, key, record, err);
    pthread_mutex_unlock(&objects->lock);
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
    rc = copy_file(objects, file, &part, err);
    if (rc == 0)
        rc = mi_mirror_stamp(mirror, &part, entry->mtime, err);
    if (rc == 0 && objects->config.stream && object.size)
        rc = map_part(&part, &object.bytes, err);
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

    atomic_fetch_add(&objects->config.traffic->operations, 1);
    file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
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
    /* Now: the program may change its environment later on. */
    if (config->mirror &&
        mi_search_init(&objects->search, CALLER, getenv, err) != 0) {
        mi_objects_destroy(objects);
        return -1;
    }
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
    mi_search_clear(&objects->search);
    pthread_mutex_destroy(&objects->queue);
    pthread_mutex_destroy(&objects->lock);
    free(objects);
}
