/* Tests of src/reader.c: what a mirrored object needs, on the tree or from the
 * system, and what the dynamic linker makes of it, once that is open which
 * has to be (src/preload.c).
 */
#include "reader_fixture.h"

#include <dlfcn.h>

#include "../../src/preload.h"

static const char *const need[] = {"libc.so.6", "libneed.so", NULL};
static const char *const none[] = {NULL};

/* ---- the tree ----------------------------------------------------------- */

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

/* The same, with an RPATH in place of the RUNPATH. */
static const char *make_rpath(const struct fixture *f, const char *name,
                              const char *const *needed, const char *rpath)
{
    const char *path = make_object(f, name, needed, rpath);
    struct fixture_image *image;
    size_t size;

    image = check_read(path, &size);
    for (Elf64_Dyn *entry = image->dynamic; entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == DT_RUNPATH)
            entry->d_tag = DT_RPATH;
    check_write(path, image, size);
    free(image);
    return path;
}

/* Add a RUNPATH, which makes the RPATH of no effect, and is the end of it. */
static void add_runpath(const char *path, const char *runpath)
{
    struct fixture_image *image;
    uint64_t end = 0;
    Elf64_Dyn *entry;
    size_t size;

    image = check_read(path, &size);
    for (entry = image->dynamic; entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == DT_RPATH)
            end =
                entry->d_un.d_val + strlen(image->strings + entry->d_un.d_val);
    *entry =
        (Elf64_Dyn){.d_tag = DT_RUNPATH, .d_un.d_val = end - strlen(runpath)};
    check_need(end && !strcmp(image->strings + entry->d_un.d_val, runpath),
               "end of the RPATH");
    check_write(path, image, size);
    free(image);
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

/* ---- records ------------------------------------------------------------ */

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

/* What the other nodes get are the bytes of the object.  Takes all that is
 * kept.
 */
static void expect_stream(struct fixture *f, const struct mi_record *record,
                          const char *path)
{
    struct mi_object object;
    int found = 0;

    while (mi_reader_object(f->reader, &object)) {
        if (object.id == record->object) {
            found++;
            CHECK_FOR(path, check_holds(path, object.bytes, object.size));
        }
        mi_object_clear(&object);
    }
    CHECK_FOR(path, found == 1);
}

/* What the object needs: "NAME NAME...", in the record's order; the tree is
 * '@'.
 */
static void expect_before(const struct fixture *f,
                          const struct mi_record *record, const char *expected,
                          const char *about)
{
    const size_t tree = strlen(f->tree);
    const char *name = NULL;
    char found[1000] = "", text[2500];
    size_t used = 0;

    while ((name = mi_record_before(record, name)) != NULL) {
        int inside = strncmp(name, f->tree, tree) == 0;

        used += (size_t)snprintf(found + used, sizeof(found) - used, "%s%s%s",
                                 used ? " " : "", inside ? "@" : "",
                                 inside ? name + tree : name);
        check_need(used < sizeof(found), "room");
    }
    snprintf(text, sizeof(text), "%s: \"%s\", not \"%s\"", about, found,
             expected);
    CHECK_FOR(text, strcmp(found, expected) == 0);
}

/* Have the object mirrored: a copy like the original, and what it needs. */
static const struct mi_record *expect_object(struct fixture *f,
                                             const char *path,
                                             const char *before,
                                             const char *about)
{
    const struct mi_record *record;
    size_t size;
    char *bytes = check_read(path, &size);

    record = fixture_ask(f, MI_MIRROR, path);
    CHECK_FOR(about, check_holds(path, bytes, size)); /* as it was */
    free(bytes);
    if (!CHECK_FOR(about, record && record->kind == MI_KIND_MIRROR))
        return record;
    CHECK_FOR(about, fixture_mirrored(f, path));
    CHECK_FOR(about, record->file_size == size);
    CHECK_FOR(about, strcmp(mi_record_place(record), path) == 0);
    expect_before(f, record, before, about);
    expect_stream(f, record, path);
    return record;
}

static void expect(const char *runpath, const char *const *needed,
                   const char *before)
{
    struct fixture f;

    make_tree(&f);
    expect_object(&f, make_object(&f, "pkg/ext.so", needed, runpath), before,
                  runpath ? runpath : "no path");
    CHECK_FOR(runpath, atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

/* What 'need' says, in directories that only the linker knows. */
#define UNKNOWN "/?/libc.so.6 /?/libneed.so"

#define EXPECT_EACH(paths, before)                                            \
    for (size_t i_ = 0; i_ < sizeof(paths) / sizeof(paths[0]); i_++)          \
    expect((paths)[i_], need, (before))

/* ---- search paths ------------------------------------------------------- */

static void test_before_idle_directories_names_listed(void)
{
    static const char *const idle[] = {
        "@/idle",         "@/absent",
        "@/absent/below", "@/empty",
        "@/pkg",          "@/to-idle",
        "@/idle/",        "@//idle/.",
        "@/used/../idle", "@/idle:@/absent:@/empty",
        "@/idle:@/idle",
    };

    EXPECT_EACH(idle, "libc.so.6 libneed.so");
}

/* What the linker finds there is not the system's. */
static void test_before_used_directory_path_listed(void)
{
    static const char *const cases[][2] = {
        {"@/used", "@/used/libneed.so"},
        {"@/used/", "@/used//libneed.so"},
        {"@/idle/../used", "@/idle/../used/libneed.so"},
        {"@/to-used", "@/to-used/libneed.so"},
        {"@/linked", "@/linked/libneed.so"},
        {"@/dangling", "@/dangling/libneed.so"},
        {"@/idle:@/used", "@/used/libneed.so"},
        {"@/used:@/idle", "@/used/libneed.so"},
        {"@/linked:@/used", "@/linked/libneed.so"},
        {"@/idle:@/absent:@/used:@/empty", "@/used/libneed.so"},
    };
    char before[80];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(before, sizeof(before), "libc.so.6 %s", cases[i][1]);
        expect(cases[i][0], need, before);
    }
}

/* On the tree, and not known to the mirror. */
static void test_before_used_directory_no_record(void)
{
    struct fixture f;

    make_tree(&f);
    expect_object(&f, make_object(&f, "pkg/ext.so", need, "@/used"),
                  "libc.so.6 @/used/libneed.so", "ext.so");
    CHECK(!fixture_find(&f, MI_MIRROR, fixture_path(&f, "used/libneed.so")));
    CHECK(fixture_find(&f, MI_LIST, fixture_path(&f, "used")) != NULL);
    fixture_clear(&f);
}

/* What is found ahead of a directory that only the linker knows; the other
 * name has to be looked for there, too.
 */
static void test_before_used_then_unknown_both_listed(void)
{
    static const char *const cases[] = {"@/used:@/$LIB", "@/used:@/capable",
                                        "@/idle:@/used:idle",
                                        "@/used:@/idle/libneed.so.1"};

    EXPECT_EACH(cases, "/?/libc.so.6 @/used/libneed.so");
}

/* Libraries for some processors only: not for us to know. */
static void test_before_hwcaps_unknown_listed(void)
{
    static const char *const capable[] = {"@/capable", "@/idle:@/capable",
                                          "@/capable:@/absent",
                                          "$ORIGIN:@/capable"};

    EXPECT_EACH(capable, UNKNOWN);
}

/* An empty entry is the working directory, which only the rank knows. */
static void test_before_empty_entry_unknown_listed(void)
{
    static const char *const empty[] = {
        "@/idle:", ":@/idle", "@/idle::@/idle", ":", "::", "$ORIGIN::@/idle"};

    EXPECT_EACH(empty, UNKNOWN);
}

static void test_before_tokens_unknown_listed(void)
{
    static const char *const tokens[] = {
        "@/$LIB",         "@/idle:@/$PLATFORM", "@/${LIB}/x:@/idle",
        "@/idle/$ORIGIN", "$ORIGIN/$LIB",       "@/idle:$ORIGIN/../$LIB",
        "$LIB",
    };

    EXPECT_EACH(tokens, UNKNOWN);
}

/* Seen from a directory that only the rank knows. */
static void test_before_relative_unknown_listed(void)
{
    static const char *const relative[] = {"idle", ".", "./idle:@/idle",
                                           "@/idle:idle"};

    EXPECT_EACH(relative, UNKNOWN);
}

/* Neither there nor certainly not there. */
static void test_before_no_directory_unknown_listed(void)
{
    static const char *const files[] = {"@/idle/libneed.so.1",
                                        "@/idle/libneed.so.1/below",
                                        "@/idle:@/idle/libneed.so.1"};

    EXPECT_EACH(files, UNKNOWN);
}

static void test_before_origin_only_system_not_listed(void)
{
    static const char *const idle[] = {"$ORIGIN", "${ORIGIN}/../idle",
                                       "$ORIGIN/../absent:$ORIGIN/../empty"};
    static const char *const used[] = {"$ORIGIN/../used", "${ORIGIN}/../used/",
                                       "$ORIGIN:$ORIGIN/../used"};

    EXPECT_EACH(idle, "");
    EXPECT_EACH(used, "@/used/libneed.so");
}

static void test_before_mixed_both_listed(void)
{
    static const char *const idle[] = {"$ORIGIN:@/idle", "@/idle:$ORIGIN",
                                       "$ORIGIN/../idle:@/idle"};
    static const char *const beside[] = {
        "$ORIGIN/../used:@/idle", "@/idle:$ORIGIN/../used",
        "@/absent:$ORIGIN/../used:@/empty", "$ORIGIN/../used:@/used"};

    EXPECT_EACH(idle, "libc.so.6 libneed.so");
    EXPECT_EACH(beside, "libc.so.6 @/used/libneed.so");
}

static void test_before_no_path_nothing_listed(void)
{
    expect(NULL, need, "");
    expect("", need, "");
}

/* Of the libraries that are needed, only bare names are searched for. */
static void test_before_nothing_searched_nothing_listed(void)
{
    static const char *const elsewhere[] = {"./used/libneed.so",
                                            "/nowhere/libneed.so", NULL};

    expect("@/idle", none, "");
    expect("@/idle", elsewhere, "/?/libneed.so /?/libneed.so");
}

static void test_before_each_name_for_itself(void)
{
    static const char *const names[] = {"libb.so", "libneed.so", "liba.so",
                                        "libc.so.6", NULL};

    expect("@/used", names, "libb.so @/used/libneed.so liba.so libc.so.6");
    expect("@/idle", names, "libb.so libneed.so liba.so libc.so.6");
    expect("$ORIGIN/../used:@/idle", names,
           "libb.so @/used/libneed.so liba.so libc.so.6");
}

static void test_before_rpath_as_runpath(void)
{
    static const char *const cases[][2] = {
        {"@/idle", "libc.so.6 libneed.so"},
        {"@/used", "libc.so.6 @/used/libneed.so"},
        {"@/capable", UNKNOWN},
        {"@/$LIB:@/idle", UNKNOWN},
        {"$ORIGIN", ""},
        {"@/idle:", UNKNOWN},
        {"$ORIGIN/../used", "@/used/libneed.so"},
        {"$ORIGIN/../used:@/idle", "libc.so.6 @/used/libneed.so"},
    };
    struct fixture f;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make_tree(&f);
        expect_object(&f, make_rpath(&f, "pkg/ext.so", need, cases[i][0]),
                      cases[i][1], cases[i][0]);
        fixture_clear(&f);
    }
}

static void test_before_rpath_beside_runpath_ignored(void)
{
    struct fixture f;
    const char *path;

    make_tree(&f);
    path = make_rpath(&f, "pkg/ext.so", need, "@/idle");
    add_runpath(path, "");
    expect_object(&f, path, "", "RPATH and RUNPATH");
    fixture_clear(&f);
}

/* ---- more objects ------------------------------------------------------- */

/* Each object of a closure for itself. */
static void test_before_closure_each_object_its_own(void)
{
    static const char *const ext[] = {"libinner.so", "libc.so.6",
                                      "libother.so", NULL};
    struct fixture f;

    make_tree(&f);
    make_directory(&f, "pkg.libs");
    make_object(&f, "pkg/ext.so", ext, "$ORIGIN/../pkg.libs");
    make_object(&f, "pkg.libs/libinner.so", need, "@/idle");
    make_object(&f, "pkg.libs/libother.so", need, "@/used");
    expect_object(&f, fixture_path(&f, "pkg/ext.so"),
                  "@/pkg.libs/libinner.so @/pkg.libs/libother.so", "ext.so");
    for (int i = 0; i < 2; i++) {
        const char *path = fixture_path(&f, i ? "pkg.libs/libother.so"
                                              : "pkg.libs/libinner.so");
        const struct mi_record *record = fixture_find(&f, MI_MIRROR, path);

        CHECK_FOR(path, fixture_mirrored(&f, path));
        if (record)
            expect_before(&f, record,
                          i ? "libc.so.6 @/used/libneed.so"
                            : "libc.so.6 libneed.so",
                          path);
    }
    /* What only an absolute path leads to stays on the tree. */
    CHECK(!fixture_find(&f, MI_MIRROR, fixture_path(&f, "used/libneed.so")));
    fixture_clear(&f);
}

static void test_before_circle_both_listed(void)
{
    static const char *const a[] = {"b.so", NULL}, *const b[] = {"a.so", NULL};
    struct fixture f;
    const struct mi_record *record;

    make_tree(&f);
    make_object(&f, "pkg/a.so", a, "$ORIGIN");
    make_object(&f, "pkg/b.so", b, "$ORIGIN");
    expect_object(&f, fixture_path(&f, "pkg/a.so"), "@/pkg/b.so", "a.so");
    record = fixture_find(&f, MI_MIRROR, fixture_path(&f, "pkg/b.so"));
    CHECK(record != NULL);
    if (record)
        expect_before(&f, record, "@/pkg/a.so", "b.so");
    fixture_clear(&f);
}

/* An RPATH holds for what the object needs, too. */
static void test_before_inherited_rpath_object_listed(void)
{
    static const char *const ext[] = {"libinner.so", NULL};
    struct fixture f;
    const struct mi_record *record;

    make_tree(&f);
    make_object(&f, "used/libinner.so", need, NULL);
    make_rpath(&f, "pkg/ext.so", ext, "$ORIGIN/../used");
    expect_object(&f, fixture_path(&f, "pkg/ext.so"), "@/used/libinner.so",
                  "ext.so");
    record = fixture_find(&f, MI_MIRROR, fixture_path(&f, "used/libinner.so"));
    CHECK(record != NULL);
    if (record)
        expect_before(&f, record, "@/used/libneed.so", "libinner.so");
    fixture_clear(&f);
}

/* Absolute directories of ext.so that are, or are not, those of what it needs
 * (libinner.so), and of what that needs (libnext.so).
 */
struct inheritance {
    const char *rpath; /* of ext.so, behind "$ORIGIN:" */
    const char *inner; /* RPATH of libinner.so, or RUNPATH: */
    int runpath;
    const char *needs; /* libnext.so, without a path */
};

static void expect_inherited(const struct inheritance *given)
{
    static const char *const ext[] = {"libinner.so", NULL};
    static const char *const inner[] = {"libnext.so", NULL};
    const struct mi_record *record;
    struct fixture f;
    char rpath[200];

    make_tree(&f);
    snprintf(rpath, sizeof(rpath), "$ORIGIN%s", given->rpath);
    make_rpath(&f, "pkg/ext.so", ext, rpath);
    snprintf(rpath, sizeof(rpath), "$ORIGIN%s", given->inner);
    if (given->runpath)
        make_object(&f, "pkg/libinner.so", inner, rpath);
    else
        make_rpath(&f, "pkg/libinner.so", inner, rpath);
    make_object(&f, "pkg/libnext.so", need, NULL);
    expect_object(&f, fixture_path(&f, "pkg/ext.so"), "@/pkg/libinner.so",
                  given->rpath);
    record = fixture_find(&f, MI_MIRROR, fixture_path(&f, "pkg/libnext.so"));
    CHECK_FOR(given->rpath, record != NULL);
    if (record)
        expect_before(&f, record, given->needs, given->rpath);
    fixture_clear(&f);
}

static void test_before_inherited_absolute_rpath_searched(void)
{
    static const struct inheritance cases[] = {
        {":@/idle", "", 0, "libc.so.6 libneed.so"},
        {":@/used", "", 0, "libc.so.6 @/used/libneed.so"},
        {":@/used", ":@/idle", 0, "libc.so.6 @/used/libneed.so"},
        {":@/idle", ":@/used", 0, "libc.so.6 @/used/libneed.so"},
        {":@/linked", ":@/used", 0, "libc.so.6 @/used/libneed.so"},
        {":@/$LIB", ":@/idle", 0, UNKNOWN},
        {":@/idle", ":@/$LIB", 0, UNKNOWN},
        {":@/idle:", "", 0, UNKNOWN},
        {"", "", 0, ""},
        /* A RUNPATH is not handed down, and lets others through. */
        {":@/used", ":@/idle", 1, "libc.so.6 @/used/libneed.so"},
        {":@/idle", ":@/used", 1, "libc.so.6 libneed.so"},
        {":@/idle", ":@/$LIB:", 1, "libc.so.6 libneed.so"},
        {"", ":@/used", 1, ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_inherited(&cases[i]);
}

/* libinner.so has a RUNPATH, and ext.so both: no RPATH is searched. */
static void test_before_inherited_rpath_beside_runpath_ignored(void)
{
    static const char *const ext[] = {"libinner.so", NULL};
    const struct mi_record *record;
    struct fixture f;
    const char *path;

    for (int both = 0; both < 2; both++) {
        make_tree(&f);
        path = make_rpath(&f, "pkg/ext.so", ext, "@/used:$ORIGIN");
        if (both)
            add_runpath(path, "$ORIGIN");
        make_object(&f, "pkg/libinner.so", need, both ? NULL : "@/idle");
        expect_object(&f, path, "@/pkg/libinner.so", "ext.so");
        path = fixture_path(&f, "pkg/libinner.so");
        record = fixture_find(&f, MI_MIRROR, path);
        CHECK(record != NULL);
        if (record)
            expect_before(&f, record, both ? "" : "libc.so.6 libneed.so",
                          both ? "both" : "RUNPATH");
        fixture_clear(&f);
    }
}

/* An object with a place of its own. */
static void test_before_place_both_told(void)
{
    const struct mi_record *record;
    char real[PATH_MAX];
    struct fixture f;

    make_tree(&f);
    check_need(realpath(make_object(&f, "pkg/ext.so", need, "@/idle"), real) !=
                   NULL,
               "realpath");
    record =
        fixture_ask(&f, MI_MIRROR, fixture_path(&f, "to-used/../pkg/ext.so"));
    CHECK(record && record->kind == MI_KIND_MIRROR);
    if (record) {
        CHECK_FOR(real, strcmp(mi_record_place(record), real) == 0);
        expect_before(&f, record, "libc.so.6 libneed.so", real);
    }
    fixture_clear(&f);
}

/* A directory that many objects name is listed for the first of them. */
static void test_before_directory_listed_once(void)
{
    static const char both[] = "libc.so.6 libneed.so";
    struct fixture f;
    uint64_t operations;
    char name[40];

    make_tree(&f);
    expect_object(&f, make_object(&f, "pkg/0.so", need, "@/idle:@/empty"),
                  both, "first");
    CHECK(fixture_find(&f, MI_LIST, fixture_path(&f, "idle")) != NULL);
    operations = fixture_operations(&f);
    for (int i = 1; i < 10; i++) {
        snprintf(name, sizeof(name), "pkg/%d.so", i);
        expect_object(&f, make_object(&f, name, need, "@/empty:@/idle"), both,
                      name);
    }
    CHECK(fixture_operations(&f) == operations + 9);
    fixture_clear(&f);
}

static void test_before_without_mirror_nothing_listed(void)
{
    const struct mi_record *record;
    struct fixture f;

    fixture_make(&f, MIB, 0, 0, 0);
    make_directory(&f, "pkg");
    record = fixture_ask(&f, MI_MIRROR,
                         make_object(&f, "pkg/ext.so", need, "@/idle"));
    CHECK(record && record->kind == MI_KIND_ABSENT && record->size == 0);
    if (record)
        expect_before(&f, record, "", "not mirrored");
    fixture_clear(&f);
}

/* ---- the dynamic linker ------------------------------------------------- */

/* So long that valgrind does not complain about the linker's strncmp(), which
 * reads in large steps.
 */
#define ORIGIN "$ORIGIN/../pkg/./././."

static int is_loaded(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);

    dlerror();
    if (handle)
        dlclose(handle);
    return handle != NULL;
}

static const struct mi_record *find_object(const void *arg, const char *path)
{
    return fixture_find(arg, MI_MIRROR, path);
}

/* Open what is before an object, as a rank does.  In a child, once: what is
 * open stays open.
 */
static void open_before(const struct fixture *f,
                        const struct mi_record *record)
{
    static struct mi_preload *preload;

    if (!preload)
        preload = mi_preload_create();
    check_need(preload != NULL, "memory");
    mi_preload_before(preload, record, find_object, f);
    CHECK(dlerror() == NULL);
}

static int can_be_opened(void *arg)
{
    const char *name = arg;

    return !is_loaded(name) && dlopen(name, RTLD_NOW) ? 0 : CHECK_SKIP;
}

/* A library of the system that this program does not use; NULL: none. */
static const char *unused_library(void)
{
    static char names[][24] = {"libanl.so.1", "libBrokenLocale.so.1",
                               "libthread_db.so.1", "libutil.so.1",
                               "libm.so.6"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (check_child(can_be_opened, names[i], names[i]))
            return names[i];
    return NULL;
}

struct load {
    const char *path;           /* the search path of the object */
    const char *directories[4]; /* of that path: where the linker may look */
    int inner;                  /* it is that of a library that ext.so needs */
    int rpath;
    const char *library; /* of the system, set by the test */
    int opened;          /* what is before is opened */
};

/* The object or objects of a load; the one to be loaded. */
static const char *make_load(const struct fixture *f, const struct load *load)
{
    static const char *const inner[] = {"libinner.so", NULL};
    const char *needed[] = {load->library, NULL};
    const char *name = load->inner ? "pkg/libinner.so" : "pkg/ext.so";

    if (load->rpath)
        make_rpath(f, name, needed, load->path);
    else
        make_object(f, name, needed, load->path);
    if (load->inner)
        make_object(f, "pkg/ext.so", inner, ORIGIN "/../pkg");
    return fixture_path(f, "pkg/ext.so");
}

/* Put into each directory, once it is known to be idle, what the linker would
 * take if it did look there.
 */
static void make_traps(const struct fixture *f, const struct load *load)
{
    char name[200];

    for (size_t i = 0; i < 4 && load->directories[i]; i++) {
        mkdir(fixture_path(f, load->directories[i]), 0700);
        snprintf(name, sizeof(name), "%s/%s", load->directories[i],
                 load->library);
        make_object(f, name, none, NULL);
    }
}

static int count_trapped(const struct fixture *f, const struct load *load)
{
    char name[200];
    int trapped = 0;

    for (size_t i = 0; i < 4 && load->directories[i]; i++) {
        snprintf(name, sizeof(name), "%s/%s", load->directories[i],
                 load->library);
        trapped += is_loaded(fixture_path(f, name));
    }
    return trapped;
}

static int load_object(void *arg)
{
    const struct load *load = arg;
    const struct mi_record *record;
    struct fixture f;
    const char *path;
    void *copy;

    make_tree(&f);
    record = fixture_ask(&f, MI_MIRROR, make_load(&f, load));
    make_traps(&f, load);
    if (record && load->opened)
        open_before(&f, record);
    path = copy_path(&f, fixture_path(&f, "pkg/ext.so"));
    copy = dlopen(path, RTLD_NOW);
    CHECK_FOR(copy ? path : dlerror(), copy);
    CHECK_FOR(load->path, is_loaded(load->library));
    CHECK_FOR(load->path, count_trapped(&f, load) == !load->opened);
    fixture_clear(&f);
    return 0;
}

/* The linker looks in the directories of the path, unless what is before has
 * been opened.
 */
static void test_load_opened_before_nothing_searched(const char *library)
{
    struct load loads[] = {
        {.path = "@/idle", .directories = {"idle"}},
        {.path = "@/idle", .directories = {"idle"}, .rpath = 1},
        {.path = "@/absent", .directories = {"absent"}},
        {.path = "$ORIGIN:@/to-idle", .directories = {"idle"}},
        {.path = "@/absent:@/empty:@/used:@/idle",
         .directories = {"absent", "empty", "used", "idle"}},
        {.path = "@/absent:@/empty", .directories = {"empty"}},
        {.path = "@/idle", .directories = {"idle"}, .inner = 1},
        {.path = "@/empty:@/idle",
         .directories = {"idle"},
         .inner = 1,
         .rpath = 1},
    };

    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        loads[i].library = library;
        for (loads[i].opened = 0; loads[i].opened < 2; loads[i].opened++)
            check_child(load_object, &loads[i], __func__);
    }
}

/* The object's libraries are where its path says. */
struct found {
    const char *path;
    const char *library; /* in the tree: loaded with the copy */
    int mirrored;        /* in its place the copy is */
};

static int load_found(void *arg)
{
    const struct found *found = arg;
    const struct mi_record *record;
    const char *path, *library;
    struct fixture f;
    void *copy;

    make_tree(&f);
    path = make_object(&f, "pkg/ext.so", need, found->path);
    record = fixture_ask(&f, MI_MIRROR, path);
    if (record)
        open_before(&f, record);
    copy = dlopen(copy_path(&f, path), RTLD_NOW);
    CHECK_FOR(copy ? path : dlerror(), copy);
    library = fixture_path(&f, found->library);
    CHECK_FOR(found->path, is_loaded(library) == !found->mirrored);
    CHECK_FOR(found->path,
              is_loaded(copy_path(&f, library)) == found->mirrored);
    fixture_clear(&f);
    return 0;
}

static void test_load_library_in_tree_found(void)
{
    struct found founds[] = {
        {"@/used", "used/libneed.so", 0},
        {"@/idle:@/used", "used/libneed.so", 0},
        {"@/idle:@/linked", "used/libneed.so", 0},
        {"$ORIGIN:@/used", "used/libneed.so", 0},
        {ORIGIN "/../used", "used/libneed.so", 1},
        {"@/idle:" ORIGIN "/../used", "used/libneed.so", 1},
    };

    for (size_t i = 0; i < sizeof(founds) / sizeof(founds[0]); i++)
        check_child(load_found, &founds[i], __func__);
}

/* Objects of which one is loaded from the tree, or from the mirror: they have
 * to get the same library.  '%' is a library of the system.
 */
struct world {
    const char *about;
    struct {
        const char *name;      /* the first one is loaded */
        const char *needed[3]; /* up to two, and NULL */
        const char *path;
        int rpath;
    } objects[5];
    const char *in_tree; /* is loaded for '%'; NULL: the system's */
    const char *cwd;
};

struct visit {
    const struct world *world;
    const char *library;
    int mirrored; /* from the mirror, what is before opened */
};

/* The text with the library in place of '%', in one of a few buffers. */
static const char *fill(const char *text, const char *library)
{
    static char full[4][200];
    static unsigned next;
    const char *mark = strchr(text, '%');

    next = (next + 1) % 4;
    if (mark)
        snprintf(full[next], sizeof(full[next]), "%.*s%s%s",
                 (int)(mark - text), text, library, mark + 1);
    else
        snprintf(full[next], sizeof(full[next]), "%s", text);
    return full[next];
}

static void make_world(const struct fixture *f, const struct world *world,
                       const char *library)
{
    make_directory(f, "pkg/lib");
    make_link(f, "nothing", fill("dangling/%", library));
    for (size_t i = 0; i < 5 && world->objects[i].name; i++) {
        const char *const *given = world->objects[i].needed;
        const char *name = fill(world->objects[i].name, library);
        const char *needed[3] = {given[0] ? fill(given[0], library) : NULL,
                                 given[1] ? fill(given[1], library) : NULL};

        (world->objects[i].rpath ? make_rpath : make_object)(
            f, name, needed, world->objects[i].path);
    }
    if (world->cwd)
        check_need(chdir(fixture_path(f, world->cwd)) == 0, world->cwd);
}

/* Is that library of the tree loaded, or its copy? */
static int is_loaded_from(const struct fixture *f, const char *name)
{
    const char *path = fixture_path(f, name);

    return is_loaded(path) || is_loaded(copy_path(f, path));
}

static int visit_world(void *arg)
{
    const struct visit *visit = arg;
    const struct world *world = visit->world;
    const struct mi_record *record;
    struct fixture f;
    char about[200];
    const char *path;
    void *object;

    snprintf(about, sizeof(about), "%s, %s", world->about,
             visit->mirrored ? "from the mirror" : "from the tree");
    make_tree(&f);
    make_world(&f, world, visit->library);
    path = fixture_path(&f, world->objects[0].name);
    if (visit->mirrored) {
        record = fixture_ask(&f, MI_MIRROR, path);
        if (CHECK_FOR(about, record && record->kind == MI_KIND_MIRROR))
            open_before(&f, record);
        path = copy_path(&f, path);
    }
    object = dlopen(path, RTLD_NOW);
    CHECK_FOR(object ? about : dlerror(), object);
    for (size_t i = 1; i < 5 && world->objects[i].name; i++) {
        const char *name = world->objects[i].name;

        if (strchr(name, '%'))
            CHECK_FOR(about,
                      is_loaded_from(&f, fill(name, visit->library)) ==
                          (world->in_tree && !strcmp(name, world->in_tree)));
    }
    CHECK_FOR(about, is_loaded(visit->library));
    check_need(chdir("/") == 0, "chdir");
    fixture_clear(&f);
    return 0;
}

static void test_load_mirrored_same_library_as_from_tree(const char *library)
{
    static const struct world worlds[] = {
        {.about = "relative in the first, absolute in the second",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, ORIGIN "/lib", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"pkg/lib/%", {NULL}, NULL, 0}},
         .in_tree = "pkg/lib/%"},
        {.about = "absolute in the first, relative in the second",
         .objects = {{"pkg/ext.so", {"q.so", "p.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, ORIGIN "/lib", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"pkg/lib/%", {NULL}, NULL, 0}}},
        {.about = "relative in the object itself",
         .objects =
             {{"pkg/ext.so", {"q.so", "%"}, ORIGIN ":" ORIGIN "/lib", 0},
              {"pkg/q.so", {"%"}, "@/idle", 0},
              {"pkg/lib/%", {NULL}, NULL, 0}},
         .in_tree = "pkg/lib/%"},
        {.about = "absolute in the first, in vain in the second",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, "@/used", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "in an inherited absolute directory",
         .objects = {{"pkg/ext.so", {"q.so"}, ORIGIN ":@/used", 1},
                     {"pkg/q.so", {"%"}, "@/idle", 1},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "in a directory inherited through a RUNPATH",
         .objects = {{"pkg/ext.so", {"p.so"}, ORIGIN ":@/used", 1},
                     {"pkg/p.so", {"q.so"}, ORIGIN ":@/idle", 0},
                     {"pkg/q.so", {"%"}, NULL, 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "in a directory that is not handed down",
         .objects = {{"pkg/ext.so", {"q.so"}, ORIGIN ":@/used", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 1},
                     {"used/%", {NULL}, NULL, 0}}},
        {.about = "inherited beside a RUNPATH",
         .objects = {{"pkg/ext.so", {"q.so"}, ORIGIN ":@/used", 1},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}}},
        {.about = "in the working directory",
         .objects = {{"pkg/ext.so", {"%"}, "@/idle:", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%",
         .cwd = "used"},
        {.about = "not in the working directory",
         .objects = {{"pkg/ext.so", {"%"}, "@/idle:", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .cwd = "idle"},
        {.about = "in a circle",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"q.so", "%"}, ORIGIN ":" ORIGIN "/lib", 0},
                     {"pkg/q.so", {"p.so", "%"}, ORIGIN ":@/idle", 0},
                     {"pkg/lib/%", {NULL}, NULL, 0}},
         .in_tree = "pkg/lib/%"},
        {.about = "the system's, in a circle",
         .objects = {{"pkg/ext.so", {"p.so", "%"}, ORIGIN ":@/idle", 0},
                     {"pkg/p.so", {"ext.so", "q.so"}, ORIGIN, 0},
                     {"pkg/q.so", {"p.so", "%"}, ORIGIN ":@/empty", 0}}},
        {.about = "beside an object without a record",
         .objects = {{"pkg/ext.so", {"r.so", "q.so"}, ORIGIN ":@/used", 0},
                     {"used/r.so", {NULL}, NULL, 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0}}},
        {.about = "behind a token in the first, in vain in the second",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, "@/$LIB:@/used", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "beside libraries for some processors",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, "@/capable", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"capable/%", {NULL}, NULL, 0}},
         .in_tree = "capable/%"},
        {.about = "in the working directory of the first",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, "@/idle:", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%",
         .cwd = "used"},
        {.about = "beside an object without a record that needs it",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, "@/used:" ORIGIN, 0},
                     {"used/p.so", {"%"}, "$ORIGIN", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "in an absolute directory of one without a record",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, "@/used:" ORIGIN, 0},
                     {"used/p.so", {"%"}, "@/used", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "in a directory that one without a record inherits",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, "@/used:" ORIGIN, 1},
                     {"used/p.so", {"%"}, NULL, 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "behind a link to nothing",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, "@/dangling:@/used", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .in_tree = "used/%"},
        {.about = "the system's, behind a link to nothing",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, "@/dangling:@/idle", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}}},
        {.about = "the system's, not in the working directory of the first",
         .objects = {{"pkg/ext.so", {"p.so", "q.so"}, ORIGIN, 0},
                     {"pkg/p.so", {"%"}, "@/idle:", 0},
                     {"pkg/q.so", {"%"}, "@/idle", 0},
                     {"used/%", {NULL}, NULL, 0}},
         .cwd = "idle"},
    };
    struct visit visit = {.library = library};

    for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
        visit.world = &worlds[i];
        for (visit.mirrored = 0; visit.mirrored < 2; visit.mirrored++)
            check_child(visit_world, &visit, worlds[i].about);
    }
}

/* A library that is nowhere: the linker says so of the object. */
static int load_missing(void *arg)
{
    static const char *const missing[] = {"libno-such-library.so.77", NULL};
    const struct mi_record *record;
    struct fixture f;
    const char *path, *why;

    (void)arg;
    make_tree(&f);
    path = make_object(&f, "pkg/ext.so", missing, "@/idle");
    record = fixture_ask(&f, MI_MIRROR, path);
    CHECK(record != NULL);
    if (record) {
        expect_before(&f, record, missing[0], path);
        open_before(&f, record);
    }
    CHECK(dlerror() == NULL);
    CHECK(!dlopen(copy_path(&f, path), RTLD_NOW));
    why = dlerror();
    CHECK(why && strstr(why, missing[0]));
    fixture_clear(&f);
    return 0;
}

static void test_load_missing_library_said(void)
{
    check_child(load_missing, NULL, __func__);
}

int main(void)
{
    const char *library = unused_library();

    test_before_idle_directories_names_listed();
    test_before_used_directory_path_listed();
    test_before_used_directory_no_record();
    test_before_used_then_unknown_both_listed();
    test_before_hwcaps_unknown_listed();
    test_before_empty_entry_unknown_listed();
    test_before_tokens_unknown_listed();
    test_before_relative_unknown_listed();
    test_before_no_directory_unknown_listed();
    test_before_origin_only_system_not_listed();
    test_before_mixed_both_listed();
    test_before_no_path_nothing_listed();
    test_before_nothing_searched_nothing_listed();
    test_before_each_name_for_itself();
    test_before_rpath_as_runpath();
    test_before_rpath_beside_runpath_ignored();
    test_before_closure_each_object_its_own();
    test_before_circle_both_listed();
    test_before_inherited_rpath_object_listed();
    test_before_inherited_absolute_rpath_searched();
    test_before_inherited_rpath_beside_runpath_ignored();
    test_before_place_both_told();
    test_before_directory_listed_once();
    test_before_without_mirror_nothing_listed();
    if (library) {
        test_load_opened_before_nothing_searched(library);
        test_load_mirrored_same_library_as_from_tree(library);
    } else {
        check_skipped("test_load_*", "no library that could be opened");
    }
    test_load_library_in_tree_found();
    test_load_missing_library_said();
    return check_report();
}
