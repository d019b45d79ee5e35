/* Tests of src/reader.c: answers, the pool, a full store, objects. */
#include "reader_fixture.h"

/* ---- answers
 * ----------------------------------------------------------------- */

static void test_answer_each_question_stored(void)
{
    struct fixture f;
    const struct mi_record *record;
    const char *path;
    char type;

    fixture_make(&f, 8 * MIB, 0, 0, 0);
    path = fixture_path(&f, "a.py");
    check_write(path, "x = 1\n", 6);
    record = fixture_ask(&f, MI_LIST, f.tree);
    CHECK(record && record->kind == MI_KIND_LIST);
    CHECK(record && strcmp(mi_entries_name(record, 0, &type), "a.py") == 0);
    CHECK(fixture_operations(&f) == 2);
    record = fixture_ask(&f, MI_STAT, path);
    CHECK(record && record->kind == MI_KIND_STAT && record->file_size == 6);
    CHECK(fixture_operations(&f) == 3);
    record = fixture_ask(&f, MI_READ, path);
    CHECK(record && record->kind == MI_KIND_FILE && record->size == 6);
    CHECK(record && memcmp(mi_record_payload(record), "x = 1\n", 6) == 0);
    CHECK(fixture_operations(&f) == 4 && fixture_bytes(&f) >= 6);
    record = fixture_ask(&f, MI_CODE, path);
    CHECK(record && record->kind == MI_KIND_ABSENT &&
          record->code == MI_CODE_PENDING);
    record = fixture_ask(&f, MI_STAT, fixture_path(&f, "absent"));
    CHECK(record && record->kind == MI_KIND_ABSENT && record->code == ENOENT);
    CHECK(mi_store_count(f.store) == 5);
    CHECK(mi_reader_settle(f.reader) == 0);
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
    mi_reader_destroy(NULL);
}

static void test_answer_again_nothing_read(void)
{
    static const enum mi_query queries[] = {MI_LIST, MI_STAT, MI_READ, MI_CODE,
                                            MI_MIRROR};
    struct fixture f;
    const struct mi_record *first, *again;
    uint64_t operations, used;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    check_write(fixture_path(&f, "a.py"), "x", 1);
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        const char *path = fixture_path(&f, i ? "a.py" : "");

        first = fixture_ask(&f, queries[i], path);
        operations = fixture_operations(&f);
        used = mi_store_used(f.store);
        again = fixture_ask(&f, queries[i], path);
        CHECK(first && first == again);
        CHECK(fixture_operations(&f) == operations);
        CHECK(mi_store_used(f.store) == used);
    }
    fixture_clear(&f);
}

/* Extra: the bytecode's path. */
static void test_answer_code_valid_bytecode(void)
{
    struct fixture f;
    const struct mi_record *record = NULL;
    unsigned char pyc[40] = {1, 2, 3, 4, 1}; /* unchecked, by hash */
    const char *path;

    fixture_make(&f, 8 * MIB, 0, 0, 0);
    path = fixture_path(&f, "a.py");
    check_write(path, "x", 1);
    check_write(fixture_path(&f, "a.pyc"), pyc, sizeof(pyc));
    CHECK(mi_reader_answer(f.reader, MI_CODE, path, fixture_path(&f, "a.pyc"),
                           &record, NULL) == 1);
    CHECK(record && record->kind == MI_KIND_FILE &&
          record->size == sizeof(pyc));
    CHECK(record && memcmp(mi_record_payload(record), pyc, sizeof(pyc)) == 0);
    fixture_clear(&f);
}

static void test_answer_invalid_question_refused(void)
{
    static const int queries[] = {0, MI_QUERY_LAST + 1, -1, 1000};
    struct fixture f;
    const struct mi_record *record;
    struct mi_error err;
    char *path = calloc(1, MI_PATH + 2);

    check_need(path != NULL, "memory");
    fixture_make(&f, 8 * MIB, 0, 0, 0);
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        mi_error_clear(&err);
        CHECK(mi_reader_answer(f.reader, (enum mi_query)queries[i], "/a", "",
                               &record, &err) == -1);
        CHECK(err.domain == MI_FORMAT && err.text[0] != '\0');
    }
    memset(path, '/', MI_PATH + 1);
    mi_error_clear(&err);
    CHECK(mi_reader_answer(f.reader, MI_STAT, path, "", &record, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG);
    CHECK(mi_store_count(f.store) == 0 && atomic_load(&f.notices) == 0);
    /* Nothing of it stands in the way of the next question. */
    CHECK(fixture_ask(&f, MI_STAT, "/") != NULL);
    fixture_clear(&f);
    free(path);
}

static void test_answer_published_growth_told(void)
{
    struct fixture f;
    uint32_t growth, kicks;

    for (int stream = 0; stream < 2; stream++) {
        fixture_make(&f, 8 * MIB, 0, 0, stream);
        growth = mi_mailbox_growth(f.mailbox);
        kicks = mi_mailbox_kicks(f.mailbox);
        CHECK(fixture_ask(&f, MI_STAT, "/") != NULL);
        CHECK(mi_mailbox_growth(f.mailbox) != growth);
        CHECK((mi_mailbox_kicks(f.mailbox) != kicks) == stream);
        growth = mi_mailbox_growth(f.mailbox);
        CHECK(fixture_ask(&f, MI_STAT, "/") != NULL);
        CHECK(mi_mailbox_growth(f.mailbox) == growth);
        fixture_clear(&f);
    }
}

static void test_publish_pending_replaced(void)
{
    struct fixture f;
    const struct mi_record *record = NULL;
    struct mi_entry entry = {
        .query = MI_CODE, .kind = MI_KIND_FILE, .payload = "code", .size = 4};
    const char *path;

    fixture_make(&f, 8 * MIB, 0, 0, 0);
    path = fixture_path(&f, "a.py");
    check_write(path, "x", 1);
    CHECK(fixture_ask(&f, MI_CODE, path)->code == MI_CODE_PENDING);
    entry.key = path;
    entry.key_size = strlen(path);
    CHECK(mi_reader_publish(f.reader, &entry, &record, NULL) == 1);
    CHECK(record == fixture_find(&f, MI_CODE, path));
    CHECK(fixture_ask(&f, MI_CODE, path) == record);
    CHECK(record && record->kind == MI_KIND_FILE);
    fixture_clear(&f);
}

/* ---- a full store
 * -------------------------------------------------------------- */

static void test_answer_store_full_said_once(void)
{
    struct fixture f;
    const struct mi_record *record = NULL, *early;
    static char large[200000];
    struct mi_entry entry = {.query = MI_CODE,
                             .kind = MI_KIND_FILE,
                             .key = "/large",
                             .key_size = 6,
                             .payload = large,
                             .size = sizeof(large)};
    struct mi_error err;
    uint64_t operations;
    uint32_t growth, kicks;

    fixture_make(&f, 65536, 0, 0, 1);
    early = fixture_ask(&f, MI_STAT, f.tree);
    growth = mi_mailbox_growth(f.mailbox);
    kicks = mi_mailbox_kicks(f.mailbox);
    CHECK(mi_reader_publish(f.reader, &entry, &record, &err) == 0);
    CHECK(mi_mailbox_stream(f.mailbox) == MI_STREAM_FULL);
    CHECK(mi_mailbox_growth(f.mailbox) != growth);
    CHECK(mi_mailbox_kicks(f.mailbox) != kicks);
    CHECK(atomic_load(&f.notices) == 1 && f.first == MI_FIRST_DIRECT);
    CHECK(strstr(f.notice, "-T DIR") && !strchr(f.notice, '\n'));
    /* No more is read, since nothing can be told to the others. */
    operations = fixture_operations(&f);
    CHECK(mi_reader_answer(f.reader, MI_STAT, "/tmp", "", &record, &err) == 0);
    CHECK(fixture_operations(&f) == operations);
    CHECK(mi_reader_answer(f.reader, MI_STAT, f.tree, "", &record, &err) == 1);
    CHECK(record == early);
    CHECK(atomic_load(&f.notices) == 1);
    fixture_clear(&f);
}

/* It alone is left to those who want it, and is not read. */
static void test_answer_file_beyond_store_refused(void)
{
    struct fixture f;
    static char large[200000];
    const struct mi_record *record;
    struct mi_answer answer;
    struct mi_error err;
    uint64_t bytes;

    fixture_make(&f, 65536, 0, 0, 1);
    check_write(fixture_path(&f, "large"), large, sizeof(large));
    check_write(fixture_path(&f, "small"), large, 30000);
    bytes = fixture_bytes(&f);
    record = fixture_ask(&f, MI_READ, fixture_path(&f, "large"));
    CHECK(record && record->kind == MI_KIND_ABSENT);
    CHECK(record && record->code == MI_READ_REFUSED);
    CHECK(fixture_bytes(&f) == bytes);
    CHECK(mi_mailbox_stream(f.mailbox) == MI_STREAM_OPEN);
    CHECK(atomic_load(&f.notices) == 0);
    record = fixture_ask(&f, MI_READ, fixture_path(&f, "small"));
    CHECK(record && record->kind == MI_KIND_FILE && record->size == 30000);
    /* Who keeps nothing may have it. */
    CHECK(mi_reader_read(f.reader, MI_READ, fixture_path(&f, "large"), "",
                         &answer, &err) == 0);
    CHECK(answer.entry.kind == MI_KIND_FILE &&
          answer.entry.size == sizeof(large));
    mi_answer_clear(&answer);
    fixture_clear(&f);
}

/* A listing that has no __pycache__ saves the look for bytecode. */
static void test_code_no_pycache_not_looked_for(void)
{
    struct fixture f;
    const struct mi_record *record;
    const char *names[] = {"a.py", "b.py"};
    char cached[PATH_MAX];

    fixture_make(&f, MIB, 0, 0, 0);
    for (int i = 0; i < 2; i++)
        check_write(fixture_path(&f, names[i]), "", 0);
    fixture_ask(&f, MI_LIST, f.tree);
    for (int i = 0; i < 2; i++) {
        uint64_t before = fixture_operations(&f);

        snprintf(cached, sizeof(cached), "%s.pyc",
                 fixture_path(&f, i ? "elsewhere/b" : "__pycache__/a"));
        CHECK(mi_reader_answer(f.reader, MI_CODE, fixture_path(&f, names[i]),
                               cached, &record, NULL) == 1);
        CHECK(record->code == MI_CODE_PENDING);
        CHECK(fixture_operations(&f) == before + 1);
    }
    /* It is there: looked at. */
    check_need(mkdir(fixture_path(&f, "sub"), 0700) == 0 &&
                   mkdir(fixture_path(&f, "sub/__pycache__"), 0700) == 0,
               "sub");
    check_write(fixture_path(&f, "sub/c.py"), "", 0);
    fixture_ask(&f, MI_LIST, fixture_path(&f, "sub"));
    CHECK(mi_reader_answer(f.reader, MI_CODE, fixture_path(&f, "sub/c.py"),
                           fixture_path(&f, "sub/__pycache__/c.pyc"), &record,
                           NULL) == 1);
    CHECK(fixture_operations(&f) == 2 + 2 + 2 + 3);
    fixture_clear(&f);
}

static void test_answer_stream_gone_nothing_read(void)
{
    struct fixture f;
    const struct mi_record *record = NULL;

    fixture_make(&f, MIB, 1, 0, 0);
    mi_mailbox_set_stream(f.mailbox, MI_STREAM_GONE);
    for (int query = 1; query <= MI_QUERY_LAST; query++)
        CHECK(mi_reader_answer(f.reader, (enum mi_query)query, "/", "",
                               &record, NULL) == 0);
    CHECK(fixture_operations(&f) == 0 && atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

/* ---- the pool
 * -------------------------------------------------------------------- */

static void test_submit_many_all_answered(void)
{
    enum { FILES = 300 };
    struct fixture f;
    char name[40];
    int right = 0;

    fixture_make(&f, 8 * MIB, 0, 4, 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "%d", i);
        check_write(fixture_path(&f, name), name, strlen(name));
        CHECK(fixture_submit(&f, MI_READ, fixture_path(&f, name), "", NULL) ==
              0);
    }
    CHECK(check_until(fixture_idle, &f, 10));
    for (int i = 0; i < FILES; i++) {
        const struct mi_record *record;

        snprintf(name, sizeof(name), "%d", i);
        record = fixture_find(&f, MI_READ, fixture_path(&f, name));
        right += record && record->size == strlen(name) &&
                 memcmp(mi_record_payload(record), name, strlen(name)) == 0;
    }
    CHECK(right == FILES && fixture_operations(&f) == FILES);
    /* What is known is no work. */
    CHECK(fixture_submit(&f, MI_READ, fixture_path(&f, "0"), "", NULL) == 0);
    CHECK(check_until(fixture_idle, &f, 10));
    CHECK(fixture_operations(&f) == FILES);
    fixture_clear(&f);
}

/* ---- reading ahead --------------------------------------------------------
 */

static int has_noticed(void *arg)
{
    struct fixture *f = arg;

    return atomic_load(&f->notices) > 0;
}

static int has_six(void *arg)
{
    struct fixture *f = arg;

    return mi_store_count(f->store) == 6;
}

/* A reader whose only thread is held by the gate: it says that there is no
 * room for an object.
 */
static void make_held(struct fixture *f, struct mi_budget *budget,
                      pthread_mutex_t *gate)
{
    static const char *const nothing[] = {NULL};

    fixture_make(f, 8 * MIB, 1, 1, 0);
    budget->limit = 1;
    mi_mirror_set_budget(f->mirror, budget);
    f->gate = gate;
    pthread_mutex_lock(gate);
    fixture_object(fixture_path(f, "x.so"), nothing, NULL);
    CHECK(fixture_submit(f, MI_MIRROR, fixture_path(f, "x.so"), "", NULL) ==
          0);
    CHECK(check_until(has_noticed, f, 10));
}

static int ahead(struct fixture *f, const char *name)
{
    return mi_reader_ahead(f->reader, MI_STAT, fixture_path(f, name), "",
                           NULL);
}

static void test_ahead_comes_after_asks_in_order(void)
{
    static const char *const names[] = {"d", "e", "a", "b", "c"};
    const struct mi_record *record, *before = NULL;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct mi_budget budget = {.limit = 0};
    struct fixture f;

    make_held(&f, &budget, &gate);
    CHECK(ahead(&f, "a") == 0 && ahead(&f, "b") == 0 && ahead(&f, "c") == 0);
    CHECK(fixture_submit(&f, MI_STAT, fixture_path(&f, "d"), "", NULL) == 0);
    CHECK(fixture_submit(&f, MI_STAT, fixture_path(&f, "e"), "", NULL) == 0);
    pthread_mutex_unlock(&gate);
    CHECK(check_until(has_six, &f, 10));
    for (int i = 0; i < 5; i++, before = record) {
        record = fixture_find(&f, MI_STAT, fixture_path(&f, names[i]));
        CHECK_FOR(names[i], record && record > before);
    }
    /* What is known is no work. */
    CHECK(ahead(&f, "a") == 0 && mi_reader_settle(f.reader) == 0);
    fixture_clear(&f);
}

static void test_ahead_forgotten_at_the_end(void)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct mi_budget budget = {.limit = 0};
    struct fixture f;

    make_held(&f, &budget, &gate);
    CHECK(ahead(&f, "a") == 0 && ahead(&f, "b") == 0);
    CHECK(fixture_submit(&f, MI_STAT, fixture_path(&f, "d"), "", NULL) == 0);
    CHECK(mi_reader_settle(f.reader) == 2); /* the object, and d */
    pthread_mutex_unlock(&gate);
    CHECK(check_until(fixture_idle, &f, 10));
    CHECK(fixture_find(&f, MI_STAT, fixture_path(&f, "d")) != NULL);
    CHECK(fixture_find(&f, MI_STAT, fixture_path(&f, "a")) == NULL);
    CHECK(mi_store_count(f.store) == 2);
    fixture_clear(&f);
}

/* That something is gone is told only if it was so before. */
static void test_replay_absent_told_if_it_was(void)
{
    static const enum mi_query queries[] = {MI_STAT, MI_LIST, MI_CODE,
                                            MI_MIRROR, MI_COPY};
    struct mi_question question = {.extra = ""};
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 1, 0);
    question.key = fixture_path(&f, "gone");
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        question.query = queries[i];
        CHECK(mi_reader_replay(f.reader, &question, NULL) == 0);
    }
    question.query = MI_READ;
    question.flags = MI_MANIFEST_ABSENT;
    CHECK(mi_reader_replay(f.reader, &question, NULL) == 0);
    while (mi_store_count(f.store) == 0)
        check_sleep(2);
    CHECK(mi_store_count(f.store) == 1); /* the last one, of one thread */
    CHECK(fixture_find(&f, MI_READ, question.key) != NULL);
    CHECK(atomic_load(&f.notices) == 0);
    /* Who asks gets an answer. */
    CHECK(fixture_ask(&f, MI_STAT, question.key) != NULL);
    fixture_clear(&f);
}

/* Also if the ask comes while that is being looked at. */
static void test_replay_absent_ask_not_lost(void)
{
    enum { FILES = 300 };
    struct mi_question question = {.query = MI_STAT, .extra = ""};
    struct fixture f;
    char name[40];

    fixture_make(&f, 8 * MIB, 0, 2, 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "%d", i);
        question.key = fixture_path(&f, name);
        CHECK(mi_reader_replay(f.reader, &question, NULL) == 0);
        usleep((useconds_t)i % 100); /* a thread has begun with it */
        CHECK(fixture_submit(&f, MI_STAT, question.key, "", NULL) == 0);
    }
    CHECK(check_until(fixture_idle, &f, 10));
    CHECK(mi_store_count(f.store) == FILES);
    fixture_clear(&f);
}

static void test_ahead_no_threads_refused(void)
{
    struct fixture f;
    struct mi_error err;

    fixture_make(&f, MIB, 0, 0, 0);
    mi_error_clear(&err);
    CHECK(mi_reader_ahead(f.reader, MI_STAT, "/", "", &err) == -1);
    CHECK(err.domain != MI_NONE && err.text[0] != '\0');
    fixture_clear(&f);
}

/* ---- the manifest's record ------------------------------------------------
 */

/* Of asks only; with the .pyc's place of what was read ahead. */
static void test_asks_recorded_ahead_is_not(void)
{
    struct mi_manifest none = {.count = 0};
    struct mi_asked *asked = mi_asked_create(&none);
    struct mi_question *questions = NULL;
    struct fixture f;
    size_t count = 0;

    fixture_place(&f);
    f.asked = asked;
    fixture_open(&f, 8 * MIB, 0, 1, 0);
    check_write(fixture_path(&f, "a.py"), "", 0);
    CHECK(mi_reader_ahead(f.reader, MI_CODE, fixture_path(&f, "a.py"),
                          "/a.pyc", NULL) == 0);
    CHECK(ahead(&f, "b") == 0);
    CHECK(fixture_submit(&f, MI_STAT, fixture_path(&f, "d"), "", NULL) == 0);
    CHECK(fixture_ask(&f, MI_STAT, f.tree) != NULL); /* nobody's */
    while (mi_store_count(f.store) < 4)
        check_sleep(2);
    /* Its answer is there by now. */
    CHECK(fixture_submit(&f, MI_STAT, fixture_path(&f, "b"), "", NULL) == 0);
    mi_asked_add(asked, MI_CODE, fixture_path(&f, "a.py"), "", MI_ASKER_OWN);
    CHECK(mi_asked_merge(asked, f.store, INT64_MAX, &questions, &count) == 1);
    CHECK(count == 3 && strcmp(questions[0].key, fixture_path(&f, "d")) == 0 &&
          strcmp(questions[1].key, fixture_path(&f, "b")) == 0 &&
          strcmp(questions[2].extra, "/a.pyc") == 0);
    free(questions);
    fixture_clear(&f);
    mi_asked_destroy(asked);
}

static void test_submit_malformed_refused(void)
{
    struct fixture f;
    const struct mi_ask ask = mi_ask_of(MI_STAT, "/", "");
    unsigned char message[100] = {0};
    struct mi_error err;
    size_t size;

    fixture_make(&f, MIB, 0, 2, 0);
    CHECK(mi_ask_pack(message, &ask, &size, NULL) == 0);
    for (size_t cut = 0; cut < sizeof(message); cut++) {
        if (cut == size)
            continue;
        mi_error_clear(&err);
        CHECK(mi_reader_submit(f.reader, message, cut, &err) == -1);
        CHECK(err.domain == MI_FORMAT && err.text[0] != '\0');
    }
    message[0] = MI_QUERY_LAST + 1;
    CHECK(mi_reader_submit(f.reader, message, size, &err) == -1);
    CHECK(mi_reader_settle(f.reader) == 0 && mi_store_count(f.store) == 0);
    fixture_clear(&f);
}

static void test_submit_no_threads_refused(void)
{
    struct fixture f;
    struct mi_error err;

    fixture_make(&f, MIB, 0, 0, 0);
    mi_error_clear(&err);
    CHECK(fixture_submit(&f, MI_STAT, "/", "", &err) == -1);
    CHECK(err.domain != MI_NONE && err.text[0] != '\0');
    CHECK(mi_reader_settle(f.reader) == 0);
    fixture_clear(&f);
}

/* Whatever a rank may send is answered without harm. */
static int submit_odd_paths(void *arg)
{
    static const char *const paths[] = {
        "",   ".",         "relative",      "relative.so",
        "//", "/absent/x", "/proc/self/mem"};
    struct fixture f;
    char *longest = calloc(1, MI_PATH + 1), path[PATH_MAX];
    static const char *const nothing[] = {"libc.so.6", NULL};

    (void)arg;
    check_need(longest != NULL, "memory");
    memset(longest, '/', MI_PATH);
    fixture_make(&f, 8 * MIB, 1, 2, 1);
    check_need(chdir(f.tree) == 0, f.tree);
    fixture_object(check_join(path, f.tree, "relative.so"), nothing,
                   "$ORIGIN");
    for (int query = 1; query <= MI_QUERY_LAST; query++) {
        for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
            CHECK(fixture_submit(&f, (enum mi_query)query, paths[i], "",
                                 NULL) == 0);
        CHECK(fixture_submit(&f, (enum mi_query)query, longest, longest,
                             NULL) == 0);
    }
    CHECK(check_until(fixture_idle, &f, 10));
    for (int query = 1; query <= MI_QUERY_LAST; query++)
        for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
            CHECK_FOR(paths[i],
                      fixture_find(&f, (enum mi_query)query, paths[i]));
    check_need(chdir("/") == 0, "/");
    fixture_clear(&f);
    free(longest);
    return 0;
}

static void test_submit_odd_paths_answered(void)
{
    check_child(submit_odd_paths, NULL, __func__);
}

static void test_destroy_asks_waiting_ends(void)
{
    struct fixture f;
    char name[40];

    fixture_make(&f, 8 * MIB, 0, 1, 0);
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof(name), "%d", i);
        CHECK(fixture_submit(&f, MI_STAT, fixture_path(&f, name), "", NULL) ==
              0);
    }
    fixture_clear(&f);
}

/* ---- compiling
 * --------------------------------------------------------------------- */

static void test_compile_submitted_sources_told(void)
{
    struct fixture f;
    char path[PATH_MAX];
    const char *source, *other;

    fixture_make(&f, 8 * MIB, 0, 2, 0);
    source = fixture_path(&f, "a.py");
    other = fixture_path(&f, "b.py");
    check_write(source, "x", 1);
    check_write(other, "x", 1);
    CHECK(fixture_submit(&f, MI_CODE, source, "", NULL) == 0);
    CHECK(mi_reader_compile(f.reader, path) == 1);
    CHECK(strcmp(path, source) == 0);
    /* Root's own import has found that it must be compiled: that is told to
     * nobody, until another rank asks.
     */
    CHECK(fixture_ask(&f, MI_CODE, other)->code == MI_CODE_PENDING);
    CHECK(fixture_submit(&f, MI_CODE, other, "", NULL) == 0);
    CHECK(mi_reader_compile(f.reader, path) == 1);
    CHECK(strcmp(path, other) == 0);
    CHECK(check_until(fixture_idle, &f, 10));
    mi_reader_stop(f.reader);
    CHECK(mi_reader_compile(f.reader, path) == 0);
    mi_reader_stop(f.reader);
    CHECK(mi_reader_compile(f.reader, path) == 0);
    fixture_clear(&f);
}

/* ---- objects
 * ------------------------------------------------------------------------- */

static const char *const none[] = {NULL};

static void test_mirror_own_executable_copied(void)
{
    struct fixture f;
    const struct mi_record *record;
    const char *path;
    char place[PATH_MAX * 2];
    size_t size;
    void *bytes = check_read("/proc/self/exe", &size);

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    path = fixture_path(&f, "own.so");
    check_write(path, bytes, size);
    check_need(chmod(path, 0755) == 0, path);
    record = fixture_ask(&f, MI_MIRROR, path);
    CHECK(record && record->kind == MI_KIND_MIRROR);
    CHECK(record && mi_record_need(record, NULL)); /* the C library */
    CHECK(record && record->file_size == size && record->object == 1);
    CHECK(strcmp(mi_mailbox_mirror(f.mailbox), mi_mirror_root(f.mirror)) == 0);
    CHECK(fixture_mirrored(&f, path));
    CHECK(mi_mirror_bytes(f.mirror) == size);
    /* It uses dlopen(3): what is beside it is looked at. */
    CHECK(fixture_operations(&f) == 1 + 2);
    CHECK(fixture_bytes(&f) > size && fixture_bytes(&f) < size + 1000);
    snprintf(place, sizeof(place), "%s%s", mi_mirror_root(f.mirror), path);
    CHECK(access(place, X_OK) == 0);
    fixture_clear(&f);
    free(bytes);
}

static void test_mirror_origin_libraries_follow(void)
{
    static const char *const ext[] = {"libdep.so.1", "libc.so.6", NULL};
    static const char *const dep[] = {"libdeep.so", "libabsent.so",
                                      "libdirectory.so", NULL};
    struct fixture f;
    const char *path, *paths[3];
    uint64_t object[3];

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    check_need(mkdir(fixture_path(&f, "pkg"), 0700) == 0 &&
                   mkdir(fixture_path(&f, "pkg.libs"), 0700) == 0 &&
                   mkdir(fixture_path(&f, "pkg.libs/libdirectory.so"), 0700) ==
                       0,
               "pkg");
    path = fixture_path(&f, "pkg/ext.so");
    fixture_object(path, ext, "/absent:$ORIGIN/nowhere:$ORIGIN/../pkg.libs");
    fixture_object(fixture_path(&f, "pkg.libs/libdep.so.1"), dep, "${ORIGIN}");
    fixture_object(fixture_path(&f, "pkg.libs/libdeep.so"), none, NULL);
    CHECK(fixture_ask(&f, MI_MIRROR, path) != NULL);
    paths[0] = fixture_path(&f, "pkg/ext.so");
    paths[1] = fixture_path(&f, "pkg.libs/libdep.so.1");
    paths[2] = fixture_path(&f, "pkg.libs/libdeep.so");
    for (int i = 0; i < 3; i++) {
        CHECK_FOR(paths[i], fixture_mirrored(&f, paths[i]));
        object[i] = fixture_find(&f, MI_MIRROR, paths[i])
                        ? fixture_find(&f, MI_MIRROR, paths[i])->object
                        : 0;
    }
    CHECK(object[0] != object[1] && object[1] != object[2] &&
          object[0] != object[2]);
    /* Who finds an object finds it complete. */
    CHECK((const char *)fixture_find(&f, MI_MIRROR, paths[0]) >
          (const char *)fixture_find(&f, MI_MIRROR, paths[1]));
    /* three files, the way to the first, a listing, two that are not there;
     * the directory above */
    CHECK(fixture_operations(&f) == 3 + 1 + 2 + 2 + 1);
    CHECK(mi_mirror_bytes(f.mirror) == 3 * sizeof(struct fixture_image));
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

/* Libraries that need each other, and one that needs itself. */
static int mirror_circle(void *arg)
{
    static const char *const a[] = {"b.so", "a.so", NULL};
    static const char *const b[] = {"c.so", "a.so", NULL};
    static const char *const c[] = {"a.so", "b.so", NULL};
    static const char *const names[] = {"a.so", "b.so", "c.so"};
    struct fixture f;

    (void)arg;
    fixture_make(&f, 8 * MIB, 1, 0, 0);
    fixture_object(fixture_path(&f, "a.so"), a, "$ORIGIN");
    fixture_object(fixture_path(&f, "b.so"), b, "$ORIGIN");
    fixture_object(fixture_path(&f, "c.so"), c, "$ORIGIN");
    CHECK(fixture_ask(&f, MI_MIRROR, fixture_path(&f, "b.so")) ==
          fixture_find(&f, MI_MIRROR, fixture_path(&f, "b.so")));
    for (int i = 0; i < 3; i++)
        CHECK(fixture_mirrored(&f, fixture_path(&f, names[i])));
    CHECK(fixture_operations(&f) == 3 + 2);
    CHECK(mi_mirror_bytes(f.mirror) == 3 * sizeof(struct fixture_image));
    fixture_clear(&f);
    return 0;
}

static void test_mirror_circle_each_once(void)
{
    check_child(mirror_circle, NULL, __func__);
}

/* By a thread of the pool, whose stack is small. */
static int mirror_chain(void *arg)
{
    enum { LENGTH = 150 };
    const char *needed[2] = {NULL, NULL};
    struct fixture f;
    char name[30], next[30];
    int right = 0;

    (void)arg;
    fixture_make(&f, 8 * MIB, 1, 1, 0);
    for (int i = 0; i < LENGTH; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        snprintf(next, sizeof(next), "%d.so", i + 1);
        needed[0] = i + 1 < LENGTH ? next : NULL;
        fixture_object(fixture_path(&f, name), needed, "$ORIGIN");
    }
    CHECK(fixture_submit(&f, MI_MIRROR, fixture_path(&f, "0.so"), "", NULL) ==
          0);
    CHECK(check_until(fixture_idle, &f, 15));
    for (int i = 0; i < LENGTH; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        right += fixture_mirrored(&f, fixture_path(&f, name));
    }
    CHECK(right == LENGTH);
    fixture_clear(&f);
    return 0;
}

static void test_mirror_long_chain_whole(void)
{
    check_child(mirror_chain, NULL, __func__);
}

static void test_mirror_stream_objects_kept(void)
{
    static const char *const needed[] = {"b.so", NULL};
    struct fixture f;
    struct mi_object object = {0};
    uint64_t seen = 0, last = 0;
    size_t size;
    void *bytes;

    fixture_make(&f, 8 * MIB, 1, 0, 1);
    CHECK(mi_reader_object(f.reader, &object) == 0 && object.id == 0);
    fixture_object(fixture_path(&f, "a.so"), needed, "$ORIGIN");
    fixture_object(fixture_path(&f, "b.so"), none, NULL);
    fixture_object(fixture_path(&f, "c.so"), none, NULL);
    CHECK(fixture_ask(&f, MI_MIRROR, fixture_path(&f, "a.so")) != NULL);
    while (mi_reader_object(f.reader, &object)) {
        const char *path = fixture_path(&f, object.id == 1 ? "a.so" : "b.so");

        bytes = check_read(path, &size);
        CHECK(object.size == size && memcmp(object.bytes, bytes, size) == 0);
        CHECK(fixture_find(&f, MI_MIRROR, path) &&
              fixture_find(&f, MI_MIRROR, path)->object == object.id);
        CHECK(S_ISREG(object.mode));
        free(bytes);
        seen++;
        last += object.id;
        mi_object_clear(&object);
        CHECK(!object.bytes);
        mi_object_clear(&object);
    }
    CHECK(seen == 2 && last == 3);
    /* One that nobody takes is freed with the reader. */
    CHECK(fixture_ask(&f, MI_MIRROR, fixture_path(&f, "c.so")) != NULL);
    fixture_clear(&f);
}

static void expect_not_mirrored(struct fixture *f, const char *path, int code)
{
    const struct mi_record *record = fixture_ask(f, MI_MIRROR, path);

    CHECK_FOR(path, record && record->kind == MI_KIND_ABSENT);
    CHECK_FOR(path, record && record->code == code);
}

static void test_mirror_no_object_told(void)
{
    struct fixture f;
    const struct mi_record *record;
    struct mi_object object;
    const char *path;

    fixture_make(&f, 8 * MIB, 1, 0, 1);
    expect_not_mirrored(&f, fixture_path(&f, "absent.so"), ENOENT);
    expect_not_mirrored(&f, f.tree, EINVAL);
    check_write(fixture_path(&f, "empty.so"), "", 0);
    expect_not_mirrored(&f, fixture_path(&f, "empty.so"), EINVAL);
    check_need(mkfifo(fixture_path(&f, "fifo.so"), 0600) == 0, "fifo");
    expect_not_mirrored(&f, fixture_path(&f, "fifo.so"), EINVAL);
    CHECK(check_entries(f.top) == 0); /* nothing was made for them */
    /* Damaged: the payload says why, in one line. */
    check_write(fixture_path(&f, "text.so"), "not an object", 13);
    expect_not_mirrored(&f, fixture_path(&f, "text.so"), MI_MIRROR_DAMAGED);
    path = fixture_path(&f, "cut.so");
    fixture_object(path, none, NULL);
    check_need(truncate(path, sizeof(struct fixture_image) - 1) == 0, path);
    expect_not_mirrored(&f, path, MI_MIRROR_DAMAGED);
    record = fixture_find(&f, MI_MIRROR, path);
    CHECK(record && record->size > 0 &&
          memmem(mi_record_payload(record), record->size, "truncated", 9));
    CHECK(atomic_load(&f.notices) == 0);
    CHECK(mi_reader_object(f.reader, &object) == 0);
    CHECK(mi_mirror_bytes(f.mirror) == 0);
    fixture_clear(&f);
}

static void test_mirror_damaged_library_others_mirrored(void)
{
    static const char *const needed[] = {"bad.so", "good.so", NULL};
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    fixture_object(fixture_path(&f, "a.so"), needed, "$ORIGIN");
    fixture_object(fixture_path(&f, "good.so"), none, NULL);
    check_write(fixture_path(&f, "bad.so"), "not an object", 13);
    CHECK(fixture_ask(&f, MI_MIRROR, fixture_path(&f, "a.so")) != NULL);
    CHECK(fixture_mirrored(&f, fixture_path(&f, "a.so")));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "good.so")));
    expect_not_mirrored(&f, fixture_path(&f, "bad.so"), MI_MIRROR_DAMAGED);
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_mirror_none_configured_refused(void)
{
    struct fixture f;
    const char *path;

    fixture_make(&f, 8 * MIB, 0, 0, 0);
    path = fixture_path(&f, "a.so");
    fixture_object(path, none, NULL);
    expect_not_mirrored(&f, path, MI_MIRROR_REFUSED);
    expect_not_mirrored(&f, fixture_path(&f, "absent.so"), MI_MIRROR_REFUSED);
    check_write(fixture_path(&f, "text.so"), "not an object", 13);
    expect_not_mirrored(&f, fixture_path(&f, "text.so"), MI_MIRROR_DAMAGED);
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static int mirror_on_small_filesystem(void *arg)
{
    struct fixture f;
    const char *path;

    (void)arg;
    fixture_make(&f, 8 * MIB, 1, 0, 1);
    if (!check_small_tmpfs(f.top, 64)) {
        fixture_clear(&f);
        return CHECK_SKIP;
    }
    path = fixture_path(&f, "large.so");
    fixture_object(path, none, NULL);
    check_need(truncate(path, 100000) == 0, path);
    expect_not_mirrored(&f, path, MI_MIRROR_REFUSED);
    CHECK(atomic_load(&f.notices) == 1 && f.first == MI_FIRST_MIRROR);
    CHECK(strstr(f.notice, path) && strstr(f.notice, f.top));
    CHECK(!strchr(f.notice, '\n'));
    CHECK(mi_mailbox_stream(f.mailbox) == MI_STREAM_OPEN);
    /* A small one still goes. */
    path = fixture_path(&f, "small.so");
    fixture_object(path, none, NULL);
    CHECK(fixture_ask(&f, MI_MIRROR, path) && fixture_mirrored(&f, path));
    mi_mirror_remove(f.mirror);
    umount2(f.top, MNT_DETACH); /* objects of it are mapped */
    fixture_clear(&f);
    return 0;
}

static void test_mirror_filesystem_full_refused(void)
{
    if (!check_child(mirror_on_small_filesystem, NULL, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
}

int main(void)
{
    test_answer_each_question_stored();
    test_answer_again_nothing_read();
    test_answer_code_valid_bytecode();
    test_answer_invalid_question_refused();
    test_answer_published_growth_told();
    test_publish_pending_replaced();
    test_answer_store_full_said_once();
    test_answer_file_beyond_store_refused();
    test_code_no_pycache_not_looked_for();
    test_answer_stream_gone_nothing_read();
    test_submit_many_all_answered();
    test_ahead_comes_after_asks_in_order();
    test_ahead_forgotten_at_the_end();
    test_replay_absent_told_if_it_was();
    test_replay_absent_ask_not_lost();
    test_ahead_no_threads_refused();
    test_asks_recorded_ahead_is_not();
    test_submit_malformed_refused();
    test_submit_no_threads_refused();
    test_submit_odd_paths_answered();
    test_destroy_asks_waiting_ends();
    test_compile_submitted_sources_told();
    test_mirror_own_executable_copied();
    test_mirror_origin_libraries_follow();
    test_mirror_circle_each_once();
    test_mirror_long_chain_whole();
    test_mirror_stream_objects_kept();
    test_mirror_no_object_told();
    test_mirror_damaged_library_others_mirrored();
    test_mirror_none_configured_refused();
    test_mirror_filesystem_full_refused();
    return check_report();
}
