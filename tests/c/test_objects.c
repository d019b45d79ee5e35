/* Tests of src/objects.c: closures on their way into the mirror.  What is said
 * of each need is in test_needs.c.
 */
#include "reader_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "../../src/elf.h"

/* An object in the tree; in 'runpath' (NULL: none) "@" is the tree. */
static const char *make(const struct fixture *f, const char *name,
                        const char *need, const char *runpath)
{
    const char *needed[] = {need, NULL}, *path = fixture_path(f, name);
    char full[PATH_MAX] = "", *slash;

    for (size_t used = 0; runpath && *runpath; runpath++)
        used += (size_t)snprintf(full + used, sizeof(full) - used,
                                 *runpath == '@' ? "%s" : "%.1s",
                                 *runpath == '@' ? f->tree : runpath);
    slash = strrchr(path, '/');
    *slash = '\0';
    mkdir(path, 0700);
    *slash = '/';
    fixture_object(path, needed, full[0] ? full : NULL);
    return path;
}

static void make_link(const struct fixture *f, const char *target,
                      const char *name)
{
    check_need(symlink(target, fixture_path(f, name)) == 0, name);
}

static const struct mi_record *find(const struct fixture *f, const char *name)
{
    return fixture_find(f, MI_MIRROR, fixture_path(f, name));
}

static const struct mi_record *ask(struct fixture *f, const char *name)
{
    return fixture_ask(f, MI_MIRROR, fixture_path(f, name));
}

/* What the copy is; 0 if there is none. */
static ino_t inode_of(const struct fixture *f, const char *name)
{
    char place[PATH_MAX * 2];
    struct stat status;

    snprintf(place, sizeof(place), "%s%s", mi_mailbox_mirror(f->mailbox),
             fixture_path(f, name));
    return stat(place, &status) == 0 ? status.st_ino : 0;
}

/* Is the need of 'name' "LETTER TREE/needed"?  (Its only one.) */
static int needs(const struct fixture *f, const char *name, char letter,
                 const char *needed)
{
    const struct mi_record *record = find(f, name);
    const char *need = record ? mi_record_need(record, NULL) : NULL;

    return need && need[0] == letter &&
           strcmp(need + 1, strchr("mvlpo", MI_NEED_KIND(need))
                                ? fixture_path(f, needed)
                                : needed) == 0 &&
           !mi_record_need(record, need);
}

static int comes_before(const struct fixture *f, const char *first,
                        const char *second)
{
    return find(f, first) && find(f, second) &&
           (const char *)find(f, first) < (const char *)find(f, second);
}

/* ---- links -------------------------------------------------------------- */

/* One file by two paths. */
static void test_link_in_closure_one_file(void)
{
    static const char *const both[] = {"liba.so.1", "liba.so", NULL};
    struct fixture f;
    struct mi_object object;
    int count = 0;

    fixture_make(&f, 8 * MIB, 1, 0, 1);
    make(&f, "lib/liba.so.1", "libdeep.so", "$ORIGIN");
    make(&f, "lib/libdeep.so", NULL, NULL);
    make_link(&f, "liba.so.1", "lib/liba.so");
    fixture_object(fixture_path(&f, "ext.so"), both, "$ORIGIN/lib");
    CHECK(ask(&f, "ext.so") == find(&f, "ext.so"));
    CHECK(inode_of(&f, "lib/liba.so") &&
          inode_of(&f, "lib/liba.so") == inode_of(&f, "lib/liba.so.1"));
    CHECK(inode_of(&f, "lib/liba.so") != inode_of(&f, "lib/libdeep.so"));
    CHECK(find(&f, "lib/liba.so") &&
          strcmp(mi_record_link(find(&f, "lib/liba.so")),
                 fixture_path(&f, "lib/liba.so.1")) == 0);
    CHECK(find(&f, "lib/liba.so.1") &&
          !mi_record_link(find(&f, "lib/liba.so.1"))[0]);
    CHECK(comes_before(&f, "lib/liba.so.1", "lib/liba.so"));
    CHECK(comes_before(&f, "lib/liba.so", "ext.so"));
    CHECK(comes_before(&f, "lib/libdeep.so", "ext.so"));
    CHECK(needs(&f, "lib/liba.so", 'm', "lib/libdeep.so"));
    CHECK(needs(&f, "lib/liba.so.1", 'm', "lib/libdeep.so"));
    while (mi_reader_object(f.reader, &object)) {
        count++;
        mi_object_clear(&object);
    }
    CHECK(count == 3); /* the link has no bytes */
    CHECK(mi_mirror_bytes(f.mirror) == 3 * sizeof(struct fixture_image));
    CHECK(find(&f, "lib/liba.so") && find(&f, "lib/liba.so")->object > 0);
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_link_to_earlier_closure_one_file(void)
{
    struct fixture f;
    uint64_t bytes;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "lib/liba.so.1", NULL, NULL);
    make_link(&f, "liba.so.1", "lib/liba.so");
    make_link(&f, "lib", "lib64");
    check_need(link(fixture_path(&f, "lib/liba.so.1"),
                    fixture_path(&f, "hard.so")) == 0,
               "link");
    CHECK(ask(&f, "lib/liba.so") != NULL);
    CHECK(!mi_record_link(find(&f, "lib/liba.so"))[0]);
    bytes = fixture_bytes(&f);
    CHECK(ask(&f, "lib/liba.so.1") && ask(&f, "lib64/liba.so.1") &&
          ask(&f, "hard.so"));
    CHECK(fixture_bytes(&f) == bytes); /* not copied again */
    CHECK(strcmp(mi_record_link(find(&f, "hard.so")),
                 fixture_path(&f, "lib/liba.so")) == 0);
    CHECK(strcmp(mi_record_link(find(&f, "lib/liba.so.1")),
                 fixture_path(&f, "lib/liba.so")) == 0);
    CHECK(inode_of(&f, "lib/liba.so") &&
          inode_of(&f, "lib/liba.so") == inode_of(&f, "hard.so") &&
          inode_of(&f, "lib/liba.so") == inode_of(&f, "lib64/liba.so.1"));
    fixture_clear(&f);
}

/* Its search path may lead elsewhere from there. */
static void test_link_origin_its_own(void)
{
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "one/ext.so", "liba.so", "$ORIGIN");
    make(&f, "one/liba.so", NULL, NULL);
    make(&f, "two/liba.so", NULL, NULL);
    make_link(&f, "../one/ext.so", "two/ext.so");
    CHECK(ask(&f, "one/ext.so") && ask(&f, "two/ext.so"));
    CHECK(needs(&f, "one/ext.so", 'm', "one/liba.so"));
    CHECK(needs(&f, "two/ext.so", 'm', "two/liba.so"));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "one/liba.so")));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "two/liba.so")));
    CHECK(inode_of(&f, "one/ext.so") == inode_of(&f, "two/ext.so"));
    fixture_clear(&f);
}

/* The same inode, written again: what was copied of it is another object. */
static void test_link_file_changed_copied_anew(void)
{
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "one.so", NULL, NULL);
    check_need(
        link(fixture_path(&f, "one.so"), fixture_path(&f, "two.so")) == 0 &&
            link(fixture_path(&f, "one.so"), fixture_path(&f, "three.so")) ==
                0,
        "link");
    CHECK(ask(&f, "one.so") && ask(&f, "three.so"));
    CHECK(inode_of(&f, "one.so") == inode_of(&f, "three.so"));
    check_sleep(50); /* times of files are told in clock ticks */
    make(&f, "two.so", "libnew.so", "$ORIGIN");
    CHECK(ask(&f, "two.so") && needs(&f, "two.so", 's', "libnew.so"));
    CHECK(!mi_record_link(find(&f, "two.so"))[0]);
    CHECK(fixture_mirrored(&f, fixture_path(&f, "two.so")));
    CHECK(inode_of(&f, "one.so") != inode_of(&f, "two.so"));
    CHECK(!fixture_mirrored(&f, fixture_path(&f, "one.so"))); /* as it was */
    fixture_clear(&f);
}

/* One that went and came back under the same number, of the same size. */
static void test_link_file_replaced_copied_anew(void)
{
    struct fixture f;
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "one.so", NULL, NULL);
    CHECK(ask(&f, "one.so") != NULL);
    check_need(
        rename(fixture_path(&f, "one.so"), fixture_path(&f, "two.so")) == 0,
        "rename");
    check_sleep(50);
    make(&f, "two.so", "libnew.so", "$ORIGIN");
    /* Only the time of the change cannot be set. */
    check_need(utimensat(AT_FDCWD, fixture_path(&f, "two.so"), times, 0) == 0,
               "times");
    CHECK(ask(&f, "two.so") &&
          fixture_mirrored(&f, fixture_path(&f, "two.so")));
    CHECK(inode_of(&f, "one.so") != inode_of(&f, "two.so"));
    fixture_clear(&f);
}

/* ---- order -------------------------------------------------------------- */

static void test_publish_needed_first(void)
{
    enum { LENGTH = 20 };
    struct fixture f;
    char name[20], next[20];
    int right = 0;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    for (int i = 0; i < LENGTH; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        snprintf(next, sizeof(next), "%d.so", i + 1);
        make(&f, name, i + 1 < LENGTH ? next : NULL, "$ORIGIN");
    }
    CHECK(ask(&f, "5.so") != NULL);
    CHECK(!find(&f, "4.so"));
    CHECK(ask(&f, "0.so") != NULL);
    for (int i = 0; i + 1 < LENGTH; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        snprintf(next, sizeof(next), "%d.so", i + 1);
        right += comes_before(&f, next, name);
    }
    CHECK(right == LENGTH - 1);
    fixture_clear(&f);
}

/* What others are links to comes just before these. */
static void test_publish_linked_before_its_link(void)
{
    static const char *const both[] = {"liba.so.1", "liba.so", NULL};
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "liba.so.1", "libdeep.so", "$ORIGIN");
    make(&f, "libdeep.so", NULL, NULL);
    make_link(&f, "liba.so.1", "liba.so");
    fixture_object(fixture_path(&f, "ext.so"), both, "$ORIGIN");
    CHECK(ask(&f, "ext.so") != NULL);
    CHECK(comes_before(&f, "liba.so.1", "liba.so"));
    CHECK(comes_before(&f, "libdeep.so", "liba.so.1"));
    fixture_clear(&f);
}

/* ---- aliases ------------------------------------------------------------ */

#define ALIAS "lib/liba.so.mpiimport-alias"

/* Make an object that needs TREE/lib/liba.so by that path. */
static const char *make_by_path(const struct fixture *f, const char *name)
{
    char need[PATH_MAX];

    strcpy(need, fixture_path(f, "lib/liba.so"));
    return make(f, name, need, NULL);
}

static void test_alias_image_answers_to_path(void)
{
    struct fixture f;
    const struct mi_record *record;
    char place[PATH_MAX * 2];
    struct mi_elf elf;
    size_t size;
    void *bytes;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "lib/liba.so", NULL, NULL);
    make_by_path(&f, "ext.so");
    CHECK(ask(&f, "ext.so") && needs(&f, "ext.so", 'P', ALIAS));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "lib/liba.so")));
    record = find(&f, ALIAS);
    CHECK(record && record->kind == MI_KIND_MIRROR && record->object > 0);
    CHECK(needs(&f, ALIAS, 'o', "lib/liba.so"));
    CHECK(record && strcmp(mi_record_soname(record),
                           fixture_path(&f, "lib/liba.so")) == 0);
    CHECK(record && !mi_record_link(record)[0]);
    CHECK(access(fixture_path(&f, ALIAS), F_OK) != 0);
    snprintf(place, sizeof(place), "%s%s", mi_mailbox_mirror(f.mailbox),
             fixture_path(&f, ALIAS));
    bytes = check_read(place, &size);
    CHECK(mi_elf_parse(bytes, size, &elf, NULL) == 0);
    CHECK(elf.soname && strcmp(elf.soname, mi_record_soname(record)) == 0);
    CHECK(elf.needed_count == 1 &&
          strcmp(elf.needed[0], "$ORIGIN/liba.so") == 0);
    mi_elf_clear(&elf);
    free(bytes);
    fixture_clear(&f);
}

static void test_alias_many_users_made_once(void)
{
    struct fixture f;
    struct mi_object object;
    int count = 0;

    fixture_make(&f, 8 * MIB, 1, 0, 1);
    make(&f, "lib/liba.so", NULL, NULL);
    make_by_path(&f, "one.so");
    make_by_path(&f, "two.so");
    CHECK(ask(&f, "one.so") && ask(&f, "two.so"));
    CHECK(needs(&f, "two.so", 'P', ALIAS));
    while (mi_reader_object(f.reader, &object)) {
        count++;
        CHECK(S_ISREG(object.mode) || (object.mode & 0500) == 0500);
        mi_object_clear(&object);
    }
    CHECK(count == 4);
    fixture_clear(&f);
}

/* Make an object that needs 'name', which may be as long as a path. */
static void make_by_long_path(const struct fixture *f, const char *object,
                              const char *name)
{
    const char *path = make(f, object, "/mi-tree/liba.so", NULL);
    const size_t strings = offsetof(struct fixture_image, strings);
    size_t size, length = strlen(name) + 1;
    struct fixture_image *image = check_read(path, &size);
    char *longer = calloc(1, size + length);

    check_need(longer != NULL, "memory");
    image->segment[0].p_filesz += length;
    image->segment[0].p_memsz += length;
    for (Elf64_Dyn *entry = image->dynamic; entry->d_tag; entry++) {
        if (entry->d_tag == DT_NEEDED)
            entry->d_un.d_val = size - strings;
        if (entry->d_tag == DT_STRSZ)
            entry->d_un.d_val = size + length - strings;
    }
    memcpy(longer, image, size);
    memcpy(longer + size, name, length);
    check_write(path, longer, size + length);
    free(longer);
    free(image);
}

/* "TREE/xxx.../xxx" of MI_PATH - 2 bytes, with its directories. */
static void make_long_path(const struct fixture *f, char *path)
{
    size_t length = strlen(f->tree);

    strcpy(path, f->tree);
    while (length < MI_PATH - 2) {
        size_t more = MI_PATH - 2 - length - 1;

        if (length > strlen(f->tree))
            check_need(mkdir(path, 0700) == 0, path);
        if (more > 200)
            more = more < 402 ? more / 2 : 200;
        path[length] = '/';
        memset(path + length + 1, 'x', more);
        length += 1 + more;
        path[length] = '\0';
    }
}

/* The alias's name would be no path: its user is loaded from the tree. */
static void test_alias_name_too_long_refused(void)
{
    static const char *const none[] = {NULL};
    static char name[MI_PATH + 1];
    struct fixture f;
    const struct mi_record *record;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_long_path(&f, name);
    CHECK(strlen(name) == MI_PATH - 2);
    make_by_long_path(&f, "absent.so", name);
    record = ask(&f, "absent.so"); /* what is not there has no alias */
    CHECK(record && record->kind == MI_KIND_MIRROR &&
          !mi_record_need(record, NULL));
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_long_path(&f, name);
    fixture_object(name, none, NULL);
    make_by_long_path(&f, "ext.so", name);
    record = ask(&f, "ext.so");
    CHECK(record && record->kind == MI_KIND_ABSENT &&
          record->code == MI_MIRROR_REFUSED);
    CHECK(atomic_load(&f.notices) == 1 && f.first == MI_FIRST_MIRROR);
    CHECK(inode_of(&f, "ext.so") == 0);
    fixture_clear(&f);
}

/* What is needed by a path and is not there is the linker's to miss. */
static void test_alias_of_nothing_not_made(void)
{
    static const char *const absent[] = {"lib/absent.so", "absent/liba.so",
                                         "lib/liba.so/below.so", "lib"};
    struct fixture f;
    char need[PATH_MAX], name[PATH_MAX + 20];

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "lib/liba.so", NULL, NULL);
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        strcpy(need, fixture_path(&f, absent[i]));
        snprintf(name, sizeof(name), "%zu.so", i);
        make(&f, name, need, NULL);
        CHECK_FOR(need, ask(&f, name) &&
                            fixture_mirrored(&f, fixture_path(&f, name)) &&
                            !mi_record_need(find(&f, name), NULL));
        snprintf(name, sizeof(name), "%s.mpiimport-alias", need);
        CHECK_FOR(need, !fixture_find(&f, MI_MIRROR, need) &&
                            !fixture_find(&f, MI_MIRROR, name));
    }
    CHECK_FOR(f.notice, atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

/* ---- links to what may be opened ---------------------------------------- */

/* An object that uses dlopen(3), and libraries in its search path. */
static void make_opener(const struct fixture *f)
{
    struct fixture_tags tags = {.runpath = "$ORIGIN/lib", .text = "dlopen"};

    make(f, "lib/libone.so", NULL, NULL);
    make(f, "lib/libtwo.so.2", NULL, NULL);
    make_link(f, "libtwo.so.2", "lib/libtwo.so");
    make_link(f, "nothing", "lib/libgone.so");
    check_write(fixture_path(f, "lib/data.txt"), "text", 4);
    check_need(mkdir(fixture_path(f, "lib/dir.so"), 0700) == 0, "dir.so");
    fixture_write(fixture_path(f, "ext.so"), &tags);
}

/* Where the mirror's link leads, in 'target' (PATH_MAX); "" if it is none. */
static const char *link_of(const struct fixture *f, const char *name,
                           char *target)
{
    char place[PATH_MAX * 2];
    ssize_t size;

    snprintf(place, sizeof(place), "%s%s", mi_mailbox_mirror(f->mailbox),
             fixture_path(f, name));
    size = readlink(place, target, PATH_MAX - 1);
    target[size > 0 ? size : 0] = '\0';
    return target;
}

/* Does it lead to the tree's? */
static int is_link(const struct fixture *f, const char *name)
{
    char target[PATH_MAX];

    return strcmp(link_of(f, name, target), fixture_path(f, name)) == 0;
}

static void test_directory_record_names_libraries(void)
{
    static const char *const names[] = {"libone.so", "libtwo.so",
                                        "libtwo.so.2"};
    struct fixture f;
    const struct mi_record *record;
    const char *need = NULL;
    int count = 0, right = 0;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_opener(&f);
    CHECK(ask(&f, "ext.so") && !mi_record_need(find(&f, "ext.so"), NULL));
    record = find(&f, "lib/");
    CHECK(record && record->kind == MI_KIND_MIRROR && record->object == 0);
    CHECK(record && !mi_record_soname(record)[0] &&
          !mi_record_link(record)[0]);
    CHECK(comes_before(&f, "lib/", "ext.so"));
    while (record && (need = mi_record_need(record, need)) != NULL) {
        count++;
        CHECK_FOR(need, need[0] == MI_NEED_LINK);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            right += strcmp(need + 1, names[i]) == 0;
    }
    CHECK(count == 3 && right == 3);
    CHECK(!find(&f, "lib/libone.so") && !find(&f, "lib/libtwo.so"));
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_directory_links_copy_takes_place(void)
{
    char target[PATH_MAX];
    struct fixture f;
    uint64_t bytes;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_opener(&f);
    CHECK(ask(&f, "lib/libtwo.so.2") && ask(&f, "ext.so"));
    CHECK(is_link(&f, "lib/libone.so") && is_link(&f, "lib/libtwo.so"));
    /* A copy that is there stays; what is no library has no link. */
    CHECK(!link_of(&f, "lib/libtwo.so.2", target)[0]);
    CHECK(fixture_mirrored(&f, fixture_path(&f, "lib/libtwo.so.2")));
    CHECK(inode_of(&f, "lib/data.txt") == 0 &&
          inode_of(&f, "lib/libgone.so") == 0 &&
          inode_of(&f, "lib/dir.so") == 0);
    /* A later copy, and a later link to a copy. */
    bytes = mi_mirror_bytes(f.mirror);
    CHECK(ask(&f, "lib/libone.so") && ask(&f, "lib/libtwo.so"));
    CHECK(!link_of(&f, "lib/libone.so", target)[0]);
    CHECK(!link_of(&f, "lib/libtwo.so", target)[0]);
    CHECK(fixture_mirrored(&f, fixture_path(&f, "lib/libone.so")));
    CHECK(inode_of(&f, "lib/libtwo.so") &&
          inode_of(&f, "lib/libtwo.so") == inode_of(&f, "lib/libtwo.so.2"));
    CHECK(mi_mirror_bytes(f.mirror) == bytes + sizeof(struct fixture_image));
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

/* What cannot be copied can be opened by way of its link. */
static int link_large(void *arg)
{
    const struct rlimit limit = {64 << 10, 64 << 10};
    struct fixture f;

    (void)arg;
    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make_opener(&f);
    check_need(truncate(fixture_path(&f, "lib/libone.so"), 100000) == 0,
               "size");
    signal(SIGXFSZ, SIG_IGN);
    check_need(setrlimit(RLIMIT_FSIZE, &limit) == 0, "limit");
    CHECK(ask(&f, "ext.so") && ask(&f, "lib/libone.so"));
    CHECK(is_link(&f, "lib/libone.so"));
    fixture_clear(&f);
    return 0;
}

static void test_directory_link_of_refused_stays(void)
{
    check_child(link_large, NULL, __func__);
}

/* ---- refused and damaged ------------------------------------------------ */

static int refuse_large(void *arg)
{
    const struct rlimit limit = {64 << 10, 64 << 10};
    static const char *const both[] = {"large.so", "small.so", NULL};
    const struct mi_record *record;
    struct fixture f;

    (void)arg;
    fixture_make(&f, 8 * MIB, 1, 0, 1);
    make(&f, "large.so", "libdeep.so", "@/lib:$ORIGIN");
    make(&f, "lib/libdeep.so", NULL, NULL);
    make(&f, "small.so", NULL, NULL);
    make_link(&f, "large.so", "link.so");
    check_need(truncate(fixture_path(&f, "large.so"), 100000) == 0, "size");
    fixture_object(fixture_path(&f, "ext.so"), both, "$ORIGIN");
    signal(SIGXFSZ, SIG_IGN);
    check_need(setrlimit(RLIMIT_FSIZE, &limit) == 0, "limit");
    CHECK(ask(&f, "ext.so") && ask(&f, "ext.so")->kind == MI_KIND_MIRROR);
    record = find(&f, "large.so");
    CHECK(record && record->kind == MI_KIND_ABSENT &&
          record->code == MI_MIRROR_REFUSED);
    CHECK(
        needs(&f, "large.so", 'M', "lib/libdeep.so")); /* told all the same */
    CHECK(fixture_mirrored(&f, fixture_path(&f, "small.so")));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "lib/libdeep.so")));
    CHECK(inode_of(&f, "large.so") == 0);
    CHECK(atomic_load(&f.notices) == 1 && f.first == MI_FIRST_MIRROR);
    CHECK(strstr(f.notice, fixture_path(&f, "large.so")));
    record = ask(&f, "link.so"); /* of what is not there: refused as well */
    CHECK(record && record->kind == MI_KIND_ABSENT &&
          record->code == MI_MIRROR_REFUSED && !mi_record_link(record)[0]);
    CHECK(check_entries(mi_mirror_root(f.mirror)) == 1);
    fixture_clear(&f);
    return 0;
}

static void test_refused_needs_told_others_mirrored(void)
{
    check_child(refuse_large, NULL, __func__);
}

static void test_damaged_link_to_it_damaged(void)
{
    struct fixture f;
    const struct mi_record *record;

    fixture_make(&f, 8 * MIB, 1, 0, 1);
    make(&f, "ext.so", "bad.so", "@");
    check_write(fixture_path(&f, "bad.so"), "not an object", 13);
    make_link(&f, "bad.so", "link.so");
    CHECK(ask(&f, "ext.so") && needs(&f, "ext.so", 'M', "bad.so"));
    for (int i = 0; i < 2; i++) {
        record = ask(&f, i ? "link.so" : "bad.so");
        CHECK(record && record->kind == MI_KIND_ABSENT &&
              record->code == MI_MIRROR_DAMAGED && record->size > 0);
        CHECK(record && !mi_record_need(record, NULL));
        CHECK(inode_of(&f, i ? "link.so" : "bad.so") == 0);
    }
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_needed_object_gone_told(void)
{
    struct fixture f;
    const struct mi_record *record;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "ext.so", "$ORIGIN/absent.so", NULL);
    CHECK(ask(&f, "ext.so") && needs(&f, "ext.so", 'o', "absent.so"));
    record = find(&f, "absent.so");
    CHECK(record && record->kind == MI_KIND_ABSENT && record->code == ENOENT);
    fixture_clear(&f);
}

/* ---- libraries by name -------------------------------------------------- */

/* Ask for the library 'name' as 'caller' ("": the program) would open it. */
static const struct mi_record *ask_name(struct fixture *f, const char *caller,
                                        const char *name)
{
    char key[2 * PATH_MAX];

    snprintf(key, sizeof(key), "%s\n%s",
             caller[0] ? fixture_path(f, caller) : "", name);
    return fixture_ask(f, MI_MIRROR, key);
}

static void expect_name(struct fixture *f, const char *caller,
                        const char *name, char letter, const char *text)
{
    const struct mi_record *record = ask_name(f, caller, name);
    const char *need = record ? mi_record_need(record, NULL) : NULL;
    char about[3 * PATH_MAX];

    snprintf(about, sizeof(about), "%s: %s: %s", caller, name,
             need ? need : "nothing");
    CHECK_FOR(about, record && record->kind == MI_KIND_MIRROR);
    CHECK_FOR(about, record && record->object == 0);
    CHECK_FOR(about,
              need && need[0] == letter &&
                  strcmp(need + 1, strchr(text, '/') ? fixture_path(f, text)
                                                     : text) == 0);
    CHECK_FOR(about, need && !mi_record_need(record, need));
    CHECK_FOR(about, record && ask_name(f, caller, name) == record);
}

static void test_name_found_as_caller_would(void)
{
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "origin.so", NULL, "$ORIGIN/lib");
    make(&f, "absolute.so", NULL, "@/lib");
    make(&f, "nothing.so", NULL, NULL);
    make(&f, "lib/liba.so", "libdeep.so", "$ORIGIN");
    make(&f, "lib/libdeep.so", NULL, NULL);
    expect_name(&f, "origin.so", "liba.so", 'm', "lib/liba.so");
    expect_name(&f, "absolute.so", "liba.so", 'M', "lib/liba.so");
    expect_name(&f, "absolute.so", "libx.so", 'S', "libx.so");
    expect_name(&f, "nothing.so", "liba.so", 's', "liba.so");
    expect_name(&f, "", "liba.so", 's', "liba.so");
    expect_name(&f, "absent.so", "liba.so", 's', "liba.so");
    CHECK(fixture_mirrored(&f, fixture_path(&f, "lib/liba.so")));
    CHECK(fixture_mirrored(&f, fixture_path(&f, "lib/libdeep.so")));
    CHECK(!find(&f, "origin.so")); /* it has been asked about, not for */
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

/* Whoever asks gets an answer. */
static void test_name_caller_damaged_answered(void)
{
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    check_write(fixture_path(&f, "text.so"), "not an object", 13);
    check_write(fixture_path(&f, "empty.so"), "", 0);
    expect_name(&f, "text.so", "liba.so", 's', "liba.so");
    expect_name(&f, "empty.so", "liba.so", 's', "liba.so");
    expect_name(&f, "", "", 's', "");
    fixture_clear(&f);
}

/* Its needs are there before it. */
static void test_name_published_after_library(void)
{
    struct fixture f;
    const struct mi_record *record;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "ext.so", NULL, "$ORIGIN");
    make(&f, "liba.so", NULL, NULL);
    record = ask_name(&f, "ext.so", "liba.so");
    CHECK(find(&f, "liba.so") &&
          (const char *)record > (const char *)find(&f, "liba.so"));
    fixture_clear(&f);
}

/* ---- again -------------------------------------------------------------- */

static void test_again_nothing_read(void)
{
    struct fixture f;
    uint64_t operations, bytes;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "one.so", "liba.so", "@/lib");
    make(&f, "two.so", "liba.so", "@/lib");
    make(&f, "lib/liba.so", NULL, NULL);
    CHECK(ask(&f, "one.so") != NULL);
    operations = fixture_operations(&f);
    bytes = fixture_bytes(&f);
    CHECK(operations == 2 + 2 && bytes > 2 * sizeof(struct fixture_image));
    CHECK(bytes < 3 * sizeof(struct fixture_image)); /* and a listing */
    CHECK(ask(&f, "one.so") && ask(&f, "lib/liba.so"));
    CHECK(fixture_operations(&f) == operations);
    CHECK(ask(&f, "two.so") != NULL);
    CHECK(fixture_operations(&f) == operations + 1);
    CHECK(fixture_bytes(&f) == bytes + sizeof(struct fixture_image));
    fixture_clear(&f);
}

/* A listing for each directory, for all objects that look there. */
static void test_directories_listed_once(void)
{
    struct fixture f;
    char name[20];

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "idle/x.so", NULL, NULL);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        make(&f, name, "libmi-none.so", "@/idle:@/absent:$ORIGIN");
        CHECK(ask(&f, name) && needs(&f, name, 'S', "libmi-none.so"));
    }
    /* An object takes one, a directory that is there two, another one. */
    CHECK(fixture_operations(&f) == 10 + 2 + 1 + 2);
    fixture_clear(&f);
}

/* What every process has loaded is looked for nowhere. */
static void test_directories_of_loaded_not_listed(void)
{
    struct fixture f;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    make(&f, "idle/x.so", NULL, NULL);
    make(&f, "ext.so", "libc.so.6", "@/idle:@/absent:$ORIGIN");
    CHECK(ask(&f, "ext.so") && needs(&f, "ext.so", 's', "libc.so.6"));
    CHECK(fixture_operations(&f) == 1);
    fixture_clear(&f);
}

/* ---- threads ------------------------------------------------------------ */

enum { THREADS = 4, OBJECTS = 20 };

static void *ask_all(void *arg)
{
    struct fixture *f = arg;
    char name[20];

    for (int i = 0; i < OBJECTS; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        CHECK(ask(f, name) != NULL);
    }
    return NULL;
}

static void test_threads_same_objects_each_once(void)
{
    pthread_t threads[THREADS];
    struct fixture f;
    char name[20];
    int right = 0;

    fixture_make(&f, 8 * MIB, 1, 0, 0);
    for (int i = 0; i < OBJECTS; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        make(&f, name, i % 2 ? "0.so" : "1.so", "$ORIGIN");
    }
    for (int t = 0; t < THREADS; t++)
        check_need(pthread_create(&threads[t], NULL, ask_all, &f) == 0,
                   "thread");
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (int i = 0; i < OBJECTS; i++) {
        snprintf(name, sizeof(name), "%d.so", i);
        right += fixture_mirrored(&f, fixture_path(&f, name));
    }
    CHECK(right == OBJECTS);
    CHECK(fixture_operations(&f) == OBJECTS + 2);
    CHECK(mi_mirror_bytes(f.mirror) == OBJECTS * sizeof(struct fixture_image));
    fixture_clear(&f);
}

/* ---- without a mirror --------------------------------------------------- */

static void test_no_mirror_judged_only(void)
{
    struct fixture f;
    const struct mi_record *record;

    fixture_make(&f, MIB, 0, 0, 0);
    make(&f, "ext.so", "liba.so", "@");
    record = ask(&f, "ext.so");
    CHECK(record && record->kind == MI_KIND_ABSENT &&
          record->code == MI_MIRROR_REFUSED && record->size == 0);
    CHECK(record && !mi_record_need(record, NULL));
    record = ask_name(&f, "ext.so", "liba.so");
    CHECK(record && record->kind == MI_KIND_ABSENT);
    CHECK(fixture_operations(&f) == 2);
    fixture_clear(&f);
}

int main(void)
{
    test_link_in_closure_one_file();
    test_link_to_earlier_closure_one_file();
    test_link_origin_its_own();
    test_link_file_changed_copied_anew();
    test_link_file_replaced_copied_anew();
    test_publish_needed_first();
    test_publish_linked_before_its_link();
    test_alias_image_answers_to_path();
    test_alias_many_users_made_once();
    test_alias_name_too_long_refused();
    test_alias_of_nothing_not_made();
    test_directory_record_names_libraries();
    test_directory_links_copy_takes_place();
    test_directory_link_of_refused_stays();
    test_refused_needs_told_others_mirrored();
    test_damaged_link_to_it_damaged();
    test_needed_object_gone_told();
    test_name_found_as_caller_would();
    test_name_caller_damaged_answered();
    test_name_published_after_library();
    test_again_nothing_read();
    test_directories_listed_once();
    test_directories_of_loaded_not_listed();
    test_threads_same_objects_each_once();
    test_no_mirror_judged_only();
    return check_report();
}
