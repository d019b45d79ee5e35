/* Tests of src/mirror.c: a tree that repeats the original paths. */
#include "check.h"

#include <pthread.h>

#include "../../src/jobdir.h"
#include "../../src/mirror.h"

static char scratch[PATH_MAX];

static struct mi_mirror *make(void)
{
    struct mi_mirror *mirror = NULL;

    CHECK(mi_mirror_create(&mirror, scratch, NULL) == 0);
    check_need(mirror != NULL, "mirror");
    return mirror;
}

/* Put 'size' bytes into the mirror as the object of 'path'. */
static int put(struct mi_mirror *mirror, uint64_t id, const char *path,
               const void *bytes, size_t size, struct mi_error *err)
{
    struct mi_part part;

    if (mi_mirror_begin(mirror, id, size, 0755, &part, err) != 0)
        return -1;
    if (mi_part_write(&part, 0, bytes, size, err) != 0) {
        mi_mirror_abandon(mirror, &part);
        return -1;
    }
    return mi_mirror_finish(mirror, &part, path, err);
}

/* "ROOT/PATH" in the mirror. */
static const char *place_of(const struct mi_mirror *mirror, const char *path)
{
    static char place[PATH_MAX * 2];

    snprintf(place, sizeof(place), "%s%s", mi_mirror_root(mirror), path);
    return place;
}

/* The job's directory, in which the tree lies. */
static void job_of(const struct mi_mirror *mirror, char *path)
{
    strcpy(path, mi_mirror_root(mirror));
    *strrchr(path, '/') = '\0';
}

static void test_create_nothing_made(void)
{
    struct mi_mirror *mirror = make();

    CHECK(check_entries(scratch) == 0);
    CHECK(strcmp(mi_mirror_root(mirror), "") == 0);
    CHECK(mi_mirror_bytes(mirror) == 0);
    mi_mirror_remove(mirror);
    mi_mirror_remove(mirror);
    mi_mirror_destroy(mirror);
    mi_mirror_destroy(NULL);
    CHECK(check_entries(scratch) == 0);
}

static void test_create_top_too_long_refused(void)
{
    struct mi_mirror *mirror = NULL;
    char *top = calloc(1, PATH_MAX + 1);
    struct mi_error err;

    check_need(top != NULL, "memory");
    memset(top, 'x', PATH_MAX);
    CHECK(mi_mirror_create(&mirror, top, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG && !mirror);
    free(top);
}

static void test_begin_bad_top_refused(void)
{
    char *top = calloc(1, PATH_MAX), path[PATH_MAX];
    struct mi_mirror *mirror = NULL;
    struct mi_error err;
    struct mi_part part = {.id = 77};

    check_need(top != NULL, "memory");
    CHECK(mi_mirror_create(&mirror, check_join(path, scratch, "absent"),
                           &err) == 0);
    CHECK(mi_mirror_begin(mirror, 1, 10, 0644, &part, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOENT && part.id == 77);
    CHECK(strcmp(mi_mirror_root(mirror), "") == 0);
    mi_mirror_destroy(mirror);
    /* The job's directory would fit, its tree would not. */
    memset(top, '/', PATH_MAX - 2);
    memcpy(top, scratch, strlen(scratch));
    for (size_t length = PATH_MAX - 60; length < PATH_MAX - 1; length++) {
        top[length] = '\0';
        CHECK(mi_mirror_create(&mirror, top, &err) == 0);
        if (mi_mirror_begin(mirror, 1, 10, 0644, &part, &err) == 0)
            mi_mirror_abandon(mirror, &part);
        else
            CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG);
        mi_mirror_destroy(mirror);
        top[length] = '/';
    }
    CHECK(check_entries(scratch) == 0);
    free(top);
}

static void test_finish_path_repeated(void)
{
    static const char *const paths[] = {"/a.so", "/usr/lib/x/y z.so",
                                        "/usr/lib/x/\303\251.so", "/usr/b.so",
                                        "/.hidden/..so"};
    struct mi_mirror *mirror = make();
    struct mi_error err;
    struct stat status;
    char job[PATH_MAX];
    uint64_t bytes = 0;

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        mi_error_clear(&err);
        CHECK_FOR(err.text, put(mirror, i + 1, paths[i], paths[i],
                                strlen(paths[i]), &err) == 0);
        bytes += strlen(paths[i]);
        CHECK(mi_mirror_bytes(mirror) == bytes);
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        CHECK_FOR(paths[i], check_holds(place_of(mirror, paths[i]), paths[i],
                                        strlen(paths[i])));
        CHECK(stat(place_of(mirror, paths[i]), &status) == 0 &&
              status.st_nlink == 1 && (status.st_mode & 0500) == 0500 &&
              (status.st_mode & 077) == 0);
    }
    job_of(mirror, job);
    CHECK(strncmp(job, scratch, strlen(scratch)) == 0);
    CHECK(stat(job, &status) == 0 && (status.st_mode & 07777) == 0700);
    CHECK(check_entries(job) == 2); /* the lock and the tree: no parts */
    CHECK(check_entries(scratch) == 1);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
}

static void test_finish_pieces_joined(void)
{
    enum { SIZE = 300000, PIECE = 70001 };
    struct mi_mirror *mirror = make();
    unsigned char *bytes = malloc(SIZE);
    struct mi_part part;
    size_t at = SIZE;

    check_need(bytes != NULL, "memory");
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (unsigned char)(i * 31 >> 3);
    CHECK(mi_mirror_begin(mirror, 9, SIZE, 0555, &part, NULL) == 0);
    CHECK(part.id == 9 && part.size == SIZE && part.file >= 0);
    CHECK(fcntl(part.file, F_GETFD) == FD_CLOEXEC);
    while (at > 0) { /* from the end */
        size_t size = at % PIECE ? at % PIECE : PIECE;

        at -= size;
        CHECK(mi_part_write(&part, at, bytes + at, size, NULL) == 0);
    }
    CHECK(mi_part_write(&part, 0, NULL, 0, NULL) == 0);
    CHECK(access(place_of(mirror, "/p/q.so"), F_OK) != 0); /* not yet */
    CHECK(mi_mirror_finish(mirror, &part, "/p/q.so", NULL) == 0);
    CHECK(part.file == -1);
    CHECK(check_holds(place_of(mirror, "/p/q.so"), bytes, SIZE));
    mi_mirror_destroy(mirror);
    free(bytes);
}

static void test_finish_present_first_stays(void)
{
    struct mi_mirror *mirror = make();
    char job[PATH_MAX];

    CHECK(put(mirror, 1, "/a/b.so", "first", 5, NULL) == 0);
    CHECK(put(mirror, 2, "/a/b.so", "second", 6, NULL) == 0);
    CHECK(check_holds(place_of(mirror, "/a/b.so"), "first", 5));
    job_of(mirror, job);
    CHECK(check_entries(job) == 2);
    CHECK(mi_mirror_bytes(mirror) == 5); /* what is in place */
    mi_mirror_destroy(mirror);
}

static void expect_refused(struct mi_mirror *mirror, const char *path)
{
    struct mi_error err;
    struct mi_part part;

    mi_error_clear(&err);
    CHECK(mi_mirror_begin(mirror, 5, 4, 0755, &part, &err) == 0);
    CHECK_FOR(path, mi_mirror_finish(mirror, &part, path, &err) == -1);
    CHECK_FOR(path, err.domain == MI_ERRNO && err.text[0] != '\0');
    CHECK_FOR(path, part.file == -1);
}

static void test_finish_bad_path_refused(void)
{
    struct mi_mirror *mirror = make();
    char *path = calloc(1, PATH_MAX + 1), job[PATH_MAX];

    check_need(path != NULL, "memory");
    CHECK(put(mirror, 1, "/file", "x", 1, NULL) == 0);
    expect_refused(mirror, "relative/a.so");
    expect_refused(mirror, "/file/below.so");
    memset(path, '/', PATH_MAX);
    path[PATH_MAX] = '\0';
    expect_refused(mirror, path);
    memset(path + 1, 'x', 300); /* a name too long */
    path[301] = '\0';
    expect_refused(mirror, path);
    job_of(mirror, job);
    CHECK(check_entries(job) == 2);
    CHECK(mi_mirror_bytes(mirror) == 1);
    CHECK(check_holds(place_of(mirror, "/file"), "x", 1));
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
    free(path);
}

/* "/.." is "/" to the kernel; in the tree it would be a way out of it. */
static void test_finish_parent_of_root_stays_inside(void)
{
    static const char *const paths[] = {
        "/../escaped-1.so", "/../../escaped-2.so", "/a/../../../escaped-3.so"};
    struct mi_mirror *mirror = make();
    char job[PATH_MAX];

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        put(mirror, i + 1, paths[i], "x", 1, NULL); /* or refused */
    job_of(mirror, job);
    CHECK(check_entries(job) == 2);
    CHECK(check_entries(scratch) == 1);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
    check_remove(scratch);
    check_need(mkdir(scratch, 0700) == 0, scratch);
}

static void test_link_same_file(void)
{
    struct mi_mirror *mirror = make();
    char first[PATH_MAX * 2], job[PATH_MAX];
    struct stat one, two;
    struct mi_error err;

    CHECK(put(mirror, 1, "/a/b.so", "bytes", 5, NULL) == 0);
    CHECK(put(mirror, 2, "/a/other.so", "other", 5, NULL) == 0);
    CHECK(mi_mirror_link(mirror, "/a/b.so", "/c/d/../e.so", NULL) == 0);
    strcpy(first, place_of(mirror, "/a/b.so"));
    CHECK(stat(first, &one) == 0 &&
          stat(place_of(mirror, "/c/e.so"), &two) == 0);
    CHECK(one.st_ino == two.st_ino && two.st_nlink == 2);
    CHECK(mi_mirror_bytes(mirror) == 10); /* no more than before */
    /* What is there was a copy of its own: one file from now on. */
    CHECK(mi_mirror_link(mirror, "/a/b.so", "/a/other.so", NULL) == 0);
    CHECK(check_holds(place_of(mirror, "/a/other.so"), "bytes", 5));
    CHECK(mi_mirror_link(mirror, "/a/b.so", "/a/other.so", NULL) == 0);
    mi_error_clear(&err);
    CHECK(mi_mirror_link(mirror, "/a/absent.so", "/a/f.so", &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOENT);
    CHECK(mi_mirror_link(mirror, "relative", "/a/f.so", &err) == -1);
    CHECK(mi_mirror_link(mirror, "/a/b.so", "relative", &err) == -1);
    CHECK(mi_mirror_link(mirror, "/a/b.so", "/a/b.so/f.so", &err) == -1);
    CHECK(mi_mirror_link(mirror, "/../a/b.so", "/../../g.so", NULL) == 0);
    CHECK(access(place_of(mirror, "/g.so"), F_OK) == 0);
    job_of(mirror, job);
    CHECK(check_entries(job) == 2);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
}

/* Thousands may be begun at a time. */
static void test_part_closed_finished_or_abandoned(void)
{
    struct mi_mirror *mirror = make();
    struct mi_part part, other;
    char job[PATH_MAX];
    int file;

    CHECK(mi_mirror_begin(mirror, 1, 5, 0755, &part, NULL) == 0);
    CHECK(mi_mirror_begin(mirror, 2, 5, 0755, &other, NULL) == 0);
    CHECK(mi_part_write(&part, 0, "bytes", 5, NULL) == 0);
    file = part.file;
    mi_part_close(&part);
    mi_part_close(&part);
    mi_part_close(&other);
    CHECK(part.file == -1 && fcntl(file, F_GETFD) == -1);
    CHECK(mi_mirror_finish(mirror, &part, "/a.so", NULL) == 0);
    CHECK(check_holds(place_of(mirror, "/a.so"), "bytes", 5));
    mi_mirror_abandon(mirror, &other);
    job_of(mirror, job);
    CHECK(check_entries(job) == 2);
    mi_mirror_destroy(mirror);
}

static void test_begin_same_id_refused(void)
{
    struct mi_mirror *mirror = make();
    struct mi_part part, other = {.id = 77};
    struct mi_error err;

    CHECK(mi_mirror_begin(mirror, 3, 10, 0644, &part, &err) == 0);
    CHECK(mi_mirror_begin(mirror, 3, 10, 0644, &other, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EEXIST && other.id == 77);
    mi_mirror_abandon(mirror, &part);
    CHECK(part.file == -1);
    CHECK(mi_mirror_begin(mirror, 3, 0, 0644, &part, &err) == 0);
    CHECK(mi_mirror_finish(mirror, &part, "/empty", &err) == 0);
    CHECK(check_holds(place_of(mirror, "/empty"), "", 0));
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
}

static void test_remove_then_no_more_added(void)
{
    struct mi_mirror *mirror = make();
    struct mi_part part, open_part;
    struct mi_error err;

    CHECK(put(mirror, 1, "/a.so", "x", 1, NULL) == 0);
    CHECK(mi_mirror_begin(mirror, 2, 10, 0644, &open_part, &err) == 0);
    mi_mirror_remove(mirror);
    CHECK(check_entries(scratch) == 0);
    CHECK(mi_part_write(&open_part, 0, "0123456789", 10, &err) == 0);
    CHECK(mi_mirror_finish(mirror, &open_part, "/b.so", &err) == -1);
    CHECK(mi_mirror_begin(mirror, 3, 10, 0644, &part, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.text[0] != '\0');
    CHECK(check_entries(scratch) == 0);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
}

static int remove_as_child(void *arg)
{
    struct mi_mirror *mirror = arg;

    CHECK(check_holds(place_of(mirror, "/a.so"), "x", 1));
    mi_mirror_remove(mirror);
    CHECK(check_holds(place_of(mirror, "/a.so"), "x", 1));
    mi_mirror_destroy(mirror);
    return 0;
}

static void test_remove_forked_child_harmless(void)
{
    struct mi_mirror *mirror = make();

    CHECK(put(mirror, 1, "/a.so", "x", 1, NULL) == 0);
    check_child(remove_as_child, mirror, __func__);
    check_sleep(50);
    CHECK(check_holds(place_of(mirror, "/a.so"), "x", 1));
    CHECK(put(mirror, 2, "/b.so", "y", 1, NULL) == 0);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
}

static int add_and_die(void *arg)
{
    struct mi_mirror *mirror = make();

    (void)arg;
    CHECK(put(mirror, 1, "/a/b/c.so", "x", 1, NULL) == 0);
    return 0; /* without removing anything */
}

static int scratch_empty(void *arg)
{
    (void)arg;
    return check_entries(scratch) == 0;
}

static void test_owner_ends_without_remove_nothing_left(void)
{
    check_child(add_and_die, NULL, __func__);
    CHECK(check_until(scratch_empty, NULL, 5));
}

static int add_on_small_filesystem(void *arg)
{
    struct mi_mirror *mirror = NULL;
    struct mi_part part;
    struct mi_error err;
    char job[PATH_MAX], *block = calloc(1, 600u << 10);

    if (!check_small_tmpfs(arg, 1024))
        return CHECK_SKIP;
    check_need(block != NULL, "memory");
    CHECK(mi_mirror_create(&mirror, arg, &err) == 0);
    CHECK(put(mirror, 1, "/a.so", block, 600u << 10, &err) == 0);
    CHECK(mi_mirror_begin(mirror, 2, 600u << 10, 0644, &part, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC);
    CHECK(strstr(err.text, arg) != NULL);
    job_of(mirror, job);
    CHECK(check_entries(job) == 2);
    CHECK(check_holds(place_of(mirror, "/a.so"), block, 600u << 10));
    CHECK(put(mirror, 3, "/c.so", block, 100u << 10, &err) == 0);
    CHECK(mi_mirror_bytes(mirror) == 700u << 10);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(arg) == 0);
    free(block);
    return 0;
}

static void test_begin_filesystem_full_refused(void)
{
    char path[PATH_MAX];

    check_need(mkdir(check_join(path, scratch, "small"), 0700) == 0, path);
    if (!check_child(add_on_small_filesystem, path, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
    rmdir(path);
}

/* ---- places ------------------------------------------------------------- */

/* SCRATCH/NAME, made. */
static char *make_place(char *path, const char *name)
{
    check_need(mkdir(check_join(path, scratch, name), 0700) == 0, path);
    return path;
}

/* What a killed job has left in 'top'. */
static void leave_behind(const char *top, char *path)
{
    char lock[PATH_MAX];

    check_need(snprintf(path, PATH_MAX, "%s/" MI_JOBDIR_PREFIX "%u-left", top,
                        (unsigned)geteuid()) < PATH_MAX &&
                   mkdir(path, 0700) == 0,
               path);
    check_write(check_join(lock, path, "lock"), "", 0);
}

static void test_begin_no_directory_next_place_taken(void)
{
    struct mi_mirror *mirror = NULL;
    char absent[PATH_MAX], next[PATH_MAX], last[PATH_MAX], left[PATH_MAX];
    struct mi_error err;

    make_place(next, "next");
    make_place(last, "last");
    leave_behind(next, left);
    check_join(absent, scratch, "absent");
    CHECK(mi_mirror_create(&mirror, absent, &err) == 0);
    CHECK(mi_mirror_add_place(mirror, next, &err) == 0);
    CHECK(mi_mirror_add_place(mirror, last, &err) == 0);
    CHECK(check_entries(next) == 1); /* nothing happens before */
    CHECK_FOR(err.text, put(mirror, 1, "/a.so", "x", 1, &err) == 0);
    CHECK(strncmp(mi_mirror_root(mirror), next, strlen(next)) == 0);
    CHECK(check_holds(place_of(mirror, "/a.so"), "x", 1));
    CHECK(access(left, F_OK) != 0); /* swept */
    CHECK(check_entries(next) == 1 && check_entries(last) == 0);
    CHECK(access(absent, F_OK) != 0);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(next) == 0);
    rmdir(next);
    rmdir(last);
}

/* More than fit are an error, so each of those passed over takes no room. */
static void test_add_place_odd_passed_over(void)
{
    struct mi_mirror *mirror = make();
    char *place = calloc(1, PATH_MAX + 1), again[PATH_MAX];
    struct mi_error err;
    int added = 0;

    check_need(place != NULL, "memory");
    for (int i = 0; i < 20; i++) {
        CHECK(mi_mirror_add_place(mirror, "relative", &err) == 0);
        CHECK(mi_mirror_add_place(mirror, "", &err) == 0);
        CHECK(mi_mirror_add_place(mirror, scratch, &err) == 0);
        CHECK(mi_mirror_add_place(mirror, check_join(again, scratch, "./"),
                                  &err) == 0);
    }
    memset(place, '/', PATH_MAX);
    place[1] = 'x';
    CHECK(mi_mirror_add_place(mirror, place, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG);
    for (; added < 20; added++) {
        snprintf(again, sizeof(again), "/place/%d", added);
        if (mi_mirror_add_place(mirror, again, &err) != 0)
            break;
    }
    CHECK(added > 2 && added < 20 && err.code == E2BIG);
    CHECK(check_entries(scratch) == 0);
    mi_mirror_destroy(mirror);
    free(place);
}

struct places {
    char small[PATH_MAX]; /* does not allow execution, */
    char other[PATH_MAX]; /* nor does this */
    char good[PATH_MAX];
};

static int mount_noexec(const struct places *places)
{
    return check_small_tmpfs(places->small, 1024) &&
           check_noexec_tmpfs(places->small, 1024) &&
           check_noexec_tmpfs(places->other, 1024);
}

static int begin_beside_noexec(void *arg)
{
    const struct places *places = arg;
    struct mi_mirror *mirror = NULL;
    struct mi_error err;

    if (!mount_noexec(places))
        return CHECK_SKIP;
    CHECK(mi_mirror_create(&mirror, places->small, &err) == 0);
    CHECK(mi_mirror_add_place(mirror, places->other, &err) == 0);
    CHECK(mi_mirror_add_place(mirror, places->good, &err) == 0);
    CHECK(put(mirror, 1, "/a.so", "x", 1, &err) == 0);
    CHECK(put(mirror, 2, "/b.so", "y", 1, &err) == 0);
    CHECK(strncmp(mi_mirror_root(mirror), places->good,
                  strlen(places->good)) == 0);
    CHECK(check_holds(place_of(mirror, "/b.so"), "y", 1));
    CHECK(check_entries(places->small) == 0);
    CHECK(check_entries(places->other) == 0);
    CHECK(check_entries(places->good) == 1);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(places->good) == 0);
    return 0;
}

static int begin_noexec_only(void *arg)
{
    const struct places *places = arg;
    struct mi_mirror *mirror = NULL;
    struct mi_part part = {.id = 77};
    struct mi_error err;
    char absent[PATH_MAX];

    if (!mount_noexec(places))
        return CHECK_SKIP;
    CHECK(mi_mirror_create(&mirror, places->small, &err) == 0);
    CHECK(mi_mirror_add_place(mirror, check_join(absent, scratch, "absent"),
                              &err) == 0);
    CHECK(mi_mirror_add_place(mirror, places->other, &err) == 0);
    for (uint64_t id = 1; id < 4; id++) {
        mi_error_clear(&err);
        CHECK(mi_mirror_begin(mirror, id, 10, 0755, &part, &err) == -1);
        CHECK(err.domain == MI_ERRNO && err.code == EPERM && part.id == 77);
        CHECK_FOR(err.text, strstr(err.text, places->small) != NULL &&
                                strstr(err.text, places->other) != NULL &&
                                strstr(err.text, absent) != NULL &&
                                strstr(err.text, "execution") != NULL);
        CHECK(strcmp(mi_mirror_root(mirror), "") == 0);
        CHECK(check_entries(places->small) == 0);
        CHECK(check_entries(places->other) == 0);
    }
    mi_mirror_destroy(mirror);
    return 0;
}

static void test_begin_noexec_passed_over(void)
{
    struct places places;

    make_place(places.small, "small");
    make_place(places.other, "other");
    make_place(places.good, "good");
    if (!check_child(begin_beside_noexec, &places, __func__) ||
        !check_child(begin_noexec_only, &places, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
    CHECK(rmdir(places.small) == 0 && rmdir(places.other) == 0);
    CHECK(rmdir(places.good) == 0);
}

#define THREADS 6
#define OBJECTS 40

struct user {
    struct mi_mirror *mirror;
    uint64_t number;
    int failed;
};

static void *put_many(void *arg)
{
    struct user *user = arg;
    char path[100];

    for (uint64_t i = 0; i < OBJECTS; i++) {
        snprintf(path, sizeof(path), "/shared/%d/%d-%d.so", (int)(i % 5),
                 (int)user->number, (int)i);
        user->failed += put(user->mirror, user->number * OBJECTS + i + 1, path,
                            path, strlen(path), NULL) != 0;
    }
    return NULL;
}

static void test_put_threads_one_tree(void)
{
    struct mi_mirror *mirror = make();
    struct user user[THREADS];
    pthread_t thread[THREADS];
    char path[100];
    int right = 0;

    for (uint64_t i = 0; i < THREADS; i++) {
        user[i] = (struct user){.mirror = mirror, .number = i};
        check_need(pthread_create(&thread[i], NULL, put_many, &user[i]) == 0,
                   "thread");
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        CHECK(user[i].failed == 0);
    }
    CHECK(check_entries(scratch) == 1);
    for (int n = 0; n < THREADS; n++) {
        for (int i = 0; i < OBJECTS; i++) {
            snprintf(path, sizeof(path), "/shared/%d/%d-%d.so", i % 5, n, i);
            right += check_holds(place_of(mirror, path), path, strlen(path));
        }
    }
    CHECK(right == THREADS * OBJECTS);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(scratch) == 0);
}

int main(void)
{
    check_scratch(scratch);
    test_create_nothing_made();
    test_create_top_too_long_refused();
    test_begin_bad_top_refused();
    test_finish_path_repeated();
    test_finish_pieces_joined();
    test_finish_present_first_stays();
    test_finish_bad_path_refused();
    test_finish_parent_of_root_stays_inside();
    test_link_same_file();
    test_part_closed_finished_or_abandoned();
    test_begin_same_id_refused();
    test_remove_then_no_more_added();
    test_remove_forked_child_harmless();
    test_owner_ends_without_remove_nothing_left();
    test_begin_filesystem_full_refused();
    test_begin_no_directory_next_place_taken();
    test_add_place_odd_passed_over();
    test_begin_noexec_passed_over();
    test_put_threads_one_tree();
    check_remove(scratch);
    return check_report();
}
