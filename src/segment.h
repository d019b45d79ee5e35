/* A shared memory segment: a file on a memory filesystem, mapped by several
 * processes of one user.
 */
#ifndef MI_SEGMENT_H
#define MI_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct mi_segment {
    void *base;
    size_t size; /* bytes mapped */
    int file;    /* descriptor, or -1 */
};

/* Make the file 'name' in directory 'dir' (mode 0600, exclusively), 'size'
 * bytes long, and map it for writing.  No memory is reserved yet.
 */
int mi_segment_create(struct mi_segment *segment, int dir, const char *name,
                      size_t size, struct mi_error *err);
/* Zeroed memory of this process alone. */
int mi_segment_create_private(struct mi_segment *segment, size_t size,
                              struct mi_error *err);
/* Map a file of our own user that is at least 'least' bytes long, whole;
 * anybody else's is refused (EPERM).  No descriptor is kept.
 */
int mi_segment_open(struct mi_segment *segment, int dir, const char *name,
                    int writable, size_t least, struct mi_error *err);
/* Make sure that [offset, offset + size) can be touched: on a full filesystem
 * this fails with ENOSPC, where touching would kill with SIGBUS.
 * Source: posix_fallocate(3).
 */
int mi_segment_reserve(const struct mi_segment *segment, uint64_t offset,
                       uint64_t size, struct mi_error *err);
/* Unmap and close; repeating it does no harm. */
void mi_segment_clear(struct mi_segment *segment);

#endif
