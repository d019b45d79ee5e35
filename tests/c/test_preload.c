/* Tests of src/preload.c: what is opened before an object, and how often. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

#include "../../src/preload.h"

#define THREADS 8
#define NAMES 200

/* ---- what is opened ----------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    char names[2 * NAMES][40];
    size_t count;
} opened = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* In place of the linker's, which gets the call in the end. */
void *dlopen(const char *name, int flags)
{
    void *(*next)(const char *, int);

    if (name && !(flags & RTLD_NOLOAD)) {
        CHECK_FOR(name, !(flags & RTLD_GLOBAL));
        pthread_mutex_lock(&opened.lock);
        check_need(opened.count < 2 * NAMES, "room");
        snprintf(opened.names[opened.count++], 40, "%s", name);
        pthread_mutex_unlock(&opened.lock);
    }
    *(void **)&next = dlsym(RTLD_NEXT, "dlopen");
    return next(name, flags);
}

static size_t count_opened(const char *name, size_t length)
{
    size_t count = 0;

    for (size_t i = 0; i < opened.count; i++)
        count += strlen(opened.names[i]) == length &&
                 memcmp(opened.names[i], name, length) == 0;
    return count;
}

/* Just these, "NAME NAME...", each once; then forget them. */
static void expect_opened(const char *names, const char *about)
{
    size_t expected = 0, length;

    for (; *names; names += length + strspn(names + length, " ")) {
        length = strcspn(names, " ");
        expected++;
        CHECK_FOR(about, count_opened(names, length) == 1);
    }
    CHECK_FOR(about, opened.count == expected);
    CHECK_FOR(about, dlerror() == NULL);
    opened.count = 0;
}

static int is_open(const char *name)
{
    void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);

    dlerror();
    if (handle)
        dlclose(handle);
    return handle != NULL;
}

/* ---- records ------------------------------------------------------------ */

/* The records of some objects. */
struct table {
    struct mi_record *records[8];
    size_t count;
};

static atomic_int asked; /* how often it is called */

static const struct mi_record *find(const void *arg, const char *path)
{
    const struct table *table = arg;

    atomic_fetch_add(&asked, 1);
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(mi_record_key(table->records[i]), path) == 0)
            return table->records[i];
    return NULL;
}

/* Add an object with this payload, in a block of just its size. */
static struct mi_record *add_payload(struct table *table, const char *path,
                                     const char *payload, size_t size)
{
    const uint32_t length = (uint32_t)strlen(path);
    struct mi_record *record = calloc(1, mi_record_total(length, size));

    check_need(record && table->count < 8, "room");
    record->query = MI_MIRROR;
    record->kind = MI_KIND_MIRROR;
    record->key_size = length;
    record->size = size;
    memcpy(record + 1, path, length);
    memcpy((char *)record + mi_record_total(length, 0), payload, size);
    mi_record_seal(record, path);
    return table->records[table->count++] = record;
}

/* The same; 'needs' is "NEED NEED...", in their order, or "": no payload. */
static struct mi_record *add(struct table *table, const char *path,
                             const char *needs)
{
    const size_t size = strlen(needs) + 2;
    char *payload = calloc(1, size); /* begins with an empty place */
    struct mi_record *record;

    check_need(payload != NULL, "memory");
    memcpy(payload + 1, needs, size - 2);
    for (size_t i = 1; i < size; i++)
        if (payload[i] == ' ')
            payload[i] = '\0';
    record = add_payload(table, path, payload, *needs ? size : 0);
    free(payload);
    return record;
}

static void clear(struct table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->records[i]);
    *table = (struct table){0};
}

/* Never freed: kept where leak checkers find it. */
static struct mi_preload *kept[64];

static struct mi_preload *create(void)
{
    static size_t used;

    check_need(used < sizeof(kept) / sizeof(kept[0]), "room");
    kept[used] = mi_preload_create();
    check_need(kept[used] != NULL, "memory");
    return kept[used++];
}

/* Before the object that was added first; the table is cleared. */
static void expect(struct mi_preload *preload, struct table *table,
                   const char *names, const char *about)
{
    mi_preload_before(preload, table->records[0], find, table);
    expect_opened(names, about);
    clear(table);
}

/* ---- one object --------------------------------------------------------- */

static void test_before_each_name_opened(void)
{
    struct table table = {0};

    add(&table, "/t/ext.so", "libmi-a.so libmi-b.so.1 libmi-c.so");
    expect(create(), &table, "libmi-a.so libmi-b.so.1 libmi-c.so", __func__);
}

static void test_before_no_needs_nothing_opened(void)
{
    struct table table = {0};

    add_payload(&table, "/t/ext.so", "", 0);
    expect(create(), &table, "", "no payload");
    add_payload(&table, "/t/ext.so", "/real/ext.so", sizeof("/real/ext.so"));
    expect(create(), &table, "", "place only");
    add_payload(&table, "/t/ext.so", "\0libmi-a.so", 11);
    expect(create(), &table, "", "not terminated");
}

static void test_before_place_not_opened(void)
{
    static const char payload[] = "/real/ext.so\0libmi-a.so";
    struct table table = {0};

    add_payload(&table, "/t/ext.so", payload, sizeof(payload));
    atomic_store(&asked, 0);
    expect(create(), &table, "libmi-a.so", __func__);
    CHECK(atomic_load(&asked) == 0);
}

static void test_before_again_nothing_opened(void)
{
    struct mi_preload *preload = create();
    struct table table = {0};

    add(&table, "/t/ext.so", "libmi-a.so libmi-b.so");
    expect(preload, &table, "libmi-a.so libmi-b.so", "first");
    add(&table, "/t/ext.so", "libmi-a.so libmi-b.so"); /* names are copied */
    expect(preload, &table, "", "again");
    add(&table, "/t/other.so", "libmi-b.so libmi-c.so libmi-a.so");
    expect(preload, &table, "libmi-c.so", "other");
}

/* Each of 'names' is opened the first time, and none the second. */
static void expect_once(const char *names)
{
    struct mi_preload *preload = create();
    struct table table = {0};

    add(&table, "/t/ext.so", names);
    expect(preload, &table, names, "first");
    add(&table, "/t/ext.so", names);
    expect(preload, &table, "", "again");
}

static void test_before_similar_names_differ(void)
{
    static const char names[] = "libmi.so libmi.so.6 libmi.so.60 ibmi.so.6 "
                                "LIBMI.SO.6 libmi";

    expect_once(names);
}

static void test_before_each_handle_for_itself(void)
{
    struct table table = {0};

    for (int i = 0; i < 2; i++) {
        add(&table, "/t/ext.so", "libmi-a.so");
        expect(create(), &table, "libmi-a.so", __func__);
    }
}

/* ---- more objects ------------------------------------------------------- */

static void test_before_closure_each_name_opened_once(void)
{
    struct table table = {0};

    add(&table, "/t/ext.so", "/t/p.so libmi-a.so /t/q.so");
    add(&table, "/t/p.so", "libmi-b.so /t/r.so libmi-a.so");
    add(&table, "/t/q.so", "libmi-b.so libmi-c.so /t/r.so");
    add(&table, "/t/r.so", "libmi-d.so");
    add(&table, "/t/other.so", "libmi-e.so");
    expect(create(), &table, "libmi-a.so libmi-b.so libmi-c.so libmi-d.so",
           __func__);
}

/* What an object before has opened, or needed, is looked through again. */
static void test_before_second_object_its_own_opened(void)
{
    struct mi_preload *preload = create();
    struct table table = {0};

    add(&table, "/t/one.so", "/t/p.so libmi-a.so");
    add(&table, "/t/p.so", "libmi-b.so");
    expect(preload, &table, "libmi-a.so libmi-b.so", "one");
    add(&table, "/t/two.so", "/t/p.so");
    add(&table, "/t/p.so", "libmi-b.so /t/q.so");
    add(&table, "/t/q.so", "libmi-c.so libmi-a.so");
    expect(preload, &table, "libmi-c.so", "two");
}

static void test_before_circle_ends(void)
{
    struct table table = {0};

    add(&table, "/t/a.so", "/t/b.so libmi-a.so /t/a.so");
    add(&table, "/t/b.so", "/t/a.so libmi-b.so /t/c.so");
    add(&table, "/t/c.so", "/t/c.so /t/b.so libmi-c.so /t/a.so");
    atomic_store(&asked, 0);
    expect(create(), &table, "libmi-a.so libmi-b.so libmi-c.so", __func__);
    CHECK(atomic_load(&asked) == 3); /* for each once */
}

/* What one needs that has no record is not known; the linker may find all of
 * it on the tree.
 */
static void test_before_no_record_nothing_opened(void)
{
    struct table table = {0};

    add(&table, "/t/ext.so", "/t/none.so libmi-a.so");
    expect(create(), &table, "", "ahead of a name");
    add(&table, "/t/ext.so", "libmi-a.so /t/none.so");
    expect(create(), &table, "", "after it");
    add(&table, "/t/ext.so", "libmi-a.so /t/p.so");
    add(&table, "/t/p.so", "libmi-b.so /t/none.so");
    expect(create(), &table, "", "of another");
    add(&table, "/t/ext.so", "libmi-a.so /t/p.so /t/q.so");
    add(&table, "/t/p.so", "libmi-b.so /t/ext.so /t/q.so");
    add(&table, "/t/q.so", "/t/p.so libmi-c.so /t/ext.so /t/none.so");
    expect(create(), &table, "", "in a circle");
}

/* Where this is, only the linker knows. */
static void test_before_unknown_nothing_opened(void)
{
    struct table table = {0};

    add(&table, "/t/ext.so", "libmi-a.so /?/libmi-b.so");
    expect(create(), &table, "", "its own");
    add(&table, "/t/ext.so", "/?/libmi-a.so libmi-a.so");
    expect(create(), &table, "", "the same name");
    add(&table, "/t/ext.so", "libmi-a.so /t/p.so");
    add(&table, "/t/p.so", "/?/libmi-b.so");
    expect(create(), &table, "", "of another");
}

/* That nothing was opened for one object does not last. */
static void test_before_no_record_then_others_opened(void)
{
    struct mi_preload *preload = create();
    struct table table = {0};

    add(&table, "/t/one.so", "libmi-a.so libmi-b.so /t/none.so");
    expect(preload, &table, "", "one");
    add(&table, "/t/two.so", "libmi-a.so");
    expect(preload, &table, "libmi-a.so", "two");
    add(&table, "/t/one.so", "libmi-a.so libmi-b.so /t/none.so");
    expect(preload, &table, "", "one again");
    add(&table, "/t/one.so", "libmi-a.so libmi-b.so /t/none.so");
    add(&table, "/t/none.so", "libmi-c.so");
    expect(preload, &table, "libmi-b.so libmi-c.so", "all known");
}

/* The payload of one that is not mirrored is another text. */
static void test_before_not_mirrored_nothing_opened(void)
{
    static const char text[] = "\0libmi-x.so\0/t/q.so";
    static const int kinds[] = {MI_KIND_ABSENT, MI_KIND_STAT, MI_KIND_LIST,
                                MI_KIND_FILE};
    struct mi_record *other;
    struct table table = {0};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        add(&table, "/t/ext.so", "/t/p.so libmi-a.so");
        other = add_payload(&table, "/t/p.so", text, sizeof(text));
        other->kind = (uint8_t)kinds[i];
        if (kinds[i] == MI_KIND_ABSENT)
            other->code = MI_MIRROR_DAMAGED;
        add(&table, "/t/q.so", "libmi-b.so");
        atomic_store(&asked, 0);
        expect(create(), &table, "", __func__);
        CHECK(atomic_load(&asked) == 1);
    }
}

/* ---- the tree's libraries ----------------------------------------------- */

static void test_before_name_on_tree_not_opened(void)
{
    struct table table = {0};

    add(&table, "/t/ext.so", "/t/lib/libmi-a.so libmi-a.so libmi-b.so");
    add(&table, "/t/lib/libmi-a.so", "");
    expect(create(), &table, "libmi-b.so", "after it");
    add(&table, "/t/ext.so", "libmi-a.so libmi-b.so /t/lib/libmi-a.so");
    add(&table, "/t/lib/libmi-a.so", "libmi-c.so");
    expect(create(), &table, "libmi-b.so libmi-c.so", "ahead of it");
    add(&table, "/t/ext.so", "/t/p.so /t/q.so");
    add(&table, "/t/p.so", "/t/lib/libmi-a.so");
    add(&table, "/t/q.so", "libmi-a.so");
    add(&table, "/t/lib/libmi-a.so", "");
    expect(create(), &table, "", "of others");
    add(&table, "/t/ext.so", "libmi-a.so libmi-b.so /t/p.so");
    add(&table, "/t/p.so", "/t/q.so");
    add(&table, "/t/q.so", "/libmi-a.so /t/ext.so");
    add(&table, "/libmi-a.so", "/t/q.so");
    expect(create(), &table, "libmi-b.so", "far, in a circle");
}

static void test_before_other_name_on_tree_opened(void)
{
    static const char *const others[] = {"/t/libmi-a.so/libmi-b.so",
                                         "/t/libmi-a.so.1", "/t/xlibmi-a.so",
                                         "/t/LIBMI-A.SO", "/t/libmi-a.so/"};
    struct table table = {0};
    char needs[80];

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        snprintf(needs, sizeof(needs), "%s libmi-a.so", others[i]);
        add(&table, "/t/ext.so", needs);
        add(&table, others[i], "");
        expect(create(), &table, "libmi-a.so", others[i]);
    }
}

/* Left to the linker once is not opened. */
static void test_before_left_then_needed_opened(void)
{
    struct mi_preload *preload = create();
    struct table table = {0};

    add(&table, "/t/one.so", "libmi-a.so /t/libmi-a.so");
    add(&table, "/t/libmi-a.so", "");
    expect(preload, &table, "", "one");
    add(&table, "/t/two.so", "libmi-a.so");
    expect(preload, &table, "libmi-a.so", "two");
    add(&table, "/t/one.so", "libmi-a.so /t/libmi-a.so");
    add(&table, "/t/libmi-a.so", "");
    expect(preload, &table, "", "one again");
}

/* ---- threads ------------------------------------------------------------ */

struct user {
    struct mi_preload *preload;
    struct table table;
    pthread_barrier_t *start;
};

static void *open_all(void *arg)
{
    const struct user *user = arg;

    pthread_barrier_wait(user->start);
    mi_preload_before(user->preload, user->table.records[0], find,
                      &user->table);
    return NULL;
}

/* Needs NAMES libraries; every other thread begins in the middle. */
static void add_many(struct table *table, int thread)
{
    char needs[NAMES * 16] = "/t/p.so";
    size_t used = strlen(needs);

    for (int i = 0; i < NAMES; i++)
        used += (size_t)snprintf(needs + used, sizeof(needs) - used,
                                 " libmi-%d.so",
                                 (i + thread % 2 * NAMES / 2) % NAMES);
    add(table, "/t/ext.so", needs);
    add(table, "/t/p.so", needs);
}

static void test_before_threads_each_name_opened_once(void)
{
    static struct user users[THREADS];
    struct mi_preload *preload = create();
    pthread_barrier_t start;
    pthread_t threads[THREADS];
    char name[40];
    int right = 0;

    pthread_barrier_init(&start, NULL, THREADS);
    for (int t = 0; t < THREADS; t++) {
        users[t].preload = preload;
        users[t].start = &start;
        add_many(&users[t].table, t);
    }
    for (int t = 0; t < THREADS; t++)
        check_need(pthread_create(&threads[t], NULL, open_all, &users[t]) == 0,
                   "thread");
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
        clear(&users[t].table);
    }
    pthread_barrier_destroy(&start);
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof(name), "libmi-%d.so", i);
        right += count_opened(name, strlen(name)) == 1;
    }
    CHECK(right == NAMES);
    CHECK(opened.count == NAMES);
    opened.count = 0;
}

/* ---- libraries ---------------------------------------------------------- */

/* Parts of the C library that programs hardly use. */
static int open_some(void *arg)
{
    static const char *const names[] = {"libanl.so.1", "libBrokenLocale.so.1",
                                        "libthread_db.so.1", "libutil.so.1",
                                        "libm.so.6"};
    struct table table = {0};
    int stay = 0;

    (void)arg;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (is_open(names[i]))
            continue;
        add(&table, "/t/ext.so", names[i]);
        expect(create(), &table, names[i], names[i]);
        stay += is_open(names[i]); /* that has closed its own handle */
    }
    return stay ? 0 : CHECK_SKIP;
}

static void test_before_library_stays_open(void)
{
    if (!check_child(open_some, NULL, __func__))
        check_skipped(__func__, "no library that could be opened");
}

/* That there is none is the linker's to say; others are opened. */
static void test_before_missing_no_error_left(void)
{
    static const char names[] = "libno-such-library.so.77 lib\377.so "
                                "libmi-a.so";

    expect_once(names);
    CHECK(!is_open("libno-such-library.so.77"));
}

int main(void)
{
    test_before_each_name_opened();
    test_before_no_needs_nothing_opened();
    test_before_place_not_opened();
    test_before_again_nothing_opened();
    test_before_similar_names_differ();
    test_before_each_handle_for_itself();
    test_before_closure_each_name_opened_once();
    test_before_second_object_its_own_opened();
    test_before_circle_ends();
    test_before_no_record_nothing_opened();
    test_before_unknown_nothing_opened();
    test_before_no_record_then_others_opened();
    test_before_not_mirrored_nothing_opened();
    test_before_name_on_tree_not_opened();
    test_before_other_name_on_tree_opened();
    test_before_left_then_needed_opened();
    test_before_threads_each_name_opened_once();
    test_before_library_stays_open();
    test_before_missing_no_error_left();
    return check_report();
}
