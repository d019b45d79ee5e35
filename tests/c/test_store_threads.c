/* Tests of src/store.c: readers, in threads and in other processes, while
 * the store grows.  Processes are forked before there are threads.
 */
#include "check.h"

#include <pthread.h>

#include "../../src/store.h"

#define CAPACITY ((size_t)32 << 20)
#define RECORDS 20000
#define READERS 3
#define WRITERS 2
#define PATIENCE 60.0 /* seconds until a reader gives up */

static char scratch[PATH_MAX];
static int scratch_dir;

static size_t key_of(uint32_t i, char *key)
{
    return (size_t)sprintf(key, "/tree/%x/%u", i * 2654435761u, i);
}

static size_t payload_of(uint32_t i, unsigned char *payload)
{
    size_t size = i * 13u % 150u;

    for (size_t n = 0; n < size; n++)
        payload[n] = (unsigned char)(i * 17u + n);
    return size;
}

static int append(struct mi_store *store, uint32_t i)
{
    char key[60];
    unsigned char payload[150];
    struct mi_entry entry = {.query = MI_READ,
                             .kind = MI_KIND_FILE,
                             .key = key,
                             .key_size = key_of(i, key),
                             .payload = payload,
                             .size = payload_of(i, payload),
                             .inode = i};

    return mi_store_append(store, &entry, NULL, NULL);
}

static int is_record(const struct mi_record *record, uint32_t i)
{
    char key[60];
    unsigned char payload[150];

    return record->key_size == key_of(i, key) && record->inode == i &&
           strcmp(mi_record_key(record), key) == 0 &&
           record->size == payload_of(i, payload) &&
           memcmp(mi_record_payload(record), payload, record->size) == 0;
}

static const struct mi_record *find(const struct mi_store *store, uint32_t i)
{
    char key[60];

    return mi_store_find(store, MI_READ, key, key_of(i, key));
}

/* Follow the writer: wait for each record, and look at older ones.  Returns
 * how many were right.
 */
static uint32_t follow(const struct mi_store *store)
{
    double end = check_seconds() + PATIENCE;
    const struct mi_record *record;
    uint64_t used = 0, now;
    uint32_t right = 0;

    for (uint32_t i = 0; i < RECORDS; i++) {
        while ((record = find(store, i)) == NULL) {
            if (check_seconds() > end)
                return right;
            sched_yield();
        }
        now = mi_store_used(store);
        right += is_record(record, i) && now >= used;
        used = now;
        /* Once found, found for ever, whatever the index does. */
        record = find(store, i * 7919u % (i + 1));
        if (!record || !is_record(record, i * 7919u % (i + 1)))
            return right;
    }
    return right;
}

/* Who finds a record may rely on 'used' counting its bytes: walk them. */
static int arena_sound(const struct mi_store *store)
{
    uint64_t published = mi_store_count(store);
    uint64_t used = mi_store_used(store), at = 0, count = 0;

    while (at < used) {
        const struct mi_record *record = mi_store_bytes(store, at);

        if (mi_record_check(record, used - at, NULL) != 0)
            return 0;
        at += mi_record_total(record->key_size, record->size);
        count++;
    }
    return at == used && count >= published;
}

/* ---- processes ------------------------------------------------------------
 */

static int read_in_process(void *arg)
{
    struct mi_store *store = NULL;
    struct mi_error err;

    (void)arg;
    alarm((unsigned)PATIENCE + 10);
    CHECK(mi_store_open(&store, scratch_dir, "store", &err) == 0);
    if (!store)
        return 0;
    CHECK(follow(store) == RECORDS);
    CHECK(arena_sound(store));
    mi_store_destroy(store);
    return 0;
}

static void test_processes_read_while_written(void)
{
    struct mi_store *store = NULL;
    pid_t child[READERS];

    CHECK(mi_store_create(&store, scratch_dir, "store", CAPACITY, NULL) == 0);
    for (int i = 0; i < READERS; i++)
        child[i] = check_fork(read_in_process, NULL);
    for (uint32_t i = 0; i < RECORDS; i++)
        if (append(store, i) != 0)
            CHECK(!"appended");
    CHECK(mi_store_count(store) == RECORDS);
    for (int i = 0; i < READERS; i++)
        check_join_child(child[i], __func__);
    CHECK(unlinkat(scratch_dir, "store", 0) == 0);
    mi_store_destroy(store);
}

/* ---- threads --------------------------------------------------------------
 */

struct writing {
    struct mi_store *store;
    uint32_t first;
    int failed;
};

/* Every WRITERS-th record. */
static void *write_some(void *arg)
{
    struct writing *writing = arg;

    for (uint32_t i = writing->first; i < RECORDS; i += WRITERS)
        writing->failed += append(writing->store, i) != 0;
    return NULL;
}

static void *read_all(void *arg)
{
    const struct mi_store *store = arg;

    CHECK(follow(store) == RECORDS);
    return NULL;
}

static void *walk(void *arg)
{
    const struct mi_store *store = arg;
    double end = check_seconds() + PATIENCE;
    int sound = 1;

    while (sound && mi_store_count(store) < RECORDS && check_seconds() < end)
        sound = arena_sound(store);
    CHECK(sound);
    return NULL;
}

static void test_threads_read_while_written(void)
{
    pthread_t reader[READERS], writer[WRITERS], walker;
    struct writing writing[WRITERS];
    struct mi_store *store = NULL;

    CHECK(mi_store_create_private(&store, CAPACITY, NULL) == 0);
    for (int i = 0; i < READERS; i++)
        check_need(pthread_create(&reader[i], NULL, read_all, store) == 0,
                   "thread");
    check_need(pthread_create(&walker, NULL, walk, store) == 0, "thread");
    for (uint32_t i = 0; i < WRITERS; i++) {
        writing[i] = (struct writing){.store = store, .first = i};
        check_need(pthread_create(&writer[i], NULL, write_some, &writing[i]) ==
                       0,
                   "thread");
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writer[i], NULL);
        CHECK(writing[i].failed == 0);
    }
    for (int i = 0; i < READERS; i++)
        pthread_join(reader[i], NULL);
    pthread_join(walker, NULL);
    CHECK(mi_store_count(store) == RECORDS && arena_sound(store));
    mi_store_destroy(store);
}

/* A key that is replaced all the time leads to one whole record or another,
 * never to an older one than before.
 */
static void *follow_replaced(void *arg)
{
    const struct mi_store *store = arg;
    double end = check_seconds() + PATIENCE;
    const struct mi_record *record;
    uint64_t last = 0;
    int forward = 1;

    while (forward && last < RECORDS && check_seconds() < end) {
        record = mi_store_find(store, MI_STAT, "/same", 5);
        if (!record)
            continue;
        forward = record->inode >= last && record->size == 8 &&
                  memcmp(mi_record_payload(record), &record->inode, 8) == 0;
        last = record->inode;
    }
    CHECK(forward && last == RECORDS);
    return NULL;
}

static void test_threads_replaced_key_forward(void)
{
    pthread_t reader[READERS];
    struct mi_store *store = NULL;
    struct mi_entry entry = {.query = MI_STAT,
                             .kind = MI_KIND_STAT,
                             .key = "/same",
                             .key_size = 5,
                             .payload = &entry.inode,
                             .size = sizeof(entry.inode)};

    CHECK(mi_store_create_private(&store, CAPACITY, NULL) == 0);
    for (int i = 0; i < READERS; i++)
        check_need(pthread_create(&reader[i], NULL, follow_replaced, store) ==
                       0,
                   "thread");
    for (uint32_t i = 1; i <= RECORDS; i++) {
        entry.inode = i;
        if (mi_store_append(store, &entry, NULL, NULL) != 0)
            CHECK(!"appended");
        /* Other keys make the index move meanwhile. */
        if (i % 2 == 0 && append(store, i) != 0)
            CHECK(!"appended");
    }
    for (int i = 0; i < READERS; i++)
        pthread_join(reader[i], NULL);
    mi_store_destroy(store);
}

/* ---- replication ----------------------------------------------------------
 */

struct replica {
    const struct mi_store *from;
    struct mi_store *to;
    int failed;
};

/* What a pump does: copy what is new, as one stretch, until all is there. */
static void *replicate(void *arg)
{
    struct replica *replica = arg;
    double end = check_seconds() + PATIENCE;
    uint64_t at = 0, used;
    void *room;

    while (mi_store_count(replica->to) < RECORDS && check_seconds() < end) {
        used = mi_store_used(replica->from);
        if (used == at) {
            sched_yield();
            continue;
        }
        if (mi_store_reserve(replica->to, used - at, &room, NULL) != 0)
            break;
        memcpy(room, mi_store_bytes(replica->from, at), used - at);
        if (mi_store_commit(replica->to, used - at, NULL, NULL, NULL) != 0)
            break;
        at = used;
    }
    replica->failed = mi_store_count(replica->to) != RECORDS;
    return NULL;
}

static void test_threads_replica_followed(void)
{
    pthread_t reader, copier;
    struct replica replica = {0};
    struct mi_store *from = NULL, *to = NULL;

    CHECK(mi_store_create_private(&from, CAPACITY, NULL) == 0);
    CHECK(mi_store_create_private(&to, CAPACITY, NULL) == 0);
    replica.from = from;
    replica.to = to;
    check_need(pthread_create(&copier, NULL, replicate, &replica) == 0 &&
                   pthread_create(&reader, NULL, read_all, to) == 0,
               "thread");
    for (uint32_t i = 0; i < RECORDS; i++)
        if (append(from, i) != 0)
            CHECK(!"appended");
    pthread_join(copier, NULL);
    pthread_join(reader, NULL);
    CHECK(!replica.failed && mi_store_used(from) == mi_store_used(to));
    CHECK(memcmp(mi_store_bytes(from, 0), mi_store_bytes(to, 0),
                 mi_store_used(to)) == 0);
    mi_store_destroy(from);
    mi_store_destroy(to);
}

int main(void)
{
    check_scratch(scratch);
    scratch_dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check_need(scratch_dir >= 0, scratch);
    test_processes_read_while_written();
    test_threads_read_while_written();
    test_threads_replaced_key_forward();
    test_threads_replica_followed();
    close(scratch_dir);
    CHECK(check_entries(scratch) == 0);
    check_remove(scratch);
    return check_report();
}
