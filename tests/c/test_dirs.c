/* Tests of src/dirs.c: what is kept, what it saves, and what may happen to the
 * descriptors and the directories meanwhile.
 */
#include "check.h"

#include <pthread.h>
#include <sys/resource.h>

#include "../../src/dirs.h"

static char scratch[PATH_MAX];
static struct mi_traffic traffic;

/* "SCRATCH/NAME", in one of a few buffers. */
static const char *below(const char *name)
{
    static _Thread_local char path[4][PATH_MAX];
    static _Thread_local unsigned next;

    next = (next + 1) % 4;
    return check_join(path[next], scratch, name);
}

static struct mi_dirs *make(int most)
{
    struct mi_dirs *dirs = NULL;

    check_need(mi_dirs_create(&dirs, most, &traffic, NULL) == 0, "memory");
    atomic_store(&traffic.operations, 0);
    return dirs;
}

static void make_file(const char *directory, const char *text)
{
    char path[PATH_MAX];

    check_need(mkdir(below(directory), 0700) == 0 || errno == EEXIST,
               directory);
    check_write(check_join(path, below(directory), "file"), text,
                strlen(text));
}

static uint64_t operations(void)
{
    return atomic_load(&traffic.operations);
}

/* Is this what is in the file, opened by 'path'? */
static int holds(struct mi_dirs *dirs, const char *path, const char *text)
{
    char found[100] = "";
    int file = mi_dirs_open(dirs, path, O_RDONLY);
    ssize_t size;

    if (file < 0)
        return 0;
    size = read(file, found, sizeof(found) - 1);
    close(file);
    return size >= 0 && strcmp(found, text) == 0;
}

static int fails(struct mi_dirs *dirs, const char *path, int code)
{
    int file = mi_dirs_open(dirs, path, O_RDONLY);

    if (file >= 0)
        close(file);
    return file < 0 && errno == code;
}

/* The one descriptor of this process that is open on a directory. */
static int descriptor_of(const char *path)
{
    struct stat wanted, status;

    check_need(stat(path, &wanted) == 0, path);
    for (int file = 1100; file > 2; file--)
        if (fstat(file, &status) == 0 && status.st_dev == wanted.st_dev &&
            status.st_ino == wanted.st_ino)
            return file;
    return -1;
}

static void test_second_file_one_operation(void)
{
    struct mi_dirs *dirs = make(-1);
    struct stat status;

    make_file("a", "one");
    CHECK(holds(dirs, below("a/file"), "one"));
    /* Its directory, and the one above that. */
    CHECK(operations() == 3 && mi_dirs_kept(dirs) == 2);
    CHECK(holds(dirs, below("a/file"), "one"));
    CHECK(operations() == 4);
    CHECK(mi_dirs_stat(dirs, below("a/file"), 0, &status) == 0 &&
          status.st_size == 3);
    CHECK(fails(dirs, below("a/absent"), ENOENT));
    CHECK(operations() == 6 && mi_dirs_kept(dirs) == 2);
    /* A status alone opens no directory. */
    CHECK(mi_dirs_stat(dirs, below("a"), 0, &status) == 0);
    CHECK(operations() == 7 && mi_dirs_kept(dirs) == 2);
    mi_dirs_destroy(dirs);
    mi_dirs_destroy(NULL);
}

static void test_no_directory_as_kernel(void)
{
    struct mi_dirs *dirs = make(-1);

    make_file("a", "one");
    CHECK(fails(dirs, below("absent/file"), ENOENT));
    CHECK(operations() == 2);
    CHECK(fails(dirs, below("a/file/file"), ENOTDIR));
    CHECK(mi_dirs_kept(dirs) == 2); /* the one above, and "a" */
    mi_dirs_destroy(dirs);
}

/* What is no name to look for is the kernel's; links are followed. */
static void test_paths_as_kernel(void)
{
    static const char *const same[] = {"a/../a/file", "link/file", "a/to-file",
                                       "link/../b/file"};
    struct mi_dirs *dirs = make(-1);
    char text[100], target[100];
    struct stat status;

    make_file("b", "two");
    make_file("b/c", "three");
    make_file("a", "one");
    check_need(symlink("b/c", below("link")) == 0 &&
                   symlink("../b/file", below("a/to-file")) == 0 &&
                   mkdir(below("b/b"), 0700) == 0,
               "symlink");
    make_file("b/b", "four");
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        int file = open(below(same[i]), O_RDONLY);
        ssize_t size = read(file, text, sizeof(text) - 1);

        check_need(size > 0, same[i]);
        close(file);
        text[size] = '\0';
        CHECK_FOR(same[i], holds(dirs, below(same[i]), text));
        CHECK_FOR(same[i], holds(dirs, below(same[i]), text));
    }
    CHECK(mi_dirs_stat(dirs, below("link"), 0, &status) == 0 &&
          S_ISDIR(status.st_mode));
    CHECK(mi_dirs_stat(dirs, below("a/to-file"), AT_SYMLINK_NOFOLLOW,
                       &status) == 0 &&
          S_ISLNK(status.st_mode));
    CHECK(mi_dirs_readlink(dirs, below("a/to-file"), target, sizeof(target)) ==
          9);
    CHECK(mi_dirs_stat(dirs, below("a/.."), 0, &status) == 0);
    CHECK(mi_dirs_stat(dirs, below("a/"), 0, &status) == 0);
    CHECK(mi_dirs_stat(dirs, "/", 0, &status) == 0);
    mi_dirs_destroy(dirs);
}

static void test_full_oldest_closed(void)
{
    struct mi_dirs *dirs = make(2);
    int before = descriptor_of(scratch);

    for (int round = 0; round < 2; round++) {
        CHECK(holds(dirs, below("a/file"), "one"));
        CHECK(holds(dirs, below("b/file"), "two"));
        CHECK(holds(dirs, below("b/c/file"), "three"));
        CHECK(mi_dirs_kept(dirs) == 2);
    }
    CHECK(descriptor_of(below("a")) < 0);
    CHECK(descriptor_of(below("b/c")) > 0);
    mi_dirs_destroy(dirs);
    CHECK(descriptor_of(below("b/c")) < 0);
    CHECK(descriptor_of(scratch) == before);
}

static void test_none_kept_by_path(void)
{
    struct mi_dirs *dirs = make(0);

    CHECK(holds(dirs, below("a/file"), "one"));
    CHECK(operations() == 1 && mi_dirs_kept(dirs) == 0);
    mi_dirs_destroy(dirs);
}

/* The program's descriptors have the numbers that they would have anyway; a
 * child that executes something gets none of ours.
 */
static void test_numbers_high_and_closed_on_exec(void)
{
    struct mi_dirs *dirs = make(-1);
    int before = dup(0), after, file;

    close(before);
    CHECK(holds(dirs, below("a/file"), "one"));
    after = dup(0);
    close(after);
    file = descriptor_of(below("a"));
    CHECK(after == before && file > after + 10);
    CHECK(fcntl(file, F_GETFD) & FD_CLOEXEC);
    mi_dirs_destroy(dirs);
}

/* The program closes what is not its own, and opens something else. */
static void test_number_taken_by_program_left_alone(void)
{
    struct mi_dirs *dirs = make(-1);
    int file, other;

    CHECK(holds(dirs, below("a/file"), "one"));
    file = descriptor_of(below("a"));
    check_need(file > 0, "descriptor");
    close(file);
    CHECK(holds(dirs, below("a/file"), "one"));
    file = descriptor_of(below("a"));
    other = open(below("b"), O_RDONLY | O_DIRECTORY);
    check_need(file > 0 && dup2(other, file) == file, "descriptor");
    CHECK(holds(dirs, below("a/file"), "one"));
    CHECK(fcntl(file, F_GETFD) >= 0); /* the program's by now */
    mi_dirs_destroy(dirs);
    CHECK(fcntl(file, F_GETFD) >= 0);
    close(file);
    close(other);
}

/* Who renames a directory does not change what is read; one that was removed
 * is not where another one has its name.
 */
static void test_renamed_followed_removed_forgotten(void)
{
    struct mi_dirs *dirs = make(-1);

    make_file("old", "old");
    CHECK(holds(dirs, below("old/file"), "old"));
    check_need(rename(below("old"), below("moved")) == 0, "rename");
    make_file("old", "new");
    CHECK(holds(dirs, below("old/file"), "old"));
    check_remove(below("moved"));
    CHECK(holds(dirs, below("old/file"), "new"));
    mi_dirs_destroy(dirs);
}

static void test_listed_kept(void)
{
    struct mi_dirs *dirs = make(-1);
    int dir = mi_dirs_open(dirs, below("a"), O_RDONLY | O_DIRECTORY);

    CHECK(dir >= 0 && operations() == 2 && mi_dirs_kept(dirs) == 1);
    mi_dirs_keep(dirs, below("a"), dir);
    mi_dirs_keep(dirs, below("a"), dir);
    close(dir);
    CHECK(mi_dirs_kept(dirs) == 2);
    CHECK(holds(dirs, below("a/file"), "one") && operations() == 3);
    mi_dirs_destroy(dirs);
}

static void test_real_of_directories(void)
{
    static const char *const names[] = {"a", "link", "b/../link", "."};
    struct mi_dirs *dirs = make(-1);
    char real[PATH_MAX], *expected;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        expected = realpath(below(names[i]), NULL);
        CHECK_FOR(names[i], mi_dirs_real(dirs, below(names[i]), real) == 0 &&
                                strcmp(real, expected) == 0);
        free(expected);
    }
    CHECK(operations() == 6);
    CHECK(mi_dirs_real(dirs, below("a"), real) == 0 && operations() == 6);
    CHECK(mi_dirs_real(dirs, "/", real) == 0 && strcmp(real, "/") == 0);
    CHECK(mi_dirs_real(dirs, below("absent"), real) != 0 && errno == ENOENT);
    mi_dirs_destroy(dirs);
}

static void test_hint_of_new_file_right(void)
{
    struct mi_dirs *dirs = make(-1);
    struct stat hint, status;
    int file = mi_dirs_open(dirs, below("b/c/file"), O_RDONLY);

    check_need(file >= 0 && fstat(file, &status) == 0, "file");
    CHECK(mi_dirs_hint(file, &hint) == 0 && hint.st_size == status.st_size &&
          hint.st_mode == status.st_mode && hint.st_ino == status.st_ino &&
          hint.st_dev == status.st_dev &&
          hint.st_mtim.tv_nsec == status.st_mtim.tv_nsec);
    CHECK(mi_dirs_kind(dirs, file, status.st_dev) ==
          mi_dirs_kind(dirs, -1, status.st_dev)); /* asked once */
    CHECK(mi_dirs_kind(dirs, -1, 0) == MI_DIRS_OTHER);
    close(file);
    CHECK(mi_dirs_hint(file, &hint) != 0 && errno == EBADF);
    mi_dirs_destroy(dirs);
}

/* A process that may open few files more: by the path, then. */
static void test_no_descriptors_by_path(void)
{
    struct mi_dirs *dirs = make(-1);
    struct rlimit limit, few;

    check_need(getrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
    few = (struct rlimit){.rlim_cur = 60, .rlim_max = limit.rlim_max};
    check_need(setrlimit(RLIMIT_NOFILE, &few) == 0, "limit");
    CHECK(holds(dirs, below("a/file"), "one"));
    CHECK(mi_dirs_kept(dirs) == 0);
    check_need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
    mi_dirs_destroy(dirs);
}

/* ---- threads ------------------------------------------------------------ */

enum { THREADS = 4, ROUNDS = 2000 };

struct user {
    struct mi_dirs *dirs;
    int number, right;
};

static pthread_barrier_t together;

static void *use(void *arg)
{
    static const char *const names[] = {"a/file", "b/file", "b/c/file"};
    static const char *const texts[] = {"one", "two", "three"};
    struct user *user = arg;

    pthread_barrier_wait(&together);
    for (int i = 0; i < ROUNDS; i++) {
        int which = (i + user->number) % 3;

        user->right += holds(user->dirs, below(names[which]), texts[which]);
    }
    return NULL;
}

static void run_users(int most, uint64_t expected)
{
    struct user user[THREADS];
    pthread_t thread[THREADS];
    struct mi_dirs *dirs = make(most);

    pthread_barrier_init(&together, NULL, THREADS);
    for (int t = 0; t < THREADS; t++) {
        user[t] = (struct user){.dirs = dirs, .number = t};
        check_need(pthread_create(&thread[t], NULL, use, &user[t]) == 0,
                   "thread");
    }
    for (int t = 0; t < THREADS; t++) {
        pthread_join(thread[t], NULL);
        CHECK(user[t].right == ROUNDS);
    }
    CHECK(!expected || operations() == expected);
    pthread_barrier_destroy(&together);
    mi_dirs_destroy(dirs);
}

/* Each directory is opened once, though all ask at the same time. */
static void test_threads_each_opened_once(void)
{
    run_users(-1, THREADS * ROUNDS + 4);
}

/* None is closed under a user. */
static void test_threads_few_places_right(void)
{
    run_users(1, 0);
    run_users(2, 0);
}

int main(void)
{
    check_scratch(scratch);
    test_second_file_one_operation();
    test_no_directory_as_kernel();
    test_paths_as_kernel();
    test_full_oldest_closed();
    test_none_kept_by_path();
    test_numbers_high_and_closed_on_exec();
    test_number_taken_by_program_left_alone();
    test_renamed_followed_removed_forgotten();
    test_listed_kept();
    test_real_of_directories();
    test_hint_of_new_file_right();
    test_no_descriptors_by_path();
    test_threads_each_opened_once();
    test_threads_few_places_right();
    check_remove(scratch);
    return check_report();
}
