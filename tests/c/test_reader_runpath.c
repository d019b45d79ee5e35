/* Tests of src/reader.c: which search paths a mirrored object keeps. */
#include "reader_fixture.h"

#include <dlfcn.h>

#include "../../src/elf.h"

enum outcome { KEPT, FORGOTTEN };

static const char *const need[] = {"libc.so.6", "libneed.so", NULL};
static const char *const none[] = {NULL};

/* ---- the tree
 * ----------------------------------------------------------------- */

/* Let the dynamic linker accept the object that fixture_object() has made:
 * aligned for any size of pages, writable, without an executable stack, with a
 * symbol table.  The program headers and the one symbol, which is all zero,
 * lie at the end of the strings.
 */
static void make_loadable(const char *path)
{
    enum { SEGMENTS = 3, PAGE = 65536 };
    const size_t headers = SEGMENTS * sizeof(Elf64_Phdr);
    const size_t room = headers + sizeof(Elf64_Sym);
    struct fixture_image *image;
    Elf64_Phdr segment[SEGMENTS];
    Elf64_Dyn *entry;
    size_t size;

    image = check_read(path, &size);
    check_need(size == sizeof(*image), path);
    for (size_t i = 1; i <= room; i++)
        check_need(image->strings[sizeof(image->strings) - i] == '\0',
                   "room at the end of the strings");
    memcpy(segment, image->segment, sizeof(image->segment));
    segment[0].p_flags = PF_R | PF_W;
    segment[0].p_align = PAGE;
    segment[1].p_flags = PF_R | PF_W;
    segment[1].p_align = 8;
    segment[2] = (Elf64_Phdr){
        .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16};
    image->header.e_phoff = size - headers;
    image->header.e_phnum = SEGMENTS;
    memcpy((char *)image + size - headers, segment, headers);
    for (entry = image->dynamic; entry->d_tag != DT_NULL; entry++)
        continue;
    entry->d_tag = DT_SYMTAB;
    entry->d_un.d_ptr = size - room;
    check_write(path, image, size);
    free(image);
}

/* An object in the tree; each '@' in 'runpath' (or NULL) is the tree. */
static const char *make_object(const struct fixture *f, const char *name,
                               const char *const *needed, const char *runpath)
{
    const char *path = fixture_path(f, name);
    char full[1000];
    size_t used = 0;

    for (const char *p = runpath; p && *p; p++)
        used += (size_t)snprintf(full + used, sizeof(full) - used,
                                 *p == '@' ? "%s" : "%.1s",
                                 *p == '@' ? f->tree : p);
    full[used] = '\0';
    fixture_object(path, needed, runpath ? full : NULL);
    make_loadable(path);
    return path;
}

static void make_directory(const struct fixture *f, const char *name)
{
    check_need(mkdir(fixture_path(f, name), 0700) == 0, name);
}

static void make_link(const struct fixture *f, const char *target,
                      const char *name)
{
    check_need(symlink(target, fixture_path(f, name)) == 0, name);
}

/* Directories that have what 'need' says, or have not. */
static void make_tree(struct fixture *f)
{
    fixture_make(f, 8 * MIB, 1, 0, 1);
    make_directory(f, "pkg");
    make_directory(f, "empty");
    make_directory(f, "idle");
    make_directory(f, "idle/python3");
    check_write(fixture_path(f, "idle/libneed.so.1"), "", 0);
    check_write(fixture_path(f, "idle/libneed.s"), "", 0);
    check_write(fixture_path(f, "idle/LIBNEED.SO"), "", 0);
    make_link(f, "idle", "to-idle");
    make_directory(f, "used");
    make_object(f, "used/libneed.so", none, NULL);
    make_link(f, "used", "to-used");
    make_directory(f, "linked");
    make_link(f, "../used/libneed.so", "linked/libneed.so");
    make_directory(f, "dangling");
    make_link(f, "nothing", "dangling/libneed.so");
    make_directory(f, "capable");
    make_directory(f, "capable/glibc-hwcaps");
}

/* ---- copies
 * ------------------------------------------------------------------- */

/* The path of the object's copy, in one of two buffers. */
static const char *copy_path(const struct fixture *f, const char *path)
{
    static char place[2][PATH_MAX * 2];
    static unsigned next;

    next = (next + 1) % 2;
    snprintf(place[next], sizeof(place[next]), "%s%s",
             mi_mailbox_mirror(f->mailbox), path);
    return place[next];
}

/* Does the dynamic linker see a RUNPATH with a directory? */
static int has_runpath(void *bytes, size_t size)
{
    struct mi_elf elf = {0};
    int found;

    CHECK(mi_elf_parse(bytes, size, &elf, NULL) == 0);
    found = elf.runpath && elf.runpath[0] != '\0';
    mi_elf_clear(&elf);
    return found;
}

/* Is the difference one within the entry of the RUNPATH? */
static int only_entry_differs(const char *bytes, const char *copy, size_t size)
{
    struct mi_elf elf = {0};
    size_t at;

    CHECK(mi_elf_parse(bytes, size, &elf, NULL) == 0);
    at = elf.runpath_entry;
    mi_elf_clear(&elf);
    return at + sizeof(Elf64_Dyn) <= size && memcmp(bytes, copy, at) == 0 &&
           memcmp(bytes + at + sizeof(Elf64_Dyn),
                  copy + at + sizeof(Elf64_Dyn),
                  size - at - sizeof(Elf64_Dyn)) == 0;
}

/* What the other nodes get: the bytes of the copy.  Takes all that is kept. */
static void expect_stream(struct fixture *f, const struct mi_record *record,
                          const void *copy, size_t size, const char *about)
{
    struct mi_object object;
    int found = 0;

    while (mi_reader_object(f->reader, &object)) {
        if (object.id == record->object) {
            found++;
            CHECK_FOR(about, object.size == size &&
                                 memcmp(object.bytes, copy, size) == 0);
        }
        mi_object_clear(&object);
    }
    CHECK_FOR(about, found == 1);
}

/* Have the object mirrored, if it is not yet, and look at its copy. */
static void expect_copy(struct fixture *f, const char *path,
                        enum outcome outcome, const char *about)
{
    const struct mi_record *record;
    const char *place;
    size_t size, size_after, size_copy;
    char *before = check_read(path, &size), *after, *copy;

    record = fixture_ask(f, MI_MIRROR, path);
    if (!record || record->kind != MI_KIND_MIRROR) {
        CHECK_FOR(about, !"mirrored");
        free(before);
        return;
    }
    place = copy_path(f, path);
    after = check_read(path, &size_after);
    copy = check_read(place, &size_copy);
    CHECK_FOR(about, size_after == size && memcmp(before, after, size) == 0);
    if (CHECK_FOR(about, size_copy == size && record->file_size == size)) {
        CHECK_FOR(about,
                  (memcmp(before, copy, size) == 0) == (outcome == KEPT));
        CHECK_FOR(about,
                  outcome == KEPT || only_entry_differs(before, copy, size));
        CHECK_FOR(about, outcome == KEPT || !has_runpath(copy, size));
        expect_stream(f, record, copy, size, about);
    }
    free(before);
    free(after);
    free(copy);
}

static void expect_runpath(const char *runpath, const char *const *needed,
                           enum outcome outcome)
{
    struct fixture f;

    make_tree(&f);
    expect_copy(&f, make_object(&f, "pkg/ext.so", needed, runpath), outcome,
                runpath);
    CHECK_FOR(runpath, atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_runpath_idle_directories_forgotten(void)
{
    static const char *const idle[] = {
        "@/idle",         "@/absent",
        "@/absent/below", "@/empty",
        "@/pkg",          "@/to-idle",
        "@/idle/",        "@//idle/.",
        "@/used/../idle", "@/idle:@/absent:@/empty",
        "@/idle:@/idle",
    };

    for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++)
        expect_runpath(idle[i], need, FORGOTTEN);
}

static void test_runpath_used_directory_kept(void)
{
    static const char *const used[] = {
        "@/used",        "@/used/",       "@/idle/../used",
        "@/to-used",     "@/linked",      "@/dangling",
        "@/idle:@/used", "@/used:@/idle", "@/idle:@/absent:@/used:@/empty",
    };

    for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++)
        expect_runpath(used[i], need, KEPT);
}

/* Libraries for some processors only: not for us to know. */
static void test_runpath_hwcaps_kept(void)
{
    expect_runpath("@/capable", need, KEPT);
    expect_runpath("@/idle:@/capable", need, KEPT);
    expect_runpath("@/capable:@/absent", need, KEPT);
}

static void test_runpath_tokens_kept(void)
{
    static const char *const tokens[] = {
        "@/$LIB",
        "@/idle:@/$PLATFORM",
        "@/${LIB}/x:@/idle",
        "@/idle/$ORIGIN",
        "$ORIGIN",
        "${ORIGIN}/../used",
        "$ORIGIN/../idle:@/idle",
        "@/idle:$ORIGIN/../idle",
    };

    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
        expect_runpath(tokens[i], need, KEPT);
}

/* Seen from a directory that only the rank knows. */
static void test_runpath_relative_kept(void)
{
    expect_runpath("idle", need, KEPT);
    expect_runpath(".", need, KEPT);
    expect_runpath("./idle:@/idle", need, KEPT);
    expect_runpath("@/idle:idle", need, KEPT);
}

/* Of the libraries that are needed, only bare names are searched for. */
static void test_runpath_nothing_searched_forgotten(void)
{
    static const char *const elsewhere[] = {"./used/libneed.so",
                                            "/nowhere/libneed.so", NULL};

    expect_runpath("@/used", none, FORGOTTEN);
    expect_runpath("@/used", elsewhere, FORGOTTEN);
}

static void test_runpath_each_needed_counts(void)
{
    static const char *const names[] = {"liba.so", "libb.so", "libneed.so",
                                        "libc.so.6"};
    const char *needed[5] = {0};

    for (size_t last = 0; last < 4; last++) {
        needed[last] = names[last];
        expect_runpath("@/used", needed, last >= 2 ? KEPT : FORGOTTEN);
    }
    memmove(needed, needed + 2, 3 * sizeof(needed[0]));
    expect_runpath("@/used", needed, KEPT);
}

static void test_runpath_none_unchanged(void)
{
    struct fixture f;
    struct fixture_image *image;
    const char *path;
    uint64_t operations;
    size_t size;

    make_tree(&f);
    path = make_object(&f, "pkg/ext.so", need, NULL);
    expect_copy(&f, path, KEPT, "no path");
    operations = fixture_operations(&f);
    /* An RPATH holds for more than the object itself. */
    path = make_object(&f, "pkg/rpath.so", need, "@/idle");
    image = check_read(path, &size);
    for (Elf64_Dyn *entry = image->dynamic; entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == DT_RUNPATH)
            entry->d_tag = DT_RPATH;
    check_write(path, image, size);
    free(image);
    expect_copy(&f, path, KEPT, "RPATH");
    CHECK(fixture_operations(&f) == operations + 1);
    fixture_clear(&f);
}

/* Each object of a closure for itself. */
static void test_runpath_needed_libraries_too(void)
{
    static const char *const ext[] = {"libinner.so", "libother.so", NULL};
    struct fixture f;
    const struct mi_record *record[3];

    make_tree(&f);
    make_directory(&f, "pkg.libs");
    make_object(&f, "pkg/ext.so", ext, "$ORIGIN/../pkg.libs:@/idle");
    make_object(&f, "pkg.libs/libinner.so", need, "@/idle");
    make_object(&f, "pkg.libs/libother.so", need, "@/used");
    CHECK(fixture_ask(&f, MI_MIRROR, fixture_path(&f, "pkg/ext.so")));
    record[0] = fixture_find(&f, MI_MIRROR, fixture_path(&f, "pkg/ext.so"));
    record[1] =
        fixture_find(&f, MI_MIRROR, fixture_path(&f, "pkg.libs/libinner.so"));
    record[2] =
        fixture_find(&f, MI_MIRROR, fixture_path(&f, "pkg.libs/libother.so"));
    for (int i = 0; i < 3; i++)
        CHECK(record[i] && record[i]->kind == MI_KIND_MIRROR);
    CHECK(fixture_mirrored(&f, fixture_path(&f, "pkg/ext.so")));
    CHECK(!fixture_mirrored(&f, fixture_path(&f, "pkg.libs/libinner.so")));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "pkg.libs/libother.so")));
    expect_copy(&f, fixture_path(&f, "pkg.libs/libinner.so"), FORGOTTEN,
                "libinner.so");
    /* What only an absolute path leads to stays on the tree. */
    CHECK(!fixture_find(&f, MI_MIRROR, fixture_path(&f, "used/libneed.so")));
    fixture_clear(&f);
}

/* A directory that many objects name is listed for the first of them. */
static void test_runpath_directory_listed_once(void)
{
    struct fixture f;
    uint64_t operations;
    char name[40];

    make_tree(&f);
    expect_copy(&f, make_object(&f, "pkg/0.so", need, "@/idle:@/empty"),
                FORGOTTEN, "first");
    CHECK(fixture_find(&f, MI_LIST, fixture_path(&f, "idle")) != NULL);
    operations = fixture_operations(&f);
    for (int i = 1; i < 10; i++) {
        snprintf(name, sizeof(name), "pkg/%d.so", i);
        expect_copy(&f, make_object(&f, name, need, "@/empty:@/idle"),
                    FORGOTTEN, name);
    }
    CHECK(fixture_operations(&f) == operations + 9);
    fixture_clear(&f);
}

/* ---- the dynamic linker
 * ------------------------------------------------------- */

/* Does it look in 'directory' for what the object needs? */
static int searches(void *handle, const char *directory)
{
    Dl_serinfo size = {0}, *info;
    int found = 0;

    if (dlinfo(handle, RTLD_DI_SERINFOSIZE, &size) != 0)
        return -1;
    info = calloc(1, size.dls_size);
    check_need(info != NULL, "memory");
    *info = size;
    if (dlinfo(handle, RTLD_DI_SERINFO, info) != 0)
        found = -1;
    for (unsigned i = 0; found >= 0 && i < info->dls_cnt; i++)
        found |= strcmp(info->dls_serpath[i].dls_name, directory) == 0;
    free(info);
    return found;
}

static int is_loaded(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);

    if (handle)
        dlclose(handle);
    return handle != NULL;
}

/* Load a copy; what is to be seen: */
struct load {
    const char *runpath;
    const char *directory; /* in the tree: searched for the original, */
    int searched;          /* and for the copy? */
    const char *library;   /* in the tree: loaded with the copy, or NULL */
};

static int load_copy(void *arg)
{
    static const char *const system[] = {"libc.so.6", NULL};
    const struct load *load = arg;
    struct fixture f;
    const char *path, *place;
    void *copy, *original;

    make_tree(&f);
    path = make_object(&f, "pkg/ext.so", load->library ? need : system,
                       load->runpath);
    CHECK(fixture_ask(&f, MI_MIRROR, path) != NULL);
    place = copy_path(&f, path);
    copy = dlopen(place, RTLD_NOW);
    if (CHECK_FOR(copy ? place : dlerror(), copy)) {
        CHECK_FOR(load->runpath,
                  searches(copy, fixture_path(&f, load->directory)) ==
                      load->searched);
        if (load->library)
            CHECK(is_loaded(fixture_path(&f, load->library)));
    }
    original = dlopen(path, RTLD_NOW);
    if (CHECK_FOR(original ? path : dlerror(), original))
        CHECK_FOR(load->runpath,
                  searches(original, fixture_path(&f, load->directory)) == 1);
    if (copy)
        dlclose(copy);
    if (original)
        dlclose(original);
    fixture_clear(&f);
    return 0;
}

static void test_load_forgotten_not_searched(void)
{
    struct load loads[] = {
        {"@/idle", "idle", 0, NULL},
        {"@/absent:@/empty:@/idle", "idle", 0, NULL},
        {"@/absent:@/empty:@/idle", "empty", 0, NULL},
        {"@/used", "used", 0, NULL},
    };

    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++)
        check_child(load_copy, &loads[i], __func__);
}

static void test_load_kept_library_found(void)
{
    struct load loads[] = {
        {"@/used", "used", 1, "used/libneed.so"},
        {"@/idle:@/used", "idle", 1, "used/libneed.so"},
        {"@/idle:@/linked", "linked", 1, "used/libneed.so"},
    };

    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++)
        check_child(load_copy, &loads[i], __func__);
}

/* A library that is found by $ORIGIN is that of the mirror. */
static int load_beside(void *arg)
{
    struct fixture f;
    const char *path, *place;
    void *handle;

    (void)arg;
    make_tree(&f);
    make_object(&f, "pkg/libneed.so", none, "@/idle");
    path = make_object(&f, "pkg/ext.so", need, "@/idle:$ORIGIN");
    CHECK(fixture_ask(&f, MI_MIRROR, path) != NULL);
    place = copy_path(&f, path);
    handle = dlopen(place, RTLD_NOW);
    if (CHECK_FOR(handle ? place : dlerror(), handle)) {
        path = fixture_path(&f, "pkg/libneed.so");
        CHECK(is_loaded(copy_path(&f, path)));
        CHECK(!is_loaded(path));
        dlclose(handle);
    }
    fixture_clear(&f);
    return 0;
}

static void test_load_mixed_mirrored_library_found(void)
{
    check_child(load_beside, NULL, __func__);
}

int main(void)
{
    test_runpath_idle_directories_forgotten();
    test_runpath_used_directory_kept();
    test_runpath_hwcaps_kept();
    test_runpath_tokens_kept();
    test_runpath_relative_kept();
    test_runpath_nothing_searched_forgotten();
    test_runpath_each_needed_counts();
    test_runpath_none_unchanged();
    test_runpath_needed_libraries_too();
    test_runpath_directory_listed_once();
    test_load_forgotten_not_searched();
    test_load_kept_library_found();
    test_load_mixed_mirrored_library_found();
    return check_report();
}
