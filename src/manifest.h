/* Manifest: the questions that earlier runs of a program have asked.
 *
 * A hint and nothing more: answers are always read anew.  One file of the
 * user's own, which is replaced as a whole.  Numbers are in the byte order of
 * the machine; a manifest of another kind of machine has another magic.
 *
 *   file:    +--------------------------------------------------------+
 *            | header (40 bytes, see manifest.c): magic, version,     |
 *            | sizes, and a hash of all that is behind it             |
 *            +--------------------------------------------------------+
 *            | key, key_size bytes: readable lines that say of which  |
 *            | program, interpreter and environment it is             |
 *            +--------------------------------------------------------+
 *            | entry | entry | entry | ...           in order of need |
 *            +--------------------------------------------------------+
 *
 *   entry:   query, flags, age (a byte each), a zero byte, then the sizes of
 *            path and extra (two bytes each), then the two, terminated by a
 *            NUL each
 *
 * Paths are bytes as the system has them, without NUL.
 */
#ifndef MI_MANIFEST_H
#define MI_MANIFEST_H

#include <stddef.h>

#include "error.h"
#include "format.h"

#define MI_MANIFEST_VERSION 1
#define MI_MANIFEST_MAX ((size_t)64 << 20) /* largest file, bytes */
#define MI_MANIFEST_AGE 16 /* an entry that becomes so old is left out */

/* Rank 0's own program has asked it, not only other ranks. */
#define MI_MANIFEST_OWN 1u
/* The answer was that there is no such thing. */
#define MI_MANIFEST_ABSENT 2u

struct mi_question {
    enum mi_query query;
    unsigned flags;
    unsigned age;      /* runs (or, not OWN: changes) without use by rank 0 */
    const char *key;   /* absolute path, terminated; as struct mi_ask */
    const char *extra; /* MI_CODE: the .pyc's path; else "" */
};

struct mi_manifest {
    struct mi_question *questions;
    size_t count;
    void *bytes; /* what they point into */
};

/* Read the manifest 'path' of the program that 'key' describes.  Returns 1
 * with 'manifest' to be cleared; 0 if there is no such file; -1 with 'err',
 * one line that names the file and the way out: MI_FORMAT for a manifest that
 * is damaged, of another version or another program, which
 * mi_manifest_write() would replace; MI_ERRNO for what is no manifest, larger
 * than MI_MANIFEST_MAX, not a regular file, not the user's own, or writable
 * for others (EPERM, EFBIG, ELOOP, ...).  Never blocks on a FIFO or a device.
 * Source: open(2), fstat(2).
 */
int mi_manifest_read(struct mi_manifest *manifest, const char *path,
                     const char *key, struct mi_error *err);
/* Repeating it does no harm. */
void mi_manifest_clear(struct mi_manifest *manifest);

/* Write a manifest, as far as it has room, in place of the one that may be
 * there (mode 0600): readers and other writers see the one or the other,
 * whole.  Up to two missing directories are made (mode 0700).  Anything that
 * is neither an empty file nor a manifest, or is not the user's own, is left
 * alone (EEXIST).  Returns 0, or -1 with 'err' as above, and nothing has
 * changed.  Source: rename(2).
 */
int mi_manifest_write(const char *path, const char *key,
                      const struct mi_question *questions, size_t count,
                      struct mi_error *err);

#endif
