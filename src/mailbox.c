#include "mailbox.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "segment.h"

#define MAGIC 0x3178626dU
#define SLOTS 32

enum { SLOT_FREE, SLOT_CLAIMED, SLOT_READY };

struct slot {
    atomic_uint state;
    atomic_uint size;
    unsigned char message[MI_ASK_MAX];
};

struct shared {
    uint32_t magic;
    atomic_uint growth;
    atomic_uint waiters;
    atomic_uint kicks;
    atomic_uint asleep;
    atomic_uint stream;
    atomic_uint ready;
    atomic_uint detached;
    atomic_uint first;
    atomic_uint has_mirror;
    char mirror[PATH_MAX];
    struct slot slots[SLOTS];
};

struct mi_mailbox {
    struct mi_segment segment;
    struct shared *shared;
};

static void futex_wait(atomic_uint *word, unsigned seen, long microseconds)
{
    struct timespec limit = {.tv_sec = microseconds / 1000000,
                             .tv_nsec = microseconds % 1000000 * 1000};

    syscall(SYS_futex, word, FUTEX_WAIT, seen,
            microseconds < 0 ? NULL : &limit, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Give a handle to a mapped segment. */
static int wrap(struct mi_mailbox **result, struct mi_segment *segment,
                struct mi_error *err)
{
    struct mi_mailbox *box = calloc(1, sizeof(*box));

    if (!box) {
        mi_fail_errno(err, "mailbox");
        mi_segment_clear(segment);
        return -1;
    }
    box->segment = *segment;
    box->shared = segment->base;
    *result = box;
    return 0;
}

int mi_mailbox_create(struct mi_mailbox **box, int dir, const char *name,
                      struct mi_error *err)
{
    struct mi_segment segment;

    if (mi_segment_create(&segment, dir, name, sizeof(struct shared), err) !=
        0)
        return -1;
    if (mi_segment_reserve(&segment, 0, segment.size, err) != 0) {
        unlinkat(dir, name, 0);
        mi_segment_clear(&segment);
        return -1;
    }
    ((struct shared *)segment.base)->magic = MAGIC;
    return wrap(box, &segment, err);
}

int mi_mailbox_create_private(struct mi_mailbox **box, struct mi_error *err)
{
    struct mi_segment segment;

    if (mi_segment_create_private(&segment, sizeof(struct shared), err) != 0)
        return -1;
    return wrap(box, &segment, err);
}

int mi_mailbox_open(struct mi_mailbox **box, int dir, const char *name,
                    struct mi_error *err)
{
    struct mi_segment segment;

    if (mi_segment_open(&segment, dir, name, 1, sizeof(struct shared), err) !=
        0)
        return -1;
    if (((struct shared *)segment.base)->magic != MAGIC) {
        mi_segment_clear(&segment);
        return mi_fail(err, MI_FORMAT, EBADMSG, "%s is no mailbox", name);
    }
    return wrap(box, &segment, err);
}

void mi_mailbox_destroy(struct mi_mailbox *box)
{
    if (!box)
        return;
    mi_segment_clear(&box->segment);
    free(box);
}

uint32_t mi_mailbox_growth(const struct mi_mailbox *box)
{
    return atomic_load(&box->shared->growth);
}

void mi_mailbox_wait_growth(struct mi_mailbox *box, uint32_t seen,
                            int milliseconds)
{
    atomic_fetch_add(&box->shared->waiters, 1);
    futex_wait(&box->shared->growth, seen, milliseconds * 1000L);
    atomic_fetch_sub(&box->shared->waiters, 1);
}

void mi_mailbox_grown(struct mi_mailbox *box)
{
    atomic_fetch_add(&box->shared->growth, 1);
    if (atomic_load(&box->shared->waiters) > 0)
        futex_wake(&box->shared->growth);
}

int mi_mailbox_waiters(const struct mi_mailbox *box)
{
    return (int)atomic_load(&box->shared->waiters);
}

enum mi_stream mi_mailbox_stream(const struct mi_mailbox *box)
{
    return (enum mi_stream)atomic_load(&box->shared->stream);
}

void mi_mailbox_set_stream(struct mi_mailbox *box, enum mi_stream stream)
{
    unsigned old = atomic_load(&box->shared->stream);

    while (old < (unsigned)stream &&
           !atomic_compare_exchange_weak(&box->shared->stream, &old,
                                         (unsigned)stream))
        continue;
    mi_mailbox_grown(box);
}

int mi_mailbox_post(struct mi_mailbox *box, const void *message, size_t size)
{
    if (size > MI_ASK_MAX)
        return 0;
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &box->shared->slots[i];
        unsigned expected = SLOT_FREE;

        if (!atomic_compare_exchange_strong(&slot->state, &expected,
                                            SLOT_CLAIMED))
            continue;
        memcpy(slot->message, message, size);
        atomic_store(&slot->size, (unsigned)size);
        atomic_store(&slot->state, SLOT_READY);
        atomic_fetch_add(&box->shared->ready, 1);
        mi_mailbox_kick(box);
        return 1;
    }
    return 0;
}

size_t mi_mailbox_take(struct mi_mailbox *box, void *message)
{
    size_t size;

    if (atomic_load(&box->shared->ready) == 0)
        return 0;
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &box->shared->slots[i];

        if (atomic_load(&slot->state) != SLOT_READY)
            continue;
        /* The size was written by another process: never trust it. */
        size = atomic_load(&slot->size);
        size = size <= MI_ASK_MAX ? size : 0;
        memcpy(message, slot->message, size);
        atomic_store(&slot->state, SLOT_FREE);
        atomic_fetch_sub(&box->shared->ready, 1);
        if (size > 0)
            return size;
    }
    return 0;
}

uint32_t mi_mailbox_kicks(const struct mi_mailbox *box)
{
    return atomic_load(&box->shared->kicks);
}

void mi_mailbox_sleep(struct mi_mailbox *box, uint32_t seen, long microseconds)
{
    atomic_store(&box->shared->asleep, 1);
    futex_wait(&box->shared->kicks, seen, microseconds);
    atomic_store(&box->shared->asleep, 0);
}

void mi_mailbox_kick(struct mi_mailbox *box)
{
    atomic_fetch_add(&box->shared->kicks, 1);
    if (atomic_load(&box->shared->asleep))
        futex_wake(&box->shared->kicks);
}

void mi_mailbox_detach(struct mi_mailbox *box)
{
    atomic_fetch_add(&box->shared->detached, 1);
    mi_mailbox_kick(box);
}

int mi_mailbox_detached(const struct mi_mailbox *box)
{
    return (int)atomic_load(&box->shared->detached);
}

int mi_mailbox_first(struct mi_mailbox *box, unsigned bit)
{
    unsigned mask = 1u << bit;

    return (atomic_fetch_or(&box->shared->first, mask) & mask) == 0;
}

void mi_mailbox_set_mirror(struct mi_mailbox *box, const char *path)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of writers */
    size_t size = strlen(path);

    if (size == 0 || size >= sizeof(box->shared->mirror))
        return;
    pthread_mutex_lock(&lock);
    if (!atomic_load(&box->shared->has_mirror)) {
        memcpy(box->shared->mirror, path, size + 1);
        atomic_store_explicit(&box->shared->has_mirror, 1,
                              memory_order_release);
    }
    pthread_mutex_unlock(&lock);
}

const char *mi_mailbox_mirror(const struct mi_mailbox *box)
{
    return atomic_load_explicit(&box->shared->has_mirror, memory_order_acquire)
               ? box->shared->mirror
               : "";
}
