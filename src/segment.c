#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Gigabytes of address space amid the process's other mappings would spread
 * its heap over more of it, for which Python's allocator has tables of 128
 * KiB.
 */
#define LARGE ((size_t)64 << 20)
#define APART ((void *)((uintptr_t)1 << (sizeof(void *) > 4 ? 45 : 30)))

static int map(struct mi_segment *segment, int protection, int flags, int file,
               const char *name, struct mi_error *err)
{
    /* A wish: the kernel takes another address where it cannot be. */
    void *base = mmap(segment->size < LARGE ? NULL : APART, segment->size,
                      protection, flags | MAP_NORESERVE, file, 0);

    if (base == MAP_FAILED)
        return mi_fail_errno(err, "cannot map %zu bytes of %s", segment->size,
                             name);
    segment->base = base;
    return 0;
}

int mi_segment_create(struct mi_segment *segment, int dir, const char *name,
                      size_t size, struct mi_error *err)
{
    struct mi_segment made = {.size = size, .file = -1};

    made.file = openat(
        dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (made.file < 0)
        return mi_fail_errno(err, "cannot create %s", name);
    if (ftruncate(made.file, (off_t)size) != 0)
        mi_fail_errno(err, "cannot size %s", name);
    else if (map(&made, PROT_READ | PROT_WRITE, MAP_SHARED, made.file, name,
                 err) == 0) {
        *segment = made;
        return 0;
    }
    close(made.file);
    unlinkat(dir, name, 0);
    return -1;
}

int mi_segment_create_private(struct mi_segment *segment, size_t size,
                              struct mi_error *err)
{
    struct mi_segment made = {.size = size, .file = -1};

    if (map(&made, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
            "private memory", err) != 0)
        return -1;
    *segment = made;
    return 0;
}

static int open_file(struct mi_segment *segment, int file, const char *name,
                     int writable, size_t least, struct mi_error *err)
{
    struct mi_segment made = {.file = -1};
    struct stat status;

    if (fstat(file, &status) != 0)
        return mi_fail_errno(err, "%s", name);
    if (status.st_uid != geteuid())
        return mi_fail(err, MI_ERRNO, EPERM, "%s belongs to user %u, not %u",
                       name, (unsigned)status.st_uid, (unsigned)geteuid());
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size < least)
        return mi_fail(err, MI_FORMAT, EBADMSG, "%s is not a segment of ours",
                       name);
    made.size = (size_t)status.st_size;
    if (map(&made, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
            file, name, err) != 0)
        return -1;
    *segment = made;
    return 0;
}

int mi_segment_open(struct mi_segment *segment, int dir, const char *name,
                    int writable, size_t least, struct mi_error *err)
{
    int rc;
    int file = openat(dir, name,
                      (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW |
                          O_NONBLOCK | O_CLOEXEC);

    if (file < 0)
        return mi_fail_errno(err, "cannot open %s", name);
    rc = open_file(segment, file, name, writable, least, err);
    close(file);
    return rc;
}

int mi_segment_reserve(const struct mi_segment *segment, uint64_t offset,
                       uint64_t size, struct mi_error *err)
{
    int rc;

    if (segment->file < 0 || size == 0)
        return 0;
    do {
        rc = posix_fallocate(segment->file, (off_t)offset, (off_t)size);
    } while (rc == EINTR);
    if (rc != 0)
        return mi_fail(err, MI_ERRNO, rc,
                       "cannot reserve %llu bytes of shared memory: %s",
                       (unsigned long long)size, strerror(rc));
    return 0;
}

void mi_segment_clear(struct mi_segment *segment)
{
    int saved = errno;

    if (segment->base)
        munmap(segment->base, segment->size);
    if (segment->file >= 0)
        close(segment->file);
    *segment = (struct mi_segment){.file = -1};
    errno = saved;
}
