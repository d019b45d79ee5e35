#include "jobdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOCK "lock"
#define NEW_LOCK "lock.new"
#define TRIAL "trial"
#define TRIAL_SIZE 64 /* bytes */
#define YOUNG 60 /* seconds in which a directory may be without its lock */
#define ATTEMPTS 16
#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 34)
#define HAVE_CLOSEFROM
#endif
#endif
#define GUARD_FILES 1024 /* closed where not all can be */

/* ---- removing ----------------------------------------------------------- */

/* Empty the directory behind 'dir' (the descriptor is used up). */
static void empty(int dir)
{
    DIR *stream = fdopendir(dir);
    struct dirent *entry;
    int child;

    if (!stream) {
        close(dir);
        return;
    }
    while ((entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dir, entry->d_name, 0) == 0 || errno == ENOENT)
            continue;
        child = openat(dir, entry->d_name,
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0)
            continue;
        empty(child);
        unlinkat(dir, entry->d_name, AT_REMOVEDIR);
    }
    closedir(stream);
}

/* Empty the directory behind 'dir', which stays open, and remove its name. */
static void remove_tree(int dir, int top, const char *name)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (copy >= 0)
        empty(copy);
    unlinkat(top, name, AT_REMOVEDIR);
}

/* ---- the guard ---------------------------------------------------------- */

/* The shell puts itself into the background, so that it is no child of the
 * application, waits for the end of its input and removes the directory.  A
 * line of input sends it away.
 */
static const char script[] =
    "cd / && { { read -r x || exec rm -rf -- \"$1\"; } <&3 3<&- & }";

/* Nothing else may stay open there: launchers wait for the end of file. */
static void close_from(posix_spawn_file_actions_t *actions, int first)
{
#ifdef HAVE_CLOSEFROM
    posix_spawn_file_actions_addclosefrom_np(actions, first);
#else
    for (int i = first; i < GUARD_FILES; i++)
        posix_spawn_file_actions_addclose(actions, i);
#endif
}

static int spawn(int input, const char *path, struct mi_error *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char *const argv[] = {
        (char *)(uintptr_t) "sh",  (char *)(uintptr_t) "-c",
        (char *)(uintptr_t)script, (char *)(uintptr_t) "mpiimport-guard",
        (char *)(uintptr_t)path,   NULL};
    char *const environment[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin",
                                 NULL};
    pid_t child;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    for (int i = 0; i < 3; i++)
        posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, input, 3);
    close_from(&actions, 4);
    rc = posix_spawn(&child, "/bin/sh", &actions, &attributes, argv,
                     environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (rc != 0)
        return mi_fail(err, MI_ERRNO, rc, "cannot start /bin/sh: %s",
                       strerror(rc));
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return 0;
}

int mi_jobdir_guard(struct mi_jobdir *jobdir, struct mi_error *err)
{
    int ends[2], input, rc;

    if (jobdir->guard >= 0)
        return 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return mi_fail_errno(err, "pipe");
    /* Out of the way of the descriptor numbers that the guard uses. */
    input = fcntl(ends[0], F_DUPFD_CLOEXEC, 10);
    close(ends[0]);
    if (input < 0) {
        rc = mi_fail_errno(err, "pipe");
        close(ends[1]);
        return rc;
    }
    rc = spawn(input, jobdir->path, err);
    close(input);
    if (rc != 0)
        close(ends[1]);
    else
        jobdir->guard = ends[1];
    return rc;
}

/* ---- creating ----------------------------------------------------------- */

static int take_lock(struct mi_jobdir *jobdir, struct mi_error *err)
{
    jobdir->lock =
        openat(jobdir->dir, NEW_LOCK,
               O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    /* It gets its name when it is locked: nobody finds it free before. */
    if (jobdir->lock < 0 || flock(jobdir->lock, LOCK_EX | LOCK_NB) != 0 ||
        renameat(jobdir->dir, NEW_LOCK, jobdir->dir, LOCK) != 0)
        return mi_fail_errno(err, "cannot lock %s/" LOCK, jobdir->path);
    return 0;
}

/* The directory is not ours. */
static void dismiss_guard(struct mi_jobdir *jobdir)
{
    if (jobdir->guard < 0)
        return;
    while (write(jobdir->guard, "\n", 1) < 0 && errno == EINTR)
        continue;
    close(jobdir->guard);
    jobdir->guard = -1;
}

static int choose_name(struct mi_jobdir *jobdir, const char *top,
                       struct mi_error *err)
{
    uint64_t token;
    int n;

    if (getrandom(&token, sizeof(token), 0) != (ssize_t)sizeof(token))
        return mi_fail_errno(err, "getrandom");
    n = snprintf(jobdir->path, sizeof(jobdir->path),
                 "%s/" MI_JOBDIR_PREFIX "%u-%016" PRIx64, top,
                 (unsigned)geteuid(), token);
    if (n < 0 || (size_t)n >= sizeof(jobdir->path))
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG, "%s", top);
    return 0;
}

/* Make and open a directory whose name is free. */
static int make(struct mi_jobdir *jobdir, const char *top, int guarded,
                struct mi_error *err)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        if (choose_name(jobdir, top, err) != 0 ||
            (guarded && mi_jobdir_guard(jobdir, err) != 0))
            return -1;
        if (mkdir(jobdir->path, 0700) != 0) {
            int taken = errno == EEXIST;

            mi_fail_errno(err, "cannot make a directory in %s", top);
            dismiss_guard(jobdir);
            if (taken)
                continue;
            return -1;
        }
        jobdir->dir = open(jobdir->path,
                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (jobdir->dir >= 0)
            return 0;
        mi_fail_errno(err, "cannot open %s", jobdir->path);
        rmdir(jobdir->path);
        dismiss_guard(jobdir);
        return -1;
    }
    return mi_fail(err, MI_ERRNO, EEXIST, "no free name in %s", top);
}

static int create(struct mi_jobdir *jobdir, const char *top, int guarded,
                  struct mi_error *err)
{
    struct mi_jobdir made = MI_JOBDIR_NONE;

    made.owner = (int)getpid();
    if (make(&made, top, guarded, err) != 0)
        return -1;
    if (take_lock(&made, err) != 0) {
        mi_jobdir_clear(&made);
        return -1;
    }
    *jobdir = made;
    return 0;
}

int mi_jobdir_create(struct mi_jobdir *jobdir, const char *top,
                     struct mi_error *err)
{
    return create(jobdir, top, 0, err);
}

int mi_jobdir_create_guarded(struct mi_jobdir *jobdir, const char *top,
                             struct mi_error *err)
{
    return create(jobdir, top, 1, err);
}

void mi_jobdir_clear(struct mi_jobdir *jobdir)
{
    int saved = errno;

    if (jobdir->dir >= 0 && jobdir->owner == (int)getpid())
        remove_tree(jobdir->dir, AT_FDCWD, jobdir->path);
    if (jobdir->dir >= 0)
        close(jobdir->dir);
    if (jobdir->lock >= 0)
        close(jobdir->lock);
    if (jobdir->guard >= 0)
        close(jobdir->guard);
    *jobdir = (struct mi_jobdir)MI_JOBDIR_NONE;
    errno = saved;
}

/* ---- execution ---------------------------------------------------------- */

int mi_jobdir_try_execution(const struct mi_jobdir *jobdir,
                            struct mi_error *err)
{
    int rc = 0,
        file =
            openat(jobdir->dir, TRIAL,
                   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
    void *bytes;

    if (file < 0)
        return mi_fail_errno(err, "cannot create a file in %s", jobdir->path);
    /* Mapped, but not touched: it stays empty, which takes no space. */
    bytes =
        mmap(NULL, TRIAL_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    if (bytes == MAP_FAILED)
        rc = mi_fail_errno(err, "no execution in %s", jobdir->path);
    else
        munmap(bytes, TRIAL_SIZE);
    close(file);
    unlinkat(jobdir->dir, TRIAL, 0);
    return rc;
}

/* ---- what others left --------------------------------------------------- */

/* Filesystems of one machine, where a lock is seen by all who could hold it.
 */
static const uint32_t of_one_machine[] = {
    0x01021994, /* tmpfs */
    0x858458f6, /* ramfs */
    0xef53,     /* ext2, ext3, ext4 */
    0x58465342, /* xfs */
    0x9123683e, /* btrfs */
    0x794c7630, /* overlay */
    0x2fc12fc1, /* zfs */
    0xf2f52010  /* f2fs */
};

static int is_of_one_machine(int dir)
{
    struct statfs fs;

    if (fstatfs(dir, &fs) != 0)
        return 0;
    for (size_t i = 0; i < sizeof(of_one_machine) / sizeof(of_one_machine[0]);
         i++)
        if ((uint32_t)fs.f_type == of_one_machine[i])
            return 1;
    return 0;
}

/* Has the job gone that made this directory of ours? */
static int abandoned(int dir)
{
    struct stat status;
    int lock, gone;

    if (fstat(dir, &status) != 0 || status.st_uid != geteuid())
        return 0;
    lock = openat(dir, LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (lock < 0)
        return errno == ENOENT && time(NULL) - status.st_mtime > YOUNG;
    gone = flock(lock, LOCK_EX | LOCK_NB) == 0;
    close(lock);
    return gone;
}

int mi_jobdir_sweep(const char *top)
{
    char prefix[sizeof(MI_JOBDIR_PREFIX) + 16];
    struct dirent *entry;
    int dir, removed = 0;
    DIR *stream = opendir(top);

    if (!stream)
        return 0;
    if (!is_of_one_machine(dirfd(stream))) {
        closedir(stream);
        return 0;
    }
    snprintf(prefix, sizeof(prefix), MI_JOBDIR_PREFIX "%u-",
             (unsigned)geteuid());
    while ((entry = readdir(stream)) != NULL) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        dir = openat(dirfd(stream), entry->d_name,
                     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0)
            continue;
        if (abandoned(dir)) {
            remove_tree(dir, dirfd(stream), entry->d_name);
            removed++;
        }
        close(dir);
    }
    closedir(stream);
    return removed;
}
