/* Tests of src/manifest.c: the file's format, bad files, several writers. */
#include "check.h"

#include <stddef.h>

#include "../../src/manifest.h"

#define KEY "script /a/b.py\noptimize 0\n"
#define HEADER 40
/* Where the header has what. */
#define AT_VERSION 8
#define AT_COUNT 16
#define AT_SIZE 24
#define AT_CHECK 32

/* A scratch directory, and a manifest's path in it. */
struct place {
    char scratch[PATH_MAX];
    char path[PATH_MAX];
};

static const struct mi_question some[] = {
    {MI_LIST, MI_MANIFEST_OWN, 0, "/lib", ""},
    {MI_CODE, MI_MANIFEST_OWN, 3, "/lib/a.py", "/lib/__pycache__/a.pyc"},
    {MI_MIRROR, 0, 15, "/lib/x.so\nlibm.so.6", ""},
    {MI_STAT, 0, 0, "/\xff\xfe \n\t", ""},
    {MI_COPY, MI_MANIFEST_OWN, 1, "/d", "not empty"},
};
enum { SOME = sizeof(some) / sizeof(some[0]) };

static void make(struct place *place)
{
    check_scratch(place->scratch);
    check_join(place->path, place->scratch, "m");
}

static int same(const struct mi_question *a, const struct mi_question *b)
{
    return a->query == b->query && a->flags == b->flags && a->age == b->age &&
           strcmp(a->key, b->key) == 0 && strcmp(a->extra, b->extra) == 0;
}

/* Are these in the file, and nothing else? */
static int holds(const char *path, const struct mi_question *questions,
                 size_t count)
{
    struct mi_manifest found;
    struct mi_error err;
    int equal;

    mi_error_clear(&err);
    if (!CHECK_FOR(err.text, mi_manifest_read(&found, path, KEY, &err) == 1))
        return 0;
    equal = found.count == count;
    for (size_t i = 0; equal && i < count; i++)
        equal = same(&found.questions[i], &questions[i]);
    mi_manifest_clear(&found);
    mi_manifest_clear(&found);
    return equal;
}

static void put(const char *path, const struct mi_question *questions,
                size_t count)
{
    struct mi_error err;

    mi_error_clear(&err);
    CHECK_FOR(err.text,
              mi_manifest_write(path, KEY, questions, count, &err) == 0);
}

/* One line that names the file and the way out. */
static int is_helpful(const struct mi_error *err, const char *path)
{
    return strstr(err->text, path) == err->text &&
           strstr(err->text, "--manifest none") && !strchr(err->text, '\n');
}

/* Reading is refused with that domain and (0: any) code. */
static void check_refused(const char *path, enum mi_domain domain, int code,
                          const char *about)
{
    struct mi_manifest found = {.count = 77};
    struct mi_error err;

    mi_error_clear(&err);
    CHECK_FOR(about, mi_manifest_read(&found, path, KEY, &err) == -1);
    CHECK_FOR(about, err.domain == domain && (!code || err.code == code));
    CHECK_FOR(about, is_helpful(&err, path));
    CHECK_FOR(about, found.count == 77);
}

/* Neither read nor replaced. */
static void check_left_alone(const char *path, int code, const char *about)
{
    struct stat before, after;
    struct mi_error err;

    check_refused(path, MI_ERRNO, code, about);
    check_need(lstat(path, &before) == 0, path);
    mi_error_clear(&err);
    CHECK_FOR(about, mi_manifest_write(path, KEY, some, SOME, &err) == -1);
    CHECK_FOR(about, err.domain == MI_ERRNO && is_helpful(&err, path));
    CHECK_FOR(about, lstat(path, &after) == 0 &&
                         after.st_ino == before.st_ino &&
                         after.st_mode == before.st_mode &&
                         after.st_size == before.st_size);
}

/* ---- good files ----------------------------------------------------------
 */

static void test_write_read_same(void)
{
    struct mi_manifest found;
    struct place p;
    struct stat status;

    make(&p);
    CHECK(mi_manifest_read(&found, p.path, KEY, NULL) == 0);
    for (size_t n = 0; n <= SOME; n++) {
        put(p.path, some, n);
        CHECK(holds(p.path, some, n));
    }
    CHECK(stat(p.path, &status) == 0 && (status.st_mode & 07777) == 0600);
    CHECK(check_entries(p.scratch) == 1);
    check_remove(p.scratch);
}

static void test_write_longest_path_kept(void)
{
    static char key[PATH_MAX], extra[PATH_MAX];
    const struct mi_question one = {MI_CODE, 0, 0, key, extra};
    struct place p;

    make(&p);
    memset(key, 'k', MI_PATH);
    memset(extra, 'e', MI_PATH);
    key[0] = '/';
    put(p.path, &one, 1);
    CHECK(holds(p.path, &one, 1));
    check_remove(p.scratch);
}

/* The first ones, which are needed first. */
static void test_write_too_many_as_far_as_there_is_room(void)
{
    static char key[PATH_MAX];
    const size_t count = MI_MANIFEST_MAX / MI_PATH + 100;
    struct mi_question *many = calloc(count, sizeof(*many));
    struct mi_manifest found;
    struct place p;
    struct stat status;

    check_need(many != NULL, "memory");
    make(&p);
    memset(key, 'k', MI_PATH);
    key[0] = '/';
    for (size_t i = 0; i < count; i++)
        many[i] = (struct mi_question){MI_STAT, 0, 0, key, ""};
    put(p.path, many, count);
    CHECK(stat(p.path, &status) == 0 &&
          status.st_size <= (off_t)MI_MANIFEST_MAX &&
          status.st_size > (off_t)MI_MANIFEST_MAX - 2 * PATH_MAX);
    CHECK(mi_manifest_read(&found, p.path, KEY, NULL) == 1);
    CHECK(found.count > MI_MANIFEST_MAX / PATH_MAX - 100 &&
          found.count < count);
    mi_manifest_clear(&found);
    free(many);
    check_remove(p.scratch);
}

static void test_write_missing_directories_two_made(void)
{
    char one[PATH_MAX], two[PATH_MAX], path[PATH_MAX];
    struct place p;
    struct stat status;
    struct mi_error err;

    make(&p);
    check_join(one, p.scratch, "a");
    check_join(two, one, "b");
    check_join(path, two, "m");
    umask(0);
    put(path, some, SOME);
    umask(022);
    CHECK(holds(path, some, SOME));
    CHECK(stat(one, &status) == 0 && (status.st_mode & 07777) == 0700);
    CHECK(stat(two, &status) == 0 && (status.st_mode & 07777) == 0700);
    check_remove(one);
    check_join(path, two, "c/m");
    CHECK(mi_manifest_write(path, KEY, some, SOME, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOENT);
    CHECK(is_helpful(&err, path) && check_entries(p.scratch) == 0);
    check_remove(p.scratch);
}

static void test_empty_file_is_one_to_be(void)
{
    struct mi_manifest found;
    struct place p;

    make(&p);
    check_write(p.path, "", 0);
    CHECK(mi_manifest_read(&found, p.path, KEY, NULL) == 0);
    put(p.path, some, SOME);
    CHECK(holds(p.path, some, SOME));
    check_remove(p.scratch);
}

/* ---- damaged ones, which are replaced ------------------------------------
 */

/* Write these bytes; they are no manifest that can be used. */
static void check_damaged(const struct place *p, const void *bytes,
                          size_t size, const char *about)
{
    check_write(p->path, bytes, size);
    check_refused(p->path, MI_FORMAT, 0, about);
}

static void test_cut_off_anywhere_refused(void)
{
    struct place p;
    char about[64], *bytes;
    size_t size;

    make(&p);
    put(p.path, some, SOME);
    bytes = check_read(p.path, &size);
    for (size_t n = 1; n < size; n++) {
        snprintf(about, sizeof(about), "%zu of %zu bytes", n, size);
        check_damaged(&p, bytes, n, about);
    }
    bytes = realloc(bytes, size + 1);
    check_need(bytes != NULL, "memory");
    bytes[size] = 0;
    check_damaged(&p, bytes, size + 1, "one byte more");
    put(p.path, some, SOME);
    CHECK(holds(p.path, some, SOME));
    free(bytes);
    check_remove(p.scratch);
}

static void test_any_changed_byte_refused(void)
{
    struct place p;
    char about[64], *bytes;
    size_t size;

    make(&p);
    put(p.path, some, SOME);
    bytes = check_read(p.path, &size);
    for (size_t n = 0; n < size; n++) {
        bytes[n] = (char)(bytes[n] ^ 0x10);
        snprintf(about, sizeof(about), "byte %zu of %zu", n, size);
        check_write(p.path, bytes, size);
        check_refused(p.path, n < 4 ? MI_ERRNO : MI_FORMAT, 0, about);
        bytes[n] = (char)(bytes[n] ^ 0x10);
    }
    free(bytes);
    check_remove(p.scratch);
}

static void test_other_version_or_program_replaced(void)
{
    struct mi_manifest found;
    struct mi_error err;
    struct place p;
    char *bytes;
    size_t size;

    make(&p);
    CHECK(mi_manifest_write(p.path, "another", some, SOME, NULL) == 0);
    CHECK(mi_manifest_read(&found, p.path, KEY, &err) == -1);
    CHECK(err.domain == MI_FORMAT && strstr(err.text, "another program"));
    put(p.path, some, 2);
    bytes = check_read(p.path, &size);
    bytes[AT_VERSION]++;
    check_write(p.path, bytes, size);
    CHECK(mi_manifest_read(&found, p.path, KEY, &err) == -1);
    CHECK(err.domain == MI_FORMAT && strstr(err.text, "another version"));
    put(p.path, some, SOME);
    CHECK(holds(p.path, some, SOME));
    free(bytes);
    check_remove(p.scratch);
}

/* With a hash that fits: what a later version of ours might write. */
static void seal(char *bytes, size_t size)
{
    uint64_t body = size - HEADER, hash;

    memcpy(bytes + AT_SIZE, &body, sizeof(body));
    hash = mi_hash(mi_hash(0, bytes, AT_CHECK), bytes + HEADER, body);
    memcpy(bytes + AT_CHECK, &hash, sizeof(hash));
}

static void test_unsound_entries_refused(void)
{
    const struct mi_question one = {MI_STAT, 0, 0, "/a", ""};
    const size_t entry = HEADER + sizeof(KEY) - 1;
    const struct {
        const char *about;
        size_t at;
        char value;
    } cases[] = {
        {"no query", entry, 0},
        {"unknown query", entry, MI_QUERY_LAST + 1},
        {"zero is not zero", entry + 3, 1},
        {"path too short", entry + 4, 1},
        {"path too long", entry + 4, 3},
        {"path of 64 KiB", entry + 5, (char)255},
        {"extra too long", entry + 6, 1},
        {"relative", entry + 8, 'a'},
        {"NUL in the path", entry + 9, '\0'},
        {"no NUL", entry + 10, 'x'},
        {"no NUL after extra", entry + 11, 'x'},
        {"more entries", AT_COUNT, 2},
        {"billions of entries", AT_COUNT + 3, 127},
        {"less entries", AT_COUNT, 0},
    };
    struct place p;
    char *good, *bytes;
    size_t size;

    make(&p);
    put(p.path, &one, 1);
    good = check_read(p.path, &size);
    bytes = malloc(size);
    check_need(bytes != NULL && size == entry + 12, "manifest");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(bytes, good, size);
        bytes[cases[i].at] = cases[i].value;
        seal(bytes, size);
        check_damaged(&p, bytes, size, cases[i].about);
    }
    memcpy(bytes, good, size);
    seal(bytes, size);
    check_write(p.path, bytes, size);
    CHECK(holds(p.path, &one, 1));
    free(bytes);
    free(good);
    check_remove(p.scratch);
}

/* ---- what is no manifest, and left alone ---------------------------------
 */

static void test_not_regular_left_alone(void)
{
    struct place p;
    char link[PATH_MAX], directory[PATH_MAX], fifo[PATH_MAX];

    make(&p);
    put(p.path, some, SOME);
    check_need(symlink("m", check_join(link, p.scratch, "l")) == 0 &&
                   mkdir(check_join(directory, p.scratch, "d"), 0700) == 0 &&
                   mkfifo(check_join(fifo, p.scratch, "f"), 0600) == 0,
               p.scratch);
    alarm(10); /* nobody writes to it */
    check_left_alone(fifo, EPERM, "FIFO");
    alarm(0);
    check_left_alone(link, ELOOP, "symbolic link");
    check_left_alone(directory, EPERM, "directory");
    check_left_alone("/dev/null", EPERM, "device");
    CHECK(holds(p.path, some, SOME) && check_entries(p.scratch) == 4);
    check_remove(p.scratch);
}

static void test_others_may_write_left_alone(void)
{
    static const mode_t modes[] = {0602, 0620, 0666, 0777};
    struct place p;

    make(&p);
    put(p.path, some, SOME);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        check_need(chmod(p.path, modes[i]) == 0, p.path);
        check_left_alone(p.path, EPERM, "mode");
    }
    check_need(chmod(p.path, 0644) == 0, p.path);
    CHECK(holds(p.path, some, SOME));
    if (chown(p.path, 12345, (gid_t)-1) == 0)
        check_left_alone(p.path, EPERM, "foreign");
    else
        check_skipped(__func__, "not root");
    check_remove(p.scratch);
}

static void test_other_content_left_alone(void)
{
    static const char *const contents[] = {"x", "import numpy\n", "Mim", "#!"};
    struct place p;

    make(&p);
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        check_write(p.path, contents[i], strlen(contents[i]));
        if (strncmp(contents[i], "Mim", 3) == 0)
            check_refused(p.path, MI_FORMAT, 0, contents[i]);
        else
            check_left_alone(p.path, EEXIST, contents[i]);
    }
    check_remove(p.scratch);
}

static void test_ten_gigabytes_left_alone(void)
{
    double start = check_seconds();
    struct place p;

    make(&p);
    put(p.path, some, SOME);
    check_need(truncate(p.path, 10LL << 30) == 0, p.path);
    check_left_alone(p.path, EFBIG, "10 GB");
    check_need(truncate(p.path, (off_t)MI_MANIFEST_MAX + 1) == 0, p.path);
    check_left_alone(p.path, EFBIG, "one byte too large");
    CHECK(check_seconds() - start < 5);
    check_remove(p.scratch);
}

/* ---- places that cannot be written to ------------------------------------
 */

static int run_unwritable(void *arg)
{
    const struct place *p = arg;
    char below[PATH_MAX];
    struct mi_error err;

    if (geteuid() == 0 && setuid(65534) != 0)
        return CHECK_SKIP;
    CHECK(mi_manifest_write(p->path, KEY, some, SOME, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EACCES);
    CHECK(is_helpful(&err, p->path));
    check_join(below, p->scratch, "sub/m");
    CHECK(mi_manifest_write(below, KEY, some, SOME, &err) == -1);
    CHECK(err.code == ENOENT && is_helpful(&err, below));
    return 0;
}

static void test_unwritable_directory_is_an_error(void)
{
    struct place p;
    char below[PATH_MAX];

    make(&p);
    check_need(chmod(p.scratch, 0555) == 0, p.scratch);
    if (!check_child(run_unwritable, &p, __func__))
        check_skipped(__func__, "cannot be another user");
    check_need(chmod(p.scratch, 0700) == 0, p.scratch);
    CHECK(check_entries(p.scratch) == 0);
    check_write(p.path, "", 0);
    check_refused(check_join(below, p.path, "m"), MI_ERRNO, ENOTDIR, "file");
    CHECK(mi_manifest_write(below, KEY, some, SOME, NULL) == -1);
    check_remove(p.scratch);
}

static int run_full(void *arg)
{
    static char key[PATH_MAX];
    struct mi_question many[40];
    const struct place *p = arg;
    struct mi_error err;

    if (!check_small_tmpfs(p->scratch, 64))
        return CHECK_SKIP;
    memset(key, 'k', MI_PATH);
    key[0] = '/';
    for (int i = 0; i < 40; i++)
        many[i] = (struct mi_question){MI_STAT, 0, 0, key, ""};
    put(p->path, some, SOME);
    CHECK(mi_manifest_write(p->path, KEY, many, 40, &err) == -1);
    CHECK(err.code == ENOSPC && is_helpful(&err, p->path));
    CHECK(holds(p->path, some, SOME) && check_entries(p->scratch) == 1);
    return 0;
}

static void test_full_filesystem_nothing_changed(void)
{
    struct place p;

    make(&p);
    if (!check_child(run_full, &p, __func__))
        check_skipped(__func__, "cannot mount");
    check_remove(p.scratch);
}

/* ---- several writers -----------------------------------------------------
 */

#define WRITERS 6
#define TIMES 60

struct writer {
    const struct place *place;
    int number;
};

/* Manifests of as many questions as the writer's number tells, all alike. */
static int run_writer(void *arg)
{
    const struct writer *writer = arg;
    const int count = 200 * (writer->number + 1);
    struct mi_question *questions = calloc((size_t)count, sizeof(*questions));
    char key[32];

    check_need(questions != NULL, "memory");
    snprintf(key, sizeof(key), "/writer/%d", writer->number);
    for (int i = 0; i < count; i++)
        questions[i] = (struct mi_question){MI_STAT, 0, 0, key, ""};
    for (int i = 0; i < TIMES; i++)
        put(writer->place->path, questions, (size_t)count);
    free(questions);
    return 0;
}

/* Is it one writer's, whole? */
static int is_whole(const struct mi_manifest *found)
{
    char key[32];

    snprintf(key, sizeof(key), "/writer/%d", (int)(found->count / 200 - 1));
    for (size_t i = 0; i < found->count; i++)
        if (strcmp(found->questions[i].key, key) != 0)
            return 0;
    return found->count > 0 && found->count % 200 == 0;
}

static void test_several_writers_one_wins_whole(void)
{
    struct writer writers[WRITERS];
    pid_t children[WRITERS];
    struct mi_manifest found;
    struct mi_error err;
    struct place p;

    make(&p);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){&p, i};
        children[i] = check_fork(run_writer, &writers[i]);
    }
    while (access(p.path, F_OK) != 0)
        check_sleep(1);
    for (int i = 0; i < 200; i++) {
        int rc = mi_manifest_read(&found, p.path, KEY, &err);

        CHECK_FOR(rc < 0 ? err.text : "read", rc >= 0);
        if (rc == 1) {
            CHECK(is_whole(&found));
            mi_manifest_clear(&found);
        }
    }
    for (int i = 0; i < WRITERS; i++)
        check_join_child(children[i], "writer");
    CHECK(mi_manifest_read(&found, p.path, KEY, &err) == 1);
    CHECK(is_whole(&found) && check_entries(p.scratch) == 1);
    mi_manifest_clear(&found);
    check_remove(p.scratch);
}

int main(void)
{
    test_write_read_same();
    test_write_longest_path_kept();
    test_write_too_many_as_far_as_there_is_room();
    test_write_missing_directories_two_made();
    test_empty_file_is_one_to_be();
    test_cut_off_anywhere_refused();
    test_any_changed_byte_refused();
    test_other_version_or_program_replaced();
    test_unsound_entries_refused();
    test_not_regular_left_alone();
    test_others_may_write_left_alone();
    test_other_content_left_alone();
    test_ten_gigabytes_left_alone();
    test_unwritable_directory_is_an_error();
    test_full_filesystem_nothing_changed();
    test_several_writers_one_wins_whole();
    return check_report();
}
