#include "dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pace.h"

#define TMPFS_SUPER 0x01021994
#define RAMFS_SUPER 0x858458f6
#define FUSE_SUPER 0x65735546
#define DEVICES 16
#define LEVELS 2 /* the directory of a file, and the one above */
/* Of so many descriptors the highest quarter is ours: higher numbers make a
 * larger table in the kernel.
 */
#define DESCRIPTORS 1024

/* A directory that is kept. */
struct kept {
    char *path; /* NULL: the place is free */
    uint64_t hash;
    uint64_t used; /* when: 'ticks' */
    dev_t device;
    ino_t inode;
    int file;
    int linked;  /* it had a number of links, which tells if it is removed */
    int opening; /* one of the users is at it, the others wait */
    int code;    /* errno, of one that could not be opened */
    int users;
    int gone; /* not to be found any more; the last user frees the place */
    int ours; /* and closes the descriptor */
};

struct mi_dirs {
    struct mi_traffic *traffic;
    int lowest;           /* descriptor */
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t opened;
    uint64_t ticks;
    struct {
        dev_t device;
        enum mi_dirs_kind kind;
    } devices[DEVICES];
    int device_count;
    int most;
    struct kept kept[];
};

/* ---- create, destroy ---------------------------------------------------- */

static int descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > DESCRIPTORS)
        return DESCRIPTORS;
    return (int)limit.rlim_cur;
}

void mi_dirs_prepare(void)
{
    int file = open("/", O_PATH | O_CLOEXEC), high;

    if (file < 0)
        return;
    high = fcntl(file, F_DUPFD_CLOEXEC, descriptors() - 1);
    if (high >= 0)
        close(high);
    close(file);
}

int mi_dirs_create(struct mi_dirs **result, int most,
                   struct mi_traffic *traffic, struct mi_error *err)
{
    int all = descriptors(), count = most < 0 ? all / 4 : most;
    struct mi_dirs *dirs =
        calloc(1, sizeof(*dirs) + sizeof(struct kept) * (size_t)count);

    if (!dirs)
        return mi_fail_errno(err, "directories");
    pthread_mutex_init(&dirs->lock, NULL);
    pthread_cond_init(&dirs->opened, NULL);
    dirs->traffic = traffic;
    dirs->lowest = all - all / 4;
    dirs->most = count;
    *result = dirs;
    return 0;
}

void mi_dirs_count(struct mi_dirs *dirs)
{
    atomic_fetch_add(&dirs->traffic->operations, 1);
}

struct mi_traffic *mi_dirs_traffic(struct mi_dirs *dirs)
{
    return dirs->traffic;
}

/* ---- descriptors -------------------------------------------------------- */

static int look(int file, unsigned mask, struct statx *found)
{
    return statx(file, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, mask, found);
}

static dev_t device_of(const struct statx *found)
{
    return makedev(found->stx_dev_major, found->stx_dev_minor);
}

/* Is the descriptor still that of the directory: 1; -1: yes, but the directory
 * was removed; 0: it is something else's by now.
 */
static int is_ours(const struct kept *kept)
{
    struct statx found;

    if (look(kept->file, STATX_TYPE | STATX_INO | STATX_NLINK, &found) != 0 ||
        !S_ISDIR(found.stx_mode) || found.stx_ino != kept->inode ||
        device_of(&found) != kept->device)
        return 0;
    return kept->linked && found.stx_nlink == 0 ? -1 : 1;
}

/* Nobody uses it. */
static void make_free(struct kept *kept, int ours)
{
    if (ours)
        close(kept->file);
    free(kept->path);
    *kept = (struct kept){0};
}

void mi_dirs_destroy(struct mi_dirs *dirs)
{
    if (!dirs)
        return;
    for (int i = 0; i < dirs->most; i++)
        if (dirs->kept[i].path)
            make_free(&dirs->kept[i], is_ours(&dirs->kept[i]));
    pthread_cond_destroy(&dirs->opened);
    pthread_mutex_destroy(&dirs->lock);
    free(dirs);
}

/* ---- what is kept ------------------------------------------------------- */

static uint64_t hash_of(const char *path, size_t size)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a */

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)path[i]) * 1099511628211u;
    return hash;
}

/* With the lock. */
static struct kept *find(struct mi_dirs *dirs, const char *path, size_t size)
{
    uint64_t hash = hash_of(path, size);

    for (int i = 0; i < dirs->most; i++) {
        struct kept *kept = &dirs->kept[i];

        if (kept->path && kept->hash == hash && !kept->gone &&
            strncmp(kept->path, path, size) == 0 && !kept->path[size])
            return kept;
    }
    return NULL;
}

static void release(struct mi_dirs *dirs, struct kept *kept)
{
    pthread_mutex_lock(&dirs->lock);
    if (--kept->users == 0 && kept->gone)
        make_free(kept, kept->ours);
    pthread_mutex_unlock(&dirs->lock);
}

/* Nobody is to find it any more; the caller, who uses it, has to release it. A
 * descriptor that is not ours stays open.
 */
static void forget(struct mi_dirs *dirs, struct kept *kept, int ours)
{
    pthread_mutex_lock(&dirs->lock);
    kept->ours = ours && (!kept->gone || kept->ours);
    kept->gone = 1;
    pthread_mutex_unlock(&dirs->lock);
}

/* The directory, if it is kept; else NULL, with the errno value of somebody
 * who has just tried to open it, or 0.
 */
static struct kept *acquire(struct mi_dirs *dirs, const char *path,
                            size_t size, int *code)
{
    struct kept *kept;
    int ours;

    *code = 0;
    pthread_mutex_lock(&dirs->lock);
    kept = find(dirs, path, size);
    if (kept) {
        kept->users++;
        kept->used = ++dirs->ticks;
        while (kept->opening)
            pthread_cond_wait(&dirs->opened, &dirs->lock);
        *code = kept->code;
    }
    pthread_mutex_unlock(&dirs->lock);
    if (!kept)
        return NULL;
    if (*code) {
        release(dirs, kept);
        return NULL;
    }
    ours = is_ours(kept);
    if (ours == 1)
        return kept;
    forget(dirs, kept, ours);
    release(dirs, kept);
    return NULL;
}

/* A free place, or that of what was not used for longest.  With the lock. */
static struct kept *find_place(struct mi_dirs *dirs)
{
    struct kept *oldest = NULL;

    for (int i = 0; i < dirs->most; i++) {
        struct kept *kept = &dirs->kept[i];

        if (!kept->path)
            return kept;
        if (kept->users == 0 && (!oldest || kept->used < oldest->used))
            oldest = kept;
    }
    if (!oldest)
        return NULL;
    make_free(oldest, is_ours(oldest));
    return oldest;
}

/* A place for the directory, which the caller is to open; NULL if it is there
 * by now, or if there is none.
 */
static struct kept *reserve(struct mi_dirs *dirs, const char *path,
                            size_t size)
{
    struct kept *kept = NULL;
    char *copy = strndup(path, size);

    pthread_mutex_lock(&dirs->lock);
    if (copy && !find(dirs, path, size))
        kept = find_place(dirs);
    if (kept)
        *kept = (struct kept){.path = copy,
                              .hash = hash_of(path, size),
                              .used = ++dirs->ticks,
                              .file = -1,
                              .opening = 1,
                              .users = 1};
    pthread_mutex_unlock(&dirs->lock);
    if (!kept)
        free(copy);
    return kept;
}

/* It is open as 'file', which is the cache's from now on, or could not be
 * opened (-1 with errno).  Returns 0, or an errno value; then it is gone.
 */
static int settle(struct mi_dirs *dirs, struct kept *kept, int file)
{
    struct statx found;
    int code = file < 0 ? errno : 0;

    if (code == 0 &&
        look(file, STATX_TYPE | STATX_INO | STATX_NLINK, &found) != 0) {
        code = errno;
        close(file);
    }
    pthread_mutex_lock(&dirs->lock);
    if (code == 0) {
        kept->device = device_of(&found);
        kept->inode = found.stx_ino;
        kept->linked = found.stx_nlink > 0; /* some filesystems have none */
        kept->file = file;
    }
    kept->code = code;
    kept->gone = code != 0;
    kept->opening = 0;
    pthread_cond_broadcast(&dirs->opened);
    pthread_mutex_unlock(&dirs->lock);
    if (code != 0)
        release(dirs, kept);
    return code;
}

void mi_dirs_keep(struct mi_dirs *dirs, const char *path, int file)
{
    struct kept *kept;

    if (!dirs->most || path[0] != '/')
        return;
    kept = reserve(dirs, path, strlen(path));
    if (kept &&
        settle(dirs, kept, fcntl(file, F_DUPFD_CLOEXEC, dirs->lowest)) == 0)
        release(dirs, kept);
}

int mi_dirs_kept(struct mi_dirs *dirs)
{
    int count = 0;

    pthread_mutex_lock(&dirs->lock);
    for (int i = 0; i < dirs->most; i++)
        count += dirs->kept[i].path && !dirs->kept[i].gone;
    pthread_mutex_unlock(&dirs->lock);
    return count;
}

/* ---- paths -------------------------------------------------------------- */

/* Where the last component of a path begins; NULL if that is none to look for
 * in a directory.  The directory is what is before, without the slash.
 */
static const char *last_of(const char *path, size_t size)
{
    const char *name = path + size;

    if (size == 0 || path[0] != '/' || size >= PATH_MAX)
        return NULL;
    while (name[-1] != '/')
        name--;
    size -= (size_t)(name - path);
    if (size == 0 ||
        (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.'))))
        return NULL;
    return name;
}

/* Bytes of the directory's path before 'name'. */
static size_t directory_size(const char *path, const char *name)
{
    size_t size = (size_t)(name - path);

    return size > 1 ? size - 1 : size; /* "/" */
}

/* Would it be the same with the whole path? */
static int is_final(int code)
{
    return code == ENOENT || code == ENOTDIR || code == EACCES ||
           code == ELOOP;
}

/* Where to go on from: the directory 'kept', or NULL: from the root. */
struct hold {
    struct kept *kept;
    int file;
    const char *name;
};

static void give_back(struct mi_dirs *dirs, struct hold *hold)
{
    int saved = errno;

    if (hold->kept)
        release(dirs, hold->kept);
    errno = saved;
}

static int take(struct mi_dirs *dirs, const char *path, int levels,
                struct hold *hold);

/* Open a directory only to go on from it: from the one above, which is kept as
 * well.
 */
static int open_directory(struct mi_dirs *dirs, const char *path, size_t size,
                          int levels)
{
    char text[PATH_MAX];
    struct hold hold;
    int file, high;

    memcpy(text, path, size);
    text[size] = '\0';
    if (take(dirs, text, levels, &hold) != 0)
        return -1;
    mi_dirs_count(dirs);
    mi_lap_call();
    file = openat(hold.file, hold.name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    mi_lap_return();
    give_back(dirs, &hold);
    if (file < 0)
        return -1;
    high = fcntl(file, F_DUPFD_CLOEXEC, dirs->lowest);
    close(file);
    return high;
}

/* Get hold of the directory of 'path'.  One that is not kept is opened, with
 * so many 'levels' of those above it, unless that is 0.  Returns 0, or -1 with
 * errno if there is no such directory.
 */
static int take(struct mi_dirs *dirs, const char *path, int levels,
                struct hold *hold)
{
    const char *last = dirs->most ? last_of(path, strlen(path)) : NULL;
    size_t size = last ? directory_size(path, last) : 0;
    struct kept *kept, *mine;
    int code;

    *hold = (struct hold){.file = AT_FDCWD, .name = path};
    if (!last)
        return 0;
    kept = acquire(dirs, path, size, &code);
    if (!kept && levels > 0 && code == 0) {
        mine = reserve(dirs, path, size);
        if (mine)
            code = settle(dirs, mine,
                          open_directory(dirs, path, size, levels - 1));
        kept = mine && code == 0 ? mine : NULL;
        if (!mine)
            kept = acquire(dirs, path, size, &code);
    }
    if (kept)
        *hold = (struct hold){.kept = kept, .file = kept->file, .name = last};
    else if (levels > 0 && is_final(code)) {
        errno = code;
        return -1;
    }
    return 0;
}

/* Has the descriptor, not the path, failed?  Then it is forgotten. */
static int is_lost(struct mi_dirs *dirs, const struct hold *hold, long rc)
{
    if (rc >= 0 || !hold->kept || (errno != ESTALE && errno != EBADF))
        return 0;
    forget(dirs, hold->kept, errno == ESTALE);
    return 1;
}

int mi_dirs_open(struct mi_dirs *dirs, const char *path, int flags)
{
    struct hold hold;
    int file;

    if (take(dirs, path, flags & O_DIRECTORY ? 1 : LEVELS, &hold) != 0)
        return -1;
    mi_dirs_count(dirs);
    mi_lap_call();
    file = openat(hold.file, hold.name, flags | O_CLOEXEC);
    mi_lap_return();
    if (is_lost(dirs, &hold, file)) {
        mi_dirs_count(dirs);
        file = open(path, flags | O_CLOEXEC);
    }
    give_back(dirs, &hold);
    return file;
}

int mi_dirs_stat(struct mi_dirs *dirs, const char *path, int flags,
                 struct stat *status)
{
    struct hold hold;
    int rc, near = flags & MI_DIRS_NEAR;

    flags &= ~MI_DIRS_NEAR;
    if (take(dirs, path, near ? LEVELS : 0, &hold) != 0)
        return -1;
    mi_dirs_count(dirs);
    mi_lap_call();
    rc = fstatat(hold.file, hold.name, status, flags);
    mi_lap_return();
    if (is_lost(dirs, &hold, rc)) {
        mi_dirs_count(dirs);
        rc = fstatat(AT_FDCWD, path, status, flags);
    }
    give_back(dirs, &hold);
    return rc;
}

ssize_t mi_dirs_readlink(struct mi_dirs *dirs, const char *path, char *target,
                         size_t size)
{
    struct hold hold;
    ssize_t used;

    if (take(dirs, path, 0, &hold) != 0)
        return -1;
    mi_dirs_count(dirs);
    used = readlinkat(hold.file, hold.name, target, size);
    if (is_lost(dirs, &hold, used)) {
        mi_dirs_count(dirs);
        used = readlink(path, target, size);
    }
    give_back(dirs, &hold);
    return used;
}

/* What the kernel calls an open directory: 1, or 0 if that is no path. */
static int name_of(int file, char *real)
{
    static const char deleted[] = " (deleted)";
    const size_t tail = sizeof(deleted) - 1;
    char link[40];
    ssize_t size;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
    size = readlink(link, real, PATH_MAX - 1);
    if (size <= 0 || real[0] != '/')
        return 0;
    real[size] = '\0';
    return (size_t)size <= tail ||
           strcmp(real + (size_t)size - tail, deleted) != 0;
}

/* By a readlink(2) for each component. */
static int resolve(struct mi_dirs *dirs, const char *path, char *real)
{
    for (const char *p = path; *p; p++)
        if (*p == '/')
            mi_dirs_count(dirs);
    return realpath(path, real) ? 0 : -1;
}

int mi_dirs_real(struct mi_dirs *dirs, const char *path, char *real)
{
    char inside[PATH_MAX];
    struct hold hold;
    int rc;

    if (!dirs->most || path[0] != '/' ||
        snprintf(inside, sizeof(inside), "%s/-", path) >= (int)sizeof(inside))
        return resolve(dirs, path, real);
    if (take(dirs, inside, LEVELS, &hold) != 0)
        return -1;
    rc = hold.kept && name_of(hold.file, real);
    give_back(dirs, &hold);
    return rc ? 0 : resolve(dirs, path, real);
}

/* ---- files -------------------------------------------------------------- */

static struct timespec time_of(const struct statx_timestamp *time)
{
    return (struct timespec){.tv_sec = time->tv_sec,
                             .tv_nsec = (long)time->tv_nsec};
}

int mi_dirs_hint(int file, struct stat *status)
{
    struct statx found;

    if (look(file, STATX_BASIC_STATS, &found) != 0)
        return -1;
    *status = (struct stat){.st_dev = device_of(&found),
                            .st_ino = found.stx_ino,
                            .st_mode = found.stx_mode,
                            .st_nlink = found.stx_nlink,
                            .st_size = (off_t)found.stx_size,
                            .st_mtim = time_of(&found.stx_mtime),
                            .st_ctim = time_of(&found.stx_ctime)};
    return 0;
}

static enum mi_dirs_kind ask_kind(int file)
{
    struct statfs fs;

    if (fstatfs(file, &fs) != 0)
        return MI_DIRS_OTHER;
    switch ((uint32_t)fs.f_type) {
    case TMPFS_SUPER:
    case RAMFS_SUPER:
        return MI_DIRS_MEMORY;
    case FUSE_SUPER:
        return MI_DIRS_FUSE;
    default:
        return MI_DIRS_OTHER;
    }
}

enum mi_dirs_kind mi_dirs_kind(struct mi_dirs *dirs, int file, dev_t device)
{
    enum mi_dirs_kind kind = MI_DIRS_OTHER;
    int known = 0;

    pthread_mutex_lock(&dirs->lock);
    for (int i = 0; i < dirs->device_count && !known; i++)
        if (dirs->devices[i].device == device) {
            kind = dirs->devices[i].kind;
            known = 1;
        }
    pthread_mutex_unlock(&dirs->lock);
    if (known)
        return kind;
    kind = ask_kind(file);
    pthread_mutex_lock(&dirs->lock);
    if (dirs->device_count < DEVICES) {
        dirs->devices[dirs->device_count].device = device;
        dirs->devices[dirs->device_count++].kind = kind;
    }
    pthread_mutex_unlock(&dirs->lock);
    return kind;
}
