#include "receiver.h"

#include <stdlib.h>
#include <string.h>

#include "arrivals.h"
#include "format.h"
#include "stream.h"

#define AHEAD 4 /* frames that are being received at once */

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

struct mi_receiver {
    const struct mi_pump_config *config;
    atomic_uint_fast64_t *bytes;
    uint64_t sequence; /* of the next frame */
    struct receiving ring[AHEAD];
    unsigned first, next;        /* of those in use; they only grow */
    struct receiving *expecting; /* its header: always the youngest */
    int last;                    /* no header follows for now */
    int parked;    /* PARK has been received, and no wake since */
    int ended;     /* END has been received */
    uint64_t due;  /* bytes of the arena on their way */
    void *scratch; /* for what cannot be stored */
    size_t scratch_size;
    struct mi_arrivals arrivals;
};

/* ---- payloads ----------------------------------------------------------- */

static int is_open(const struct mi_receiver *receiver)
{
    return mi_mailbox_stream(receiver->config->mailbox) == MI_STREAM_OPEN;
}

/* This node can hold no more; the stream is followed to its end all the
 * same, because broadcasts are collective.
 */
static void stop_storing(struct mi_receiver *receiver,
                         const struct mi_error *why)
{
    if (!is_open(receiver))
        return;
    mi_mailbox_set_stream(receiver->config->mailbox, MI_STREAM_FULL);
    mi_arrivals_drop(
        &receiver->arrivals); /* their records will not be stored */
    mi_stream_say(receiver->config, MI_FIRST_DIRECT, "the node store is full",
                  why);
}

/* Receive into memory of our own.  There always is enough for a frame of the
 * usual size; only a single large record needs more.
 */
static int use_scratch(struct mi_receiver *receiver, struct receiving *frame,
                       struct mi_error *err)
{
    size_t size = frame->packet.frame.size;
    void *bigger;

    if (size > receiver->scratch_size) {
        bigger = realloc(receiver->scratch, size);
        if (!bigger)
            return mi_fail_errno(err, "cannot receive %zu bytes", size);
        receiver->scratch = bigger;
        receiver->scratch_size = size;
    }
    frame->room = receiver->scratch;
    frame->scratch = 1;
    return 0;
}

/* The arena is behind by what is due before this frame. */
static void room_for_records(struct mi_receiver *receiver,
                             struct receiving *frame, int alone)
{
    uint64_t size = frame->packet.frame.size;
    struct mi_error why;
    void *end;

    mi_error_clear(&why);
    if (!is_open(receiver))
        return;
    if (mi_store_reserve(receiver->config->store, receiver->due + size, &end,
                         &why) == 0)
        frame->room = (char *)end + receiver->due;
    else if (alone)
        stop_storing(receiver, &why);
}

/* The packet has all of it.  Pieces go where they belong at once, records when
 * it is their turn.
 */
static int take_packet(struct mi_receiver *receiver,
                       struct receiving *receiving, struct mi_error *err)
{
    const struct mi_frame *frame = &receiving->packet.frame;

    if (frame->type != MI_FRAME_OBJECT)
        return 0;
    if (mi_arrivals_room(&receiver->arrivals, frame, &receiving->room, err) !=
        0)
        return -1;
    if (receiving->room)
        memcpy(receiving->room, receiving->packet.bytes, frame->size);
    return 0;
}

/* Receive the payload.  What cannot be stored goes to the scratch memory; for
 * that, and to give anything up, the frame has to be the only one on its way
 * ('alone'): otherwise it is not begun yet.
 */
static int receive_payload(struct mi_receiver *receiver,
                           struct receiving *frame, int alone,
                           struct mi_error *err)
{
    const struct mi_pump_config *c = receiver->config;
    size_t size = frame->packet.frame.size;

    if (frame->packet.frame.type == MI_FRAME_RECORDS)
        room_for_records(receiver, frame, alone);
    else if (mi_arrivals_room(&receiver->arrivals, &frame->packet.frame,
                              &frame->room, err) != 0)
        return -1;
    if (!frame->room && !alone)
        return 0;
    if (!frame->room && use_scratch(receiver, frame, err) != 0)
        return -1;
    frame->begun = 1;
    atomic_fetch_add(receiver->bytes, size);
    return mpimin_ibcast(c->mpi, frame->room, size, 0, c->leaders,
                         &frame->payload, err);
}

/* ---- frames ------------------------------------------------------------- */

/* A header has come. */
static int check_frame(struct mi_receiver *receiver,
                       struct receiving *receiving, struct mi_error *err)
{
    const struct mi_frame *frame = &receiving->packet.frame;
    uint64_t used = mi_store_used(receiver->config->store) + receiver->due;

    if (!is_open(receiver))
        used = frame->offset; /* nothing is appended any more */
    if (mi_frame_check(frame, receiver->sequence, used, err) != 0)
        return -1;
    receiver->sequence++;
    receiving->checked = 1;
    atomic_fetch_add(receiver->bytes, sizeof(receiving->packet));
    if (frame->type == MI_FRAME_OBJECT && frame->offset == 0)
        mi_arrivals_begin(&receiver->arrivals, frame);
    return 0;
}

static int begin_frame(struct mi_receiver *receiver,
                       struct receiving *receiving, struct mi_error *err)
{
    const struct mi_frame *frame = &receiving->packet.frame;
    int alone = receiver->next - receiver->first == 1;

    if (receiver->arrivals.dropping && !alone)
        return 0;
    if (receiver->arrivals.dropping)
        mi_arrivals_clear(&receiver->arrivals);
    if (frame->size <= MI_PACKET_BYTES) {
        receiving->begun = 1;
        if (take_packet(receiver, receiving, err) != 0)
            return -1;
    } else if (receive_payload(receiver, receiving, alone, err) != 0) {
        return -1;
    }
    if (!receiving->begun)
        return 0;
    receiving->due = frame->type == MI_FRAME_RECORDS ? frame->size : 0;
    receiver->due += receiving->due;
    receiver->last =
        frame->type == MI_FRAME_END || frame->type == MI_FRAME_PARK;
    return 0;
}

/* Called for each record before it is published. */
static void on_record(void *arg, const struct mi_record *record)
{
    struct mi_receiver *receiver = arg;

    mi_arrivals_place(&receiver->arrivals, record);
}

static int store_records(struct mi_receiver *receiver,
                         const struct receiving *receiving,
                         struct mi_error *err)
{
    uint64_t size = receiving->packet.frame.size;
    void *end;

    if (!receiving->room) {
        if (mi_store_reserve(receiver->config->store, size, &end, err) != 0)
            return -1;
        memcpy(end, receiving->packet.bytes, size);
    }
    return mi_store_commit(receiver->config->store, size, on_record, receiver,
                           err);
}

static int take_records(struct mi_receiver *receiver,
                        const struct receiving *receiving,
                        struct mi_error *err)
{
    if (receiving->scratch || !is_open(receiver))
        return 0;
    if (store_records(receiver, receiving, err) != 0) {
        if (err->domain == MI_FORMAT)
            return -1;
        stop_storing(receiver, err);
    }
    mi_mailbox_grown(receiver->config->mailbox);
    return 0;
}

/* A frame is complete. */
static int take_frame(struct mi_receiver *receiver,
                      const struct receiving *receiving, struct mi_error *err)
{
    int rc = 0;

    receiver->due -= receiving->due;
    switch (receiving->packet.frame.type) {
    case MI_FRAME_RECORDS:
        rc = take_records(receiver, receiving, err);
        break;
    case MI_FRAME_OBJECT:
        break; /* it has been received in place */
    case MI_FRAME_FULL:
        mi_mailbox_set_stream(receiver->config->mailbox, MI_STREAM_FULL);
        mi_arrivals_drop(&receiver->arrivals);
        break;
    case MI_FRAME_PARK:
        receiver->parked = 1;
        break;
    default:
        receiver->ended = 1;
    }
    return rc;
}

/* Broadcasts are collective, so that a follower starts them in root's order:
 * a header, its payload, the next header.  It need not wait for a payload
 * before it starts the next header, so that it hands on several to those
 * below it in MPI's tree.
 */
static int expect_frame(struct mi_receiver *receiver, struct mi_error *err)
{
    struct receiving *receiving = &receiver->ring[receiver->next % AHEAD];

    if (receiver->last || receiver->next - receiver->first == AHEAD)
        return 0;
    *receiving = (struct receiving){0};
    receiver->next++;
    receiver->expecting = receiving;
    return mpimin_ibcast(receiver->config->mpi, &receiving->packet,
                         sizeof(receiving->packet), 0,
                         receiver->config->leaders, &receiving->header, err);
}

/* Begin with the youngest frame, if its header is there. */
static int begin_next(struct mi_receiver *receiver, int *begun,
                      struct mi_error *err)
{
    struct receiving *receiving = receiver->expecting;
    int done;

    if (!receiving)
        return expect_frame(receiver, err);
    if (mpimin_test(receiver->config->mpi, &receiving->header, &done, err) !=
        0)
        return -1;
    if (!done)
        return 0;
    if (!receiving->checked && check_frame(receiver, receiving, err) != 0)
        return -1;
    if (begin_frame(receiver, receiving, err) != 0)
        return -1;
    *begun = receiving->begun;
    if (!receiving->begun)
        return 0;
    receiver->expecting = NULL;
    return expect_frame(receiver, err);
}

/* Take the oldest frame, if it is whole. */
static int take_next(struct mi_receiver *receiver, int *taken,
                     struct mi_error *err)
{
    struct receiving *receiving = &receiver->ring[receiver->first % AHEAD];

    if (receiver->first == receiver->next || !receiving->begun)
        return 0;
    if (mpimin_test(receiver->config->mpi, &receiving->payload, taken, err) !=
        0)
        return -1;
    if (!*taken)
        return 0;
    if (take_frame(receiver, receiving, err) != 0)
        return -1;
    receiver->first++;
    return 0;
}

/* Parked: has root something to send again? */
static int await_wake(struct mi_receiver *receiver, int *busy,
                      struct mi_error *err)
{
    size_t size;
    int got;

    if (mi_stream_receive(receiver->config, MI_TAG_WAKE, NULL, 0, &size, &got,
                          err) != 0)
        return -1;
    if (!got)
        return 0;
    *busy = 1;
    receiver->parked = 0;
    receiver->last = 0;
    return 0;
}

int mi_receiver_receive(struct mi_receiver *receiver, int *busy,
                        struct mi_error *err)
{
    int begun, taken;

    if (receiver->parked && await_wake(receiver, busy, err) != 0)
        return -1;
    do {
        begun = taken = 0;
        if (begin_next(receiver, &begun, err) != 0 ||
            take_next(receiver, &taken, err) != 0)
            return -1;
        *busy |= begun | taken;
    } while (begun || taken);
    return 0;
}

int mi_receiver_ended(const struct mi_receiver *receiver)
{
    return receiver->ended;
}

/* ---- the handle --------------------------------------------------------- */

int mi_receiver_create(struct mi_receiver **result,
                       const struct mi_pump_config *config,
                       atomic_uint_fast64_t *bytes, struct mi_error *err)
{
    struct mi_receiver *receiver = calloc(1, sizeof(*receiver));
    void *scratch = malloc(MI_FRAME_MAX);

    if (!receiver || !scratch) {
        mi_fail_errno(err, "pump");
        free(receiver);
        free(scratch);
        return -1;
    }
    receiver->config = config;
    receiver->bytes = bytes;
    receiver->arrivals.config = config;
    receiver->scratch = scratch;
    receiver->scratch_size = MI_FRAME_MAX;
    *result = receiver;
    return 0;
}

void mi_receiver_destroy(struct mi_receiver *receiver)
{
    if (!receiver)
        return;
    mi_arrivals_clear(&receiver->arrivals);
    free(receiver->scratch);
    free(receiver);
}
