#include "search.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf.h"
#include "list.h"
#include "loaded.h"
#include "stub.h"
#include "text.h"

/* ---- lists -------------------------------------------------------------- */

void mi_search_directory(const char *path, char *directory)
{
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;

    memcpy(directory, path, size);
    directory[size] = '\0';
    if (size == 0)
        strcpy(directory, "/");
}

int mi_search_default(const char *directory)
{
    static const char *const parents[] = {"/lib", "/usr/lib"};

    for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++) {
        size_t size = strlen(parents[i]);
        const char *rest = directory + size;

        if (strncmp(directory, parents[i], size) != 0)
            continue;
        rest += strspn(rest, "0123456789x");
        /* "/lib64", and Debian's "/lib/x86_64-linux-gnu" */
        if (*rest == '\0' || strcmp(rest, "/") == 0 ||
            (*rest == '/' && !strchr(rest + 1, '/') &&
             strstr(rest, "-linux-")))
            return 1;
    }
    return 0;
}

/* The value of the token at 'entry', which is skipped; NULL if there is none
 * that is known.
 */
static const char *token_value(const struct mi_search *search,
                               const char **entry, const char *end)
{
    const struct {
        const char *text;
        const char *value;
    } tokens[] = {{"$LIB", search->lib},
                  {"${LIB}", search->lib},
                  {"$PLATFORM", search->platform},
                  {"${PLATFORM}", search->platform}};

    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        size_t size = strlen(tokens[i].text);

        if ((size_t)(end - *entry) < size ||
            memcmp(*entry, tokens[i].text, size) != 0)
            continue;
        *entry += size;
        return tokens[i].value;
    }
    return NULL;
}

static int starts_with_origin(const char *entry, size_t length)
{
    return (length >= 7 && memcmp(entry, "$ORIGIN", 7) == 0) ||
           (length >= 9 && memcmp(entry, "${ORIGIN}", 9) == 0);
}

/* The entry without $LIB and $PLATFORM, into 'out' (PATH_MAX): 1, or 0 if that
 * cannot be done.
 */
static int replace_tokens(const struct mi_search *search, const char *entry,
                          size_t length, char *out)
{
    const char *end = entry + length, *value;
    size_t used = 0, size;
    int first = starts_with_origin(entry, length);

    while (entry < end) {
        value = entry;
        size = 1;
        if (*entry == '$' && !first) {
            value = token_value(search, &entry, end);
            if (!value)
                return 0;
            size = strlen(value);
        } else {
            entry++;
        }
        first = 0;
        if (used + size >= PATH_MAX)
            return 0;
        memcpy(out + used, value, size);
        used += size;
    }
    out[used] = '\0';
    return 1;
}

/* A directory, and its path without symbolic links. */
struct mi_search_real {
    struct mi_search_real *next;
    char *real; /* NULL: it is not there */
    char path[];
};

static char *resolve(const struct mi_search *search, const char *directory)
{
    char real[PATH_MAX];

    if (!search->dirs)
        return realpath(directory, NULL);
    return mi_dirs_real(search->dirs, directory, real) == 0 ? strdup(real)
                                                            : NULL;
}

/* Lives as long as 'search'.  Looked at once, for all objects. */
static const char *real_of(struct mi_search *search, const char *directory)
{
    struct mi_search_real *found = search->real;

    while (found && strcmp(found->path, directory) != 0)
        found = found->next;
    if (found)
        return found->real;
    found = malloc(sizeof(*found) + strlen(directory) + 1);
    if (!found)
        return NULL;
    found->real = resolve(search, directory);
    strcpy(found->path, directory);
    found->next = search->real;
    search->real = found;
    return found->real;
}

/* The directory to which 'rest' ("/../NAME") leads from one that is 'real',
 * into 'path' (PATH_MAX): 1, or 0 if its letters alone do not tell.
 */
static int climb(const char *real, const char *rest, char *path)
{
    size_t size = strlen(real);

    while (strncmp(rest, "/..", 3) == 0 && (rest[3] == '/' || !rest[3])) {
        while (size > 0 && real[--size] != '/')
            continue;
        rest += 3;
    }
    return !strstr(rest, "..") &&
           snprintf(path, PATH_MAX, "%.*s%s", (int)size, real,
                    size || *rest ? rest : "/") < PATH_MAX;
}

/* Where the kernel goes by the entry 'text' with "..", if that is not the
 * 'directory' that its letters say, into 'path' (2 * PATH_MAX): 1, or 0.
 */
static int goes_elsewhere(struct mi_search *search, const char *text,
                          const char *origin, const char *directory,
                          char *path)
{
    const char *rest = strchr(text, '/'), *real, *there, *here;
    char way[PATH_MAX];

    if (!rest || !strstr(rest, ".."))
        return 0;
    real = real_of(search, origin);
    if (!real || strcmp(real, origin) == 0)
        return 0;
    snprintf(path, 2 * PATH_MAX, "%s%s", origin, rest);
    there = real_of(search, climb(real, rest, way) ? way : path);
    here = real_of(search, directory);
    if (!there)
        return here != NULL;
    if (here && strcmp(there, here) == 0)
        return 0;
    strcpy(path, there);
    return 1;
}

static void put_entry(struct mi_search *search, const char *entry,
                      size_t length, const char *origin, int real,
                      struct mi_text *out)
{
    char plain[PATH_MAX], directory[PATH_MAX], there[2 * PATH_MAX];

    if (!replace_tokens(search, entry, length, plain)) {
        mi_text_add(out, "?:");
        return;
    }
    if (mi_elf_origin(plain, strlen(plain), origin, directory,
                      sizeof(directory)) == 1) {
        if (goes_elsewhere(search, plain, origin, directory, there))
            mi_text_format(out, "=%s:", there);
        else
            mi_text_format(out, "%s%s:", real ? "=" : "", directory);
    } else if (plain[0] == '/' && !strchr(plain, '$'))
        mi_text_format(out, "=%s:", plain);
    else
        mi_text_add(out, "?:");
}

/* Does a search path have an empty entry: the working directory? */
static int has_empty(const char *path)
{
    return path && (path[0] == ':' || strstr(path, "::") ||
                    (path[0] && path[strlen(path) - 1] == ':'));
}

char *mi_search_list(struct mi_search *search, const char *path,
                     const char *origin, int real, const char *const *more)
{
    struct mi_text out = {.size = 0};
    const char *entry;
    size_t length;

    if (has_empty(path))
        mi_text_add(&out, "?:");
    while ((entry = mi_elf_path_next(&path, &length)) != NULL)
        put_entry(search, entry, length, origin, real, &out);
    for (; *more; more++)
        mi_text_add(&out, *more);
    return mi_text_take(&out, NULL);
}

/* ---- this process ------------------------------------------------------- */

/* LD_LIBRARY_PATH as a list.  An empty entry is the working directory, which
 * is looked at in the places where root's is now: ranks start in the same one.
 */
static char *library_path(const char *text)
{
    struct mi_text out = {.size = 0};
    char here[PATH_MAX];
    size_t length;

    while (text && *text) {
        length = strcspn(text, ":;");
        if (length > 0 && text[0] == '/' && !memchr(text, '$', length))
            mi_text_format(&out, "=%.*s:", (int)length, text);
        else if (length == 0 && getcwd(here, sizeof(here)))
            mi_text_format(&out, "=%s:", here);
        else
            mi_text_add(&out, "?:");
        text += length;
        if (*text && !*++text && getcwd(here, sizeof(here)))
            mi_text_format(&out, "=%s:", here); /* a separator at the end */
    }
    return mi_text_take(&out, NULL);
}

/* The RPATH of the object in the file 'path', as a list followed by 'more'.
 * What cannot be read has none: it is running, after all.
 */
static char *rpath_of(struct mi_search *search, const char *path,
                      const char *more)
{
    const char *const rest[] = {more, NULL};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    void *bytes = MAP_FAILED;
    struct mi_elf elf = {0};
    struct mi_error err;
    struct stat status;
    char origin[PATH_MAX], *list;

    mi_search_directory(path, origin);
    if (file >= 0 && fstat(file, &status) == 0 && status.st_size > 0)
        bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE,
                     file, 0);
    if (file >= 0)
        close(file);
    if (bytes != MAP_FAILED &&
        mi_elf_parse(bytes, (size_t)status.st_size, &elf, &err) != 0)
        elf = (struct mi_elf){0};
    list = mi_search_list(search, elf.runpath ? NULL : elf.rpath, origin, 1,
                          rest);
    mi_elf_clear(&elf);
    if (bytes != MAP_FAILED)
        munmap(bytes, (size_t)status.st_size);
    return list;
}

static char *program_path(struct mi_search *search, const char *caller)
{
    char program[PATH_MAX], *own, *both;
    void *function = caller ? dlsym(RTLD_DEFAULT, caller) : NULL;
    ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);
    struct link_map *map = NULL;
    Dl_info info;

    program[size > 0 ? size : 0] = '\0';
    own = rpath_of(search, program, "");
    /* The program itself is without a name there; the one that dladdr() gives
     * is argv[0], which may be a link.
     */
    if (!own || !function ||
        !dladdr1(function, &info, (void **)&map, RTLD_DL_LINKMAP) ||
        map->l_name[0] != '/')
        return own;
    both = rpath_of(search, map->l_name, own);
    free(own);
    return both;
}

/* Ask the linker itself what its tokens stand for: by the search path of an
 * object that has nothing else.
 */
static void ask_tokens(struct mi_search *search)
{
    struct mi_stub stub = {0};
    struct mi_error err;
    Dl_serinfo size, *found = NULL;
    void *handle = NULL;

    if (mi_stub_search(&stub, "/-/$LIB", &err) == 0 &&
        mi_stub_search(&stub, "/-/$PLATFORM", &err) == 0 &&
        mi_stub_open(&stub, RTLD_LAZY | RTLD_LOCAL, &handle, &err) == 0 &&
        dlinfo(handle, RTLD_DI_SERINFOSIZE, &size) == 0 &&
        (found = malloc(size.dls_size)) != NULL) {
        *found = size;
        if (dlinfo(handle, RTLD_DI_SERINFO, found) == 0)
            for (unsigned i = 0; i < found->dls_cnt && i < 2; i++) {
                const char *name = found->dls_serpath[i].dls_name;

                if (strncmp(name, "/-/", 3) == 0 && name[3] && i == 0)
                    search->lib = strdup(name + 3);
                else if (strncmp(name, "/-/", 3) == 0 && name[3])
                    search->platform = strdup(name + 3);
            }
    }
    free(found);
    if (handle)
        dlclose(handle);
    else
        dlerror();
    mi_stub_clear(&stub);
}

int mi_search_init(struct mi_search *search, const char *caller,
                   char *(*get)(const char *name), struct mi_error *err)
{
    *search = (struct mi_search){0};
    ask_tokens(search);
    search->library_path = library_path(get("LD_LIBRARY_PATH"));
    search->program = program_path(search, caller);
    search->loaded = mi_loaded_list();
    if (search->program && search->library_path && search->loaded)
        return 0;
    mi_search_clear(search);
    return mi_fail_errno(err, "search path");
}

void mi_search_clear(struct mi_search *search)
{
    struct mi_search_real *real;

    while ((real = search->real) != NULL) {
        search->real = real->next;
        free(real->real);
        free(real);
    }
    free(search->program);
    free(search->library_path);
    mi_list_clear(&search->loaded);
    free(search->lib);
    free(search->platform);
    *search = (struct mi_search){0};
}
