#include "files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TMPFS_SUPER 0x01021994
#define RAMFS_SUPER 0x858458f6
#define PYC_HEADER 16
#define FILE_MAX (1u << 30) /* bytes; larger files are left to their users */

static void count(struct mi_traffic *traffic, uint64_t bytes)
{
    atomic_fetch_add(&traffic->operations, 1);
    atomic_fetch_add(&traffic->bytes, bytes);
}

void mi_answer_clear(struct mi_answer *answer)
{
    int saved = errno;

    free(answer->data);
    *answer = (struct mi_answer){0};
    errno = saved;
}

static void start(struct mi_answer *answer, enum mi_query query,
                  const char *path)
{
    *answer = (struct mi_answer){0};
    answer->entry.query = query;
    answer->entry.kind = MI_KIND_ABSENT;
    answer->entry.key = path;
    answer->entry.key_size = strlen(path);
}

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

void mi_entry_status(struct mi_entry *entry, const struct stat *status)
{
    entry->mtime = nanoseconds(&status->st_mtim);
    entry->file_size = (uint64_t)status->st_size;
    entry->device = (uint64_t)status->st_dev;
    entry->inode = (uint64_t)status->st_ino;
    entry->mode = (uint32_t)status->st_mode;
}

static void give(struct mi_answer *answer, enum mi_kind kind, void *data,
                 size_t size)
{
    answer->entry.kind = kind;
    answer->entry.code = 0;
    answer->entry.payload = data;
    answer->entry.size = size;
    answer->data = data;
}

/* ---- directories -------------------------------------------------------- */

struct names {
    char *text; /* type, name, NUL; one after the other */
    size_t used, room;
    size_t *at; /* offset of each in 'text' */
    size_t count, slots;
};

static int grow(void **block, size_t *room, size_t need, size_t unit)
{
    size_t want = *room ? *room : 256;
    void *bigger;

    if (need <= *room)
        return 0;
    while (want < need)
        want *= 2;
    bigger = realloc(*block, want * unit);
    if (!bigger)
        return -1;
    *block = bigger;
    *room = want;
    return 0;
}

static int add_name(struct names *names, char type, const char *name)
{
    size_t size = strlen(name) + 1;

    if (grow((void **)&names->text, &names->room, names->used + size + 1, 1) !=
            0 ||
        grow((void **)&names->at, &names->slots, names->count + 1,
             sizeof(*names->at)) != 0)
        return -1;
    names->at[names->count++] = names->used;
    names->text[names->used] = type;
    memcpy(names->text + names->used + 1, name, size);
    names->used += size + 1;
    return 0;
}

static char type_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : 'o';
}

/* Type of an entry (struct mi_entries): what readdir() says, or a look at it
 * where that does not tell (symbolic links, filesystems without types).
 */
static char type_of(struct mi_traffic *traffic, int dir,
                    const struct dirent *entry)
{
    struct stat status;

    if (entry->d_type == DT_REG)
        return 'f';
    if (entry->d_type == DT_DIR)
        return 'd';
    if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN)
        return 'o';
    if (entry->d_type == DT_UNKNOWN) {
        count(traffic, 0);
        if (fstatat(dir, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            return 'o';
        if (!S_ISLNK(status.st_mode))
            return type_of_mode(status.st_mode);
    }
    count(traffic, 0);
    if (fstatat(dir, entry->d_name, &status, 0) != 0)
        return 'O';
    return (char)toupper(type_of_mode(status.st_mode));
}

static int compare(const void *a, const void *b, void *text)
{
    const char *base = text;

    return strcmp(base + *(const size_t *)a + 1,
                  base + *(const size_t *)b + 1);
}

/* Make struct mi_entries of the collected names. */
static int pack(struct names *names, struct mi_answer *answer)
{
    size_t head = sizeof(uint32_t) * (1 + names->count);
    size_t size = head + names->used;
    struct mi_entries *entries;
    char *text;

    if (size > UINT32_MAX)
        return -1;
    entries = malloc(size);
    if (!entries)
        return -1;
    if (names->count > 0)
        qsort_r(names->at, names->count, sizeof(*names->at), compare,
                names->text);
    entries->count = (uint32_t)names->count;
    text = (char *)entries + head;
    if (names->used > 0)
        memcpy(text, names->text, names->used);
    for (size_t i = 0; i < names->count; i++)
        entries->offset[i] = (uint32_t)(head + names->at[i]);
    give(answer, MI_KIND_LIST, entries, size);
    return 0;
}

/* Collect all entries of 'stream'.  Returns an errno value. */
static int collect(struct mi_traffic *traffic, DIR *stream,
                   struct names *names)
{
    struct dirent *entry;

    for (errno = 0; (entry = readdir(stream)) != NULL; errno = 0) {
        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0)
            continue;
        if (add_name(names, type_of(traffic, dirfd(stream), entry),
                     entry->d_name) != 0)
            return ENOMEM;
    }
    return errno;
}

static int in_memory(int dir)
{
    struct statfs fs;

    if (fstatfs(dir, &fs) != 0)
        return 0;
    return (uint32_t)fs.f_type == TMPFS_SUPER ||
           (uint32_t)fs.f_type == RAMFS_SUPER;
}

static int list_stream(struct mi_traffic *traffic, DIR *stream,
                       struct mi_answer *answer, struct mi_error *err)
{
    struct names names = {0};
    struct stat status;
    int rc = 0;
    int code = collect(traffic, stream, &names);

    count(traffic, names.used);
    if (in_memory(dirfd(stream)))
        answer->entry.flags |= MI_FLAG_LOCAL;
    if (fstat(dirfd(stream), &status) == 0)
        mi_entry_status(&answer->entry, &status);
    answer->entry.code = code;
    if (code == ENOMEM || (code == 0 && pack(&names, answer) != 0))
        rc = mi_fail(err, MI_ERRNO, ENOMEM, "no memory for the listing of %s",
                     answer->entry.key);
    free(names.text);
    free(names.at);
    return rc;
}

int mi_files_list(struct mi_traffic *traffic, const char *path,
                  struct mi_answer *answer, struct mi_error *err)
{
    struct stat status;
    DIR *stream;
    int dir, rc;

    start(answer, MI_LIST, path);
    count(traffic, 0);
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        answer->entry.code = errno;
        return 0;
    }
    if (fstat(dir, &status) == 0)
        answer->entry.mtime = nanoseconds(&status.st_mtim);
    stream = fdopendir(dir);
    if (!stream) {
        answer->entry.code = errno;
        close(dir);
        return 0;
    }
    rc = list_stream(traffic, stream, answer, err);
    closedir(stream);
    return rc;
}

/* ---- files -------------------------------------------------------------- */

/* A STAT with all of 'status', and 'target' unless that is NULL. */
static int give_status(struct mi_answer *answer, const struct stat *status,
                       const char *target, struct mi_error *err)
{
    size_t more = target ? strlen(target) + 1 : 0;
    struct mi_status *data = malloc(sizeof(*data) + more);

    if (!data)
        return mi_fail(err, MI_ERRNO, ENOMEM, "no memory for the status of %s",
                       answer->entry.key);
    *data = (struct mi_status){.atime = nanoseconds(&status->st_atim),
                               .ctime = nanoseconds(&status->st_ctim),
                               .nlink = (uint64_t)status->st_nlink,
                               .uid = (uint64_t)status->st_uid,
                               .gid = (uint64_t)status->st_gid,
                               .rdev = (uint64_t)status->st_rdev,
                               .blksize = (uint64_t)status->st_blksize,
                               .blocks = (uint64_t)status->st_blocks};
    if (more)
        memcpy(data + 1, target, more);
    mi_entry_status(&answer->entry, status);
    give(answer, MI_KIND_STAT, data, sizeof(*data) + more);
    return 0;
}

int mi_files_stat(struct mi_traffic *traffic, const char *path,
                  struct mi_answer *answer, struct mi_error *err)
{
    struct stat status;

    start(answer, MI_STAT, path);
    count(traffic, 0);
    if (stat(path, &status) != 0) {
        answer->entry.code = errno;
        return 0;
    }
    return give_status(answer, &status, NULL, err);
}

int mi_files_lstat(struct mi_traffic *traffic, const char *path,
                   struct mi_answer *answer, struct mi_error *err)
{
    char target[PATH_MAX];
    struct stat status;
    ssize_t size = 0;

    start(answer, MI_LSTAT, path);
    count(traffic, 0);
    if (lstat(path, &status) != 0) {
        answer->entry.code = errno;
        return 0;
    }
    if (!S_ISLNK(status.st_mode))
        return give_status(answer, &status, NULL, err);
    count(traffic, 0);
    size = readlink(path, target, sizeof(target) - 1);
    if (size < 0) {
        answer->entry.code = errno;
        return 0;
    }
    target[size] = '\0';
    return give_status(answer, &status, target, err);
}

int mi_files_real(struct mi_traffic *traffic, const char *path,
                  struct mi_answer *answer, struct mi_error *err)
{
    char *real;

    start(answer, MI_REAL, path);
    for (const char *p = path; *p; p++)
        if (*p == '/')
            count(traffic, 0); /* one readlink(2) per component */
    real = realpath(path, NULL);
    if (!real && errno == ENOMEM)
        return mi_fail(err, MI_ERRNO, ENOMEM, "no memory to resolve %s", path);
    answer->entry.code = errno;
    if (real)
        give(answer, MI_KIND_STAT, real, strlen(real) + 1);
    return 0;
}

/* Read the rest of 'file' into an allocated block; 'expected' is a guess of
 * its size.  Returns an errno value.
 */
static int read_all(int file, size_t expected, void **data, size_t *size)
{
    size_t room = expected + 1, used = 0;
    char *block = malloc(room), *bigger;
    ssize_t n;

    if (!block)
        return ENOMEM;
    while ((n = read(file, block + used, room - used)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            n = errno;
            free(block);
            return (int)n;
        }
        used += (size_t)n;
        if (used < room)
            continue;
        bigger = realloc(block, room * 2);
        if (!bigger) {
            free(block);
            return ENOMEM;
        }
        block = bigger;
        room *= 2;
    }
    *data = block;
    *size = used;
    return 0;
}

/* Open and read a regular file of up to 'most' bytes.  Returns an errno value;
 * EFBIG for a larger one.
 */
static int read_path(struct mi_traffic *traffic, const char *path,
                     uint64_t most, struct stat *status, void **data,
                     size_t *size)
{
    int file, code;

    count(traffic, 0);
    file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return errno;
    if (fstat(file, status) != 0)
        code = errno;
    else if (S_ISDIR(status->st_mode))
        code = EISDIR;
    else if (!S_ISREG(status->st_mode))
        code = EINVAL;
    else if (status->st_size > (off_t)FILE_MAX ||
             (uint64_t)status->st_size > most)
        code = EFBIG;
    else
        code = read_all(file, (size_t)status->st_size, data, size);
    close(file);
    if (code == 0)
        atomic_fetch_add(&traffic->bytes, *size);
    return code;
}

int mi_files_read(struct mi_traffic *traffic, const char *path, uint64_t most,
                  struct mi_answer *answer, struct mi_error *err)
{
    struct stat status;
    void *data;
    size_t size;
    int code;

    start(answer, MI_READ, path);
    code = read_path(traffic, path, most, &status, &data, &size);
    if (code == ENOMEM)
        return mi_fail(err, MI_ERRNO, ENOMEM, "no memory to read %s", path);
    answer->entry.code = code == EFBIG ? MI_READ_REFUSED : code;
    if (code == 0) {
        mi_entry_status(&answer->entry, &status);
        give(answer, MI_KIND_FILE, data, size);
    }
    return 0;
}

static uint32_t little_endian(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

/* Does this .pyc belong to the source that 'source' describes? */
static int valid(const struct mi_bytecode *rule, const struct stat *source,
                 const unsigned char *pyc, size_t size)
{
    uint32_t flags;

    if (size < PYC_HEADER || memcmp(pyc, rule->magic, 4) != 0)
        return 0;
    flags = little_endian(pyc + 4);
    if (flags & ~3u)
        return 0;
    if (flags & 1u) /* hash-based; bit 1: to be checked */
        return rule->check_hash == 'n' ||
               (rule->check_hash == 'd' && !(flags & 2u));
    return little_endian(pyc + 8) == (uint32_t)source->st_mtim.tv_sec &&
           little_endian(pyc + 12) == (uint32_t)source->st_size;
}

int mi_files_code(struct mi_traffic *traffic, const struct mi_bytecode *rule,
                  const char *path, const char *cached,
                  struct mi_answer *answer, struct mi_error *err)
{
    struct stat source, status;
    void *data;
    size_t size;
    int code = ENOENT;

    start(answer, MI_CODE, path);
    count(traffic, 0);
    if (stat(path, &source) != 0) {
        answer->entry.code = errno;
        return 0;
    }
    mi_entry_status(&answer->entry, &source);
    answer->entry.code = MI_CODE_PENDING;
    if (cached[0])
        code = read_path(traffic, cached, FILE_MAX, &status, &data, &size);
    if (code == ENOMEM)
        return mi_fail(err, MI_ERRNO, ENOMEM, "no memory to read %s", cached);
    if (code != 0)
        return 0;
    if (valid(rule, &source, data, size))
        give(answer, MI_KIND_FILE, data, size);
    else
        free(data);
    return 0;
}
