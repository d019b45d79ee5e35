/* src/ahead.c in the reader: which files it reads before they are asked for,
 * from bytecode that is put together by hand.
 */
#include "bytecode.h"

#define FIXTURE_MAGIC                                                         \
    {                                                                         \
        BYTECODE_MAGIC & 0xff, BYTECODE_MAGIC >> 8, 13, 10                    \
    }
#include "reader_fixture.h"

#define CACHED ".cpython-311.pyc"

/* ---- a tree of modules -------------------------------------------------- */

/* Where module 'name' is, and its bytecode (PATH_MAX bytes each). */
static void place_module(const struct fixture *f, const char *name,
                         char *source, char *cached)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;

    check_need(
        snprintf(source, PATH_MAX, "%s/%s.py", f->tree, name) < PATH_MAX &&
            snprintf(cached, PATH_MAX, "%s/%.*s__pycache__/%s" CACHED, f->tree,
                     (int)(base - name), name, base) < PATH_MAX,
        "path");
}

/* Write "import" statements ("name", "name:from from", ".:from", ...; the list
 * ends with a NULL) into module 'name' of the tree: source and bytecode, which
 * is not checked against it (PEP 552).
 */
static void write_module(const struct fixture *f, const char *name,
                         const char *const *imports)
{
    static const unsigned char header[16] = {BYTECODE_MAGIC & 0xff,
                                             BYTECODE_MAGIC >> 8, 13, 10, 1};
    static struct bytecode b;
    static unsigned char bytes[sizeof(header) + sizeof(b.bytes)];
    char source[PATH_MAX], cached[PATH_MAX], text[400];

    bytecode_begin(&b);
    for (; *imports; imports++) {
        size_t dots = strspn(*imports, ".");
        char *from;

        snprintf(text, sizeof(text), "%s", *imports + dots);
        from = strchr(text, ':');
        if (from)
            *from++ = '\0';
        bytecode_import(&b, (int)dots, text, from);
    }
    bytecode_end(&b);
    memcpy(bytes, header, sizeof(header));
    memcpy(bytes + sizeof(header), b.bytes, b.size);
    place_module(f, name, source, cached);
    check_write(source, "", 0);
    *strrchr(cached, '/') = '\0';
    check_need(mkdir(cached, 0700) == 0 || errno == EEXIST, cached);
    place_module(f, name, source, cached);
    check_write(cached, bytes, sizeof(header) + b.size);
}

#define MODULE(f, name, ...)                                                  \
    write_module(f, name, (const char *const[]){__VA_ARGS__, NULL})

static void make_directory(const struct fixture *f, const char *name)
{
    check_need(mkdir(fixture_path(f, name), 0700) == 0, name);
}

/* package (its own c is an extension), deep/er, side; all is imported from
 * what package imports.
 */
static void make_tree(const struct fixture *f)
{
    make_directory(f, "package");
    make_directory(f, "deep");
    make_directory(f, "deep/er");
    MODULE(f, "package/__init__", ".:a", "package.b", "unknown.module");
    MODULE(f, "package/a", ".:c missing", "side:name");
    MODULE(f, "package/b", "deep.er.est");
    MODULE(f, "package/unused", "side");
    MODULE(f, "deep/er/est", "..:top", "builtin", "loaded.more");
    MODULE(f, "deep/top", "side");
    MODULE(f, "side", "builtin:name");
    MODULE(f, "builtin", "side");
    fixture_object(fixture_path(f, "package/c.so"), NULL, NULL);
}

/* A reader that looks ahead in that tree, which may be the program's own. */
static void begin(struct fixture *f, int threads, int is_own)
{
    char *path[] = {f->scratch, f->tree, NULL};
    char *own[] = {is_own ? f->tree : NULL, NULL};
    static char *share[2];
    char *suffixes[] = {(char[]){".so"}, (char[]){".py"}, (char[]){".pyc"},
                        NULL};
    char *known[] = {(char[]){"builtin"}, (char[]){"loaded"},
                     (char[]){"loaded."}, NULL};
    const struct mi_ahead_rules rules = {
        .suffixes = suffixes, .cached = CACHED, .known = known, .own = own};

    fixture_place(f);
    make_tree(f);
    share[0] = f->scratch; /* even if that is memory */
    f->share = share;
    fixture_open(f, 8 * MIB, 1, threads, 0);
    CHECK(mi_reader_foresee(f->reader, &rules, path, NULL) == 0);
}

/* What an importing thread does first. */
static void list_path(struct fixture *f)
{
    fixture_ask(f, MI_LIST, f->scratch);
    fixture_ask(f, MI_LIST, f->tree);
}

static void read_module(struct fixture *f, const char *name)
{
    const struct mi_record *record = NULL;
    char source[PATH_MAX], cached[PATH_MAX];

    place_module(f, name, source, cached);
    CHECK_FOR(name, mi_reader_answer(f->reader, MI_CODE, source, cached,
                                     &record, NULL) == 1 &&
                        record->kind == MI_KIND_FILE);
}

struct wish {
    struct fixture *f;
    enum mi_query query;
    const char *name;
};

static int is_there(void *arg)
{
    const struct wish *wish = arg;

    return fixture_find(wish->f, wish->query,
                        fixture_path(wish->f, wish->name)) != NULL;
}

/* Is this answered soon, without being asked for? */
static int comes(struct fixture *f, enum mi_query query, const char *name)
{
    struct wish wish = {.f = f, .query = query, .name = name};

    return check_until(is_there, &wish, 10);
}

static int is_absent(struct fixture *f, enum mi_query query, const char *name)
{
    struct wish wish = {.f = f, .query = query, .name = name};

    return !is_there(&wish);
}

/* ---- tests -------------------------------------------------------------- */

static void test_follow_package_all_that_it_imports(void)
{
    struct fixture f;

    begin(&f, 4, 0);
    list_path(&f);
    read_module(&f, "package/__init__");
    CHECK(comes(&f, MI_CODE, "package/a.py"));
    CHECK(comes(&f, MI_CODE, "package/b.py"));
    CHECK(comes(&f, MI_MIRROR, "package/c.so"));
    CHECK(comes(&f, MI_CODE, "side.py"));
    CHECK(comes(&f, MI_CODE, "deep/er/est.py"));
    CHECK(comes(&f, MI_CODE, "deep/top.py"));
    CHECK(is_absent(&f, MI_CODE, "package/unused.py"));
    CHECK(is_absent(&f, MI_CODE, "builtin.py"));
    CHECK(fixture_find(&f, MI_CODE, fixture_path(&f, "side.py"))->kind ==
          MI_KIND_FILE);
    fixture_clear(&f);
}

static int has_read(void *arg)
{
    struct fixture *f = arg;

    return !is_absent(f, MI_CODE, "deep/top.py") &&
           !is_absent(f, MI_CODE, "side.py") &&
           !is_absent(f, MI_MIRROR, "package/c.so");
}

/* The same, whatever the order in which the threads come to it. */
static void test_follow_any_threads_same_operations(void)
{
    uint64_t operations[2], records[2];

    for (int i = 0; i < 2; i++) {
        struct fixture f;

        begin(&f, i ? 8 : 1, 0);
        list_path(&f);
        read_module(&f, "package/__init__");
        CHECK(check_until(has_read, &f, 10));
        CHECK(check_until(fixture_idle, &f, 10));
        operations[i] = fixture_operations(&f);
        records[i] = mi_store_count(f.store);
        fixture_clear(&f);
    }
    CHECK(operations[0] == operations[1]);
    CHECK(records[0] == records[1]);
}

/* Whoever imports lists the search path: before, nothing is looked for. */
static void test_follow_search_path_not_listed_waits(void)
{
    struct fixture f;

    begin(&f, 1, 0);
    read_module(&f, "package/b");
    read_module(&f, "package/a");
    CHECK(comes(&f, MI_MIRROR, "package/c.so")); /* needs no search path */
    CHECK(is_absent(&f, MI_CODE, "side.py"));
    CHECK(is_absent(&f, MI_CODE, "deep/er/est.py"));
    list_path(&f);
    CHECK(comes(&f, MI_CODE, "side.py"));
    CHECK(comes(&f, MI_CODE, "deep/er/est.py"));
    fixture_clear(&f);
}

/* A module beside the program may still be written by it. */
static void test_follow_module_beside_program_left_alone(void)
{
    struct fixture f;

    begin(&f, 1, 1);
    list_path(&f);
    read_module(&f, "deep/top"); /* side */
    read_module(&f, "package/b");
    CHECK(comes(&f, MI_CODE, "deep/er/est.py"));
    CHECK(is_absent(&f, MI_CODE, "side.py"));
    fixture_clear(&f);
}

static void test_program_code_is_followed(void)
{
    static struct bytecode b;
    struct fixture f;
    size_t jump;

    bytecode_begin(&b);
    jump = bytecode_unless_equal(&b, "__name__", "__main__");
    bytecode_import(&b, 0, "deep.top", NULL);
    bytecode_land(&b, jump);
    bytecode_import(&b, 1, "", "relative"); /* to nothing */
    bytecode_end(&b);
    begin(&f, 2, 0);
    list_path(&f);
    CHECK(mi_reader_program(f.reader, b.bytes, b.size, NULL) == 0);
    CHECK(comes(&f, MI_CODE, "deep/top.py"));
    CHECK(comes(&f, MI_CODE, "side.py"));
    fixture_clear(&f);
}

/* Somewhere else on the search path from now on. */
static void test_path_changed_is_followed(void)
{
    struct fixture f;
    char *path[] = {NULL, NULL};

    begin(&f, 1, 0);
    path[0] = strdup(fixture_path(&f, "deep/er"));
    list_path(&f);
    CHECK(mi_reader_path(f.reader, path, NULL) == 0);
    fixture_ask(&f, MI_LIST, path[0]);
    MODULE(&f, "package/late", "side", "est");
    read_module(&f, "package/late");
    CHECK(comes(&f, MI_CODE, "deep/er/est.py"));
    CHECK(is_absent(&f, MI_CODE, "side.py"));
    free(path[0]);
    fixture_clear(&f);
}

static void test_exact_nothing_is_followed(void)
{
    struct fixture f;

    begin(&f, 1, 0);
    mi_reader_exact(f.reader);
    list_path(&f);
    read_module(&f, "package/__init__");
    CHECK(mi_reader_ahead(f.reader, MI_STAT, fixture_path(&f, "side.py"), "",
                          NULL) == 0);
    CHECK(comes(&f, MI_STAT, "side.py"));
    CHECK(is_absent(&f, MI_CODE, "package/a.py"));
    CHECK(is_absent(&f, MI_LIST, "package"));
    fixture_clear(&f);
}

/* Damaged bytecode is answered all the same. */
static void test_follow_damaged_bytecode_nothing(void)
{
    struct fixture f;
    char path[PATH_MAX];
    unsigned char *bytes;
    size_t size;

    begin(&f, 1, 0);
    list_path(&f);
    check_join(path, f.tree, "package/__pycache__/__init__" CACHED);
    bytes = check_read(path, &size);
    check_write(path, bytes, size - 5);
    free(bytes);
    read_module(&f, "package/__init__");
    read_module(&f, "deep/top");
    CHECK(comes(&f, MI_CODE, "side.py"));
    CHECK(is_absent(&f, MI_CODE, "package/a.py"));
    CHECK(atomic_load(&f.notices) == 0);
    fixture_clear(&f);
}

static void test_destroy_busy_ends(void)
{
    for (int i = 0; i < 20; i++) {
        struct fixture f;

        begin(&f, 4, 0);
        list_path(&f);
        read_module(&f, "package/__init__");
        check_sleep(i % 4);
        fixture_clear(&f);
    }
}

int main(void)
{
    test_follow_package_all_that_it_imports();
    test_follow_any_threads_same_operations();
    test_follow_search_path_not_listed_waits();
    test_follow_module_beside_program_left_alone();
    test_program_code_is_followed();
    test_path_changed_is_followed();
    test_exact_nothing_is_followed();
    test_follow_damaged_bytecode_nothing();
    test_destroy_busy_ends();
    return check_report();
}
