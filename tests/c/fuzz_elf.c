/* Damaged images for src/elf.c.  Usage: fuzz_elf [rounds [seed]]; the same
 * arguments give the same images.  Every image lies in a block of exactly its
 * size, so that a sanitizer sees the first byte read beyond it; what is
 * accepted is read to the last byte and checked to lie within the image.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/elf.h"
#include "random.h"

enum { MAX_SIZE = 1024, HEADER_SIZE = 64, DEFAULT_ROUNDS = 200000 };

struct image {
    unsigned char bytes[MAX_SIZE];
    size_t size;
    size_t segments; /* offset and end of each part */
    size_t segments_end;
    size_t dynamic;
    size_t dynamic_end;
    size_t strings;
    size_t strings_end;
};

static long accepted;
static long refused;
static long wrong;

static void put(struct image *image, size_t at, size_t width, uint64_t value)
{
    size_t i;

    for (i = 0; i < width && at + i < image->size; i++)
        image->bytes[at + i] = (unsigned char)(value >> (8 * i));
}

static void append(struct image *image, size_t width, uint64_t value)
{
    image->size += width;
    put(image, image->size - width, width, value);
}

static void append_segment(struct image *image, uint64_t type, uint64_t offset,
                           uint64_t address, uint64_t size)
{
    append(image, 4, type);
    append(image, 4, 6);
    append(image, 8, offset);
    append(image, 8, address);
    append(image, 8, address);
    append(image, 8, size);
    append(image, 8, size + 64);
    append(image, 8, 8);
}

static void append_entry(struct image *image, uint64_t tag, uint64_t value)
{
    append(image, 8, tag);
    append(image, 8, value);
}

/* The host's own identification and e_machine: those of this program. */
static int own_header(unsigned char header[20])
{
    FILE *file = fopen("/proc/self/exe", "rb");
    size_t n = 0;

    if (file) {
        n = fread(header, 1, 20, file);
        fclose(file);
    }
    return n == 20;
}

static void append_header(struct image *image, const unsigned char *own)
{
    memcpy(image->bytes, own, 20);
    image->size = 20;
    append(image, 4, 1);
    append(image, 8, 0);
    append(image, 8, 64);
    append(image, 8, 0);
    append(image, 4, 0);
    append(image, 2, 64);
    append(image, 2, 56);
    append(image, 2, 4);
    append(image, 6, 0);
}

static void build(struct image *image, const unsigned char *own)
{
    static const char strings[] = "\0liba.so\0libb.so\0c\0$ORIGIN/..:/d/e:"
                                  "\0${ORIGIN}/../../f//g:$ORIGIN";
    const size_t begin = 64 + 4 * 56;
    const size_t size = 9 * 16 + sizeof(strings);

    memset(image, 0, sizeof(*image));
    append_header(image, own);
    image->segments = image->size;
    append_segment(image, 1, 0, 0x1000, begin);
    append_segment(image, 1, begin, 0x20000, size);
    append_segment(image, 2, begin, 0x20000, 9 * 16);
    append_segment(image, 0x6474e551, 0, 0, 0);
    image->segments_end = image->dynamic = image->size;
    append_entry(image, 1, 1);
    append_entry(image, 1, 9);
    append_entry(image, 14, 17);
    append_entry(image, 15, 19);
    append_entry(image, 29, 37);
    append_entry(image, 5, 0x20000 + 9 * 16);
    append_entry(image, 10, sizeof(strings));
    append_entry(image, 6, 0x20000);
    append_entry(image, 0, 0);
    image->dynamic_end = image->strings = image->size;
    memcpy(image->bytes + image->size, strings, sizeof(strings));
    image->size += sizeof(strings);
    image->strings_end = image->size;
    append(image, 8, UINT64_MAX);
}

/* Values that break careless arithmetic, and values near real ones. */
static uint64_t awkward(const struct image *image)
{
    uint64_t near = below(16);

    switch (below(10)) {
    case 0:
        return near;
    case 1:
        return UINT64_MAX - near;
    case 2:
        return (UINT64_C(1) << 63) - 8 + near;
    case 3:
        return (UINT64_C(1) << 32) - 8 + near;
    case 4:
        return UINT64_MAX - image->size + near;
    case 5:
        return image->size - 8 + near;
    case 6:
        return UINT64_C(0x20000) + below(image->size);
    case 7:
        return image->strings - 8 + near;
    case 8:
        return below(image->size);
    default:
        return next_random();
    }
}

static void mutate_segments(struct image *image)
{
    static const size_t fields[] = {8, 16, 32, 40};
    size_t at = image->segments +
                56 * below((image->segments_end - image->segments) / 56);

    if (below(5) == 0)
        put(image, at, 4, below(4));
    else
        put(image, at + fields[below(4)], 8, awkward(image));
}

static void mutate_dynamic(struct image *image)
{
    static const uint64_t tags[] = {0, 1, 5, 10, 14, 15, 29};
    size_t at = image->dynamic +
                16 * below((image->dynamic_end - image->dynamic) / 16);

    if (below(3) == 0)
        put(image, at, 8, tags[below(sizeof(tags) / sizeof(tags[0]))]);
    else
        put(image, at + 8, 8, awkward(image));
}

static void mutate_strings(struct image *image)
{
    static const char bytes[] = "\0:/.$x";
    size_t at = image->strings + below(image->strings_end - image->strings);

    if (below(4) == 0) /* no terminator is left behind 'at' */
        memset(image->bytes + at, 'x', image->strings_end - at);
    else
        put(image, at, 1, (unsigned char)bytes[below(sizeof(bytes))]);
}

static void mutate(struct image *image)
{
    static const size_t widths[] = {1, 2, 4, 8};

    switch (below(6)) {
    case 0: /* the header, mostly past the bytes that are always refused */
        put(image, below(8) ? 32 + below(32) : below(64), widths[below(4)],
            awkward(image));
        break;
    case 1:
        mutate_segments(image);
        break;
    case 2:
    case 3:
        mutate_dynamic(image);
        break;
    case 4:
        mutate_strings(image);
        break;
    default:
        put(image, below(image->size), 1, next_random());
        break;
    }
}

static void expect(int ok, const char *what)
{
    if (ok)
        return;
    wrong++;
    fprintf(stderr, "fuzz_elf: %s\n", what);
}

static void check_string(const char *block, size_t size, const char *string)
{
    size_t at = (size_t)(string - block);

    expect(at < size && memchr(string, '\0', size - at),
           "string outside of the image");
}

static void check_path(const char *block, const char *path, size_t offset,
                       size_t length)
{
    const char *cursor = path;
    const char *entry;
    char out[128];
    size_t n;

    if (!path) {
        expect(offset == 0 && length == 0, "place of an absent path");
        return;
    }
    expect(block + offset == path && strlen(path) == length,
           "place of a path");
    while ((entry = mi_elf_path_next(&cursor, &n)) != NULL) {
        expect(n > 0 && entry + n <= path + length, "entry of a path");
        if (mi_elf_origin(entry, n, "/a/b", out, below(sizeof(out))) == 1)
            expect(out[0] == '/' && !strstr(out, "//"), "directory");
    }
}

static void check_accepted(const char *block, size_t size,
                           const struct mi_elf *elf)
{
    size_t i;

    for (i = 0; i < elf->needed_count; i++)
        check_string(block, size, elf->needed[i]);
    if (elf->soname)
        check_string(block, size, elf->soname);
    if (elf->rpath)
        check_string(block, size, elf->rpath);
    if (elf->runpath)
        check_string(block, size, elf->runpath);
    check_path(block, elf->rpath, elf->rpath_offset, elf->rpath_length);
    check_path(block, elf->runpath, elf->runpath_offset, elf->runpath_length);
}

/* A block that ends where the bytes end, so that ASan sees what is read
 * beyond them.
 */
static char *exact_copy(const unsigned char *bytes, size_t size)
{
    char *block = malloc(size ? size : 1);

    if (!block)
        abort();
    memcpy(block, bytes, size);
    return block;
}

/* The judgement from a part of the image, which is never harsher. */
static void run_head(const unsigned char *bytes, size_t size, int is_sound)
{
    size_t head_size = below(size + 1);
    char *head = exact_copy(bytes, head_size);
    struct mi_error err;
    int rc;

    mi_error_clear(&err);
    rc = mi_elf_check(head, head_size, size, &err);
    expect(rc == 0 || (err.domain == MI_FORMAT && err.text[0]), "error");
    expect(rc == 0 || !is_sound || head_size < HEADER_SIZE,
           "a sound image's head");
    free(head);
}

static void run(const unsigned char *bytes, size_t size)
{
    char *block = exact_copy(bytes, size);
    struct mi_elf elf;
    struct mi_error err;
    int is_sound;

    mi_error_clear(&err);
    is_sound = mi_elf_parse(block, size, &elf, &err) == 0;
    if (is_sound) {
        accepted++;
        check_accepted(block, size, &elf);
        mi_elf_clear(&elf);
    } else {
        refused++;
        expect(err.domain == MI_FORMAT && err.text[0], "error");
    }
    run_head(bytes, size, is_sound);
    free(block);
}

/* Every byte with every value. */
static void run_bytes(const struct image *base)
{
    struct image image = *base;
    size_t at;
    int value;

    for (at = 0; at < base->size; at++) {
        for (value = 0; value < 256; value++) {
            image.bytes[at] = (unsigned char)value;
            run(image.bytes, image.size);
        }
        image.bytes[at] = base->bytes[at];
    }
}

static void run_random(const struct image *base, long rounds)
{
    struct image image;
    size_t size;
    size_t count;
    long i;

    for (i = 0; i < rounds; i++) {
        image = *base;
        for (count = 1 + below(4); count > 0; count--)
            mutate(&image);
        size = image.size;
        if (below(6) == 0)
            size = below(size);
        run(image.bytes, size);
    }
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : DEFAULT_ROUNDS;
    unsigned char own[20];
    struct image base;

    if (argc > 2)
        seed_random(argv[2]);
    if (!own_header(own)) {
        fprintf(stderr, "fuzz_elf: cannot read /proc/self/exe\n");
        return 1;
    }
    build(&base, own);
    run(base.bytes, base.size);
    expect(accepted == 1, "the undamaged image is refused");
    run_bytes(&base);
    run_random(&base, rounds);
    expect(accepted > rounds / 20, "too few images are accepted");
    expect(refused > rounds / 20, "too few images are refused");
    printf("%ld accepted, %ld refused, %ld wrong\n", accepted, refused, wrong);
    return wrong ? 1 : 0;
}
