#include "files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block.h"
#include "pace.h"

#define PYC_HEADER 16
#define FILE_MAX (1u << 30) /* bytes; larger files are left to their users */
#define UNKNOWN (64u << 10) /* bytes to begin with for a file of any size */
#define ENTRIES                                                               \
    (64u << 10) /* bytes of a directory that are read at a time               \
                 */

static void count_bytes(struct mi_dirs *dirs, uint64_t bytes)
{
    atomic_fetch_add(&mi_dirs_traffic(dirs)->bytes, bytes);
}

void mi_answer_clear(struct mi_answer *answer)
{
    mi_block_free(answer->data);
    *answer = (struct mi_answer){0};
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
    entry->changed = nanoseconds(&status->st_ctim);
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
    bigger = mi_block_resize(*block, want * unit);
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
static char type_of(struct mi_dirs *dirs, int dir,
                    const struct dirent64 *entry)
{
    const unsigned mask = STATX_TYPE; /* it never changes: no need to ask */
    struct statx status;

    if (entry->d_type == DT_REG)
        return 'f';
    if (entry->d_type == DT_DIR)
        return 'd';
    if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN)
        return 'o';
    if (entry->d_type == DT_UNKNOWN) {
        mi_dirs_count(dirs);
        if (statx(dir, entry->d_name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC,
                  mask, &status) != 0)
            return 'o';
        if (!S_ISLNK(status.stx_mode))
            return type_of_mode(status.stx_mode);
    }
    mi_dirs_count(dirs);
    if (statx(dir, entry->d_name, AT_STATX_DONT_SYNC, mask, &status) != 0)
        return 'O';
    return (char)toupper(type_of_mode(status.stx_mode));
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
    entries = mi_block_new(size);
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

static int is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Collect the entries in 'size' bytes of a directory.  Returns an errno value.
 */
static int collect_some(struct mi_dirs *dirs, int dir, const char *bytes,
                        size_t size, struct names *names)
{
    const struct dirent64 *entry;

    for (size_t at = 0; at < size; at += entry->d_reclen) {
        entry = (const void *)(bytes + at);
        if (!is_dot(entry->d_name) &&
            add_name(names, type_of(dirs, dir, entry), entry->d_name) != 0)
            return ENOMEM;
    }
    return 0;
}

/* Collect all entries of the directory.  Returns an errno value.  Without
 * opendir(3), which would ask for its status.
 */
static int collect(struct mi_dirs *dirs, int dir, struct names *names)
{
    char *bytes = mi_block_new(ENTRIES);
    ssize_t size = 1;
    int code = bytes ? 0 : ENOMEM;

    while (code == 0 && size > 0) {
        mi_lap_call();
        size = getdents64(dir, bytes, ENTRIES);
        mi_lap_return();
        code = size < 0 ? errno
                        : collect_some(dirs, dir, bytes, (size_t)size, names);
    }
    mi_block_free(bytes);
    return code;
}

static int list_open(struct mi_dirs *dirs, int dir, struct mi_answer *answer,
                     struct mi_error *err)
{
    struct names names = {0};
    struct stat status;
    int rc = 0;
    int code = collect(dirs, dir, &names);

    count_bytes(dirs, names.used);
    if (mi_dirs_hint(dir, &status) == 0 || fstat(dir, &status) == 0) {
        mi_entry_status(&answer->entry, &status);
        if (mi_dirs_kind(dirs, dir, status.st_dev) == MI_DIRS_MEMORY)
            answer->entry.flags |= MI_FLAG_LOCAL;
    }
    answer->entry.code = code;
    if (code == ENOMEM || (code == 0 && pack(&names, answer) != 0))
        rc = mi_fail(err, MI_ERRNO, ENOMEM, "no memory for the listing of %s",
                     answer->entry.key);
    mi_block_free(names.text);
    mi_block_free(names.at);
    return rc;
}

int mi_files_list(struct mi_dirs *dirs, const char *path,
                  struct mi_answer *answer, struct mi_error *err)
{
    int dir, rc;

    start(answer, MI_LIST, path);
    dir = mi_dirs_open(dirs, path, O_RDONLY | O_DIRECTORY);
    if (dir < 0) {
        answer->entry.code = errno;
        return 0;
    }
    mi_dirs_count(dirs);
    rc = list_open(dirs, dir, answer, err);
    if (answer->entry.kind == MI_KIND_LIST)
        mi_dirs_keep(dirs, path, dir);
    close(dir);
    return rc;
}

/* ---- files -------------------------------------------------------------- */

/* A STAT with all of 'status', and 'target' unless that is NULL. */
static int give_status(struct mi_answer *answer, const struct stat *status,
                       const char *target, struct mi_error *err)
{
    size_t more = target ? strlen(target) + 1 : 0;
    struct mi_status *data = mi_block_new(sizeof(*data) + more);

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

int mi_files_stat(struct mi_dirs *dirs, const char *path,
                  struct mi_answer *answer, struct mi_error *err)
{
    struct stat status;

    start(answer, MI_STAT, path);
    if (mi_dirs_stat(dirs, path, 0, &status) != 0) {
        answer->entry.code = errno;
        return 0;
    }
    return give_status(answer, &status, NULL, err);
}

int mi_files_lstat(struct mi_dirs *dirs, const char *path,
                   struct mi_answer *answer, struct mi_error *err)
{
    char target[PATH_MAX];
    struct stat status;
    ssize_t size = 0;

    start(answer, MI_LSTAT, path);
    if (mi_dirs_stat(dirs, path, AT_SYMLINK_NOFOLLOW, &status) != 0) {
        answer->entry.code = errno;
        return 0;
    }
    if (!S_ISLNK(status.st_mode))
        return give_status(answer, &status, NULL, err);
    size = mi_dirs_readlink(dirs, path, target, sizeof(target) - 1);
    if (size < 0) {
        answer->entry.code = errno;
        return 0;
    }
    target[size] = '\0';
    return give_status(answer, &status, target, err);
}

/* The path of what is no symbolic link itself: that of its directory, and its
 * name.  1 with 'real' (PATH_MAX), or 0 if that is not all.
 */
static int real_in_directory(struct mi_dirs *dirs, const char *path,
                             char *real)
{
    const char *name = strrchr(path, '/') + 1;
    char directory[PATH_MAX];
    struct stat status;
    size_t size;

    if (name - path < 2 || !*name || name - path > PATH_MAX ||
        strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    snprintf(directory, sizeof(directory), "%.*s", (int)(name - path - 1),
             path);
    if (mi_dirs_real(dirs, directory, real) != 0 ||
        mi_dirs_stat(dirs, path, AT_SYMLINK_NOFOLLOW, &status) != 0 ||
        S_ISLNK(status.st_mode))
        return 0;
    size = strcmp(real, "/") == 0 ? 0 : strlen(real);
    if (size + strlen(name) + 2 > PATH_MAX)
        return 0;
    real[size] = '/';
    strcpy(real + size + 1, name);
    return 1;
}

static int no_memory(const char *path, struct mi_error *err)
{
    return mi_fail(err, MI_ERRNO, ENOMEM, "no memory to resolve %s", path);
}

int mi_files_real(struct mi_dirs *dirs, const char *path,
                  struct mi_answer *answer, struct mi_error *err)
{
    char real[PATH_MAX], *data;
    size_t size;

    start(answer, MI_REAL, path);
    if (path[0] != '/' || !real_in_directory(dirs, path, real)) {
        for (const char *p = path; *p; p++)
            if (*p == '/')
                mi_dirs_count(dirs); /* one readlink(2) per component */
        if (!realpath(path, real)) {
            answer->entry.code = errno;
            return errno == ENOMEM ? no_memory(path, err) : 0;
        }
    }
    size = strlen(real) + 1;
    data = mi_block_new(size);
    if (!data)
        return no_memory(path, err);
    give(answer, MI_KIND_STAT, memcpy(data, real, size), size);
    return 0;
}

static ssize_t read_some(int file, void *bytes, size_t size)
{
    ssize_t n;

    do {
        mi_lap_call();
        n = read(file, bytes, size);
        mi_lap_return();
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Read 'file' into a block of up to 'most' bytes; 'expected' is a guess of its
 * size, or its size ('sure').  What is at least as long as that and shorter
 * than was asked for is all: no second read for nothing.  Returns an errno
 * value; EFBIG for a longer one.
 */
static int read_all(int file, size_t expected, int sure, size_t most,
                    void **data, size_t *size)
{
    size_t room = expected ? expected + 1 : UNKNOWN, used = 0;
    char *block = mi_block_new(room), *bigger;
    int code = block ? 0 : ENOMEM;
    ssize_t n;

    while (code == 0) {
        n = read_some(file, block + used, room - used - (size_t)sure);
        if (n < 0)
            code = errno;
        used += n > 0 ? (size_t)n : 0;
        if (n <= 0 || (expected > 0 && used >= expected && used < room))
            break;
        if (used < room)
            continue;
        bigger = used <= most ? mi_block_resize(block, room * 2) : NULL;
        if (!bigger)
            code = used <= most ? ENOMEM : EFBIG;
        block = bigger ? bigger : block;
        room *= 2;
    }
    if (code == 0 && used > most)
        code = EFBIG;
    if (code != 0) {
        mi_block_free(block);
        return code;
    }
    *data = block;
    *size = used;
    return 0;
}

/* Open and read a regular file of up to 'most' bytes.  Its status is what the
 * open(2) has brought, but for the size.  'whole': it is never written again
 * under its name, but replaced.  Returns an errno value; EFBIG for a larger
 * one.
 */
static int read_path(struct mi_dirs *dirs, const char *path, int whole,
                     uint64_t most, struct stat *status, void **data,
                     size_t *size)
{
    int code = 0, sure, file = mi_dirs_open(dirs, path, O_RDONLY | O_NONBLOCK);

    if (file < 0)
        return errno;
    if (most > FILE_MAX)
        most = FILE_MAX;
    if (mi_dirs_hint(file, status) != 0 && fstat(file, status) != 0)
        code = errno;
    else if (S_ISDIR(status->st_mode))
        code = EISDIR;
    else if (!S_ISREG(status->st_mode))
        code = EINVAL;
    else if ((uint64_t)status->st_size > most)
        code = EFBIG;
    else {
        sure = whole && status->st_size > 0 &&
               mi_dirs_kind(dirs, file, status->st_dev) == MI_DIRS_FUSE;
        code = read_all(file, (size_t)status->st_size, sure, (size_t)most,
                        data, size);
    }
    close(file);
    if (code != 0)
        return code;
    status->st_size = (off_t)*size;
    count_bytes(dirs, *size);
    return 0;
}

int mi_files_read(struct mi_dirs *dirs, const char *path, uint64_t most,
                  struct mi_answer *answer, struct mi_error *err)
{
    struct stat status;
    void *data;
    size_t size;
    int code;

    start(answer, MI_READ, path);
    code = read_path(dirs, path, 0, most, &status, &data, &size);
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

int mi_files_code(struct mi_dirs *dirs, const struct mi_bytecode *rule,
                  const char *path, const char *cached,
                  struct mi_answer *answer, struct mi_error *err)
{
    struct stat source, status;
    void *data;
    size_t size;
    int code = ENOENT;

    start(answer, MI_CODE, path);
    if (mi_dirs_stat(dirs, path, MI_DIRS_NEAR, &source) != 0) {
        answer->entry.code = errno;
        return 0;
    }
    mi_entry_status(&answer->entry, &source);
    answer->entry.code = MI_CODE_PENDING;
    if (cached[0])
        code = read_path(dirs, cached, 1, FILE_MAX, &status, &data, &size);
    if (code == ENOMEM)
        return mi_fail(err, MI_ERRNO, ENOMEM, "no memory to read %s", cached);
    if (code != 0)
        return 0;
    if (valid(rule, &source, data, size))
        give(answer, MI_KIND_FILE, data, size);
    else
        mi_block_free(data);
    return 0;
}
