#include "pump.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "thread.h"

#define TAG_ASK 1
#define TAG_DONE 2
#define TAG_WAKE 3
#define WINDOW 8 /* frames under way at once */
#define AHEAD 4  /* of these, being received by one follower */
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

/* A frame under way from root. */
struct sending {
    struct mi_packet packet;
    mpimin_request header, payload;
    struct mi_object object; /* to be cleared when the payload is out */
};

/* A frame that a follower expects or receives. */
struct receiving {
    struct mi_packet packet;
    mpimin_request header, payload;
    int checked;  /* the header has come */
    int begun;    /* and the payload is being received */
    void *room;   /* where to; NULL if the packet has it */
    int scratch;  /* it cannot be stored */
    uint64_t due; /* bytes of the arena that it is to fill */
};

/* An ask under way to root. */
struct asking {
    mpimin_request request;
    unsigned char message[MI_ASK_MAX];
};

/* An object that a follower holds until its record comes. */
struct held {
    struct held *next;
    struct mi_part part;
    char *bytes; /* it is received in place */
    uint64_t size;
};

/* Hashes of the asks that have been forwarded: each goes out once. */
struct asked {
    uint64_t *hash; /* open addressing, 0 is free */
    size_t slots, used;
};

struct mi_pump {
    struct mi_pump_config config;
    pthread_t thread;
    atomic_uint_fast64_t bytes;
    uint64_t active;   /* when something last happened, nanoseconds */
    uint64_t sequence; /* of the next frame */
    int parked;        /* PARK has been sent or received, and no wake since */
    int ended;         /* END has been sent or received */
    int broken;        /* the thread has given up */
    /* root */
    struct sending window[WINDOW];
    uint64_t sent;   /* bytes of the arena that are in frames */
    uint64_t target; /* send up to here before looking again */
    struct mi_object object;
    uint64_t object_sent;
    int full_sent;
    int done;              /* leaders that have detached */
    mpimin_request *wakes; /* to each follower */
    /* followers */
    struct receiving ring[AHEAD];
    unsigned first, next;        /* of those in use; they only grow */
    struct receiving *expecting; /* its header: always the youngest */
    int last;                    /* no header follows for now */
    uint64_t due;                /* bytes of the arena on their way */
    void *scratch;               /* for what cannot be stored */
    size_t scratch_size;
    struct held *held; /* the one being filled in first; whole ones behind */
    int part_lost;
    int dropping; /* all that is held, as soon as nothing is on its way */
    struct asking asks[SENDS];
    struct asked asked;
    mpimin_request detach;
    int detach_sent;
};

/* ---- root: the window --------------------------------------------------- */

static int test_sending(struct mi_pump *pump, struct sending *sending,
                        int *busy, struct mi_error *err)
{
    struct mpimin *mpi = pump->config.mpi;
    int header, payload;

    if (!sending->header && !sending->payload)
        return 0;
    if (mpimin_test(mpi, &sending->header, &header, err) != 0 ||
        mpimin_test(mpi, &sending->payload, &payload, err) != 0)
        return -1;
    if (header && payload)
        *busy = 1;
    return 0;
}

static int is_out(const struct sending *sending)
{
    return !sending->header && !sending->payload;
}

/* Is a piece of that object on its way?  Broadcasts end in any order. */
static int is_sending(const struct mi_pump *pump, uint64_t object)
{
    for (int i = 0; i < WINDOW; i++)
        if (!is_out(&pump->window[i]) &&
            pump->window[i].packet.frame.object == object)
            return 1;
    return 0;
}

/* Unmap objects of which all pieces are out. */
static void clear_objects(struct mi_pump *pump)
{
    for (int i = 0; i < WINDOW; i++)
        if (pump->window[i].object.id &&
            !is_sending(pump, pump->window[i].object.id))
            mi_object_clear(&pump->window[i].object);
}

static struct sending *free_sending(struct mi_pump *pump)
{
    for (int i = 0; i < WINDOW; i++)
        if (is_out(&pump->window[i]) && !pump->window[i].object.id)
            return &pump->window[i];
    return NULL;
}

/* ---- root: parking ------------------------------------------------------ */

/* Microseconds since something has happened. */
static uint64_t idle_for(const struct mi_pump *pump)
{
    return (mi_clock_now() - pump->active) / 1000;
}

static int wakes_out(struct mi_pump *pump, int *out, struct mi_error *err)
{
    int done;

    *out = 1;
    for (int i = 1; i < pump->config.size; i++) {
        if (mpimin_test(pump->config.mpi, &pump->wakes[i], &done, err) != 0)
            return -1;
        *out &= done;
    }
    return 0;
}

/* Tell all followers, not only the next ones in MPI's tree, so that they wake
 * up at the same time and not one after the other.
 */
static int wake(struct mi_pump *pump, struct mi_error *err)
{
    const struct mi_pump_config *c = &pump->config;

    for (int i = 1; i < c->size; i++)
        if (mpimin_isend(c->mpi, NULL, 0, i, TAG_WAKE, c->leaders,
                         &pump->wakes[i], err) != 0)
            return -1;
    pump->parked = 0;
    return 0;
}

/* ---- root: frames ------------------------------------------------------- */

/* Broadcast one frame, its payload from 'payload'.  A small one is copied. */
static int send_frame(struct mi_pump *pump, struct sending *sending,
                      const struct mi_frame *frame, const void *payload,
                      struct mi_error *err)
{
    const struct mi_pump_config *c = &pump->config;
    struct mi_packet *packet = &sending->packet;
    size_t size = frame->size;

    if (pump->parked && wake(pump, err) != 0)
        return -1;
    packet->frame = *frame;
    packet->frame.sequence = pump->sequence++;
    mi_frame_seal(&packet->frame);
    if (size > 0 && size <= MI_PACKET_BYTES)
        memcpy(packet->bytes, payload, size);
    if (mpimin_ibcast(c->mpi, packet, sizeof(*packet), 0, c->leaders,
                      &sending->header, err) != 0)
        return -1;
    atomic_fetch_add(&pump->bytes, sizeof(*packet));
    if (size <= MI_PACKET_BYTES)
        return 0;
    atomic_fetch_add(&pump->bytes, size);
    return mpimin_ibcast(c->mpi, (void *)(uintptr_t)payload, size, 0,
                         c->leaders, &sending->payload, err);
}

static int send_object(struct mi_pump *pump, struct sending *sending,
                       struct mi_error *err)
{
    uint64_t left = pump->object.size - pump->object_sent;
    struct mi_frame frame = {.type = MI_FRAME_OBJECT,
                             .offset = pump->object_sent,
                             .size = left < MI_FRAME_MAX ? left : MI_FRAME_MAX,
                             .object = pump->object.id,
                             .object_size = pump->object.size,
                             .object_mode = pump->object.mode};
    const char *bytes = pump->object.bytes;

    if (send_frame(pump, sending, &frame, bytes + frame.offset, err) != 0)
        return -1;
    pump->object_sent += frame.size;
    if (pump->object_sent == pump->object.size) {
        sending->object = pump->object; /* unmapped once it is out */
        pump->object = (struct mi_object){0};
        pump->object_sent = 0;
    }
    return 0;
}

/* Bytes of whole records from 'sent' on, about MI_FRAME_MAX of them. */
static uint64_t stretch(const struct mi_pump *pump)
{
    uint64_t end = pump->sent;

    if (pump->target - pump->sent <= MI_FRAME_MAX)
        return pump->target - pump->sent;
    while (end < pump->target && end - pump->sent < MI_FRAME_MAX) {
        const struct mi_record *record =
            mi_store_bytes(pump->config.store, end);

        end += mi_record_total(record->key_size, record->size);
    }
    return end - pump->sent;
}

/* Objects go before the records that name them: what was committed before
 * 'target' was read has its objects in the queue.
 */
static int send_next(struct mi_pump *pump, struct sending *sending, int *busy,
                     struct mi_error *err)
{
    struct mi_frame frame = {.type = MI_FRAME_RECORDS, .offset = pump->sent};

    if (pump->sent == pump->target)
        pump->target = mi_store_used(pump->config.store);
    if (pump->object.id ||
        mi_reader_object(pump->config.reader, &pump->object)) {
        *busy = 1;
        return send_object(pump, sending, err);
    }
    if (pump->sent < pump->target) {
        *busy = 1;
        frame.size = stretch(pump);
        pump->sent += frame.size;
        return send_frame(pump, sending, &frame,
                          mi_store_bytes(pump->config.store, frame.offset),
                          err);
    }
    if (!pump->full_sent &&
        mi_mailbox_stream(pump->config.mailbox) == MI_STREAM_FULL) {
        *busy = 1;
        pump->full_sent = 1;
        frame.type = MI_FRAME_FULL;
        return send_frame(pump, sending, &frame, NULL, err);
    }
    return 0;
}

static int all_sent(const struct mi_pump *pump)
{
    return pump->sent == pump->target &&
           pump->sent == mi_store_used(pump->config.store) && !pump->object.id;
}

/* Has every rank of every node detached, with nothing left to do? */
static int all_done(const struct mi_pump *pump)
{
    const struct mi_pump_config *c = &pump->config;

    return mi_mailbox_detached(c->mailbox) >= c->mates &&
           (!c->leaders || pump->done == c->size - 1) &&
           mi_reader_settle(c->reader) == 0;
}

/* A broadcast that followers wait for makes every call of MPI in their
 * programs a little slower: leave none while nothing is read.
 */
static int park(struct mi_pump *pump, struct sending *sending,
                struct mi_error *err)
{
    const struct mi_frame frame = {.type = MI_FRAME_PARK};
    int out;

    if (pump->parked || idle_for(pump) < PARK_AFTER)
        return 0;
    if (wakes_out(pump, &out, err) != 0)
        return -1;
    if (!out)
        return 0;
    if (send_frame(pump, sending, &frame, NULL, err) != 0)
        return -1;
    pump->parked = 1;
    return 0;
}

static int send_frames(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    struct mi_frame end = {.type = MI_FRAME_END};
    struct sending *sending;

    for (int i = 0; i < WINDOW; i++)
        if (test_sending(pump, &pump->window[i], busy, err) != 0)
            return -1;
    clear_objects(pump);
    sending = free_sending(pump);
    if (!sending)
        return 0;
    if (send_next(pump, sending, busy, err) != 0)
        return -1;
    if (*busy || !all_sent(pump))
        return 0;
    if (!all_done(pump))
        return park(pump, sending, err);
    pump->ended = 1;
    return send_frame(pump, sending, &end, NULL, err);
}

/* Wait until the last frames are out. */
static int flush(struct mi_pump *pump, struct mi_error *err)
{
    int done;

    for (int i = 0; i < WINDOW; i++)
        if (mpimin_wait(pump->config.mpi, &pump->window[i].header, -1, &done,
                        err) != 0 ||
            mpimin_wait(pump->config.mpi, &pump->window[i].payload, -1, &done,
                        err) != 0)
            return -1;
    for (int i = 1; i < pump->config.size; i++)
        if (mpimin_wait(pump->config.mpi, &pump->wakes[i], -1, &done, err) !=
            0)
            return -1;
    return 0;
}

/* ---- root: asks --------------------------------------------------------- */

static int receive(struct mi_pump *pump, int tag, void *message, size_t room,
                   size_t *size, int *got, struct mi_error *err)
{
    const struct mi_pump_config *c = &pump->config;
    int source;

    if (mpimin_iprobe(c->mpi, tag, c->leaders, got, &source, size, err) != 0)
        return -1;
    if (!*got)
        return 0;
    if (*size > room)
        return mi_fail(err, MI_FORMAT, EBADMSG,
                       "message of %zu bytes from leader %d", *size, source);
    return mpimin_recv(c->mpi, message, *size, source, tag, c->leaders, err);
}

static int receive_asks(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    unsigned char message[MI_ASK_MAX];
    size_t size;
    int got;

    for (;;) {
        if (receive(pump, TAG_ASK, message, sizeof(message), &size, &got,
                    err) != 0)
            return -1;
        if (!got)
            break;
        *busy = 1;
        if (mi_reader_submit(pump->config.reader, message, size, err) != 0)
            return -1;
    }
    if (receive(pump, TAG_DONE, message, sizeof(message), &size, &got, err) !=
        0)
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

/* One round of root's pump. */
static int serve(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    if (submit_asks(pump, busy, err) != 0)
        return -1;
    if (!pump->config.leaders) {
        pump->ended = all_done(pump);
        return 0;
    }
    if (receive_asks(pump, busy, err) != 0 ||
        send_frames(pump, busy, err) != 0)
        return -1;
    return pump->ended ? flush(pump, err) : 0;
}

/* ---- followers: frames -------------------------------------------------- */

static void say(struct mi_pump *pump, unsigned first, const char *what,
                const struct mi_error *why)
{
    char text[1400];

    snprintf(text, sizeof(text),
             "%s: %s; what is missing on this node is read directly from the "
             "filesystem " MI_WAY_OUT,
             what, why->text);
    pump->config.notice(pump->config.arg, first, text);
}

static void release(struct mi_pump *pump, struct held *held)
{
    if (held->bytes)
        munmap(held->bytes, held->size);
    if (held->part.id)
        mi_mirror_abandon(pump->config.mirror, &held->part);
    free(held);
}

static void release_all(struct mi_pump *pump)
{
    struct held *held;

    while ((held = pump->held) != NULL) {
        pump->held = held->next;
        release(pump, held);
    }
    pump->dropping = 0;
}

/* The records of what is held will not come.  MPI may be writing to it. */
static void drop_held(struct mi_pump *pump)
{
    pump->dropping = 1;
    pump->part_lost = 1; /* what comes of the one that was on its way */
}

/* This node can hold no more; the stream is followed to its end all the
 * same, because broadcasts are collective.
 */
static void stop_storing(struct mi_pump *pump, const struct mi_error *why)
{
    if (mi_mailbox_stream(pump->config.mailbox) != MI_STREAM_OPEN)
        return;
    mi_mailbox_set_stream(pump->config.mailbox, MI_STREAM_FULL);
    drop_held(pump); /* their records will not be stored */
    say(pump, MI_FIRST_DIRECT, "the node store is full", why);
}

/* Receive into memory of our own.  There always is enough for a frame of the
 * usual size; only a single large record needs more.
 */
static int use_scratch(struct mi_pump *pump, struct receiving *frame,
                       struct mi_error *err)
{
    size_t size = frame->packet.frame.size;
    void *bigger;

    if (size > pump->scratch_size) {
        bigger = realloc(pump->scratch, size);
        if (!bigger)
            return mi_fail_errno(err, "cannot receive %zu bytes", size);
        pump->scratch = bigger;
        pump->scratch_size = size;
    }
    frame->room = pump->scratch;
    frame->scratch = 1;
    return 0;
}

static int is_open(const struct mi_pump *pump)
{
    return mi_mailbox_stream(pump->config.mailbox) == MI_STREAM_OPEN;
}

/* The arena is behind by what is due before this frame. */
static void room_for_records(struct mi_pump *pump, struct receiving *frame,
                             int alone)
{
    uint64_t size = frame->packet.frame.size;
    struct mi_error why;
    void *end;

    mi_error_clear(&why);
    if (!is_open(pump))
        return;
    if (mi_store_reserve(pump->config.store, pump->due + size, &end, &why) ==
        0)
        frame->room = (char *)end + pump->due;
    else if (alone)
        stop_storing(pump, &why);
}

/* Make room for an object; without, its pieces are dropped. */
static void begin_part(struct mi_pump *pump, const struct mi_frame *frame)
{
    struct held *held;
    void *bytes;
    struct mi_error why;

    pump->part_lost = 1;
    if (!is_open(pump))
        return;
    if (!pump->config.mirror || !(held = calloc(1, sizeof(*held))))
        return;
    held->size = frame->object_size;
    if (mi_mirror_begin(pump->config.mirror, frame->object, frame->object_size,
                        (mode_t)frame->object_mode, &held->part, &why) != 0)
        held->part.id = 0;
    if (!held->part.id || mi_part_map(&held->part, &bytes, &why) != 0) {
        release(pump, held);
        say(pump, MI_FIRST_MIRROR, "an object is not mirrored", &why);
        return;
    }
    mi_part_close(&held->part); /* there may be thousands */
    held->bytes = bytes;
    held->next = pump->held;
    pump->held = held;
    pump->part_lost = 0;
}

static int room_for_piece(struct mi_pump *pump, struct receiving *receiving,
                          struct mi_error *err)
{
    const struct mi_frame *frame = &receiving->packet.frame;

    if (pump->part_lost)
        return 0;
    if (!pump->held || frame->object != pump->held->part.id ||
        frame->object_size != pump->held->size)
        return mi_fail(err, MI_FORMAT, EBADMSG, "piece of another object");
    receiving->room = pump->held->bytes + frame->offset;
    return 0;
}

/* A header has come. */
static int check_frame(struct mi_pump *pump, struct receiving *receiving,
                       struct mi_error *err)
{
    const struct mi_frame *frame = &receiving->packet.frame;
    uint64_t used = mi_store_used(pump->config.store) + pump->due;

    if (!is_open(pump))
        used = frame->offset; /* nothing is appended any more */
    if (mi_frame_check(frame, pump->sequence, used, err) != 0)
        return -1;
    pump->sequence++;
    receiving->checked = 1;
    atomic_fetch_add(&pump->bytes, sizeof(receiving->packet));
    if (frame->type == MI_FRAME_OBJECT && frame->offset == 0)
        begin_part(pump, frame);
    return 0;
}

/* The packet has all of it.  Pieces go where they belong at once, records when
 * it is their turn.
 */
static int take_packet(struct mi_pump *pump, struct receiving *receiving,
                       struct mi_error *err)
{
    const struct mi_frame *frame = &receiving->packet.frame;

    if (frame->type != MI_FRAME_OBJECT)
        return 0;
    if (room_for_piece(pump, receiving, err) != 0)
        return -1;
    if (receiving->room)
        memcpy(receiving->room, receiving->packet.bytes, frame->size);
    return 0;
}

/* Receive the payload.  What cannot be stored goes to the scratch memory; for
 * that, and to give anything up, the frame has to be the only one on its way
 * ('alone'): otherwise it is not begun yet.
 */
static int receive_payload(struct mi_pump *pump, struct receiving *frame,
                           int alone, struct mi_error *err)
{
    const struct mi_pump_config *c = &pump->config;
    size_t size = frame->packet.frame.size;

    if (frame->packet.frame.type == MI_FRAME_RECORDS)
        room_for_records(pump, frame, alone);
    else if (room_for_piece(pump, frame, err) != 0)
        return -1;
    if (!frame->room && !alone)
        return 0;
    if (!frame->room && use_scratch(pump, frame, err) != 0)
        return -1;
    frame->begun = 1;
    atomic_fetch_add(&pump->bytes, size);
    return mpimin_ibcast(c->mpi, frame->room, size, 0, c->leaders,
                         &frame->payload, err);
}

static int begin_frame(struct mi_pump *pump, struct receiving *receiving,
                       struct mi_error *err)
{
    const struct mi_frame *frame = &receiving->packet.frame;
    int alone = pump->next - pump->first == 1;

    if (pump->dropping && !alone)
        return 0;
    if (pump->dropping)
        release_all(pump);
    if (frame->size <= MI_PACKET_BYTES) {
        receiving->begun = 1;
        if (take_packet(pump, receiving, err) != 0)
            return -1;
    } else if (receive_payload(pump, receiving, alone, err) != 0) {
        return -1;
    }
    if (!receiving->begun)
        return 0;
    receiving->due = frame->type == MI_FRAME_RECORDS ? frame->size : 0;
    pump->due += receiving->due;
    pump->last = frame->type == MI_FRAME_END || frame->type == MI_FRAME_PARK;
    return 0;
}

/* An empty file does not come through the stream. */
static void place_empty(struct mi_pump *pump, const struct mi_record *record)
{
    struct mi_part part;
    struct mi_error why;

    mi_error_clear(&why);
    if (mi_mirror_begin(pump->config.mirror, 0, 0, (mode_t)record->mode, &part,
                        &why) == 0) {
        if (mi_mirror_stamp(pump->config.mirror, &part, record->mtime, &why) !=
            0)
            mi_mirror_abandon(pump->config.mirror, &part);
        else if (mi_mirror_finish(pump->config.mirror, &part,
                                  mi_record_place(record), &why) == 0)
            mi_error_clear(&why);
    }
    if (why.domain != MI_NONE)
        say(pump, MI_FIRST_MIRROR, "an empty file is not mirrored", &why);
    mi_mailbox_set_mirror(pump->config.mailbox,
                          mi_mirror_root(pump->config.mirror));
}

/* Called for each record before it is published. */
static void place_object(void *arg, const struct mi_record *record)
{
    struct mi_pump *pump = arg;
    struct held **at = &pump->held, *held;
    struct mi_error why;

    if (record->kind != MI_KIND_MIRROR || !pump->config.mirror)
        return;
    if (record->query == MI_COPY && record->file_size == 0) {
        place_empty(pump, record);
        return;
    }
    if (!record->object) {
        if (record->key_size &&
            mi_record_key(record)[record->key_size - 1] == '/' &&
            mi_mirror_symlinks(pump->config.mirror, record, &why) != 0)
            say(pump, MI_FIRST_MIRROR, "links are not made", &why);
        return;
    }
    if (mi_record_link(record)[0]) {
        if (mi_mirror_link(pump->config.mirror, mi_record_link(record),
                           mi_record_place(record), &why) != 0)
            say(pump, MI_FIRST_MIRROR, "an object is not mirrored", &why);
        return;
    }
    while (*at && (*at)->part.id != record->object)
        at = &(*at)->next;
    held = *at;
    if (!held)
        return; /* lost: loading it fails, and is done directly */
    *at = held->next;
    if (mi_mirror_stamp(pump->config.mirror, &held->part, record->mtime,
                        &why) != 0 ||
        mi_mirror_finish(pump->config.mirror, &held->part,
                         mi_record_place(record), &why) != 0)
        say(pump, MI_FIRST_MIRROR, "an object is not mirrored", &why);
    release(pump, held);
    mi_mailbox_set_mirror(pump->config.mailbox,
                          mi_mirror_root(pump->config.mirror));
}

static int store_records(struct mi_pump *pump,
                         const struct receiving *receiving,
                         struct mi_error *err)
{
    uint64_t size = receiving->packet.frame.size;
    void *end;

    if (!receiving->room) {
        if (mi_store_reserve(pump->config.store, size, &end, err) != 0)
            return -1;
        memcpy(end, receiving->packet.bytes, size);
    }
    return mi_store_commit(pump->config.store, size, place_object, pump, err);
}

static int take_records(struct mi_pump *pump,
                        const struct receiving *receiving,
                        struct mi_error *err)
{
    if (receiving->scratch || !is_open(pump))
        return 0;
    if (store_records(pump, receiving, err) != 0) {
        if (err->domain == MI_FORMAT)
            return -1;
        stop_storing(pump, err);
    }
    mi_mailbox_grown(pump->config.mailbox);
    return 0;
}

/* A frame is complete. */
static int take_frame(struct mi_pump *pump, const struct receiving *receiving,
                      struct mi_error *err)
{
    int rc = 0;

    pump->due -= receiving->due;
    switch (receiving->packet.frame.type) {
    case MI_FRAME_RECORDS:
        rc = take_records(pump, receiving, err);
        break;
    case MI_FRAME_OBJECT:
        break; /* it has been received in place */
    case MI_FRAME_FULL:
        mi_mailbox_set_stream(pump->config.mailbox, MI_STREAM_FULL);
        drop_held(pump);
        break;
    case MI_FRAME_PARK:
        pump->parked = 1;
        break;
    default:
        pump->ended = 1;
    }
    return rc;
}

/* Broadcasts are collective, so that a follower starts them in root's order:
 * a header, its payload, the next header.  It need not wait for a payload
 * before it starts the next header, so that it hands on several to those
 * below it in MPI's tree.
 */
static int expect_frame(struct mi_pump *pump, struct mi_error *err)
{
    struct receiving *receiving = &pump->ring[pump->next % AHEAD];

    if (pump->last || pump->next - pump->first == AHEAD)
        return 0;
    *receiving = (struct receiving){0};
    pump->next++;
    pump->expecting = receiving;
    return mpimin_ibcast(pump->config.mpi, &receiving->packet,
                         sizeof(receiving->packet), 0, pump->config.leaders,
                         &receiving->header, err);
}

/* Begin with the youngest frame, if its header is there. */
static int begin_next(struct mi_pump *pump, int *begun, struct mi_error *err)
{
    struct receiving *receiving = pump->expecting;
    int done;

    if (!receiving)
        return expect_frame(pump, err);
    if (mpimin_test(pump->config.mpi, &receiving->header, &done, err) != 0)
        return -1;
    if (!done)
        return 0;
    if (!receiving->checked && check_frame(pump, receiving, err) != 0)
        return -1;
    if (begin_frame(pump, receiving, err) != 0)
        return -1;
    *begun = receiving->begun;
    if (!receiving->begun)
        return 0;
    pump->expecting = NULL;
    return expect_frame(pump, err);
}

/* Take the oldest frame, if it is whole. */
static int take_next(struct mi_pump *pump, int *taken, struct mi_error *err)
{
    struct receiving *receiving = &pump->ring[pump->first % AHEAD];

    if (pump->first == pump->next || !receiving->begun)
        return 0;
    if (mpimin_test(pump->config.mpi, &receiving->payload, taken, err) != 0)
        return -1;
    if (!*taken)
        return 0;
    if (take_frame(pump, receiving, err) != 0)
        return -1;
    pump->first++;
    return 0;
}

/* Parked: has root something to send again? */
static int await_wake(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    size_t size;
    int got;

    if (receive(pump, TAG_WAKE, NULL, 0, &size, &got, err) != 0)
        return -1;
    if (!got)
        return 0;
    *busy = 1;
    pump->parked = 0;
    pump->last = 0;
    return 0;
}

/* Receive as much as is there. */
static int receive_frames(struct mi_pump *pump, int *busy,
                          struct mi_error *err)
{
    int begun, taken;

    if (pump->parked && await_wake(pump, busy, err) != 0)
        return -1;
    do {
        begun = taken = 0;
        if (begin_next(pump, &begun, err) != 0 ||
            take_next(pump, &taken, err) != 0)
            return -1;
        *busy |= begun | taken;
    } while (begun || taken);
    return 0;
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
        if (mpimin_isend(c->mpi, asking->message, size, 0, TAG_ASK, c->leaders,
                         &asking->request, err) != 0)
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
    return mpimin_isend(c->mpi, &pump->detach_sent, sizeof(int), 0, TAG_DONE,
                        c->leaders, &pump->detach, err);
}

/* One round of a follower's pump. */
static int follow(struct mi_pump *pump, int *busy, struct mi_error *err)
{
    int done;

    if (receive_frames(pump, busy, err) != 0 ||
        forward_asks(pump, busy, err) != 0 || say_detached(pump, err) != 0)
        return -1;
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
        say(pump, MI_FIRST_DIRECT, "the stream of modules has broken", &err);
    }
    mi_mailbox_set_stream(pump->config.mailbox, MI_STREAM_GONE);
    return NULL;
}

/* What root, or a follower, needs for the stream. */
static int allocate(struct mi_pump *pump, struct mi_error *err)
{
    if (pump->config.reader) {
        pump->wakes = calloc((size_t)pump->config.size, sizeof(*pump->wakes));
    } else {
        pump->scratch_size = MI_FRAME_MAX;
        pump->scratch = malloc(pump->scratch_size);
    }
    return pump->wakes || pump->scratch ? 0 : mi_fail_errno(err, "pump");
}

int mi_pump_start(struct mi_pump **result, const struct mi_pump_config *config,
                  struct mi_error *err)
{
    struct mi_pump *pump = calloc(1, sizeof(*pump));

    if (!pump)
        return mi_fail_errno(err, "pump");
    pump->config = *config;
    if (config->leaders && allocate(pump, err) != 0) {
        free(pump);
        return -1;
    }
    if (mi_thread_start(&pump->thread, "mpiimport-pump", run, pump, err) !=
        0) {
        free(pump->scratch);
        free(pump->wakes);
        free(pump);
        return -1;
    }
    *result = pump;
    return 0;
}

int mi_pump_finish(struct mi_pump *pump)
{
    mi_mailbox_kick(pump->config.mailbox);
    pthread_join(pump->thread, NULL);
    if (pump->broken)
        return -1; /* MPI may still be using the buffers */
    release_all(pump);
    for (int i = 0; i < WINDOW; i++)
        mi_object_clear(&pump->window[i].object);
    mi_object_clear(&pump->object);
    free(pump->asked.hash);
    pump->asked = (struct asked){0};
    free(pump->scratch);
    pump->scratch = NULL;
    free(pump->wakes);
    pump->wakes = NULL;
    return 0;
}

uint64_t mi_pump_bytes(const struct mi_pump *pump)
{
    return atomic_load(&pump->bytes);
}
