#include "arrivals.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "mailbox.h"
#include "mirror.h"
#include "stream.h"

/* An object that is held until its record comes. */
struct mi_arrival {
    struct mi_arrival *next;
    struct mi_part part;
    char *bytes; /* it is received in place */
    uint64_t size;
};

static void release(struct mi_arrivals *arrivals, struct mi_arrival *arrival)
{
    if (arrival->bytes)
        munmap(arrival->bytes, arrival->size);
    if (arrival->part.id)
        mi_mirror_abandon(arrivals->config->mirror, &arrival->part);
    free(arrival);
}

void mi_arrivals_clear(struct mi_arrivals *arrivals)
{
    struct mi_arrival *arrival;

    while ((arrival = arrivals->held) != NULL) {
        arrivals->held = arrival->next;
        release(arrivals, arrival);
    }
    arrivals->dropping = 0;
}

void mi_arrivals_drop(struct mi_arrivals *arrivals)
{
    arrivals->dropping = 1;
    arrivals->lost = 1; /* what comes of the one that was on its way */
}

void mi_arrivals_begin(struct mi_arrivals *arrivals,
                       const struct mi_frame *frame)
{
    const struct mi_pump_config *c = arrivals->config;
    struct mi_arrival *arrival;
    void *bytes;
    struct mi_error why;

    arrivals->lost = 1;
    if (mi_mailbox_stream(c->mailbox) != MI_STREAM_OPEN)
        return;
    if (!c->mirror || !(arrival = calloc(1, sizeof(*arrival))))
        return;
    arrival->size = frame->object_size;
    if (mi_mirror_begin(c->mirror, frame->object, frame->object_size,
                        (mode_t)frame->object_mode, &arrival->part, &why) != 0)
        arrival->part.id = 0;
    if (!arrival->part.id || mi_part_map(&arrival->part, &bytes, &why) != 0) {
        release(arrivals, arrival);
        mi_stream_say(c, MI_FIRST_MIRROR, "an object is not mirrored", &why);
        return;
    }
    mi_part_close(&arrival->part); /* there may be thousands */
    arrival->bytes = bytes;
    arrival->next = arrivals->held;
    arrivals->held = arrival;
    arrivals->lost = 0;
}

int mi_arrivals_room(const struct mi_arrivals *arrivals,
                     const struct mi_frame *frame, void **room,
                     struct mi_error *err)
{
    const struct mi_arrival *arrival = arrivals->held;

    if (arrivals->lost) {
        *room = NULL;
        return 0;
    }
    if (!arrival || frame->object != arrival->part.id ||
        frame->object_size != arrival->size)
        return mi_fail(err, MI_FORMAT, EBADMSG, "piece of another object");
    *room = arrival->bytes + frame->offset;
    return 0;
}

/* An empty file does not come through the stream. */
static void place_empty(struct mi_arrivals *arrivals,
                        const struct mi_record *record)
{
    const struct mi_pump_config *c = arrivals->config;
    struct mi_part part;
    struct mi_error why;

    mi_error_clear(&why);
    if (mi_mirror_begin(c->mirror, 0, 0, (mode_t)record->mode, &part, &why) ==
        0) {
        if (mi_mirror_stamp(c->mirror, &part, record->mtime, &why) != 0)
            mi_mirror_abandon(c->mirror, &part);
        else if (mi_mirror_finish(c->mirror, &part, mi_record_place(record),
                                  &why) == 0)
            mi_error_clear(&why);
    }
    if (why.domain != MI_NONE)
        mi_stream_say(c, MI_FIRST_MIRROR, "an empty file is not mirrored",
                      &why);
    mi_mailbox_set_mirror(c->mailbox, mi_mirror_root(c->mirror));
}

void mi_arrivals_place(struct mi_arrivals *arrivals,
                       const struct mi_record *record)
{
    const struct mi_pump_config *c = arrivals->config;
    struct mi_arrival **at = &arrivals->held, *arrival;
    struct mi_error why;

    if (record->kind != MI_KIND_MIRROR || !c->mirror)
        return;
    if (record->query == MI_COPY && record->file_size == 0) {
        place_empty(arrivals, record);
        return;
    }
    if (!record->object) {
        if (record->key_size &&
            mi_record_key(record)[record->key_size - 1] == '/' &&
            mi_mirror_symlinks(c->mirror, record, &why) != 0)
            mi_stream_say(c, MI_FIRST_MIRROR, "links are not made", &why);
        return;
    }
    if (mi_record_link(record)[0]) {
        if (mi_mirror_link(c->mirror, mi_record_link(record),
                           mi_record_place(record), &why) != 0)
            mi_stream_say(c, MI_FIRST_MIRROR, "an object is not mirrored",
                          &why);
        return;
    }
    while (*at && (*at)->part.id != record->object)
        at = &(*at)->next;
    arrival = *at;
    if (!arrival)
        return; /* lost: loading it fails, and is done directly */
    *at = arrival->next;
    if (mi_mirror_stamp(c->mirror, &arrival->part, record->mtime, &why) != 0 ||
        mi_mirror_finish(c->mirror, &arrival->part, mi_record_place(record),
                         &why) != 0)
        mi_stream_say(c, MI_FIRST_MIRROR, "an object is not mirrored", &why);
    release(arrivals, arrival);
    mi_mailbox_set_mirror(c->mailbox, mi_mirror_root(c->mirror));
}
