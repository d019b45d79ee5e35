/* A file of the tree, and its copy in the mirror.
 *
 * Opened once and read once: whoever wants to look at the bytes looks at the
 * copy.  Root only; each copy is one thread's at a time.
 */
#ifndef MI_COPY_H
#define MI_COPY_H

#include <stdint.h>

#include "dirs.h"
#include "error.h"
#include "mirror.h"

/* Which file, and as it is now: an inode may be written again, or be another
 * file's by and by.
 */
struct mi_identity {
    uint64_t device, inode, size;
    int64_t mtime, ctime; /* nanoseconds */
};

int mi_identity_same(const struct mi_identity *a, const struct mi_identity *b);

struct mi_copy {
    int file; /* of the tree; -1: none */
    struct mi_identity identity;
    uint32_t mode;
    struct mi_part part; /* id 0: there is no copy */
    void *bytes;         /* the copy, mapped; NULL: none */
};

/* Open a regular file that is not empty.  Returns 0, or an errno value (EINVAL
 * for others).  The caller clears.
 */
int mi_copy_open(struct mi_copy *copy, struct mi_dirs *dirs, const char *path);

/* Make the copy as object 'id': of the file, or of 'image' (NULL: none), as
 * many bytes as the identity says.  It is mapped to read, and to send, and its
 * descriptor is closed: a closure may have thousands.  Bytes that are read are
 * counted in 'traffic'.
 */
int mi_copy_make(struct mi_copy *copy, struct mi_mirror *mirror, uint64_t id,
                 const void *image, struct mi_traffic *traffic,
                 struct mi_error *err);

/* Close and unmap all, and give up a copy that has no place yet. */
void mi_copy_clear(struct mi_copy *copy, struct mi_mirror *mirror);

/* The two halves of mi_copy_make(): fill a part with the bytes of 'file'; map
 * it.  The mapping is private and writable, since MPI may receive into the
 * root's buffer of a broadcast, too (the same bytes): some algorithms pass
 * pieces around in a ring.
 */
int mi_copy_fill(int file, const struct mi_part *part,
                 struct mi_traffic *traffic, struct mi_error *err);
int mi_copy_map(const struct mi_part *part, void **bytes,
                struct mi_error *err);

#endif
