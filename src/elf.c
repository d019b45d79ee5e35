#include "elf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The parts of the format that are needed: not from <elf.h>, which may be our
 * own header (see its end).  The structures have no padding; they are only
 * ever copied out of the image, which has no alignment.
 */
enum { CLASS_AT = 4, CLASS_64 = 2 };
enum { DATA_AT = 5, DATA_LITTLE = 1 };
enum { VERSION_AT = 6, VERSION_CURRENT = 1 };
enum { TYPE_EXEC = 2, TYPE_DYN = 3 };
enum { SEGMENT_LOAD = 1, SEGMENT_DYNAMIC = 2 };
enum {
    TAG_NULL = 0,
    TAG_NEEDED = 1,
    TAG_STRTAB = 5,
    TAG_STRSZ = 10,
    TAG_SONAME = 14,
    TAG_RPATH = 15,
    TAG_RUNPATH = 29
};

struct header {
    unsigned char ident[16];
    uint16_t type;
    uint16_t machine;
    uint32_t version;
    uint64_t entry;
    uint64_t phoff;
    uint64_t shoff;
    uint32_t flags;
    uint16_t ehsize;
    uint16_t phentsize;
    uint16_t phnum;
    uint16_t shentsize;
    uint16_t shnum;
    uint16_t shstrndx;
};

struct segment {
    uint32_t type;
    uint32_t flags;
    uint64_t offset;
    uint64_t vaddr;
    uint64_t paddr;
    uint64_t filesz;
    uint64_t memsz;
    uint64_t align;
};

struct entry {
    int64_t tag;
    uint64_t value;
};

_Static_assert(sizeof(struct header) == 64, "ELF header");
_Static_assert(sizeof(struct segment) == 56, "program header");
_Static_assert(sizeof(struct entry) == 16, "entry of the dynamic section");

/* 0, "no machine", on hosts whose objects are not understood. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#define HOST_MACHINE 0
#elif defined(__x86_64__)
#define HOST_MACHINE 62
#elif defined(__aarch64__)
#define HOST_MACHINE 183
#elif defined(__powerpc64__)
#define HOST_MACHINE 21
#elif defined(__riscv) && __riscv_xlen == 64
#define HOST_MACHINE 243
#elif defined(__loongarch64)
#define HOST_MACHINE 258
#else
#define HOST_MACHINE 0
#endif

struct object {
    const unsigned char *image;
    size_t size;
    size_t phoff; /* the table of program headers lies in the image */
    size_t phnum;
};

/* The value of a tag that may be absent. */
struct value {
    int set;
    uint64_t value;
};

struct dynamic {
    size_t offset; /* 'count' entries before TAG_NULL lie in the image */
    size_t count;
    size_t needed_count;
    struct value strtab;
    struct value strsz;
    struct value soname;
    struct value rpath;
    struct value runpath;
};

/* The string table; a string that starts below 'end' is terminated. */
struct strings {
    const char *bytes;
    size_t end;
};

static int within(size_t size, uint64_t offset, uint64_t length)
{
    return offset <= size && length <= size - offset;
}

static int check_ident(const void *image, size_t size, struct mi_error *err)
{
    const unsigned char *ident = image;

    if (!image || size < 4 || memcmp(ident, "\177ELF", 4) != 0)
        return mi_fail(err, MI_FORMAT, 0, "not an ELF file");
    if (size < sizeof(struct header))
        return mi_fail(err, MI_FORMAT, 0,
                       "truncated ELF file: %zu bytes, shorter than the "
                       "header",
                       size);
    if (ident[CLASS_AT] != CLASS_64)
        return mi_fail(err, MI_FORMAT, 0, "not a 64-bit ELF file (class %d)",
                       ident[CLASS_AT]);
    if (ident[DATA_AT] != DATA_LITTLE)
        return mi_fail(err, MI_FORMAT, 0,
                       "not a little-endian ELF file (encoding %d)",
                       ident[DATA_AT]);
    if (ident[VERSION_AT] != VERSION_CURRENT)
        return mi_fail(err, MI_FORMAT, 0, "unknown ELF version %d",
                       ident[VERSION_AT]);
    return 0;
}

static int check_header(const struct header *header, size_t size,
                        struct mi_error *err)
{
    if (HOST_MACHINE == 0 || header->machine != HOST_MACHINE)
        return mi_fail(err, MI_FORMAT, 0,
                       "ELF file for another machine (%d, this one is %d)",
                       header->machine, HOST_MACHINE);
    if (header->type != TYPE_DYN && header->type != TYPE_EXEC)
        return mi_fail(err, MI_FORMAT, 0,
                       "neither a shared object nor an executable "
                       "(ELF type %d)",
                       header->type);
    if (header->phnum == 0)
        return 0;
    if (header->phentsize != sizeof(struct segment))
        return mi_fail(err, MI_FORMAT, 0,
                       "ELF program headers of %d bytes instead of %zu",
                       header->phentsize, sizeof(struct segment));
    if (!within(size, header->phoff,
                header->phnum * (uint64_t)sizeof(struct segment)))
        return mi_fail(err, MI_FORMAT, 0,
                       "truncated ELF file: %d program headers at %" PRIu64
                       " do not fit into %zu bytes",
                       header->phnum, header->phoff, size);
    return 0;
}

static int open_object(const void *image, size_t size, struct object *object,
                       struct mi_error *err)
{
    struct header header;

    if (check_ident(image, size, err) < 0)
        return -1;
    memcpy(&header, image, sizeof(header));
    if (check_header(&header, size, err) < 0)
        return -1;
    object->image = image;
    object->size = size;
    object->phnum = header.phnum;
    object->phoff = header.phnum ? (size_t)header.phoff : 0;
    return 0;
}

static struct segment get_segment(const struct object *object, size_t index)
{
    struct segment segment;

    memcpy(&segment, object->image + object->phoff + index * sizeof(segment),
           sizeof(segment));
    return segment;
}

static struct entry get_entry(const struct object *object, size_t offset,
                              size_t index)
{
    struct entry entry;

    memcpy(&entry, object->image + offset + index * sizeof(entry),
           sizeof(entry));
    return entry;
}

/* Check that what is to be loaded is there, and find the dynamic segment;
 * filesz is 0 if there is none (or if it is stripped to a debug file).
 */
static int check_segments(const struct object *object, struct segment *dynamic,
                          struct mi_error *err)
{
    struct segment segment;
    size_t i;

    memset(dynamic, 0, sizeof(*dynamic));
    for (i = 0; i < object->phnum; i++) {
        segment = get_segment(object, i);
        if (segment.type == SEGMENT_DYNAMIC && segment.filesz > 0)
            *dynamic = segment;
        if (segment.type != SEGMENT_LOAD)
            continue;
        if (!within(object->size, segment.offset, segment.filesz))
            return mi_fail(err, MI_FORMAT, 0,
                           "truncated ELF file: a segment of %" PRIu64
                           " bytes at %" PRIu64 " does not fit into %zu bytes",
                           segment.filesz, segment.offset, object->size);
    }
    return 0;
}

/* The place in the image of 'length' bytes at a virtual address.  Only after
 * check_segments().  Returns 0 if the file does not hold them.
 */
static int locate(const struct object *object, uint64_t address,
                  uint64_t length, size_t *offset)
{
    struct segment segment;
    uint64_t skip;
    size_t i;

    for (i = 0; i < object->phnum; i++) {
        segment = get_segment(object, i);
        if (segment.type != SEGMENT_LOAD || address < segment.vaddr)
            continue;
        skip = address - segment.vaddr;
        if (skip >= segment.filesz || length > segment.filesz - skip)
            continue;
        *offset = (size_t)(segment.offset + skip);
        return 1;
    }
    return 0;
}

static void take_entry(struct dynamic *dynamic, const struct entry *entry)
{
    struct value value = {1, entry->value};

    switch (entry->tag) {
    case TAG_NEEDED:
        dynamic->needed_count++;
        break;
    case TAG_STRTAB:
        dynamic->strtab = value;
        break;
    case TAG_STRSZ:
        dynamic->strsz = value;
        break;
    case TAG_SONAME:
        dynamic->soname = value;
        break;
    case TAG_RPATH:
        dynamic->rpath = value;
        break;
    case TAG_RUNPATH:
        dynamic->runpath = value;
        break;
    default:
        break;
    }
}

static int read_dynamic(const struct object *object,
                        const struct segment *segment, struct dynamic *dynamic,
                        struct mi_error *err)
{
    struct entry entry;
    size_t count;

    memset(dynamic, 0, sizeof(*dynamic));
    if (!locate(object, segment->vaddr, segment->filesz, &dynamic->offset))
        return mi_fail(err, MI_FORMAT, 0,
                       "damaged ELF file: the dynamic section at address "
                       "0x%" PRIx64 " is in no segment",
                       segment->vaddr);
    count = (size_t)(segment->filesz / sizeof(entry));
    while (dynamic->count < count) {
        entry = get_entry(object, dynamic->offset, dynamic->count);
        if (entry.tag == TAG_NULL)
            return 0;
        take_entry(dynamic, &entry);
        dynamic->count++;
    }
    return mi_fail(err, MI_FORMAT, 0,
                   "damaged ELF file: the dynamic section of %zu entries has "
                   "no end",
                   count);
}

static int open_strings(const struct object *object,
                        const struct dynamic *dynamic, struct strings *strings,
                        struct mi_error *err)
{
    const char *last;
    size_t offset;

    if (!dynamic->strtab.set || !dynamic->strsz.set)
        return mi_fail(err, MI_FORMAT, 0,
                       "damaged ELF file: the dynamic section has no string "
                       "table");
    if (!locate(object, dynamic->strtab.value, dynamic->strsz.value, &offset))
        return mi_fail(err, MI_FORMAT, 0,
                       "damaged ELF file: the string table of %" PRIu64
                       " bytes at address 0x%" PRIx64 " is in no segment",
                       dynamic->strsz.value, dynamic->strtab.value);
    strings->bytes = (const char *)object->image + offset;
    last = memrchr(strings->bytes, '\0', (size_t)dynamic->strsz.value);
    strings->end = last ? (size_t)(last - strings->bytes) + 1 : 0;
    return 0;
}

static int get_string(const struct strings *strings, uint64_t index,
                      const char *what, const char **string,
                      struct mi_error *err)
{
    if (index >= strings->end)
        return mi_fail(err, MI_FORMAT, 0,
                       "damaged ELF file: the %s at %" PRIu64
                       " does not end within the string table",
                       what, index);
    *string = strings->bytes + index;
    return 0;
}

/* Like get_string(), NULL where the tag is absent. */
static int get_optional(const struct strings *strings,
                        const struct value *value, const char *what,
                        const char **string, struct mi_error *err)
{
    *string = NULL;
    if (!value->set)
        return 0;
    return get_string(strings, value->value, what, string, err);
}

/* A search path, with its place in the file. */
static int get_path(const struct object *object, const struct strings *strings,
                    const struct value *value, const char *what,
                    const char **string, size_t *offset, size_t *length,
                    struct mi_error *err)
{
    if (get_optional(strings, value, what, string, err) < 0)
        return -1;
    if (*string) {
        *offset = (size_t)(*string - (const char *)object->image);
        *length = strlen(*string);
    }
    return 0;
}

static int get_needed(const struct object *object,
                      const struct dynamic *dynamic,
                      const struct strings *strings, struct mi_elf *elf,
                      struct mi_error *err)
{
    struct entry entry;
    size_t i;

    if (dynamic->needed_count == 0)
        return 0;
    elf->needed = calloc(dynamic->needed_count, sizeof(*elf->needed));
    if (!elf->needed)
        return mi_fail_errno(err, "names of %zu libraries",
                             dynamic->needed_count);
    for (i = 0; i < dynamic->count; i++) {
        entry = get_entry(object, dynamic->offset, i);
        if (entry.tag != TAG_NEEDED)
            continue;
        if (get_string(strings, entry.value, "name of a needed library",
                       &elf->needed[elf->needed_count], err) < 0)
            return -1;
        elf->needed_count++;
    }
    return 0;
}

static int get_strings(const struct object *object,
                       const struct dynamic *dynamic, struct mi_elf *elf,
                       struct mi_error *err)
{
    struct strings strings;

    if (dynamic->needed_count == 0 && !dynamic->soname.set &&
        !dynamic->rpath.set && !dynamic->runpath.set)
        return 0;
    if (open_strings(object, dynamic, &strings, err) < 0)
        return -1;
    if (get_optional(&strings, &dynamic->soname, "SONAME", &elf->soname, err) <
        0)
        return -1;
    if (get_path(object, &strings, &dynamic->rpath, "RPATH", &elf->rpath,
                 &elf->rpath_offset, &elf->rpath_length, err) < 0)
        return -1;
    if (get_path(object, &strings, &dynamic->runpath, "RUNPATH", &elf->runpath,
                 &elf->runpath_offset, &elf->runpath_length, err) < 0)
        return -1;
    return get_needed(object, dynamic, &strings, elf, err);
}

static void keep_strings(const struct object *object,
                         const struct dynamic *dynamic, struct mi_elf *elf)
{
    size_t offset;

    if (!dynamic->strtab.set || !dynamic->strsz.set ||
        !locate(object, dynamic->strtab.value, dynamic->strsz.value, &offset))
        return;
    elf->strings = (const char *)object->image + offset;
    elf->strings_size = (size_t)dynamic->strsz.value;
}

int mi_elf_parse(const void *image, size_t size, struct mi_elf *elf,
                 struct mi_error *err)
{
    struct object object;
    struct segment segment;
    struct dynamic dynamic;
    struct mi_elf found = {0};

    if (open_object(image, size, &object, err) < 0)
        return -1;
    if (check_segments(&object, &segment, err) < 0)
        return -1;
    if (segment.filesz > 0) {
        if (read_dynamic(&object, &segment, &dynamic, err) < 0)
            return -1;
        if (get_strings(&object, &dynamic, &found, err) < 0) {
            mi_elf_clear(&found);
            return -1;
        }
        keep_strings(&object, &dynamic, &found);
    }
    *elf = found;
    return 0;
}

int mi_elf_check(const void *head, size_t head_size, size_t size,
                 struct mi_error *err)
{
    struct object object;
    struct segment segment;

    if (check_ident(head, head_size, err) < 0)
        return -1;
    if (open_object(head, size, &object, err) < 0)
        return -1;
    if (!within(head_size, object.phoff,
                object.phnum * (uint64_t)sizeof(segment)))
        return 0;
    return check_segments(&object, &segment, err);
}

void mi_elf_clear(struct mi_elf *elf)
{
    int saved = errno;

    if (!elf)
        return;
    free(elf->needed);
    memset(elf, 0, sizeof(*elf));
    errno = saved;
}

/* Is the name, with its end, in the string table? */
static int has_string(const struct mi_elf *elf, const char *name)
{
    return elf->strings && memmem(elf->strings, elf->strings_size, name,
                                  strlen(name) + 1) != NULL;
}

int mi_elf_opens(const struct mi_elf *elf)
{
    return has_string(elf, "dlopen") || has_string(elf, "dlmopen");
}

int mi_elf_locates(const struct mi_elf *elf)
{
    return has_string(elf, "dladdr") || has_string(elf, "dladdr1") ||
           has_string(elf, "dlinfo") || has_string(elf, "dl_iterate_phdr");
}

static int is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (c && strchr("_-+.", c));
}

const char *mi_elf_name_next(const void *image, size_t size, size_t *cursor)
{
    const char *bytes = image, *end = bytes + size;
    const char *found, *first, *last;

    while (*cursor < size) {
        found = memmem(bytes + *cursor, size - *cursor, ".so", 3);
        if (!found)
            break;
        first = found;
        while (first > bytes && is_name_character(first[-1]))
            first--;
        last = found + 3;
        while (last < end && is_name_character(*last))
            last++;
        *cursor = (size_t)(last - bytes);
        if (last < end && *last == '\0' && first < found &&
            (found[3] == '\0' || found[3] == '.'))
            return first;
    }
    *cursor = size;
    return NULL;
}

const char *mi_elf_search(const struct mi_elf *elf)
{
    return elf->runpath ? elf->runpath : elf->rpath;
}

const char *mi_elf_path_next(const char **cursor, size_t *length)
{
    const char *entry = *cursor;

    if (!entry)
        return NULL;
    while (*entry == ':')
        entry++;
    *cursor = strchrnul(entry, ':');
    if (*cursor == entry)
        return NULL;
    *length = (size_t)(*cursor - entry);
    return entry;
}

/* A path is normalised from its end to its start: a ".." then takes away the
 * next name that comes, so that no stack of names is needed, and the length of
 * the result is known before anything is written.
 */
struct walk {
    size_t up;     /* ".." that have not met a name yet */
    size_t length; /* of the result, in bytes */
    char *end;     /* where the result ends; NULL: only measure it */
};

static void walk_name(struct walk *walk, const char *name, size_t length)
{
    if (length == 0 || (length == 1 && name[0] == '.'))
        return;
    if (length == 2 && name[0] == '.' && name[1] == '.') {
        walk->up++;
        return;
    }
    if (walk->up > 0) {
        walk->up--;
        return;
    }
    walk->length += length + 1;
    if (walk->end) {
        walk->end[-(ptrdiff_t)walk->length] = '/';
        memcpy(walk->end - walk->length + 1, name, length);
    }
}

static void walk_path(struct walk *walk, const char *path, size_t length)
{
    const char *slash;
    size_t start;

    while ((slash = memrchr(path, '/', length)) != NULL) {
        start = (size_t)(slash - path) + 1;
        walk_name(walk, slash + 1, length - start);
        length = start - 1;
    }
    walk_name(walk, path, length);
}

/* The length of "dir/rest" normalised; written if 'end' is not NULL. */
static size_t walk_both(const char *dir, const char *rest, size_t rest_length,
                        char *end)
{
    struct walk walk = {0, 0, end};

    walk_path(&walk, rest, rest_length);
    walk_path(&walk, dir, strlen(dir));
    return walk.length;
}

static int join(const char *dir, const char *rest, size_t rest_length,
                char *out, size_t out_size)
{
    size_t length;
    size_t shown;

    if (dir[0] != '/') {
        errno = EINVAL;
        return -1;
    }
    length = walk_both(dir, rest, rest_length, NULL);
    shown = length ? length : 1;
    if (shown >= out_size) {
        errno = ENAMETOOLONG;
        return -1;
    }
    out[0] = '/';
    out[shown] = '\0';
    walk_both(dir, rest, rest_length, out + length);
    return 0;
}

/* The length of the token $ORIGIN at the start of the entry, or 0. */
static size_t origin_token(const char *entry, size_t length)
{
    static const char *const tokens[] = {"$ORIGIN", "${ORIGIN}"};
    size_t i;
    size_t n;

    for (i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        n = strlen(tokens[i]);
        if (length < n || memcmp(entry, tokens[i], n) != 0)
            continue;
        if (length == n || entry[n] == '/')
            return n;
    }
    return 0;
}

int mi_elf_origin(const char *entry, size_t length, const char *object_dir,
                  char *out, size_t out_size)
{
    size_t token = origin_token(entry, length);

    if (token == 0 || memchr(entry + token, '$', length - token))
        return 0;
    if (join(object_dir, entry + token, length - token, out, out_size) < 0)
        return -1;
    return 1;
}

int mi_path_normal(const char *path, char *out, size_t out_size)
{
    return join(path, "", 0, out, out_size);
}
