/* What the C tests share: checks that count, a scratch directory, children.
 *
 * A failed check prints its place and goes on.  Checks may be made in any
 * thread.  Everything is static: each test is one program.
 */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_int check_passed;
static atomic_int check_failed;

static inline int check(int ok, const char *file, int line, const char *text,
                        const char *about)
{
    if (ok) {
        atomic_fetch_add(&check_passed, 1);
    } else {
        atomic_fetch_add(&check_failed, 1);
        fprintf(stderr, "%s:%d: failed: %s (%s)\n", file, line, text, about);
    }
    return ok;
}

/* Both have the value of 'ok'. */
#define CHECK_FOR(about, ok) check((ok) != 0, __FILE__, __LINE__, #ok, (about))
#define CHECK(ok) CHECK_FOR(__func__, ok)

/* The last line of a test, and its exit status. */
static inline int check_report(void)
{
    int failed = atomic_load(&check_failed);

    printf("%d passed, %d failed\n", atomic_load(&check_passed), failed);
    return failed ? 1 : 0;
}

static inline void check_skipped(const char *test, const char *why)
{
    printf("%s: skipped: %s\n", test, why);
    fflush(stdout);
}

/* For what a test cannot do without. */
static inline void check_need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "cannot test: %s: %s\n", what, strerror(errno));
        abort();
    }
}

/* ---- time ----------------------------------------------------------------
 */

static inline double check_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void check_sleep(int milliseconds)
{
    struct timespec t = {.tv_sec = milliseconds / 1000,
                         .tv_nsec = milliseconds % 1000 * 1000000L};

    nanosleep(&t, NULL);
}

/* Wait for at most 'seconds' until done(arg) is true; returns whether. */
static inline int check_until(int (*done)(void *), void *arg, double seconds)
{
    double end = check_seconds() + seconds;

    while (!done(arg)) {
        if (check_seconds() > end)
            return 0;
        check_sleep(2);
    }
    return 1;
}

/* ---- scratch directories -------------------------------------------------
 */

/* Remove 'path' and all below it. */
static inline void check_remove(const char *path)
{
    char below[PATH_MAX];
    struct dirent *entry;
    DIR *stream;

    if (unlink(path) == 0 || errno == ENOENT)
        return;
    stream = opendir(path);
    while (stream && (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0)
            continue;
        if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) <
            (int)sizeof(below))
            check_remove(below);
    }
    if (stream)
        closedir(stream);
    rmdir(path);
}

/* Number of entries in a directory; -1 if it cannot be read. */
static inline int check_entries(const char *path)
{
    DIR *stream = opendir(path);
    int count = 0;

    if (!stream)
        return -1;
    while (readdir(stream))
        count++;
    closedir(stream);
    return count - 2;
}

/* A new directory in memory, if there is a memory filesystem; the name goes
 * into 'path' (PATH_MAX bytes).
 */
static inline void check_scratch(char *path)
{
    strcpy(path, "/dev/shm/mi-test-XXXXXX");
    if (mkdtemp(path))
        return;
    strcpy(path, "/tmp/mi-test-XXXXXX");
    check_need(mkdtemp(path) != NULL, "scratch directory");
}

/* "directory/name" in 'path' (PATH_MAX bytes). */
static inline const char *check_join(char *path, const char *directory,
                                     const char *name)
{
    check_need(snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX,
               "path");
    return path;
}

static inline void check_write(const char *path, const void *bytes,
                               size_t size)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    const char *p = bytes;
    ssize_t n;

    check_need(file >= 0, path);
    for (; size > 0; p += n, size -= (size_t)n) {
        n = write(file, p, size);
        check_need(n > 0, path);
    }
    close(file);
}

/* Are these the bytes of the file? */
static inline int check_holds(const char *path, const void *bytes, size_t size)
{
    char *found = malloc(size + 1);
    int file = open(path, O_RDONLY);
    size_t used = 0;
    ssize_t n;
    int same;

    check_need(found != NULL, "memory");
    while (file >= 0 && used <= size &&
           (n = read(file, found + used, size + 1 - used)) > 0)
        used += (size_t)n;
    same = file >= 0 && used == size && memcmp(found, bytes, size) == 0;
    if (file >= 0)
        close(file);
    free(found);
    return same;
}

/* The whole file in an allocated block. */
static inline void *check_read(const char *path, size_t *size)
{
    struct stat status;
    int file = open(path, O_RDONLY);
    char *block;

    check_need(file >= 0 && fstat(file, &status) == 0, path);
    block = malloc((size_t)status.st_size + 1);
    check_need(block != NULL, "memory");
    *size = 0;
    while (*size < (size_t)status.st_size) {
        ssize_t n = read(file, block + *size, (size_t)status.st_size - *size);

        check_need(n > 0, path);
        *size += (size_t)n;
    }
    close(file);
    return block;
}

/* Mount a memory filesystem of 'kib' KiB on 'path', in a mount namespace of
 * this process.  Returns 0 where that is not allowed.
 */
static inline int check_small_tmpfs(const char *path, int kib)
{
    char options[32];

    snprintf(options, sizeof(options), "size=%dk", kib);
    return unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", path, "tmpfs", 0, options) == 0;
}

/* The same without execution; in the namespace of check_small_tmpfs(). */
static inline int check_noexec_tmpfs(const char *path, int kib)
{
    char options[32];

    snprintf(options, sizeof(options), "size=%dk", kib);
    return mount("none", path, "tmpfs", MS_NOEXEC, options) == 0;
}

/* ---- children ------------------------------------------------------------
 */

#define CHECK_SKIP 77

/* Fork.  The child runs run(arg) for at most 20 s and ends with the number of
 * its failed checks, or with CHECK_SKIP if run() returned that.
 */
static inline pid_t check_fork(int (*run)(void *), void *arg)
{
    pid_t child;
    int rc;

    fflush(stdout);
    fflush(stderr);
    child = fork();
    check_need(child >= 0, "fork");
    if (child > 0)
        return child;
    atomic_store(&check_passed, 0);
    atomic_store(&check_failed, 0);
    alarm(20);
    rc = run(arg);
    fflush(stderr);
    if (rc == CHECK_SKIP)
        _exit(CHECK_SKIP);
    rc = atomic_load(&check_failed);
    _exit(rc < CHECK_SKIP ? rc : CHECK_SKIP - 1);
}

/* Wait for it.  A child that was killed, or in which checks have failed, is a
 * failed check here.  Returns 0 if it skipped its work.
 */
static inline int check_join_child(pid_t child, const char *about)
{
    char text[200];
    int status = 0;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHECK_SKIP)
        return 0;
    if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "%s: child killed by signal %d", about,
                 WTERMSIG(status));
    else
        snprintf(text, sizeof(text), "%s: %d failed in the child", about,
                 WEXITSTATUS(status));
    CHECK_FOR(text, WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return 1;
}

static inline int check_child(int (*run)(void *), void *arg, const char *about)
{
    return check_join_child(check_fork(run, arg), about);
}

#endif
