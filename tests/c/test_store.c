/* Tests of src/store.c and src/segment.c by one thread: growth, collisions,
 * replacement, replication of damaged bytes, exhaustion, files that are no
 * stores.
 */
#include "check.h"

#include "../../src/segment.h"
#include "../../src/store.h"

#define MIB ((size_t)1 << 20)

static char scratch[PATH_MAX];
static int scratch_dir;

/* The key and payload of record number i: sizes differ, bytes differ. */
static size_t key_of(uint32_t i, char *key)
{
    return (size_t)sprintf(key, "/tree/%x/module_%u%.*s", i * 2654435761u, i,
                           (int)(i % 23), "_______________________");
}

static size_t payload_of(uint32_t i, unsigned char *payload)
{
    size_t size = i * 7u % 200u;

    for (size_t n = 0; n < size; n++)
        payload[n] = (unsigned char)(i * 31u + n);
    return size;
}

static int append(struct mi_store *store, uint32_t i,
                  const struct mi_record **record, struct mi_error *err)
{
    char key[100];
    unsigned char payload[200];
    struct mi_entry entry = {.query = MI_READ,
                             .kind = MI_KIND_FILE,
                             .flags = (uint16_t)i,
                             .code = -(int)i,
                             .key = key,
                             .key_size = key_of(i, key),
                             .payload = payload,
                             .size = payload_of(i, payload),
                             .object = i + 1u,
                             .mtime = -(int64_t)i,
                             .file_size = i + 2u,
                             .device = i + 3u,
                             .inode = i + 4u,
                             .mode = i + 5u};

    return mi_store_append(store, &entry, record, err);
}

static int is_record(const struct mi_record *record, uint32_t i)
{
    char key[100];
    unsigned char payload[200];
    size_t key_size = key_of(i, key), size = payload_of(i, payload);

    return record && record->query == MI_READ &&
           record->kind == MI_KIND_FILE && record->flags == (uint16_t)i &&
           record->code == -(int)i && record->key_size == key_size &&
           record->object == i + 1u && record->mtime == -(int64_t)i &&
           record->file_size == i + 2u && record->device == i + 3u &&
           record->inode == i + 4u && record->mode == i + 5u &&
           strcmp(mi_record_key(record), key) == 0 && record->size == size &&
           memcmp(mi_record_payload(record), payload, size) == 0;
}

static const struct mi_record *find(const struct mi_store *store, uint32_t i)
{
    char key[100];

    return mi_store_find(store, MI_READ, key, key_of(i, key));
}

/* Number of the records [0, count) that are found with the right bytes. */
static uint32_t found(const struct mi_store *store, uint32_t count)
{
    uint32_t right = 0;

    for (uint32_t i = 0; i < count; i++)
        right += is_record(find(store, i), i) != 0;
    return right;
}

/* A short record: only its key matters. */
static int append_key(struct mi_store *store, enum mi_query query,
                      const char *key, size_t key_size, uint64_t inode,
                      struct mi_error *err)
{
    struct mi_entry entry = {.query = query,
                             .kind = MI_KIND_STAT,
                             .key = key,
                             .key_size = key_size,
                             .inode = inode};

    return mi_store_append(store, &entry, NULL, err);
}

static struct mi_store *private_store(size_t capacity)
{
    struct mi_store *store = NULL;

    check_need(mi_store_create_private(&store, capacity, NULL) == 0,
               "private store");
    return store;
}

/* ---- appending and finding -----------------------------------------------
 */

static void test_append_found_unchanged(void)
{
    struct mi_store *store = private_store(MIB);
    const struct mi_record *record = NULL;

    CHECK(mi_store_used(store) == 0 && mi_store_count(store) == 0);
    CHECK(!find(store, 5));
    CHECK(append(store, 5, &record, NULL) == 0);
    CHECK(record && record == find(store, 5) && is_record(record, 5));
    CHECK((const void *)record == mi_store_bytes(store, 0));
    CHECK(mi_store_used(store) ==
          mi_record_total(record->key_size, record->size));
    CHECK(mi_record_check(record, mi_store_used(store), NULL) == 0);
    CHECK((uintptr_t)record % 16 == 0);
    CHECK(mi_store_count(store) == 1);
    CHECK(mi_store_reserved(store) >= mi_store_used(store));
    mi_store_destroy(store);
    mi_store_destroy(NULL);
}

static void test_find_other_key_nothing(void)
{
    struct mi_store *store = private_store(MIB);

    CHECK(append_key(store, MI_STAT, "/a/b", 4, 1, NULL) == 0);
    CHECK(append_key(store, MI_LIST, "", 0, 2, NULL) == 0);
    CHECK(!mi_store_find(store, MI_LIST, "/a/b", 4));
    CHECK(!mi_store_find(store, MI_STAT, "/a/b", 3));
    CHECK(!mi_store_find(store, MI_STAT, "/a/bc", 5));
    CHECK(!mi_store_find(store, MI_STAT, "", 0));
    CHECK(mi_store_find(store, MI_STAT, "/a/bc", 4));
    CHECK(mi_store_find(store, MI_LIST, "", 0));
    mi_store_destroy(store);
}

static void test_append_same_key_replaced(void)
{
    struct mi_store *store = private_store(MIB);
    const struct mi_record *first, *second;

    CHECK(append_key(store, MI_STAT, "/a", 2, 1, NULL) == 0);
    CHECK(append_key(store, MI_READ, "/a", 2, 9, NULL) == 0);
    first = mi_store_find(store, MI_STAT, "/a", 2);
    for (uint64_t i = 2; i < 5000; i++)
        CHECK(append_key(store, MI_STAT, "/a", 2, i, NULL) == 0);
    second = mi_store_find(store, MI_STAT, "/a", 2);
    CHECK(second && second->inode == 4999 && second != first);
    CHECK(first->inode == 1); /* as it was */
    CHECK(mi_store_find(store, MI_READ, "/a", 2)->inode == 9);
    CHECK(mi_store_count(store) == 5000);
    mi_store_destroy(store);
}

static void test_append_path_limits(void)
{
    struct mi_store *store = private_store(MIB);
    struct mi_error err;
    char *key = calloc(1, MI_PATH + 2);

    check_need(key != NULL, "memory");
    memset(key, 'k', MI_PATH + 1);
    CHECK(append_key(store, MI_STAT, key, MI_PATH + 1, 1, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG);
    CHECK(append_key(store, MI_STAT, key, SIZE_MAX, 1, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG);
    CHECK(mi_store_used(store) == 0 && mi_store_count(store) == 0);
    CHECK(append_key(store, MI_STAT, key, MI_PATH, 1, &err) == 0);
    CHECK(mi_store_find(store, MI_STAT, key, MI_PATH) != NULL);
    free(key);
    mi_store_destroy(store);
}

/* In a child: a size that is not checked is a crash. */
static int append_huge(void *arg)
{
    struct mi_store *store = private_store(MIB);
    struct mi_entry entry = {.query = MI_READ,
                             .kind = MI_KIND_FILE,
                             .key = "/a",
                             .key_size = 2,
                             .payload = "x",
                             .size = *(const size_t *)arg};
    struct mi_error err;

    CHECK(append_key(store, MI_STAT, "/b", 2, 1, NULL) == 0);
    CHECK(mi_store_append(store, &entry, NULL, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC);
    CHECK(mi_store_count(store) == 1);
    mi_store_destroy(store);
    return 0;
}

static void test_append_huge_payload_refused(void)
{
    static size_t sizes[] = {
        MIB,     (size_t)1 << 40, SIZE_MAX / 2, SIZE_MAX - 500, SIZE_MAX - 120,
        SIZE_MAX};
    char about[80];

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        snprintf(about, sizeof(about), "%s: %zu", __func__, sizes[i]);
        check_child(append_huge, &sizes[i], about);
    }
}

/* ---- growth and collisions ------------------------------------------------
 */

#define MANY 100000

static void test_append_many_all_found(void)
{
    struct mi_store *store = private_store(64 * MIB);
    uint64_t used = 0, reserved = mi_store_reserved(store);
    const struct mi_record *first = NULL;
    int forward = 1;

    CHECK(reserved < MIB); /* memory is taken as it is needed */
    for (uint32_t i = 0; i < MANY; i++) {
        if (append(store, i, i ? NULL : &first, NULL) != 0)
            break;
        forward &= mi_store_used(store) > used &&
                   mi_store_reserved(store) >= reserved;
        used = mi_store_used(store);
        reserved = mi_store_reserved(store);
    }
    CHECK(forward);
    CHECK(mi_store_count(store) == MANY);
    CHECK(found(store, MANY) == MANY);
    CHECK(find(store, 0) == first);
    for (uint32_t i = MANY; i < MANY + 1000; i++)
        CHECK(!find(store, i));
    CHECK(reserved > used && reserved < used + 32 * MIB);
    mi_store_destroy(store);
}

/* The arena is what its owner sees record by record. */
static void test_arena_walk_every_record(void)
{
    struct mi_store *store = private_store(4 * MIB);
    uint64_t at = 0;
    uint32_t i = 0;

    for (; i < 5000; i++)
        CHECK(append(store, i, NULL, NULL) == 0);
    for (i = 0; at < mi_store_used(store); i++) {
        const struct mi_record *record = mi_store_bytes(store, at);

        if (!CHECK(mi_record_check(record, mi_store_used(store) - at, NULL) ==
                       0 &&
                   is_record(record, i)))
            break;
        at += mi_record_total(record->key_size, record->size);
    }
    CHECK(i == 5000 && at == mi_store_used(store));
    mi_store_destroy(store);
}

struct hashed {
    uint64_t hash;
    uint32_t number;
};

/* By the 24 bits of the index's tag, then by the place in a first table. */
static uint64_t collision_class(uint64_t hash)
{
    return (hash >> 40 << 12) | (hash & 4095);
}

static int compare_class(const void *a, const void *b)
{
    uint64_t x = collision_class(((const struct hashed *)a)->hash);
    uint64_t y = collision_class(((const struct hashed *)b)->hash);

    return x < y ? -1 : x > y;
}

#define CANDIDATES (1u << 20)

/* Keys that an index of 4096 slots cannot tell apart: same place, same tag. */
static void test_collision_same_slot_and_tag_both_found(void)
{
    struct hashed *all = calloc(CANDIDATES, sizeof(*all));
    struct mi_store *store = private_store(MIB);
    int pairs = 0;
    char key[2][20];

    check_need(all != NULL, "memory");
    for (uint32_t i = 0; i < CANDIDATES; i++) {
        all[i].number = i;
        all[i].hash =
            mi_key_hash(MI_STAT, key[0], (size_t)sprintf(key[0], "/%u", i));
    }
    qsort(all, CANDIDATES, sizeof(*all), compare_class);
    for (uint32_t i = 1; i < CANDIDATES; i++) {
        if (compare_class(&all[i - 1], &all[i]) != 0)
            continue;
        pairs++;
        for (uint32_t k = 0; k < 2; k++) {
            size_t size = (size_t)sprintf(key[k], "/%u", all[i - k].number);

            CHECK(!mi_store_find(store, MI_STAT, key[k], size));
            CHECK(append_key(store, MI_STAT, key[k], size, all[i - k].number,
                             NULL) == 0);
        }
        for (uint32_t k = 0; k < 2; k++) {
            const struct mi_record *record =
                mi_store_find(store, MI_STAT, key[k], strlen(key[k]));

            CHECK(record && record->inode == all[i - k].number);
        }
        /* Replacing one leaves the other alone. */
        CHECK(append_key(store, MI_STAT, key[0], strlen(key[0]), 0, NULL) ==
              0);
        CHECK(mi_store_find(store, MI_STAT, key[0], strlen(key[0]))->inode ==
              0);
        CHECK(mi_store_find(store, MI_STAT, key[1], strlen(key[1]))->inode ==
              all[i - 1].number);
    }
    CHECK(pairs > 0);
    mi_store_destroy(store);
    free(all);
}

/* Keys that all want one of the last slots: the search wraps around, and a
 * larger table spreads them.
 */
static void test_collision_last_slots_wrapped(void)
{
    enum { WANTED = 2000 };
    struct mi_store *store = private_store(4 * MIB);
    uint32_t number[WANTED];
    int count = 0, right = 0;
    char key[20];

    for (uint32_t i = 0; count < WANTED; i++) {
        size_t size = (size_t)sprintf(key, "/%u", i);

        if ((mi_key_hash(MI_STAT, key, size) & 4095) < 4090)
            continue;
        number[count++] = i;
        CHECK(append_key(store, MI_STAT, key, size, i, NULL) == 0);
    }
    /* Enough others that the table grows twice. */
    for (uint32_t i = 0; i < 8000; i++)
        CHECK(append(store, i, NULL, NULL) == 0);
    for (int n = 0; n < WANTED; n++) {
        size_t size = (size_t)sprintf(key, "/%u", number[n]);
        const struct mi_record *record =
            mi_store_find(store, MI_STAT, key, size);

        right += record && record->inode == number[n];
    }
    CHECK(right == WANTED);
    CHECK(found(store, 8000) == 8000);
    mi_store_destroy(store);
}

/* ---- replication ----------------------------------------------------------
 */

static void test_commit_copied_bytes_identical(void)
{
    struct mi_store *from = private_store(8 * MIB), *to = private_store(MIB);
    uint32_t count = 0;
    void *room;

    /* In stretches of one and more records. */
    while (mi_store_used(to) < MIB / 2) {
        uint64_t begin = mi_store_used(from), size;

        for (uint32_t n = 0; n <= count % 50; n++)
            CHECK(append(from, count++, NULL, NULL) == 0);
        size = mi_store_used(from) - begin;
        CHECK(mi_store_reserve(to, size, &room, NULL) == 0);
        memcpy(room, mi_store_bytes(from, begin), size);
        CHECK(mi_store_used(to) == begin);
        CHECK(mi_store_commit(to, size, NULL, NULL, NULL) == 0);
    }
    CHECK(mi_store_used(from) == mi_store_used(to));
    CHECK(memcmp(mi_store_bytes(from, 0), mi_store_bytes(to, 0),
                 mi_store_used(to)) == 0);
    CHECK(mi_store_count(to) == count && found(to, count) == count);
    mi_store_destroy(from);
    mi_store_destroy(to);
}

static void test_commit_same_key_replaced(void)
{
    struct mi_store *from = private_store(MIB), *to = private_store(MIB);
    void *room;

    CHECK(append_key(to, MI_STAT, "/old", 4, 1, NULL) == 0);
    CHECK(append_key(from, MI_STAT, "/old", 4, 2, NULL) == 0);
    CHECK(append_key(from, MI_STAT, "/old", 4, 3, NULL) == 0);
    CHECK(mi_store_reserve(to, mi_store_used(from), &room, NULL) == 0);
    memcpy(room, mi_store_bytes(from, 0), mi_store_used(from));
    CHECK(mi_store_commit(to, mi_store_used(from), NULL, NULL, NULL) == 0);
    CHECK(mi_store_find(to, MI_STAT, "/old", 4)->inode == 3);
    CHECK(mi_store_count(to) == 3);
    mi_store_destroy(from);
    mi_store_destroy(to);
}

struct seen {
    struct mi_store *store;
    uint32_t count;
    int early, right;
};

static void see(void *arg, const struct mi_record *record)
{
    struct seen *seen = arg;

    seen->right += is_record(record, seen->count) != 0;
    seen->early += find(seen->store, seen->count) == NULL;
    seen->count++;
}

static void test_commit_each_called_before_found(void)
{
    struct mi_store *from = private_store(MIB), *to = private_store(MIB);
    struct seen seen = {.store = to};
    void *room;

    for (uint32_t i = 0; i < 100; i++)
        CHECK(append(from, i, NULL, NULL) == 0);
    CHECK(mi_store_reserve(to, mi_store_used(from), &room, NULL) == 0);
    memcpy(room, mi_store_bytes(from, 0), mi_store_used(from));
    CHECK(mi_store_commit(to, mi_store_used(from), see, &seen, NULL) == 0);
    CHECK(seen.count == 100 && seen.right == 100 && seen.early == 100);
    mi_store_destroy(from);
    mi_store_destroy(to);
}

/* Ten records of which number 6 has one byte changed: 0 to 5 are there, and
 * nothing else ever.
 */
static void damage(const struct mi_store *from, const uint64_t *offset,
                   uint64_t byte)
{
    struct mi_store *to = private_store(MIB);
    struct seen seen = {.store = to};
    struct mi_error err;
    void *room;
    char about[40];

    snprintf(about, sizeof(about), "byte %d", (int)byte);
    check_need(mi_store_reserve(to, offset[10], &room, NULL) == 0, "room");
    memcpy(room, mi_store_bytes(from, 0), offset[10]);
    ((unsigned char *)room)[offset[6] + byte] ^= 0x20;
    mi_error_clear(&err);
    CHECK_FOR(about, mi_store_commit(to, offset[10], see, &seen, &err) == -1);
    CHECK_FOR(about, err.domain == MI_FORMAT && err.text[0] != '\0');
    CHECK_FOR(about, seen.count == 6 && mi_store_count(to) == 6);
    CHECK_FOR(about, mi_store_used(to) == offset[6]);
    CHECK_FOR(about, found(to, 6) == 6);
    for (uint32_t i = 6; i < 10; i++)
        CHECK_FOR(about, !find(to, i));
    /* It goes on from there with sound bytes. */
    CHECK(mi_store_reserve(to, offset[10] - offset[6], &room, NULL) == 0);
    memcpy(room, mi_store_bytes(from, offset[6]), offset[10] - offset[6]);
    CHECK(mi_store_commit(to, offset[10] - offset[6], NULL, NULL, NULL) == 0);
    CHECK_FOR(about, found(to, 10) == 10 && mi_store_count(to) == 10);
    mi_store_destroy(to);
}

static void test_commit_damaged_record_refused(void)
{
    struct mi_store *from = private_store(MIB);
    uint64_t offset[11];
    char key[100];

    for (uint32_t i = 0; i < 10; i++) {
        offset[i] = mi_store_used(from);
        CHECK(append(from, i, NULL, NULL) == 0);
    }
    offset[10] = mi_store_used(from);
    for (uint64_t byte = 0;
         byte < sizeof(struct mi_record) + key_of(6, key) + 1; byte++)
        damage(from, offset, byte);
    mi_store_destroy(from);
}

static void test_commit_wrong_size_refused(void)
{
    struct mi_store *from = private_store(MIB), *to = private_store(MIB);
    struct mi_error err;
    uint64_t size;
    void *room;

    CHECK(append(from, 1, NULL, NULL) == 0);
    size = mi_store_used(from);
    CHECK(mi_store_reserve(to, size + 16, &room, NULL) == 0);
    memcpy(room, mi_store_bytes(from, 0), size);
    for (uint64_t cut = 1; cut < size; cut++) {
        mi_error_clear(&err);
        CHECK(mi_store_commit(to, cut, NULL, NULL, &err) == -1);
        CHECK(err.domain == MI_FORMAT && mi_store_count(to) == 0);
    }
    CHECK(mi_store_commit(to, 0, NULL, NULL, &err) == 0);
    CHECK(mi_store_used(to) == 0);
    CHECK(mi_store_commit(to, size + 16, NULL, NULL, &err) == -1);
    CHECK(err.domain == MI_FORMAT);
    CHECK(mi_store_count(to) == 1 && is_record(find(to, 1), 1));
    mi_store_destroy(from);
    mi_store_destroy(to);
}

static int commit_huge(void *arg)
{
    struct mi_store *store = private_store(MIB);
    struct mi_error err;
    uint64_t size = *(const uint64_t *)arg;
    void *room = NULL;

    CHECK(append(store, 1, NULL, NULL) == 0);
    mi_error_clear(&err);
    CHECK(mi_store_reserve(store, size, &room, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC && !room);
    mi_error_clear(&err);
    CHECK(mi_store_commit(store, size, NULL, NULL, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EINVAL);
    CHECK(mi_store_count(store) == 1 && is_record(find(store, 1), 1));
    mi_store_destroy(store);
    return 0;
}

static void test_reserve_commit_huge_refused(void)
{
    static uint64_t sizes[] = {MIB,
                               (uint64_t)1 << 40,
                               (uint64_t)1 << 63,
                               UINT64_MAX - 511,
                               UINT64_MAX - 255,
                               UINT64_MAX - 15};
    char about[80];

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        snprintf(about, sizeof(about), "%s: %#llx", __func__,
                 (unsigned long long)sizes[i]);
        check_child(commit_huge, &sizes[i], about);
    }
}

/* ---- exhaustion -----------------------------------------------------------
 */

static void test_append_capacity_exhausted_refused(void)
{
    struct mi_store *store = private_store(1); /* the least there is */
    struct mi_error err;
    uint32_t count = 0;
    uint64_t used;

    mi_error_clear(&err);
    while (count < 100000 && append(store, count, NULL, &err) == 0)
        count++;
    CHECK(count > 100 && count < 1000);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC);
    CHECK(strstr(err.text, "capacity") != NULL);
    used = mi_store_used(store);
    for (int again = 0; again < 3; again++) {
        CHECK(append(store, count, NULL, &err) == -1 && err.code == ENOSPC);
        CHECK(mi_store_used(store) == used);
    }
    CHECK(mi_store_count(store) == count && found(store, count) == count);
    CHECK(!find(store, count));
    /* What still fits, fits. */
    while (append_key(store, MI_STAT, "/s", 2, 7, &err) == 0)
        count++;
    CHECK(err.code == ENOSPC);
    CHECK(mi_store_used(store) + 112 > 65536 && mi_store_used(store) <= 65536);
    mi_store_destroy(store);
}

/* The smallest records there are fill the arena, not the index. */
static void test_append_smallest_records_fill_arena(void)
{
    static const size_t sizes[] = {65536, 200000, 1u << 20, 5000000};
    struct mi_error err;
    char key[20];

    for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
        struct mi_store *store = private_store(sizes[n]);
        uint32_t count = 0, right = 0;

        while (append_key(store, MI_STAT, key,
                          (size_t)sprintf(key, "/%u", count), count,
                          &err) == 0)
            count++;
        CHECK(err.code == ENOSPC);
        CHECK(mi_store_used(store) + 112 > sizes[n]);
        for (uint32_t i = 0; i < count; i++) {
            const struct mi_record *record = mi_store_find(
                store, MI_STAT, key, (size_t)sprintf(key, "/%u", i));

            right += record && record->inode == i;
        }
        CHECK(right == count && count >= sizes[n] / 112);
        mi_store_destroy(store);
    }
}

static void test_reserve_capacity_exhausted_refused(void)
{
    struct mi_store *store = private_store(MIB);
    struct mi_error err;
    void *room = NULL;

    CHECK(append(store, 1, NULL, NULL) == 0);
    CHECK(mi_store_reserve(store, MIB, &room, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC && !room);
    CHECK(mi_store_reserve(store, MIB - mi_store_used(store), &room, &err) ==
          0);
    CHECK(room == mi_store_bytes(store, mi_store_used(store)));
    CHECK(is_record(find(store, 1), 1) && mi_store_count(store) == 1);
    mi_store_destroy(store);
}

static int fill_small_filesystem(void *arg)
{
    struct mi_store *store = NULL, *reader = NULL;
    struct mi_error err;
    const char *path = arg;
    uint32_t count = 0;
    int dir;

    if (!check_small_tmpfs(path, 1024))
        return CHECK_SKIP;
    dir = open(path, O_RDONLY | O_DIRECTORY);
    CHECK(mi_store_create(&store, dir, "store", 64 * MIB, &err) == 0);
    if (!store)
        return 0;
    CHECK(mi_store_open(&reader, dir, "store", &err) == 0);
    mi_error_clear(&err);
    while (count < MANY && append(store, count, NULL, &err) == 0)
        count++;
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC);
    CHECK(count > 1000);
    CHECK(append(store, count, NULL, &err) == -1 && err.code == ENOSPC);
    CHECK(mi_store_count(store) == count);
    CHECK(found(store, count) == count && found(reader, count) == count);
    /* Large ones as well, and in raw bytes. */
    for (uint64_t size = 16; size < 2 * MIB; size *= 2) {
        void *room;

        if (mi_store_reserve(store, size, &room, &err) == 0)
            memset(room, 1, size);
        else
            CHECK(err.code == ENOSPC);
    }
    mi_store_destroy(store);
    /* Nothing at all can be made, and nothing is left of the attempt. */
    store = NULL;
    CHECK(mi_store_create(&store, dir, "another", 64 * MIB, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC && !store);
    CHECK(check_entries(path) == 1);
    CHECK(found(reader, count) == count);
    mi_store_destroy(reader);
    close(dir);
    return 0;
}

static void test_append_filesystem_full_refused(void)
{
    char path[PATH_MAX];

    check_need(mkdir(check_join(path, scratch, "small"), 0700) == 0, path);
    if (!check_child(fill_small_filesystem, path, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
    rmdir(path);
}

/* ---- files ----------------------------------------------------------------
 */

static void test_create_file_private_exclusive(void)
{
    struct mi_store *store = NULL, *other = NULL;
    struct stat status;
    struct mi_error err;
    mode_t mask = umask(0);

    CHECK(mi_store_create(&store, scratch_dir, "private", MIB, &err) == 0);
    umask(mask);
    CHECK(fstatat(scratch_dir, "private", &status, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK((status.st_mode & 07777) == 0600 && status.st_uid == geteuid());
    CHECK(mi_store_create(&other, scratch_dir, "private", MIB, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EEXIST && !other);
    CHECK(append(store, 1, NULL, &err) == 0);
    mi_store_destroy(store);
    CHECK(unlinkat(scratch_dir, "private", 0) == 0);
}

static void test_create_symlink_not_followed(void)
{
    struct mi_store *store = NULL;
    struct mi_error err;

    CHECK(symlinkat("target", scratch_dir, "link") == 0);
    CHECK(mi_store_create(&store, scratch_dir, "link", MIB, &err) == -1);
    CHECK(err.code == EEXIST && !store);
    CHECK(faccessat(scratch_dir, "target", F_OK, 0) != 0);
    unlinkat(scratch_dir, "link", 0);
}

static void test_create_bad_directory_refused(void)
{
    struct mi_store *store = NULL;
    struct mi_error err;

    CHECK(mi_store_create(&store, -1, "store", MIB, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == EBADF && !store);
    CHECK(mi_store_create(&store, scratch_dir, "a/b", MIB, &err) == -1);
    CHECK(err.code == ENOENT && !store);
    CHECK(mi_store_create(&store, scratch_dir, "", MIB, &err) == -1 && !store);
    CHECK(mi_store_create(&store, scratch_dir, "huge", (size_t)1 << 60,
                          &err) == -1);
    CHECK(err.domain == MI_ERRNO && !store);
    CHECK(mi_store_create_private(&store, (size_t)1 << 60, &err) == -1);
    CHECK(err.domain == MI_ERRNO && !store);
    CHECK(check_entries(scratch) == 0);
}

static void test_create_largest_capacity_refused(void)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 4095, SIZE_MAX / 2,
                                   SIZE_MAX / 4 * 3};
    struct mi_store *store = NULL;
    struct mi_error err;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CHECK(mi_store_create(&store, scratch_dir, "huge", sizes[i], &err) ==
              -1);
        mi_store_destroy(store);
        store = NULL;
        CHECK(mi_store_create_private(&store, sizes[i], &err) == -1);
        mi_store_destroy(store);
        store = NULL;
        unlinkat(scratch_dir, "huge", 0);
    }
}

static void test_open_other_process_store_read(void)
{
    struct mi_store *writer = NULL, *reader = NULL, *late = NULL;
    struct mi_error err;
    uint32_t i;

    CHECK(mi_store_create(&writer, scratch_dir, "store", 32 * MIB, &err) == 0);
    CHECK(mi_store_open(&reader, scratch_dir, "store", &err) == 0);
    CHECK(!find(reader, 0) && mi_store_used(reader) == 0);
    for (i = 0; i < 20000; i++) {
        if (append(writer, i, NULL, NULL) != 0 ||
            !is_record(find(reader, i), i))
            break;
    }
    CHECK(i == 20000);
    CHECK(mi_store_open(&late, scratch_dir, "store", &err) == 0);
    CHECK(unlinkat(scratch_dir, "store", 0) == 0);
    CHECK(mi_store_used(reader) == mi_store_used(writer));
    CHECK(mi_store_reserved(reader) == mi_store_reserved(writer));
    CHECK(memcmp(mi_store_bytes(reader, 0), mi_store_bytes(writer, 0),
                 mi_store_used(writer)) == 0);
    mi_store_destroy(writer);
    /* Neither the name nor the writer is needed any more. */
    CHECK(found(reader, i) == i && found(late, i) == i);
    mi_store_destroy(reader);
    mi_store_destroy(late);
    CHECK(mi_store_open(&late, scratch_dir, "store", &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOENT);
}

static void expect_no_store(const char *about, int domain, int code)
{
    struct mi_store *store = NULL;
    struct mi_error err;

    mi_error_clear(&err);
    CHECK_FOR(about, mi_store_open(&store, scratch_dir, "no", &err) == -1);
    CHECK_FOR(about, (int)err.domain == domain && err.code == code);
    CHECK_FOR(about, strstr(err.text, "no") && !store);
    mi_store_destroy(store);
}

static void test_open_no_store_refused(void)
{
    static const size_t sizes[] = {0, 1, 8, 4095, 4096, 4097, 100000};
    char path[PATH_MAX], *bytes = calloc(1, 100000), about[40];

    check_need(bytes != NULL, "memory");
    check_join(path, scratch, "no");
    expect_no_store("absent", MI_ERRNO, ENOENT);
    for (int fill = 0; fill < 256; fill += 85) {
        memset(bytes, fill, 100000);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            snprintf(about, sizeof(about), "%zu x %02x", sizes[i], fill);
            check_write(path, bytes, sizes[i]);
            expect_no_store(about, MI_FORMAT, EBADMSG);
        }
    }
    unlink(path);
    check_need(mkdir(path, 0700) == 0, path);
    expect_no_store("directory", MI_FORMAT, EBADMSG);
    rmdir(path);
    check_need(symlink("store", path) == 0, path);
    expect_no_store("symbolic link", MI_ERRNO, ELOOP);
    unlink(path);
    free(bytes);
}

/* A store's file with one 64-bit word of its header changed. */
static void expect_header(int word, uint64_t value, const char *about)
{
    struct mi_store *store = NULL;
    char path[PATH_MAX];
    int file;

    check_need(mi_store_create(&store, scratch_dir, "no", MIB, NULL) == 0,
               "store");
    mi_store_destroy(store);
    file = open(check_join(path, scratch, "no"), O_RDWR);
    check_need(file >= 0 && pwrite(file, &value, sizeof(value), word * 8) == 8,
               path);
    close(file);
    expect_no_store(about, MI_FORMAT, EBADMSG);
    unlink(path);
}

static void test_open_damaged_header_refused(void)
{
    expect_header(0, 0x327373694dU, "magic");
    expect_header(1, 0, "index size 0");
    expect_header(1, 4096, "index size too small");
    expect_header(1, (uint64_t)1 << 40, "index size beyond the file");
    expect_header(2, MIB + 4096, "capacity too large");
    expect_header(2, MIB - 4096, "capacity too small");
    expect_header(2, 0, "capacity 0");
    expect_header(2, UINT64_MAX, "capacity beyond everything");
}

static void test_open_other_length_refused(void)
{
    struct mi_store *store = NULL;
    struct stat status;
    char path[PATH_MAX];
    off_t size;

    CHECK(mi_store_create(&store, scratch_dir, "no", MIB, NULL) == 0);
    mi_store_destroy(store);
    check_join(path, scratch, "no");
    check_need(stat(path, &status) == 0, path);
    size = status.st_size;
    check_need(truncate(path, size + 4096) == 0, path);
    expect_no_store("longer", MI_FORMAT, EBADMSG);
    check_need(truncate(path, size - 4096) == 0, path);
    expect_no_store("shorter", MI_FORMAT, EBADMSG);
    check_need(truncate(path, 4096) == 0, path);
    expect_no_store("header only", MI_FORMAT, EBADMSG);
    check_need(truncate(path, 100) == 0, path);
    expect_no_store("part of the header", MI_FORMAT, EBADMSG);
    unlink(path);
}

static void test_open_foreign_owner_refused(void)
{
    struct mi_store *store = NULL;

    if (geteuid() != 0) {
        check_skipped(__func__, "only root can give files away");
        return;
    }
    CHECK(mi_store_create(&store, scratch_dir, "no", MIB, NULL) == 0);
    mi_store_destroy(store);
    check_need(fchownat(scratch_dir, "no", 65534, 65534, 0) == 0, "chown");
    expect_no_store("foreign", MI_ERRNO, EPERM);
    unlinkat(scratch_dir, "no", 0);
}

/* ---- segments -------------------------------------------------------------
 */

static void test_segment_clear_repeated_harmless(void)
{
    struct mi_segment segment;
    struct mi_error err;

    CHECK(mi_segment_create_private(&segment, 10000, &err) == 0);
    CHECK(segment.size == 10000 && segment.file == -1);
    for (size_t i = 0; i < segment.size; i++)
        if (((char *)segment.base)[i] != 0)
            CHECK(!"zeroed");
    errno = EXDEV;
    mi_segment_clear(&segment);
    mi_segment_clear(&segment);
    CHECK(!segment.base && segment.file == -1 && errno == EXDEV);
}

static void test_segment_open_too_small_refused(void)
{
    struct mi_segment made, opened = {.file = -1};
    struct mi_error err;

    CHECK(mi_segment_create(&made, scratch_dir, "segment", 5000, &err) == 0);
    CHECK(mi_segment_reserve(&made, 0, 5000, &err) == 0);
    CHECK(mi_segment_reserve(&made, 0, 0, &err) == 0);
    memset(made.base, 7, 5000);
    CHECK(mi_segment_open(&opened, scratch_dir, "segment", 0, 5001, &err) ==
          -1);
    CHECK(err.domain == MI_FORMAT && !opened.base);
    CHECK(mi_segment_open(&opened, scratch_dir, "segment", 1, 5000, &err) ==
          0);
    CHECK(opened.size == 5000 && opened.file == -1);
    ((char *)opened.base)[4999] = 8;
    CHECK(((char *)made.base)[4999] == 8 && ((char *)opened.base)[0] == 7);
    mi_segment_clear(&opened);
    mi_segment_clear(&made);
    unlinkat(scratch_dir, "segment", 0);
}

int main(void)
{
    check_scratch(scratch);
    scratch_dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check_need(scratch_dir >= 0, scratch);
    test_append_found_unchanged();
    test_find_other_key_nothing();
    test_append_same_key_replaced();
    test_append_path_limits();
    test_append_huge_payload_refused();
    test_append_many_all_found();
    test_arena_walk_every_record();
    test_collision_same_slot_and_tag_both_found();
    test_collision_last_slots_wrapped();
    test_commit_copied_bytes_identical();
    test_commit_same_key_replaced();
    test_commit_each_called_before_found();
    test_commit_damaged_record_refused();
    test_commit_wrong_size_refused();
    test_reserve_commit_huge_refused();
    test_append_capacity_exhausted_refused();
    test_append_smallest_records_fill_arena();
    test_reserve_capacity_exhausted_refused();
    test_append_filesystem_full_refused();
    test_create_file_private_exclusive();
    test_create_symlink_not_followed();
    test_create_bad_directory_refused();
    test_create_largest_capacity_refused();
    test_open_other_process_store_read();
    test_open_no_store_refused();
    test_open_damaged_header_refused();
    test_open_other_length_refused();
    test_open_foreign_owner_refused();
    test_segment_clear_repeated_harmless();
    test_segment_open_too_small_refused();
    CHECK(check_entries(scratch) == 0);
    close(scratch_dir);
    check_remove(scratch);
    return check_report();
}
