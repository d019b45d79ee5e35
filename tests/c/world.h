/* Trees of shared objects that are loaded twice: from the tree, by the dynamic
 * linker alone, and from the mirror, with the help of src/preload.c.  Both
 * have to end alike.
 *
 * The program runs itself as a child for each of the two, since the linker
 * reads LD_LIBRARY_PATH when a process begins.  The second child puts a trap
 * wherever the linker could look for a library on the tree, once the tree has
 * been read: what it would find there it would load.
 */
#ifndef WORLD_H
#define WORLD_H

#include "reader_fixture.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/resource.h>

#include "../../src/elf.h"
#include "../../src/preload.h"

enum { WORLD_OBJECTS = 8, WORLD_LINKS = 5, WORLD_DIRECTORIES = 6 };

/* In all texts '@' is the tree and '%' a library of the system that is not
 * loaded yet.
 */
struct world_object {
    const char *name; /* its path in the tree */
    const char *needed[6];
    const char *soname;
    const char *rpath;
    const char *runpath;
    const char *text;   /* a string in its table, beside "dlopen" */
    int locates;        /* "dladdr" is there as well */
    const char *source; /* C: it is compiled.  Otherwise it is empty */
    const char *needs;  /* what its record has to say; NULL: not compared */
};

enum world_outcome {
    WORLD_IDLE,    /* the linker looks nowhere on the tree anyhow */
    WORLD_HELPED,  /* a stub is opened, and the linker looks nowhere */
    WORLD_GIVEN_UP /* the linker looks for itself */
};

struct world {
    const char *about;
    enum world_outcome outcome;
    struct world_object objects[WORLD_OBJECTS]; /* the first one is opened */
    const char *links[WORLD_LINKS][2];          /* target and name */
    const char *path;         /* to be opened, if not that of the first */
    const char *library_path; /* LD_LIBRARY_PATH */
    const char *local;        /* a directory of the node's own */
    const char *cwd;          /* the working directory */
    const char *original;     /* loaded from the tree in any case */
    long limit;               /* largest copy, bytes; 0: none */
    int large;                /* the object that is larger */
    int flags;                /* of dlopen(3), beside RTLD_NOW */
    /* What should be and is not: the test fails when it is. */
    const char *known;
};

/* ---- texts -------------------------------------------------------------- */

static const char *world_library; /* '%' */

/* The text as it is for this tree, in one of a few buffers; NULL for NULL. */
static inline const char *world_text(const struct fixture *f, const char *text)
{
    static char full[24][PATH_MAX];
    static unsigned next;
    char *out;
    size_t used = 0;

    if (!text)
        return NULL;
    out = full[next = (next + 1) % 24];
    out[0] = '\0';
    for (; *text; text++)
        used += (size_t)snprintf(out + used, PATH_MAX - used,
                                 *text == '@' || *text == '%' ? "%s" : "%.1s",
                                 *text == '@'   ? f->tree
                                 : *text == '%' ? world_library
                                                : text);
    check_need(used < PATH_MAX, "room");
    return out;
}

/* ---- the tree ----------------------------------------------------------- */

static inline void world_parents(const char *path)
{
    char directory[PATH_MAX];

    strcpy(directory, path);
    for (char *p = strchr(directory + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        mkdir(directory, 0700);
        *p = '/';
    }
}

static inline void world_run(char *const *command)
{
    pid_t child = fork();
    int status = -1;

    check_need(child >= 0, "fork");
    if (child == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    check_need(waitpid(child, &status, 0) == child && status == 0, command[0]);
}

/* What the sources have in common. */
#define WORLD_PRELUDE                                                         \
    "#define _GNU_SOURCE\n"                                                   \
    "#include <dlfcn.h>\n"                                                    \
    "#include <string.h>\n"                                                   \
    "#include <unistd.h>\n"                                                   \
    "static inline void say(const char *t)\n"                                 \
    "{ if (write(1, t, strlen(t)) < 0 || write(1, \"\\n\", 1) < 0) "          \
    "_exit(9); }\n"                                                           \
    "#define BORN(name) \\\n"                                                 \
    "__attribute__((constructor)) static void born(void) \\\n"                \
    "{ say(\"born \" name); }\n"                                              \
    "#define LIVES(name) BORN(name) \\\n"                                     \
    "__attribute__((destructor)) static void dies(void) \\\n"                 \
    "{ say(\"dies \" name); }\n"

/* Compile.  Something empty of the right name stands for each library. */
static inline void world_compile(const struct fixture *f,
                                 const struct world_object *object)
{
    const char *compiler = getenv("CC"), *needed;
    char source[PATH_MAX], stand[8][PATH_MAX], option[4][PATH_MAX + 40];
    char *command[32], name[30];
    int n = 0, options = 0;

    compiler = compiler && compiler[0] ? compiler : "gcc";
    for (int i = 0; i < 6 && object->needed[i]; i++) {
        needed = world_text(f, object->needed[i]);
        snprintf(name, sizeof(name), "stand-%d.so", i);
        check_join(stand[i], f->scratch, name);
        snprintf(option[3], sizeof(option[3]), "-Wl,-soname,%s", needed);
        world_run((char *[]){(char *)(uintptr_t)compiler,
                             (char *)(uintptr_t) "-shared",
                             (char *)(uintptr_t) "-nostdlib", option[3],
                             (char *)(uintptr_t) "-x", (char *)(uintptr_t) "c",
                             (char *)(uintptr_t) "/dev/null",
                             (char *)(uintptr_t) "-o", stand[i], NULL});
    }
    check_join(source, f->scratch, "source.c");
    {
        char *text = NULL;

        check_need(asprintf(&text, WORLD_PRELUDE "%s\n", object->source) > 0,
                   "memory");
        check_write(source, text, strlen(text));
        free(text);
    }
    command[n++] = (char *)(uintptr_t)compiler;
    command[n++] = (char *)(uintptr_t) "-shared";
    command[n++] = (char *)(uintptr_t) "-fPIC";
    command[n++] = (char *)(uintptr_t) "-O1";
    command[n++] = (char *)(uintptr_t) "-Wl,--no-as-needed";
    if (object->soname) {
        snprintf(option[options], sizeof(option[0]), "-Wl,-soname,%s",
                 world_text(f, object->soname));
        command[n++] = option[options++];
    }
    if (object->rpath || object->runpath) {
        snprintf(
            option[options], sizeof(option[0]), "-Wl,--%s-new-dtags,-rpath,%s",
            object->rpath ? "disable" : "enable",
            world_text(f, object->rpath ? object->rpath : object->runpath));
        command[n++] = option[options++];
    }
    command[n++] = source;
    for (int i = 0; i < 6 && object->needed[i]; i++)
        command[n++] = stand[i];
    command[n++] = (char *)(uintptr_t) "-o";
    command[n++] = (char *)(uintptr_t)fixture_path(f, object->name);
    command[n] = NULL;
    world_run(command);
}

static inline void world_write(const struct fixture *f,
                               const struct world_object *object)
{
    const char *needed[7] = {NULL}, *path = fixture_path(f, object->name);
    struct fixture_tags tags = {.needed = needed,
                                .soname = world_text(f, object->soname),
                                .rpath = world_text(f, object->rpath),
                                .runpath = world_text(f, object->runpath),
                                .text = world_text(f, object->text)};
    struct fixture_image *image;
    size_t size, used = 1;

    for (int i = 0; i < 6 && object->needed[i]; i++)
        needed[i] = world_text(f, object->needed[i]);
    fixture_write(path, &tags);
    if (!object->text)
        return;
    image = check_read(path, &size);
    while (image->strings[used])
        used += strlen(image->strings + used) + 1;
    check_need(used + sizeof("dlopen") + sizeof("dladdr") <
                   sizeof(image->strings),
               "room");
    strcpy(image->strings + used, "dlopen");
    if (object->locates)
        strcpy(image->strings + used + sizeof("dlopen"), "dladdr");
    check_write(path, image, size);
    free(image);
}

static inline void world_make(struct fixture *f, const struct world *world)
{
    fixture_place(f);
    for (int i = 0; i < WORLD_OBJECTS && world->objects[i].name; i++) {
        const struct world_object *object = &world->objects[i];
        struct world_object own = *object;

        own.name = world_text(f, object->name);
        world_parents(fixture_path(f, own.name));
        if (object->source)
            world_compile(f, &own);
        else
            world_write(f, &own);
        if (world->limit && i == world->large)
            check_need(
                truncate(fixture_path(f, own.name), world->limit + 4096) == 0,
                own.name);
    }
    for (int i = 0; i < WORLD_LINKS && world->links[i][0]; i++) {
        const char *name = fixture_path(f, world_text(f, world->links[i][1]));

        world_parents(name);
        check_need(symlink(world_text(f, world->links[i][0]), name) == 0,
                   name);
    }
}

/* ---- traps -------------------------------------------------------------- */

static inline void world_trap(const struct fixture *f, const char *directory,
                              const struct world *world)
{
    static const char *const none[] = {NULL};
    char path[PATH_MAX];

    for (int i = 0; i < WORLD_OBJECTS && world->objects[i].name; i++)
        for (int n = 0; n < 6 && world->objects[i].needed[n]; n++) {
            const char *name = world_text(f, world->objects[i].needed[n]);

            if (!strchr(name, '/') &&
                access(check_join(path, directory, name), F_OK) != 0)
                fixture_object(path, none, NULL);
        }
}

/* A trap for each library in each directory of the tree, and in those that
 * are named and were not there.
 */
static inline void world_set_traps(const struct fixture *f,
                                   const struct world *world,
                                   const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char below[PATH_MAX];

    if (!stream || (world->local &&
                    strcmp(world_text(f, world->local), directory) == 0)) {
        if (stream)
            closedir(stream);
        return;
    }
    while ((entry = readdir(stream)) != NULL)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            world_set_traps(f, world,
                            check_join(below, directory, entry->d_name));
    closedir(stream);
    world_trap(f, directory, world);
}

/* ---- children ----------------------------------------------------------- */

static inline void world_say(const char *text)
{
    check_need(write(1, text, strlen(text)) == (ssize_t)strlen(text) &&
                   write(1, "\n", 1) == 1,
               "standard output");
}

/* For who follows the system calls: between two of these the linker works. */
#define WORLD_MARK "/mi-world-mark"

/* What has been loaded, in the order of loading. */
struct world_list {
    const struct fixture *f;
    const char *original; /* may be from the tree, though the rest is not */
    int skipped;          /* those that are not of the object, at first */
    int seen;
    int from_tree, stubs;
};

static inline int world_count(struct dl_phdr_info *info, size_t size,
                              void *count)
{
    (void)info;
    (void)size;
    ++*(int *)count;
    return 0;
}

static inline int world_print(struct dl_phdr_info *info, size_t size,
                              void *arg)
{
    struct world_list *list = arg;
    const struct fixture *f = list->f;
    const char *root = f->mirror ? mi_mirror_root(f->mirror) : "";
    const char *name = info->dlpi_name, *original;
    char copy[PATH_MAX], real[PATH_MAX], line[PATH_MAX + 20];
    size_t size_of_root = strlen(root);

    (void)size;
    if (list->seen++ < list->skipped)
        return 0;
    list->stubs += strncmp(name, "/proc/self/fd", 13) == 0;
    if (strstr(name, ".mpiimport-alias"))
        return 0;
    if (root[0] && strncmp(name, root, size_of_root) == 0) {
        check_need(realpath(info->dlpi_name, copy) != NULL, name);
        /* Or it is a link to the tree. */
        name = strncmp(copy, root, size_of_root) == 0 ? copy + size_of_root
                                                      : copy;
    }
    original = list->original ? fixture_path(f, list->original) : "";
    if (name != copy + size_of_root && strcmp(name, original) != 0)
        list->from_tree += strncmp(name, f->tree, strlen(f->tree)) == 0;
    snprintf(line, sizeof(line), "loaded %s",
             realpath(name, real) ? real : name);
    world_say(line);
    return 0;
}

static inline void *world_load(const struct world *world, const char *path)
{
    void *object = dlopen(path, RTLD_NOW | world->flags);
    void (*entry)(void);

    CHECK_FOR(object ? world->about : dlerror(), object);
    *(void **)&entry = object ? dlsym(object, "entry") : NULL;
    if (entry)
        entry();
    dlerror();
    return object;
}

static inline const char *world_path(const struct fixture *f,
                                     const struct world *world)
{
    return fixture_path(f, world->path ? world->path : world->objects[0].name);
}

static inline void world_list(const struct fixture *f,
                              const struct world *world, int skipped,
                              struct world_list *list)
{
    *list = (struct world_list){
        .f = f, .original = world->original, .skipped = skipped};
    dl_iterate_phdr(world_print, list);
}

static inline const struct mi_record *world_find(const void *arg,
                                                 const char *path)
{
    return fixture_find(arg, MI_MIRROR, path);
}

static inline int world_place(const void *arg, const struct mi_record *record,
                              char *place)
{
    const struct fixture *f = arg;
    const char *root = mi_mirror_root(f->mirror);

    strcpy(place, root);
    if (record->kind != MI_KIND_MIRROR)
        strcpy(place, mi_record_key(record));
    else
        check_need(mi_path_normal(mi_record_place(record),
                                  place + strlen(root),
                                  PATH_MAX - strlen(root)) == 0,
                   "place");
    return 1;
}

/* "NEED NEED..." of a record, in its order, the tree as '@'. */
static inline void world_needs(const struct fixture *f,
                               const struct mi_record *record, char *text,
                               size_t size)
{
    const size_t tree = strlen(f->tree);
    const char *need = NULL;
    size_t used = 0;

    text[0] = '\0';
    while ((need = mi_record_need(record, need)) != NULL) {
        int inside = need[0] && strncmp(need + 1, f->tree, tree) == 0;

        used += (size_t)snprintf(text + used, size - used, "%s%.1s%s%s",
                                 used ? " " : "", need, inside ? "@" : "",
                                 need + 1 + (inside ? tree : 0));
        check_need(used < size, "room");
    }
}

static inline void world_expect_needs(const struct fixture *f,
                                      const struct world *world)
{
    char found[3000], about[8000], expected[3000];

    for (int i = 0; i < WORLD_OBJECTS && world->objects[i].name; i++) {
        const struct world_object *object = &world->objects[i];
        const char *path = fixture_path(f, world_text(f, object->name));
        const struct mi_record *record = fixture_find(f, MI_MIRROR, path);
        size_t used = 0;

        if (!object->needs)
            continue;
        for (const char *p = object->needs; *p; p++)
            used += (size_t)snprintf(expected + used, sizeof(expected) - used,
                                     *p == '%' ? "%s" : "%.1s",
                                     *p == '%' ? world_library : p);
        expected[used] = '\0';
        strcpy(found, "no record");
        if (record)
            world_needs(f, record, found, sizeof(found));
        snprintf(about, sizeof(about), "%s: %s: \"%s\", not \"%s\"",
                 world->about, object->name, found, expected);
        CHECK_FOR(about, strcmp(found, expected) == 0);
    }
}

static inline int world_stock(struct fixture *f, const struct world *world)
{
    struct world_list list;
    int before = 0;

    dl_iterate_phdr(world_count, &before);
    world_load(world, world_path(f, world));
    world_list(f, world, before, &list);
    return 0;
}

static struct mi_preload *world_preload; /* where leak checkers find it */

static inline void world_open(struct fixture *f, const struct world *world,
                              const struct mi_record *record)
{
    const struct mi_preload_config config = {.find = world_find,
                                             .place = world_place,
                                             .arg = f,
                                             .library_path =
                                                 world->library_path != NULL};
    int helped = world->outcome == WORLD_HELPED, before = 0, now = 0;
    char place[PATH_MAX];
    struct world_list list;
    void *held, *object;

    world_preload = mi_preload_create(&config);
    check_need(world_preload != NULL, "memory");
    if (world->outcome != WORLD_GIVEN_UP) {
        mkdir(fixture_path(f, "absent"), 0700);
        world_set_traps(f, world, f->tree);
    }
    dl_iterate_phdr(world_count, &before);
    CHECK(access(WORLD_MARK, F_OK) != 0);
    held = mi_preload_open(world_preload, record, 1, RTLD_NOW | world->flags,
                           NULL);
    CHECK_FOR(world->about, (held != NULL) == helped);
    dl_iterate_phdr(world_count, &now);
    CHECK_FOR(world->about, (now > before) == helped);
    world_place(f, record, place);
    object = world_load(world, place);
    mi_preload_close(held);
    CHECK(access(WORLD_MARK, F_OK) != 0);
    world_list(f, world, before, &list);
    CHECK_FOR(world->about, list.stubs == 0);
    if (world->outcome != WORLD_GIVEN_UP)
        CHECK_FOR(world->about, list.from_tree == 0);
    /* All that it needs is there by now. */
    if (helped)
        CHECK_FOR(world->about,
                  !mi_preload_open(world_preload, record, 1,
                                   RTLD_NOW | world->flags, NULL));
    CHECK_FOR(world->about, object != NULL);
}

static inline int world_mirrored(struct fixture *f, const struct world *world)
{
    const struct rlimit limit = {(rlim_t)world->limit, (rlim_t)world->limit};
    const struct mi_record *record;

    fixture_open(f, 8 * MIB, 1, 0, 1);
    if (world->limit) {
        signal(SIGXFSZ, SIG_IGN);
        check_need(setrlimit(RLIMIT_FSIZE, &limit) == 0, "limit");
    }
    record = fixture_ask(f, MI_MIRROR, world_path(f, world));
    world_expect_needs(f, world);
    if (CHECK_FOR(world->about, record && (record->kind == MI_KIND_MIRROR ||
                                           record->code == MI_MIRROR_REFUSED)))
        world_open(f, world, record);
    check_need(chdir("/") == 0, "/");
    fixture_close(f);
    return 0;
}

/* "SELF NUMBER stock|mirror SCRATCH LIBRARY": the child's main. */
static inline int world_child(const struct world *worlds, char **argv)
{
    const struct world *world = &worlds[atoi(argv[1])];
    struct fixture f = {0};
    char *local[2] = {NULL};

    alarm(60);
    snprintf(f.scratch, sizeof(f.scratch), "%s", argv[3]);
    check_join(f.tree, f.scratch, "tree");
    check_join(f.top, f.scratch, "top");
    world_library = argv[4];
    if (world->local) {
        local[0] = strdup(world_text(&f, world->local));
        f.local = local;
    }
    if (world->cwd)
        check_need(chdir(world_text(&f, world->cwd)) == 0, world->cwd);
    if (strcmp(argv[2], "stock") == 0)
        world_stock(&f, world);
    else
        world_mirrored(&f, world);
    free(local[0]);
    return atomic_load(&check_failed) ? 1 : 0;
}

/* ---- the parent --------------------------------------------------------- */

struct world_start {
    const struct fixture *f;
    const struct world *world;
    int number;
    const char *kind;
    int status; /* of the child */
};

/* Run this program as that child; its output goes to SCRATCH/KIND. */
static inline void world_start(struct world_start *start)
{
    char number[20], output[PATH_MAX];
    int file;
    pid_t child;

    snprintf(number, sizeof(number), "%d", start->number);
    check_join(output, start->f->scratch, start->kind);
    fflush(NULL);
    child = fork();
    check_need(child >= 0, "fork");
    if (child == 0) {
        file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(file, 1);
        unsetenv("LD_LIBRARY_PATH");
        if (start->world->library_path)
            setenv("LD_LIBRARY_PATH",
                   world_text(start->f, start->world->library_path), 1);
        if (start->world->known)
            dup2(open("/dev/null", O_WRONLY), 2);
        execl("/proc/self/exe", "world", number, start->kind,
              start->f->scratch, world_library, NULL);
        _exit(127);
    }
    check_need(waitpid(child, &start->status, 0) == child, "child");
}

/* Does the world end alike, and as it says? */
static inline int world_is_right(const struct world *worlds, int number,
                                 struct fixture *f)
{
    struct world_start stock = {f, &worlds[number], number, "stock", 0};
    struct world_start mirror = {f, &worlds[number], number, "mirror", 0};
    char one[PATH_MAX], other[PATH_MAX], *text[2];
    size_t size[2];
    int same;

    world_start(&stock);
    world_start(&mirror);
    text[0] = check_read(check_join(one, f->scratch, "stock"), &size[0]);
    text[1] = check_read(check_join(other, f->scratch, "mirror"), &size[1]);
    same = size[0] == size[1] && memcmp(text[0], text[1], size[0]) == 0;
    if (!same && !worlds[number].known)
        fprintf(stderr, "%s:\n--- from the tree\n%.*s--- mirrored\n%.*s",
                worlds[number].about, (int)size[0], text[0], (int)size[1],
                text[1]);
    CHECK_FOR(worlds[number].about, size[0] > 0);
    free(text[0]);
    free(text[1]);
    CHECK_FOR(worlds[number].about, stock.status == 0);
    return same && mirror.status == 0;
}

static inline void world_test(const struct world *worlds, int number)
{
    struct fixture f;
    int right;

    world_make(&f, &worlds[number]);
    right = world_is_right(worlds, number, &f);
    if (worlds[number].known) {
        printf("known: %s: %s\n", worlds[number].about, worlds[number].known);
        CHECK_FOR(worlds[number].about, !right);
    } else {
        CHECK_FOR(worlds[number].about, right);
    }
    check_remove(f.scratch);
}

/* ---- '%' ---------------------------------------------------------------- */

static inline int world_can_be_opened(void *arg)
{
    const char *name = arg;

    return !dlopen(name, RTLD_NOW | RTLD_NOLOAD) && dlopen(name, RTLD_NOW)
               ? 0
               : CHECK_SKIP;
}

/* Choose a library of the system that this program does not use: 0 if there is
 * none.
 */
static inline int world_choose(void)
{
    static char names[][24] = {"libanl.so.1", "libBrokenLocale.so.1",
                               "libthread_db.so.1", "libutil.so.1",
                               "libm.so.6"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (check_child(world_can_be_opened, names[i], names[i])) {
            world_library = names[i];
            return 1;
        }
    return 0;
}

#endif
