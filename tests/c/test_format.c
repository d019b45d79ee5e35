/* Tests of src/format.c: every byte of the headers damaged, asks, listings.
 * What is read lies in blocks of exactly its size, so that the address
 * sanitizer sees every byte that is read beyond.
 */
#include "check.h"

#include "../../src/format.h"

static const unsigned char masks[] = {0x01, 0x10, 0x80, 0xff};

#define MASKS (sizeof(masks) / sizeof(masks[0]))

static void *allocate(size_t size)
{
    void *block = calloc(1, size ? size : 1);

    check_need(block != NULL, "memory");
    return block;
}

/* Was it refused as malformed, and said why? */
static int refused(int rc, const struct mi_error *err)
{
    return rc == -1 && err->domain == MI_FORMAT && err->text[0] != '\0';
}

/* ---- hashes and sizes ----------------------------------------------------
 */

static void test_hash_every_byte_counts(void)
{
    char text[64];
    uint64_t before;

    memset(text, 'a', sizeof(text));
    before = mi_hash(0, text, sizeof(text));
    CHECK(before == mi_hash(0, text, sizeof(text)));
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] ^= 1;
        CHECK(mi_hash(0, text, sizeof(text)) != before);
        text[i] ^= 1;
        CHECK(mi_hash(0, text, i) != before);
    }
    CHECK(mi_hash(1, text, sizeof(text)) != before);
    CHECK(mi_hash(0, "", 0) != mi_hash(1, "", 0));
}

static void test_key_hash_query_counts(void)
{
    for (int q = 1; q <= MI_QUERY_LAST; q++)
        for (int r = 1; r < q; r++)
            CHECK(mi_key_hash((enum mi_query)q, "/a", 2) !=
                  mi_key_hash((enum mi_query)r, "/a", 2));
}

static void test_record_total_aligned_enough(void)
{
    for (uint32_t key = 0; key < 70; key++) {
        for (uint64_t size = 0; size < 70; size++) {
            uint64_t total = mi_record_total(key, size);

            CHECK(total % 16 == 0);
            CHECK(total >= sizeof(struct mi_record) + key + 1 + size);
            CHECK(total < sizeof(struct mi_record) + key + 1 + size + 31);
        }
    }
}

/* ---- records -------------------------------------------------------------
 */

static const char key[] = "/tree/numpy/fft";
static const char payload[] = "the bytes";

/* A sound record of just its size; the caller frees it. */
static struct mi_record *make_record(size_t *total)
{
    struct mi_record *record;

    *total = mi_record_total(sizeof(key) - 1, sizeof(payload));
    record = allocate(*total);
    record->kind = MI_KIND_FILE;
    record->query = MI_READ;
    record->key_size = sizeof(key) - 1;
    record->size = sizeof(payload);
    record->mtime = -5;
    record->file_size = sizeof(payload);
    record->mode = 0100644;
    memcpy(record + 1, key, sizeof(key));
    memcpy((char *)record + mi_record_total(sizeof(key) - 1, 0), payload,
           sizeof(payload));
    mi_record_seal(record, key);
    return record;
}

static void test_record_sealed_accepted(void)
{
    size_t total;
    struct mi_record *record = make_record(&total);
    struct mi_error err;

    CHECK(mi_record_check(record, total, &err) == 0);
    CHECK(mi_record_check(record, total + 16, &err) == 0);
    CHECK(mi_record_check(record, UINT64_MAX, NULL) == 0);
    CHECK(strcmp(mi_record_key(record), key) == 0);
    CHECK(memcmp(mi_record_payload(record), payload, sizeof(payload)) == 0);
    CHECK(record->hash == mi_key_hash(MI_READ, key, sizeof(key) - 1));
    free(record);
}

static void test_record_each_byte_damaged_refused(void)
{
    size_t total, end;
    struct mi_record *record = make_record(&total);
    unsigned char *bytes = (unsigned char *)record;
    struct mi_error err;
    char about[80];

    end = sizeof(*record) + sizeof(key); /* the path and its NUL, too */
    for (size_t i = 0; i < end; i++) {
        for (size_t m = 0; m < MASKS; m++) {
            snprintf(about, sizeof(about), "byte %zu ^ %02x", i, masks[m]);
            bytes[i] ^= masks[m];
            mi_error_clear(&err);
            CHECK_FOR(about,
                      refused(mi_record_check(record, total, &err), &err));
            CHECK_FOR(about, mi_record_check(record, total, NULL) == -1);
            bytes[i] ^= masks[m];
        }
    }
    CHECK(mi_record_check(record, total, &err) == 0);
    free(record);
}

static void test_record_every_truncation_refused(void)
{
    size_t total;
    struct mi_record *record = make_record(&total), *cut;
    struct mi_error err;

    for (size_t room = 0; room < total; room++) {
        cut = allocate(room);
        memcpy(cut, record, room);
        CHECK(refused(mi_record_check(cut, room, &err), &err));
        free(cut);
    }
    free(record);
}

/* A record with another field, sealed again, so that only the field's own
 * check can refuse it.
 */
static void expect_field(const char *about, void (*change)(struct mi_record *))
{
    size_t total;
    struct mi_record *record = make_record(&total);
    char *path =
        allocate(1u << 16); /* mi_record_seal() reads key_size bytes */
    struct mi_error err;

    memcpy(path, key, sizeof(key));
    change(record);
    mi_record_seal(record, path);
    CHECK_FOR(about, refused(mi_record_check(record, total, &err), &err));
    free(path);
    free(record);
}

static void kind_zero(struct mi_record *record)
{
    record->kind = 0;
}

static void kind_beyond(struct mi_record *record)
{
    record->kind = MI_KIND_LAST + 1;
}

static void query_zero(struct mi_record *record)
{
    record->query = 0;
}

static void query_beyond(struct mi_record *record)
{
    record->query = MI_QUERY_LAST + 1;
}

static void key_too_long(struct mi_record *record)
{
    record->key_size = MI_PATH + 1;
}

static void key_beyond_room(struct mi_record *record)
{
    record->key_size = 400;
}

static void size_beyond_room(struct mi_record *record)
{
    record->size = sizeof(payload) + 16;
}

static void size_wraps(struct mi_record *record)
{
    record->size = UINT64_MAX;
}

static void size_wraps_total(struct mi_record *record)
{
    record->size = UINT64_MAX - 127;
}

static void key_shorter(struct mi_record *record)
{
    record->key_size--; /* no NUL there */
}

static void test_record_impossible_fields_refused(void)
{
    expect_field("kind 0", kind_zero);
    expect_field("kind beyond", kind_beyond);
    expect_field("query 0", query_zero);
    expect_field("query beyond", query_beyond);
    expect_field("key too long", key_too_long);
    expect_field("key beyond room", key_beyond_room);
    expect_field("size beyond room", size_beyond_room);
    expect_field("size wraps", size_wraps);
    expect_field("size wraps the total", size_wraps_total);
    expect_field("key not terminated", key_shorter);
}

static void test_record_longest_path_accepted(void)
{
    size_t total = mi_record_total(MI_PATH, 0);
    struct mi_record *record = allocate(total);

    record->kind = MI_KIND_ABSENT;
    record->query = MI_STAT;
    record->key_size = MI_PATH;
    memset(record + 1, 'x', MI_PATH);
    mi_record_seal(record, mi_record_key(record));
    CHECK(mi_record_check(record, total, NULL) == 0);
    CHECK(mi_record_check(record, total - 1, NULL) == -1);
    free(record);
}

/* ---- frames --------------------------------------------------------------
 */

#define SEQUENCE 7
#define USED 4096

static struct mi_frame records_frame(void)
{
    struct mi_frame frame = {.type = MI_FRAME_RECORDS,
                             .sequence = SEQUENCE,
                             .offset = USED,
                             .size = 160};

    mi_frame_seal(&frame);
    return frame;
}

static struct mi_frame object_frame(void)
{
    struct mi_frame frame = {.type = MI_FRAME_OBJECT,
                             .sequence = SEQUENCE,
                             .offset = 100,
                             .size = 50,
                             .object = 3,
                             .object_size = 150,
                             .object_mode = 0755};

    mi_frame_seal(&frame);
    return frame;
}

static struct mi_frame bare_frame(enum mi_frame_type type)
{
    struct mi_frame frame = {.type = (uint16_t)type, .sequence = SEQUENCE};

    mi_frame_seal(&frame);
    return frame;
}

static void test_frame_each_type_accepted(void)
{
    struct mi_frame frame = records_frame();

    CHECK(mi_frame_check(&frame, SEQUENCE, USED, NULL) == 0);
    frame.size = (uint64_t)MI_FRAME_MAX * 4; /* one large record */
    mi_frame_seal(&frame);
    CHECK(mi_frame_check(&frame, SEQUENCE, USED, NULL) == 0);
    frame = object_frame();
    CHECK(mi_frame_check(&frame, SEQUENCE, USED, NULL) == 0);
    CHECK(mi_frame_check(&frame, SEQUENCE, 0, NULL) == 0);
    frame = bare_frame(MI_FRAME_FULL);
    CHECK(mi_frame_check(&frame, SEQUENCE, USED, NULL) == 0);
    frame = bare_frame(MI_FRAME_END);
    CHECK(mi_frame_check(&frame, SEQUENCE, USED, NULL) == 0);
    frame = bare_frame(MI_FRAME_PARK);
    CHECK(mi_frame_check(&frame, SEQUENCE, USED, NULL) == 0);
}

static void damage_frame(const struct mi_frame *sound)
{
    struct mi_frame *frame = allocate(sizeof(*frame));
    unsigned char *bytes = (unsigned char *)frame;
    struct mi_error err;
    char about[80];

    memcpy(frame, sound, sizeof(*frame));
    for (size_t i = 0; i < sizeof(*frame); i++) {
        for (size_t m = 0; m < MASKS; m++) {
            snprintf(about, sizeof(about), "type %d, byte %zu ^ %02x",
                     (int)sound->type, i, masks[m]);
            bytes[i] ^= masks[m];
            mi_error_clear(&err);
            CHECK_FOR(
                about,
                refused(mi_frame_check(frame, SEQUENCE, USED, &err), &err));
            bytes[i] ^= masks[m];
        }
    }
    CHECK(mi_frame_check(frame, SEQUENCE, USED, &err) == 0);
    free(frame);
}

static void test_frame_each_byte_damaged_refused(void)
{
    struct mi_frame frame = records_frame();

    damage_frame(&frame);
    frame = object_frame();
    damage_frame(&frame);
    frame = bare_frame(MI_FRAME_FULL);
    damage_frame(&frame);
    frame = bare_frame(MI_FRAME_END);
    damage_frame(&frame);
}

static void test_frame_wrong_sequence_refused(void)
{
    struct mi_frame frame = records_frame();
    struct mi_error err;

    CHECK(refused(mi_frame_check(&frame, SEQUENCE + 1, USED, &err), &err));
    CHECK(strstr(err.text, "7") && strstr(err.text, "8"));
    CHECK(refused(mi_frame_check(&frame, SEQUENCE - 1, USED, &err), &err));
    frame = bare_frame(MI_FRAME_END);
    CHECK(refused(mi_frame_check(&frame, 0, USED, &err), &err));
}

static void test_frame_wrong_offset_refused(void)
{
    struct mi_frame frame = records_frame();
    struct mi_error err;

    CHECK(refused(mi_frame_check(&frame, SEQUENCE, USED + 16, &err), &err));
    CHECK(refused(mi_frame_check(&frame, SEQUENCE, USED - 16, &err), &err));
    CHECK(refused(mi_frame_check(&frame, SEQUENCE, 0, &err), &err));
}

static void test_frame_other_version_named(void)
{
    struct mi_frame frame = records_frame();
    struct mi_error err;

    frame.version = MI_FORMAT_VERSION + 40;
    CHECK(refused(mi_frame_check(&frame, SEQUENCE, USED, &err), &err));
    CHECK(strstr(err.text, "format 43") && strstr(err.text, "format 3"));
    frame = records_frame();
    frame.magic ^= 1;
    CHECK(refused(mi_frame_check(&frame, SEQUENCE, USED, &err), &err));
    CHECK(strstr(err.text, "not a frame") != NULL);
}

/* A frame with other fields, sealed: only the fields' own checks are left. */
static void expect_frame(const char *about, uint16_t type, uint64_t offset,
                         uint64_t size, uint64_t object, uint64_t object_size)
{
    struct mi_frame frame = {.type = type,
                             .sequence = SEQUENCE,
                             .offset = offset,
                             .size = size,
                             .object = object,
                             .object_size = object_size};
    struct mi_error err;

    mi_frame_seal(&frame);
    CHECK_FOR(about,
              refused(mi_frame_check(&frame, SEQUENCE, USED, &err), &err));
}

static void test_frame_impossible_fields_refused(void)
{
    expect_frame("type 0", 0, USED, 160, 0, 0);
    expect_frame("type 6", 6, USED, 160, 0, 0);
    expect_frame("type 65535", 65535, USED, 0, 0, 0);
    expect_frame("empty records", MI_FRAME_RECORDS, USED, 0, 0, 0);
    expect_frame("odd records", MI_FRAME_RECORDS, USED, 161, 0, 0);
    expect_frame("half a unit", MI_FRAME_RECORDS, USED, 168, 0, 0);
    expect_frame("object 0", MI_FRAME_OBJECT, 0, 10, 0, 10);
    expect_frame("empty piece", MI_FRAME_OBJECT, 0, 0, 1, 10);
    expect_frame("beyond the end", MI_FRAME_OBJECT, 5, 6, 1, 10);
    expect_frame("behind the end", MI_FRAME_OBJECT, 11, 1, 1, 10);
    expect_frame("wraps", MI_FRAME_OBJECT, UINT64_MAX - 1, 4, 1, 10);
    expect_frame("too large", MI_FRAME_OBJECT, 0, MI_FRAME_MAX + 1u, 1,
                 UINT64_MAX);
    expect_frame("full with payload", MI_FRAME_FULL, 0, 16, 0, 0);
    expect_frame("end with payload", MI_FRAME_END, 0, 1, 0, 0);
    expect_frame("park with payload", MI_FRAME_PARK, 0, 1, 0, 0);
}

/* ---- asks ----------------------------------------------------------------
 */

static int pack(void *message, const char *text, size_t key_size,
                const char *extra, size_t extra_size, size_t *size,
                struct mi_error *err)
{
    const struct mi_ask ask = {.query = MI_CODE,
                               .key = text,
                               .key_size = key_size,
                               .extra = extra,
                               .extra_size = extra_size};

    return mi_ask_pack(message, &ask, size, err);
}

static void round_trip(enum mi_query query, size_t key_size, size_t extra_size)
{
    char *text = allocate(MI_PATH + 1), *message = allocate(MI_ASK_MAX),
         *exact;
    const struct mi_ask ask = {.query = query,
                               .flags = MI_ASK_PRESENT,
                               .key = text,
                               .key_size = key_size,
                               .extra = text + 1,
                               .extra_size = extra_size};
    struct mi_ask asked;
    size_t size = 0;

    for (size_t i = 0; i <= MI_PATH; i++)
        text[i] = (char)('!' + i % 90);
    CHECK(mi_ask_pack(message, &ask, &size, NULL) == 0);
    CHECK(size <= MI_ASK_MAX);
    exact = allocate(size);
    memcpy(exact, message, size);
    CHECK(mi_ask_unpack(exact, size, &asked, NULL) == 0);
    CHECK(asked.query == query && asked.flags == MI_ASK_PRESENT);
    CHECK(asked.key_size == key_size && asked.extra_size == extra_size);
    CHECK(memcmp(asked.key, text, key_size) == 0);
    CHECK(memcmp(asked.extra, text + 1, asked.extra_size) == 0);
    free(exact);
    free(message);
    free(text);
}

static void test_ask_round_trip_same(void)
{
    for (int query = 1; query <= MI_QUERY_LAST; query++) {
        round_trip((enum mi_query)query, 1, 0);
        round_trip((enum mi_query)query, 20, 30);
        round_trip((enum mi_query)query, MI_PATH, 0);
        round_trip((enum mi_query)query, MI_PATH, MI_PATH);
        round_trip((enum mi_query)query, 0, 0);
    }
}

static void test_ask_pack_too_long_refused(void)
{
    char *text = allocate(MI_PATH + 1), *message = allocate(MI_ASK_MAX);
    struct mi_error err;
    size_t size = 77;

    memset(text, 'x', MI_PATH + 1);
    CHECK(refused(pack(message, text, MI_PATH + 1, "", 0, &size, &err), &err));
    CHECK(err.code == ENAMETOOLONG);
    CHECK(
        refused(pack(message, text, 5, text, MI_PATH + 1, &size, &err), &err));
    CHECK(refused(pack(message, text, SIZE_MAX, text, 1, &size, &err), &err));
    CHECK(size == 77);
    free(message);
    free(text);
}

/* An ask message by its fields, in a block of 'size' bytes. */
static void expect_ask(const char *about, uint32_t query, uint32_t key_size,
                       uint32_t extra_size, size_t size)
{
    struct mi_ask_head ask = {
        .query = query, .key_size = key_size, .extra_size = extra_size};
    struct mi_ask asked = {.key = about};
    struct mi_error err;
    char *message = allocate(size);

    memcpy(message, &ask, size < sizeof(ask) ? size : sizeof(ask));
    CHECK_FOR(about,
              refused(mi_ask_unpack(message, size, &asked, &err), &err));
    CHECK_FOR(about, asked.key == about && asked.key_size == 0);
    free(message);
}

static void test_ask_malformed_refused(void)
{
    for (size_t size = 0; size < sizeof(struct mi_ask_head) + 8; size++)
        expect_ask("truncated", MI_CODE, 4, 4, size);
    expect_ask("longer", MI_CODE, 4, 4, sizeof(struct mi_ask_head) + 9);
    expect_ask("query 0", 0, 4, 4, sizeof(struct mi_ask_head) + 8);
    expect_ask("query beyond", MI_QUERY_LAST + 1, 4, 4,
               sizeof(struct mi_ask_head) + 8);
    expect_ask("query huge", UINT32_MAX, 4, 4, sizeof(struct mi_ask_head) + 8);
    expect_ask("sizes wrap", MI_CODE, UINT32_MAX, 9,
               sizeof(struct mi_ask_head) + 8);
    expect_ask("sizes wrap", MI_CODE, 9, UINT32_MAX,
               sizeof(struct mi_ask_head) + 8);
    expect_ask("key too long", MI_STAT, MI_PATH + 1, 0,
               sizeof(struct mi_ask_head) + MI_PATH + 1);
    expect_ask("extra too long", MI_STAT, 0, MI_PATH + 1,
               sizeof(struct mi_ask_head) + MI_PATH + 1);
}

static void test_ask_any_alignment_read(void)
{
    char message[200];
    struct mi_ask asked;
    size_t size;

    for (size_t shift = 0; shift < 16; shift++) {
        CHECK(pack(message + shift, "/a", 2, "b", 1, &size, NULL) == 0);
        CHECK(mi_ask_unpack(message + shift, size, &asked, NULL) == 0);
        CHECK(asked.query == MI_CODE && asked.key_size == 2);
    }
}

/* ---- listings ------------------------------------------------------------
 */

/* A LIST record with these payload bytes, in a block that ends with them. */
static struct mi_record *wrap(const void *bytes, size_t size)
{
    size_t head = mi_record_total(2, 0);
    struct mi_record *record = allocate(head + size);

    record->kind = MI_KIND_LIST;
    record->query = MI_LIST;
    record->key_size = 2;
    record->size = size;
    memcpy(record + 1, "/d", 3);
    if (size > 0)
        memcpy((char *)record + head, bytes, size);
    mi_record_seal(record, "/d");
    return record;
}

/* A listing of 'count' entries "type, name", which must be sorted by name. */
static struct mi_record *make_list(const char *const *entry, uint32_t count)
{
    size_t at = sizeof(uint32_t) * (1 + count), size = at;
    struct mi_record *record;
    struct mi_entries *list;

    for (uint32_t i = 0; i < count; i++)
        size += strlen(entry[i]) + 1;
    list = allocate(size);
    list->count = count;
    for (uint32_t i = 0; i < count; i++) {
        list->offset[i] = (uint32_t)at;
        memcpy((char *)list + at, entry[i], strlen(entry[i]) + 1);
        at += strlen(entry[i]) + 1;
    }
    record = wrap(list, size);
    free(list);
    return record;
}

static const char *const suffixes[] = {".so", ".py", ".pyc"};

static void match(const struct mi_record *list, const char *name,
                  int *directory, int *suffix)
{
    char *exact = allocate(strlen(name)); /* not terminated */

    memcpy(exact, name, strlen(name));
    *directory = *suffix = 77;
    mi_entries_match(list, exact, strlen(name), suffixes, 3, directory,
                     suffix);
    free(exact);
}

static const char *const sample[] = {
    "dalpha",    "fbeta.py",    "fbeta.pyc", "fbeta.so", "dbeta.so.d",
    "fbeta2.py", "dboth",       "fboth.py",  "fboth.x",  "ddir.py",
    "ffile",     "olink.so",    "flink.pyc", "fz",       "fz.py",
    "d\303\251", "f\303\251.py"};

#define SAMPLE (sizeof(sample) / sizeof(sample[0]))

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a + 1, *(const char *const *)b + 1);
}

/* The sample, sorted. */
static struct mi_record *sample_list(const char **sorted)
{
    memcpy(sorted, sample, sizeof(sample));
    qsort(sorted, SAMPLE, sizeof(*sorted), compare_names);
    return make_list(sorted, SAMPLE);
}

static void test_match_sample_found(void)
{
    static const struct {
        const char *name;
        int directory, suffix;
    } cases[] = {{"alpha", 1, -1}, {"beta", 0, 0},     {"beta2", 0, 1},
                 {"both", 1, 1},   {"dir", 0, -1},     {"file", 0, -1},
                 {"link", 0, 2},   {"z", 0, 1},        {"\303\251", 1, 1},
                 {"bet", 0, -1},   {"beta.so", 0, -1}, {"zz", 0, -1},
                 {"a", 0, -1},     {"alphaa", 0, -1},  {"Beta", 0, -1},
                 {"~", 0, -1},     {"\377\377", 0, -1}};
    const char *sorted[SAMPLE];
    struct mi_record *list = sample_list(sorted);
    int directory, suffix;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        match(list, cases[i].name, &directory, &suffix);
        CHECK_FOR(cases[i].name, directory == cases[i].directory);
        CHECK_FOR(cases[i].name, suffix == cases[i].suffix);
    }
    free(list);
}

static void test_match_no_suffixes_directory_only(void)
{
    const char *sorted[SAMPLE];
    struct mi_record *list = sample_list(sorted);
    int directory, suffix;

    mi_entries_match(list, "both", 4, NULL, 0, &directory, &suffix);
    CHECK(directory == 1 && suffix == -1);
    free(list);
}

static void test_type_sample_found(void)
{
    const char *sorted[SAMPLE];
    struct mi_record *list = sample_list(sorted);

    for (size_t i = 0; i < SAMPLE; i++)
        CHECK_FOR(sample[i],
                  mi_entries_type(list, sample[i] + 1) == sample[i][0]);
    CHECK(mi_entries_type(list, "bet") == 0);
    CHECK(mi_entries_type(list, "betaa") == 0);
    CHECK(mi_entries_type(list, "") == 0);
    CHECK(mi_entries_type(list, "\377") == 0);
    free(list);
}

static void test_name_sample_in_order(void)
{
    const char *sorted[SAMPLE], *name;
    struct mi_record *list = sample_list(sorted);
    char type = '?';

    for (uint32_t i = 0; i < SAMPLE; i++) {
        name = mi_entries_name(list, i, &type);
        CHECK(name && strcmp(name, sorted[i] + 1) == 0);
        CHECK(type == sorted[i][0]);
    }
    CHECK(!mi_entries_name(list, SAMPLE, &type));
    CHECK(!mi_entries_name(list, UINT32_MAX, &type));
    free(list);
}

static void expect_nothing(const char *about, const struct mi_record *list)
{
    int directory, suffix;
    char type;

    match(list, "beta", &directory, &suffix);
    CHECK_FOR(about, directory == 0 && suffix == -1);
    CHECK_FOR(about, mi_entries_type(list, "beta") == 0);
    CHECK_FOR(about, !mi_entries_name(list, 0, &type));
}

static void test_empty_list_nothing_found(void)
{
    struct mi_record *list = make_list(NULL, 0);

    expect_nothing(__func__, list);
    free(list);
}

static void test_other_kind_nothing_found(void)
{
    struct mi_record *record;
    char type;
    int directory, suffix;

    for (int kind = 1; kind <= MI_KIND_LAST; kind++) {
        if (kind == MI_KIND_LIST)
            continue;
        record = wrap(NULL, 0); /* as most of them are */
        record->kind = (uint8_t)kind;
        match(record, "beta", &directory, &suffix);
        CHECK(directory == 0 && suffix == -1);
        CHECK(mi_entries_type(record, "beta") == 0);
        free(record);
        record = wrap("\377\377\377\377", 4);
        record->kind = (uint8_t)kind;
        CHECK(!mi_entries_name(record, 0, &type));
        free(record);
    }
}

/* Whether what is there is found does not matter; nothing beyond the payload
 * may be read.  In children, since the sanitizer ends the process.
 */
struct damaged {
    const void *bytes;
    size_t size;
};

static int look_everywhere(void *arg)
{
    const struct damaged *damaged = arg;
    struct mi_record *list = wrap(damaged->bytes, damaged->size);
    const char *end = (const char *)list + mi_record_total(2, 0) + list->size;
    const char *name;
    int directory, suffix;
    char type;

    match(list, "b", &directory, &suffix);
    match(list, "beta", &directory, &suffix);
    mi_entries_type(list, "beta");
    mi_entries_type(list, "");
    for (uint32_t i = 0; i < 40; i++) {
        name = mi_entries_name(list, i, &type);
        CHECK(!name || (name > (char *)list && name < end &&
                        memchr(name, '\0', (size_t)(end - name))));
    }
    mi_entries_name(list, UINT32_MAX - 1, &type);
    free(list);
    return 0;
}

static void expect_inside(const char *about, const void *bytes, size_t size)
{
    struct damaged damaged = {bytes, size};

    check_child(look_everywhere, &damaged, about);
}

static void test_damaged_list_cut_read_inside(void)
{
    static const uint32_t whole[] = {2, 12, 18, 0, 0, 0};
    char bytes[sizeof(whole)];
    char about[80];

    memcpy(bytes, whole, sizeof(whole));
    memcpy(bytes + 12, "fbeta", 6);
    memcpy(bytes + 18, "fgamm", 6);
    for (size_t size = 0; size < sizeof(bytes); size++) {
        snprintf(about, sizeof(about), "%s: %zu bytes", __func__, size);
        expect_inside(about, bytes, size);
    }
}

static void test_damaged_list_count_read_inside(void)
{
    static const uint32_t counts[] = {3,          4,          1000,
                                      0x3fffffff, 0x40000000, UINT32_MAX};
    uint32_t list[] = {0, 12, 18, 0, 0, 0};
    char about[80];

    memcpy((char *)list + 12, "fbeta", 6);
    memcpy((char *)list + 18, "fgamm", 6);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        list[0] = counts[i];
        snprintf(about, sizeof(about), "%s: %u", __func__, counts[i]);
        expect_inside(about, list, sizeof(list));
    }
}

static void test_damaged_list_offset_read_inside(void)
{
    static const uint32_t offsets[] = {23,
                                       24,
                                       25,
                                       1000,
                                       0x7fffffff,
                                       0x80000000,
                                       UINT32_MAX,
                                       UINT32_MAX - 1,
                                       UINT32_MAX - 2};
    uint32_t list[] = {2, 12, 18, 0, 0, 0};
    char about[80];

    memcpy((char *)list + 12, "fbeta", 6);
    memcpy((char *)list + 18, "fgamm", 6);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (size_t at = 1; at < 3; at++) {
            uint32_t before = list[at];

            list[at] = offsets[i];
            snprintf(about, sizeof(about), "%s: [%zu] = %u", __func__, at,
                     offsets[i]);
            expect_inside(about, list, sizeof(list));
            list[at] = before;
        }
    }
}

static void test_damaged_list_no_terminator_read_inside(void)
{
    uint32_t list[] = {2, 12, 18, 0, 0, 0};

    memcpy((char *)list + 12, "fbeta", 6);
    memcpy((char *)list + 18, "fbetaa", 6);
    expect_inside(__func__, list, sizeof(list));
}

/* importlib.import_module() takes any string. */
static int match_name_with_nul(void *arg)
{
    static const char *const entry[] = {"dbeta"};
    struct mi_record *list = make_list(entry, 1);
    char name[300] = "beta";
    int directory, suffix;

    (void)arg;
    memset(name + 5, 'x', sizeof(name) - 5);
    mi_entries_match(list, name, sizeof(name), suffixes, 3, &directory,
                     &suffix);
    CHECK(directory == 0 && suffix == -1);
    mi_entries_match(list, name, 5, suffixes, 3, &directory, &suffix);
    CHECK(directory == 0 && suffix == -1);
    free(list);
    return 0;
}

static void test_match_name_with_nul_nothing_found(void)
{
    check_child(match_name_with_nul, NULL, __func__);
}

/* ---- what a mirrored object needs ------------------------------------------
 */

/* A MIRROR record of "/d" with these payload bytes, at the end of its block.
 */
static struct mi_record *make_mirror(const void *bytes, size_t size)
{
    struct mi_record *record = wrap(bytes, size);

    record->kind = MI_KIND_MIRROR;
    record->query = MI_MIRROR;
    mi_record_seal(record, "/d");
    return record;
}

/* "PLACE|SONAME|LINK" and what it needs, as "|NEED" each. */
static void expect_texts(const void *bytes, size_t size, const char *expected)
{
    struct mi_record *record = make_mirror(bytes, size);
    const char *need = NULL;
    char found[200];
    size_t used;

    used = (size_t)snprintf(found, sizeof(found), "%s|%s|%s",
                            mi_record_place(record), mi_record_soname(record),
                            mi_record_link(record));
    while (used < sizeof(found) &&
           (need = mi_record_need(record, need)) != NULL)
        used +=
            (size_t)snprintf(found + used, sizeof(found) - used, "|%s", need);
    CHECK_FOR(found, strcmp(found, expected) == 0);
    free(record);
}

static void test_mirror_no_texts_own_path(void)
{
    expect_texts(NULL, 0, "/d||");
    expect_texts("", 1, "/d||");
    expect_texts("\0", 2, "/d||");
    expect_texts("\0\0", 3, "/d||");
}

static void test_mirror_each_text_told(void)
{
    expect_texts("/place", 7, "/place||");
    expect_texts("/place\0liba.so", 15, "/place|liba.so|");
    expect_texts("/place\0liba.so\0/to", 19, "/place|liba.so|/to");
    expect_texts("\0\0/to", 6, "/d||/to");
}

static void test_mirror_needs_in_order(void)
{
    expect_texts("\0\0\0sliba.so", 12, "/d|||sliba.so");
    expect_texts("/p\0s\0/l\0M/c\0sb\0Ua\0sb", 21, "/p|s|/l|M/c|sb|Ua|sb");
}

static void test_mirror_many_needs_found(void)
{
    enum { COUNT = 1000 };
    char text[COUNT * 8] = "", *end = text + 3;
    struct mi_record *record;
    const char *need = NULL;
    int right = 0;

    for (int i = 0; i < COUNT; i++)
        end += snprintf(end, 8, "s%d", i) + 1;
    record = make_mirror(text, (size_t)(end - text));
    for (int i = 0; (need = mi_record_need(record, need)) != NULL; i++)
        right += atoi(need + 1) == i;
    CHECK(right == COUNT);
    free(record);
}

/* As the line that says why an object is damaged is. */
static void test_mirror_unterminated_ignored(void)
{
    expect_texts("x", 1, "/d||");
    expect_texts("/place", 6, "/d||");
    expect_texts("\0\0\0sliba.so", 11, "/d||");
}

/* What has no copy has the same texts; other answers have none. */
static void test_mirror_refused_texts_read(void)
{
    static const char bytes[] = "/p\0s\0\0sx";
    struct mi_record *record = make_mirror(bytes, sizeof(bytes));

    record->kind = MI_KIND_ABSENT;
    record->code = MI_MIRROR_REFUSED;
    CHECK(strcmp(mi_record_place(record), "/p") == 0);
    CHECK(strcmp(mi_record_soname(record), "s") == 0);
    CHECK(mi_record_need(record, NULL) &&
          strcmp(mi_record_need(record, NULL), "sx") == 0);
    for (int code = 0; code < 3; code++) {
        record->code = code == 0 ? MI_MIRROR_DAMAGED : code == 1 ? ENOENT : 0;
        CHECK(strcmp(mi_record_place(record), "/d") == 0);
        CHECK(!mi_record_soname(record)[0] && !mi_record_link(record)[0]);
        CHECK(!mi_record_need(record, NULL));
    }
    free(record);
}

static void test_mirror_any_bytes_read_inside(void)
{
    static const char bytes[] = "\0a\0\0b\0\0\0\0c/\0d";
    const char *need = NULL;
    struct mi_record *record;

    for (size_t from = 0; from < sizeof(bytes); from++) {
        for (size_t to = from; to <= sizeof(bytes); to++) {
            record = make_mirror(bytes + from, to - from);
            CHECK(mi_record_place(record)[0] != '\0');
            CHECK(strlen(mi_record_soname(record)) +
                      strlen(mi_record_link(record)) <=
                  to - from);
            for (size_t i = 0; i <= to - from; i++) {
                need = mi_record_need(record, need);
                if (!need)
                    break;
                CHECK(need + strlen(need) <
                      (const char *)mi_record_payload(record) + record->size);
            }
            CHECK(!need);
            free(record);
        }
    }
}

/* A capital letter says that the linker has to be helped. */
static void test_need_letters_told_apart(void)
{
    static const char letters[] = "smvlpu";

    for (const char *p = letters; *p; p++) {
        const char small[] = {*p, 'x', '\0'};
        const char capital[] = {(char)(*p - 'a' + 'A'), 'x', '\0'};

        CHECK_FOR(small, MI_NEED_KIND(small) == *p && !MI_NEED_HELP(small));
        CHECK_FOR(small, MI_NEED_KIND(capital) == *p && MI_NEED_HELP(capital));
    }
}

int main(void)
{
    test_hash_every_byte_counts();
    test_key_hash_query_counts();
    test_record_total_aligned_enough();
    test_record_sealed_accepted();
    test_record_each_byte_damaged_refused();
    test_record_every_truncation_refused();
    test_record_impossible_fields_refused();
    test_record_longest_path_accepted();
    test_frame_each_type_accepted();
    test_frame_each_byte_damaged_refused();
    test_frame_wrong_sequence_refused();
    test_frame_wrong_offset_refused();
    test_frame_other_version_named();
    test_frame_impossible_fields_refused();
    test_ask_round_trip_same();
    test_ask_pack_too_long_refused();
    test_ask_malformed_refused();
    test_ask_any_alignment_read();
    test_match_sample_found();
    test_match_no_suffixes_directory_only();
    test_type_sample_found();
    test_name_sample_in_order();
    test_empty_list_nothing_found();
    test_other_kind_nothing_found();
    test_damaged_list_cut_read_inside();
    test_damaged_list_count_read_inside();
    test_damaged_list_offset_read_inside();
    test_damaged_list_no_terminator_read_inside();
    test_match_name_with_nul_nothing_found();
    test_mirror_no_texts_own_path();
    test_mirror_each_text_told();
    test_mirror_needs_in_order();
    test_mirror_many_needs_found();
    test_mirror_unterminated_ignored();
    test_mirror_refused_texts_read();
    test_mirror_any_bytes_read_inside();
    test_need_letters_told_apart();
    return check_report();
}
