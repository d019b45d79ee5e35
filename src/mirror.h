/* The mirror: shared objects of the tree as files on the node, to dlopen.
 *
 * One directory tree per node that repeats the original paths, so that
 * $ORIGIN in a search path keeps its meaning.  An object is filled in under a
 * name of its own and then moved to its place whole.  Leader only; a mutex
 * inside lets several threads of it work.
 */
#ifndef MI_MIRROR_H
#define MI_MIRROR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "budget.h"
#include "error.h"
#include "format.h"

struct mi_mirror;

/* An object that is being filled in. */
struct mi_part {
    uint64_t id;
    uint64_t size; /* bytes */
    int file;
};

/* Prepare; nothing is made in the directory 'top' before the first object.
 * What is left there by jobs that were killed is removed then.
 */
int mi_mirror_create(struct mi_mirror **mirror, const char *top,
                     struct mi_error *err);
/* Take the directory 'place' where 'top', and what was added before, cannot be
 * used: no directory can be made there, or the filesystem does not allow
 * execution (noexec), which is tried with the first object.  One that is not
 * absolute, or is there already, is passed over.  Before the first object
 * only.
 */
int mi_mirror_add_place(struct mi_mirror *mirror, const char *place,
                        struct mi_error *err);
/* Take the objects' bytes from 'budget' (borrowed, for as long as the mirror
 * lives; NULL: none).  Before the first object.
 */
void mi_mirror_set_budget(struct mi_mirror *mirror, struct mi_budget *budget);
/* Bytes that objects may still take of it, UINT64_MAX without one: what the
 * store and the objects begun so far have left.  Thread-safe.
 */
uint64_t mi_mirror_room(const struct mi_mirror *mirror);
/* The budget's limit in bytes; UINT64_MAX without one. */
uint64_t mi_mirror_limit(const struct mi_mirror *mirror);
/* Remove the tree; objects that are loaded stay usable, and no more can be
 * added.  Does nothing in a forked child.
 */
void mi_mirror_remove(struct mi_mirror *mirror);
/* The same, and free.  NULL is allowed. */
void mi_mirror_destroy(struct mi_mirror *mirror);

/* Directory below which the original paths are repeated; "" until the first
 * object.  Lives as long as the mirror.
 */
const char *mi_mirror_root(const struct mi_mirror *mirror);
/* Bytes of all objects that are in place. */
uint64_t mi_mirror_bytes(const struct mi_mirror *mirror);

/* Begin object 'id' of 'size' bytes.  Its space is reserved: ENOSPC here, also
 * where the budget does not allow it.  The
 * first one chooses the place; if there is none, the error names all that was
 * tried (its code is that of the first: EPERM for noexec), and is that of all
 * objects.
 */
int mi_mirror_begin(struct mi_mirror *mirror, uint64_t id, uint64_t size,
                    mode_t mode, struct mi_part *part, struct mi_error *err);
/* Write 'size' bytes at 'offset'. */
int mi_part_write(const struct mi_part *part, uint64_t offset,
                  const void *data, size_t size, struct mi_error *err);
/* The whole object as shared memory, for writing; unmap it (munmap(2), 'size'
 * bytes) when done, before or after the object is put in place.
 */
int mi_part_map(const struct mi_part *part, void **bytes,
                struct mi_error *err);
/* Give its descriptor back: it can still be finished or abandoned.  Repeating
 * it does no harm.
 */
void mi_part_close(struct mi_part *part);
/* Give it a modification time, in nanoseconds since the epoch; 0: none. */
int mi_mirror_stamp(struct mi_mirror *mirror, const struct mi_part *part,
                    int64_t mtime, struct mi_error *err);
/* Move it to its place, that of the absolute path 'path' once normalised
 * (mi_path_normal), and close it.  An
 * object that is there already stays.  'part' is cleared, whatever happens.
 */
int mi_mirror_finish(struct mi_mirror *mirror, struct mi_part *part,
                     const char *path, struct mi_error *err);
/* Have the object at 'from', which is in place, at 'path' as well: one file.
 */
int mi_mirror_link(struct mi_mirror *mirror, const char *from,
                   const char *path, struct mi_error *err);
/* Make the symbolic links of a directory's record (MI_NEED_LINK), where
 * nothing is in place.  An object that comes later takes its place.
 */
int mi_mirror_symlinks(struct mi_mirror *mirror,
                       const struct mi_record *record, struct mi_error *err);
/* Give it up. */
void mi_mirror_abandon(struct mi_mirror *mirror, struct mi_part *part);

#endif
