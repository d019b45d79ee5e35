#include "stub.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* From Linux 6.3 on, and where vm.memfd_noexec is 2 nothing else is allowed.
 * A stub has no code.
 */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

enum { LOAD, DYNAMIC, STACK, SEGMENTS };

/* How a stub begins.  Entries of the dynamic section follow, then strings.
 * All is in one segment, whose addresses are the offsets in the file.
 */
struct head {
    ElfW(Ehdr) header;
    ElfW(Phdr) segments[SEGMENTS];
    ElfW(Sym) symbol; /* the null symbol, the only one */
    struct {
        Elf_Symndx bucket_count, chain_count, bucket, chain;
    } hash;
};

_Static_assert(sizeof(struct head) % _Alignof(ElfW(Dyn)) == 0, "alignment");

/* Of the object that this is linked into: which machine it is, and which of
 * its calling conventions.  By the linker, see ld(1).
 */
extern const ElfW(Ehdr) __ehdr_start
    __attribute__((weak, visibility("hidden")));

/* ---- names -------------------------------------------------------------- */

static int check_name(const char *name, const char *refused, const char *what,
                      struct mi_error *err)
{
    size_t length = name ? strlen(name) : 0;

    if (length == 0)
        return mi_fail(err, MI_ERRNO, EINVAL, "empty %s", what);
    if (length >= PATH_MAX)
        return mi_fail(err, MI_ERRNO, ENAMETOOLONG,
                       "%s of %zu bytes: %.100s...", what, length, name);
    if (name[strcspn(name, refused)])
        return mi_fail(err, MI_ERRNO, EINVAL, "'%c' in %s: %.200s",
                       name[strcspn(name, refused)], what, name);
    return 0;
}

int mi_stub_need(struct mi_stub *stub, const char *name, struct mi_error *err)
{
    char **longer, *copy;

    if (check_name(name, "$", "name of a library", err) < 0)
        return -1;
    for (size_t i = 0; i < stub->needed_count; i++)
        if (strcmp(stub->needed[i], name) == 0)
            return 0;
    longer = reallocarray(stub->needed, stub->needed_count + 1,
                          sizeof(*stub->needed));
    if (!longer)
        return mi_fail_errno(err, "names of libraries");
    stub->needed = longer;
    copy = strdup(name);
    if (!copy)
        return mi_fail_errno(err, "name of a library");
    stub->needed[stub->needed_count++] = copy;
    return 0;
}

int mi_stub_search(struct mi_stub *stub, const char *directory,
                   struct mi_error *err)
{
    size_t used = stub->search ? strlen(stub->search) + 1 : 0;
    char *longer;

    if (check_name(directory, ":$", "directory to search", err) < 0)
        return -1;
    longer = realloc(stub->search, used + strlen(directory) + 1);
    if (!longer)
        return mi_fail_errno(err, "directories to search");
    stub->search = longer;
    if (used)
        longer[used - 1] = ':';
    strcpy(longer + used, directory);
    return 0;
}

int mi_stub_name(struct mi_stub *stub, const char *soname,
                 struct mi_error *err)
{
    char *copy;

    if (check_name(soname, "", "SONAME", err) < 0)
        return -1;
    copy = strdup(soname);
    if (!copy)
        return mi_fail_errno(err, "SONAME");
    free(stub->soname);
    stub->soname = copy;
    return 0;
}

void mi_stub_clear(struct mi_stub *stub)
{
    int saved = errno;

    if (!stub)
        return;
    for (size_t i = 0; i < stub->needed_count; i++)
        free(stub->needed[i]);
    free(stub->needed);
    free(stub->search);
    free(stub->soname);
    memset(stub, 0, sizeof(*stub));
    errno = saved;
}

/* ---- image -------------------------------------------------------------- */

/* Where the next entry and the next string go. */
struct place {
    ElfW(Dyn) * entry;
    char *strings; /* the table */
    char *string;
};

static size_t count_entries(const struct mi_stub *stub)
{
    return stub->needed_count + (stub->search != NULL) +
           (stub->soname != NULL) + 6; /* those that are always there */
}

static size_t count_strings(const struct mi_stub *stub)
{
    size_t size = 1;

    for (size_t i = 0; i < stub->needed_count; i++)
        size += strlen(stub->needed[i]) + 1;
    if (stub->search)
        size += strlen(stub->search) + 1;
    if (stub->soname)
        size += strlen(stub->soname) + 1;
    return size;
}

static void put_entry(struct place *place, int tag, size_t value)
{
    place->entry->d_tag = tag;
    place->entry->d_un.d_val = value;
    place->entry++;
}

static void put_string(struct place *place, int tag, const char *string)
{
    put_entry(place, tag, (size_t)(place->string - place->strings));
    place->string = stpcpy(place->string, string) + 1;
}

static void put_header(ElfW(Ehdr) * header)
{
    *header = __ehdr_start;
    header->e_ident[EI_OSABI] = ELFOSABI_NONE;
    header->e_ident[EI_ABIVERSION] = 0;
    header->e_type = ET_DYN;
    header->e_entry = 0;
    header->e_phoff = offsetof(struct head, segments);
    header->e_phnum = SEGMENTS;
    header->e_shoff = 0; /* no sections */
    header->e_shentsize = 0;
    header->e_shnum = 0;
    header->e_shstrndx = 0;
}

static void put_segment(ElfW(Phdr) * segment, unsigned type, size_t offset,
                        size_t size, size_t align)
{
    segment->p_type = type;
    segment->p_flags = PF_R | PF_W;
    segment->p_offset = offset;
    segment->p_vaddr = segment->p_paddr = offset;
    segment->p_filesz = segment->p_memsz = size;
    segment->p_align = align;
}

/* Writable: on most machines glibc adds the load address to the pointers of
 * the dynamic section in place, before 2.35 without a look at its flags.
 */
static void put_head(struct head *head, size_t entries, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    put_header(&head->header);
    put_segment(&head->segments[LOAD], PT_LOAD, 0, size, page);
    put_segment(&head->segments[DYNAMIC], PT_DYNAMIC, sizeof(*head),
                entries * sizeof(ElfW(Dyn)), _Alignof(ElfW(Dyn)));
    put_segment(&head->segments[STACK], PT_GNU_STACK, 0, 0, 16);
    head->hash.bucket_count = 1;
    head->hash.chain_count = 1;
}

static void put_names(struct place *place, const struct mi_stub *stub)
{
    for (size_t i = 0; i < stub->needed_count; i++)
        put_string(place, DT_NEEDED, stub->needed[i]);
    if (stub->soname)
        put_string(place, DT_SONAME, stub->soname);
    if (stub->search)
        put_string(place, DT_RPATH, stub->search);
}

int mi_stub_image(const struct mi_stub *stub, void **image, size_t *size,
                  struct mi_error *err)
{
    const size_t entries = count_entries(stub);
    const size_t strings = count_strings(stub);
    const size_t table = sizeof(struct head) + entries * sizeof(ElfW(Dyn));
    struct place place;
    char *bytes;

    if (!&__ehdr_start)
        return mi_fail(err, MI_ERRNO, ENOTSUP,
                       "this program is without its ELF header");
    bytes = calloc(1, table + strings);
    if (!bytes)
        return mi_fail_errno(err, "shared object of %zu names",
                             stub->needed_count);
    place.entry = (void *)(bytes + sizeof(struct head));
    place.strings = bytes + table;
    place.string = place.strings + 1;
    put_head((void *)bytes, entries, table + strings);
    put_names(&place, stub);
    put_entry(&place, DT_HASH, offsetof(struct head, hash));
    put_entry(&place, DT_STRTAB, table);
    put_entry(&place, DT_SYMTAB, offsetof(struct head, symbol));
    put_entry(&place, DT_STRSZ, strings);
    put_entry(&place, DT_SYMENT, sizeof(ElfW(Sym)));
    put_entry(&place, DT_NULL, 0);
    *image = bytes;
    *size = table + strings;
    return 0;
}

/* ---- file --------------------------------------------------------------- */

static int create_file(struct mi_error *err)
{
    int fd = memfd_create("mpiimport-stub", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("mpiimport-stub", MFD_CLOEXEC);
    if (fd < 0)
        return mi_fail_errno(err, "file in memory");
    return fd;
}

static int write_file(int fd, const char *bytes, size_t size,
                      struct mi_error *err)
{
    ssize_t n;

    for (; size > 0; bytes += n, size -= (size_t)n) {
        n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR)
            n = 0;
        if (n < 0)
            return mi_fail_errno(err, "file in memory");
    }
    return 0;
}

/* The name of an open file.  The linker takes two objects of one name for the
 * same, and the next stub may get the descriptor of one that is still loaded.
 * So the number of the file is written into the name: "/." is 1, "//" is 0.
 */
#define NAME_SIZE (sizeof("/proc/self/fd/-2147483648") + 2 * 64)

static int name_file(int fd, char name[NAME_SIZE], struct mi_error *err)
{
    char *end = stpcpy(name, "/proc/self/fd");
    struct stat status;

    if (fstat(fd, &status) < 0)
        return mi_fail_errno(err, "file in memory");
    for (ino_t bits = status.st_ino; bits; bits >>= 1)
        end = stpcpy(end, bits & 1 ? "/." : "//");
    sprintf(end, "/%d", fd);
    return 0;
}

static int open_file(int fd, int flags, void **handle, struct mi_error *err)
{
    char name[NAME_SIZE];
    const char *reason;
    void *opened;

    if (name_file(fd, name, err) < 0)
        return -1;
    opened = dlopen(name, flags);
    if (!opened) {
        reason = dlerror();
        return mi_fail(err, MI_FORMAT, 0, "%s",
                       reason ? reason : "dlopen failed");
    }
    *handle = opened;
    return 0;
}

int mi_stub_open(const struct mi_stub *stub, int flags, void **handle,
                 struct mi_error *err)
{
    void *image;
    size_t size;
    int fd, rc;

    if (mi_stub_image(stub, &image, &size, err) < 0)
        return -1;
    fd = create_file(err);
    rc = fd < 0 ? -1 : write_file(fd, image, size, err);
    free(image);
    if (rc == 0)
        rc = open_file(fd, flags, handle, err);
    if (fd >= 0)
        close(fd);
    return rc;
}
