#include "mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf.h"
#include "jobdir.h"

#define TREE "tree"
#define STORE_SHARE ((uint64_t)64 << 20) /* bytes left to the store */
#define PLACES 8

struct mi_mirror {
    char *place[PLACES]; /* directories, in the order in which to try them */
    int places;
    char root[PATH_MAX]; /* the tree below the job's directory */
    struct mi_jobdir jobdir;
    int removed;
    struct mi_error none; /* why no place can be used, once that is known */
    pthread_mutex_t lock;
    atomic_uint_fast64_t bytes;
    atomic_uint_fast64_t replaced;
    struct mi_budget *budget;
    atomic_uint_fast64_t held; /* bytes taken of it */
};

static int add_place(struct mi_mirror *mirror, const char *place,
                     struct mi_error *err)
{
    if (strlen(place) >= PATH_MAX)
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG, "%s", place);
    if (mirror->places == PLACES)
        return mi_fail(err, MI_ERRNO, E2BIG, "more than %d places", PLACES);
    mirror->place[mirror->places] = strdup(place);
    if (!mirror->place[mirror->places])
        return mi_fail_errno(err, "mirror");
    mirror->places++;
    return 0;
}

int mi_mirror_create(struct mi_mirror **result, const char *top,
                     struct mi_error *err)
{
    struct mi_mirror *mirror = calloc(1, sizeof(*mirror));

    if (!mirror)
        return mi_fail_errno(err, "mirror");
    mirror->jobdir = (struct mi_jobdir)MI_JOBDIR_NONE;
    pthread_mutex_init(&mirror->lock, NULL);
    if (add_place(mirror, top, err) != 0) {
        mi_mirror_destroy(mirror);
        return -1;
    }
    *result = mirror;
    return 0;
}

static int has_place(const struct mi_mirror *mirror, const char *place)
{
    char normal[PATH_MAX], other[PATH_MAX];

    if (mi_path_normal(place, normal, sizeof(normal)) != 0)
        return 0;
    for (int i = 0; i < mirror->places; i++)
        if (mi_path_normal(mirror->place[i], other, sizeof(other)) == 0 &&
            strcmp(normal, other) == 0)
            return 1;
    return 0;
}

int mi_mirror_add_place(struct mi_mirror *mirror, const char *place,
                        struct mi_error *err)
{
    if (place[0] != '/' || has_place(mirror, place))
        return 0;
    return add_place(mirror, place, err);
}

void mi_mirror_set_budget(struct mi_mirror *mirror, struct mi_budget *budget)
{
    mirror->budget = budget;
}

/* Bytes of the budget that objects may take in all: they leave something to
 * the store, or nobody could import what comes after a large object.
 */
static uint64_t share(const struct mi_mirror *mirror)
{
    uint64_t limit;

    if (!mirror->budget)
        return UINT64_MAX;
    limit = mirror->budget->limit;
    return limit - (limit / 2 < STORE_SHARE ? limit / 2 : STORE_SHARE);
}

uint64_t mi_mirror_room(const struct mi_mirror *mirror)
{
    uint64_t most = share(mirror), held = atomic_load(&mirror->held);
    uint64_t room = mi_budget_room(mirror->budget);

    if (held >= most)
        return 0;
    return most - held < room ? most - held : room;
}

uint64_t mi_mirror_limit(const struct mi_mirror *mirror)
{
    return mirror->budget ? mirror->budget->limit : UINT64_MAX;
}

static int take_room(struct mi_mirror *mirror, uint64_t size,
                     struct mi_error *err)
{
    uint64_t held = atomic_fetch_add(&mirror->held, size),
             most = share(mirror);
    int rc;

    if (held <= most && size <= most - held)
        rc = mi_budget_take(mirror->budget, size, err);
    else
        rc = mi_fail(err, MI_ERRNO, ENOSPC,
                     "--max-store %" PRIu64
                     " would be exceeded: objects may take %" PRIu64
                     " of it and have %" PRIu64 ", %" PRIu64 " are needed",
                     mirror->budget->limit, most, held, size);
    if (rc != 0)
        atomic_fetch_sub(&mirror->held, size);
    return rc;
}

static void give_room(struct mi_mirror *mirror, uint64_t size)
{
    atomic_fetch_sub(&mirror->held, size);
    mi_budget_return(mirror->budget, size);
}

void mi_mirror_remove(struct mi_mirror *mirror)
{
    pthread_mutex_lock(&mirror->lock);
    mirror->removed = 1;
    mi_jobdir_clear(&mirror->jobdir);
    pthread_mutex_unlock(&mirror->lock);
}

void mi_mirror_destroy(struct mi_mirror *mirror)
{
    if (!mirror)
        return;
    mi_mirror_remove(mirror);
    for (int i = 0; i < mirror->places; i++)
        free(mirror->place[i]);
    pthread_mutex_destroy(&mirror->lock);
    free(mirror);
}

const char *mi_mirror_root(const struct mi_mirror *mirror)
{
    return mirror->root;
}

uint64_t mi_mirror_bytes(const struct mi_mirror *mirror)
{
    return atomic_load(&mirror->bytes);
}

/* Make the job's directory, with a guard, in 'place'. */
static int settle(struct mi_mirror *mirror, const char *place,
                  struct mi_error *err)
{
    struct mi_jobdir made;

    mi_jobdir_sweep(place);
    if (mi_jobdir_create_guarded(&made, place, err) != 0)
        return -1;
    if (mi_jobdir_try_execution(&made, err) != 0) {
        if (err->code == EPERM)
            mi_fail(err, MI_ERRNO, EPERM, "%s does not allow execution",
                    place);
        goto out;
    }
    if (strlen(made.path) + sizeof("/" TREE) > sizeof(mirror->root)) {
        mi_fail(err, MI_ERRNO, ENAMETOOLONG, "%s", made.path);
        goto out;
    }
    if (mkdirat(made.dir, TREE, 0700) != 0) {
        mi_fail_errno(err, "cannot make %s/" TREE, made.path);
        goto out;
    }
    mirror->jobdir = made;
    strcpy(mirror->root, made.path);
    strcat(mirror->root, "/" TREE);
    return 0;
out:
    mi_jobdir_clear(&made);
    return -1;
}

/* Find a place for the first object. */
static int choose_place(struct mi_mirror *mirror, struct mi_error *none)
{
    struct mi_error why;
    size_t used;

    mi_error_clear(none);
    for (int i = 0; i < mirror->places; i++) {
        mi_error_clear(&why);
        if (settle(mirror, mirror->place[i], &why) == 0)
            return 0;
        if (i == 0) {
            *none = why;
            continue;
        }
        used = strlen(none->text);
        snprintf(none->text + used, sizeof(none->text) - used, "; %s",
                 why.text);
    }
    return -1;
}

/* Make sure that there is a place. */
static int start(struct mi_mirror *mirror, struct mi_error *err)
{
    if (mirror->removed)
        return mi_fail(err, MI_ERRNO, ESHUTDOWN, "the job is over");
    if (mirror->jobdir.dir >= 0)
        return 0;
    if (mirror->none.domain != MI_NONE ||
        choose_place(mirror, &mirror->none) != 0) {
        if (err)
            *err = mirror->none;
        return -1;
    }
    return 0;
}

static void part_name(uint64_t id, char *name, size_t size)
{
    snprintf(name, size, "part-%" PRIu64, id);
}

static int begin(struct mi_mirror *mirror, uint64_t id, uint64_t size,
                 mode_t mode, struct mi_part *part, struct mi_error *err)
{
    char name[40];
    int file, rc;

    part_name(id, name, sizeof(name));
    file = openat(mirror->jobdir.dir, name,
                  O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                  (mode & 0500) | 0600);
    if (file < 0)
        return mi_fail_errno(err, "cannot create a file in %s",
                             mirror->jobdir.path);
    do {
        rc = size ? posix_fallocate(file, 0, (off_t)size) : 0;
    } while (rc == EINTR);
    if (rc != 0) {
        close(file);
        unlinkat(mirror->jobdir.dir, name, 0);
        return mi_fail(err, MI_ERRNO, rc,
                       "cannot reserve %" PRIu64 " bytes in %s: %s", size,
                       mirror->jobdir.path, strerror(rc));
    }
    *part = (struct mi_part){.id = id, .size = size, .file = file};
    return 0;
}

int mi_mirror_begin(struct mi_mirror *mirror, uint64_t id, uint64_t size,
                    mode_t mode, struct mi_part *part, struct mi_error *err)
{
    int rc;

    pthread_mutex_lock(&mirror->lock);
    rc = start(mirror, err);
    pthread_mutex_unlock(&mirror->lock);
    if (rc != 0 || take_room(mirror, size, err) != 0)
        return -1;
    if (begin(mirror, id, size, mode, part, err) == 0)
        return 0;
    give_room(mirror, size);
    return -1;
}

int mi_part_write(const struct mi_part *part, uint64_t offset,
                  const void *data, size_t size, struct mi_error *err)
{
    const char *p = data;
    ssize_t n;

    while (size > 0) {
        n = pwrite(part->file, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mi_fail_errno(err, "cannot write to the mirror");
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int mi_part_map(const struct mi_part *part, void **bytes, struct mi_error *err)
{
    void *mapped = mmap(NULL, part->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                        part->file, 0);

    if (mapped == MAP_FAILED)
        return mi_fail_errno(err, "cannot map a file of the mirror");
    *bytes = mapped;
    return 0;
}

void mi_part_close(struct mi_part *part)
{
    if (part->file >= 0)
        close(part->file);
    part->file = -1;
}

int mi_mirror_stamp(struct mi_mirror *mirror, const struct mi_part *part,
                    int64_t mtime, struct mi_error *err)
{
    char name[40];
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};

    if (mtime == 0)
        return 0;
    times[1].tv_sec = mtime / 1000000000;
    times[1].tv_nsec = mtime % 1000000000;
    if (times[1].tv_nsec < 0) { /* before the epoch */
        times[1].tv_sec--;
        times[1].tv_nsec += 1000000000;
    }
    part_name(part->id, name, sizeof(name));
    if (utimensat(mirror->jobdir.dir, name, times, AT_SYMLINK_NOFOLLOW) != 0)
        return mi_fail_errno(err, "cannot date a file of the mirror");
    return 0;
}

static int make_one(int dir, const char *path)
{
    return mkdirat(dir, path, 0700) == 0 || errno == EEXIST ? 0 : -1;
}

/* Make the directory 'path', and those above it that are not there: mostly
 * they are.  'path' is changed meanwhile.
 */
static int make_directory(int dir, char *path)
{
    char *slash = strrchr(path, '/');
    int rc;

    if (make_one(dir, path) == 0)
        return 0;
    if (errno != ENOENT || !slash)
        return -1;
    *slash = '\0';
    rc = make_directory(dir, path);
    *slash = '/';
    return rc == 0 ? make_one(dir, path) : -1;
}

/* Make the directories of 'path', relative to 'dir'. */
static int make_parents(int dir, const char *path, struct mi_error *err)
{
    char copy[PATH_MAX], *slash;

    strcpy(copy, path);
    slash = strrchr(copy, '/');
    if (slash)
        *slash = '\0';
    if (slash && make_directory(dir, copy) != 0)
        return mi_fail_errno(err, "cannot make %s in the mirror", copy);
    return 0;
}

/* Where 'path' is below the job's directory, into 'place' (PATH_MAX). */
static int find_place(const char *path, char *place, struct mi_error *err)
{
    if (strlen(path) >= PATH_MAX)
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG, "path of %zu bytes",
                       strlen(path));
    strcpy(place, TREE);
    if (mi_path_normal(path, place + strlen(TREE), PATH_MAX - strlen(TREE)) !=
        0)
        return mi_fail_errno(err, "cannot mirror %s", path);
    return 0;
}

static int is_symlink(const struct mi_mirror *mirror, const char *place)
{
    struct stat status;

    return fstatat(mirror->jobdir.dir, place, &status, AT_SYMLINK_NOFOLLOW) ==
               0 &&
           S_ISLNK(status.st_mode);
}

/* Are these two names of one file? */
static int is_one(const struct mi_mirror *mirror, const char *a, const char *b)
{
    struct stat first, second;

    return fstatat(mirror->jobdir.dir, a, &first, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(mirror->jobdir.dir, b, &second, AT_SYMLINK_NOFOLLOW) == 0 &&
           first.st_ino == second.st_ino;
}

/* Put the file in the place of another one, without a moment between. */
static int replace(struct mi_mirror *mirror, const char *name,
                   const char *place, struct mi_error *err)
{
    char second[PATH_MAX];

    snprintf(second, sizeof(second), "second-%" PRIu64,
             atomic_fetch_add(&mirror->replaced, 1));
    if (linkat(mirror->jobdir.dir, name, mirror->jobdir.dir, second, 0) == 0 &&
        renameat(mirror->jobdir.dir, second, mirror->jobdir.dir, place) == 0)
        return 1;
    return mi_fail_errno(err, "cannot mirror %s", place);
}

/* 1 if it was put there, 0 if it has been there, -1 on errors. */
static int put_in_place(struct mi_mirror *mirror, const char *name,
                        const char *path, struct mi_error *err)
{
    char place[PATH_MAX];

    if (find_place(path, place, err) != 0)
        return -1;
    if (make_parents(mirror->jobdir.dir, place, err) != 0)
        return -1;
    if (linkat(mirror->jobdir.dir, name, mirror->jobdir.dir, place, 0) == 0)
        return 1;
    if (errno != EEXIST)
        return mi_fail_errno(err, "cannot mirror %s", path);
    return is_symlink(mirror, place) ? replace(mirror, name, place, err) : 0;
}

/* Take away its name among the parts. */
static void close_part(struct mi_mirror *mirror, struct mi_part *part)
{
    char name[40];

    part_name(part->id, name, sizeof(name));
    unlinkat(mirror->jobdir.dir, name, 0);
    mi_part_close(part);
    *part = (struct mi_part){.file = -1};
}

int mi_mirror_finish(struct mi_mirror *mirror, struct mi_part *part,
                     const char *path, struct mi_error *err)
{
    char name[40];
    int rc;

    part_name(part->id, name, sizeof(name));
    rc = put_in_place(mirror, name, path, err);
    if (rc == 1)
        atomic_fetch_add(&mirror->bytes, part->size);
    else
        give_room(mirror, part->size);
    close_part(mirror, part);
    return rc < 0 ? -1 : 0;
}

int mi_mirror_link(struct mi_mirror *mirror, const char *from,
                   const char *path, struct mi_error *err)
{
    char name[PATH_MAX], place[PATH_MAX];

    if (find_place(from, name, err) != 0 || find_place(path, place, err) != 0)
        return -1;
    if (put_in_place(mirror, name, path, err) < 0)
        return -1;
    /* What was there may be a copy of its own, as data. */
    return is_one(mirror, name, place) ||
                   replace(mirror, name, place, err) == 1
               ? 0
               : -1;
}

int mi_mirror_symlinks(struct mi_mirror *mirror,
                       const struct mi_record *record, struct mi_error *err)
{
    const char *directory = mi_record_key(record), *link = NULL;
    char path[PATH_MAX], place[PATH_MAX];

    if (mirror->jobdir.dir < 0)
        return 0; /* nothing has been mirrored here: nobody is there to look */
    while ((link = mi_record_need(record, link)) != NULL) {
        if (MI_NEED_KIND(link) != MI_NEED_LINK ||
            snprintf(path, sizeof(path), "%s%s", directory, link + 1) >=
                (int)sizeof(path))
            continue;
        if (find_place(path, place, err) != 0 ||
            make_parents(mirror->jobdir.dir, place, err) != 0)
            return -1;
        if (symlinkat(path, mirror->jobdir.dir, place) != 0 && errno != EEXIST)
            return mi_fail_errno(err, "cannot mirror %s", path);
    }
    return 0;
}

void mi_mirror_abandon(struct mi_mirror *mirror, struct mi_part *part)
{
    give_room(mirror, part->size);
    close_part(mirror, part);
}
