#include "sender.h"

#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "objects.h"
#include "stream.h"

#define WINDOW 8 /* frames under way at once */

/* A frame under way from root. */
struct sending {
    struct mi_packet packet;
    mpimin_request header, payload;
    struct mi_object object; /* to be cleared when the payload is out */
};

struct mi_sender {
    const struct mi_pump_config *config;
    atomic_uint_fast64_t *bytes;
    uint64_t sequence; /* of the next frame */
    struct sending window[WINDOW];
    uint64_t sent;   /* bytes of the arena that are in frames */
    uint64_t target; /* send up to here before looking again */
    struct mi_object object;
    uint64_t object_sent;
    int full_sent;
    int parked;             /* PARK has been sent, and no wake since */
    mpimin_request wakes[]; /* to each follower */
};

/* ---- the window --------------------------------------------------------- */

static int test_sending(struct mi_sender *sender, struct sending *sending,
                        int *busy, struct mi_error *err)
{
    struct mpimin *mpi = sender->config->mpi;
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
static int is_sending(const struct mi_sender *sender, uint64_t object)
{
    for (int i = 0; i < WINDOW; i++)
        if (!is_out(&sender->window[i]) &&
            sender->window[i].packet.frame.object == object)
            return 1;
    return 0;
}

/* Unmap objects of which all pieces are out. */
static void clear_objects(struct mi_sender *sender)
{
    for (int i = 0; i < WINDOW; i++)
        if (sender->window[i].object.id &&
            !is_sending(sender, sender->window[i].object.id))
            mi_object_clear(&sender->window[i].object);
}

static struct sending *free_sending(struct mi_sender *sender)
{
    for (int i = 0; i < WINDOW; i++)
        if (is_out(&sender->window[i]) && !sender->window[i].object.id)
            return &sender->window[i];
    return NULL;
}

/* ---- frames ------------------------------------------------------------- */

static int wakes_out(struct mi_sender *sender, int *out, struct mi_error *err)
{
    int done;

    *out = 1;
    for (int i = 1; i < sender->config->size; i++) {
        if (mpimin_test(sender->config->mpi, &sender->wakes[i], &done, err) !=
            0)
            return -1;
        *out &= done;
    }
    return 0;
}

/* Tell all followers, not only the next ones in MPI's tree, so that they wake
 * up at the same time and not one after the other.
 */
static int wake(struct mi_sender *sender, struct mi_error *err)
{
    const struct mi_pump_config *c = sender->config;

    for (int i = 1; i < c->size; i++)
        if (mpimin_isend(c->mpi, NULL, 0, i, (int)MI_TAG_WAKE, c->leaders,
                         &sender->wakes[i], err) != 0)
            return -1;
    sender->parked = 0;
    return 0;
}

/* Broadcast one frame, its payload from 'payload'.  A small one is copied. */
static int send_frame(struct mi_sender *sender, struct sending *sending,
                      const struct mi_frame *frame, const void *payload,
                      struct mi_error *err)
{
    const struct mi_pump_config *c = sender->config;
    struct mi_packet *packet = &sending->packet;
    size_t size = frame->size;

    if (sender->parked && wake(sender, err) != 0)
        return -1;
    packet->frame = *frame;
    packet->frame.sequence = sender->sequence++;
    mi_frame_seal(&packet->frame);
    if (size > 0 && size <= MI_PACKET_BYTES)
        memcpy(packet->bytes, payload, size);
    if (mpimin_ibcast(c->mpi, packet, sizeof(*packet), 0, c->leaders,
                      &sending->header, err) != 0)
        return -1;
    atomic_fetch_add(sender->bytes, sizeof(*packet));
    if (size <= MI_PACKET_BYTES)
        return 0;
    atomic_fetch_add(sender->bytes, size);
    return mpimin_ibcast(c->mpi, (void *)(uintptr_t)payload, size, 0,
                         c->leaders, &sending->payload, err);
}

static int send_object(struct mi_sender *sender, struct sending *sending,
                       struct mi_error *err)
{
    uint64_t left = sender->object.size - sender->object_sent;
    struct mi_frame frame = {.type = MI_FRAME_OBJECT,
                             .offset = sender->object_sent,
                             .size = left < MI_FRAME_MAX ? left : MI_FRAME_MAX,
                             .object = sender->object.id,
                             .object_size = sender->object.size,
                             .object_mode = sender->object.mode};
    const char *bytes = sender->object.bytes;

    if (send_frame(sender, sending, &frame, bytes + frame.offset, err) != 0)
        return -1;
    sender->object_sent += frame.size;
    if (sender->object_sent == sender->object.size) {
        sending->object = sender->object; /* unmapped once it is out */
        sender->object = (struct mi_object){0};
        sender->object_sent = 0;
    }
    return 0;
}

/* Bytes of whole records from 'sent' on, about MI_FRAME_MAX of them. */
static uint64_t stretch(const struct mi_sender *sender)
{
    uint64_t end = sender->sent;

    if (sender->target - sender->sent <= MI_FRAME_MAX)
        return sender->target - sender->sent;
    while (end < sender->target && end - sender->sent < MI_FRAME_MAX) {
        const struct mi_record *record =
            mi_store_bytes(sender->config->store, end);

        end += mi_record_total(record->key_size, record->size);
    }
    return end - sender->sent;
}

/* Objects go before the records that name them: what was committed before
 * 'target' was read has its objects in the queue.
 */
static int send_next(struct mi_sender *sender, struct sending *sending,
                     int *busy, struct mi_error *err)
{
    struct mi_frame frame = {.type = MI_FRAME_RECORDS, .offset = sender->sent};

    if (sender->sent == sender->target)
        sender->target = mi_store_used(sender->config->store);
    if (sender->object.id ||
        mi_reader_object(sender->config->reader, &sender->object)) {
        *busy = 1;
        return send_object(sender, sending, err);
    }
    if (sender->sent < sender->target) {
        *busy = 1;
        frame.size = stretch(sender);
        sender->sent += frame.size;
        return send_frame(sender, sending, &frame,
                          mi_store_bytes(sender->config->store, frame.offset),
                          err);
    }
    if (!sender->full_sent &&
        mi_mailbox_stream(sender->config->mailbox) == MI_STREAM_FULL) {
        *busy = 1;
        sender->full_sent = 1;
        frame.type = MI_FRAME_FULL;
        return send_frame(sender, sending, &frame, NULL, err);
    }
    return 0;
}

static int all_sent(const struct mi_sender *sender)
{
    return sender->sent == sender->target &&
           sender->sent == mi_store_used(sender->config->store) &&
           !sender->object.id;
}

int mi_sender_send(struct mi_sender *sender, int *busy, int *all,
                   struct mi_error *err)
{
    struct sending *sending;

    *all = 0;
    for (int i = 0; i < WINDOW; i++)
        if (test_sending(sender, &sender->window[i], busy, err) != 0)
            return -1;
    clear_objects(sender);
    sending = free_sending(sender);
    if (!sending)
        return 0;
    if (send_next(sender, sending, busy, err) != 0)
        return -1;
    *all = !*busy && all_sent(sender);
    return 0;
}

/* A broadcast that followers wait for makes every call of MPI in their
 * programs a little slower: leave none while nothing is read.
 */
int mi_sender_park(struct mi_sender *sender, struct mi_error *err)
{
    const struct mi_frame frame = {.type = MI_FRAME_PARK};
    int out;

    if (sender->parked)
        return 0;
    if (wakes_out(sender, &out, err) != 0)
        return -1;
    if (!out)
        return 0;
    if (send_frame(sender, free_sending(sender), &frame, NULL, err) != 0)
        return -1;
    sender->parked = 1;
    return 0;
}

static int flush(struct mi_sender *sender, struct mi_error *err)
{
    int done;

    for (int i = 0; i < WINDOW; i++)
        if (mpimin_wait(sender->config->mpi, &sender->window[i].header, -1,
                        &done, err) != 0 ||
            mpimin_wait(sender->config->mpi, &sender->window[i].payload, -1,
                        &done, err) != 0)
            return -1;
    for (int i = 1; i < sender->config->size; i++)
        if (mpimin_wait(sender->config->mpi, &sender->wakes[i], -1, &done,
                        err) != 0)
            return -1;
    return 0;
}

int mi_sender_end(struct mi_sender *sender, struct mi_error *err)
{
    const struct mi_frame frame = {.type = MI_FRAME_END};

    if (send_frame(sender, free_sending(sender), &frame, NULL, err) != 0)
        return -1;
    return flush(sender, err);
}

/* ---- the handle --------------------------------------------------------- */

int mi_sender_create(struct mi_sender **result,
                     const struct mi_pump_config *config,
                     atomic_uint_fast64_t *bytes, struct mi_error *err)
{
    struct mi_sender *sender = calloc(
        1, sizeof(*sender) + sizeof(mpimin_request) * (size_t)config->size);

    if (!sender)
        return mi_fail_errno(err, "pump");
    sender->config = config;
    sender->bytes = bytes;
    *result = sender;
    return 0;
}

void mi_sender_destroy(struct mi_sender *sender)
{
    if (!sender)
        return;
    for (int i = 0; i < WINDOW; i++)
        mi_object_clear(&sender->window[i].object);
    mi_object_clear(&sender->object);
    free(sender);
}
