#include "format.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

uint64_t mi_hash(uint64_t seed, const void *data, size_t size)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u ^ seed;

    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h;
}

uint64_t mi_key_hash(enum mi_query query, const char *key, size_t size)
{
    return mi_hash((uint64_t)query * 0x9e3779b97f4a7c15u, key, size);
}

static uint64_t padded(uint64_t size)
{
    return (size + 15u) & ~(uint64_t)15u;
}

static uint64_t key_room(uint32_t key_size)
{
    return padded((uint64_t)key_size + 1);
}

uint64_t mi_record_total(uint32_t key_size, uint64_t size)
{
    return sizeof(struct mi_record) + key_room(key_size) + padded(size);
}

const char *mi_record_key(const struct mi_record *record)
{
    return (const char *)(record + 1);
}

const void *mi_record_payload(const struct mi_record *record)
{
    return mi_record_key(record) + key_room(record->key_size);
}

const struct mi_status *mi_record_status(const struct mi_record *record,
                                         const char **target)
{
    const struct mi_status *status = mi_record_payload(record);
    const char *text = (const char *)(status + 1);

    *target = NULL;
    if (record->kind != MI_KIND_STAT || record->query == MI_REAL ||
        record->size < sizeof(*status))
        return NULL;
    if (record->size > sizeof(*status) &&
        text[record->size - sizeof(*status) - 1] == '\0')
        *target = text;
    return status;
}

/* The texts of an object's record, if there are any. */
static const char *mirror_texts(const struct mi_record *record)
{
    const char *texts = mi_record_payload(record);
    int object =
        record->kind == MI_KIND_MIRROR ||
        (record->kind == MI_KIND_ABSENT && record->code == MI_MIRROR_REFUSED);

    return object && record->size > 0 && texts[record->size - 1] == '\0'
               ? texts
               : NULL;
}

/* Text number i, or NULL. */
static const char *mirror_text(const struct mi_record *record, int i)
{
    const char *texts = mirror_texts(record);
    const char *end = texts ? texts + record->size : NULL;

    for (; texts && i > 0; i--) {
        texts += strlen(texts) + 1;
        if (texts >= end)
            return NULL;
    }
    return texts;
}

const char *mi_record_place(const struct mi_record *record)
{
    const char *place = mirror_text(record, 0);

    return place && place[0] ? place : mi_record_key(record);
}

const char *mi_record_soname(const struct mi_record *record)
{
    const char *soname = mirror_text(record, 1);

    return soname ? soname : "";
}

const char *mi_record_link(const struct mi_record *record)
{
    const char *place = mirror_text(record, 2);

    return place ? place : "";
}

const char *mi_record_need(const struct mi_record *record,
                           const char *previous)
{
    const char *texts = mirror_texts(record);
    const char *next;

    if (!previous)
        return mirror_text(record, 3);
    next = previous + strlen(previous) + 1;
    return next < texts + record->size ? next : NULL;
}

static uint64_t record_sum(const struct mi_record *record)
{
    return mi_hash(1, record, offsetof(struct mi_record, check));
}

void mi_record_seal(struct mi_record *record, const char *key)
{
    record->magic = MI_RECORD_MAGIC;
    record->hash =
        mi_key_hash((enum mi_query)record->query, key, record->key_size);
    record->check = record_sum(record);
}

int mi_record_check(const struct mi_record *record, uint64_t room,
                    struct mi_error *err)
{
    const char *key = mi_record_key(record);

    if (room < sizeof(*record) || record->magic != MI_RECORD_MAGIC)
        return mi_fail(err, MI_FORMAT, EBADMSG, "not a record");
    if (record->check != record_sum(record))
        return mi_fail(err, MI_FORMAT, EBADMSG, "damaged record");
    if (record->kind < 1 || record->kind > MI_KIND_LAST || record->query < 1 ||
        record->query > MI_QUERY_LAST)
        return mi_fail(err, MI_FORMAT, EBADMSG, "record of unknown kind");
    if (record->key_size > MI_PATH || record->size > room ||
        mi_record_total(record->key_size, record->size) > room)
        return mi_fail(err, MI_FORMAT, EBADMSG, "record of impossible size");
    if (key[record->key_size] != '\0' ||
        record->hash !=
            mi_key_hash((enum mi_query)record->query, key, record->key_size))
        return mi_fail(err, MI_FORMAT, EBADMSG, "record with a damaged path");
    return 0;
}

static uint64_t frame_sum(const struct mi_frame *frame)
{
    return mi_hash(2, frame, offsetof(struct mi_frame, check));
}

void mi_frame_seal(struct mi_frame *frame)
{
    frame->magic = MI_FRAME_MAGIC;
    frame->version = MI_FORMAT_VERSION;
    frame->check = frame_sum(frame);
}

static int object_check(const struct mi_frame *frame, struct mi_error *err)
{
    if (frame->object == 0 || frame->size == 0 ||
        frame->offset > frame->object_size ||
        frame->size > frame->object_size - frame->offset)
        return mi_fail(err, MI_FORMAT, EBADMSG, "impossible piece of object");
    return 0;
}

static int records_check(const struct mi_frame *frame, uint64_t used,
                         struct mi_error *err)
{
    if (frame->offset != used || frame->size == 0 || frame->size % 16 != 0)
        return mi_fail(err, MI_FORMAT, EBADMSG,
                       "frame at %" PRIu64 ", store at %" PRIu64,
                       frame->offset, used);
    return 0;
}

int mi_frame_check(const struct mi_frame *frame, uint64_t sequence,
                   uint64_t used, struct mi_error *err)
{
    if (frame->magic != MI_FRAME_MAGIC)
        return mi_fail(err, MI_FORMAT, EBADMSG, "not a frame");
    if (frame->version != MI_FORMAT_VERSION)
        return mi_fail(err, MI_FORMAT, EBADMSG,
                       "frame of format %d, this is format %d: all ranks must "
                       "run the same mpiimport",
                       (int)frame->version, MI_FORMAT_VERSION);
    if (frame->check != frame_sum(frame))
        return mi_fail(err, MI_FORMAT, EBADMSG, "damaged frame");
    if (frame->sequence != sequence)
        return mi_fail(err, MI_FORMAT, EBADMSG,
                       "frame %" PRIu64 " where %" PRIu64 " was due",
                       frame->sequence, sequence);
    if (frame->size > MI_FRAME_MAX && frame->type != MI_FRAME_RECORDS)
        return mi_fail(err, MI_FORMAT, EBADMSG, "frame too large");
    switch (frame->type) {
    case MI_FRAME_RECORDS:
        return records_check(frame, used, err);
    case MI_FRAME_OBJECT:
        return object_check(frame, err);
    case MI_FRAME_FULL:
    case MI_FRAME_END:
    case MI_FRAME_PARK:
        if (frame->size != 0)
            return mi_fail(err, MI_FORMAT, EBADMSG, "frame with a payload");
        return 0;
    default:
        return mi_fail(err, MI_FORMAT, EBADMSG, "frame of unknown type %d",
                       (int)frame->type);
    }
}

struct mi_ask mi_ask_of(enum mi_query query, const char *key,
                        const char *extra)
{
    return (struct mi_ask){.query = query,
                           .key = key,
                           .key_size = strlen(key),
                           .extra = extra,
                           .extra_size = strlen(extra)};
}

int mi_ask_pack(void *message, const struct mi_ask *ask, size_t *size,
                struct mi_error *err)
{
    const struct mi_ask_head head = {.query = (uint32_t)ask->query,
                                     .key_size = (uint32_t)ask->key_size,
                                     .extra_size = (uint32_t)ask->extra_size,
                                     .flags = ask->flags};
    char *text = (char *)message + sizeof(head);

    if (ask->key_size > MI_PATH || ask->extra_size > MI_PATH)
        return mi_fail(err, MI_FORMAT, ENAMETOOLONG, "path of %zu bytes",
                       ask->key_size > ask->extra_size ? ask->key_size
                                                       : ask->extra_size);
    memcpy(message, &head, sizeof(head));
    memcpy(text, ask->key, ask->key_size);
    if (ask->extra_size)
        memcpy(text + ask->key_size, ask->extra, ask->extra_size);
    *size = sizeof(head) + ask->key_size + ask->extra_size;
    return 0;
}

int mi_ask_unpack(const void *message, size_t size, struct mi_ask *ask,
                  struct mi_error *err)
{
    struct mi_ask_head head;

    if (size < sizeof(head))
        return mi_fail(err, MI_FORMAT, EBADMSG, "truncated ask");
    memcpy(&head, message, sizeof(head));
    if (head.query < 1 || head.query > MI_QUERY_LAST ||
        head.key_size > MI_PATH || head.extra_size > MI_PATH ||
        sizeof(head) + head.key_size + head.extra_size != size)
        return mi_fail(err, MI_FORMAT, EBADMSG, "malformed ask");
    ask->query = (enum mi_query)head.query;
    ask->flags = head.flags;
    ask->key = (const char *)message + sizeof(head);
    ask->key_size = head.key_size;
    ask->extra = ask->key + head.key_size;
    ask->extra_size = head.extra_size;
    return 0;
}

/* Number of entries that a listing has room for, whatever it claims; 0 also
 * for one whose last name is not terminated.
 */
static uint32_t entries_count(const struct mi_record *list)
{
    const struct mi_entries *entries = mi_record_payload(list);
    uint64_t room;

    if (list->kind != MI_KIND_LIST || list->size < sizeof(uint32_t) ||
        ((const char *)entries)[list->size - 1] != '\0')
        return 0;
    room = list->size / sizeof(uint32_t) - 1;
    return entries->count <= room ? entries->count : 0;
}

const char *mi_entries_name(const struct mi_record *list, uint32_t i,
                            char *type)
{
    const struct mi_entries *entries = mi_record_payload(list);
    uint32_t count = entries_count(list);
    const char *entry;

    if (i >= count || entries->offset[i] < sizeof(uint32_t) * (1ull + count) ||
        entries->offset[i] + 2ull > list->size)
        return NULL;
    entry = (const char *)entries + entries->offset[i];
    *type = (char)tolower((unsigned char)entry[0]);
    return entry + 1;
}

const char *mi_entries_next(const struct mi_record *list, const char *previous,
                            char *type, int *link)
{
    const struct mi_entries *entries = mi_record_payload(list);
    uint32_t count = entries_count(list);
    const char *end = (const char *)entries + list->size;
    const char *entry = previous ? previous + strlen(previous) + 1
                                 : (const char *)(entries->offset + count);

    if (count == 0 || entry + 2 > end)
        return NULL;
    *type = (char)tolower((unsigned char)entry[0]);
    *link = *type != entry[0];
    return entry + 1;
}

/* Number of the first entry that is not less than 'name'. */
static uint32_t lower_bound(const struct mi_record *list, const char *name,
                            size_t size)
{
    uint32_t low = 0, high = entries_count(list);

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        char type;
        const char *entry = mi_entries_name(list, middle, &type);

        if (entry && strncmp(entry, name, size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void mi_entries_match(const struct mi_record *list, const char *name,
                      size_t size, const char *const *suffixes, int count,
                      int *directory, int *suffix)
{
    char type;
    const char *entry;

    *directory = 0;
    *suffix = -1;
    if (memchr(name, '\0', size))
        return; /* no file can have that name */
    for (uint32_t i = lower_bound(list, name, size);
         (entry = mi_entries_name(list, i, &type)) != NULL; i++) {
        if (strncmp(entry, name, size) != 0)
            return;
        if (entry[size] == '\0' && type == 'd')
            *directory = 1;
        if (type != 'f')
            continue;
        for (int s = 0; s < (*suffix < 0 ? count : *suffix); s++)
            if (strcmp(entry + size, suffixes[s]) == 0)
                *suffix = s;
    }
}

char mi_entries_type(const struct mi_record *list, const char *name)
{
    char type;
    const char *entry;

    entry = mi_entries_name(list, lower_bound(list, name, strlen(name) + 1),
                            &type);
    return entry && strcmp(entry, name) == 0 ? type : 0;
}
