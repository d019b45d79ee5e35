#include "store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "segment.h"

#define MAGIC 0x317373694dU /* "Miss1" */
#define PAGE 4096u
#define FIRST_BITS 12         /* slots of the first index table: 4096 */
#define STEP_MIN (256u << 10) /* reserve at least so much at a time, */
#define STEP_MAX (16u << 20)  /* and at most so much more than is needed */
/* Of a record, all but the payload, and with what fills that up. */
#define LONGEST_HEAD (sizeof(struct mi_record) + MI_PATH + 32)
#define CAPACITY_MIN (64u << 10)
#define CAPACITY_MAX ((uint64_t)1 << 44) /* what a slot's offset can reach */

/* At the begin of the mapping; then the index tables, then the arena. */
struct header {
    uint64_t magic;
    uint64_t index_size;        /* bytes for all index tables */
    uint64_t capacity;          /* bytes of the arena */
    atomic_uint_fast64_t table; /* offset of the table << 6 | bits */
    atomic_uint_fast64_t used;
    atomic_uint_fast64_t count;
    atomic_uint_fast64_t reserved;
};

/* A slot: 24 bits of the hash, and 1 + offset of the record / 16. */
#define SLOT_BITS 40
#define SLOT_MASK (((uint64_t)1 << SLOT_BITS) - 1)

struct mi_store {
    struct mi_segment segment;
    struct header *header;
    char *index; /* index tables, one after the other */
    char *arena;
    /* The writer's own: */
    pthread_mutex_t lock;
    uint64_t index_used;     /* bytes of index tables in use */
    uint64_t index_reserved; /* bytes of index tables reserved */
    uint64_t arena_reserved;
    uint64_t keys; /* distinct keys in the index */
    struct mi_budget *budget;
};

static uint64_t index_room(uint64_t capacity)
{
    /* A record takes 112 bytes or more and a slot 8; tables are at most two
     * thirds full, and all smaller ones together are as large as the last.
     */
    uint64_t room = capacity / 112 * 8 * 6 + (PAGE << 4);

    return (room + PAGE - 1) / PAGE * PAGE;
}

/* Find the parts in the mapped segment. */
static void lay_out(struct mi_store *store, uint64_t index_size)
{
    store->header = store->segment.base;
    store->index = (char *)store->segment.base + PAGE;
    store->arena = store->index + index_size;
}

static int grow(struct mi_store *store, uint64_t offset, uint64_t size,
                struct mi_error *err)
{
    if (mi_budget_take(store->budget, size, err) != 0)
        return -1;
    if (mi_segment_reserve(&store->segment, offset, size, err) == 0)
        return 0;
    mi_budget_return(store->budget, size);
    return -1;
}

/* Reserve so that 'need' bytes of the region at 'base' are usable; 'limit' is
 * its size.  More than needed if there is room, exactly that if not.
 */
static int reserve(struct mi_store *store, const char *base,
                   uint64_t *reserved, uint64_t need, uint64_t limit,
                   struct mi_error *err)
{
    uint64_t begin = (uint64_t)(base - (char *)store->segment.base);
    uint64_t step, target;

    if (need <= *reserved)
        return 0;
    if (need > limit)
        return mi_fail(err, MI_ERRNO, ENOSPC,
                       "the node store has reached its capacity of %llu bytes",
                       (unsigned long long)limit);
    step = *reserved < STEP_MIN ? STEP_MIN : *reserved;
    step = step > STEP_MAX ? STEP_MAX : step;
    target = need + step;
    target = target > limit ? limit : (target + PAGE - 1) / PAGE * PAGE;
    target = target > limit ? limit : target;
    if (grow(store, begin + *reserved, target - *reserved, err) != 0) {
        target = need;
        if (grow(store, begin + *reserved, target - *reserved, err) != 0)
            return -1;
    }
    atomic_fetch_add(&store->header->reserved, target - *reserved);
    *reserved = target;
    return 0;
}

static atomic_uint_fast64_t *table_at(const struct mi_store *store,
                                      uint64_t word, uint64_t *mask)
{
    *mask = ((uint64_t)1 << (word & 63u)) - 1;
    return (atomic_uint_fast64_t *)(void *)(store->index + (word >> 6));
}

static const struct mi_record *record_of(const struct mi_store *store,
                                         uint64_t slot)
{
    return (const struct mi_record *)(const void *)(store->arena +
                                                    ((slot & SLOT_MASK) - 1) *
                                                        16);
}

static int same_key(const struct mi_record *record, uint64_t hash,
                    enum mi_query query, const char *key, size_t key_size)
{
    return record->hash == hash && record->query == (uint8_t)query &&
           record->key_size == key_size &&
           memcmp(mi_record_key(record), key, key_size) == 0;
}

/* The slot of a key, or the empty one where it would go. */
static atomic_uint_fast64_t *find_slot(const struct mi_store *store,
                                       uint64_t word, uint64_t hash,
                                       enum mi_query query, const char *key,
                                       size_t key_size)
{
    uint64_t mask, slot;
    atomic_uint_fast64_t *table = table_at(store, word, &mask);

    for (uint64_t i = hash & mask;; i = (i + 1) & mask) {
        slot = atomic_load_explicit(&table[i], memory_order_acquire);
        if (slot == 0 ||
            (slot >> SLOT_BITS == hash >> SLOT_BITS &&
             same_key(record_of(store, slot), hash, query, key, key_size)))
            return &table[i];
    }
}

/* Start an index table of 2^bits slots, and move everything there. */
static int new_table(struct mi_store *store, unsigned bits,
                     struct mi_error *err)
{
    uint64_t size = sizeof(uint64_t) << bits, old_mask, mask, slot, i;
    uint64_t old = atomic_load(&store->header->table);
    uint64_t word = store->index_used << 6 | bits;
    atomic_uint_fast64_t *from, *to;

    if (reserve(store, store->index, &store->index_reserved,
                store->index_used + size, store->header->index_size, err) != 0)
        return -1;
    store->index_used += size;
    if (old != 0) {
        from = table_at(store, old, &old_mask);
        to = table_at(store, word, &mask);
        for (uint64_t n = 0; n <= old_mask; n++) {
            slot = atomic_load_explicit(&from[n], memory_order_relaxed);
            if (slot == 0)
                continue;
            i = record_of(store, slot)->hash & mask;
            while (atomic_load_explicit(&to[i], memory_order_relaxed))
                i = (i + 1) & mask;
            atomic_store_explicit(&to[i], slot, memory_order_relaxed);
        }
    }
    atomic_store_explicit(&store->header->table, word, memory_order_release);
    return 0;
}

/* Make sure that one more key fits into the index. */
static int index_room_for_one(struct mi_store *store, struct mi_error *err)
{
    unsigned bits = (unsigned)(atomic_load(&store->header->table) & 63u);

    if (store->keys + 1 <= ((uint64_t)2 << bits) / 3)
        return 0;
    return new_table(store, bits + 1, err);
}

static void publish(struct mi_store *store, const struct mi_record *record)
{
    uint64_t offset = (uint64_t)((const char *)record - store->arena);
    uint64_t slot = record->hash >> SLOT_BITS << SLOT_BITS | (offset / 16 + 1);
    atomic_uint_fast64_t *at = find_slot(
        store, atomic_load(&store->header->table), record->hash,
        (enum mi_query)record->query, mi_record_key(record), record->key_size);

    if (atomic_load_explicit(at, memory_order_relaxed) == 0)
        store->keys++;
    atomic_store_explicit(at, slot, memory_order_release);
    atomic_fetch_add(&store->header->count, 1);
}

static struct mi_store *allocate(struct mi_error *err)
{
    struct mi_store *store = calloc(1, sizeof(*store));

    if (!store) {
        mi_fail_errno(err, "node store");
        return NULL;
    }
    store->segment.file = -1;
    pthread_mutex_init(&store->lock, NULL);
    return store;
}

static uint64_t round_capacity(size_t capacity)
{
    if (capacity > CAPACITY_MAX)
        return UINT64_MAX;
    capacity = capacity < CAPACITY_MIN ? CAPACITY_MIN : capacity;
    return (capacity + PAGE - 1) / PAGE * PAGE;
}

static uint64_t segment_size(uint64_t capacity)
{
    return PAGE + index_room(capacity) + capacity;
}

/* Everything that creating has in common, once there is a segment. */
static int format(struct mi_store *store, uint64_t capacity,
                  struct mi_error *err)
{
    if (mi_segment_reserve(&store->segment, 0, PAGE, err) != 0)
        return -1;
    lay_out(store, index_room(capacity));
    store->header->index_size = index_room(capacity);
    store->header->capacity = capacity;
    atomic_store(&store->header->reserved, PAGE);
    if (new_table(store, FIRST_BITS, err) != 0)
        return -1;
    store->header->magic = MAGIC;
    return 0;
}

int mi_store_create(struct mi_store **result, int dir, const char *name,
                    size_t capacity, struct mi_error *err)
{
    struct mi_store *store;
    uint64_t size = round_capacity(capacity);

    if (size > CAPACITY_MAX)
        return mi_fail(err, MI_ERRNO, EFBIG, "a node store of %zu bytes",
                       capacity);
    store = allocate(err);
    if (!store)
        return -1;
    if (mi_segment_create(&store->segment, dir, name, segment_size(size),
                          err) != 0)
        goto out;
    if (format(store, size, err) != 0) {
        unlinkat(dir, name, 0);
        goto out;
    }
    *result = store;
    return 0;
out:
    mi_store_destroy(store);
    return -1;
}

int mi_store_create_private(struct mi_store **result, size_t capacity,
                            struct mi_error *err)
{
    struct mi_store *store;
    uint64_t size = round_capacity(capacity);

    if (size > CAPACITY_MAX)
        return mi_fail(err, MI_ERRNO, EFBIG, "a node store of %zu bytes",
                       capacity);
    store = allocate(err);
    if (!store)
        return -1;
    if (mi_segment_create_private(&store->segment, segment_size(size), err) !=
            0 ||
        format(store, size, err) != 0) {
        mi_store_destroy(store);
        return -1;
    }
    *result = store;
    return 0;
}

int mi_store_open(struct mi_store **result, int dir, const char *name,
                  struct mi_error *err)
{
    struct mi_store *store = allocate(err);
    const struct header *header;

    if (!store)
        return -1;
    if (mi_segment_open(&store->segment, dir, name, 0, PAGE, err) != 0)
        goto out;
    header = store->segment.base;
    if (header->magic != MAGIC || header->capacity > CAPACITY_MAX ||
        header->index_size != index_room(header->capacity) ||
        segment_size(header->capacity) != store->segment.size) {
        mi_fail(err, MI_FORMAT, EBADMSG, "%s is no node store", name);
        goto out;
    }
    lay_out(store, header->index_size);
    *result = store;
    return 0;
out:
    mi_store_destroy(store);
    return -1;
}

void mi_store_set_budget(struct mi_store *store, struct mi_budget *budget)
{
    store->budget = budget;
    mi_budget_charge(budget, mi_store_reserved(store));
}

uint64_t mi_store_room(struct mi_store *store)
{
    uint64_t used, spare, most, room = mi_budget_room(store->budget);

    pthread_mutex_lock(&store->lock);
    used = atomic_load(&store->header->used);
    spare = store->arena_reserved - used;
    pthread_mutex_unlock(&store->lock);
    most = store->header->capacity - used;
    most = room < most - spare ? room + spare : most;
    return most > LONGEST_HEAD ? most - LONGEST_HEAD : 0;
}

void mi_store_destroy(struct mi_store *store)
{
    if (!store)
        return;
    mi_segment_clear(&store->segment);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static int reserve_arena(struct mi_store *store, uint64_t size, void **room,
                         struct mi_error *err)
{
    uint64_t used = atomic_load(&store->header->used);

    /* No sum may overflow; what exceeds the capacity is refused below. */
    if (size > store->header->capacity)
        size = store->header->capacity + 1;
    if (reserve(store, store->arena, &store->arena_reserved, used + size,
                store->header->capacity, err) != 0)
        return -1;
    *room = store->arena + used;
    return 0;
}

static void fill(struct mi_record *record, const struct mi_entry *entry)
{
    char *key = (char *)(record + 1);

    *record = (struct mi_record){
        .kind = (uint8_t)entry->kind,
        .query = (uint8_t)entry->query,
        .flags = entry->flags,
        .key_size = (uint32_t)entry->key_size,
        .code = entry->code,
        .size = entry->size,
        .object = entry->object,
        .mtime = entry->mtime,
        .changed = entry->changed,
        .file_size = entry->file_size,
        .device = entry->device,
        .inode = entry->inode,
        .mode = entry->mode,
    };
    memcpy(key, entry->key, entry->key_size);
    mi_record_seal(record, key);
    if (entry->size)
        memcpy((char *)record + (mi_record_total(record->key_size, 0)),
               entry->payload, entry->size);
}

static int append_locked(struct mi_store *store, const struct mi_entry *entry,
                         const struct mi_record **record, struct mi_error *err)
{
    uint64_t size = entry->size < CAPACITY_MAX ? entry->size : CAPACITY_MAX;
    uint64_t total = mi_record_total((uint32_t)entry->key_size, size);
    void *room;

    if (index_room_for_one(store, err) != 0 ||
        reserve_arena(store, total, &room, err) != 0)
        return -1;
    fill(room, entry);
    /* 'used' first: who finds the key may rely on the bytes being counted. */
    atomic_fetch_add_explicit(&store->header->used, total,
                              memory_order_release);
    publish(store, room);
    if (record)
        *record = room;
    return 0;
}

int mi_store_append(struct mi_store *store, const struct mi_entry *entry,
                    const struct mi_record **record, struct mi_error *err)
{
    int rc;

    if (entry->key_size > MI_PATH)
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG, "path of %zu bytes",
                       entry->key_size);
    pthread_mutex_lock(&store->lock);
    rc = append_locked(store, entry, record, err);
    pthread_mutex_unlock(&store->lock);
    return rc;
}

int mi_store_reserve(struct mi_store *store, uint64_t size, void **room,
                     struct mi_error *err)
{
    int rc;

    pthread_mutex_lock(&store->lock);
    rc = reserve_arena(store, size, room, err);
    pthread_mutex_unlock(&store->lock);
    return rc;
}

static int commit_locked(struct mi_store *store, uint64_t size,
                         void (*each)(void *, const struct mi_record *),
                         void *arg, struct mi_error *err)
{
    uint64_t used = atomic_load(&store->header->used), done = 0;

    while (done < size) {
        const struct mi_record *record =
            (const void *)(store->arena + used + done);

        if (mi_record_check(record, size - done, err) != 0 ||
            index_room_for_one(store, err) != 0)
            return -1;
        if (each)
            each(arg, record);
        done += mi_record_total(record->key_size, record->size);
        atomic_store_explicit(&store->header->used, used + done,
                              memory_order_release);
        publish(store, record);
    }
    return 0;
}

int mi_store_commit(struct mi_store *store, uint64_t size,
                    void (*each)(void *arg, const struct mi_record *record),
                    void *arg, struct mi_error *err)
{
    int rc;

    if (size > store->arena_reserved - atomic_load(&store->header->used))
        return mi_fail(err, MI_ERRNO, EINVAL, "commit without room");
    pthread_mutex_lock(&store->lock);
    rc = commit_locked(store, size, each, arg, err);
    pthread_mutex_unlock(&store->lock);
    return rc;
}

const struct mi_record *mi_store_find(const struct mi_store *store,
                                      enum mi_query query, const char *key,
                                      size_t key_size)
{
    uint64_t word =
        atomic_load_explicit(&store->header->table, memory_order_acquire);
    uint64_t slot = atomic_load_explicit(
        find_slot(store, word, mi_key_hash(query, key, key_size), query, key,
                  key_size),
        memory_order_acquire);

    return slot ? record_of(store, slot) : NULL;
}

uint64_t mi_store_used(const struct mi_store *store)
{
    return atomic_load_explicit(&store->header->used, memory_order_acquire);
}

const void *mi_store_bytes(const struct mi_store *store, uint64_t offset)
{
    return store->arena + offset;
}

uint64_t mi_store_count(const struct mi_store *store)
{
    return atomic_load(&store->header->count);
}

uint64_t mi_store_reserved(const struct mi_store *store)
{
    return atomic_load(&store->header->reserved);
}
