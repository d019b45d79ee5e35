/* Tests of src/elf.c: images built here field by field, the objects of this
 * process, search paths.  Field offsets are written as numbers, from the
 * System V ABI, so that a mistake in the parser is not repeated here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/elf.h"

static int passed;
static int failed;

static void check(int ok, const char *file, int line, const char *text,
                  const char *about)
{
    if (ok) {
        passed++;
        return;
    }
    failed++;
    fprintf(stderr, "%s:%d: failed: %s (%s)\n", file, line, text, about);
}

#define CHECK_FOR(about, ok) check((ok) != 0, __FILE__, __LINE__, #ok, (about))
#define CHECK(ok) CHECK_FOR(__func__, ok)

static int same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* The image: header, three program headers (PT_LOAD of these, PT_LOAD of the
 * rest, PT_DYNAMIC), dynamic section, strings, and a tail outside of all
 * segments, where an object has its section headers.  No address equals its
 * file offset.
 */
enum {
    PHOFF = 64,
    LOAD_TEXT = PHOFF,
    LOAD_DATA = PHOFF + 56,
    DYNAMIC = PHOFF + 112,
    HEADERS_END = DYNAMIC + 56,
    DYN = 240,
    DYN_NEEDED_1 = DYN,
    DYN_SONAME = DYN + 16,
    DYN_NEEDED_2 = DYN + 32,
    DYN_RPATH = DYN + 48,
    DYN_OTHER = DYN + 64,
    DYN_RUNPATH = DYN + 80,
    DYN_STRTAB = DYN + 96,
    DYN_STRSZ = DYN + 112,
    DYN_NULL = DYN + 128,
    DYN_SIZE = 160, /* one unused entry behind DT_NULL */
    STR = DYN + DYN_SIZE,
    STR_SIZE = 58,
    LOAD_END = STR + STR_SIZE,
    IMAGE_SIZE = LOAD_END + 41
};

#define TEXT_ADDRESS UINT64_C(0x400000)
#define DATA_ADDRESS UINT64_C(0x601000)
#define STR_ADDRESS (DATA_ADDRESS + (STR - DYN))

static const char strings[] = "\0libone.so.1\0libtwo.so\0me.so"
                              "\0$ORIGIN/../a:/b\0$ORIGIN/libs";
enum { ONE = 1, TWO = 13, ME = 23, RPATH = 29, RUNPATH = 45 };

_Static_assert(sizeof(strings) == STR_SIZE, "STR_SIZE");

#if defined(__x86_64__)
enum { MACHINE = 62 };
#elif defined(__aarch64__)
enum { MACHINE = 183 };
#elif defined(__powerpc64__)
enum { MACHINE = 21 };
#elif defined(__riscv)
enum { MACHINE = 243 };
#else
enum { MACHINE = 258 };
#endif

static void put(unsigned char *image, size_t at, int width, uint64_t value)
{
    int i;

    for (i = 0; i < width; i++)
        image[at + (size_t)i] = (unsigned char)(value >> (8 * i));
}

static void put_segment(unsigned char *image, size_t at, uint64_t type,
                        uint64_t offset, uint64_t address, uint64_t filesz,
                        uint64_t memsz)
{
    put(image, at, 4, type);
    put(image, at + 8, 8, offset);
    put(image, at + 16, 8, address);
    put(image, at + 24, 8, address);
    put(image, at + 32, 8, filesz);
    put(image, at + 40, 8, memsz);
    put(image, at + 48, 8, 1);
}

static void put_entry(unsigned char *image, size_t at, uint64_t tag,
                      uint64_t value)
{
    put(image, at, 8, tag);
    put(image, at + 8, 8, value);
}

static void put_header(unsigned char *image)
{
    static const unsigned char ident[] = {127, 'E', 'L', 'F', 2, 1, 1};

    memcpy(image, ident, sizeof(ident));
    put(image, 16, 2, 3);
    put(image, 18, 2, MACHINE);
    put(image, 20, 4, 1);
    put(image, 32, 8, PHOFF);
    put(image, 52, 2, 64);
    put(image, 54, 2, 56);
    put(image, 56, 2, 3);
}

static void build(unsigned char image[IMAGE_SIZE])
{
    memset(image, 0, IMAGE_SIZE);
    memset(image + LOAD_END, 'x', IMAGE_SIZE - LOAD_END);
    put_header(image);
    put_segment(image, LOAD_TEXT, 1, 0, TEXT_ADDRESS, DYN, DYN);
    put_segment(image, LOAD_DATA, 1, DYN, DATA_ADDRESS, LOAD_END - DYN,
                LOAD_END - DYN + 1000);
    put_segment(image, DYNAMIC, 2, DYN, DATA_ADDRESS, DYN_SIZE, DYN_SIZE);
    put_entry(image, DYN_NEEDED_1, 1, ONE);
    put_entry(image, DYN_SONAME, 14, ME);
    put_entry(image, DYN_NEEDED_2, 1, TWO);
    put_entry(image, DYN_RPATH, 15, RPATH);
    put_entry(image, DYN_OTHER, 0x6ffffffb, 0x81);
    put_entry(image, DYN_RUNPATH, 29, RUNPATH);
    put_entry(image, DYN_STRTAB, 5, STR_ADDRESS);
    put_entry(image, DYN_STRSZ, 10, STR_SIZE);
    put_entry(image, DYN_NULL, 0, 0);
    put_entry(image, DYN_NULL + 16, 1, 0xffff); /* not part of it */
    memcpy(image + STR, strings, STR_SIZE);
}

/* Parse a copy that ends where its block ends, 'shift' bytes off alignment.
 * The block is the caller's to free.
 */
static int parse_copy(const unsigned char *image, size_t size, size_t shift,
                      unsigned char **block, struct mi_elf *elf,
                      struct mi_error *err)
{
    *block = malloc(size + shift > 0 ? size + shift : 1);
    if (!*block)
        abort();
    if (size > 0)
        memcpy(*block + shift, image, size);
    if (size + shift == 0)
        return mi_elf_parse(*block + 1, 0, elf, err);
    return mi_elf_parse(*block + shift, size, elf, err);
}

/* NULL in 'text' means that the image is accepted. */
static void expect_size(const unsigned char *image, size_t size,
                        const char *text, const char *about)
{
    unsigned char *block;
    struct mi_elf elf;
    struct mi_elf before;
    struct mi_error err;
    int result;

    memset(&elf, 0x5a, sizeof(elf));
    before = elf;
    mi_error_clear(&err);
    result = parse_copy(image, size, 0, &block, &elf, &err);
    if (!text) {
        CHECK_FOR(result < 0 ? err.text : about, result == 0);
        if (result == 0)
            mi_elf_clear(&elf);
    } else {
        CHECK_FOR(about, result == -1);
        CHECK_FOR(about, err.domain == MI_FORMAT && err.code == 0);
        CHECK_FOR(err.text, strstr(err.text, text) != NULL);
        CHECK_FOR(about, memcmp(&elf, &before, sizeof(elf)) == 0);
        CHECK_FOR(about, mi_elf_parse(block, size, &elf, NULL) == -1);
    }
    free(block);
}

static void test_parse_built_fields(void)
{
    unsigned char image[IMAGE_SIZE];
    unsigned char *block;
    struct mi_elf elf;
    size_t shift;

    build(image);
    for (shift = 0; shift < 9; shift++) {
        if (parse_copy(image, IMAGE_SIZE, shift, &block, &elf, NULL) < 0) {
            CHECK(!"parsed");
            free(block);
            continue;
        }
        CHECK(elf.needed_count == 2);
        CHECK(same(elf.needed[0], "libone.so.1"));
        CHECK(same(elf.needed[1], "libtwo.so"));
        CHECK(same(elf.soname, "me.so"));
        CHECK(elf.soname == (char *)block + shift + STR + ME);
        CHECK(same(elf.rpath, "$ORIGIN/../a:/b"));
        CHECK(elf.rpath_offset == STR + RPATH && elf.rpath_length == 15);
        CHECK(same(elf.runpath, "$ORIGIN/libs"));
        CHECK(elf.runpath_offset == STR + RUNPATH);
        CHECK(elf.runpath_length == 12);
        CHECK(mi_elf_search(&elf) == elf.runpath);
        mi_elf_clear(&elf);
        mi_elf_clear(&elf);
        CHECK(elf.needed_count == 0 && !elf.needed && !elf.soname);
        CHECK(!mi_elf_search(&elf));
        free(block);
    }
    mi_elf_clear(NULL);
}

static void test_parse_absent_tags_null(void)
{
    unsigned char image[IMAGE_SIZE];
    struct mi_elf elf;

    build(image);
    put(image, DYN_RUNPATH, 8, 0x6ffffffb);
    CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
    CHECK(!elf.runpath && !elf.runpath_offset && !elf.runpath_length);
    CHECK(mi_elf_search(&elf) == elf.rpath && elf.rpath);
    mi_elf_clear(&elf);
    put(image, DYN_RPATH, 8, 0x6ffffffb);
    put(image, DYN_SONAME, 8, 0x6ffffffb);
    CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
    CHECK(!elf.rpath && !elf.rpath_offset && !elf.rpath_length);
    CHECK(!elf.soname && !mi_elf_search(&elf) && elf.needed_count == 2);
    mi_elf_clear(&elf);
    put(image, DYN_NEEDED_1, 8, 0x6ffffffb);
    put(image, DYN_NEEDED_2, 8, 0x6ffffffb);
    put(image, DYN_STRTAB, 8, 0x6ffffffb);
    CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
    CHECK(elf.needed_count == 0 && !elf.needed);
    mi_elf_clear(&elf);
}

static void test_parse_single_string_found(void)
{
    static const size_t tags[] = {DYN_NEEDED_1, DYN_NEEDED_2, DYN_SONAME,
                                  DYN_RPATH, DYN_RUNPATH};
    unsigned char image[IMAGE_SIZE];
    struct mi_elf elf;
    size_t i;
    size_t k;

    for (i = 1; i < 5; i++) {
        build(image);
        for (k = 0; k < 5; k++) {
            if (k != i)
                put(image, tags[k], 8, 0x6ffffffb);
        }
        CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
        CHECK(elf.needed_count == (i == 1) && !elf.needed == (i != 1));
        CHECK(!elf.soname == (i != 2));
        CHECK(!elf.rpath == (i != 3));
        CHECK(!elf.runpath == (i != 4));
        mi_elf_clear(&elf);
    }
}

static void test_parse_second_dynamic_empty_ignored(void)
{
    unsigned char image[IMAGE_SIZE];
    struct mi_elf elf;

    build(image);
    put_segment(image, LOAD_TEXT, 2, DYN, DATA_ADDRESS, DYN_SIZE, DYN_SIZE);
    put(image, DYNAMIC + 32, 8, 0);
    CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
    CHECK(elf.needed_count == 2);
    mi_elf_clear(&elf);
}

static void test_parse_wrapped_address_refused(void)
{
    unsigned char image[IMAGE_SIZE];

    build(image);
    put(image, LOAD_DATA + 16, 8, UINT64_MAX - 15);
    put(image, DYNAMIC + 16, 8, 0);
    expect_size(image, IMAGE_SIZE, "at address 0x0 is in no segment",
                __func__);
}

static void test_parse_empty_runpath_in_force(void)
{
    unsigned char image[IMAGE_SIZE];
    struct mi_elf elf;

    build(image);
    put(image, DYN_RUNPATH + 8, 8, 0);
    CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
    CHECK(same(mi_elf_search(&elf), "") && elf.runpath_length == 0);
    CHECK(elf.runpath_offset == STR);
    mi_elf_clear(&elf);
}

static void test_parse_repeated_tag_last(void)
{
    unsigned char image[IMAGE_SIZE];
    struct mi_elf elf;

    build(image);
    put_entry(image, DYN_OTHER, 14, TWO);
    CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
    CHECK(same(elf.soname, "libtwo.so"));
    mi_elf_clear(&elf);
}

static void test_parse_no_dynamic_needs_nothing(void)
{
    unsigned char image[IMAGE_SIZE];
    struct mi_elf elf;
    int i;

    for (i = 0; i < 3; i++) {
        build(image);
        if (i == 0)
            put(image, DYNAMIC, 4, 4); /* PT_NOTE */
        else if (i == 1)
            put(image, DYNAMIC + 32, 8, 0); /* no bytes in the file */
        else
            put(image, 54, 4, 0); /* no program headers, of no size */
        if (i == 2)
            put(image, 32, 8, UINT64_MAX);
        CHECK(mi_elf_parse(image, IMAGE_SIZE, &elf, NULL) == 0);
        CHECK(elf.needed_count == 0 && !elf.needed && !elf.soname);
        CHECK(!elf.rpath && !elf.runpath);
        mi_elf_clear(&elf);
    }
}

/* One field of the image changed, and what is said about it. */
static const struct {
    size_t at;
    int width;
    uint64_t value;
    const char *text; /* NULL: accepted */
} changes[] = {
    {0, 1, 0x7e, "not an ELF file"},
    {3, 1, 'G', "not an ELF file"},
    {4, 1, 1, "not a 64-bit ELF file"},
    {4, 1, 0, "not a 64-bit ELF file"},
    {5, 1, 2, "not a little-endian ELF file"},
    {6, 1, 0, "unknown ELF version 0"},
    {16, 2, 0, "ELF type 0"},
    {16, 2, 1, "neither a shared object nor an executable (ELF type 1)"},
    {16, 2, 2, NULL},
    {16, 2, 4, "ELF type 4"},
    {18, 2, 3, "ELF file for another machine (3, "},
    {18, 2, 0, "ELF file for another machine (0, "},
    {32, 8, IMAGE_SIZE - 167, "3 program headers"},
    {32, 8, UINT64_MAX, "3 program headers"},
    {32, 8, UINT64_MAX - 167, "3 program headers"},
    {54, 2, 55, "program headers of 55 bytes"},
    {54, 2, 0, "program headers of 0 bytes"},
    {56, 2, 0xffff, "65535 program headers"},
    {56, 2, 2, NULL},
    {LOAD_TEXT, 4, 0, NULL},
    {LOAD_TEXT + 8, 8, UINT64_MAX, "a segment of"},
    {LOAD_TEXT + 8, 8, UINT64_MAX - DYN + 1, "a segment of"},
    {LOAD_TEXT + 32, 8, IMAGE_SIZE, NULL},
    {LOAD_TEXT + 32, 8, IMAGE_SIZE + 1, "a segment of"},
    {LOAD_DATA, 4, 0, "the dynamic section at address 0x601000 is in no"},
    {LOAD_DATA + 8, 8, IMAGE_SIZE, "a segment of"},
    {LOAD_DATA + 16, 8, DATA_ADDRESS + 1, "the dynamic section at"},
    {LOAD_DATA + 16, 8, UINT64_MAX, "the dynamic section at"},
    {LOAD_DATA + 32, 8, UINT64_MAX, "a segment of"},
    {LOAD_DATA + 32, 8, LOAD_END - DYN - 1, "the string table of 58"},
    {LOAD_DATA + 32, 8, DYN_SIZE, "the string table of 58"},
    {LOAD_DATA + 32, 8, DYN_SIZE - 1, "the dynamic section at"},
    {LOAD_DATA + 32, 8, 0, "the dynamic section at"},
    {DYNAMIC + 8, 8, UINT64_MAX, NULL}, /* the address is what counts */
    {DYNAMIC + 16, 8, 0, "the dynamic section at address 0x0"},
    {DYNAMIC + 16, 8, UINT64_MAX, "the dynamic section at"},
    {DYNAMIC + 32, 8, UINT64_MAX, "the dynamic section at"},
    {DYNAMIC + 32, 8, DYN_NULL - DYN + 16, NULL},
    {DYNAMIC + 32, 8, DYN_NULL - DYN + 15, "of 8 entries has no end"},
    {DYNAMIC + 32, 8, 1, "of 0 entries has no end"},
    {DYN_NULL, 8, 0x6ffffffb, "of 10 entries has no end"},
    {DYN_STRTAB, 8, 6, "no string table"},
    {DYN_STRSZ, 8, 11, "no string table"},
    {DYN_STRTAB + 8, 8, 0, "the string table of 58 bytes at address 0x0"},
    {DYN_STRTAB + 8, 8, UINT64_MAX, "the string table of"},
    {DYN_STRTAB + 8, 8, STR_ADDRESS + 1, "the string table of"},
    {DYN_STRTAB + 8, 8, STR_ADDRESS + STR_SIZE, "the string table of"},
    {DYN_STRSZ + 8, 8, STR_SIZE + 1, "the string table of 59 bytes"},
    {DYN_STRSZ + 8, 8, UINT64_MAX, "the string table of"},
    {DYN_STRSZ + 8, 8, 0, "does not end within the string table"},
    {DYN_STRSZ + 8, 8, STR_SIZE - 1, "the RUNPATH at 45 does not end"},
    {DYN_STRSZ + 8, 8, RUNPATH, "the RUNPATH at 45 does not end"},
    {DYN_STRSZ + 8, 8, RPATH, "the RPATH at 29 does not end"},
    {DYN_NEEDED_1 + 8, 8, STR_SIZE - 1, NULL},
    {DYN_NEEDED_1 + 8, 8, STR_SIZE, "a needed library at 58 does not end"},
    {DYN_NEEDED_2 + 8, 8, STR_SIZE, "a needed library at 58 does not end"},
    {DYN_NEEDED_2 + 8, 8, UINT64_MAX, "a needed library at"},
    {DYN_SONAME + 8, 8, UINT64_MAX, "the SONAME at"},
    {DYN_RPATH + 8, 8, UINT64_C(1) << 63, "the RPATH at"},
    {DYN_RUNPATH + 8, 8, UINT64_C(1) << 32, "the RUNPATH at"},
    {STR + STR_SIZE - 1, 1, 'x', "the RUNPATH at 45 does not end"},
};

static void test_parse_changed_field_said(void)
{
    unsigned char image[IMAGE_SIZE];
    char about[32];
    size_t i;

    for (i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        build(image);
        put(image, changes[i].at, changes[i].width, changes[i].value);
        snprintf(about, sizeof(about), "change %zu", i);
        expect_size(image, IMAGE_SIZE, changes[i].text, about);
    }
}

static void test_parse_every_truncation_refused(void)
{
    unsigned char image[IMAGE_SIZE];
    const char *text;
    size_t size;

    build(image);
    for (size = 0; size < IMAGE_SIZE; size++) {
        if (size < 4)
            text = "not an ELF file";
        else if (size < LOAD_END)
            text = "truncated ELF file";
        else
            text = NULL; /* only the tail is cut */
        expect_size(image, size, text, "truncation");
    }
}

/* As from the whole image, if the head holds the headers. */
static void test_check_every_truncation_refused(void)
{
    unsigned char image[IMAGE_SIZE];
    struct mi_error whole, err;
    struct mi_elf elf;
    size_t size, head;
    int rc;

    build(image);
    for (size = 0; size < IMAGE_SIZE; size++) {
        rc = mi_elf_parse(image, size, &elf, &whole);
        if (rc == 0)
            mi_elf_clear(&elf);
        head = size < HEADERS_END ? size : HEADERS_END;
        CHECK(mi_elf_check(image, head, size, &err) == rc);
        CHECK(rc == 0 || same(err.text, whole.text));
        CHECK(rc == 0 || err.domain == MI_FORMAT);
    }
}

static void test_check_headers_elsewhere_accepted(void)
{
    unsigned char image[IMAGE_SIZE];
    struct mi_error err;

    build(image);
    CHECK(mi_elf_check(image, HEADERS_END - 1, LOAD_END - 1, &err) == 0);
    CHECK(mi_elf_check(image, HEADERS_END, LOAD_END - 1, &err) == -1);
    CHECK(mi_elf_check(image, 63, LOAD_END, &err) == -1);
    CHECK(mi_elf_check(NULL, 0, 0, &err) == -1);
}

static void test_parse_nothing_refused(void)
{
    struct mi_elf elf;
    struct mi_error err;

    CHECK(mi_elf_parse(NULL, 0, &elf, &err) == -1);
    CHECK(err.domain == MI_FORMAT && same(err.text, "not an ELF file"));
    CHECK(mi_elf_parse(NULL, 1000, &elf, &err) == -1);
    CHECK(mi_elf_parse("#!/bin/sh\necho \177ELF\n", 20, &elf, &err) == -1);
    CHECK(same(err.text, "not an ELF file"));
}

static unsigned char *read_whole(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    unsigned char *bytes = NULL;
    long end = -1;

    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0)
        end = ftell(file);
    if (end > 0 && fseek(file, 0, SEEK_SET) == 0)
        bytes = malloc((size_t)end);
    *size = end > 0 ? (size_t)end : 0;
    if (bytes && fread(bytes, 1, *size, file) != *size) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    return bytes;
}

static int needs(const struct mi_elf *elf, const char *start)
{
    size_t i;

    for (i = 0; i < elf->needed_count; i++) {
        if (strncmp(elf->needed[i], start, strlen(start)) == 0)
            return 1;
    }
    return 0;
}

static void test_parse_own_executable(void)
{
    struct mi_elf elf;
    struct mi_error err;
    size_t size;
    unsigned char *bytes = read_whole("/proc/self/exe", &size);

    CHECK(bytes != NULL);
    if (!bytes)
        return;
    mi_error_clear(&err);
    if (mi_elf_parse(bytes, size, &elf, &err) == 0) {
        CHECK(needs(&elf, "libc.so."));
        CHECK(!elf.soname);
        mi_elf_clear(&elf);
    } else {
        CHECK_FOR(err.text, !"parsed");
    }
    free(bytes);
}

/* Cut at many places: either refused, or the same answer as the whole. */
static void test_parse_own_executable_truncated(void)
{
    struct mi_elf elf;
    size_t size;
    size_t cut;
    size_t refused = 0;
    unsigned char *block;
    unsigned char *bytes = read_whole("/proc/self/exe", &size);

    CHECK(bytes != NULL);
    if (!bytes)
        return;
    for (cut = 0; cut < size; cut += cut < 4096 ? 1 : 499) {
        if (parse_copy(bytes, cut, 0, &block, &elf, NULL) == 0) {
            CHECK(needs(&elf, "libc.so."));
            mi_elf_clear(&elf);
        } else {
            refused++;
        }
        free(block);
    }
    CHECK(refused >= 4096);
    free(bytes);
}

/* The path of the C library that this process runs with, or NULL. */
static const char *libc_path(char *line, int size)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    const char *path = NULL;

    if (!maps)
        return NULL;
    while (!path && fgets(line, size, maps)) {
        line[strcspn(line, "\n")] = '\0';
        if (strstr(line, "/libc.so.") || strstr(line, "/libc-2."))
            path = strchr(line, '/');
    }
    fclose(maps);
    return path;
}

static void test_parse_libc(void)
{
    char line[4096];
    struct mi_elf elf;
    size_t size = 0;
    unsigned char *bytes = NULL;
    const char *path = libc_path(line, sizeof(line));

    CHECK(path != NULL);
    if (path)
        bytes = read_whole(path, &size);
    CHECK(bytes != NULL);
    if (bytes && mi_elf_parse(bytes, size, &elf, NULL) == 0) {
        CHECK(elf.soname && strncmp(elf.soname, "libc.so.", 8) == 0);
        CHECK(needs(&elf, "ld-linux") || needs(&elf, "ld64"));
        CHECK(!elf.rpath && !elf.runpath && !mi_elf_search(&elf));
        mi_elf_clear(&elf);
    } else {
        CHECK(!"parsed");
    }
    free(bytes);
}

static void test_path_next_entries(void)
{
    static const struct {
        const char *path;
        const char *joined; /* the entries, each with a '|' behind it */
    } cases[] = {
        {NULL, ""},
        {"", ""},
        {":", ""},
        {":::", ""},
        {"/a", "/a|"},
        {"/a:", "/a|"},
        {":/a", "/a|"},
        {"/a:/b", "/a|/b|"},
        {"::/a:::b::", "/a|b|"},
        {"$ORIGIN/../a:/b:c", "$ORIGIN/../a|/b|c|"},
    };
    char joined[64];
    const char *cursor;
    const char *entry;
    size_t length;
    size_t used;
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cursor = cases[i].path;
        used = 0;
        while ((entry = mi_elf_path_next(&cursor, &length)) != NULL)
            used += (size_t)snprintf(joined + used, sizeof(joined) - used,
                                     "%.*s|", (int)length, entry);
        joined[used] = '\0';
        CHECK_FOR(joined, same(joined, cases[i].joined));
        length = 77;
        CHECK(!mi_elf_path_next(&cursor, &length) && length == 77);
    }
}

static void test_origin_expanded(void)
{
    static const struct {
        const char *entry;
        const char *dir;
        const char *out; /* NULL: not to be expanded */
    } cases[] = {
        {"$ORIGIN", "/a/b", "/a/b"},
        {"${ORIGIN}", "/a/b", "/a/b"},
        {"$ORIGIN/", "/a/b/", "/a/b"},
        {"$ORIGIN/c", "/a/b", "/a/b/c"},
        {"${ORIGIN}/c//d/", "//a//b", "/a/b/c/d"},
        {"$ORIGIN/../../numpy.libs", "/s/numpy/fft", "/s/numpy.libs"},
        {"$ORIGIN/..", "/a/b", "/a"},
        {"$ORIGIN/../..", "/a/b", "/"},
        {"$ORIGIN/../../../c", "/a/b", "/c"},
        {"$ORIGIN/./.c/..d/...", "/a", "/a/.c/..d/..."},
        {"$ORIGIN/../x", "/a/./b/../c", "/a/x"},
        {"$ORIGIN", "/", "/"},
        {"$ORIGIN/x", "/$b", "/$b/x"},
        {"", "/a", NULL},
        {"$", "/a", NULL},
        {"/usr/lib", "/a", NULL},
        {"lib", "/a", NULL},
        {"$ORIGI", "/a", NULL},
        {"$ORIGINAL", "/a", NULL},
        {"$ORIGIN.d", "/a", NULL},
        {"$origin", "/a", NULL},
        {"${ORIGIN", "/a", NULL},
        {"${ORIGIN/x", "/a", NULL},
        {"$ORIGIN}", "/a", NULL},
        {"${ORIGIN}x", "/a", NULL},
        {"/x/$ORIGIN", "/a", NULL},
        {"$ORIGIN/$LIB", "/a", NULL},
        {"$ORIGIN/x/${PLATFORM}", "/a", NULL},
    };
    char out[64];
    char *entry;
    size_t length;
    size_t i;
    int result;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        length = strlen(cases[i].entry);
        entry = malloc(length ? length : 1); /* not terminated */
        if (!entry)
            abort();
        memcpy(entry, cases[i].entry, length);
        strcpy(out, "before");
        result = mi_elf_origin(entry, length, cases[i].dir, out, sizeof(out));
        CHECK_FOR(cases[i].entry, result == (cases[i].out != NULL));
        CHECK_FOR(out, same(out, cases[i].out ? cases[i].out : "before"));
        free(entry);
    }
}

static void test_origin_only_length_counts(void)
{
    char out[16];

    CHECK(mi_elf_origin("$ORIGIN/a/b", 9, "/d", out, sizeof(out)) == 1);
    CHECK(same(out, "/d/a"));
    CHECK(mi_elf_origin("$ORIGIN:/b", 7, "/d", out, sizeof(out)) == 1);
    CHECK(same(out, "/d"));
    CHECK(mi_elf_origin("$ORIGIN/a", 6, "/d", out, sizeof(out)) == 0);
}

static void test_origin_too_small_refused(void)
{
    size_t size;
    char *out;

    for (size = 0; size < 12; size++) {
        out = malloc(size ? size : 1);
        if (!out)
            abort();
        memset(out, '#', size ? size : 1);
        errno = 0;
        if (size < 8) {
            CHECK(mi_elf_origin("$ORIGIN/../cd", 13, "/abc/x", out, size) ==
                  -1);
            CHECK(errno == ENAMETOOLONG && out[0] == '#');
        } else {
            CHECK(mi_elf_origin("$ORIGIN/../cd", 13, "/abc/x", out, size) ==
                  1);
            CHECK(same(out, "/abc/cd") && errno == 0);
        }
        free(out);
    }
}

static void test_origin_relative_refused(void)
{
    char out[16] = "#";

    errno = 0;
    CHECK(mi_elf_origin("$ORIGIN", 7, "a/b", out, sizeof(out)) == -1);
    CHECK(errno == EINVAL && same(out, "#"));
    CHECK(mi_elf_origin("$ORIGIN", 7, "", out, sizeof(out)) == -1);
    CHECK(mi_elf_origin("/x", 2, "a/b", out, sizeof(out)) == 0);
}

static void test_normal_invalid_refused(void)
{
    char out[4] = "#";

    errno = 0;
    CHECK(mi_path_normal("a/b", out, sizeof(out)) == -1 && errno == EINVAL);
    CHECK(mi_path_normal("", out, sizeof(out)) == -1 && errno == EINVAL);
    CHECK(mi_path_normal("/", out, 0) == -1 && errno == ENAMETOOLONG);
    CHECK(mi_path_normal("/", out, 1) == -1 && errno == ENAMETOOLONG);
    CHECK(mi_path_normal("/abc", out, 4) == -1 && errno == ENAMETOOLONG);
    CHECK(same(out, "#"));
    CHECK(mi_path_normal("/", out, 2) == 0 && same(out, "/"));
    CHECK(mi_path_normal("/ab", out, 4) == 0 && same(out, "/ab"));
}

/* The same from the front, as one would write it first. */
static void plain_normal(const char *path, char *out)
{
    size_t used = 0;
    size_t n;

    for (;;) {
        path += strspn(path, "/");
        n = strcspn(path, "/");
        if (n == 0)
            break;
        if (n == 2 && memcmp(path, "..", 2) == 0) {
            while (used > 0 && out[--used] != '/')
                ;
        } else if (n != 1 || path[0] != '.') {
            out[used++] = '/';
            memcpy(out + used, path, n);
            used += n;
        }
        path += n;
    }
    if (used == 0)
        out[used++] = '/';
    out[used] = '\0';
}

/* All paths of up to 8 characters of "/.a" behind the first slash. */
static void test_normal_short_paths_alike(void)
{
    char path[10];
    char expected[10];
    char out[10];
    size_t length;
    size_t i;
    size_t rest;
    size_t count = 1;
    size_t k;

    for (length = 0; length <= 8; length++, count *= 3) {
        for (i = 0; i < count; i++) {
            path[0] = '/';
            for (k = 1, rest = i; k <= length; k++, rest /= 3)
                path[k] = "/.a"[rest % 3];
            path[length + 1] = '\0';
            plain_normal(path, expected);
            memset(out, '#', sizeof(out));
            CHECK_FOR(path,
                      mi_path_normal(path, out, strlen(expected) + 1) == 0);
            CHECK_FOR(path, memcmp(out, expected, strlen(expected) + 1) == 0);
        }
    }
}

static void test_normal_long_path(void)
{
    size_t size = 100000;
    char *path = malloc(size);
    char *out = malloc(size);
    size_t i;

    if (!path || !out)
        abort();
    for (i = 0; i < size; i++)
        path[i] = "/abc"[i % 4];
    path[size - 1] = '\0';
    CHECK(mi_path_normal(path, out, size) == 0 && same(path, out));
    CHECK(mi_path_normal(path, out, size - 1) == -1);
    free(path);
    free(out);
}

/* ---- what an object opens by itself --------------------------------------
 */

static void test_opens_by_string_table(void)
{
    static const struct {
        const char *strings;
        size_t size;
        int opens;
    } cases[] = {{"\0dlopen", 8, 1},
                 {"\0dlmopen", 9, 1},
                 {"\0dlopen\0x", 10, 1},
                 {"\0my_dlopen", 11, 1},
                 {"\0dlopen", 7, 0}, /* is not terminated */
                 {"\0dlopens", 9, 0},
                 {"\0dlsym", 7, 0},
                 {"", 1, 0},
                 {"", 0, 0}};
    struct mi_elf elf = {0};

    CHECK(!mi_elf_opens(&elf));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        elf.strings = cases[i].strings;
        elf.strings_size = cases[i].size;
        CHECK_FOR(cases[i].strings + 1, mi_elf_opens(&elf) == cases[i].opens);
    }
}

/* The names in 'bytes', each followed by a blank. */
static void expect_names(const char *bytes, size_t size, const char *expected)
{
    char *block = malloc(size ? size : 1), found[200] = "";
    size_t cursor = 0;
    const char *name;

    if (!block)
        abort();
    memcpy(block, bytes, size); /* no byte more: a sanitizer sees it */
    while ((name = mi_elf_name_next(block, size, &cursor)) != NULL) {
        CHECK_FOR(expected, name >= block && name < block + size);
        strcat(strcat(found, name), " ");
    }
    CHECK_FOR(found, same(found, expected));
    CHECK_FOR(expected, cursor == size);
    CHECK_FOR(expected, !mi_elf_name_next(block, size, &cursor));
    free(block);
}

static void test_name_next_libraries_found(void)
{
    expect_names("", 0, "");
    expect_names("liba.so", 8, "liba.so ");
    expect_names("liba.so.1.2", 12, "liba.so.1.2 ");
    expect_names("\1\2liba.so\0\3libb-2_x+.so.6\0.so\0c.so", 35,
                 "liba.so libb-2_x+.so.6 c.so ");
    expect_names("/d/liba.so\0%s.so", 17, "liba.so s.so ");
}

static void test_name_next_others_passed_over(void)
{
    expect_names("liba.so", 7, ""); /* not terminated */
    expect_names("liba.so.", 8, "");
    expect_names("liba.sox", 9, "");
    expect_names("liba.so x", 10, "");
    expect_names(".so", 4, "");
    expect_names(".s", 2, "");
    expect_names("liba.so-1", 10, "");
}

static void test_name_next_two_in_one_first_counts(void)
{
    expect_names("a.so.so", 8, "a.so.so ");
    expect_names("a.sob.so", 9, "");
}

int main(void)
{
    test_parse_built_fields();
    test_parse_absent_tags_null();
    test_parse_single_string_found();
    test_parse_second_dynamic_empty_ignored();
    test_parse_wrapped_address_refused();
    test_parse_empty_runpath_in_force();
    test_parse_repeated_tag_last();
    test_parse_no_dynamic_needs_nothing();
    test_parse_changed_field_said();
    test_parse_every_truncation_refused();
    test_check_every_truncation_refused();
    test_check_headers_elsewhere_accepted();
    test_parse_nothing_refused();
    test_parse_own_executable();
    test_parse_own_executable_truncated();
    test_parse_libc();
    test_path_next_entries();
    test_origin_expanded();
    test_origin_only_length_counts();
    test_origin_too_small_refused();
    test_origin_relative_refused();
    test_normal_invalid_refused();
    test_normal_short_paths_alike();
    test_normal_long_path();
    test_opens_by_string_table();
    test_name_next_libraries_found();
    test_name_next_others_passed_over();
    test_name_next_two_in_one_first_counts();
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
