/* Tests of src/search.c: lists of directories, and what holds for this
 * process, compared with what the dynamic linker says.
 *
 * The program is linked with the RPATH "$ORIGIN/of-program:/mi-test-absolute".
 */
#include "reader_fixture.h"

#include <dlfcn.h>
#include <link.h>

#include "../../src/search.h"

/* One that knows the tokens, and nothing else; to be cleared. */
static struct mi_search known(void)
{
    return (struct mi_search){.lib = strdup("lib/of-machine"),
                              .platform = strdup("some-processor")};
}

/* ---- lists -------------------------------------------------------------- */

static void expect_list(struct mi_search *search, const char *path, int real,
                        const char *expected)
{
    const char *const none[] = {NULL};
    char *list = mi_search_list(search, path, "/o/rigin", real, none);
    char about[2000];

    snprintf(about, sizeof(about), "%s: \"%s\", not \"%s\"",
             path ? path : "none", list ? list : "NULL", expected);
    CHECK_FOR(about, list && strcmp(list, expected) == 0);
    free(list);
}

static void test_list_each_entry_its_kind(void)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"/a", "=/a:"},
        {"/a:/b/c", "=/a:=/b/c:"},
        {"/a/:/b//c", "=/a/:=/b//c:"},
        {"$ORIGIN", "/o/rigin:"},
        {"${ORIGIN}", "/o/rigin:"},
        {"$ORIGIN/../x:/a", "/o/x:=/a:"},
        {"/a:$ORIGIN/.//x/", "=/a:/o/rigin/x:"},
        {"$ORIGIN/../..", "/:"},
        {"relative:.:./x", "?:?:?:"},
        {"/a/$ORIGIN", "?:"},
        {"$ORIGINx", "?:"},
        {"$ORIGIN/$ORIGIN", "?:"},
        {"$NOTHING/x:/a", "?:=/a:"},
        {"/a$", "?:"},
    };
    struct mi_search search = known();

    expect_list(&search, NULL, 0, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_list(&search, cases[i][0], 0, cases[i][1]);
    mi_search_clear(&search);
}

static void test_list_real_origin_absolute(void)
{
    struct mi_search search = known();

    expect_list(&search, "$ORIGIN/../x:/a", 1, "=/o/x:=/a:");
    expect_list(&search, "${ORIGIN}", 1, "=/o/rigin:");
    expect_list(&search, "x", 1, "?:");
    mi_search_clear(&search);
}

/* An empty entry is the working directory, wherever it stands. */
static void test_list_empty_entry_unknown_first(void)
{
    static const char *const cases[][2] = {
        {":", "?:"},
        {"::", "?:"},
        {"/a:", "?:=/a:"},
        {":/a", "?:=/a:"},
        {"/a::/b", "?:=/a:=/b:"},
        {"$ORIGIN:", "?:/o/rigin:"},
    };
    struct mi_search search = known();

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_list(&search, cases[i][0], 0, cases[i][1]);
    mi_search_clear(&search);
}

static void test_list_tokens_replaced(void)
{
    static const char *const cases[][2] = {
        {"/a/$LIB", "=/a/lib/of-machine:"},
        {"/a/${LIB}/b", "=/a/lib/of-machine/b:"},
        {"/$PLATFORM/${PLATFORM}", "=/some-processor/some-processor:"},
        {"$ORIGIN/../$LIB", "/o/lib/of-machine:"},
        {"${ORIGIN}/$PLATFORM", "/o/rigin/some-processor:"},
        {"$LIB", "?:"},
        {"/a/$LIB$ORIGIN", "?:"},
        {"/a/${LIB", "?:"},
    };
    struct mi_search search = known(), without = {0};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_list(&search, cases[i][0], 0, cases[i][1]);
        expect_list(&without, cases[i][0], 0, "?:");
    }
    mi_search_clear(&search);
    mi_search_clear(&without);
}

static void test_list_more_behind_in_order(void)
{
    const char *const more[] = {"=/x:", "", "/y:?:", NULL};
    struct mi_search search = known();
    char *list = mi_search_list(&search, "/a", "/o", 0, more);

    CHECK(list && strcmp(list, "=/a:=/x:/y:?:") == 0);
    free(list);
    list = mi_search_list(&search, NULL, "/o", 0, more);
    CHECK(list && strcmp(list, "=/x:/y:?:") == 0);
    free(list);
    mi_search_clear(&search);
}

/* In the tree: "link" leads to "deep/pkg". */
static void expect_in_tree(const struct fixture *f, struct mi_search *search,
                           const char *path, int real, const char *expected)
{
    const char *const none[] = {NULL};
    char full[PATH_MAX] = "", about[3 * PATH_MAX];
    char *list =
        mi_search_list(search, path, fixture_path(f, "link"), real, none);

    for (size_t used = 0; *expected; expected++)
        used += (size_t)snprintf(full + used, sizeof(full) - used,
                                 *expected == '@' ? "%s" : "%.1s",
                                 *expected == '@' ? f->tree : expected);
    snprintf(about, sizeof(about), "%s: \"%.4000s\", not \"%s\"", path,
             list ? list : "NULL", full);
    CHECK_FOR(about, list && strcmp(list, full) == 0);
    free(list);
}

static void test_list_parent_behind_link_as_kernel(void)
{
    static const char *const directories[] = {
        "deep", "deep/pkg", "deep/used", "deep/same", "used", "here"};
    struct mi_search search = known();
    struct fixture f;

    fixture_place(&f);
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
        check_need(mkdir(fixture_path(&f, directories[i]), 0700) == 0,
                   directories[i]);
    check_need(symlink("deep/pkg", fixture_path(&f, "link")) == 0 &&
                   symlink("deep/same", fixture_path(&f, "same")) == 0,
               "links");
    for (int i = 0; i < 2; i++) { /* the second time it is known */
        expect_in_tree(&f, &search, "$ORIGIN/../used", 0, "=@/deep/used:");
        expect_in_tree(&f, &search, "${ORIGIN}/../pkg/../used", 0,
                       "=@/deep/used:");
        expect_in_tree(&f, &search, "$ORIGIN/../used", 1, "=@/deep/used:");
        expect_in_tree(&f, &search, "$ORIGIN/..", 0, "=@/deep:");
        /* To the same directory, or to none at all: as it is written. */
        expect_in_tree(&f, &search, "$ORIGIN/../same", 0, "@/same:");
        expect_in_tree(&f, &search, "$ORIGIN/../absent", 0, "@/absent:");
        expect_in_tree(&f, &search, "$ORIGIN:$ORIGIN/lib", 0,
                       "@/link:@/link/lib:");
        /* The mirror may have what the linker would not come to. */
        expect_in_tree(&f, &search, "$ORIGIN/../here", 0, "=@/link/../here:");
    }
    mi_search_clear(&search);
    CHECK(!search.real);
    check_remove(f.scratch);
}

/* What is too long for a path is the linker's business. */
static void test_list_too_long_unknown(void)
{
    static char path[3 * PATH_MAX];
    struct mi_search search = known();

    memset(path, 'x', PATH_MAX);
    path[0] = '/';
    strcpy(path + PATH_MAX, ":/a");
    expect_list(&search, path, 0, "?:=/a:");
    memset(path, 'x', PATH_MAX - 1);
    memcpy(path, "$ORIGIN/", 8); /* one byte too long once it is replaced */
    strcpy(path + PATH_MAX - 1, ":/a");
    expect_list(&search, path, 0, "?:=/a:");
    free(search.lib);
    search.lib = calloc(1, PATH_MAX);
    check_need(search.lib != NULL, "memory");
    memset(search.lib, 'x', PATH_MAX - 1);
    expect_list(&search, "/$LIB:/a", 0, "?:=/a:");
    mi_search_clear(&search);
}

static void test_directory_parent_told(void)
{
    static const char *const cases[][2] = {
        {"/a/b.so", "/a"}, {"/b.so", "/"}, {"/a/b/c.so", "/a/b"},
        {"b.so", "/"},     {"", "/"},      {"/a/", "/a"}};
    char directory[PATH_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mi_search_directory(cases[i][0], directory);
        CHECK_FOR(cases[i][0], strcmp(directory, cases[i][1]) == 0);
    }
}

static void test_default_directories_told(void)
{
    static const char *const yes[] = {"/lib",
                                      "/lib/",
                                      "/usr/lib",
                                      "/usr/lib64",
                                      "/lib64/",
                                      "/libx32",
                                      "/lib/x86_64-linux-gnu",
                                      "/usr/lib/aarch64-linux-gnu"};
    static const char *const no[] = {"",
                                     "/",
                                     "/usr",
                                     "/usr/local/lib",
                                     "/library",
                                     "/usr/libexec",
                                     "/lib/x86_64-linux-gnu/below",
                                     "/usr/lib/python3",
                                     "/opt/lib",
                                     "lib"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        CHECK_FOR(yes[i], mi_search_default(yes[i]));
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        CHECK_FOR(no[i], !mi_search_default(no[i]));
}

/* ---- the linker's answers ----------------------------------------------- */

/* The search path of an open object as the linker tells it: its directories
 * with '='.
 */
static void ask_linker(void *handle, char *list, size_t size)
{
    Dl_serinfo count, *info;
    size_t used = 0;

    list[0] = '\0';
    check_need(dlinfo(handle, RTLD_DI_SERINFOSIZE, &count) == 0, "dlinfo");
    info = malloc(count.dls_size);
    check_need(info != NULL, "memory");
    *info = count;
    check_need(dlinfo(handle, RTLD_DI_SERINFO, info) == 0, "dlinfo");
    for (unsigned i = 0; i < info->dls_cnt; i++)
        used += (size_t)snprintf(list + used, size - used,
                                 "=%s:", info->dls_serpath[i].dls_name);
    free(info);
    check_need(used < size, "room");
}

static int starts_with(const char *list, const char *start)
{
    return strncmp(list, start, strlen(start)) == 0;
}

/* The same with a stub of ours, as an object's RUNPATH and RPATH. */
static void test_tokens_as_linker_says(void)
{
    static const char path[] = "/mi-a/$LIB:$ORIGIN/${LIB}/x:/mi-b/$PLATFORM:"
                               "/mi-c/${PLATFORM}/$LIB:$ORIGIN";
    const char *const none[] = {NULL};
    struct fixture_tags tags[] = {{.runpath = path}, {.rpath = path}};
    char said[8000];
    struct mi_search search;
    struct fixture f;

    fixture_place(&f);
    CHECK(mi_search_init(&search, NULL, getenv, NULL) == 0);
    CHECK(search.lib != NULL);
    for (int i = 0; i < 2; i++) {
        const char *object = fixture_path(&f, i ? "rpath.so" : "runpath.so");
        char *list = mi_search_list(&search, path, f.tree, 1, none);
        void *handle;

        fixture_write(object, &tags[i]);
        handle = dlopen(object, RTLD_NOW);
        check_need(handle != NULL, object);
        ask_linker(handle, said, sizeof(said));
        CHECK_FOR(list, list && strstr(said, list));
        CHECK_FOR(said, i == 0 || starts_with(said, list));
        dlclose(handle);
        free(list);
    }
    mi_search_clear(&search);
    mi_search_clear(&search);
    check_remove(f.scratch);
}

/* ---- LD_LIBRARY_PATH ---------------------------------------------------- */

static const char *variable; /* what get() answers */

static char *get(const char *name)
{
    CHECK_FOR(name, strcmp(name, "LD_LIBRARY_PATH") == 0);
    return (char *)(uintptr_t)variable;
}

static void expect_library_path(const char *text, const char *expected)
{
    struct mi_search search;
    char about[3 * PATH_MAX], full[PATH_MAX * 2] = "", here[PATH_MAX];

    check_need(getcwd(here, sizeof(here)) != NULL, "getcwd");
    for (size_t used = 0; *expected; expected++)
        used += (size_t)snprintf(full + used, sizeof(full) - used,
                                 *expected == '.' ? "%s" : "%.1s",
                                 *expected == '.' ? here : expected);
    variable = text;
    CHECK(mi_search_init(&search, NULL, get, NULL) == 0);
    snprintf(about, sizeof(about), "%s: \"%.4000s\", not \"%.4000s\"",
             text ? text : "none", search.library_path, full);
    CHECK_FOR(about, strcmp(search.library_path, full) == 0);
    mi_search_clear(&search);
}

/* '.' is the working directory. */
static void test_library_path_all_forms(void)
{
    static const char *const cases[][2] = {
        {NULL, ""},
        {"", ""},
        {"/a", "=/a:"},
        {"/a:/b;/c", "=/a:=/b:=/c:"},
        {"/a/;/b//c", "=/a/:=/b//c:"},
        {":/a", "=.:=/a:"},
        {";/a", "=.:=/a:"},
        {"/a:", "=/a:=.:"},
        {"/a;", "=/a:=.:"},
        {"/a::/b", "=/a:=.:=/b:"},
        {"/a:;/b", "=/a:=.:=/b:"},
        {":", "=.:=.:"},
        {"x:/a", "?:=/a:"},
        {"/a/$LIB:/b", "?:=/b:"},
        {"$ORIGIN/x", "?:"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_library_path(cases[i][0], cases[i][1]);
}

/* ---- the program, and what calls ---------------------------------------- */

/* A child that is a copy of this program somewhere else. */
enum { PROGRAM = 1, BY_LINK, CALLER, LIBRARY_PATH };

/* Is exported, as the interpreter's functions are. */
__attribute__((visibility("default"))) void mi_test_function(void);
void mi_test_function(void)
{
}

static int child_program(const char *directory, const char *caller)
{
    struct mi_search search;
    char expected[PATH_MAX + 200], said[8000];
    void *self = dlopen(NULL, RTLD_NOW);

    snprintf(expected, sizeof(expected),
             "=%s/of-program:=/mi-test-absolute:", directory);
    CHECK(mi_search_init(&search, caller, getenv, NULL) == 0);
    CHECK_FOR(search.program, strcmp(search.program, expected) == 0);
    ask_linker(self, said, sizeof(said));
    CHECK_FOR(said, starts_with(said, search.program));
    mi_search_clear(&search);
    dlclose(self);
    return 0;
}

/* The function is in a library with an RPATH of its own. */
static int child_caller(const char *directory, const char *library)
{
    struct mi_search search;
    char expected[2 * PATH_MAX + 200];
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);

    CHECK_FOR(handle ? library : dlerror(), handle);
    snprintf(expected, sizeof(expected),
             "=%s/of-caller:=/mi-test-caller:=%s/of-program:"
             "=/mi-test-absolute:",
             directory, directory);
    CHECK(mi_search_init(&search, "mi_test_caller", getenv, NULL) == 0);
    CHECK_FOR(search.program, strcmp(search.program, expected) == 0);
    mi_search_clear(&search);
    /* One that is nowhere, or none: the program alone. */
    CHECK(mi_search_init(&search, "mi_test_nowhere", getenv, NULL) == 0);
    CHECK_FOR(search.program, strstr(expected, search.program) &&
                                  !strstr(search.program, "caller"));
    mi_search_clear(&search);
    return 0;
}

/* The linker's list goes on with the same directories. */
static int child_library_path(void)
{
    struct mi_search search;
    char said[8000], expected[8000];
    void *self = dlopen(NULL, RTLD_NOW);

    CHECK(mi_search_init(&search, NULL, getenv, NULL) == 0);
    snprintf(expected, sizeof(expected), "%s%s", search.program,
             search.library_path);
    ask_linker(self, said, sizeof(said));
    CHECK_FOR(said, starts_with(said, expected));
    CHECK_FOR(expected, strchr(search.library_path, '=') != NULL);
    mi_search_clear(&search);
    dlclose(self);
    return 0;
}

static int run_child(char **argv)
{
    alarm(60);
    switch (atoi(argv[1])) {
    case PROGRAM:
        child_program(argv[2], NULL);
        child_program(argv[2], "mi_test_function");
        break;
    case BY_LINK:
        child_program(argv[2], "mi_test_function");
        break;
    case CALLER:
        child_caller(argv[2], argv[3]);
        break;
    default:
        child_library_path();
        break;
    }
    return atomic_load(&check_failed) ? 1 : 0;
}

static int start(const char *program, int kind, const char *directory,
                 const char *library)
{
    char text[20];
    int status = -1;
    pid_t child;

    snprintf(text, sizeof(text), "%d", kind);
    fflush(NULL);
    child = fork();
    check_need(child >= 0, "fork");
    if (child == 0) {
        unsetenv("LD_LIBRARY_PATH");
        if (kind == LIBRARY_PATH)
            setenv("LD_LIBRARY_PATH", library, 1);
        execl(program, program, text, directory, library, NULL);
        _exit(127);
    }
    check_need(waitpid(child, &status, 0) == child, "child");
    return status;
}

/* This program in SCRATCH/tree/bin, and a link to it elsewhere. */
static void make_program(struct fixture *f, char *program, char *by_link)
{
    size_t size;
    void *bytes = check_read("/proc/self/exe", &size);

    fixture_place(f);
    /* The linker forgets a search path of which nothing exists. */
    check_need(mkdir(fixture_path(f, "bin"), 0700) == 0 &&
                   mkdir(fixture_path(f, "bin/of-program"), 0700) == 0 &&
                   mkdir(fixture_path(f, "venv"), 0700) == 0,
               "directories");
    strcpy(program, fixture_path(f, "bin/program"));
    strcpy(by_link, fixture_path(f, "venv/program"));
    check_write(program, bytes, size);
    check_need(chmod(program, 0700) == 0 &&
                   symlink("../bin/program", by_link) == 0,
               program);
    free(bytes);
}

static void test_program_rpath_as_linker_says(void)
{
    char program[PATH_MAX], by_link[PATH_MAX];
    struct fixture f;

    make_program(&f, program, by_link);
    CHECK(start(program, PROGRAM, fixture_path(&f, "bin"), "") == 0);
    CHECK(start(program, LIBRARY_PATH, fixture_path(&f, "bin"),
                "/mi-x:/mi-y/z") == 0);
    CHECK(start(program, LIBRARY_PATH, fixture_path(&f, "bin"),
                "/mi-x;/mi-y/z") == 0);
    check_remove(f.scratch);
}

static void test_program_by_link_origin_of_file(void)
{
    char program[PATH_MAX], by_link[PATH_MAX];
    struct fixture f;

    make_program(&f, program, by_link);
    CHECK(start(by_link, BY_LINK, fixture_path(&f, "bin"), "") == 0);
    check_remove(f.scratch);
}

static void test_caller_rpath_before_program(void)
{
    char program[PATH_MAX], by_link[PATH_MAX], source[PATH_MAX];
    char library[PATH_MAX], *compiler = getenv("CC");
    struct fixture f;
    pid_t child;
    int status = -1;

    make_program(&f, program, by_link);
    strcpy(source, fixture_path(&f, "caller.c"));
    strcpy(library, fixture_path(&f, "bin/libcaller.so"));
    check_write(source, "void mi_test_caller(void) {}\n", 29);
    child = fork();
    check_need(child >= 0, "fork");
    if (child == 0) {
        compiler = compiler && compiler[0] ? compiler : source;
        execlp(compiler == source ? "gcc" : compiler, "cc", "-shared", "-fPIC",
               "-Wl,--disable-new-dtags,-rpath,$ORIGIN/of-caller:"
               "/mi-test-caller",
               "-o", library, source, NULL);
        _exit(127);
    }
    check_need(waitpid(child, &status, 0) == child && status == 0, "compiler");
    CHECK(start(program, CALLER, fixture_path(&f, "bin"), library) == 0);
    check_remove(f.scratch);
}

int main(int argc, char **argv)
{
    if (argc > 3)
        return run_child(argv);
    test_list_each_entry_its_kind();
    test_list_real_origin_absolute();
    test_list_empty_entry_unknown_first();
    test_list_tokens_replaced();
    test_list_more_behind_in_order();
    test_list_parent_behind_link_as_kernel();
    test_list_too_long_unknown();
    test_directory_parent_told();
    test_default_directories_told();
    test_tokens_as_linker_says();
    test_library_path_all_forms();
    test_program_rpath_as_linker_says();
    test_program_by_link_origin_of_file();
    test_caller_rpath_before_program();
    return check_report();
}
