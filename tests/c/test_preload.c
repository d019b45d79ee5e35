/* Tests of src/preload.c: names are new once, libraries stay open. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

#include "../../src/preload.h"

#define THREADS 8
#define NAMES 200

/* Never freed: kept where leak checkers find it. */
static struct mi_preload *kept[8];

static struct mi_preload *create(void)
{
    static size_t used;

    check_need(used < sizeof(kept) / sizeof(kept[0]), "room");
    kept[used] = mi_preload_create();
    check_need(kept[used] != NULL, "memory");
    return kept[used++];
}

/* ---- names -------------------------------------------------------------- */

static void test_first_again_not_first(void)
{
    struct mi_preload *preload = create();

    for (int again = 0; again < 3; again++) {
        CHECK(mi_preload_first(preload, "libm.so.6") == !again);
        CHECK(mi_preload_first(preload, "/tree/libm.so.6") == !again);
        CHECK(mi_preload_first(preload, "") == !again);
    }
}

static void test_first_similar_names_differ(void)
{
    static const char *const names[] = {"libm.so",  "libm.so.6", "libm.so.60",
                                        "ibm.so.6", "LIBM.SO.6", "libm.so.6 "};
    struct mi_preload *preload = create();

    for (int again = 0; again < 2; again++)
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            CHECK_FOR(names[i], mi_preload_first(preload, names[i]) == !again);
}

static void test_first_name_is_copied(void)
{
    struct mi_preload *preload = create();
    char name[] = "liba.so";

    CHECK(mi_preload_first(preload, name) == 1);
    name[3] = 'b';
    CHECK(mi_preload_first(preload, name) == 1);
    CHECK(mi_preload_first(preload, "liba.so") == 0);
    CHECK(mi_preload_first(preload, "libb.so") == 0);
}

static void test_first_each_handle_for_itself(void)
{
    struct mi_preload *one = create(), *other = create();

    CHECK(mi_preload_first(one, "liba.so") == 1);
    CHECK(mi_preload_first(other, "liba.so") == 1);
    CHECK(mi_preload_first(one, "liba.so") == 0);
}

struct user {
    struct mi_preload *preload;
    int offset;
    atomic_int *firsts; /* of each name */
};

static void *ask_all(void *arg)
{
    const struct user *user = arg;
    char name[40];

    for (int i = 0; i < NAMES; i++) {
        int n = (i + user->offset) % NAMES;

        snprintf(name, sizeof(name), "lib%d.so", n);
        atomic_fetch_add(&user->firsts[n],
                         mi_preload_first(user->preload, name));
    }
    return NULL;
}

static void test_first_threads_one_is_first(void)
{
    static atomic_int firsts[NAMES];
    struct mi_preload *preload = create();
    struct user users[THREADS];
    pthread_t threads[THREADS];
    int right = 0;

    for (int t = 0; t < THREADS; t++) {
        users[t] = (struct user){preload, t % 2 * NAMES / 2, firsts};
        check_need(pthread_create(&threads[t], NULL, ask_all, &users[t]) == 0,
                   "thread");
    }
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (int i = 0; i < NAMES; i++)
        right += atomic_load(&firsts[i]) == 1;
    CHECK(right == NAMES);
}

/* ---- libraries ---------------------------------------------------------- */

static int is_open(const char *name)
{
    void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);

    dlerror();
    if (handle)
        dlclose(handle);
    return handle != NULL;
}

/* Parts of the C library that programs hardly use. */
static int open_some(void *arg)
{
    static const char *const names[] = {"libanl.so.1", "libBrokenLocale.so.1",
                                        "libthread_db.so.1", "libutil.so.1",
                                        "libm.so.6"};
    int opened = 0;

    (void)arg;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (is_open(names[i]))
            continue;
        mi_preload_open(names[i]);
        CHECK_FOR(names[i], dlerror() == NULL);
        opened += is_open(names[i]); /* that has closed its own handle */
        mi_preload_open(names[i]);
        CHECK_FOR(names[i], dlerror() == NULL);
    }
    return opened ? 0 : CHECK_SKIP;
}

static void test_open_library_stays(void)
{
    if (!check_child(open_some, NULL, __func__))
        check_skipped(__func__, "no library that could be opened");
}

static void test_open_missing_no_error_left(void)
{
    static const char *const names[] = {"libno-such-library.so.77",
                                        "/no/such/directory/liba.so",
                                        "/dev/null", "lib\377.so"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        mi_preload_open(names[i]);
        CHECK_FOR(names[i], dlerror() == NULL);
        CHECK_FOR(names[i], !is_open(names[i]));
    }
}

static void test_open_damaged_no_error_left(void)
{
    char scratch[PATH_MAX], path[PATH_MAX];

    check_scratch(scratch);
    check_join(path, scratch, "liba.so");
    check_write(path, "no object", 9);
    mi_preload_open(path);
    CHECK(dlerror() == NULL);
    CHECK(!is_open(path));
    check_remove(scratch);
}

int main(void)
{
    test_first_again_not_first();
    test_first_similar_names_differ();
    test_first_name_is_copied();
    test_first_each_handle_for_itself();
    test_first_threads_one_is_first();
    test_open_library_stays();
    test_open_missing_no_error_left();
    test_open_damaged_no_error_left();
    return check_report();
}
