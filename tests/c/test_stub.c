/* Tests of src/stub.c: stubs as files, and what the dynamic linker makes of
 * them and of the objects that are opened after them.
 */
#include "check.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include "../../src/elf.h"
#include "../../src/stub.h"

#define MANY 500
#define OFTEN 2000

static char top[PATH_MAX]; /* this program's scratch directory */

/* ---- libraries -----------------------------------------------------------
 */

/* A directory of its own for a test. */
static const char *make_directory(const char *name)
{
    static char path[PATH_MAX];

    check_join(path, top, name);
    check_need(mkdir(path, 0755) == 0, path);
    return path;
}

/* Each of its objects writes its letter when it is initialised, and that of
 * the other case when it is finalised, to the end of the text at $MI_STUB_LOG;
 * and it defines NAME_value().
 */
static const char source[] =
    "#include <stdlib.h>\n"
    "#include <string.h>\n"
    "static void note(char c)\n"
    "{\n"
    "    const char *place = getenv(\"MI_STUB_LOG\");\n"
    "    char text[2] = {c, 0};\n"
    "    if (place)\n"
    "        strcat((char *)strtoul(place, 0, 16), text);\n"
    "}\n"
    "__attribute__((constructor)) static void begin(void)\n"
    "{\n"
    "    note(LETTER);\n"
    "}\n"
    "__attribute__((destructor)) static void finish(void)\n"
    "{\n"
    "    note(LETTER - 'a' + 'A');\n"
    "}\n"
    "int VALUE(void);\n"
    "int VALUE(void)\n"
    "{\n"
    "    return LETTER;\n"
    "}\n"
    "int which(void);\n"
    "int which(void)\n"
    "{\n"
    "    return LETTER;\n"
    "}\n"
    "int USE(void);\n"
    "int USE(void)\n"
    "{\n"
    "    return which();\n"
    "}\n";

/* lib<letter>.so in 'directory', linked there with 'more'.  It defines
 * <letter>_value(), which() and <letter>_use(), which calls which().
 */
static void compile(const char *directory, char letter, const char *more)
{
    const char *cc = getenv("CC");
    char command[4 * PATH_MAX];
    int n;

    n = snprintf(command, sizeof(command),
                 "cd %s && %s -shared -fPIC -O1 -DLETTER=\"'%c'\" "
                 "-DVALUE=%c_value -DUSE=%c_use -o lib%c.so %s/source.c -L. "
                 "-Wl,--no-as-needed %s",
                 directory, cc && *cc ? cc : "cc", letter, letter, letter,
                 letter, top, more);
    check_need(n > 0 && n < (int)sizeof(command), "command");
    check_need(system(command) == 0, command);
}

static void *need(void *handle)
{
    const char *reason = handle ? NULL : dlerror();

    if (!handle)
        fprintf(stderr, "%s\n", reason ? reason : "?");
    CHECK(handle != NULL);
    return handle;
}

/* The value of a function, -1 without it. */
static int call(void *handle, const char *name)
{
    int (*function)(void) = NULL;

    if (handle)
        *(void **)&function = dlsym(handle, name);
    return function ? function() : -1;
}

static void close_all(void *first, void *second)
{
    if (first)
        CHECK(dlclose(first) == 0);
    if (second)
        CHECK(dlclose(second) == 0);
}

/* ---- stubs ---------------------------------------------------------------
 */

/* Needs "NAME NAME...", with a search path and a SONAME if not NULL. */
static struct mi_stub make_stub(const char *names, const char *search,
                                const char *soname)
{
    struct mi_stub stub = {0};
    struct mi_error err = {0};
    char name[PATH_MAX];
    int n;

    for (; sscanf(names, "%s%n", name, &n) == 1; names += n)
        CHECK_FOR(err.text, mi_stub_need(&stub, name, &err) == 0);
    if (search)
        CHECK_FOR(err.text, mi_stub_search(&stub, search, &err) == 0);
    if (soname)
        CHECK_FOR(err.text, mi_stub_name(&stub, soname, &err) == 0);
    return stub;
}

static void *open_stub(const struct mi_stub *stub, int flags)
{
    struct mi_error err = {0};
    void *handle = NULL;

    CHECK_FOR(err.text, mi_stub_open(stub, flags, &handle, &err) == 0);
    if (!handle)
        fprintf(stderr, "%s\n", err.text);
    return handle;
}

/* make_stub(), opened. */
static void *open_names(const char *names, const char *search,
                        const char *soname, int flags)
{
    struct mi_stub stub = make_stub(names, search, soname);
    void *handle = open_stub(&stub, flags);

    mi_stub_clear(&stub);
    return handle;
}

/* Lines of /proc/self/maps, those with 'text' in them. */
static int count_maps(const char *text)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[2 * PATH_MAX];
    int count = 0;

    check_need(maps != NULL, "/proc/self/maps");
    while (fgets(line, sizeof(line), maps))
        count += strstr(line, text) != NULL;
    fclose(maps);
    return count;
}

#define STUB_MAP "mpiimport-stub"

static void *image_of(const struct mi_stub *stub, size_t *size)
{
    struct mi_error err = {0};
    void *image = NULL;

    CHECK_FOR(err.text, mi_stub_image(stub, &image, size, &err) == 0);
    check_need(image != NULL, err.text);
    return image;
}

/* ---- image ---------------------------------------------------------------
 */

static void test_image_parsed_as_given(void)
{
    struct mi_stub stub = make_stub("/d/libb.so liba.so libc.so.6", "/e", "x");
    struct mi_elf elf = {0};
    struct mi_error err = {0};
    size_t size;
    void *image;

    CHECK(mi_stub_search(&stub, "/f g", &err) == 0);
    image = image_of(&stub, &size);
    CHECK_FOR(err.text, mi_elf_parse(image, size, &elf, &err) == 0);
    CHECK(elf.needed_count == 3);
    CHECK(strcmp(elf.needed[0], "/d/libb.so") == 0);
    CHECK(strcmp(elf.needed[1], "liba.so") == 0);
    CHECK(strcmp(elf.needed[2], "libc.so.6") == 0);
    CHECK(elf.rpath && strcmp(elf.rpath, "/e:/f g") == 0);
    CHECK(elf.runpath == NULL);
    CHECK(elf.soname && strcmp(elf.soname, "x") == 0);
    mi_elf_clear(&elf);
    /* It ends with its last byte. */
    CHECK(mi_elf_parse(image, size - 1, &elf, &err) < 0);
    free(image);
    mi_stub_clear(&stub);
}

static void test_image_of_empty_stub_has_nothing(void)
{
    const struct mi_stub stub = {0};
    struct mi_elf elf = {0};
    struct mi_error err = {0};
    size_t size;
    void *image = image_of(&stub, &size), *handle;

    CHECK_FOR(err.text, mi_elf_parse(image, size, &elf, &err) == 0);
    CHECK(elf.needed_count == 0 && !elf.rpath && !elf.runpath && !elf.soname);
    mi_elf_clear(&elf);
    free(image);
    handle = open_stub(&stub, RTLD_NOW);
    CHECK(count_maps(STUB_MAP) == 1);
    close_all(handle, NULL);
    CHECK(count_maps(STUB_MAP) == 0);
}

static void test_image_nothing_executable(void)
{
    struct mi_stub stub = make_stub("liba.so", NULL, NULL);
    size_t size, stacks = 0;
    char *image = image_of(&stub, &size);
    ElfW(Ehdr) header;
    ElfW(Phdr) segment;

    memcpy(&header, image, sizeof(header));
    for (size_t i = 0; i < header.e_phnum; i++) {
        memcpy(&segment, image + header.e_phoff + i * sizeof(segment),
               sizeof(segment));
        CHECK(!(segment.p_flags & PF_X));
        stacks += segment.p_type == PT_GNU_STACK;
    }
    CHECK(stacks == 1); /* without one the stack becomes executable */
    free(image);
    mi_stub_clear(&stub);
}

static void test_image_many_needed_all_in_order(void)
{
    struct mi_stub stub = {0};
    struct mi_elf elf = {0};
    struct mi_error err = {0};
    char name[40];
    size_t size;
    void *image;

    for (int round = 0; round < 2; round++) /* the second adds nothing */
        for (int i = 0; i < MANY; i++) {
            sprintf(name, "/nowhere/lib%d.so", i);
            CHECK(mi_stub_need(&stub, name, &err) == 0);
        }
    image = image_of(&stub, &size);
    CHECK_FOR(err.text, mi_elf_parse(image, size, &elf, &err) == 0);
    CHECK(elf.needed_count == MANY);
    for (size_t i = 0; i < elf.needed_count; i++) {
        sprintf(name, "/nowhere/lib%zu.so", i);
        CHECK_FOR(name, strcmp(elf.needed[i], name) == 0);
    }
    mi_elf_clear(&elf);
    free(image);
    mi_stub_clear(&stub);
}

/* Written in 'directory', and read by readelf -d: nothing on stderr. */
static void test_image_read_by_readelf_without_warning(void)
{
    struct mi_stub stub = make_stub("/d/liba.so libb.so", "/e", "libx.so");
    char path[PATH_MAX], command[2 * PATH_MAX];
    size_t size;
    void *image = image_of(&stub, &size);

    check_write(check_join(path, top, "stub.so"), image, size);
    free(image);
    mi_stub_clear(&stub);
    if (system("readelf --version > /dev/null 2>&1") != 0) {
        check_skipped(__func__, "no readelf");
        return;
    }
    snprintf(command, sizeof(command),
             "cd %s && readelf -hldW --dyn-syms stub.so > said 2> warned "
             "&& test ! -s warned && grep -q 'RPATH.*\\[/e\\]' said && "
             "grep -q 'NEEDED.*\\[libb.so\\]' said",
             top);
    CHECK(system(command) == 0);
}

/* ---- names ---------------------------------------------------------------
 */

static void expect_refused(int rc, int code, const struct mi_error *err,
                           const char *about)
{
    CHECK_FOR(about, rc == -1);
    CHECK_FOR(about, err->domain == MI_ERRNO && err->code == code);
    CHECK_FOR(about, err->text[0] != '\0');
}

static void test_names_not_literal_refused(void)
{
    struct mi_stub stub = make_stub("liba.so", "/e", "x");
    struct mi_error err = {0};

#define REFUSED(function, name)                                               \
    expect_refused(function(&stub, name, &err), EINVAL, &err, #name)
    REFUSED(mi_stub_need, "");
    REFUSED(mi_stub_need, NULL);
    REFUSED(mi_stub_search, "");
    REFUSED(mi_stub_search, "/a:/b");
    REFUSED(mi_stub_search, "/a:");
    REFUSED(mi_stub_name, "");
#undef REFUSED
    CHECK(stub.needed_count == 1 && strcmp(stub.needed[0], "liba.so") == 0);
    CHECK(strcmp(stub.search, "/e") == 0);
    CHECK(strcmp(stub.soname, "x") == 0);
    CHECK(mi_stub_need(&stub, "/a:b/lib c.so", &err) == 0);
    CHECK(mi_stub_name(&stub, "/a$b/c", &err) == 0);
    CHECK(strcmp(stub.soname, "/a$b/c") == 0);
    mi_stub_clear(&stub);
    mi_stub_clear(&stub);
    mi_stub_clear(NULL);
    CHECK(stub.needed_count == 0 && !stub.search && !stub.soname);
}

static void test_names_long_refused_from_limit_on(void)
{
    struct mi_stub stub = {0};
    struct mi_error err = {0};
    char name[PATH_MAX + 1];
    void *handle = NULL;

    memset(name, 'x', PATH_MAX);
    name[0] = '/';
    name[PATH_MAX] = '\0';
    expect_refused(mi_stub_need(&stub, name, &err), ENAMETOOLONG, &err, "n");
    expect_refused(mi_stub_search(&stub, name, &err), ENAMETOOLONG, &err, "d");
    expect_refused(mi_stub_name(&stub, name, &err), ENAMETOOLONG, &err, "s");
    name[PATH_MAX - 1] = '\0';
    CHECK(mi_stub_name(&stub, name, &err) == 0);
    for (int i = 0; i < 64; i++)
        CHECK(mi_stub_search(&stub, name, &err) == 0);
    handle = open_stub(&stub, RTLD_NOW);
    close_all(handle, NULL);
    name[1] = 'y';
    CHECK(mi_stub_need(&stub, name, &err) == 0);
    handle = NULL;
    CHECK(mi_stub_open(&stub, RTLD_NOW, &handle, &err) == -1);
    CHECK(handle == NULL && err.domain == MI_FORMAT);
    mi_stub_clear(&stub);
}

/* ---- what is opened after a stub -----------------------------------------
 */

/* libo.so needs liba.so by its bare name, and has no search path. */
static const char *make_pair(const char *test, const char *soname)
{
    const char *directory = make_directory(test);

    compile(directory, 'a', soname);
    compile(directory, 'o', "-la");
    return directory;
}

/* Open libo.so with a stub open, and use it when that is closed. */
static void expect_satisfied(const char *directory, void *stub)
{
    char path[PATH_MAX];
    void *object = need(
        dlopen(check_join(path, directory, "libo.so"), RTLD_NOW | RTLD_LOCAL));

    CHECK(call(object, "a_value") == 'a');
    close_all(stub, NULL);
    CHECK(call(object, "a_value") == 'a');
    CHECK(count_maps(STUB_MAP) == 0);
    CHECK(count_maps(directory) > 0);
    close_all(object, NULL);
    CHECK(count_maps(directory) == 0);
}

/* That the linker does not find it without a stub. */
static void expect_missing(const char *directory)
{
    char path[PATH_MAX];

    CHECK(!dlopen(check_join(path, directory, "libo.so"), RTLD_NOW));
    dlerror();
}

static void test_open_found_by_search_has_bare_name(void)
{
    const char *directory = make_pair(__func__, "");

    expect_missing(directory);
    expect_satisfied(directory,
                     open_names("liba.so", directory, NULL, RTLD_NOW));
    expect_missing(directory);
}

static void test_open_named_by_path_has_soname(void)
{
    const char *directory = make_pair(__func__, "-Wl,-soname,liba.so");
    char path[PATH_MAX];

    expect_missing(directory);
    expect_satisfied(directory,
                     open_names(check_join(path, directory, "liba.so"), NULL,
                                NULL, RTLD_NOW));
}

/* The header says so, and who makes a stub has to know. */
static void test_open_named_by_path_without_soname_not_found(void)
{
    const char *directory = make_pair(__func__, "");
    char path[PATH_MAX];
    void *stub = open_names(check_join(path, directory, "liba.so"), NULL, NULL,
                            RTLD_NOW);

    expect_missing(directory);
    close_all(stub, NULL);
}

static void test_open_closed_before_object_nothing_left(void)
{
    const char *directory = make_pair(__func__, "-Wl,-soname,liba.so");

    close_all(open_names("liba.so", directory, NULL, RTLD_NOW), NULL);
    CHECK(count_maps(directory) == 0);
    expect_missing(directory);
}

/* Are the loaded objects below 'directory' "liba.so libb.so..." in this
 * order?
 */
struct order {
    const char *directory;
    char found[200];
};

static int add_loaded(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct order *order = arg;
    size_t length = strlen(order->directory);

    (void)size;
    if (strncmp(info->dlpi_name, order->directory, length) == 0) {
        strcat(order->found, info->dlpi_name + length + 1);
        strcat(order->found, " ");
    }
    return 0;
}

static void expect_order(const char *directory, const char *names)
{
    struct order order = {.directory = directory};

    dl_iterate_phdr(add_loaded, &order);
    CHECK_FOR(order.found, strcmp(order.found, names) == 0);
}

static void test_open_mapped_in_order(void)
{
    const char *directory = make_directory(__func__);
    void *stub;

    compile(directory, 'a', "");
    compile(directory, 'b', "-la");
    compile(directory, 'c', "");
    stub = open_names("libc.so libb.so liba.so libb.so", directory, NULL,
                      RTLD_NOW);
    expect_order(directory, "libc.so libb.so liba.so ");
    close_all(stub, NULL);
    expect_order(directory, "");
    stub = open_names("liba.so libc.so libb.so", directory, NULL, RTLD_NOW);
    expect_order(directory, "liba.so libc.so libb.so ");
    close_all(stub, NULL);
}

static void test_open_circle_loaded_and_unloaded(void)
{
    const char *directory = make_directory(__func__);
    char path[PATH_MAX];
    void *stub, *object;

    compile(directory, 'a', "");
    compile(directory, 'b', "-la");
    compile(directory, 'a', "-lb"); /* anew */
    compile(directory, 'o', "-la");
    stub = open_names("libb.so liba.so", directory, NULL, RTLD_NOW);
    object = need(dlopen(check_join(path, directory, "libo.so"), RTLD_NOW));
    close_all(stub, NULL);
    CHECK(call(object, "a_value") == 'a');
    CHECK(call(object, "b_value") == 'b');
    close_all(object, NULL);
    CHECK(count_maps(directory) == 0);
}

/* ---- other names ---------------------------------------------------------
 */

/* libo.so needs it as /nowhere/liba.so. */
static const char *make_absolute(const char *test)
{
    const char *directory = make_directory(test);

    compile(directory, 'a', "-Wl,-soname,/nowhere/liba.so");
    compile(directory, 'o', "-la");
    compile(directory, 'a', "");
    return directory;
}

static void test_alias_found_by_absolute_name(void)
{
    const char *directory = make_absolute(__func__);
    char path[PATH_MAX];
    void *stub, *object;

    expect_missing(directory);
    stub = open_names(check_join(path, directory, "liba.so"), NULL,
                      "/nowhere/liba.so", RTLD_NOW);
    object = need(dlopen(check_join(path, directory, "libo.so"), RTLD_NOW));
    close_all(stub, NULL);
    CHECK(count_maps(STUB_MAP) > 0); /* the object needs it */
    CHECK(call(object, "a_value") == 'a');
    close_all(object, NULL);
    CHECK(count_maps(STUB_MAP) == 0);
    CHECK(count_maps(directory) == 0);
}

/* All get the same descriptor. */
static void test_alias_kept_others_still_opened(void)
{
    const char *directory = make_absolute(__func__);
    void *first, *second, *third;
    char path[PATH_MAX];

    compile(directory, 'b', "");
    compile(directory, 'c', "");
    check_join(path, directory, "liba.so");
    first = open_names(path, NULL, "/nowhere/liba.so", RTLD_NOW);
    second = open_names("libb.so", directory, NULL, RTLD_NOW);
    third = open_names("libc.so", directory, NULL, RTLD_NOW);
    CHECK(first != second && second != third);
    CHECK(count_maps(STUB_MAP) == 3);
    CHECK(call(first, "a_value") == 'a' && call(first, "b_value") == -1);
    CHECK(call(second, "b_value") == 'b' && call(second, "a_value") == -1);
    CHECK(call(third, "c_value") == 'c' && call(third, "b_value") == -1);
    close_all(first, third);
    CHECK(call(second, "b_value") == 'b');
    close_all(second, NULL);
    CHECK(count_maps(STUB_MAP) == 0);
}

/* libp.so needs a, by its other name, and b; a would be asked first. */
static void test_alias_library_asked_one_step_later(void)
{
    const char *directory = make_absolute(__func__);
    void *alias, *stub, *object;
    char path[PATH_MAX];

    compile(directory, 'b', "");
    compile(directory, 'a', "-Wl,-soname,/nowhere/liba.so");
    compile(directory, 'p', "-Dwhich=p_which -la -lb");
    stub = open_names("liba.so libb.so", directory, NULL, RTLD_NOW);
    object = need(dlopen(check_join(path, directory, "libp.so"), RTLD_NOW));
    CHECK(call(object, "which") == 'a');
    close_all(stub, object);
    compile(directory, 'a', "");
    stub = open_names("libb.so", directory, NULL, RTLD_NOW);
    alias = open_names(check_join(path, directory, "liba.so"), NULL,
                       "/nowhere/liba.so", RTLD_NOW);
    object = need(dlopen(check_join(path, directory, "libp.so"), RTLD_NOW));
    close_all(stub, alias);
    CHECK(call(object, "which") == 'b');
    close_all(object, NULL);
}

/* ---- as without a stub ---------------------------------------------------
 */

/* libo.so needs b and c, b needs a; all find them by libo.so's search path,
 * and all define which().
 */
static const char *make_tree(const char *test)
{
    const char *directory = make_directory(test);
    char more[2 * PATH_MAX];

    compile(directory, 'a', "");
    compile(directory, 'b', "-la");
    compile(directory, 'c', "");
    snprintf(more, sizeof(more),
             "-lb -lc -Wl,-rpath,%s -Wl,--disable-new-dtags "
             "-Wl,-rpath-link,.",
             directory);
    compile(directory, 'o', more);
    return directory;
}

enum { CLOSED, KEPT };

/* Open the object, after a stub that needs 'names' unless that is NULL; what
 * was called in which order goes into 'log'.  The stub is closed before the
 * object is used, or is KEPT until afterwards.
 */
static void run_tree(const char *directory, const char *names, int flags,
                     int kept, char *log)
{
    void *stub = NULL, *object;
    char path[PATH_MAX], place[32];

    sprintf(place, "%lx", (unsigned long)log);
    *log = '\0';
    setenv("MI_STUB_LOG", place, 1);
    if (names)
        stub = open_names(names, directory, NULL, flags);
    object = need(dlopen(check_join(path, directory, "libo.so"), flags));
    if (kept == CLOSED)
        close_all(stub, NULL);
    strcat(log, "|");
    for (const char *name = "abco"; *name; name++) {
        char use[] = "?_use", said[] = "?";

        use[0] = *name;
        said[0] = (char)call(object, use);
        strcat(log, said);
    }
    strcat(log, "|");
    close_all(kept == CLOSED ? NULL : stub, object);
    unsetenv("MI_STUB_LOG");
    CHECK(count_maps(directory) == 0);
}

static void test_object_first_as_without_stub(void)
{
    const char *directory = make_tree(__func__);
    char plain[100], stub[100], names[PATH_MAX];

    snprintf(names, sizeof(names), "%s/libo.so libb.so libc.so liba.so",
             directory);
    run_tree(directory, NULL, RTLD_NOW, CLOSED, plain);
    CHECK_FOR(plain, strstr(plain, "|oooo|") != NULL);
    CHECK_FOR(plain, strlen(plain) == 14);
    for (int kept = CLOSED; kept <= KEPT; kept++) {
        run_tree(directory, names, RTLD_NOW, kept, stub);
        CHECK_FOR(stub, strcmp(stub, plain) == 0);
    }
    run_tree(directory, names, RTLD_LAZY, KEPT, stub);
    CHECK_FOR(stub, strcmp(stub, plain) == 0);
}

/* Symbols are looked up in the stub's order: another one makes a difference,
 * so that the test above can fail.
 */
static void test_object_last_bound_otherwise(void)
{
    const char *directory = make_tree(__func__);
    char names[PATH_MAX], stub[100];

    snprintf(names, sizeof(names), "libc.so libb.so %s/libo.so", directory);
    run_tree(directory, names, RTLD_NOW, CLOSED, stub);
    CHECK_FOR(stub, strstr(stub, "|cccc|") != NULL);
}

static void test_flags_global_symbols_for_all(void)
{
    const char *directory = make_directory(__func__);
    void *stub;

    compile(directory, 'g', "");
    stub = open_names("libg.so", directory, NULL, RTLD_NOW);
    CHECK(dlsym(RTLD_DEFAULT, "g_value") == NULL);
    close_all(stub, NULL);
    stub = open_names("libg.so", directory, NULL, RTLD_NOW | RTLD_GLOBAL);
    CHECK(dlsym(RTLD_DEFAULT, "g_value") != NULL);
    close_all(stub, NULL);
    dlerror();
}

/* ---- failure, repetition, threads ----------------------------------------
 */

static void test_open_missing_library_told_and_nothing_left(void)
{
    struct mi_stub stub = make_stub("libmi-nowhere.so.3", NULL, NULL);
    int files = check_entries("/proc/self/fd");
    struct mi_error err = {0};
    void *handle = &err;

    CHECK(mi_stub_open(&stub, RTLD_NOW, &handle, &err) == -1);
    CHECK(handle == &err);
    CHECK(err.domain == MI_FORMAT && err.code == 0);
    CHECK_FOR(err.text, strstr(err.text, "libmi-nowhere.so.3: cannot open"));
    CHECK(dlerror() == NULL); /* it has been fetched */
    CHECK(check_entries("/proc/self/fd") == files);
    CHECK(count_maps(STUB_MAP) == 0);
    CHECK(mi_stub_open(&stub, RTLD_NOW, &handle, NULL) == -1);
    mi_stub_clear(&stub);
}

static void test_open_no_descriptor_told(void)
{
    const struct mi_stub stub = {0};
    struct mi_error err = {0};
    void *handle = NULL;
    int files[2000], count = 0;

    while (count < 2000 && (files[count] = dup(0)) >= 0)
        count++;
    CHECK(mi_stub_open(&stub, RTLD_NOW, &handle, &err) == -1 || count == 2000);
    CHECK(count == 2000 || (err.domain == MI_ERRNO && err.code == EMFILE));
    if (count == 2000)
        close_all(handle, NULL);
    while (count > 0)
        close(files[--count]);
}

static void test_open_often_nothing_grows(void)
{
    const char *directory = make_directory(__func__);
    struct mi_stub stub;
    int files, maps;

    compile(directory, 'a', "");
    stub = make_stub("liba.so", directory, "libx.so");
    close_all(open_stub(&stub, RTLD_NOW), NULL);
    files = check_entries("/proc/self/fd");
    maps = count_maps("");
    for (int i = 0; i < OFTEN; i++)
        close_all(open_stub(&stub, RTLD_LAZY), NULL);
    CHECK(check_entries("/proc/self/fd") == files);
    CHECK(count_maps(STUB_MAP) == 0);
    CHECK(count_maps(directory) == 0);
    CHECK(count_maps("") < maps + OFTEN / 10); /* the heap may grow */
    mi_stub_clear(&stub);
}

static void *open_in_thread(void *arg)
{
    const char *name = arg;

    for (int i = 0; i < 50; i++) {
        void *handle = open_names(name, top, NULL, RTLD_NOW);
        char value[] = "?_value";

        value[0] = name[3];
        CHECK(call(handle, value) == name[3]);
        close_all(handle, NULL);
    }
    return NULL;
}

static void test_open_in_threads_each_its_own(void)
{
    static char names[][8] = {"liba.so", "libb.so", "libc.so", "libd.so"};
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        compile(top, names[i][3], "");
    for (int i = 0; i < 4; i++)
        check_need(
            pthread_create(&threads[i], NULL, open_in_thread, names[i]) == 0,
            "thread");
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(count_maps(STUB_MAP) == 0);
}

int main(void)
{
    char path[PATH_MAX];

    unsetenv("LD_LIBRARY_PATH");
    unsetenv("LD_PRELOAD"); /* not for the compiler */
    check_scratch(top);
    check_write(check_join(path, top, "source.c"), source, strlen(source));
    test_image_parsed_as_given();
    test_image_of_empty_stub_has_nothing();
    test_image_nothing_executable();
    test_image_many_needed_all_in_order();
    test_image_read_by_readelf_without_warning();
    test_names_not_literal_refused();
    test_names_long_refused_from_limit_on();
    test_open_found_by_search_has_bare_name();
    test_open_named_by_path_has_soname();
    test_open_named_by_path_without_soname_not_found();
    test_open_closed_before_object_nothing_left();
    test_open_mapped_in_order();
    test_open_circle_loaded_and_unloaded();
    test_alias_found_by_absolute_name();
    test_alias_kept_others_still_opened();
    test_alias_library_asked_one_step_later();
    test_object_first_as_without_stub();
    test_object_last_bound_otherwise();
    test_flags_global_symbols_for_all();
    test_open_missing_library_told_and_nothing_left();
    test_open_no_descriptor_told();
    test_open_often_nothing_grows();
    test_open_in_threads_each_its_own();
    check_remove(top);
    return check_report();
}
