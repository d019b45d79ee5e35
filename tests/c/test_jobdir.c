/* Tests of src/jobdir.c: made for one user, removed whatever happens. */
#include "check.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "../../src/jobdir.h"

static char scratch[PATH_MAX];

/* Called once, just before the next lock is taken. */
static void (*before_lock)(void);

/* In place of the C library's. */
int flock(int file, int operation)
{
    void (*call)(void) = before_lock;

    before_lock = NULL;
    if (call)
        call();
    return (int)syscall(SYS_flock, file, operation);
}

static struct mi_jobdir make(const char *top)
{
    struct mi_jobdir jobdir = MI_JOBDIR_NONE;
    struct mi_error err;

    mi_error_clear(&err);
    CHECK_FOR(err.text, mi_jobdir_create(&jobdir, top, &err) == 0);
    return jobdir;
}

static int exists(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0;
}

static int is_gone(void *path)
{
    return !exists(path);
}

/* Files and directories in it, as a mirror has them. */
static void furnish(const char *path)
{
    char below[PATH_MAX];

    check_need(mkdir(check_join(below, path, "tree"), 0700) == 0, below);
    check_need(mkdir(check_join(below, path, "tree/a"), 0700) == 0, below);
    check_write(check_join(below, path, "tree/a/b.so"), "x", 1);
    check_write(check_join(below, path, "store"), "y", 1);
    check_need(symlink("/", check_join(below, path, "tree/root")) == 0, below);
}

/* ---- creating
 * ---------------------------------------------------------------- */

static void test_create_private_locked(void)
{
    struct mi_jobdir jobdir = make(scratch), other = make(scratch);
    char prefix[PATH_MAX + 40], lock[PATH_MAX];
    struct stat status;
    int file;

    snprintf(prefix, sizeof(prefix), "%s/" MI_JOBDIR_PREFIX "%u-", scratch,
             (unsigned)geteuid());
    CHECK(strncmp(jobdir.path, prefix, strlen(prefix)) == 0);
    CHECK(strlen(jobdir.path) >= strlen(prefix) + 16);
    CHECK(strcmp(jobdir.path, other.path) != 0);
    CHECK(stat(jobdir.path, &status) == 0 && S_ISDIR(status.st_mode));
    CHECK((status.st_mode & 07777) == 0700 && status.st_uid == geteuid());
    CHECK(jobdir.owner == getpid() && jobdir.dir >= 0 && jobdir.guard == -1);
    CHECK(fcntl(jobdir.dir, F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(jobdir.lock, F_GETFD) == FD_CLOEXEC);
    file = open(check_join(lock, jobdir.path, "lock"), O_RDWR);
    CHECK(file >= 0 && flock(file, LOCK_EX | LOCK_NB) == -1);
    close(file);
    mi_jobdir_clear(&jobdir);
    CHECK(exists(other.path));
    mi_jobdir_clear(&other);
    CHECK(check_entries(scratch) == 0);
}

static void test_create_no_directory_refused(void)
{
    struct mi_jobdir jobdir = {.dir = 77};
    char *top = calloc(1, PATH_MAX + 1), file[PATH_MAX];
    struct mi_error err;

    check_need(top != NULL, "memory");
    check_join(file, scratch, "file");
    CHECK(mi_jobdir_create(&jobdir, file, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOENT);
    CHECK(strstr(err.text, file) != NULL);
    check_write(file, "x", 1);
    CHECK(mi_jobdir_create(&jobdir, file, &err) == -1);
    CHECK(err.code == ENOTDIR && strstr(err.text, file));
    memset(top, '/', PATH_MAX - 1);
    CHECK(mi_jobdir_create(&jobdir, top, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG);
    CHECK(jobdir.dir == 77);
    unlink(file);
    free(top);
}

/* The reason is mkdir(2)'s, which a later failure must not hide. */
static int create_in_unwritable(void *arg)
{
    struct mi_jobdir jobdir = MI_JOBDIR_NONE;
    struct mi_error err;

    if (geteuid() == 0 && seteuid(65534) != 0)
        return CHECK_SKIP;
    mi_error_clear(&err);
    CHECK(mi_jobdir_create(&jobdir, arg, &err) == -1);
    CHECK_FOR(err.text, err.domain == MI_ERRNO && err.code == EACCES);
    CHECK(strstr(err.text, arg) != NULL && jobdir.dir == -1);
    return 0;
}

static void test_create_unwritable_reason_told(void)
{
    char top[PATH_MAX];

    check_need(mkdir(check_join(top, scratch, "closed"), 0555) == 0 &&
                   chmod(scratch, 0755) == 0,
               top);
    if (!check_child(create_in_unwritable, top, __func__))
        check_skipped(__func__, "no other user can be taken");
    check_need(chmod(scratch, 0700) == 0, scratch);
    rmdir(top);
}

/* With ever more descriptors free: whatever fails, nothing stays behind. */
static int create_with_few_descriptors(void *arg)
{
    struct mi_jobdir jobdir = MI_JOBDIR_NONE;
    struct rlimit limit;
    struct mi_error err;
    rlim_t most;
    int rc = -1, next = open("/dev/null", O_RDONLY);

    (void)arg;
    close(next);
    check_need(getrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
    most = limit.rlim_cur;
    for (int free_ones = 0; rc != 0 && free_ones < 20; free_ones++) {
        limit.rlim_cur = (rlim_t)(next + free_ones);
        check_need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
        rc = mi_jobdir_create(&jobdir, scratch, &err);
        limit.rlim_cur = most;
        check_need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
        if (rc != 0) {
            CHECK(err.domain == MI_ERRNO && err.code == EMFILE);
            CHECK(check_entries(scratch) == 0);
        }
    }
    CHECK(rc == 0);
    mi_jobdir_clear(&jobdir);
    return 0;
}

static void test_create_no_descriptors_nothing_left(void)
{
    check_child(create_with_few_descriptors, NULL, __func__);
    check_remove(scratch);
    check_need(mkdir(scratch, 0700) == 0, scratch);
}

/* ---- clearing
 * ------------------------------------------------------------------ */

static void test_clear_all_removed_repeatable(void)
{
    struct mi_jobdir jobdir = make(scratch), none = MI_JOBDIR_NONE;

    furnish(jobdir.path);
    errno = EXDEV;
    mi_jobdir_clear(&jobdir);
    CHECK(errno == EXDEV);
    CHECK(check_entries(scratch) == 0);
    CHECK(jobdir.dir == -1 && jobdir.lock == -1 && jobdir.guard == -1);
    mi_jobdir_clear(&jobdir);
    mi_jobdir_clear(&none);
    CHECK(exists("/") && exists("/tmp")); /* the link was not followed */
}

static void test_clear_deep_tree_removed(void)
{
    struct mi_jobdir jobdir = make(scratch);
    int dir = dup(jobdir.dir), next;

    for (int i = 0; i < 200; i++) {
        check_need(mkdirat(dir, "directory", 0700) == 0, "mkdir");
        next = openat(dir, "directory", O_RDONLY | O_DIRECTORY);
        check_need(next >= 0, "directory");
        close(dir);
        dir = next;
    }
    close(dir);
    mi_jobdir_clear(&jobdir);
    CHECK(check_entries(scratch) == 0);
}

static int clear_as_child(void *arg)
{
    struct mi_jobdir *jobdir = arg;
    char path[PATH_MAX];

    strcpy(path, jobdir->path);
    mi_jobdir_clear(jobdir);
    CHECK(jobdir->dir == -1 && exists(path));
    mi_jobdir_clear(jobdir);
    CHECK(exists(path));
    return 0;
}

static void test_clear_forked_child_harmless(void)
{
    struct mi_jobdir jobdir = make(scratch);
    struct mi_error err;
    char path[PATH_MAX];

    furnish(jobdir.path);
    CHECK(mi_jobdir_guard(&jobdir, &err) == 0);
    check_child(clear_as_child, &jobdir, __func__);
    CHECK(check_entries(jobdir.path) == 3);
    CHECK(mi_jobdir_sweep(scratch) == 0); /* the lock still holds */
    check_sleep(100);
    CHECK(check_entries(jobdir.path) == 3); /* the guard still waits */
    strcpy(path, jobdir.path);
    mi_jobdir_clear(&jobdir);
    CHECK(!exists(path));
}

/* ---- the guard
 * ------------------------------------------------------------------- */

/* Number of processes that have 'text' in their command line. */
static int processes_with(const char *text)
{
    DIR *stream = opendir("/proc");
    struct dirent *entry;
    char path[300], line[PATH_MAX * 2];
    int count = 0, file;
    ssize_t n;

    check_need(stream != NULL, "/proc");
    while ((entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
        file = open(path, O_RDONLY);
        n = file >= 0 ? read(file, line, sizeof(line)) : -1;
        if (file >= 0)
            close(file);
        count += n > 0 && memmem(line, (size_t)n, text, strlen(text)) != NULL;
    }
    closedir(stream);
    return count;
}

static int no_process_has(void *text)
{
    return processes_with(text) == 0;
}

static void test_guard_cleared_ends(void)
{
    struct mi_jobdir jobdir = make(scratch);
    struct mi_error err;
    char path[PATH_MAX];
    int guard;

    strcpy(path, jobdir.path);
    CHECK(mi_jobdir_guard(&jobdir, &err) == 0);
    guard = jobdir.guard;
    CHECK(guard >= 0 && fcntl(guard, F_GETFD) == FD_CLOEXEC);
    CHECK(mi_jobdir_guard(&jobdir, &err) == 0 && jobdir.guard == guard);
    CHECK(processes_with(path) == 1); /* one is enough */
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    mi_jobdir_clear(&jobdir);
    CHECK(check_until(no_process_has, path, 10));
    CHECK(!exists(path));
}

/* A process that makes a guarded directory, tells its name and then waits to
 * be killed.
 */
struct owner {
    const char *top;
    int out;
    int guarded;
};

static int own(void *arg)
{
    struct owner *owner = arg;
    struct mi_jobdir jobdir = make(owner->top);
    struct mi_error err;

    furnish(jobdir.path);
    if (owner->guarded)
        CHECK(mi_jobdir_guard(&jobdir, &err) == 0);
    check_need(write(owner->out, jobdir.path, sizeof(jobdir.path)) ==
                   sizeof(jobdir.path),
               "pipe");
    close(owner->out);
    pause();
    return 0;
}

static pid_t start_owner(const char *top, int guarded, char *path)
{
    int ends[2];
    struct owner owner = {.top = top, .guarded = guarded};
    pid_t child;

    check_need(pipe(ends) == 0, "pipe");
    owner.out = ends[1];
    child = check_fork(own, &owner);
    close(ends[1]);
    check_need(read(ends[0], path, PATH_MAX) == PATH_MAX, "owner");
    close(ends[0]);
    return child;
}

static void kill_owner(pid_t child, int number)
{
    kill(child, number);
    waitpid(child, NULL, 0);
}

static void test_guard_owner_killed_removed(void)
{
    static const int signals[] = {SIGKILL, SIGTERM, SIGINT};
    char path[PATH_MAX];
    pid_t child;

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        child = start_owner(scratch, 1, path);
        check_sleep(30);
        CHECK(exists(path));
        kill_owner(child, signals[i]);
        CHECK(check_until(is_gone, path, 5));
        CHECK(check_until(no_process_has, path, 5));
    }
    CHECK(check_entries(scratch) == 0);
}

static void test_guard_odd_name_removed(void)
{
    static const char *const names[] = {
        "a b", "it's", "$HOME;`x`", "new\nline", "-rf", "*", "\"q\\"};
    char top[PATH_MAX], path[PATH_MAX];

    check_write(check_join(path, scratch, "bystander"), "x", 1);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        check_need(mkdir(check_join(top, scratch, names[i]), 0700) == 0, top);
        kill_owner(start_owner(top, 1, path), SIGKILL);
        CHECK_FOR(names[i], check_until(is_gone, path, 5));
        CHECK_FOR(names[i], rmdir(top) == 0);
    }
    CHECK(check_entries(scratch) == 1);
    unlink(check_join(path, scratch, "bystander"));
}

/* Launchers wait for the end of file on what their ranks had open. */
static void test_guard_no_descriptor_kept(void)
{
    struct mi_jobdir jobdir = make(scratch);
    struct mi_error err;
    int ends[2], high[2];
    char byte;

    check_need(pipe(ends) == 0 && pipe(high) == 0, "pipe");
    check_need(dup2(high[1], 900) == 900, "dup2");
    CHECK(mi_jobdir_guard(&jobdir, &err) == 0);
    close(ends[1]);
    close(high[1]);
    close(900);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    fcntl(high[0], F_SETFL, O_NONBLOCK);
    CHECK(read(ends[0], &byte, 1) == 0);
    CHECK(read(high[0], &byte, 1) == 0);
    close(ends[0]);
    close(high[0]);
    mi_jobdir_clear(&jobdir);
}

/* As under "ulimit -n 64", with nothing in the environment. */
static int guard_with_low_limit(void *arg)
{
    struct mi_jobdir jobdir = make(scratch);
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
    struct mi_error err;
    char path[PATH_MAX];

    (void)arg;
    clearenv();
    mi_error_clear(&err);
    check_need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
    CHECK_FOR(err.text, mi_jobdir_guard(&jobdir, &err) == 0);
    strcpy(path, jobdir.path);
    CHECK(processes_with(path) == 1);
    mi_jobdir_clear(&jobdir);
    CHECK(check_until(no_process_has, path, 5));
    return 0;
}

static void test_guard_few_descriptors_started(void)
{
    check_child(guard_with_low_limit, NULL, __func__);
}

/* ---- sweeping
 * ---------------------------------------------------------------------- */

/* "SCRATCH/mpiimport-UID-SUFFIX" in 'path'. */
static const char *name_of(char *path, unsigned uid, const char *suffix)
{
    check_need(snprintf(path, PATH_MAX, "%s/" MI_JOBDIR_PREFIX "%u-%s",
                        scratch, uid, suffix) < PATH_MAX,
               "path");
    return path;
}

static void test_sweep_abandoned_removed_live_kept(void)
{
    struct mi_jobdir live = make(scratch);
    char path[PATH_MAX], again[PATH_MAX], other[PATH_MAX];
    pid_t child;

    CHECK(mi_jobdir_sweep(scratch) == 0);
    kill_owner(start_owner(scratch, 0, path), SIGKILL);
    kill_owner(start_owner(scratch, 0, again), SIGKILL);
    child = start_owner(scratch, 0, other);
    CHECK(exists(path) && exists(again));
    CHECK(mi_jobdir_sweep(scratch) == 2);
    CHECK(!exists(path) && !exists(again));
    CHECK(check_entries(other) == 3 && check_entries(live.path) == 1);
    CHECK(mi_jobdir_sweep(scratch) == 0);
    kill_owner(child, SIGKILL);
    CHECK(mi_jobdir_sweep(scratch) == 1);
    mi_jobdir_clear(&live);
    CHECK(check_entries(scratch) == 0);
}

static void test_sweep_without_lock_old_only(void)
{
    char path[PATH_MAX], old[PATH_MAX];
    struct timespec times[2];

    check_need(mkdir(name_of(path, geteuid(), "young"), 0700) == 0 &&
                   mkdir(name_of(old, geteuid(), "old"), 0700) == 0,
               "mkdir");
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= 3600;
    times[1] = times[0];
    check_need(utimensat(AT_FDCWD, old, times, 0) == 0, old);
    CHECK(mi_jobdir_sweep(scratch) == 1);
    CHECK(exists(path) && !exists(old));
    rmdir(path);
}

static void test_sweep_others_things_kept(void)
{
    char path[PATH_MAX], target[PATH_MAX], lock[PATH_MAX];

    check_write(name_of(path, geteuid(), "file"), "x", 1);
    check_need(mkdir(check_join(target, scratch, "target"), 0700) == 0 &&
                   symlink("target", name_of(path, geteuid(), "link")) == 0,
               path);
    check_write(check_join(lock, target, "lock"), "", 0);
    check_need(mkdir(name_of(path, geteuid() + 1, "other"), 0700) == 0, path);
    check_write(check_join(lock, path, "lock"), "", 0);
    check_need(mkdir(check_join(path, scratch, "mpiimport"), 0700) == 0, path);
    check_write(check_join(lock, path, "lock"), "", 0);
    CHECK(mi_jobdir_sweep(scratch) == 0);
    CHECK(check_entries(scratch) == 5 && check_entries(target) == 1);
    CHECK(mi_jobdir_sweep(target) == 0);
    CHECK(mi_jobdir_sweep(lock) == 0);
    CHECK(mi_jobdir_sweep(check_join(path, scratch, "absent")) == 0);
    CHECK(mi_jobdir_sweep("") == 0);
    check_remove(scratch);
    check_need(mkdir(scratch, 0700) == 0, scratch);
}

static void test_sweep_foreign_owner_kept(void)
{
    char path[PATH_MAX], lock[PATH_MAX];

    if (geteuid() != 0) {
        check_skipped(__func__, "only root can give files away");
        return;
    }
    check_need(mkdir(name_of(path, 0, "foreign"), 0700) == 0, path);
    check_write(check_join(lock, path, "lock"), "", 0);
    check_need(chown(path, 65534, 65534) == 0, path);
    CHECK(mi_jobdir_sweep(scratch) == 0);
    CHECK(check_entries(path) == 1);
    check_remove(path);
}

/* A lock that is a link leads nowhere. */
static void test_sweep_lock_link_not_followed(void)
{
    char path[PATH_MAX], lock[PATH_MAX];

    check_need(mkdir(name_of(path, geteuid(), "linked"), 0700) == 0, path);
    check_need(symlink("/dev/null", check_join(lock, path, "lock")) == 0,
               path);
    CHECK(mi_jobdir_sweep(scratch) == 0);
    CHECK(exists(path));
    check_remove(path);
}

/* Leaders of several jobs start at once on a node: who sweeps must not take a
 * directory that is just being made for an abandoned one.
 */
static void sweep_scratch(void)
{
    mi_jobdir_sweep(scratch);
}

static void test_sweep_before_lock_spares_new(void)
{
    struct mi_jobdir jobdir = MI_JOBDIR_NONE;
    struct mi_error err;

    mi_error_clear(&err);
    before_lock = sweep_scratch;
    CHECK_FOR(err.text, mi_jobdir_create(&jobdir, scratch, &err) == 0);
    before_lock = NULL;
    CHECK_FOR(jobdir.path, check_entries(jobdir.path) == 1);
    CHECK(mi_jobdir_sweep(scratch) == 0);
    mi_jobdir_clear(&jobdir);
    CHECK(check_entries(scratch) == 0);
}

/* Several machines may share it, as far as is known. */
static int sweep_unknown_filesystem(void *arg)
{
    struct mi_jobdir jobdir;
    char path[PATH_MAX];

    if (!check_small_tmpfs(arg, 64) ||
        mount("none", arg, "hugetlbfs", 0, NULL) != 0)
        return CHECK_SKIP;
    jobdir = make(arg);
    strcpy(path, jobdir.path);
    close(jobdir.lock); /* as if killed */
    jobdir.lock = -1;
    CHECK(mi_jobdir_sweep(arg) == 0);
    CHECK(exists(path));
    mi_jobdir_clear(&jobdir);
    CHECK(!exists(path));
    return 0;
}

static void test_sweep_unknown_filesystem_kept(void)
{
    char path[PATH_MAX];

    check_need(mkdir(check_join(path, scratch, "mount"), 0700) == 0, path);
    if (!check_child(sweep_unknown_filesystem, path, __func__))
        check_skipped(__func__, "no hugetlbfs can be mounted here");
    rmdir(path);
}

/* ---- execution -----------------------------------------------------------
 */

static int try_noexec(void *arg)
{
    struct mi_jobdir jobdir;
    struct mi_error err;

    if (!check_small_tmpfs(arg, 64) || !check_noexec_tmpfs(arg, 64))
        return CHECK_SKIP;
    jobdir = make(arg);
    mi_error_clear(&err);
    CHECK(mi_jobdir_try_execution(&jobdir, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EPERM);
    CHECK(strstr(err.text, arg) != NULL);
    CHECK(check_entries(jobdir.path) == 1); /* the lock */
    mi_jobdir_clear(&jobdir);
    return 0;
}

static void test_try_execution_noexec_refused(void)
{
    struct mi_jobdir jobdir = make(scratch);
    struct mi_error err;
    char path[PATH_MAX];

    mi_error_clear(&err);
    CHECK_FOR(err.text, mi_jobdir_try_execution(&jobdir, &err) == 0);
    CHECK_FOR(err.text, mi_jobdir_try_execution(&jobdir, &err) == 0);
    CHECK(check_entries(jobdir.path) == 1);
    mi_jobdir_clear(&jobdir);
    check_need(mkdir(check_join(path, scratch, "mount"), 0700) == 0, path);
    if (!check_child(try_noexec, path, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
    rmdir(path);
}

#define SWEEPERS 2

static int sweep_for_a_while(void *arg)
{
    double end = check_seconds() + *(const double *)arg;

    while (check_seconds() < end)
        mi_jobdir_sweep(scratch);
    return 0;
}

static void test_sweep_beside_create_spares_new(void)
{
    double seconds = 0.7, end;
    pid_t child[SWEEPERS];
    int made = 0, refused = 0, lost = 0;
    struct mi_error err;

    mi_error_clear(&err);
    for (int i = 0; i < SWEEPERS; i++)
        child[i] = check_fork(sweep_for_a_while, &seconds);
    end = check_seconds() + seconds;
    while (check_seconds() < end) {
        struct mi_jobdir jobdir = MI_JOBDIR_NONE;

        made++;
        if (mi_jobdir_create(&jobdir, scratch, &err) != 0)
            refused++;
        else
            lost += check_entries(jobdir.path) != 1;
        mi_jobdir_clear(&jobdir);
    }
    for (int i = 0; i < SWEEPERS; i++)
        check_join_child(child[i], __func__);
    CHECK(made > 0);
    CHECK_FOR(err.text, refused == 0);
    CHECK(lost == 0);
    CHECK(check_entries(scratch) == 0);
}

int main(void)
{
    check_scratch(scratch);
    test_create_private_locked();
    test_create_no_directory_refused();
    test_create_unwritable_reason_told();
    test_create_no_descriptors_nothing_left();
    test_clear_all_removed_repeatable();
    test_clear_deep_tree_removed();
    test_clear_forked_child_harmless();
    test_guard_cleared_ends();
    test_guard_owner_killed_removed();
    test_guard_odd_name_removed();
    test_guard_no_descriptor_kept();
    test_guard_few_descriptors_started();
    test_sweep_abandoned_removed_live_kept();
    test_sweep_without_lock_old_only();
    test_sweep_others_things_kept();
    test_sweep_foreign_owner_kept();
    test_sweep_lock_link_not_followed();
    test_sweep_before_lock_spares_new();
    test_sweep_beside_create_spares_new();
    test_sweep_unknown_filesystem_kept();
    test_try_execution_noexec_refused();
    check_remove(scratch);
    return check_report();
}
