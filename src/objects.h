/* Objects: shared objects of the tree on their way into the mirrors.
 *
 * Answers MI_MIRROR: reads an object with all that it needs, puts copies into
 * the mirror of this node, keeps their bytes for the stream, and publishes one
 * record each.  Part of the reader; thread-safe: objects that are asked for
 * are read at the same time, their closures are made one at a time.
 */
#ifndef MI_OBJECTS_H
#define MI_OBJECTS_H

#include "error.h"
#include "files.h"
#include "mailbox.h"
#include "mirror.h"
#include "store.h"

struct mi_objects;

/* All handles are borrowed and outlive this one. */
struct mi_objects_config {
    struct mi_store *store;
    struct mi_mailbox *mailbox;
    struct mi_mirror *mirror; /* NULL: objects are only judged */
    struct mi_dirs *dirs;
    char *const *share; /* prefixes: mi_prefixes_shared() */
    char *const *local;
    char *const *loaded; /* SONAMEs that every rank has loaded, a list; NULL:
                          * what this process has */
    int stream;          /* keep the bytes for mi_objects_take() */
    /* A directory's listing, and a record for everybody: as
     * mi_reader_answer() and mi_reader_publish().
     */
    int (*list)(void *arg, const char *directory,
                const struct mi_record **record, struct mi_error *err);
    int (*publish)(void *arg, const struct mi_entry *entry,
                   const struct mi_record **record, struct mi_error *err);
    /* 'path' is not mirrored ('direct'), or has to be completed by the linker
     * from the tree: why.
     */
    void (*refused)(void *arg, const char *path, const char *why, int direct);
    void *arg;
};

int mi_objects_create(struct mi_objects **objects,
                      const struct mi_objects_config *config,
                      struct mi_error *err);
void mi_objects_destroy(struct mi_objects *objects);

/* Answer MI_MIRROR for 'key': the path of an object; or the path of
 * one, a newline and the NAME of a library, as that object ("" for the
 * program) would find it by dlopen(3): a record that needs the library, and
 * has no object itself.
 * 1, 0 or -1 as mi_reader_answer().
 */
int mi_objects_answer(struct mi_objects *objects, const char *key,
                      const struct mi_record **record, struct mi_error *err);

/* Answer MI_COPY: a regular file of any kind, as it is.  In the same manner.
 */
int mi_objects_copy(struct mi_objects *objects, const char *path,
                    const struct mi_record **record, struct mi_error *err);

/* An object whose bytes the other nodes need before its record. */
struct mi_object {
    uint64_t id;
    uint64_t size; /* bytes */
    uint32_t mode;
    void *bytes; /* a mapping; unmap it when done */
};

/* Take the oldest object out of the queue: 1, or 0 if there is none. */
int mi_objects_take(struct mi_objects *objects, struct mi_object *object);
void mi_object_clear(struct mi_object *object);

#endif
