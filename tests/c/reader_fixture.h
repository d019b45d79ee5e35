/* What the tests of src/reader.c share: a reader with all it needs on a
 * scratch tree, and shared objects made by hand.
 */
#ifndef READER_FIXTURE_H
#define READER_FIXTURE_H

#include "check.h"

#include <elf.h>
#include <pthread.h>

#include "../../src/mirror.h"
#include "../../src/pace.h"
#include "../../src/reader.h"

#define MIB ((size_t)1 << 20)

/* Of the bytecode that it takes. */
#ifndef FIXTURE_MAGIC
#define FIXTURE_MAGIC                                                         \
    {                                                                         \
        1, 2, 3, 4                                                            \
    }
#endif

struct fixture {
    char scratch[PATH_MAX]; /* holds the two: */
    char tree[PATH_MAX];    /* what is read */
    char top[PATH_MAX];     /* where the mirror is */
    char **share;           /* prefixes that are of the tree; NULL: none */
    char **local;           /* and that are not */
    struct mi_store *store;
    struct mi_mailbox *mailbox;
    struct mi_mirror *mirror;
    struct mi_reader *reader;
    uint64_t operations, bytes; /* made before the test */
    struct mi_asked *asked;     /* borrowed, or NULL */
    pthread_mutex_t *gate;      /* notices wait for it; NULL: they do not */
    atomic_int notices;
    int slow;       /* milliseconds that a notice takes */
    unsigned first; /* of the last notice */
    char notice[PATH_MAX + 2000];
};

static inline void fixture_notice(void *arg, unsigned first, const char *text)
{
    struct fixture *f = arg;

    mi_lap_call();
    if (f->slow)
        check_sleep(f->slow);
    mi_lap_return();
    if (atomic_fetch_add(&f->notices, 1) == 0) {
        f->first = first;
        snprintf(f->notice, sizeof(f->notice), "%s", text);
    }
    if (f->gate) {
        pthread_mutex_lock(f->gate);
        pthread_mutex_unlock(f->gate);
    }
}

/* Directories for the tree and the mirror, in a new one. */
static inline void fixture_place(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    check_scratch(f->scratch);
    check_need(mkdir(check_join(f->tree, f->scratch, "tree"), 0700) == 0 &&
                   mkdir(check_join(f->top, f->scratch, "top"), 0700) == 0,
               f->scratch);
}

/* Have it keep the directory of the tree, which is not counted. */
static inline void fixture_keep_tree(struct fixture *f)
{
    const struct mi_traffic *traffic = mi_reader_traffic(f->reader);
    struct mi_answer answer;

    check_need(
        mi_reader_read(f->reader, MI_LIST, f->tree, "", &answer, NULL) == 0,
        "tree");
    mi_answer_clear(&answer);
    f->operations = atomic_load(&traffic->operations);
    f->bytes = atomic_load(&traffic->bytes);
}

/* A reader for what fixture_place() has made; 'stream' as in its
 * configuration.
 */
static inline void fixture_open(struct fixture *f, size_t capacity,
                                int mirrored, int threads, int stream)
{
    struct mi_reader_config config = {
        .share = f->share,
        .local = f->local,
        .asked = f->asked,
        .rule = {.magic = FIXTURE_MAGIC, .check_hash = 'd'},
        .threads = threads,
        .stream = stream,
        .notice = fixture_notice,
        .arg = f};

    check_need(mi_store_create_private(&f->store, capacity, NULL) == 0 &&
                   mi_mailbox_create_private(&f->mailbox, NULL) == 0,
               "store");
    if (mirrored)
        check_need(mi_mirror_create(&f->mirror, f->top, NULL) == 0, "mirror");
    config.store = f->store;
    config.mailbox = f->mailbox;
    config.mirror = f->mirror;
    check_need(mi_reader_create(&f->reader, &config, NULL) == 0, "reader");
    fixture_keep_tree(f);
}

static inline void fixture_make(struct fixture *f, size_t capacity,
                                int mirrored, int threads, int stream)
{
    fixture_place(f);
    fixture_open(f, capacity, mirrored, threads, stream);
}

/* All but the directories. */
static inline void fixture_close(struct fixture *f)
{
    mi_reader_destroy(f->reader);
    mi_mirror_destroy(f->mirror);
    mi_mailbox_destroy(f->mailbox);
    mi_store_destroy(f->store);
    CHECK(check_entries(f->top) == 0);
}

static inline void fixture_clear(struct fixture *f)
{
    fixture_close(f);
    check_remove(f->scratch);
}

/* "TREE/NAME", in one of a few buffers. */
static inline const char *fixture_path(const struct fixture *f,
                                       const char *name)
{
    static _Thread_local char path[4][PATH_MAX];
    static _Thread_local unsigned next;

    next = (next + 1) % 4;
    return check_join(path[next], f->tree, name);
}

static inline uint64_t fixture_operations(const struct fixture *f)
{
    return atomic_load(&mi_reader_traffic(f->reader)->operations) -
           f->operations;
}

static inline uint64_t fixture_bytes(const struct fixture *f)
{
    return atomic_load(&mi_reader_traffic(f->reader)->bytes) - f->bytes;
}

static inline const struct mi_record *
fixture_find(const struct fixture *f, enum mi_query query, const char *path)
{
    return mi_store_find(f->store, query, path, strlen(path));
}

/* Ask the reader; NULL unless there is an answer. */
static inline const struct mi_record *
fixture_ask(struct fixture *f, enum mi_query query, const char *path)
{
    const struct mi_record *record = NULL;
    struct mi_error err;
    int rc;

    mi_error_clear(&err);
    rc = mi_reader_answer(f->reader, query, path, "", &record, &err);
    CHECK_FOR(err.text, rc == 1 && record);
    return rc == 1 ? record : NULL;
}

/* Have the pool answer. */
static inline int fixture_submit(struct fixture *f, enum mi_query query,
                                 const char *path, const char *extra,
                                 struct mi_error *err)
{
    const struct mi_ask ask = mi_ask_of(query, path, extra);
    unsigned char message[MI_ASK_MAX];
    size_t size;

    if (mi_ask_pack(message, &ask, &size, err) != 0)
        return -1;
    return mi_reader_submit(f->reader, message, size, err);
}

static inline int fixture_idle(void *arg)
{
    struct fixture *f = arg;

    return mi_reader_settle(f->reader) == 0;
}

/* ---- shared objects --------------------------------------------------------
 */

#if defined(__x86_64__)
#define FIXTURE_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define FIXTURE_MACHINE EM_AARCH64
#elif defined(__powerpc64__)
#define FIXTURE_MACHINE EM_PPC64
#elif defined(__riscv)
#define FIXTURE_MACHINE EM_RISCV
#else
#define FIXTURE_MACHINE EM_LOONGARCH
#endif

#define FIXTURE_NEEDED 6 /* libraries at most */

/* What an object says of itself; NULL: nothing.  'needed' ends with a NULL. */
struct fixture_tags {
    const char *const *needed;
    const char *soname;
    const char *rpath;
    const char *runpath;
    const char *text; /* one more string in its table */
};

/* One segment that is the whole file, at address 0, aligned for any size of
 * pages, and a symbol table with the null symbol: the dynamic linker takes it.
 */
struct fixture_image {
    Elf64_Ehdr header;
    Elf64_Phdr segment[3];
    Elf64_Sym symbol;
    Elf64_Dyn dynamic[FIXTURE_NEEDED + 8];
    char strings[1500];
};

/* The next entry, whose value is an offset or the place of a string. */
static inline void fixture_entry(struct fixture_image *image, Elf64_Sxword tag,
                                 uint64_t value, const char *string)
{
    Elf64_Dyn *entry = image->dynamic;
    size_t used = 1;

    if (tag != DT_STRTAB && tag != DT_STRSZ && tag != DT_SYMTAB && !string)
        return;
    while (entry->d_tag != DT_NULL)
        entry++;
    while (image->strings[used])
        used += strlen(image->strings + used) + 1;
    check_need(!string || used + strlen(string) + 2 < sizeof(image->strings),
               "room for strings");
    if (string && string[0])
        strcpy(image->strings + used, string);
    else
        used = 0; /* where the table has an empty one */
    *entry = (Elf64_Dyn){.d_tag = tag, .d_un.d_val = string ? used : value};
}

static inline void fixture_write(const char *path,
                                 const struct fixture_tags *tags)
{
    const size_t dynamic = offsetof(struct fixture_image, dynamic);
    struct fixture_image image = {
        .header = {.e_ident = {127, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB,
                               EV_CURRENT},
                   .e_type = ET_DYN,
                   .e_machine = FIXTURE_MACHINE,
                   .e_version = EV_CURRENT,
                   .e_phoff = offsetof(struct fixture_image, segment),
                   .e_ehsize = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 3},
        .segment = {
            {.p_type = PT_LOAD,
             .p_flags = PF_R | PF_W,
             .p_filesz = sizeof(image),
             .p_memsz = sizeof(image),
             .p_align = 65536},
            {.p_type = PT_DYNAMIC,
             .p_flags = PF_R | PF_W,
             .p_offset = dynamic,
             .p_vaddr = dynamic,
             .p_filesz = sizeof(image.dynamic),
             .p_memsz = sizeof(image.dynamic),
             .p_align = 8},
            {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16}}};

    for (const char *const *name = tags->needed; name && *name; name++)
        fixture_entry(&image, DT_NEEDED, 0, *name);
    fixture_entry(&image, DT_SONAME, 0, tags->soname);
    fixture_entry(&image, DT_RPATH, 0, tags->rpath);
    fixture_entry(&image, DT_RUNPATH, 0, tags->runpath);
    /* A tag that nobody knows: of the string alone. */
    fixture_entry(&image, DT_LOOS + 0x7ffff, 0, tags->text);
    fixture_entry(&image, DT_STRTAB, offsetof(struct fixture_image, strings),
                  NULL);
    fixture_entry(&image, DT_STRSZ, sizeof(image.strings), NULL);
    fixture_entry(&image, DT_SYMTAB, offsetof(struct fixture_image, symbol),
                  NULL);
    check_write(path, &image, sizeof(image));
}

/* Write a shared object that needs these libraries (a list that ends with
 * NULL) from the directories 'runpath' (NULL: none said).
 */
static inline void fixture_object(const char *path, const char *const *needed,
                                  const char *runpath)
{
    struct fixture_tags tags = {.needed = needed, .runpath = runpath};

    fixture_write(path, &tags);
}

/* Is it in the mirror, as it is in the tree, and said to be? */
static inline int fixture_mirrored(const struct fixture *f, const char *path)
{
    const struct mi_record *record = fixture_find(f, MI_MIRROR, path);
    char place[PATH_MAX * 2];
    size_t size;
    void *bytes = check_read(path, &size);
    int same;

    snprintf(place, sizeof(place), "%s%s", mi_mailbox_mirror(f->mailbox),
             path);
    same = record && record->kind == MI_KIND_MIRROR && record->object > 0 &&
           check_holds(place, bytes, size);
    free(bytes);
    return same;
}

#endif
