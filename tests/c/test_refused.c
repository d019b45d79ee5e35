/* Tests of src/refused.c: a bounded list for the report. */
#include "check.h"

#include <pthread.h>

#include "../../src/refused.h"

#define THREADS 6
#define EACH 300 /* paths of a thread, a third of them everybody's */

static struct mi_refused *make(void)
{
    struct mi_refused *refused = mi_refused_create();

    check_need(refused != NULL, "memory");
    return refused;
}

static int is_entry(struct mi_refused *refused, size_t i, const char *path,
                    const char *why)
{
    const char *found = NULL, *because = NULL;

    return mi_refused_get(refused, i, &found, &because) == 1 &&
           strcmp(found, path) == 0 && strcmp(because, why) == 0;
}

static void test_add_in_order_each_once(void)
{
    struct mi_refused *refused = make();
    const char *path = "untouched", *why = "untouched";
    char changing[] = "/a.so";

    CHECK(mi_refused_count(refused) == 0);
    CHECK(mi_refused_get(refused, 0, &path, &why) == 0);
    CHECK(strcmp(path, "untouched") == 0 && strcmp(why, "untouched") == 0);
    mi_refused_add(refused, changing, "too large");
    changing[1] = 'x'; /* copied */
    mi_refused_add(refused, "/b.so", "");
    mi_refused_add(refused, "/a.so", "another reason");
    CHECK(mi_refused_count(refused) == 2);
    CHECK(is_entry(refused, 0, "/a.so", "too large"));
    CHECK(is_entry(refused, 1, "/b.so", ""));
    CHECK(mi_refused_get(refused, 2, &path, &why) == 0);
    mi_refused_destroy(refused);
}

static void test_add_beyond_most_counted(void)
{
    struct mi_refused *refused = make();
    const char *path, *why;
    char name[32];

    for (int i = 0; i < MI_REFUSED_MOST + 7; i++) {
        snprintf(name, sizeof(name), "/%d.so", i);
        mi_refused_add(refused, name, "why");
    }
    CHECK(mi_refused_count(refused) == MI_REFUSED_MOST + 7);
    CHECK(is_entry(refused, 0, "/0.so", "why"));
    snprintf(name, sizeof(name), "/%d.so", MI_REFUSED_MOST - 1);
    CHECK(is_entry(refused, MI_REFUSED_MOST - 1, name, "why"));
    CHECK(mi_refused_get(refused, MI_REFUSED_MOST, &path, &why) == 0);
    CHECK(mi_refused_get(refused, SIZE_MAX, &path, &why) == 0);
    mi_refused_destroy(refused);
}

static void test_no_list_harmless(void)
{
    const char *path, *why;

    mi_refused_add(NULL, "/a.so", "why");
    CHECK(mi_refused_count(NULL) == 0);
    CHECK(mi_refused_get(NULL, 0, &path, &why) == 0);
    mi_refused_destroy(NULL);
}

struct adder {
    struct mi_refused *refused;
    int number;
};

static void *add_many(void *arg)
{
    const struct adder *adder = arg;
    char name[64];

    for (int i = 0; i < EACH; i++) {
        snprintf(name, sizeof(name), "/%d/%d.so",
                 i % 3 ? adder->number : THREADS, i);
        mi_refused_add(adder->refused, name, name);
    }
    return NULL;
}

static void test_add_threads_nothing_lost(void)
{
    struct mi_refused *refused = make();
    struct adder adder[THREADS];
    pthread_t thread[THREADS];
    const char *path, *why;

    for (int i = 0; i < THREADS; i++) {
        adder[i] = (struct adder){refused, i};
        check_need(pthread_create(&thread[i], NULL, add_many, &adder[i]) == 0,
                   "thread");
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK(mi_refused_count(refused) >= THREADS * EACH * 2 / 3 + EACH / 3);
    for (size_t i = 0; i < MI_REFUSED_MOST; i++)
        CHECK(mi_refused_get(refused, i, &path, &why) == 1 &&
              strcmp(path, why) == 0);
    mi_refused_destroy(refused);
}

int main(void)
{
    test_add_in_order_each_once();
    test_add_beyond_most_counted();
    test_no_list_harmless();
    test_add_threads_nothing_lost();
    return check_report();
}
