/* Tests of src/files.c: what is answered, and how many operations it took. */
#include "check.h"

#include <sys/vfs.h>

#include "../../src/files.h"

static char scratch[PATH_MAX];

/* An answer with what it cost. */
struct outcome {
    struct mi_answer answer;
    uint64_t operations, bytes;
    struct mi_error err;
    int rc;
};

static const char *below(const char *name)
{
    static char path[PATH_MAX];

    return check_join(path, scratch, name);
}

static struct mi_traffic traffic;
static struct mi_dirs *dirs; /* keeps the scratch directory from the start */

static void begin(void)
{
    atomic_store(&traffic.operations, 0);
    atomic_store(&traffic.bytes, 0);
}

static void finish(struct outcome *outcome, int rc)
{
    outcome->rc = rc;
    outcome->operations = atomic_load(&traffic.operations);
    outcome->bytes = atomic_load(&traffic.bytes);
}

static struct outcome ask(enum mi_query query, const char *path)
{
    struct outcome outcome = {.rc = -1};
    struct mi_answer *answer = &outcome.answer;
    int rc;

    begin();
    rc = query == MI_LIST ? mi_files_list(dirs, path, answer, &outcome.err)
         : query == MI_STAT
             ? mi_files_stat(dirs, path, answer, &outcome.err)
             : mi_files_read(dirs, path, UINT64_MAX, answer, &outcome.err);

    finish(&outcome, rc);
    CHECK(answer->entry.query == query);
    CHECK(answer->entry.key == path && answer->entry.key_size == strlen(path));
    return outcome;
}

static void clear(struct outcome *outcome)
{
    errno = EXDEV;
    mi_answer_clear(&outcome->answer);
    mi_answer_clear(&outcome->answer);
    CHECK(!outcome->answer.data && errno == EXDEV);
}

/* "Not there" and the like: one operation, no payload. */
static void expect_absent(const char *about, struct outcome outcome, int code,
                          uint64_t operations)
{
    const struct mi_entry *entry = &outcome.answer.entry;

    CHECK_FOR(about, outcome.rc == 0 && entry->kind == MI_KIND_ABSENT);
    CHECK_FOR(about, entry->code == code);
    CHECK_FOR(about, !outcome.answer.data && !entry->payload && !entry->size);
    CHECK_FOR(about, outcome.operations == operations);
    CHECK_FOR(about, outcome.bytes == 0);
    clear(&outcome);
}

static int64_t mtime_of(const struct stat *status)
{
    return (int64_t)status->st_mtim.tv_sec * 1000000000 +
           status->st_mtim.tv_nsec;
}

static void expect_status(const struct mi_entry *entry, const char *path)
{
    struct stat status;

    CHECK_FOR(path, stat(path, &status) == 0);
    CHECK_FOR(path, entry->mtime == mtime_of(&status));
    CHECK_FOR(path, entry->file_size == (uint64_t)status.st_size);
    CHECK_FOR(path, entry->device == status.st_dev);
    CHECK_FOR(path, entry->inode == status.st_ino);
    CHECK_FOR(path, entry->mode == status.st_mode);
}

/* ---- listings --------------------------------------------------------------
 */

/* A record of the answer, as it would be in a store; the caller frees it. */
static struct mi_record *record_of(const struct mi_entry *entry)
{
    size_t head = mi_record_total((uint32_t)entry->key_size, 0);
    struct mi_record *record = calloc(1, head + entry->size);

    check_need(record != NULL, "memory");
    record->kind = (uint8_t)entry->kind;
    record->key_size = (uint32_t)entry->key_size;
    record->size = entry->size;
    memcpy((char *)record + head, entry->payload, entry->size);
    return record;
}

/* "type, name"; the links are made by name. */
static void make_entry(const char *entry)
{
    char path[PATH_MAX];

    check_need(snprintf(path, sizeof(path), "%s/list/%s", scratch, entry + 1) <
                   (int)sizeof(path),
               "path");
    if (strstr(entry, "link") || strstr(entry, "dangle") ||
        strstr(entry, "loop"))
        return;
    if (entry[0] == 'd')
        check_need(mkdir(path, 0755) == 0, path);
    else if (entry[0] == 'o')
        check_need(mkfifo(path, 0644) == 0, path);
    else
        check_write(path, "x", 1);
}

static void test_list_all_types_sorted(void)
{
    /* In strcmp() order, upper case and digits first. */
    static const char *const expected[] = {
        "f1.py",   "fB",     "dDir",  "fa",       "f\303\251.py",
        "odangle", "dempty", "ofifo", "dlinkdir", "flinkfile",
        "oloop",   "fz",     NULL};
    struct outcome outcome;
    struct mi_record *record;
    const char *last = "", *name;
    uint32_t count = 0;
    char type;

    check_need(mkdir(below("list"), 0755) == 0, "list");
    for (int i = 0; expected[i]; i++)
        make_entry(expected[i]);
    check_need(symlink("1.py", below("list/linkfile")) == 0 &&
                   symlink("Dir", below("list/linkdir")) == 0 &&
                   symlink("nowhere", below("list/dangle")) == 0 &&
                   symlink("loop", below("list/loop")) == 0,
               "symlink");
    outcome = ask(MI_LIST, below("list"));
    CHECK(outcome.rc == 0 && outcome.answer.entry.kind == MI_KIND_LIST);
    CHECK(outcome.answer.entry.code == 0);
    CHECK(outcome.answer.entry.payload == outcome.answer.data);
    expect_status(&outcome.answer.entry, below("list"));
    /* open, one read, and a look behind each of four links */
    CHECK(outcome.operations == 2 + 4);
    record = record_of(&outcome.answer.entry);
    while ((name = mi_entries_name(record, count, &type)) != NULL) {
        CHECK_FOR(name, strcmp(last, name) < 0);
        last = name;
        count++;
    }
    for (int i = 0; expected[i]; i++)
        CHECK_FOR(expected[i],
                  mi_entries_type(record, expected[i] + 1) == expected[i][0]);
    CHECK(count == sizeof(expected) / sizeof(expected[0]) - 1);
    CHECK(mi_entries_type(record, ".") == 0);
    CHECK(mi_entries_type(record, "..") == 0);
    free(record);
    clear(&outcome);
}

static void test_list_empty_directory_empty(void)
{
    struct outcome outcome;
    struct mi_record *record;
    char type;

    check_need(mkdir(below("empty"), 0755) == 0, "empty");
    outcome = ask(MI_LIST, below("empty"));
    CHECK(outcome.rc == 0 && outcome.answer.entry.kind == MI_KIND_LIST);
    CHECK(outcome.operations == 2 && outcome.bytes == 0);
    record = record_of(&outcome.answer.entry);
    CHECK(!mi_entries_name(record, 0, &type));
    free(record);
    clear(&outcome);
}

static void test_list_many_names_all_there(void)
{
    struct outcome outcome;
    struct mi_record *record;
    char path[PATH_MAX], name[300];
    int right = 0;

    check_need(mkdir(below("many"), 0755) == 0, "many");
    for (int i = 0; i < 1500; i++) {
        snprintf(name, sizeof(name), "many/%d_%0*d", i, 1 + i % 240, 0);
        check_write(check_join(path, scratch, name), "", 0);
    }
    outcome = ask(MI_LIST, below("many"));
    CHECK(outcome.rc == 0 && outcome.operations == 2);
    record = record_of(&outcome.answer.entry);
    for (int i = 0; i < 1500; i++) {
        snprintf(name, sizeof(name), "%d_%0*d", i, 1 + i % 240, 0);
        right += mi_entries_type(record, name) == 'f';
    }
    CHECK(right == 1500);
    free(record);
    clear(&outcome);
    check_remove(below("many"));
}

static void test_list_no_directory_absent(void)
{
    char path[PATH_MAX + 100];

    check_write(below("file"), "x", 1);
    expect_absent("file", ask(MI_LIST, below("file")), ENOTDIR, 1);
    expect_absent("absent", ask(MI_LIST, below("absent")), ENOENT, 1);
    expect_absent("below a file", ask(MI_LIST, below("file/x")), ENOTDIR, 1);
    expect_absent("empty path", ask(MI_LIST, ""), ENOENT, 1);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    path[0] = '/';
    expect_absent("too long", ask(MI_LIST, path), ENAMETOOLONG, 1);
}

static void test_list_memory_filesystem_flagged(void)
{
    struct statfs fs;
    struct outcome outcome;
    int in_memory;

    check_need(statfs(scratch, &fs) == 0, scratch);
    in_memory = fs.f_type == 0x01021994 || (uint32_t)fs.f_type == 0x858458f6;
    outcome = ask(MI_LIST, scratch);
    CHECK((outcome.answer.entry.flags == MI_FLAG_LOCAL) == in_memory);
    clear(&outcome);
    outcome = ask(MI_LIST, "/proc/self");
    CHECK(outcome.rc == 0 && outcome.answer.entry.kind == MI_KIND_LIST);
    CHECK(outcome.answer.entry.flags == 0);
    clear(&outcome);
}

/* Runs as another user, so that permissions count. */
static int list_and_read_forbidden(void *arg)
{
    (void)arg;
    if (geteuid() == 0 && seteuid(65534) != 0)
        return CHECK_SKIP;
    expect_absent("list", ask(MI_LIST, below("forbidden")), EACCES, 1);
    expect_absent("read", ask(MI_READ, below("secret")), EACCES, 1);
    expect_absent("stat", ask(MI_STAT, below("forbidden/x")), EACCES, 1);
    return 0;
}

static void test_forbidden_absent_eacces(void)
{
    check_need(mkdir(below("forbidden"), 0) == 0, "forbidden");
    check_write(below("secret"), "x", 1);
    check_need(chmod(below("secret"), 0) == 0 && chmod(scratch, 0755) == 0,
               "chmod");
    if (!check_child(list_and_read_forbidden, NULL, __func__))
        check_skipped(__func__, "no other user can be taken");
    check_need(chmod(scratch, 0700) == 0, scratch);
    rmdir(below("forbidden"));
    unlink(below("secret"));
}

/* ---- files
 * ------------------------------------------------------------------ */

static void test_stat_each_type_told(void)
{
    static const char *const names[] = {"file", "empty", "list/fifo",
                                        "list/linkdir", "list/linkfile"};
    struct outcome outcome;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        outcome = ask(MI_STAT, below(names[i]));
        CHECK(outcome.rc == 0 && outcome.answer.entry.kind == MI_KIND_STAT);
        expect_status(&outcome.answer.entry, below(names[i]));
        CHECK(outcome.operations == 1 && outcome.bytes == 0);
        CHECK(outcome.answer.entry.size == sizeof(struct mi_status));
        clear(&outcome);
    }
    expect_absent("absent", ask(MI_STAT, below("absent")), ENOENT, 1);
    expect_absent("dangling", ask(MI_STAT, below("list/dangle")), ENOENT, 1);
    expect_absent("loop", ask(MI_STAT, below("list/loop")), ELOOP, 1);
    expect_absent("below a file", ask(MI_STAT, below("file/x")), ENOTDIR, 1);
}

static void test_stat_old_time_exact(void)
{
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = -3, .tv_nsec = 7}};
    struct outcome outcome;

    check_need(utimensat(AT_FDCWD, below("file"), times, 0) == 0, "file");
    outcome = ask(MI_STAT, below("file"));
    expect_status(&outcome.answer.entry, below("file"));
    clear(&outcome);
}

static void expect_bytes(const char *name, const void *bytes, size_t size)
{
    struct outcome outcome = ask(MI_READ, below(name));
    const struct mi_entry *entry = &outcome.answer.entry;

    CHECK_FOR(name, outcome.rc == 0 && entry->kind == MI_KIND_FILE);
    CHECK_FOR(name, entry->code == 0 && entry->size == size);
    CHECK_FOR(name, entry->payload == outcome.answer.data);
    CHECK_FOR(name, size == 0 || memcmp(entry->payload, bytes, size) == 0);
    CHECK_FOR(name, outcome.operations == 1 && outcome.bytes == size);
    expect_status(entry, below(name));
    clear(&outcome);
}

static void test_read_each_size_same(void)
{
    static const size_t sizes[] = {0,    1,     2,      255,
                                   4096, 65536, 300001, 5u << 20};
    unsigned char *bytes = malloc(5u << 20);

    check_need(bytes != NULL, "memory");
    for (size_t i = 0; i < 5u << 20; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_write(below("bytes"), bytes, sizes[i]);
        expect_bytes("bytes", bytes, sizes[i]);
    }
    check_need(symlink("bytes", below("to-bytes")) == 0, "symlink");
    expect_bytes("to-bytes", bytes, 5u << 20);
    unlink(below("bytes"));
    free(bytes);
}

/* proc(5) says that its files are empty. */
static void test_read_size_unknown_whole(void)
{
    struct outcome outcome = ask(MI_READ, "/proc/self/status");

    CHECK(outcome.rc == 0 && outcome.answer.entry.kind == MI_KIND_FILE);
    CHECK(outcome.answer.entry.size > 100 &&
          outcome.bytes == outcome.answer.entry.size);
    CHECK(memcmp(outcome.answer.data, "Name:", 5) == 0);
    clear(&outcome);
}

static int read_others(void *arg)
{
    (void)arg;
    expect_absent("directory", ask(MI_READ, below("empty")), EISDIR, 1);
    expect_absent("FIFO", ask(MI_READ, below("list/fifo")), EINVAL, 1);
    expect_absent("device", ask(MI_READ, "/dev/null"), EINVAL, 1 + 2);
    return 0;
}

static void test_read_no_regular_file_absent(void)
{
    check_child(read_others, NULL, __func__); /* which has an alarm clock */
    expect_absent("absent", ask(MI_READ, below("absent")), ENOENT, 1);
    expect_absent("dangling", ask(MI_READ, below("to-bytes")), ENOENT, 1);
    expect_absent("below a file", ask(MI_READ, below("file/x")), ENOTDIR, 1);
}

static void test_read_too_large_absent(void)
{
    check_write(below("large"), "", 0);
    check_need(truncate(below("large"), ((off_t)1 << 30) + 1) == 0, "large");
    expect_absent("large", ask(MI_READ, below("large")), MI_READ_REFUSED, 1);
    unlink(below("large"));
}

/* ---- bytecode
 * ----------------------------------------------------------------- */

static const unsigned char magic[4] = {0xa7, 0x0d, 0x0d, 0x0a};
static char source[PATH_MAX], cached[PATH_MAX];

#define SOURCE_TIME 1700000000
#define SOURCE_TEXT "x = 1\n"
#define SOURCE_SIZE (sizeof(SOURCE_TEXT) - 1)
#define PYC_SIZE 50

/* A source file of that time, and bytecode with these words in its header. */
static void write_pair(int64_t time, const unsigned char *word0,
                       uint32_t flags, uint32_t word2, uint32_t word3)
{
    struct timespec times[2] = {{.tv_sec = 0}, {.tv_sec = time}};
    unsigned char pyc[PYC_SIZE] = {0};
    const uint32_t words[3] = {flags, word2, word3};

    check_join(source, scratch, "module.py");
    check_join(cached, scratch, "module.cpython-311.pyc");
    check_write(source, SOURCE_TEXT, SOURCE_SIZE);
    check_need(utimensat(AT_FDCWD, source, times, 0) == 0, source);
    memcpy(pyc, word0, 4);
    for (int w = 0; w < 3; w++)
        for (int i = 0; i < 4; i++)
            pyc[4 + 4 * w + i] = (unsigned char)(words[w] >> (8 * i));
    memset(pyc + 16, 0x63, sizeof(pyc) - 16);
    check_write(cached, pyc, sizeof(pyc));
}

static struct outcome ask_code(const char *path, const char *pyc, char mode)
{
    struct mi_bytecode rule = {.check_hash = mode};
    struct outcome outcome = {.rc = -1};

    memcpy(rule.magic, magic, 4);
    begin();
    finish(&outcome, mi_files_code(dirs, &rule, path, pyc, &outcome.answer,
                                   &outcome.err));
    CHECK(outcome.answer.entry.query == MI_CODE);
    CHECK(outcome.answer.entry.key == path);
    return outcome;
}

static void expect_code(const char *about, struct outcome outcome)
{
    const struct mi_entry *entry = &outcome.answer.entry;

    CHECK_FOR(about, outcome.rc == 0 && entry->kind == MI_KIND_FILE);
    CHECK_FOR(about, entry->size == PYC_SIZE && entry->code == 0);
    CHECK_FOR(about, entry->payload &&
                         check_holds(cached, entry->payload, entry->size));
    CHECK_FOR(about, outcome.operations == 2 && outcome.bytes == PYC_SIZE);
    expect_status(entry, source);
    clear(&outcome);
}

/* The source is there and has to be compiled. */
static void expect_pending(const char *about, struct outcome outcome,
                           uint64_t operations)
{
    const struct mi_entry *entry = &outcome.answer.entry;

    CHECK_FOR(about, outcome.rc == 0 && entry->kind == MI_KIND_ABSENT);
    CHECK_FOR(about, entry->code == MI_CODE_PENDING);
    CHECK_FOR(about, !outcome.answer.data && entry->size == 0);
    CHECK_FOR(about, outcome.operations == operations);
    expect_status(entry, source);
    clear(&outcome);
}

static void test_code_valid_given(void)
{
    write_pair(SOURCE_TIME, magic, 0, SOURCE_TIME, SOURCE_SIZE);
    expect_code("timestamp", ask_code(source, cached, 'd'));
    expect_code("never", ask_code(source, cached, 'n'));
    expect_code("always", ask_code(source, cached, 'a'));
}

static void test_code_late_time_low_bits_count(void)
{
    int64_t late = ((int64_t)1 << 32) + 77; /* in the year 2106 */

    write_pair(late, magic, 0, 77, SOURCE_SIZE);
    expect_code("late", ask_code(source, cached, 'd'));
    write_pair(late, magic, 0, 78, SOURCE_SIZE);
    expect_pending("late, stale", ask_code(source, cached, 'd'), 2);
}

static void test_code_stale_pending(void)
{
    static const unsigned char other[4] = {0xa7, 0x0d, 0x0d, 0x0b};
    static const unsigned char older[4] = {0x6f, 0x0d, 0x0d, 0x0a};

    write_pair(SOURCE_TIME, magic, 0, SOURCE_TIME + 1, SOURCE_SIZE);
    expect_pending("newer", ask_code(source, cached, 'd'), 2);
    write_pair(SOURCE_TIME, magic, 0, SOURCE_TIME - 1, SOURCE_SIZE);
    expect_pending("older", ask_code(source, cached, 'd'), 2);
    write_pair(SOURCE_TIME, magic, 0, SOURCE_TIME, SOURCE_SIZE + 1);
    expect_pending("size", ask_code(source, cached, 'n'), 2);
    write_pair(SOURCE_TIME, other, 0, SOURCE_TIME, SOURCE_SIZE);
    expect_pending("magic", ask_code(source, cached, 'd'), 2);
    write_pair(SOURCE_TIME, older, 0, SOURCE_TIME, SOURCE_SIZE);
    expect_pending("magic", ask_code(source, cached, 'n'), 2);
}

static void test_code_unknown_flags_pending(void)
{
    for (int bit = 2; bit < 32; bit++) {
        write_pair(SOURCE_TIME, magic, (uint32_t)1 << bit, SOURCE_TIME,
                   SOURCE_SIZE);
        expect_pending("flag", ask_code(source, cached, 'n'), 2);
        write_pair(SOURCE_TIME, magic, 1u | (uint32_t)1 << bit, SOURCE_TIME,
                   SOURCE_SIZE);
        expect_pending("flag and hash", ask_code(source, cached, 'n'), 2);
    }
    /* "Check the source" says nothing without a hash. */
    write_pair(SOURCE_TIME, magic, 2, SOURCE_TIME, SOURCE_SIZE);
    expect_code("bit 1", ask_code(source, cached, 'd'));
}

static void test_code_hash_based_by_mode(void)
{
    /* Source: PEP 552, "--check-hash-based-pycs". */
    write_pair(SOURCE_TIME, magic, 1, 0x12345678, 0x9abcdef0);
    expect_code("unchecked, default", ask_code(source, cached, 'd'));
    expect_code("unchecked, never", ask_code(source, cached, 'n'));
    expect_pending("unchecked, always", ask_code(source, cached, 'a'), 2);
    write_pair(SOURCE_TIME, magic, 3, 0x12345678, 0x9abcdef0);
    expect_pending("checked, default", ask_code(source, cached, 'd'), 2);
    expect_code("checked, never", ask_code(source, cached, 'n'));
    expect_pending("checked, always", ask_code(source, cached, 'a'), 2);
    /* The time plays no part in it. */
    write_pair(SOURCE_TIME, magic, 3, SOURCE_TIME, SOURCE_SIZE);
    expect_pending("checked, time", ask_code(source, cached, 'd'), 2);
}

static void test_code_truncated_header_pending(void)
{
    for (off_t size = 0; size < 16; size++) {
        write_pair(SOURCE_TIME, magic, 0, SOURCE_TIME, SOURCE_SIZE);
        check_need(truncate(cached, size) == 0, cached);
        expect_pending("truncated", ask_code(source, cached, 'd'), 2);
    }
}

static void test_code_no_bytecode_pending(void)
{
    write_pair(SOURCE_TIME, magic, 0, SOURCE_TIME, SOURCE_SIZE);
    expect_pending("no path", ask_code(source, "", 'd'), 1);
    expect_pending("absent", ask_code(source, below("absent.pyc"), 'd'), 2);
    expect_pending("directory", ask_code(source, below("empty"), 'd'), 2);
    expect_pending("FIFO", ask_code(source, below("list/fifo"), 'd'), 2);
}

static void test_code_no_source_absent(void)
{
    write_pair(SOURCE_TIME, magic, 0, SOURCE_TIME, SOURCE_SIZE);
    expect_absent("absent", ask_code(below("absent.py"), cached, 'd'), ENOENT,
                  1);
    expect_absent("below a file", ask_code(below("file/x.py"), cached, 'd'),
                  ENOTDIR, 1);
}

int main(void)
{
    struct outcome outcome;

    check_scratch(scratch);
    check_need(mi_dirs_create(&dirs, -1, &traffic, NULL) == 0, "memory");
    outcome = ask(MI_LIST, scratch);
    clear(&outcome);
    test_list_all_types_sorted();
    test_list_empty_directory_empty();
    test_list_many_names_all_there();
    test_list_no_directory_absent();
    test_list_memory_filesystem_flagged();
    test_forbidden_absent_eacces();
    test_stat_each_type_told();
    test_stat_old_time_exact();
    test_read_each_size_same();
    test_read_size_unknown_whole();
    test_read_no_regular_file_absent();
    test_read_too_large_absent();
    test_code_valid_given();
    test_code_late_time_low_bits_count();
    test_code_stale_pending();
    test_code_unknown_flags_pending();
    test_code_hash_based_by_mode();
    test_code_truncated_header_pending();
    test_code_no_bytecode_pending();
    test_code_no_source_absent();
    mi_dirs_destroy(dirs);
    check_remove(scratch);
    return check_report();
}
