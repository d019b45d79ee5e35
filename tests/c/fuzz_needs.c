/* Damaged shared objects through the whole reader.  Usage: fuzz_needs [rounds
 * [seed]]; the same arguments and compiler give the same images.  Whatever an
 * object holds, the answer is that it is mirrored, refused or damaged, and its
 * record is sound.  Each image is looked at a second time in a block of just
 * its size, so that a sanitizer sees the first byte read beyond it.
 */
#include "random.h"
#include "reader_fixture.h"

#include "../../src/elf.h"
#include "../../src/needs.h"
#include "../../src/search.h"

enum { ROUNDS = 12000, TURN = 400 };

struct image {
    unsigned char *bytes;
    size_t size;
    size_t dynamic, dynamic_size; /* places in the file */
    size_t strings, strings_size;
};

static long mirrored, refused, damaged;

/* ---- the object --------------------------------------------------------- */

static void run(char *const *command)
{
    pid_t child = fork();
    int status = -1;

    check_need(child >= 0, "fork");
    if (child == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    check_need(waitpid(child, &status, 0) == child && status == 0, "compiler");
}

#define TEXT(text) (char *)(uintptr_t)(text)

/* Compile one that has all that the reader looks at. */
static void compile(const struct fixture *f)
{
    static const char source[] =
        "#include <dlfcn.h>\n"
        "const char *names[] = {\"libplug.so\", \"libplug.so.1\"};\n"
        "void *use(int i) { return dlopen(names[i], RTLD_NOW); }\n";
    char path[PATH_MAX], stand[PATH_MAX], object[PATH_MAX], by_path[PATH_MAX],
        soname[PATH_MAX + 40], *search = NULL;
    const char *compiler = getenv("CC");

    compiler = compiler && compiler[0] ? compiler : "gcc";
    check_join(path, f->scratch, "source.c");
    check_join(stand, f->scratch, "stand.so");
    check_join(by_path, f->scratch, "path.so");
    check_join(object, f->scratch, "object.so");
    check_write(path, source, sizeof(source) - 1);
    run((char *[]){TEXT(compiler), TEXT("-shared"), TEXT("-nostdlib"),
                   TEXT("-Wl,-soname,libneed.so"), TEXT("-x"), TEXT("c"),
                   TEXT("/dev/null"), TEXT("-o"), stand, NULL});
    snprintf(soname, sizeof(soname), "-Wl,-soname,%s/used/libpath.so",
             f->tree);
    run((char *[]){TEXT(compiler), TEXT("-shared"), TEXT("-nostdlib"), soname,
                   TEXT("-x"), TEXT("c"), TEXT("/dev/null"), TEXT("-o"),
                   by_path, NULL});
    check_need(
        asprintf(&search,
                 "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../used:%s/idle:"
                 "$ORIGIN:/$LIB/x:%s/used",
                 f->tree, f->tree) > 0,
        "memory");
    run((char *[]){TEXT(compiler), TEXT("-shared"), TEXT("-fPIC"),
                   TEXT("-Wl,--no-as-needed"), TEXT("-Wl,-soname,libown.so"),
                   search, path, stand, by_path, TEXT("-o"), object, NULL});
    free(search);
}

/* Read it, and find its parts. */
static void load(const struct fixture *f, struct image *image)
{
    char path[PATH_MAX];
    struct mi_elf elf;
    Elf64_Ehdr header;
    Elf64_Phdr segment;

    image->bytes =
        check_read(check_join(path, f->scratch, "object.so"), &image->size);
    check_need(mi_elf_parse(image->bytes, image->size, &elf, NULL) == 0,
               "sound object");
    image->strings =
        (size_t)((const unsigned char *)elf.strings - image->bytes);
    image->strings_size = elf.strings_size;
    check_need(elf.runpath && elf.needed_count >= 3, "needs");
    mi_elf_clear(&elf);
    memcpy(&header, image->bytes, sizeof(header));
    for (unsigned i = 0; i < header.e_phnum; i++) {
        memcpy(&segment, image->bytes + header.e_phoff + i * sizeof(segment),
               sizeof(segment));
        if (segment.p_type == PT_DYNAMIC) {
            image->dynamic = segment.p_offset;
            image->dynamic_size = segment.p_filesz;
        }
    }
    check_need(image->dynamic_size > 0, "dynamic section");
}

/* ---- damage ------------------------------------------------------------- */

static void put(struct image *image, size_t at, size_t width, uint64_t value)
{
    for (size_t i = 0; i < width && at + i < image->size; i++)
        image->bytes[at + i] = (unsigned char)(value >> (8 * i));
}

/* Values that break careless arithmetic, and values near real ones. */
static uint64_t awkward(const struct image *image)
{
    const uint64_t near = below(16);

    switch (below(8)) {
    case 0:
        return near;
    case 1:
        return UINT64_MAX - near;
    case 2:
        return (UINT64_C(1) << 63) - 8 + near;
    case 3:
        return (UINT64_C(1) << 32) - 8 + near;
    case 4:
        return image->size - 8 + near;
    case 5:
        return image->strings_size - 8 + near;
    case 6:
        return below(image->strings_size);
    default:
        return below(image->size);
    }
}

static void damage_header(struct image *image)
{
    static const size_t widths[] = {1, 2, 4, 8};
    Elf64_Ehdr header;
    size_t at;

    memcpy(&header, image->bytes, sizeof(header));
    if (below(2)) {
        put(image, 16 + below(48), widths[below(4)], awkward(image));
        return;
    }
    at = 64 + 56 * below(12);
    put(image, at + 8 * below(7), 8, awkward(image));
}

static void damage_dynamic(struct image *image)
{
    static const uint64_t tags[] = {DT_NULL,   DT_NEEDED, DT_STRTAB, DT_STRSZ,
                                    DT_SONAME, DT_RPATH,  DT_RUNPATH};
    const size_t at = image->dynamic + 16 * below(image->dynamic_size / 16);

    if (below(2))
        put(image, at, 8, tags[below(sizeof(tags) / sizeof(tags[0]))]);
    else
        put(image, at + 8, 8, awkward(image));
}

/* Letters that mean something in names and search paths. */
static void damage_strings(struct image *image)
{
    static const char *const pieces[] = {
        "/",  ":",    "::",  "..",       "$ORIGIN",   "${ORIGIN}", "$LIB",
        "\n", "",     "=",   "?",        "/../",      "$PLATFORM", "x",
        "$",  "\377", ".so", "/dev/shm", "libplug.so"};
    const char *piece = pieces[below(sizeof(pieces) / sizeof(pieces[0]))];
    const size_t at = image->strings + below(image->strings_size);
    const size_t room = image->strings + image->strings_size - at;
    const size_t size = strlen(piece) + (piece[0] == '\0');

    if (below(20) == 0)
        memset(image->bytes + at, 'x', room);
    else
        memcpy(image->bytes + at, piece, size < room ? size : room);
}

static void damage(struct image *image)
{
    for (size_t count = 1 + below(3); count > 0; count--)
        switch (below(8)) {
        case 0:
        case 1:
            damage_header(image);
            break;
        case 2:
        case 3:
            damage_dynamic(image);
            break;
        case 4:
            put(image, below(image->size), 1, next_random());
            break;
        default:
            damage_strings(image);
            break;
        }
    if (below(8) == 0)
        image->size = below(image->size);
}

/* ---- a look at the block ------------------------------------------------ */

static int no_list(void *arg, const char *directory,
                   const struct mi_record **list, struct mi_error *err)
{
    (void)arg;
    (void)list;
    (void)err;
    CHECK_FOR("list", directory[0] == '/' && strlen(directory) < PATH_MAX);
    return 0;
}

static int no_add(void *arg, const char *path, const char *inherits,
                  struct mi_error *err)
{
    (void)arg;
    (void)inherits;
    (void)err;
    CHECK_FOR(path, path[0] == '/' && strlen(path) < PATH_MAX);
    return 0;
}

static int no_link(void *arg, const char *directory, struct mi_error *err)
{
    (void)arg;
    (void)err;
    CHECK_FOR(directory, directory[0] == '/' && strlen(directory) < PATH_MAX);
    return 0;
}

static int no_alias(void *arg, const char *path, const char *inherits,
                    const char **alias, struct mi_error *err)
{
    (void)inherits;
    (void)err;
    CHECK_FOR(path, path[0] == '/');
    *alias = arg;
    return 0;
}

static void look_at_block(const struct fixture *f, const struct image *image,
                          struct mi_search *search)
{
    static char alias[] = "/alias";
    const struct mi_needs_config config = {.search = search,
                                           .list = no_list,
                                           .add = no_add,
                                           .open = no_add,
                                           .link = no_link,
                                           .add_alias = no_alias,
                                           .arg = alias};
    char *block = malloc(image->size ? image->size : 1);
    struct mi_text out = {.size = 0};
    struct mi_elf elf;
    struct mi_needs_object object = {.path = fixture_path(f, "pkg/x.so"),
                                     .inherited = "/inherited:?:",
                                     .elf = &elf,
                                     .image = block,
                                     .size = image->size};

    check_need(block != NULL, "memory");
    memcpy(block, image->bytes, image->size);
    if (mi_elf_parse(block, image->size, &elf, NULL) == 0) {
        CHECK(mi_needs_write(&config, &object, &out, NULL) == 0);
        mi_elf_clear(&elf);
    }
    mi_text_clear(&out);
    free(block);
}

/* ---- the reader --------------------------------------------------------- */

/* The record's texts lie within it and mean something. */
static void check_texts(const struct mi_record *record)
{
    const char *payload = mi_record_payload(record);
    const char *end = payload + record->size, *need = NULL;

    CHECK(mi_record_check(record,
                          mi_record_total(record->key_size, record->size),
                          NULL) == 0);
    CHECK(mi_record_place(record)[0] == '/');
    CHECK(strlen(mi_record_soname(record)) <= record->size);
    while ((need = mi_record_need(record, need)) != NULL) {
        CHECK(need > payload && need + strlen(need) < end);
        CHECK_FOR(need, need[0] && strchr("smvlpu", MI_NEED_KIND(need)));
        if (strchr("mvlp", MI_NEED_KIND(need)))
            CHECK_FOR(need, need[1] == '/');
    }
}

static void judge(const struct mi_record *record)
{
    if (record->kind == MI_KIND_MIRROR) {
        mirrored++;
        CHECK(record->object > 0);
        check_texts(record);
    } else if (record->code == MI_MIRROR_REFUSED) {
        refused++;
        check_texts(record);
    } else if (record->code == MI_MIRROR_DAMAGED) {
        damaged++;
        CHECK(record->size > 0 && !mi_record_need(record, NULL));
    } else { /* it was cut to nothing */
        CHECK(record->kind == MI_KIND_ABSENT && record->code == EINVAL &&
              record->file_size == 0);
        damaged++;
    }
}

static void make_tree(const struct fixture *f)
{
    static const char *const names[] = {
        "pkg",           "used", "idle", "used/libneed.so", "used/libpath.so",
        "pkg/libplug.so"};
    static const char *const none[] = {NULL};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (i < 3)
            check_need(mkdir(fixture_path(f, names[i]), 0700) == 0, names[i]);
        else
            fixture_object(fixture_path(f, names[i]), none, "$ORIGIN");
    }
}

/* A few hundred images through one reader. */
static void run_turn(struct fixture *f, const struct image *base, long rounds)
{
    struct mi_search search;
    struct image image = *base;
    char name[40], path[PATH_MAX];
    const struct mi_record *record;

    fixture_open(f, 64 * MIB, 1, 0, 0);
    check_need(mi_search_init(&search, NULL, getenv, NULL) == 0, "search");
    image.bytes = malloc(base->size);
    check_need(image.bytes != NULL, "memory");
    for (long i = 0; i < rounds; i++) {
        memcpy(image.bytes, base->bytes, base->size);
        image.size = base->size;
        damage(&image);
        snprintf(name, sizeof(name), "pkg/%ld.so", i);
        strcpy(path, fixture_path(f, name));
        check_write(path, image.bytes, image.size);
        look_at_block(f, &image, &search);
        record = fixture_ask(f, MI_MIRROR, path);
        if (record)
            judge(record);
        unlink(path);
    }
    CHECK_FOR(f->notice, atomic_load(&f->notices) == 0);
    free(image.bytes);
    mi_search_clear(&search);
    fixture_close(f);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : ROUNDS;
    struct image base = {0};
    struct fixture f;

    if (argc > 2 && strtoull(argv[2], NULL, 10))
        seed_random(argv[2]);
    fixture_place(&f);
    make_tree(&f);
    compile(&f);
    load(&f, &base);
    for (long done = 0; done < rounds; done += TURN)
        run_turn(&f, &base, rounds - done < TURN ? rounds - done : TURN);
    CHECK(mirrored > rounds / 20 && damaged > rounds / 20);
    CHECK(mirrored + refused + damaged == rounds);
    printf("%ld mirrored, %ld refused, %ld damaged\n", mirrored, refused,
           damaged);
    free(base.bytes);
    check_remove(f.scratch);
    return check_report();
}
