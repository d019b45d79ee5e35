/* Directories of the tree that are kept open.
 *
 * A filesystem that is far away is asked for every component of a path, each
 * time.  From the descriptor of its directory a file is one component away: a
 * directory is kept from the first time on that it is listed, or that a file
 * in it is opened.
 *
 * A path leads where the kernel would go by it, from where its directory was
 * at that first time: who renames or replaces a directory afterwards does not
 * change what is read (docs/behaviour.md: one version for the job).  What ends
 * in "/", "." or ".." is left to the kernel.
 *
 * The program may close descriptors that are not its own, and have others
 * under their numbers.  So each is looked at before it is used, without a
 * question to the server, and never closed if it is not ours any more.  Their
 * numbers are high, so that those that the program gets are as in stock.
 * Nothing is kept over exec(2).  Thread-safe.
 */
#ifndef MI_DIRS_H
#define MI_DIRS_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "error.h"

struct mi_dirs;

/* What the filesystem was made to do.  An operation is one system call with a
 * path (open, stat) or the reading of a directory; reads of an open file's
 * bytes are counted in 'bytes' only.
 */
struct mi_traffic {
    atomic_uint_fast64_t operations;
    atomic_uint_fast64_t bytes;
};

/* Have the kernel make its table of descriptors large enough, while this
 * process has one thread: later that would take it some milliseconds, in which
 * it waits for all processors.
 */
void mi_dirs_prepare(void);

/* Keep up to 'most' directories; of more, those not used for long are closed.
 * 0: none, and every path is the kernel's; -1: a quarter of what the process
 * may have open, at most 256.  All operations are counted in 'traffic', which
 * is borrowed.
 */
int mi_dirs_create(struct mi_dirs **dirs, int most, struct mi_traffic *traffic,
                   struct mi_error *err);
/* Close all.  NULL is allowed. */
void mi_dirs_destroy(struct mi_dirs *dirs);

/* Count an operation. */
void mi_dirs_count(struct mi_dirs *dirs);
struct mi_traffic *mi_dirs_traffic(struct mi_dirs *dirs);

/* Of mi_dirs_stat(): more of that directory is needed next. */
#define MI_DIRS_NEAR 0x40000000

/* As openat(2), fstatat(2) ('flags': 0, AT_SYMLINK_NOFOLLOW, MI_DIRS_NEAR) and
 * readlinkat(2), for a path that is absolute; with errno.
 */
int mi_dirs_open(struct mi_dirs *dirs, const char *path, int flags);
int mi_dirs_stat(struct mi_dirs *dirs, const char *path, int flags,
                 struct stat *status);
ssize_t mi_dirs_readlink(struct mi_dirs *dirs, const char *path, char *target,
                         size_t size);

/* The directory 'path' is open as 'file', which stays the caller's: keep a
 * copy.
 */
void mi_dirs_keep(struct mi_dirs *dirs, const char *path, int file);

/* The path of a directory without symbolic links, as realpath(3): 0 with
 * 'real' (PATH_MAX), or -1 with errno.  Costs the opening of one that is not
 * kept, not a readlink(2) for each component.
 */
int mi_dirs_real(struct mi_dirs *dirs, const char *path, char *real);

/* The status of an open file as it is known here: right for what never changes
 * (type, device, inode), a hint for the rest.  No question to the server.
 * Returns 0, or -1 with errno.
 */
int mi_dirs_hint(int file, struct stat *status);

/* What kind of filesystem the open file, on 'device', lies on.  Asked once for
 * each device.
 */
enum mi_dirs_kind {
    MI_DIRS_OTHER = 0,
    MI_DIRS_MEMORY, /* the node's own: tmpfs, ramfs */
    /* FUSE: the kernel asks the server before it reads beyond the size that
     * it knows, which came with the name.
     */
    MI_DIRS_FUSE
};
enum mi_dirs_kind mi_dirs_kind(struct mi_dirs *dirs, int file, dev_t device);

/* How many are kept. */
int mi_dirs_kept(struct mi_dirs *dirs);

#endif
