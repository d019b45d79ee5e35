/* Tests of src/reader.c by many threads at once. */
#include "reader_fixture.h"

#include <pthread.h>

#define THREADS 8
#define FILES 100

struct user {
    struct fixture *f;
    enum mi_query query;
    int number;
    int right;
    const struct mi_record *record[FILES];
};

static pthread_barrier_t together;

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    check_need(pthread_create(thread, NULL, run, arg) == 0, "thread");
}

/* Run it in THREADS threads at once. */
static void run_all(struct fixture *f, enum mi_query query,
                    void *(*run)(void *), struct user *user)
{
    pthread_t thread[THREADS];

    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        user[i] = (struct user){.f = f, .query = query, .number = i};
        start(&thread[i], run, &user[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&together);
}

/* The file of number i, in the thread's own buffer. */
static const char *file_of(const struct fixture *f, int i)
{
    char name[30];

    snprintf(name, sizeof(name), "file-%d", i);
    return fixture_path(f, name);
}

static void write_files(const struct fixture *f)
{
    for (int i = 0; i < FILES; i++)
        check_write(file_of(f, i), "0123456789", 10);
}

/* ---- the same question
 * ---------------------------------------------------------- */

static void *ask_all(void *arg)
{
    struct user *user = arg;

    pthread_barrier_wait(&together);
    for (int i = 0; i < FILES; i++)
        user->record[i] =
            fixture_ask(user->f, user->query, file_of(user->f, i));
    return NULL;
}

static void ask_in_threads(enum mi_query query, uint64_t operations)
{
    static struct user user[THREADS];
    struct fixture f;
    int same = 0;

    fixture_make(&f, 8 * MIB, 0, 0, 0);
    write_files(&f);
    run_all(&f, query, ask_all, user);
    CHECK(fixture_operations(&f) == operations * FILES);
    CHECK(mi_store_count(f.store) == FILES);
    for (int i = 0; i < FILES; i++)
        for (int n = 0; n < THREADS; n++)
            same +=
                user[n].record[i] && user[n].record[i] == user[0].record[i];
    CHECK(same == FILES * THREADS);
    fixture_clear(&f);
}

static void test_answer_same_question_read_once(void)
{
    ask_in_threads(MI_STAT, 1);
    ask_in_threads(MI_READ, 1);
    ask_in_threads(MI_CODE, 1);
    ask_in_threads(MI_LIST, 1); /* no directories: open fails */
}

/* Half by asking, half by the pool, at the same time. */
static void *ask_or_submit(void *arg)
{
    struct user *user = arg;

    pthread_barrier_wait(&together);
    for (int i = 0; i < FILES; i++) {
        const char *path = file_of(user->f, i);

        if (user->number % 2)
            user->right += fixture_ask(user->f, MI_READ, path) != NULL;
        else
            user->right +=
                fixture_submit(user->f, MI_READ, path, "", NULL) == 0;
    }
    return NULL;
}

static void test_submit_beside_answer_read_once(void)
{
    static struct user user[THREADS];
    struct fixture f;
    int found = 0;

    fixture_make(&f, 8 * MIB, 0, 4, 1);
    write_files(&f);
    run_all(&f, MI_READ, ask_or_submit, user);
    for (int i = 0; i < THREADS; i++)
        CHECK(user[i].right == FILES);
    CHECK(check_until(fixture_idle, &f, 20));
    CHECK(fixture_operations(&f) == FILES);
    CHECK(mi_store_count(f.store) == FILES);
    for (int i = 0; i < FILES; i++)
        found += fixture_find(&f, MI_READ, file_of(&f, i)) != NULL;
    CHECK(found == FILES);
    fixture_clear(&f);
}

/* ---- a full store
 * ------------------------------------------------------------------ */

static void *ask_until_full(void *arg)
{
    struct user *user = arg;
    const struct mi_record *record;
    struct mi_error err;
    int rc = 1;

    pthread_barrier_wait(&together);
    for (int i = 0; i < FILES; i++) {
        rc =
            mi_reader_answer(user->f->reader, MI_LIST,
                             file_of(user->f, (i + user->number * 13) % FILES),
                             "", &record, &err);
        user->right += rc == 0 || (rc == 1 && record->size > 2000);
    }
    return NULL;
}

/* A directory whose listing takes some kilobytes. */
static void make_directory(const char *path)
{
    char name[PATH_MAX + 100];

    check_need(mkdir(path, 0700) == 0, path);
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof(name), "%s/%080d", path, i);
        check_write(name, "", 0);
    }
}

static void test_answer_store_full_all_told(void)
{
    static struct user user[THREADS];
    struct fixture f;

    fixture_make(&f, 65536, 0, 0, 0);
    for (int i = 0; i < FILES; i++)
        make_directory(file_of(&f, i));
    run_all(&f, MI_LIST, ask_until_full, user);
    for (int i = 0; i < THREADS; i++)
        CHECK(user[i].right == FILES);
    CHECK(mi_mailbox_stream(f.mailbox) == MI_STREAM_FULL);
    CHECK(atomic_load(&f.notices) >= 1 && f.first == MI_FIRST_DIRECT);
    CHECK(mi_store_count(f.store) >= 10);
    fixture_clear(&f);
}

/* ---- objects
 * ------------------------------------------------------------------------- */

#define OBJECTS 12

static const char *object_of(const struct fixture *f, int i)
{
    char name[30];

    snprintf(name, sizeof(name), "object-%d.so", i);
    return fixture_path(f, name);
}

static void *ask_objects(void *arg)
{
    struct user *user = arg;

    pthread_barrier_wait(&together);
    for (int i = 0; i < OBJECTS; i++) {
        const char *path = object_of(user->f, (i + user->number) % OBJECTS);

        /* Complete when it is found. */
        user->right +=
            fixture_ask(user->f, MI_MIRROR, path) &&
            fixture_mirrored(user->f, path) &&
            fixture_mirrored(user->f, fixture_path(user->f, "common.so"));
    }
    return NULL;
}

static void test_mirror_threads_each_once(void)
{
    static const char *const none[] = {NULL};
    static const char *const needed[] = {"common.so", "ring.so", NULL};
    static struct user user[THREADS];
    struct mi_object object;
    struct fixture f;
    int objects = 0;

    fixture_make(&f, 8 * MIB, 1, 0, 1);
    for (int i = 0; i < OBJECTS; i++)
        fixture_object(object_of(&f, i), needed, "$ORIGIN");
    fixture_object(fixture_path(&f, "common.so"), none, NULL);
    fixture_object(fixture_path(&f, "ring.so"), needed, "$ORIGIN");
    run_all(&f, MI_MIRROR, ask_objects, user);
    for (int i = 0; i < THREADS; i++)
        CHECK(user[i].right == OBJECTS);
    CHECK(fixture_operations(&f) == OBJECTS + 2 + 2);
    while (mi_reader_object(f.reader, &object)) {
        objects++;
        mi_object_clear(&object);
    }
    CHECK(objects == OBJECTS + 2);
    fixture_clear(&f);
}

/* The directory of an object's libraries is asked for while the object is
 * mirrored, which lists it as well.
 */
static void *ask_directory_or_object(void *arg)
{
    struct user *user = arg;
    char name[60];

    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name),
                 user->number % 2 ? "dir-%d" : "dir-%d/a.so", i);
        pthread_barrier_wait(&together);
        user->right +=
            fixture_ask(user->f, user->number % 2 ? MI_LIST : MI_MIRROR,
                        fixture_path(user->f, name)) != NULL;
    }
    return NULL;
}

static void test_mirror_beside_list_read_once(void)
{
    static const char *const needed[] = {"libabsent.so", NULL};
    static struct user user[THREADS];
    struct fixture f;
    char name[60];

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "dir-%d", i);
        check_need(mkdir(fixture_path(&f, name), 0700) == 0, name);
        snprintf(name, sizeof(name), "dir-%d/a.so", i);
        fixture_object(fixture_path(&f, name), needed, "$ORIGIN");
    }
    run_all(&f, MI_LIST, ask_directory_or_object, user);
    for (int i = 0; i < THREADS; i++)
        CHECK(user[i].right == FILES);
    /* Some of the directories are opened first, for their object. */
    CHECK(fixture_operations(&f) >= FILES * (1 + 2) &&
          fixture_operations(&f) <= FILES * (1 + 2 + 1));
    CHECK(mi_store_count(f.store) == FILES * 2);
    fixture_clear(&f);
}

/* ---- compiling
 * --------------------------------------------------------------------------
 */

static void *compile(void *arg)
{
    struct user *user = arg;
    char path[PATH_MAX];

    while (mi_reader_compile(user->f->reader, path)) {
        struct mi_entry entry = {.query = MI_CODE,
                                 .kind = MI_KIND_FILE,
                                 .key = path,
                                 .key_size = strlen(path),
                                 .payload = "code",
                                 .size = 4};

        user->right +=
            mi_reader_publish(user->f->reader, &entry, NULL, NULL) == 1;
    }
    return NULL;
}

static int all_compiled(void *arg)
{
    struct fixture *f = arg;
    const struct mi_record *record;

    for (int i = 0; i < FILES; i++) {
        record = fixture_find(f, MI_CODE, file_of(f, i));
        if (!record || record->kind != MI_KIND_FILE)
            return 0;
    }
    return 1;
}

static void test_compile_pending_published_then_stopped(void)
{
    struct fixture f;
    struct user user[2] = {{.f = &f}, {.f = &f}};
    pthread_t thread[2];

    fixture_make(&f, 8 * MIB, 0, 4, 1);
    write_files(&f);
    for (int i = 0; i < 2; i++)
        start(&thread[i], compile, &user[i]);
    for (int i = 0; i < FILES; i++)
        CHECK(fixture_submit(&f, MI_CODE, file_of(&f, i), "", NULL) == 0);
    CHECK(check_until(all_compiled, &f, 20));
    CHECK(check_until(fixture_idle, &f, 20));
    mi_reader_stop(f.reader);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    CHECK(user[0].right + user[1].right >= FILES);
    fixture_clear(&f);
}

static void test_compile_nothing_pending_stopped(void)
{
    struct fixture f;
    struct user user[THREADS] = {{0}};
    pthread_t thread[THREADS];

    fixture_make(&f, MIB, 0, 0, 0);
    for (int i = 0; i < THREADS; i++) {
        user[i].f = &f;
        start(&thread[i], compile, &user[i]);
    }
    check_sleep(20);
    mi_reader_stop(f.reader);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        CHECK(user[i].right == 0);
    }
    fixture_clear(&f);
}

/* ---- the size of the pool ----------------------------------------------- */

static int count_threads(void)
{
    return check_entries("/proc/self/task");
}

/* Objects that cannot be mirrored, which takes 'slow' milliseconds to say. */
static int threads_for(int slow)
{
    struct fixture f;
    char name[20];
    int before = count_threads(), most;

    fixture_place(&f);
    check_need(rmdir(f.top) == 0, f.top);
    fixture_open(&f, 8 * MIB, 1, 8, 0);
    f.slow = slow;
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        fixture_object(fixture_path(&f, name), NULL, NULL);
        CHECK(fixture_submit(&f, MI_MIRROR, fixture_path(&f, name), "",
                             NULL) == 0);
    }
    CHECK(check_until(fixture_idle, &f, 20));
    CHECK(atomic_load(&f.notices) == 40);
    most = count_threads() - before;
    check_need(mkdir(f.top, 0700) == 0, f.top);
    fixture_clear(&f);
    return most;
}

/* They join one by one, while they wait and more is to be done. */
static void test_pool_grows_while_it_waits(void)
{
    CHECK(threads_for(0) == 2);
    CHECK(threads_for(10) > 2);
}

int main(void)
{
    test_answer_same_question_read_once();
    test_submit_beside_answer_read_once();
    test_answer_store_full_all_told();
    test_mirror_threads_each_once();
    test_mirror_beside_list_read_once();
    test_compile_pending_published_then_stopped();
    test_compile_nothing_pending_stopped();
    test_pool_grows_while_it_waits();
    return check_report();
}
