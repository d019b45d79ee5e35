/* Tests of src/preload.c: objects with code, which tell in which order they
 * are born and which symbols they are bound to; and what is done with records
 * of all kinds.
 */
#include "world.h"

#include <inttypes.h>
#include <pthread.h>

/* A library that has a symbol, and one that uses it. */
#define WHO(name)                                                             \
    "const char *who(void) { return \"" name "\"; } LIVES(\"" name "\")"
#define SAYS_WHO                                                              \
    "const char *who(void); void entry(void) { say(who()); } LIVES(\"ext\")"
#define BORN(name) "BORN(\"" name "\")"
#define LIVES(name) "LIVES(\"" name "\")"

static const struct world worlds[] = {
    {.about = "code, beside the object",
     .objects = {{"pkg/ext.so", .needed = {"liba.so"}, .runpath = "$ORIGIN",
                  .source = SAYS_WHO},
                 {"pkg/liba.so", .source = WHO("a")}}},
    {.about = "code, without a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"}, .runpath = "@/used",
                  .source = SAYS_WHO},
                 {"used/liba.so", .source = WHO("a")}}},
    {.about = "code, with a SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "%"},
                  .runpath = "@/used", .source = SAYS_WHO},
                 {"used/liba.so", .soname = "liba.so", .source = WHO("a")}}},
    {.about = "code, with another SONAME",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "libb.so"},
                  .runpath = "@/used", .source = SAYS_WHO},
                 {"used/libb.so", .soname = "libb.so", .needed = {"libz.so"},
                  .runpath = "@/used", .source = WHO("b")},
                 {"used/liba.so", .soname = "libz.so", .source = WHO("a")}}},
    {.about = "code, by a path on the tree",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"@/used/liba.so"},
                  .source = SAYS_WHO},
                 {"used/liba.so", .source = WHO("a")}}},
    {.about = "the object's symbol before its library's",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"}, .runpath = "@/used",
                  .source = "const char *name(void); " WHO(
                      "ext") " void entry(void) { say(name()); }"},
                 {"used/liba.so",
                  .source = WHO("a") " const char *name(void) { return who(); "
                                     "}"}}},
    {.about = "breadth first",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "libb.so"},
                  .rpath = "@/used", .source = SAYS_WHO},
                 {"used/liba.so", .needed = {"libdeep.so"},
                  .source = LIVES("a")},
                 {"used/libb.so", .source = WHO("b")},
                 {"used/libdeep.so", .source = WHO("deep")}}},
    {.about = "breadth first, with SONAMEs",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"libb.so", "liba.so"},
                  .runpath = "@/used", .source = SAYS_WHO},
                 {"used/libb.so", .soname = "libb.so",
                  .needed = {"libdeep.so"}, .runpath = "$ORIGIN",
                  .source = LIVES("b")},
                 {"used/liba.so", .soname = "liba.so", .source = WHO("a")},
                 {"used/libdeep.so", .soname = "libdeep.so",
                  .source = WHO("deep")}}},
    {.about = "breadth first, by a path on the tree",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"@/used/liba.so", "libb.so"},
                  .runpath = "@/used", .source = SAYS_WHO},
                 {"used/liba.so", .source = WHO("a")},
                 {"used/libb.so", .source = WHO("b")}}},
    {.about = "constructors of many",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "libb.so", "libc1.so"},
                  .rpath = "@/used", .source = LIVES("ext")},
                 {"used/liba.so", .needed = {"libd.so", "libc1.so"},
                  .source = LIVES("a")},
                 {"used/libb.so", .needed = {"liba.so", "libe.so"},
                  .source = LIVES("b")},
                 {"used/libc1.so", .needed = {"libe.so"},
                  .source = LIVES("c")},
                 {"used/libd.so", .source = LIVES("d")},
                 {"used/libe.so", .needed = {"libd.so"},
                  .source = LIVES("e")}}},
    /* In a circle the order of the destructors is anybody's. */
    {.about = "constructors in a circle",
     .outcome = WORLD_HELPED,
     .objects =
         {{"pkg/ext.so", .needed = {"liba.so"}, .runpath = "@/used",
           .source =
               "const char *who(void); void entry(void) { say(who()); }"},
          {"used/liba.so", .soname = "liba.so", .needed = {"libb.so"},
           .runpath = "@/used", .source = BORN("a")},
          {"used/libb.so", .soname = "libb.so",
           .needed = {"libd.so", "liba.so"}, .runpath = "@/used",
           .source = "const char *who(void) { return \"b\"; }" BORN("b")},
          {"used/libd.so", .needed = {"libb.so", "liba.so"},
           .runpath = "@/used",
           .source = "const char *who(void) { return \"d\"; }" BORN("d")}}},
    {.about = "constructors, two of one name with SONAMEs",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"}, .runpath = "@/pkg",
                  .source = SAYS_WHO},
                 {"pkg/p.so", .needed = {"libneed.so"}, .runpath = "@/one",
                  .source = LIVES("p")},
                 {"pkg/q.so", .needed = {"libneed.so"}, .runpath = "@/two",
                  .source = LIVES("q")},
                 {"one/libneed.so", .soname = "libneed.so",
                  .source = WHO("one")},
                 {"two/libneed.so", .soname = "libneed.so",
                  .source = WHO("two")}}},
    {.about = "what the second of one name needs",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"}, .runpath = "@/pkg",
                  .source = SAYS_WHO},
                 {"pkg/p.so", .needed = {"libneed.so"}, .runpath = "@/one",
                  .source = LIVES("p")},
                 {"pkg/q.so", .needed = {"libneed.so"}, .runpath = "@/two",
                  .source = LIVES("q")},
                 {"one/libneed.so", .source = WHO("one")},
                 {"two/libneed.so", .needed = {"libdeep.so"},
                  .runpath = "$ORIGIN", .source = LIVES("two")},
                 {"two/libdeep.so", .source = WHO("deep")}}},
    {.about = "two of one name, without",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"p.so", "q.so"}, .runpath = "@/pkg",
                  .source = SAYS_WHO},
                 {"pkg/p.so", .needed = {"libneed.so"}, .runpath = "@/one",
                  .source = LIVES("p")},
                 {"pkg/q.so", .needed = {"libneed.so"}, .runpath = "@/two",
                  .source = LIVES("q")},
                 {"one/libneed.so", .source = WHO("one")},
                 {"two/libneed.so", .source = WHO("two")}}},
    {.about = "two of one name, in another order",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"q.so", "p.so"},
                  .runpath = "@/pkg:@/one", .source = SAYS_WHO},
                 {"pkg/p.so", .needed = {"libneed.so"}, .runpath = "@/one",
                  .source = LIVES("p")},
                 {"pkg/q.so", .needed = {"libneed.so"}, .runpath = "@/two",
                  .source = LIVES("q")},
                 {"one/libneed.so", .source = WHO("one")},
                 {"two/libneed.so", .source = WHO("two")}}},
    {.about = "the system's and the tree's of one name",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"q.so", "p.so"}, .runpath = "@/pkg",
                  .source = LIVES("ext")},
                 {"pkg/p.so", .needed = {"%"}, .runpath = "@/one",
                  .source = LIVES("p")},
                 {"pkg/q.so", .needed = {"%"}, .runpath = "@/idle",
                  .source = LIVES("q")},
                 {"one/%", .soname = "%", .source = LIVES("one")},
                 {"idle/libidle.so"}}},
    {.about = "global symbols",
     .outcome = WORLD_HELPED,
     .flags = RTLD_GLOBAL,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "libb.so"},
                  .rpath = "@/used",
                  .source = "void entry(void) { const char *(*f)(void); "
                            "*(void **)&f = dlsym(RTLD_DEFAULT, \"who\"); "
                            "say(f ? f() : \"nobody\"); } LIVES(\"ext\")"},
                 {"used/liba.so", .needed = {"libdeep.so"},
                  .source = LIVES("a")},
                 {"used/libb.so", .source = WHO("b")},
                 {"used/libdeep.so", .source = WHO("deep")}}},
    {.about = "symbols that are not global",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"}, .rpath = "@/used",
                  .source = LIVES("ext")},
                 {"used/liba.so", .needed = {"libb.so"}, .runpath = "@/used",
                  .source = "void entry(void) { void *p = dlopen(0, RTLD_LAZY)"
                            "; say(dlsym(p, \"who\") ? \"found\" : "
                            "\"nobody\"); } LIVES(\"a\")"},
                 {"used/libb.so", .source = WHO("b")}}},
    {.about = "the next symbol",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "libb.so"},
                  .rpath = "@/used",
                  .source = "const char *name(void); void entry(void) { "
                            "say(name()); } LIVES(\"ext\")"},
                 {"used/liba.so",
                  .source = WHO("a") " const char *name(void) { "
                                     "const char *(*f)(void); "
                                     "*(void **)&f = dlsym(RTLD_NEXT, "
                                     "\"who\"); return f ? f() : \"nobody\"; "
                                     "}"},
                 {"used/libb.so", .source = WHO("b")}}},
    {.about = "a library that opens one, by the object's RPATH",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"},
                  .rpath = "$ORIGIN/../used:@/idle",
                  .source = "void entry_a(void); void entry(void) { "
                            "entry_a(); } LIVES(\"ext\")"},
                 {"used/liba.so", .needed = {"%"},
                  .source = "void entry_a(void) { "
                            "say(dlopen(\"libplug.so\", RTLD_NOW) ? \"open\" "
                            ": \"not open\"); } LIVES(\"a\")"},
                 {"used/libplug.so", .source = LIVES("plug")},
                 {"idle/libidle.so"}}},
    {.about = "a library that opens one whose name it puts together",
     .objects = {{"pkg/ext.so", .runpath = "$ORIGIN/lib",
                  .source = "void entry(void) { "
                            "volatile char name[] = \"lib?lug.so\"; "
                            "name[3] = 'p'; "
                            "say(dlopen((char *)name, RTLD_NOW) ? \"open\" "
                            ": \"not open\"); } LIVES(\"ext\")"},
                 {"pkg/lib/libplug.so", .source = LIVES("plug")}},
     .original = "pkg/lib/libplug.so"},
    {.about = "a constructor that opens one",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"},
                  .rpath = "$ORIGIN/../used:@/idle", .source = LIVES("ext")},
                 {"used/liba.so", .needed = {"%"},
                  .runpath = "$ORIGIN/below:@/idle",
                  .source = "__attribute__((constructor)) static void o(void) "
                            "{ say(dlopen(\"libplug.so\", RTLD_NOW) ? "
                            "\"open\" : \"not open\"); }"},
                 {"used/below/libplug.so", .source = LIVES("plug")},
                 {"idle/libidle.so"}}},
    {.about = "a library that is too large for the mirror",
     .outcome = WORLD_HELPED,
     .limit = 1 << 20,
     .large = 1,
     .objects = {{"pkg/ext.so", .needed = {"liba.so", "libb.so", "%"},
                  .runpath = "$ORIGIN/../used:@/idle", .source = SAYS_WHO},
                 {"used/liba.so", .soname = "liba.so", .source = WHO("a")},
                 {"used/libb.so", .soname = "libb.so", .source = WHO("b")},
                 {"idle/libidle.so"}},
     .original = "used/liba.so"},
    {.about = "a library that is too large, nothing else on the tree",
     .outcome = WORLD_HELPED,
     .limit = 1 << 20,
     .large = 1,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"}, .runpath = "$ORIGIN",
                  .source = SAYS_WHO},
                 {"pkg/liba.so", .needed = {"libb.so"}, .runpath = "$ORIGIN",
                  .source = LIVES("a")},
                 {"pkg/libb.so", .soname = "libb.so", .source = WHO("b")}},
     .original = "pkg/liba.so"},
    {.about = "an object that is too large",
     .outcome = WORLD_HELPED,
     .limit = 1 << 20,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"}, .runpath = "$ORIGIN",
                  .source = SAYS_WHO},
                 {"pkg/liba.so", .soname = "liba.so", .source = WHO("a")}},
     .original = "pkg/ext.so"},
    {.about = "the system's, LD_LIBRARY_PATH in vain on the tree",
     .outcome = WORLD_HELPED,
     .library_path = "@/idle",
     .objects = {{"pkg/ext.so", .needed = {"%", "liba.so"}, .rpath = "@/used",
                  .source = SAYS_WHO},
                 {"used/liba.so", .source = WHO("a")},
                 {"idle/libidle.so"}}},
    {.about = "thread-local storage",
     .outcome = WORLD_HELPED,
     .objects = {{"pkg/ext.so", .needed = {"liba.so"}, .rpath = "@/used",
                  .source = SAYS_WHO},
                 {"used/liba.so",
                  .source = "static __thread char t[9] = \"thread\"; "
                            "const char *who(void) { return t; } "
                            "LIVES(\"a\")"}}},
};

/* ---- system calls ------------------------------------------------------- */

/* Lines of the trace between the marks that name the tree. */
static int count_looks(const struct fixture *f, const char *trace)
{
    char line[3 * PATH_MAX], tree[PATH_MAX + 3];
    FILE *in = fopen(trace, "r");
    int marks = 0, looks = 0;

    check_need(in != NULL, trace);
    snprintf(tree, sizeof(tree), "\"%s", f->tree);
    while (fgets(line, sizeof(line), in)) {
        marks += strstr(line, "\"" WORLD_MARK "\"") != NULL;
        looks += marks == 1 && strstr(line, tree) != NULL;
    }
    fclose(in);
    return marks == 2 ? looks : -1;
}

/* Run the world's second child under strace(1): its looks at the tree while
 * the linker worked; -1 if it cannot be told.
 */
static int trace_world(struct fixture *f, int number)
{
    const struct world *world = &worlds[number];
    char text[20], trace[PATH_MAX], self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    pid_t child;
    int status = -1;

    self[size > 0 ? size : 0] = '\0';
    snprintf(text, sizeof(text), "%d", number);
    check_join(trace, f->scratch, "trace");
    check_write(trace, "", 0);
    fflush(NULL);
    child = fork();
    check_need(child >= 0, "fork");
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY), 1);
        dup2(open("/dev/null", O_WRONLY), 2);
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it traces as well */
        if (world->library_path) {
            char variable[PATH_MAX + 20];

            snprintf(variable, sizeof(variable), "LD_LIBRARY_PATH=%s",
                     world_text(f, world->library_path));
            execlp("strace", "strace", "-f", "-s", "4096", "-o", trace, "-e",
                   "trace=%file", "-E", variable, self, text, "mirror",
                   f->scratch, world_library, NULL);
        }
        execlp("strace", "strace", "-f", "-s", "4096", "-o", trace, "-e",
               "trace=%file", self, text, "mirror", f->scratch, world_library,
               NULL);
        _exit(127);
    }
    check_need(waitpid(child, &status, 0) == child, "child");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return -1;
    return count_looks(f, trace);
}

static void test_worlds_helped_no_look_at_tree(void)
{
    struct fixture f;
    int traced = 0;

    for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
        int looks;

        if (worlds[i].outcome != WORLD_HELPED || worlds[i].original ||
            (!worlds[i].library_path && i % 5 != 1))
            continue;
        world_make(&f, &worlds[i]);
        looks = trace_world(&f, (int)i);
        check_remove(f.scratch);
        traced += looks >= 0;
        CHECK_FOR(worlds[i].about, looks <= 0);
    }
    if (!traced)
        check_skipped(__func__, "strace cannot be used here");
}

/* ---- records ------------------------------------------------------------ */

/* The records of some objects, without a tree. */
struct table {
    struct mi_record *records[8];
    size_t count;
};

static const struct mi_record *find_in(const void *arg, const char *path)
{
    const struct table *table = arg;

    for (size_t i = 0; i < table->count; i++)
        if (strcmp(mi_record_key(table->records[i]), path) == 0)
            return table->records[i];
    return NULL;
}

static int place_of(const void *arg, const struct mi_record *record,
                    char *place)
{
    (void)arg;
    strcpy(place, mi_record_key(record));
    return 1;
}

static int place_unknown(const void *arg, const struct mi_record *record,
                         char *place)
{
    (void)arg;
    (void)record;
    (void)place;
    return 0;
}

/* Add an object; 'needs' is "NEED NEED...". */
static struct mi_record *add(struct table *table, const char *path,
                             const char *needs)
{
    const uint32_t length = (uint32_t)strlen(path);
    const size_t size = 3 + (*needs ? strlen(needs) + 1 : 0);
    struct mi_record *record = calloc(1, mi_record_total(length, size));
    char *text;

    check_need(record && table->count < 8, "room");
    record->query = MI_MIRROR;
    record->kind = MI_KIND_MIRROR;
    record->object = 1;
    record->key_size = length;
    record->size = size;
    memcpy(record + 1, path, length);
    text = (char *)record + mi_record_total(length, 0) + 3;
    memcpy(text, needs, size - 3);
    for (size_t i = 0; i < size - 3; i++)
        if (text[i] == ' ')
            text[i] = '\0';
    mi_record_seal(record, path);
    return table->records[table->count++] = record;
}

/* Never freed: kept where leak checkers find it. */
static struct mi_preload *kept[64];

static struct mi_preload *create(const struct table *table)
{
    const struct mi_preload_config config = {
        .find = find_in, .place = place_of, .arg = table};
    static size_t used;

    check_need(used < sizeof(kept) / sizeof(kept[0]), "room");
    kept[used] = mi_preload_create(&config);
    check_need(kept[used] != NULL, "memory");
    return kept[used++];
}

static void clear(struct table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->records[i]);
    *table = (struct table){0};
}

static int count_loaded(void)
{
    int count = 0;

    dl_iterate_phdr(world_count, &count);
    return count;
}

/* Nothing is opened for the object that was added first; all is cleared. */
static void expect_nothing(struct table *table, const char *about)
{
    struct mi_preload *preload = create(table);
    int before = count_loaded();

    CHECK_FOR(about,
              !mi_preload_open(preload, table->records[0], 0, RTLD_NOW, NULL));
    CHECK_FOR(about, count_loaded() == before);
    CHECK_FOR(about, dlerror() == NULL);
    clear(table);
}

static void test_open_no_help_needed_nothing(void)
{
    struct table table = {0};

    add(&table, "/t/ext.so", "");
    expect_nothing(&table, "no needs");
    add(&table, "/t/ext.so", "slibmi-a.so");
    expect_nothing(&table, "the system's");
    add(&table, "/t/ext.so", "m/t/a.so");
    add(&table, "/t/a.so", "slibmi-a.so m/t/ext.so l/o/b.so");
    expect_nothing(&table, "in the mirror");
    add(&table, "/t/ext.so", "Slibc.so.6");
    expect_nothing(&table, "loaded already");
}

static void test_open_cannot_be_helped_nothing(void)
{
    struct table table = {0};
    struct mi_record *other;

    add(&table, "/t/ext.so", "Slibmi-a.so Ulibmi-b.so");
    expect_nothing(&table, "unknown");
    add(&table, "/t/ext.so", "Slibmi-a.so m/t/a.so");
    add(&table, "/t/a.so", "Ulibmi-b.so");
    expect_nothing(&table, "unknown to another");
    add(&table, "/t/ext.so", "Slibmi-a.so M/t/a.so");
    expect_nothing(&table, "no record");
    add(&table, "/t/ext.so", "M/t/a.so");
    other = add(&table, "/t/a.so", "");
    other->kind = MI_KIND_ABSENT;
    other->code = MI_MIRROR_DAMAGED;
    expect_nothing(&table, "damaged");
    add(&table, "/t/ext.so", "M/t/a.so");
    other = add(&table, "/t/a.so", "");
    other->kind = MI_KIND_ABSENT;
    other->code = ENOENT;
    expect_nothing(&table, "gone");
    add(&table, "/t/ext.so", "Slibmi-a.so");
    expect_nothing(&table, "not there");
    add(&table, "/t/ext.so", "S");
    expect_nothing(&table, "no name");
    add(&table, "/t/ext.so", "M/t$ORIGIN/a.so");
    add(&table, "/t$ORIGIN/a.so", "");
    expect_nothing(&table, "a token");
    add(&table, "/t/ext.so", "M/t:u/a.so");
    add(&table, "/t:u/a.so", "");
    expect_nothing(&table, "a colon");
}

static void test_open_no_place_nothing(void)
{
    struct table table = {0};
    const struct mi_preload_config config = {
        .find = find_in, .place = place_unknown, .arg = &table};
    struct mi_preload *preload = mi_preload_create(&config);

    check_need(preload != NULL, "memory");
    kept[63] = preload;
    add(&table, "/t/ext.so", "M/t/a.so");
    add(&table, "/t/a.so", "");
    CHECK(!mi_preload_open(preload, table.records[0], 0, RTLD_NOW, NULL));
    CHECK(!mi_preload_open(preload, table.records[0], 1, RTLD_NOW, NULL));
    clear(&table);
    mi_preload_close(NULL);
}

static void test_open_circles_and_chains_end(void)
{
    struct table table = {0};

    add(&table, "/t/a.so", "m/t/b.so m/t/a.so");
    add(&table, "/t/b.so", "m/t/a.so m/t/c.so");
    add(&table, "/t/c.so", "m/t/c.so m/t/b.so Ulibmi-c.so m/t/a.so");
    expect_nothing(&table, __func__);
}

/* ---- in one process ----------------------------------------------------- */

static void write_loadable(const struct fixture *f, const char *name,
                           const char *soname)
{
    struct fixture_tags tags = {.soname = soname};

    fixture_write(fixture_path(f, name), &tags);
}

static int is_loaded(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);

    dlerror();
    if (handle)
        dlclose(handle);
    return handle != NULL;
}

/* Records and objects in the tree itself: no mirror is needed for these. */
struct rank {
    struct fixture f;
    struct table table;
    struct mi_preload *preload;
};

static void rank_make(struct rank *rank, const char *needs)
{
    char path[PATH_MAX];

    memset(rank, 0, sizeof(*rank));
    fixture_place(&rank->f);
    write_loadable(&rank->f, "ext.so", NULL);
    write_loadable(&rank->f, "liba.so", "liba.so");
    write_loadable(&rank->f, "libb.so", NULL);
    rank->preload = create(&rank->table);
    strcpy(path, fixture_path(&rank->f, "ext.so"));
    add(&rank->table, path, world_text(&rank->f, needs));
    add(&rank->table, fixture_path(&rank->f, "liba.so"), "");
    add(&rank->table, fixture_path(&rank->f, "libb.so"), "");
}

static void rank_clear(struct rank *rank)
{
    clear(&rank->table);
    check_remove(rank->f.scratch);
}

static int open_and_close(void *arg)
{
    struct rank rank;
    void *held;
    int before;

    (void)arg;
    rank_make(&rank, "M@/liba.so M@/libb.so");
    before = count_loaded();
    held = mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                           NULL);
    CHECK(held != NULL);
    CHECK(is_loaded("liba.so") && is_loaded("libb.so"));
    CHECK(!is_loaded(fixture_path(&rank.f, "ext.so")));
    CHECK(!mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                           NULL));
    mi_preload_close(held);
    CHECK(count_loaded() == before); /* nobody needs them */
    CHECK(!is_loaded("liba.so") && !is_loaded("libb.so"));
    rank_clear(&rank);
    return 0;
}

static void test_open_without_self_closed_nothing_left(void)
{
    check_child(open_and_close, NULL, __func__);
}

static int open_with_self(void *arg)
{
    struct rank rank;
    void *held;

    (void)arg;
    rank_make(&rank, "M@/liba.so M@/libb.so");
    held = mi_preload_open(rank.preload, rank.table.records[0], 1, RTLD_NOW,
                           NULL);
    CHECK(held && is_loaded(fixture_path(&rank.f, "ext.so")));
    mi_preload_close(held);
    rank_clear(&rank);
    return 0;
}

static void test_open_with_self_object_loaded(void)
{
    check_child(open_with_self, NULL, __func__);
}

/* What is bound later needs the stub: it stays. */
static int open_lazily(void *arg)
{
    struct rank rank;
    int before;

    (void)arg;
    rank_make(&rank, "M@/liba.so M@/libb.so");
    before = count_loaded();
    CHECK(!mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_LAZY,
                           NULL));
    CHECK(count_loaded() == before + 3);
    CHECK(is_loaded("liba.so") && is_loaded("libb.so"));
    rank_clear(&rank);
    return 0;
}

static void test_open_lazily_stub_stays(void)
{
    check_child(open_lazily, NULL, __func__);
}

/* That nothing was opened for one object does not last. */
static int open_later(void *arg)
{
    struct rank rank;
    void *held;

    (void)arg;
    rank_make(&rank, "M@/liba.so M@/libc.so");
    CHECK(!mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                           NULL));
    write_loadable(&rank.f, "libc.so", "libc.so");
    add(&rank.table, fixture_path(&rank.f, "libc.so"), "");
    held = mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                           NULL);
    CHECK(held && is_loaded("liba.so") && is_loaded("libc.so"));
    mi_preload_close(held);
    rank_clear(&rank);
    return 0;
}

static void test_open_record_comes_later_helped(void)
{
    check_child(open_later, NULL, __func__);
}

/* A library that cannot be loaded: the linker is left to say so. */
static int open_unloadable(void *arg)
{
    struct rank rank;
    int before;

    (void)arg;
    rank_make(&rank, "M@/liba.so M@/libb.so");
    check_write(fixture_path(&rank.f, "libb.so"), "not an object", 13);
    before = count_loaded();
    CHECK(!mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                           NULL));
    CHECK(count_loaded() == before && dlerror() == NULL);
    write_loadable(&rank.f, "libb.so", NULL);
    CHECK(mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                          NULL));
    rank_clear(&rank);
    return 0;
}

static void test_open_library_damaged_linker_says(void)
{
    check_child(open_unloadable, NULL, __func__);
}

/* The linker's words. */
static int open_told(void *arg)
{
    struct mi_error err = {.domain = MI_ERRNO, .code = 1, .text = "before"};
    struct rank rank;
    void *held;

    (void)arg;
    rank_make(&rank, "M@/liba.so Slibmi-nowhere.so");
    CHECK(!mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                           &err));
    CHECK(err.domain == MI_FORMAT && err.code == 0);
    CHECK_FOR(err.text, strstr(err.text, "libmi-nowhere.so"));
    CHECK(dlerror() == NULL && !is_loaded("liba.so"));
    rank_clear(&rank);
    rank_make(&rank, "M@/liba.so");
    held = mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                           &err);
    CHECK(held && err.domain == MI_NONE && err.code == 0 && !err.text[0]);
    err.domain = MI_FORMAT;
    CHECK(!mi_preload_open(rank.preload, rank.table.records[1], 0, RTLD_NOW,
                           &err));
    CHECK(err.domain == MI_NONE);
    mi_preload_close(held);
    rank_clear(&rank);
    return 0;
}

static void test_open_library_nowhere_words_told(void)
{
    check_child(open_told, NULL, __func__);
}

/* ---- loaded from the tree before ---------------------------------------- */

/* The copies are in TREE/copies. */
static int place_of_copy(const void *arg, const struct mi_record *record,
                         char *place)
{
    const char *key = mi_record_key(record), *name = strrchr(key, '/');

    (void)arg;
    return snprintf(place, PATH_MAX, "%.*s/copies%s", (int)(name - key), key,
                    name) < PATH_MAX;
}

static void write_copies(const struct rank *rank)
{
    const char *needed[] = {"liba.so", "libb.so", NULL};
    struct fixture_tags tags = {.needed = needed,
                                .runpath = world_text(&rank->f, "@/idle")};

    check_need(mkdir(fixture_path(&rank->f, "copies"), 0700) == 0, "copies");
    fixture_write(fixture_path(&rank->f, "copies/ext.so"), &tags);
    write_loadable(&rank->f, "copies/liba.so", "liba.so");
    write_loadable(&rank->f, "copies/libb.so", NULL);
}

static int open_beside_tree(void *arg)
{
    struct mi_preload_config config = {.find = find_in,
                                       .place = place_of_copy};
    struct rank rank;
    char path[PATH_MAX];
    void *tree, *held, *object;
    int before;

    (void)arg;
    rank_make(&rank, "M@/liba.so M@/libb.so");
    write_copies(&rank);
    config.arg = &rank.table;
    kept[62] = mi_preload_create(&config);
    check_need(kept[62] != NULL, "memory");
    tree = dlopen(fixture_path(&rank.f, "liba.so"), RTLD_NOW);
    check_need(tree != NULL, "liba.so");
    before = count_loaded();
    held = mi_preload_open(kept[62], rank.table.records[0], 1, RTLD_NOW, NULL);
    CHECK(held && count_loaded() == before + 3); /* with the stub */
    strcpy(path, fixture_path(&rank.f, "copies/ext.so"));
    object = dlopen(path, RTLD_NOW);
    CHECK_FOR(object ? path : dlerror(), object);
    mi_preload_close(held);
    CHECK(count_loaded() == before + 2);
    CHECK(is_loaded(fixture_path(&rank.f, "copies/libb.so")));
    CHECK(!is_loaded(fixture_path(&rank.f, "copies/liba.so")));
    /* It is one of its user's own: it stays when who loaded it goes. */
    dlclose(tree);
    CHECK(is_loaded(fixture_path(&rank.f, "liba.so")));
    rank_clear(&rank);
    return 0;
}

static void test_open_loaded_from_tree_not_twice(void)
{
    check_child(open_beside_tree, NULL, __func__);
}

/* ---- constructors and threads ------------------------------------------- */

enum { THREADS = 8, ROUNDS = 30 };

static void *open_many(void *arg)
{
    struct rank *rank = arg;

    for (int i = 0; i < ROUNDS; i++) {
        void *held = mi_preload_open(rank->preload, rank->table.records[0], 1,
                                     RTLD_NOW, NULL);
        void *object = dlopen(mi_record_key(rank->table.records[0]), RTLD_NOW);

        CHECK(object != NULL);
        mi_preload_close(held);
    }
    return NULL;
}

static int open_in_threads(void *arg)
{
    struct rank rank;
    pthread_t threads[THREADS];

    (void)arg;
    rank_make(&rank, "M@/liba.so M@/libb.so");
    for (int t = 0; t < THREADS; t++)
        check_need(pthread_create(&threads[t], NULL, open_many, &rank) == 0,
                   "thread");
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    CHECK(is_loaded(fixture_path(&rank.f, "ext.so")));
    rank_clear(&rank);
    return 0;
}

static void test_open_threads_all_loaded(void)
{
    check_child(open_in_threads, NULL, __func__);
}

/* A constructor that has an object of its own opened. */
static struct rank *again;
static int came_back;

static void come_back(void)
{
    void *held = mi_preload_open(again->preload, again->table.records[3], 0,
                                 RTLD_NOW, NULL);

    came_back += held != NULL;
    mi_preload_close(held);
}

static int open_from_constructor(void *arg)
{
    struct world_object object = {
        .name = "libb.so",
        .source = "#include <stdlib.h>\n"
                  "#include <stdint.h>\n"
                  "__attribute__((constructor)) static void b(void) {"
                  "void (*f)(void); uintptr_t a = "
                  "strtoull(getenv(\"MI_BACK\"), 0, 16);"
                  "memcpy(&f, &a, sizeof(f)); f(); }"};
    struct rank rank;
    char address[40];

    (void)arg;
    rank_make(&rank, "M@/libb.so");
    world_compile(&rank.f, &object);
    write_loadable(&rank.f, "libc.so", "libmi-c.so");
    add(&rank.table, fixture_path(&rank.f, "other.so"),
        world_text(&rank.f, "M@/libc.so"));
    add(&rank.table, fixture_path(&rank.f, "libc.so"), "");
    again = &rank;
    snprintf(address, sizeof(address), "%" PRIxPTR, (uintptr_t)come_back);
    setenv("MI_BACK", address, 1);
    CHECK(mi_preload_open(rank.preload, rank.table.records[0], 0, RTLD_NOW,
                          NULL));
    CHECK(came_back == 1);
    rank_clear(&rank);
    return 0;
}

static void test_open_from_constructor_no_deadlock(void)
{
    check_child(open_from_constructor, NULL, __func__);
}

int main(int argc, char **argv)
{
    if (argc > 4)
        return world_child(worlds, argv);
    if (world_choose()) {
        for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++)
            world_test(worlds, (int)i);
        test_worlds_helped_no_look_at_tree();
    } else {
        check_skipped("worlds", "no library that could be opened");
    }
    test_open_no_help_needed_nothing();
    test_open_cannot_be_helped_nothing();
    test_open_no_place_nothing();
    test_open_circles_and_chains_end();
    test_open_without_self_closed_nothing_left();
    test_open_with_self_object_loaded();
    test_open_lazily_stub_stays();
    test_open_record_comes_later_helped();
    test_open_library_damaged_linker_says();
    test_open_library_nowhere_words_told();
    test_open_loaded_from_tree_not_twice();
    test_open_threads_all_loaded();
    test_open_from_constructor_no_deadlock();
    return check_report();
}
