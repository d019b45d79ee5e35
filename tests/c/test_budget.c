/* Tests of src/budget.c, and of the store and the mirror that share one. */
#include "check.h"

#include <pthread.h>

#include "../../src/budget.h"
#include "../../src/mirror.h"
#include "../../src/store.h"

#define MIB ((size_t)1 << 20)
#define THREADS 6
#define ROUNDS 20000

static void test_take_up_to_limit(void)
{
    struct mi_budget budget = {.limit = 100};
    struct mi_error err;

    CHECK(mi_budget_room(&budget) == 100);
    CHECK(mi_budget_take(&budget, 60, &err) == 0);
    CHECK(mi_budget_room(&budget) == 40);
    CHECK(mi_budget_take(&budget, 41, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC);
    CHECK(strstr(err.text, "--max-store 100 would be exceeded") != NULL);
    CHECK(mi_budget_take(&budget, UINT64_MAX, &err) == -1);
    CHECK(mi_budget_take(&budget, 40, &err) == 0);
    CHECK(mi_budget_take(&budget, 0, &err) == 0);
    CHECK(mi_budget_room(&budget) == 0);
    mi_budget_return(&budget, 30);
    CHECK(mi_budget_room(&budget) == 30);
    mi_budget_charge(&budget, 50);
    CHECK(mi_budget_room(&budget) == 0);
    CHECK(mi_budget_take(&budget, 0, &err) == -1); /* 120 of 100 */
    mi_budget_return(&budget, 120);
    CHECK(mi_budget_room(&budget) == 100);
}

static void test_no_budget_unlimited(void)
{
    struct mi_error err;

    CHECK(mi_budget_take(NULL, UINT64_MAX, &err) == 0);
    mi_budget_charge(NULL, 1);
    mi_budget_return(NULL, 2);
    CHECK(mi_budget_room(NULL) == UINT64_MAX);
}

static void *take_and_return(void *arg)
{
    struct mi_budget *budget = arg;

    for (int i = 0; i < ROUNDS; i++)
        if (mi_budget_take(budget, 7, NULL) == 0)
            mi_budget_return(budget, 7);
    return NULL;
}

static void test_threads_nothing_lost(void)
{
    struct mi_budget budget = {.limit = 20};
    pthread_t thread[THREADS];

    for (int i = 0; i < THREADS; i++)
        check_need(
            pthread_create(&thread[i], NULL, take_and_return, &budget) == 0,
            "thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK(mi_budget_room(&budget) == 20);
}

static int append(struct mi_store *store, const char *key, size_t size,
                  struct mi_error *err)
{
    char *payload = calloc(1, size + 1);
    struct mi_entry entry = {.query = MI_READ,
                             .kind = MI_KIND_FILE,
                             .key = key,
                             .key_size = strlen(key),
                             .payload = payload,
                             .size = size};
    int rc;

    check_need(payload != NULL, "memory");
    rc = mi_store_append(store, &entry, NULL, err);
    free(payload);
    return rc;
}

static void test_store_beyond_budget_refused(void)
{
    struct mi_budget budget = {.limit = 3 * MIB};
    struct mi_store *store = NULL;
    struct mi_error err;
    uint64_t reserved, room;

    check_need(mi_store_create_private(&store, 64 * MIB, NULL) == 0, "store");
    room = mi_store_room(store);
    CHECK(room > 63 * MIB && room < 64 * MIB);
    mi_store_set_budget(store, &budget);
    CHECK(mi_budget_room(&budget) == 3 * MIB - mi_store_reserved(store));
    CHECK(append(store, "/a", MIB, &err) == 0);
    CHECK(mi_budget_room(&budget) == 3 * MIB - mi_store_reserved(store));
    CHECK(append(store, "/b", 2 * MIB, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC);
    CHECK(strstr(err.text, "--max-store 3145728 would be") != NULL);
    reserved = mi_store_reserved(store);
    CHECK(mi_budget_room(&budget) == 3 * MIB - reserved);
    /* What is said to fit does. */
    room = mi_store_room(store);
    CHECK(room > MIB && room < 2 * MIB);
    CHECK(append(store, "/c", room, &err) == 0);
    CHECK(mi_store_reserved(store) <= 3 * MIB);
    CHECK(mi_store_room(store) < 2 * PATH_MAX);
    CHECK(append(store, "/d", 4 * PATH_MAX, &err) == -1);
    CHECK(mi_store_find(store, MI_READ, "/c", 2) != NULL);
    CHECK(!mi_store_find(store, MI_READ, "/d", 2));
    mi_store_destroy(store);
}

static void test_store_room_ends_at_capacity(void)
{
    struct mi_budget budget = {.limit = 100 * MIB};
    struct mi_store *store = NULL;
    uint64_t room;

    check_need(mi_store_create_private(&store, MIB, NULL) == 0, "store");
    mi_store_set_budget(store, &budget);
    room = mi_store_room(store);
    CHECK(room < MIB && room > MIB - 3 * PATH_MAX);
    CHECK(append(store, "/a", room, NULL) == 0);
    CHECK(mi_store_room(store) == 0);
    mi_store_destroy(store);
}

static struct mi_mirror *mirror_of(const char *top, struct mi_budget *budget)
{
    struct mi_mirror *mirror = NULL;

    check_need(mi_mirror_create(&mirror, top, NULL) == 0, "mirror");
    CHECK(mi_mirror_room(mirror) == UINT64_MAX);
    mi_mirror_set_budget(mirror, budget);
    return mirror;
}

static void test_mirror_beyond_budget_refused(void)
{
    struct mi_budget budget = {.limit = 20000}; /* half for objects */
    char top[PATH_MAX];
    struct mi_mirror *mirror;
    struct mi_part part, other = {.id = 77};
    struct mi_error err;

    check_scratch(top);
    mirror = mirror_of(top, &budget);
    CHECK(mi_mirror_begin(mirror, 1, 6000, 0755, &part, &err) == 0);
    CHECK(mi_mirror_room(mirror) == 4000);
    CHECK(mi_mirror_begin(mirror, 2, 4001, 0755, &other, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC && other.id == 77);
    CHECK(strstr(err.text, "--max-store 20000 would be exceeded") != NULL);
    CHECK(mi_mirror_begin(mirror, 1, 10, 0755, &other, &err) == -1);
    CHECK(err.code == EEXIST && mi_mirror_room(mirror) == 4000);
    CHECK(mi_mirror_finish(mirror, &part, "/a.so", &err) == 0);
    CHECK(mi_mirror_room(mirror) == 4000);
    /* There already, given up, or refused its place: given back. */
    CHECK(mi_mirror_begin(mirror, 3, 4000, 0755, &part, &err) == 0);
    CHECK(mi_mirror_room(mirror) == 0);
    CHECK(mi_mirror_finish(mirror, &part, "/a.so", &err) == 0);
    CHECK(mi_mirror_room(mirror) == 4000);
    CHECK(mi_mirror_begin(mirror, 4, 3000, 0755, &part, &err) == 0);
    mi_mirror_abandon(mirror, &part);
    CHECK(mi_mirror_room(mirror) == 4000);
    CHECK(mi_mirror_begin(mirror, 5, 3000, 0755, &part, &err) == 0);
    CHECK(mi_mirror_finish(mirror, &part, "relative", &err) == -1);
    CHECK(mi_mirror_room(mirror) == 4000);
    CHECK(mi_mirror_bytes(mirror) == 6000);
    mi_mirror_destroy(mirror);
    CHECK(check_entries(top) == 0);
    check_remove(top);
}

static void test_store_and_mirror_share(void)
{
    struct mi_budget budget = {.limit = 4 * MIB};
    char top[PATH_MAX];
    struct mi_store *store = NULL;
    struct mi_mirror *mirror;
    struct mi_part part;
    struct mi_error err;
    uint64_t room;

    check_scratch(top);
    check_need(mi_store_create_private(&store, 64 * MIB, NULL) == 0, "store");
    mi_store_set_budget(store, &budget);
    mirror = mirror_of(top, &budget);
    room = mi_mirror_room(mirror);
    CHECK(room == 2 * MIB); /* objects leave half to the store */
    CHECK(mi_mirror_begin(mirror, 1, room, 0755, &part, &err) == 0);
    CHECK(mi_mirror_room(mirror) == 0);
    CHECK(append(store, "/a", 2 * MIB, &err) == -1 && err.code == ENOSPC);
    CHECK(append(store, "/b", MIB, &err) == 0);
    mi_mirror_abandon(mirror, &part);
    CHECK(append(store, "/a", 2 * MIB, &err) == 0);
    CHECK(mi_mirror_room(mirror) == 4 * MIB - mi_store_reserved(store));
    CHECK(mi_mirror_begin(mirror, 1, room, 0755, &part, &err) == -1);
    mi_mirror_destroy(mirror);
    mi_store_destroy(store);
    check_remove(top);
}

int main(void)
{
    test_take_up_to_limit();
    test_no_budget_unlimited();
    test_threads_nothing_lost();
    test_store_beyond_budget_refused();
    test_store_room_ends_at_capacity();
    test_mirror_beyond_budget_refused();
    test_store_and_mirror_share();
    return check_report();
}
