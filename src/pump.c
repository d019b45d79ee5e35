#include "pump.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "clock.h"
#include "format.h"
#include "receiver.h"
#include "sender.h"
#include "stream.h"
#include "thread.h"

#define SENDS 16 /* asks under way at once */

/* Sleeps between polls, microseconds.  They grow with the time for which
 * nothing has happened, of which they are a quarter; so nothing waits for a
 * poll much longer than it has let others wait.
 */
#define SLEEP_FIRST 20
#define SLEEP_WAITED 200  /* the longest, while a rank of the node waits */
#define SLEEP_ENDING 5000 /* while other nodes have not come to the end */
#define SLEEP_IDLE 100000
#define SLEEP_PART 4

#define PARK_AFTER 1000000 /* microseconds without a frame */

/* An ask under way to root. */
struct asking {
    mpimin_request request;
    unsigned char message[MI_ASK_MAX];
};

/* Hashes of the asks that have been forwarded: each goes out once. */
struct asked {
    uint64_t *hash; /* open addressing, 0 is free */
    size_t slots, used;
};

struct mi_pump {
    struct mi_pump_config config;
    struct mi_thread thread;
    atomic_uint_fast64_t bytes;
    uint64_t active; /* when something last happened, nanoseconds */
    int ended;       /* END has been sent or received */
    int broken;      /* the thread has given up */
    /* root */
    struct mi_sender *sender; /* NULL without a stream */
    int done;                 /* leaders that have detached */
    /* followers */
    struct mi_receiver *receiver;
    struct asking asks[SENDS];
    struct asked asked;
    mpimin_request detach;
    int detach_sent;
};

/* Microseconds since something has happened. */
static uint64_t idle_for(const struct mi_pump *pump)
{
    return (mi_clock_now() - pump->active) / 1000;
}

/* ---- root --------------------------------------------------------------- */

static int receive_asks(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    unsigned char message[MI_ASK_MAX];
    size_t size;
    int got;

    for (;;) {
        if (mi_stream_receive(&pump->config, MI_TAG_ASK, message,
                              sizeof(message), &size, &got, err) != 0)
            return -1;
        if (!got)
            break;
        *busy = 1;
        if (mi_reader_submit(pump->config.reader, message, size, err) != 0)
            return -1;
    }
    if (mi_stream_receive(&pump->config, MI_TAG_DONE, message, sizeof(message),
                          &size, &got, err) != 0)
        return -1;
    pump->done += got;
    *busy |= got;
    return 0;
}

static int submit_asks(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    unsigned char message[MI_ASK_MAX];
    size_t size;

    while ((size = mi_mailbox_take(pump->config.mailbox, message)) > 0) {
        *busy = 1;
        if (mi_reader_submit(pump->config.reader, message, size, err) != 0)
            return -1;
    }
    return 0;
}

/* Has every rank of every node detached, with nothing left to do? */
static int all_done(const struct mi_pump *pump)
{
    const struct mi_pump_config *c = &pump->config;

    return mi_mailbox_detached(c->mailbox) >= c->mates &&
           (!c->leaders || pump->done == c->size - 1) &&
           mi_reader_settle(c->reader) == 0;
}

/* One round of root's pump. */
static int serve(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    int all;

    if (submit_asks(pump, busy, err) != 0)
        return -1;
    if (!pump->config.leaders) {
        pump->ended = all_done(pump);
        return 0;
    }
    if (receive_asks(pump, busy, err) != 0 ||
        mi_sender_send(pump->sender, busy, &all, err) != 0)
        return -1;
    if (!all)
        return 0;
    if (!all_done(pump))
        return idle_for(pump) < PARK_AFTER ? 0
                                           : mi_sender_park(pump->sender, err);
    pump->ended = 1;
    return mi_sender_end(pump->sender, err);
}

/* ---- followers: asks ---------------------------------------------------- */

/* Note 'hash' as asked; 1 if it was already. */
static int asked_before(struct asked *asked, uint64_t hash)
{
    struct asked bigger = {.slots = asked->slots ? asked->slots * 2 : 256};
    size_t i;

    hash = hash ? hash : 1;
    if (2 * asked->used >= asked->slots) {
        bigger.hash = calloc(bigger.slots, sizeof(*bigger.hash));
        if (!bigger.hash)
            return 0; /* asked twice does no harm */
        for (size_t n = 0; n < asked->slots; n++)
            if (asked->hash[n])
                asked_before(&bigger, asked->hash[n]);
        free(asked->hash);
        *asked = bigger;
    }
    for (i = hash % asked->slots; asked->hash[i]; i = (i + 1) % asked->slots)
        if (asked->hash[i] == hash)
            return 1;
    asked->hash[i] = hash;
    asked->used++;
    return 0;
}

static struct asking *free_asking(struct mi_pump *pump, struct mi_error *err,
                                  int *rc)
{
    int done;

    for (int i = 0; i < SENDS; i++) {
        if (mpimin_test(pump->config.mpi, &pump->asks[i].request, &done,
                        err) != 0) {
            *rc = -1;
            return NULL;
        }
        if (done)
            return &pump->asks[i];
    }
    return NULL;
}

static int forward_asks(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    const struct mi_pump_config *c = &pump->config;
    struct asking *asking;
    size_t size;
    int rc = 0;

    while ((asking = free_asking(pump, err, &rc)) != NULL) {
        size = mi_mailbox_take(c->mailbox, asking->message);
        if (size == 0)
            return 0;
        *busy = 1;
        if (asked_before(&pump->asked, mi_hash(3, asking->message, size)))
            continue;
        if (mpimin_isend(c->mpi, asking->message, size, 0, (int)MI_TAG_ASK,
                         c->leaders, &asking->request, err) != 0)
            return -1;
    }
    return rc;
}

static int say_detached(struct mi_pump *pump, struct mi_error *err)
{
    const struct mi_pump_config *c = &pump->config;

    if (pump->detach_sent || mi_mailbox_detached(c->mailbox) < c->mates)
        return 0;
    pump->detach_sent = 1;
    return mpimin_isend(c->mpi, &pump->detach_sent, sizeof(int), 0,
                        (int)MI_TAG_DONE, c->leaders, &pump->detach, err);
}

/* One round of a follower's pump. */
static int follow(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    int done;

    if (mi_receiver_receive(pump->receiver, busy, err) != 0 ||
        forward_asks(pump, busy, err) != 0 || say_detached(pump, err) != 0)
        return -1;
    pump->ended = mi_receiver_ended(pump->receiver);
    if (!pump->ended)
        return 0;
    for (int i = 0; i < SENDS; i++)
        if (mpimin_wait(pump->config.mpi, &pump->asks[i].request, -1, &done,
                        err) != 0)
            return -1;
    return mpimin_wait(pump->config.mpi, &pump->detach, -1, &done, err);
}

/* ---- the thread --------------------------------------------------------- */

/* The longest sleep that is right now, microseconds. */
static long longest_sleep(const struct mi_pump *pump)
{
    const struct mi_pump_config *c = &pump->config;

    if (mi_mailbox_waiters(c->mailbox) > 0)
        return SLEEP_WAITED;
    return mi_mailbox_detached(c->mailbox) < c->mates ? SLEEP_IDLE
                                                      : SLEEP_ENDING;
}

/* Sleep until there may be something to do: a kick says so for this node, but
 * messages are found by polling only.
 */
static void rest(struct mi_pump *pump, uint32_t seen)
{
    long longest = longest_sleep(pump);
    uint64_t sleep = idle_for(pump) / SLEEP_PART;

    if (!pump->config.leaders) {
        mi_mailbox_sleep(pump->config.mailbox, seen, -1);
        return;
    }
    sleep = sleep > SLEEP_FIRST ? sleep : SLEEP_FIRST;
    mi_mailbox_sleep(pump->config.mailbox, seen,
                     sleep < (uint64_t)longest ? (long)sleep : longest);
    if (mi_mailbox_kicks(pump->config.mailbox) != seen)
        pump->active = mi_clock_now();
}

static void *run(void *arg)
{
    struct mi_pump *pump = arg;
    struct mi_error err;
    uint32_t seen;
    int busy, rc = 0;

    mi_error_clear(&err);
    pump->active = mi_clock_now();
    while (rc == 0 && !pump->ended) {
        seen = mi_mailbox_kicks(pump->config.mailbox);
        busy = 0;
        rc = pump->config.reader ? serve(pump, &busy, &err)
                                 : follow(pump, &busy, &err);
        if (busy)
            pump->active = mi_clock_now();
        else if (rc == 0 && !pump->ended)
            rest(pump, seen);
    }
    if (rc != 0) {
        pump->broken = 1;
        mi_stream_say(&pump->config, MI_FIRST_DIRECT,
                      "the stream of modules has broken", &err);
    }
    mi_mailbox_set_stream(pump->config.mailbox, MI_STREAM_GONE);
    return NULL;
}

static int create_stream(struct mi_pump *pump, struct mi_error *err)
{
    if (!pump->config.leaders)
        return 0;
    if (pump->config.reader)
        return mi_sender_create(&pump->sender, &pump->config, &pump->bytes,
                                err);
    return mi_receiver_create(&pump->receiver, &pump->config, &pump->bytes,
                              err);
}

static void destroy_stream(struct mi_pump *pump)
{
    mi_sender_destroy(pump->sender);
    pump->sender = NULL;
    mi_receiver_destroy(pump->receiver);
    pump->receiver = NULL;
}

int mi_pump_start(struct mi_pump **result, const struct mi_pump_config *config,
                  struct mi_error *err)
{
    struct mi_pump *pump = calloc(1, sizeof(*pump));

    if (!pump)
        return mi_fail_errno(err, "pump");
    pump->config = *config;
    if (create_stream(pump, err) != 0 ||
        mi_thread_start(&pump->thread, "mpiimport-pump", run, pump, err) !=
            0) {
        destroy_stream(pump);
        free(pump);
        return -1;
    }
    *result = pump;
    return 0;
}

int mi_pump_finish(struct mi_pump *pump)
{
    mi_mailbox_kick(pump->config.mailbox);
    mi_thread_join(&pump->thread);
    if (pump->broken)
        return -1; /* MPI may still be using the buffers */
    destroy_stream(pump);
    free(pump->asked.hash);
    pump->asked = (struct asked){0};
    return 0;
}

uint64_t mi_pump_bytes(const struct mi_pump *pump)
{
    return atomic_load(&pump->bytes);
}
