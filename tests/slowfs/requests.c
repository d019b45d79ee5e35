#include "requests.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "answers.h"
#include "directory.h"
#include "lead.h"
#include "nodes.h"
#include "queue.h"
#include "toll.h"

#define FD_PATH_SIZE 32
#define BACKGROUND 128   /* requests that nobody waits for yet: read-ahead */
#define SMALL_READ 65536 /* bytes that the leader copies by the way */
/* Seconds for which the kernel keeps the attributes that come with a look-up:
 * those are for the system call that made it, stat(2) or open(2) and fstat(2),
 * as other filesystems' clients have it.  Whoever comes by the path later
 * looks it up again, and has new ones.
 */
#define ATTRIBUTES 60.0

static _Thread_local bool is_greeting; /* the first answer comes next */

bool slow_requests_is_greeting(void)
{
    bool was = is_greeting;

    is_greeting = false;
    return was;
}

/* Count a request for metadata, and give it to its server; return the answer
 * to be filled in, or NULL, and then it has been answered.
 */
static struct slow_answer *charge(fuse_req_t request, enum slow_kind kind)
{
    pid_t thread = fuse_req_ctx(request)->pid;

    return slow_answers_new(request, slow_toll_meta(thread, kind));
}

/* Hand an answer over, which is 'shape' unless 'code' is an errno. */
static void finish(struct slow_answer *answer, enum slow_shape shape, int code)
{
    answer->shape = code == 0 ? shape : SLOW_STATUS;
    answer->code = code;
    slow_answers_add(answer);
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
    struct slow_answer *answer = charge(request, SLOW_LOOKUP);
    struct fuse_entry_param *entry;
    uint64_t id = 0;
    int code;

    if (!answer)
        return;
    entry = &answer->of.entry;
    code = slow_nodes_lookup(parent, name, &id, &entry->attr);
    entry->ino = id;
    entry->entry_timeout = slow_toll_timeout();
    entry->attr_timeout =
        entry->entry_timeout > ATTRIBUTES ? entry->entry_timeout : ATTRIBUTES;
    /* An entry without a node says for how long there is none. */
    if (code == ENOENT && entry->entry_timeout > 0)
        code = 0;
    finish(answer, SLOW_ENTRY, code);
}

static void forget(fuse_req_t request, fuse_ino_t id, uint64_t count)
{
    slow_nodes_forget(id, count);
    fuse_reply_none(request);
}

static void get_attributes(fuse_req_t request, fuse_ino_t id,
                           struct fuse_file_info *file)
{
    struct slow_answer *answer = charge(request, SLOW_GETATTR);
    int code;

    (void)file;
    if (!answer)
        return;
    code = fstatat(slow_nodes_fd(id), "", &answer->of.status,
                   AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
    finish(answer, SLOW_ATTRIBUTES, code == 0 ? 0 : errno);
}

static void check_access(fuse_req_t request, fuse_ino_t id, int mask)
{
    struct slow_answer *answer = charge(request, SLOW_ACCESS);
    char path[FD_PATH_SIZE];

    if (!answer)
        return;
    path_of(id, path);
    finish(answer, SLOW_STATUS, access(path, mask) == 0 ? 0 : errno);
}

static void read_link(fuse_req_t request, fuse_ino_t id)
{
    struct slow_answer *answer = charge(request, SLOW_READLINK);
    ssize_t length = -1;

    if (!answer)
        return;
    errno = ENOMEM;
    answer->bytes = malloc(PATH_MAX);
    if (answer->bytes)
        length = readlinkat(slow_nodes_fd(id), "", answer->bytes, PATH_MAX);
    answer->size = length < 0 ? 0 : (size_t)length;
    finish(answer, SLOW_BYTES, length < 0 ? errno : 0);
}

static void open_file(fuse_req_t request, fuse_ino_t id,
                      struct fuse_file_info *file)
{
    struct slow_answer *answer = charge(request, SLOW_OPEN);
    char path[FD_PATH_SIZE];
    int fd = -1;

    if (!answer)
        return;
    path_of(id, path);
    errno = EROFS;
    if ((file->flags & O_ACCMODE) == O_RDONLY)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    answer->of.file = *file;
    answer->of.file.fh = (uint64_t)fd;
    answer->of.file.keep_cache = slow_toll_timeout() > 0;
    finish(answer, SLOW_FILE, fd < 0 ? errno : 0);
}

static void read_small(fuse_req_t request, int fd, size_t size, off_t offset)
{
    struct slow_answer *answer = slow_answers_new(request, 0);
    ssize_t got = -1;

    if (!answer)
        return;
    errno = ENOMEM;
    answer->bytes = malloc(size);
    if (answer->bytes)
        got = pread(fd, answer->bytes, size, offset);
    if (got >= 0) {
        answer->size = (size_t)got;
        answer->due = slow_toll_data(fuse_req_ctx(request)->pid, answer->size);
    }
    finish(answer, SLOW_BYTES, got < 0 ? errno : 0);
}

/* Wait and answer in this thread, while another one leads.  The bytes are
 * copied once, by the kernel, from the page cache.
 */
static void read_large(fuse_req_t request, int fd, size_t size, off_t offset)
{
    size_t before = (size_t)(offset % sysconf(_SC_PAGESIZE));
    struct stat status;
    char *pages;

    slow_lead_yield();
    if (fstat(fd, &status) != 0) {
        fuse_reply_err(request, errno);
        return;
    }
    if (offset < status.st_size && (off_t)size > status.st_size - offset)
        size = (size_t)(status.st_size - offset);
    pages = offset < status.st_size
                ? mmap(NULL, before + size, PROT_READ,
                       MAP_PRIVATE | MAP_POPULATE, fd, offset - (off_t)before)
                : MAP_FAILED;
    if (pages == MAP_FAILED) { /* the end; or it cannot be mapped */
        read_small(request, fd, size, offset);
        return;
    }
    slow_queue_sleep(slow_toll_data(fuse_req_ctx(request)->pid, size));
    fuse_reply_buf(request, pages + before, size);
    munmap(pages, before + size);
}

static void read_file(fuse_req_t request, fuse_ino_t id, size_t size,
                      off_t offset, struct fuse_file_info *file)
{
    (void)id;
    if (size <= SMALL_READ)
        read_small(request, (int)file->fh, size, offset);
    else
        read_large(request, (int)file->fh,
                   size < SLOW_LARGEST_READ ? size : SLOW_LARGEST_READ,
                   offset);
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
    struct slow_answer *answer = charge(request, SLOW_OPENDIR);
    char path[FD_PATH_SIZE];

    if (!answer)
        return;
    path_of(id, path);
    answer->of.file = *file;
    finish(answer, SLOW_DIRECTORY,
           slow_directory_open(path, &answer->of.file.fh));
}

static void read_directory(fuse_req_t request, fuse_ino_t id, size_t size,
                           off_t offset, struct fuse_file_info *file)
{
    struct slow_answer *answer = charge(request, SLOW_READDIR);
    ssize_t used = -1;

    (void)id;
    if (!answer)
        return;
    errno = ENOMEM;
    answer->bytes = malloc(size);
    if (answer->bytes)
        used = slow_directory_read(file->fh, request, offset, answer->bytes,
                                   size);
    answer->size = used < 0 ? 0 : (size_t)used;
    finish(answer, SLOW_BYTES, used < 0 ? errno : 0);
}

static void close_directory(fuse_req_t request, fuse_ino_t id,
                            struct fuse_file_info *file)
{
    (void)id;
    slow_directory_close(file->fh);
    fuse_reply_err(request, 0);
}

static void get_filesystem(fuse_req_t request, fuse_ino_t id)
{
    struct slow_answer *answer = charge(request, SLOW_OTHER);
    char path[FD_PATH_SIZE];

    if (!answer)
        return;
    path_of(id, path);
    finish(answer, SLOW_SPACE,
           statvfs(path, &answer->of.space) == 0 ? 0 : errno);
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
