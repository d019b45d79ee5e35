#include "requests.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "nodes.h"
#include "toll.h"

#define FD_PATH_SIZE 32
#define BACKGROUND 128 /* requests that nobody waits for yet: read-ahead */
/* Seconds for which the kernel keeps the attributes that come with a look-up:
 * those are for the system call that made it, stat(2) or open(2) and fstat(2),
 * as other filesystems' clients have it.  Whoever comes by the path later
 * looks it up again, and has new ones.
 */
#define ATTRIBUTES 60.0

struct directory {
    DIR *stream;
    struct dirent *pending; /* read, and not in an answer yet */
    off_t offset;           /* of the pending one, or of the next */
};

static _Thread_local bool is_greeting; /* the first answer comes next */

bool slow_requests_is_greeting(void)
{
    bool was = is_greeting;

    is_greeting = false;
    return was;
}

static void charge(fuse_req_t request, enum slow_kind kind)
{
    slow_toll_meta(fuse_req_ctx(request)->pid, kind);
}

static void path_of(fuse_ino_t id, char path[FD_PATH_SIZE])
{
    snprintf(path, FD_PATH_SIZE, "/proc/self/fd/%d", slow_nodes_fd(id));
}

static void start(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->want &=
        ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                    FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ);
    is_greeting = true;
    connection->max_read = SLOW_LARGEST_READ;
    connection->max_background = BACKGROUND;
    connection->congestion_threshold = BACKGROUND;
}

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry;
    uint64_t id = 0;
    int code;

    memset(&entry, 0, sizeof(entry));
    charge(request, SLOW_LOOKUP);
    code = slow_nodes_lookup(parent, name, &id, &entry.attr);
    entry.ino = id;
    entry.entry_timeout = slow_toll_timeout();
    entry.attr_timeout =
        entry.entry_timeout > ATTRIBUTES ? entry.entry_timeout : ATTRIBUTES;
    if (code != 0 && (code != ENOENT || entry.entry_timeout <= 0))
        fuse_reply_err(request, code);
    else if (fuse_reply_entry(request, &entry) != 0 && code == 0)
        slow_nodes_forget(id, 1);
}

static void forget(fuse_req_t request, fuse_ino_t id, uint64_t count)
{
    slow_nodes_forget(id, count);
    fuse_reply_none(request);
}

static void get_attributes(fuse_req_t request, fuse_ino_t id,
                           struct fuse_file_info *file)
{
    struct stat status;

    (void)file;
    charge(request, SLOW_GETATTR);
    if (fstatat(slow_nodes_fd(id), "", &status,
                AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0)
        fuse_reply_attr(request, &status, slow_toll_timeout());
    else
        fuse_reply_err(request, errno);
}

static void check_access(fuse_req_t request, fuse_ino_t id, int mask)
{
    char path[FD_PATH_SIZE];

    path_of(id, path);
    charge(request, SLOW_ACCESS);
    fuse_reply_err(request, access(path, mask) == 0 ? 0 : errno);
}

static void read_link(fuse_req_t request, fuse_ino_t id)
{
    char target[PATH_MAX + 1];
    ssize_t length;

    charge(request, SLOW_READLINK);
    length = readlinkat(slow_nodes_fd(id), "", target, sizeof(target) - 1);
    if (length < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    target[length] = '\0';
    fuse_reply_readlink(request, target);
}

static void open_file(fuse_req_t request, fuse_ino_t id,
                      struct fuse_file_info *file)
{
    char path[FD_PATH_SIZE];
    int fd;

    path_of(id, path);
    charge(request, SLOW_OPEN);
    if ((file->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(request, EROFS);
        return;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    file->fh = (uint64_t)fd;
    file->keep_cache = slow_toll_timeout() > 0;
    if (fuse_reply_open(request, file) != 0)
        close(fd);
}

static void read_file(fuse_req_t request, fuse_ino_t id, size_t size,
                      off_t offset, struct fuse_file_info *file)
{
    static _Thread_local char buffer[SLOW_LARGEST_READ];
    ssize_t got;

    (void)id;
    if (size > sizeof(buffer))
        size = sizeof(buffer);
    got = pread((int)file->fh, buffer, size, offset);
    if (got < 0) {
        fuse_reply_err(request, errno);
    } else {
        slow_toll_data(fuse_req_ctx(request)->pid, (size_t)got);
        fuse_reply_buf(request, buffer, (size_t)got);
    }
}

static void close_file(fuse_req_t request, fuse_ino_t id,
                       struct fuse_file_info *file)
{
    (void)id;
    close((int)file->fh);
    fuse_reply_err(request, 0);
}

static void open_directory(fuse_req_t request, fuse_ino_t id,
                           struct fuse_file_info *file)
{
    struct directory *directory = calloc(1, sizeof(*directory));
    char path[FD_PATH_SIZE];

    path_of(id, path);
    charge(request, SLOW_OPENDIR);
    if (directory)
        directory->stream = opendir(path);
    if (!directory || !directory->stream) {
        fuse_reply_err(request, directory ? errno : ENOMEM);
        free(directory);
        return;
    }
    file->fh = (uint64_t)(uintptr_t)directory;
    if (fuse_reply_open(request, file) != 0) {
        closedir(directory->stream);
        free(directory);
    }
}

/* Fill 'buffer' with entries from where the directory stands; return the
 * bytes used, or -1 with errno set.
 */
static ssize_t fill(fuse_req_t request, struct directory *directory,
                    char *buffer, size_t size)
{
    size_t used = 0, needed;
    struct dirent *entry;
    struct stat status;

    memset(&status, 0, sizeof(status));
    for (;;) {
        if (!directory->pending) {
            errno = 0;
            directory->pending = readdir(directory->stream);
            if (!directory->pending)
                return errno != 0 && used == 0 ? -1 : (ssize_t)used;
        }
        entry = directory->pending;
        status.st_ino = entry->d_ino;
        status.st_mode = (mode_t)entry->d_type << 12;
        needed = fuse_add_direntry(request, buffer + used, size - used,
                                   entry->d_name, &status, entry->d_off);
        if (needed > size - used)
            return (ssize_t)used;
        used += needed;
        directory->offset = entry->d_off;
        directory->pending = NULL;
    }
}

static void read_directory(fuse_req_t request, fuse_ino_t id, size_t size,
                           off_t offset, struct fuse_file_info *file)
{
    struct directory *directory = (struct directory *)(uintptr_t)file->fh;
    char *buffer = malloc(size);
    ssize_t used = -1;

    (void)id;
    charge(request, SLOW_READDIR);
    if (!buffer) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    if (offset != directory->offset) {
        seekdir(directory->stream, offset);
        directory->pending = NULL;
        directory->offset = offset;
    }
    used = fill(request, directory, buffer, size);
    if (used < 0)
        fuse_reply_err(request, errno);
    else
        fuse_reply_buf(request, buffer, (size_t)used);
    free(buffer);
}

static void close_directory(fuse_req_t request, fuse_ino_t id,
                            struct fuse_file_info *file)
{
    struct directory *directory = (struct directory *)(uintptr_t)file->fh;

    (void)id;
    closedir(directory->stream);
    free(directory);
    fuse_reply_err(request, 0);
}

static void get_filesystem(fuse_req_t request, fuse_ino_t id)
{
    char path[FD_PATH_SIZE];
    struct statvfs status;

    path_of(id, path);
    charge(request, SLOW_OTHER);
    if (statvfs(path, &status) == 0)
        fuse_reply_statfs(request, &status);
    else
        fuse_reply_err(request, errno);
}

/* What is not here (flush, extended attributes, ...) the library answers by
 * ENOSYS, and the kernel does not ask again.
 */
const struct fuse_lowlevel_ops slow_requests = {
    .init = start,
    .lookup = lookup,
    .forget = forget,
    .getattr = get_attributes,
    .access = check_access,
    .readlink = read_link,
    .open = open_file,
    .read = read_file,
    .release = close_file,
    .opendir = open_directory,
    .readdir = read_directory,
    .releasedir = close_directory,
    .statfs = get_filesystem,
};
