/* Tests of what serves data files: a status with all members, links, the
 * order of a directory, and copies in the mirror.
 */
#include "reader_fixture.h"

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

/* ---- status ------------------------------------------------------------- */

/* Does the record say all that 'status' does? */
static void expect_status(const struct mi_record *record,
                          const struct stat *status, const char *link)
{
    const char *target = "unset";
    const struct mi_status *more = mi_record_status(record, &target);

    CHECK(record->kind == MI_KIND_STAT && more);
    if (!more)
        return;
    CHECK(record->mode == status->st_mode && record->device == status->st_dev);
    CHECK(record->inode == status->st_ino);
    CHECK(record->file_size == (uint64_t)status->st_size);
    CHECK(record->mtime == nanoseconds(&status->st_mtim));
    /* Reading a link changes its time of access. */
    CHECK(link || more->atime == nanoseconds(&status->st_atim));
    CHECK(more->ctime == nanoseconds(&status->st_ctim));
    CHECK(more->nlink == status->st_nlink && more->uid == status->st_uid);
    CHECK(more->gid == status->st_gid && more->rdev == status->st_rdev);
    CHECK(more->blksize == (uint64_t)status->st_blksize);
    CHECK(more->blocks == (uint64_t)status->st_blocks);
    CHECK(link ? target && strcmp(target, link) == 0 : !target);
}

static void make_entries(const struct fixture *f)
{
    check_write(fixture_path(f, "file"), "text", 4);
    check_need(mkdir(fixture_path(f, "dir"), 0700) == 0 &&
                   mkfifo(fixture_path(f, "fifo"), 0600) == 0 &&
                   symlink("file", fixture_path(f, "link")) == 0 &&
                   symlink("dir", fixture_path(f, "linkdir")) == 0 &&
                   symlink("nowhere/at all", fixture_path(f, "gone")) == 0 &&
                   link(fixture_path(f, "file"), fixture_path(f, "twin")) == 0,
               "entries");
}

static void test_status_every_member_told(void)
{
    static const char *const names[] = {"file", "dir",  "fifo", "link",
                                        "gone", "twin", "."};
    struct fixture f;
    struct stat status;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_entries(&f);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *path = fixture_path(&f, names[i]);
        const struct mi_record *record = fixture_ask(&f, MI_LSTAT, path);

        CHECK_FOR(path, lstat(path, &status) == 0);
        expect_status(record, &status,
                      strcmp(names[i], "link") == 0   ? "file"
                      : strcmp(names[i], "gone") == 0 ? "nowhere/at all"
                                                      : NULL);
        if (stat(path, &status) == 0)
            expect_status(fixture_ask(&f, MI_STAT, path), &status, NULL);
    }
    fixture_clear(&f);
}

static void test_status_not_there_absent(void)
{
    struct fixture f;
    const struct mi_record *record;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_entries(&f);
    record = fixture_ask(&f, MI_LSTAT, fixture_path(&f, "nope"));
    CHECK(record->kind == MI_KIND_ABSENT && record->code == ENOENT);
    record = fixture_ask(&f, MI_LSTAT, fixture_path(&f, "file/x"));
    CHECK(record->kind == MI_KIND_ABSENT && record->code == ENOTDIR);
    record = fixture_ask(&f, MI_STAT, fixture_path(&f, "gone"));
    CHECK(record->kind == MI_KIND_ABSENT && record->code == ENOENT);
    fixture_clear(&f);
}

static void test_status_times_before_epoch_exact(void)
{
    struct timespec times[2] = {{-5, 7}, {-1000000, 999999999}};
    struct fixture f;
    struct stat status;
    const char *path;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    path = fixture_path(&f, "old");
    check_write(path, "x", 1);
    check_need(utimensat(AT_FDCWD, path, times, 0) == 0, path);
    check_need(stat(path, &status) == 0, path);
    expect_status(fixture_ask(&f, MI_LSTAT, path), &status, NULL);
    fixture_clear(&f);
}

static void test_status_other_records_none(void)
{
    struct fixture f;
    const char *target;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_entries(&f);
    CHECK(!mi_record_status(fixture_ask(&f, MI_REAL, f.tree), &target));
    CHECK(!mi_record_status(fixture_ask(&f, MI_LIST, f.tree), &target));
    CHECK(!mi_record_status(
        fixture_ask(&f, MI_LSTAT, fixture_path(&f, "nope")), &target));
    fixture_clear(&f);
}

/* ---- directories -------------------------------------------------------- */

static void test_entries_in_order_of_the_directory(void)
{
    struct fixture f;
    const struct mi_record *list;
    const char *name = NULL;
    struct dirent *entry;
    char type;
    int link;
    DIR *stream;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_entries(&f);
    list = fixture_ask(&f, MI_LIST, f.tree);
    stream = opendir(f.tree);
    check_need(stream != NULL, f.tree);
    while ((entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        name = mi_entries_next(list, name, &type, &link);
        CHECK_FOR(entry->d_name, name && strcmp(name, entry->d_name) == 0);
        CHECK_FOR(entry->d_name, link == (entry->d_type == DT_LNK));
        CHECK_FOR(entry->d_name, type == mi_entries_type(list, name));
    }
    CHECK(!mi_entries_next(list, name, &type, &link));
    CHECK(mi_entries_type(list, "link") == 'f');
    CHECK(mi_entries_type(list, "linkdir") == 'd');
    CHECK(mi_entries_type(list, "gone") == 'o');
    closedir(stream);
    list = fixture_ask(&f, MI_LIST, fixture_path(&f, "dir"));
    CHECK(!mi_entries_next(list, NULL, &type, &link));
    list = fixture_ask(&f, MI_LIST, fixture_path(&f, "file"));
    CHECK(!mi_entries_next(list, NULL, &type, &link));
    fixture_clear(&f);
}

/* ---- copies ------------------------------------------------------------- */

/* The place of a copy in the mirror. */
static const char *place_of(const struct fixture *f, const char *path)
{
    static char place[2 * PATH_MAX];

    snprintf(place, sizeof(place), "%s%s", mi_mailbox_mirror(f->mailbox),
             path);
    return place;
}

static void expect_copy(struct fixture *f, const char *path)
{
    const struct mi_record *record = fixture_ask(f, MI_COPY, path);
    struct stat original, copy;
    size_t size;
    void *bytes = check_read(path, &size);

    CHECK_FOR(path, record->kind == MI_KIND_MIRROR);
    CHECK_FOR(path, (record->object == 0) == (size == 0));
    CHECK_FOR(path, check_holds(place_of(f, path), bytes, size));
    CHECK_FOR(path, strcmp(mi_record_place(record), path) == 0);
    CHECK_FOR(path, !mi_record_need(record, NULL));
    check_need(stat(path, &original) == 0, path);
    CHECK_FOR(path, stat(place_of(f, path), &copy) == 0);
    CHECK_FOR(path,
              nanoseconds(&copy.st_mtim) == nanoseconds(&original.st_mtim));
    CHECK_FOR(path, record->mtime == nanoseconds(&original.st_mtim));
    CHECK_FOR(path, record->mode == original.st_mode);
    free(bytes);
}

static void test_copy_any_regular_file_same(void)
{
    static const size_t sizes[] = {0, 1, 4096, 300000};
    struct timespec times[2] = {{1, 2}, {-7, 123456789}};
    struct fixture f;
    char *bytes = calloc(1, 300000);
    uint64_t before;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char name[20];
        const char *path;

        snprintf(name, sizeof(name), "file %zu", i);
        path = fixture_path(&f, name);
        memset(bytes, (int)i + 1, sizes[i]);
        check_write(path, bytes, sizes[i]);
        if (i == 1)
            check_need(utimensat(AT_FDCWD, path, times, 0) == 0, path);
        expect_copy(&f, path);
    }
    check_need(symlink("file 1", fixture_path(&f, "link")) == 0, "link");
    expect_copy(&f, fixture_path(&f, "link"));
    before = fixture_operations(&f);
    CHECK(fixture_ask(&f, MI_COPY, fixture_path(&f, "link")) != NULL);
    CHECK(fixture_operations(&f) == before);
    CHECK(atomic_load(&f.notices) == 0);
    free(bytes);
    fixture_clear(&f);
}

static void test_copy_shared_object_alone(void)
{
    static const char *const needed[] = {"b.so", NULL};
    static const char *const none[] = {NULL};
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    fixture_object(fixture_path(&f, "a.so"), needed, "$ORIGIN");
    fixture_object(fixture_path(&f, "b.so"), none, NULL);
    expect_copy(&f, fixture_path(&f, "a.so"));
    CHECK(!fixture_find(&f, MI_MIRROR, fixture_path(&f, "b.so")));
    /* As an object it still brings its libraries. */
    CHECK(fixture_ask(&f, MI_MIRROR, fixture_path(&f, "a.so")) != NULL);
    CHECK(fixture_mirrored(&f, fixture_path(&f, "a.so")));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "b.so")));
    fixture_clear(&f);
}

static void test_copy_stream_bytes_kept(void)
{
    struct fixture f;
    struct mi_object object = {0};
    const struct mi_record *record;

    fixture_make(&f, 8 * MIB, 1, 0, 1);
    check_write(fixture_path(&f, "empty"), "", 0);
    check_write(fixture_path(&f, "some"), "bytes", 5);
    record = fixture_ask(&f, MI_COPY, fixture_path(&f, "empty"));
    CHECK(record->kind == MI_KIND_MIRROR && record->object == 0);
    CHECK(!mi_reader_object(f.reader, &object));
    record = fixture_ask(&f, MI_COPY, fixture_path(&f, "some"));
    CHECK(mi_reader_object(f.reader, &object));
    CHECK(object.id == record->object && object.size == 5);
    CHECK(object.bytes && memcmp(object.bytes, "bytes", 5) == 0);
    mi_object_clear(&object);
    CHECK(!mi_reader_object(f.reader, &object));
    fixture_clear(&f);
}

static void expect_refused(struct fixture *f, const char *path, int code)
{
    const struct mi_record *record = fixture_ask(f, MI_COPY, path);

    CHECK_FOR(path, record->kind == MI_KIND_ABSENT && record->code == code);
    CHECK_FOR(path, record->object == 0);
}

static void test_copy_no_regular_file_told(void)
{
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_entries(&f);
    expect_refused(&f, fixture_path(&f, "nope"), ENOENT);
    expect_refused(&f, fixture_path(&f, "gone"), ENOENT);
    expect_refused(&f, fixture_path(&f, "file/x"), ENOTDIR);
    expect_refused(&f, fixture_path(&f, "dir"), EISDIR);
    expect_refused(&f, fixture_path(&f, "fifo"), MI_MIRROR_REFUSED);
    expect_refused(&f, "/dev/null", MI_MIRROR_REFUSED);
    expect_refused(&f, fixture_path(&f, "dir/../file"), MI_MIRROR_REFUSED);
    check_write(fixture_path(&f, "large"), "x", 1);
    check_need(truncate(fixture_path(&f, "large"), (1 << 30) + 1) == 0, "");
    expect_refused(&f, fixture_path(&f, "large"), MI_MIRROR_REFUSED);
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_copy_none_configured_refused(void)
{
    struct fixture f;

    fixture_make(&f, 8 * MIB, 0, 0, 0);
    make_entries(&f);
    expect_refused(&f, fixture_path(&f, "file"), MI_MIRROR_REFUSED);
    fixture_clear(&f);
}

static int copy_on_small_filesystem(void *arg)
{
    struct fixture f;
    const char *path;

    (void)arg;
    fixture_make(&f, 8 * MIB, 1, 0, 1);
    if (!check_small_tmpfs(f.top, 64)) {
        fixture_clear(&f);
        return CHECK_SKIP;
    }
    path = fixture_path(&f, "large");
    check_write(path, "x", 1);
    check_need(truncate(path, 100000) == 0, path);
    expect_refused(&f, path, MI_MIRROR_REFUSED);
    CHECK(atomic_load(&f.notices) == 1 && f.first == MI_FIRST_MIRROR);
    CHECK(strstr(f.notice, path) != NULL);
    CHECK(mi_mailbox_stream(f.mailbox) == MI_STREAM_OPEN);
    check_write(fixture_path(&f, "small"), "x", 1);
    expect_copy(&f, fixture_path(&f, "small"));
    mi_mirror_remove(f.mirror);
    umount2(f.top, MNT_DETACH);
    fixture_clear(&f);
    return 0;
}

static void test_copy_filesystem_full_refused(void)
{
    if (!check_child(copy_on_small_filesystem, NULL, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
}

int main(void)
{
    test_status_every_member_told();
    test_status_not_there_absent();
    test_status_times_before_epoch_exact();
    test_status_other_records_none();
    test_entries_in_order_of_the_directory();
    test_copy_any_regular_file_same();
    test_copy_shared_object_alone();
    test_copy_stream_bytes_kept();
    test_copy_no_regular_file_told();
    test_copy_none_configured_refused();
    test_copy_filesystem_full_refused();
    return check_report();
}
