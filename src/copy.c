#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pace.h"

#define PIECE (1u << 20) /* bytes that are copied at a time */

int mi_identity_same(const struct mi_identity *a, const struct mi_identity *b)
{
    return a->device == b->device && a->inode == b->inode &&
           a->size == b->size && a->mtime == b->mtime && a->ctime == b->ctime;
}

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

int mi_copy_open(struct mi_copy *copy, struct mi_dirs *dirs, const char *path)
{
    struct stat status;
    int file = mi_dirs_open(dirs, path, O_RDONLY | O_NONBLOCK);

    *copy = (struct mi_copy){.file = -1, .part.file = -1};
    if (file < 0)
        return errno;
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_size == 0) {
        close(file);
        return EINVAL;
    }
    copy->file = file;
    copy->mode = (uint32_t)status.st_mode;
    copy->identity =
        (struct mi_identity){.device = (uint64_t)status.st_dev,
                             .inode = (uint64_t)status.st_ino,
                             .size = (uint64_t)status.st_size,
                             .mtime = nanoseconds(&status.st_mtim),
                             .ctime = nanoseconds(&status.st_ctim)};
    return 0;
}

/* Both return the number of bytes, 0 at the end, or -1 with errno or 'err'. */
static ssize_t copy_by_kernel(int file, const struct mi_part *part,
                              uint64_t offset)
{
    off_t from = (off_t)offset;
    uint64_t rest = part->size - offset;
    ssize_t n;

    if (lseek(part->file, from, SEEK_SET) < 0)
        return -1;
    mi_lap_call();
    n = sendfile(part->file, file, &from, rest < PIECE ? rest : PIECE);
    mi_lap_return();
    return n;
}

static ssize_t copy_by_hand(int file, const struct mi_part *part,
                            uint64_t offset, void *piece, struct mi_error *err)
{
    uint64_t rest = part->size - offset;
    ssize_t n;

    do {
        n = pread(file, piece, rest < PIECE ? rest : PIECE, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return mi_fail_errno(err, "cannot read");
    if (n > 0 && mi_part_write(part, offset, piece, (size_t)n, err) != 0)
        return -1;
    return n;
}

/* sendfile(2) copies each byte once, from the page cache; not every filesystem
 * has it.
 */
int mi_copy_fill(int file, const struct mi_part *part,
                 struct mi_traffic *traffic, struct mi_error *err)
{
    uint64_t offset = 0;
    void *piece = NULL;
    ssize_t n = 1;

    /* A hint: requests of twice the size. */
    (void)posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL);
    while (offset < part->size && n > 0) {
        if (!piece) {
            n = copy_by_kernel(file, part, offset);
            if (n >= 0 || errno == EINTR) {
                offset += n > 0 ? (uint64_t)n : 0;
                n = n < 0 ? 1 : n;
                continue;
            }
            piece = malloc(PIECE);
        }
        n = piece ? copy_by_hand(file, part, offset, piece, err)
                  : mi_fail_errno(err, "mirror");
        offset += n > 0 ? (uint64_t)n : 0;
    }
    free(piece);
    atomic_fetch_add(&traffic->bytes, offset);
    if (n == 0)
        return mi_fail(err, MI_ERRNO, EIO, "became shorter while read");
    return n < 0 ? -1 : 0;
}

int mi_copy_map(const struct mi_part *part, void **bytes, struct mi_error *err)
{
    void *mapped = mmap(NULL, part->size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
                        part->file, 0);

    if (mapped == MAP_FAILED)
        return mi_fail_errno(err, "cannot map the mirror's copy");
    *bytes = mapped;
    return 0;
}

int mi_copy_make(struct mi_copy *copy, struct mi_mirror *mirror, uint64_t id,
                 const void *image, struct mi_traffic *traffic,
                 struct mi_error *err)
{
    uint64_t size = copy->identity.size;
    struct mi_part part;
    void *bytes = NULL;
    int rc;

    if (mi_mirror_begin(mirror, id, size, copy->mode, &part, err) != 0)
        return -1;
    rc = image ? mi_part_write(&part, 0, image, size, err)
               : mi_copy_fill(copy->file, &part, traffic, err);
    if (rc == 0)
        rc = mi_copy_map(&part, &bytes, err);
    if (rc != 0) {
        mi_mirror_abandon(mirror, &part);
        return -1;
    }
    mi_part_close(&part);
    copy->part = part;
    copy->bytes = bytes;
    return 0;
}

void mi_copy_clear(struct mi_copy *copy, struct mi_mirror *mirror)
{
    if (copy->bytes)
        munmap(copy->bytes, copy->identity.size);
    if (copy->part.id)
        mi_mirror_abandon(mirror, &copy->part);
    if (copy->file >= 0)
        close(copy->file);
    *copy = (struct mi_copy){.file = -1, .part.file = -1};
}
