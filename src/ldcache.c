#include "ldcache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_CACHE "/etc/ld.so.cache"

/* Far more than any system has: a few hundred KiB. */
#define SIZE_LIMIT ((off_t)256 << 20)

/* The file, in the machine's byte order:
 *
 *     struct old_header, old_header.count * struct old_entry, padding to 8
 *     struct header
 *     header.count * struct entry
 *     header.strings bytes of strings
 *     extensions
 *
 * The first line is there if it was written for the linkers before glibc 2.2
 * as well (by ldconfig's default before 2.32).  Offsets count from the start
 * of struct header.  Entries of one name are in the linker's order of
 * preference.
 */
struct old_header {
    char magic[12]; /* the last byte is padding */
    uint32_t count;
};

struct old_entry {
    int32_t flags;
    uint32_t key, value;
};

struct header {
    char magic[20];
    uint32_t count;
    uint32_t strings;
    uint8_t order; /* ORDER_...; 0 before glibc 2.33 */
    uint8_t unused[3];
    uint32_t extensions; /* their offset; 0: none */
    uint32_t reserved[3];
};

struct entry {
    int32_t flags;   /* of which library for which machine, FLAGS_... */
    uint32_t key;    /* offset of the name */
    uint32_t value;  /* offset of the path */
    uint32_t kernel; /* that it needs; all are newer, and 0 since glibc 2.36 */
    uint64_t special; /* not 0: for certain processors only */
};

_Static_assert(sizeof(struct old_header) == 16, "old header");
_Static_assert(sizeof(struct old_entry) == 12, "old entry");
_Static_assert(sizeof(struct header) == 48, "header");
_Static_assert(sizeof(struct entry) == 24, "entry");

#define OLD_MAGIC "ld.so-1.7.0"
#define MAGIC "glibc-ld.so.cache1.1"

enum { ORDER_MASK = 3, ORDER_UNSET = 0, ORDER_LITTLE = 2, ORDER_BIG = 3 };

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST_ORDER ORDER_LITTLE
#else
#define HOST_ORDER ORDER_BIG
#endif

/* ELF for glibc, and, above FLAGS_TYPE, which machine. */
enum { FLAGS_TYPE = 0xff, FLAGS_LIBC6 = 3 };

#if defined(__x86_64__) && !defined(__ILP32__)
#define HOST_FLAGS 0x0303
#elif defined(__aarch64__) && !defined(__ILP32__)
#define HOST_FLAGS 0x0a03
#elif defined(__powerpc64__)
#define HOST_FLAGS 0x0503
#elif defined(__riscv) && __riscv_xlen == 64 &&                               \
    defined(__riscv_float_abi_double)
#define HOST_FLAGS 0x1003
#elif defined(__loongarch64) && defined(__loongarch_double_float)
#define HOST_FLAGS 0x1203
#endif

struct mi_ldcache {
    unsigned char *bytes;
    size_t start; /* of struct header; it and its entries are in the file */
    size_t size;  /* from there to the end of the file */
    size_t count;
};

/* ---- format ------------------------------------------------------------- */

static int for_host(int32_t flags)
{
#ifdef HOST_FLAGS
    return flags == HOST_FLAGS;
#else
    return (flags & FLAGS_TYPE) == FLAGS_LIBC6;
#endif
}

/* The size of the part for old linkers, 0 if there is none. */
static size_t skip_old(const unsigned char *bytes, size_t size)
{
    struct old_header old;
    uint64_t end;

    if (size < sizeof(old) || memcmp(bytes, OLD_MAGIC, strlen(OLD_MAGIC)) != 0)
        return 0;
    memcpy(&old, bytes, sizeof(old));
    end = sizeof(old) + (uint64_t)old.count * sizeof(struct old_entry);
    end = (end + 7) / 8 * 8;
    return end < size ? (size_t)end : size;
}

static int parse(struct mi_ldcache *cache, size_t size, struct mi_error *err)
{
    struct header header;
    size_t order;

    cache->start = skip_old(cache->bytes, size);
    cache->size = size - cache->start;
    if (cache->size < sizeof(header))
        return mi_fail(err, MI_FORMAT, 0, "truncated: %zu bytes", size);
    memcpy(&header, cache->bytes + cache->start, sizeof(header));
    if (memcmp(header.magic, MAGIC, sizeof(header.magic)) != 0)
        return mi_fail(err, MI_FORMAT, 0, "not a cache of libraries");
    order = header.order & ORDER_MASK;
    if (order != ORDER_UNSET && order != HOST_ORDER)
        return mi_fail(err, MI_FORMAT, 0, "of another byte order");
    cache->count = header.count;
    size = cache->size - sizeof(header);
    if (cache->count > size / sizeof(struct entry) ||
        header.strings > size - cache->count * sizeof(struct entry))
        return mi_fail(err, MI_FORMAT, 0,
                       "truncated: %zu libraries and %u bytes of names do not "
                       "fit into %zu bytes",
                       cache->count, header.strings, size);
    return 0;
}

/* NULL if it does not lie within the file. */
static const char *string_at(const struct mi_ldcache *cache, uint32_t offset)
{
    const char *string = (const char *)cache->bytes + cache->start + offset;

    if (offset >= cache->size || !memchr(string, 0, cache->size - offset))
        return NULL;
    return string;
}

const char *mi_ldcache_find(const struct mi_ldcache *cache, const char *name)
{
    const unsigned char *at =
        cache->bytes + cache->start + sizeof(struct header);
    const char *string;
    struct entry entry;

    for (size_t i = 0; i < cache->count; i++, at += sizeof(entry)) {
        memcpy(&entry, at, sizeof(entry));
        if (entry.special != 0 || !for_host(entry.flags))
            continue;
        string = string_at(cache, entry.key);
        if (!string || strcmp(string, name) != 0)
            continue;
        string = string_at(cache, entry.value);
        return string && string[0] == '/' ? string : NULL;
    }
    return NULL;
}

/* ---- file --------------------------------------------------------------- */

/* All of the file that is there. */
static int read_bytes(struct mi_ldcache *cache, int fd, size_t size,
                      size_t *used, struct mi_error *err)
{
    ssize_t n = 1;

    *used = 0;
    cache->bytes = malloc(size ? size : 1);
    if (!cache->bytes)
        return mi_fail_errno(err, "%zu bytes", size);
    for (; *used < size && n != 0; *used += (size_t)n) {
        n = read(fd, cache->bytes + *used, size - *used);
        if (n < 0)
            return mi_fail_errno(err, "read");
    }
    return 0;
}

static int read_file(struct mi_ldcache *cache, int fd, struct mi_error *err)
{
    struct stat status;
    size_t size;

    if (fstat(fd, &status) < 0)
        return mi_fail_errno(err, "stat");
    if (!S_ISREG(status.st_mode) || status.st_size > SIZE_LIMIT)
        return mi_fail(err, MI_ERRNO, S_ISREG(status.st_mode) ? EFBIG : EINVAL,
                       "not a cache of libraries");
    if (read_bytes(cache, fd, (size_t)status.st_size, &size, err) < 0)
        return -1;
    return parse(cache, size, err);
}

int mi_ldcache_open(struct mi_ldcache **cache, const char *file,
                    struct mi_error *err)
{
    const char *path = file ? file : SYSTEM_CACHE;
    struct mi_ldcache *made;
    int fd, rc;

    /* A FIFO would block. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mi_fail_errno(err, "%.500s", path);
    made = calloc(1, sizeof(*made));
    rc = made ? read_file(made, fd, err) : mi_fail_errno(err, "memory");
    close(fd);
    if (rc < 0) {
        mi_ldcache_close(made);
        return mi_fail_context(err, "%.500s", path);
    }
    *cache = made;
    return 0;
}

void mi_ldcache_close(struct mi_ldcache *cache)
{
    int saved = errno;

    if (cache)
        free(cache->bytes);
    free(cache);
    errno = saved;
}
