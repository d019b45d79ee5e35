#include "library.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ancestor.h"

/* The file names of a family, in the order in which they are tried. */
struct candidates {
    const char *names[3];
    enum mpimin_family family;
    int intel; /* nothing but Intel MPI */
};

static const struct candidates mpich = {
    .names = {"libmpi.so.12", "libmpich.so.12"}, .family = MPIMIN_MPICH};
static const struct candidates intel = {
    .names = {"libmpi.so.12"}, .family = MPIMIN_MPICH, .intel = 1};
static const struct candidates openmpi = {.names = {"libmpi.so.40"},
                                          .family = MPIMIN_OPENMPI};
/* Who made the standard library matters to the launcher. */
static const struct candidates abi_mpich = {
    .names = {"libmpi_abi.so.1", "libmpi_abi_mpich.so.1",
              "libmpi_abi_openmpi.so.1"},
    .family = MPIMIN_ABI};
static const struct candidates abi_openmpi = {
    .names = {"libmpi_abi.so.1", "libmpi_abi_openmpi.so.1",
              "libmpi_abi_mpich.so.1"},
    .family = MPIMIN_ABI};

/* The families to look for, where, and what became of the names so far. */
struct search {
    const struct candidates *families[4];
    const char *places[2]; /* directories, or NULL: the linker's own search */
    int place_count;
    char tried[720]; /* "NAME: REASON; NAME: REASON" */
};

const char *mpimin_library_family(enum mpimin_family family)
{
    switch (family) {
    case MPIMIN_MPICH:
        return "MPICH";
    case MPIMIN_OPENMPI:
        return "Open MPI";
    case MPIMIN_ABI:
        return "MPI standard ABI";
    case MPIMIN_NONE:
        break;
    }
    return "no MPI";
}

void mpimin_library_share(const struct mpimin_library *library)
{
    if (library->family == MPIMIN_OPENMPI)
        dlopen(library->name, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}

void mpimin_library_clear(struct mpimin_library *library)
{
    int saved = errno;

    free(library->name);
    free(library->version);
    memset(library, 0, sizeof(*library));
    errno = saved;
}

static const char *basename_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* A list that has become too long is cut off. */
static void tried_add(struct search *search, const char *reason)
{
    size_t used = strlen(search->tried);
    size_t room = sizeof(search->tried) - used;

    if (used && room > 2) {
        memcpy(search->tried + used, "; ", 3);
        used += 2;
        room -= 2;
    }
    strncat(search->tried + used, reason, room - 1);
}

/* dlerror()'s reason, always with the name, and short for the usual one. */
static void tried_add_dlerror(struct search *search, const char *name)
{
    static const char usual[] =
        ": cannot open shared object file: No such file or directory";
    const char *reason = dlerror();
    size_t length = strlen(name);
    char text[512];

    if (!reason)
        reason = "dlopen failed";
    if (strncmp(reason, name, length) == 0) {
        if (strcmp(reason + length, usual) == 0)
            snprintf(text, sizeof(text), "%s: not found", name);
        else
            snprintf(text, sizeof(text), "%s", reason);
    } else {
        snprintf(text, sizeof(text), "%s: %s", name, reason);
    }
    tried_add(search, text);
}

/* ---- what a shared object is -------------------------------------------- */

/* The order matters: legacy libraries of MPICH 5 and Open
 * MPI 6 export MPI_Abi_get_version too and answer -1, and Open MPI's standard
 * library resolves ompi_mpi_comm_world through a dependency.
 */
static enum mpimin_family family_of(void *handle)
{
    void *symbol = dlsym(handle, "MPI_Abi_get_version");
    int (*get_version)(int *major, int *minor);
    int major = -1;
    int minor = -1;

    if (symbol) {
        memcpy(&get_version, &symbol, sizeof(symbol));
        if (get_version(&major, &minor) == 0 && major >= 1)
            return MPIMIN_ABI;
    }
    if (dlsym(handle, "ompi_mpi_comm_world"))
        return MPIMIN_OPENMPI;
    return MPIMIN_MPICH;
}

/* First line of the version text, white space squeezed.  NULL: no memory. */
static char *version_of(const struct mpimin_calls *calls)
{
    char text[8192 + 1] = "";
    int length = 0;
    char *to = text;
    const char *from;

    if (calls->get_library_version(text, &length) != 0)
        return strdup("unknown version");
    for (from = text; *from && *from != '\n'; from++) {
        if (*from != ' ' && *from != '\t')
            *to++ = *from;
        else if (to != text && to[-1] != ' ')
            *to++ = ' ';
    }
    *to = '\0';
    return strdup(text);
}

/* Is the pre-final standard ABI, of MPICH 4.2 and 4.3?  It has the values of
 * a draft and says nothing about itself but its name.
 */
static int is_draft(const char *name, enum mpimin_family family)
{
    return family == MPIMIN_MPICH &&
           strncmp(basename_of(name), "libmpi_abi", 10) == 0;
}

static int reject(struct mi_error *err, const char *name, const char *format,
                  ...) __attribute__((format(printf, 3, 4)));

static int reject(struct mi_error *err, const char *name, const char *format,
                  ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    if (vsnprintf(text, sizeof(text), format, args) < 0)
        text[0] = '\0';
    va_end(args);
    return mi_fail(err, MI_ERRNO, ELIBBAD, "%s %s", name, text);
}

/* Does the version text fit the wish?  'want' is NULL for any library. */
static int check_family(const struct mpimin_library *library, const char *name,
                        const struct candidates *want, struct mi_error *err)
{
    if (want && want->family != library->family)
        return reject(err, name, "is %s, not %s", library->version,
                      mpimin_library_family(want->family));
    if (want && want->intel && !strstr(library->version, "Intel"))
        return reject(err, name, "is %s, not Intel MPI", library->version);
    return 0;
}

/* Describe the opened shared object in 'library'. */
static int examine(struct mpimin_library *library, void *handle,
                   const char *name, const struct candidates *want,
                   struct mi_error *err)
{
    struct mpimin_library found;

    memset(&found, 0, sizeof(found));
    if (!dlsym(handle, "MPI_Init_thread"))
        return reject(err, name, "is not an MPI library (no MPI_Init_thread)");
    if (mpimin_calls_load(&found.calls, handle, name, err) < 0)
        return -1;
    found.handle = handle;
    found.family = family_of(handle);
    if (is_draft(name, found.family))
        return reject(err, name,
                      "has a draft of the MPI standard ABI (it lacks "
                      "MPI_Abi_get_version); MPICH 5 has the final one");
    found.name = strdup(name);
    found.version = version_of(&found.calls);
    if (!found.name || !found.version) {
        mi_fail(err, MI_ERRNO, ENOMEM, "no memory for the name of %s", name);
        goto fail;
    }
    if (check_family(&found, name, want, err) < 0)
        goto fail;
    *library = found;
    return 0;
fail:
    mpimin_library_clear(&found);
    return -1;
}

/* Open 'name' and examine it; a refusal is noted in 'search'.  RTLD_DEEPBIND
 * would crash MPICH with UCX.
 */
static int open_name(struct mpimin_library *library, const char *name,
                     const struct candidates *want, int flags,
                     struct search *search)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | flags);
    struct mi_error reason;

    if (!handle) {
        tried_add_dlerror(search, name);
        return -1;
    }
    if (examine(library, handle, name, want, &reason) < 0) {
        tried_add(search, reason.text);
        dlclose(handle);
        return -1;
    }
    return 0;
}

/* ---- a library that is here already ------------------------------------- */

/* One in the global symbol namespace: linked, preloaded or RTLD_GLOBAL. */
static int find_global(struct mpimin_library *library, struct search *search)
{
    void *handle = dlopen(NULL, RTLD_NOW);
    struct mi_error reason;
    void *symbol;
    Dl_info where;

    if (!handle)
        return -1;
    symbol = dlsym(handle, "MPI_Init_thread");
    if (!symbol || !dladdr(symbol, &where) || !where.dli_fname)
        goto none;
    if (examine(library, handle, where.dli_fname, NULL, &reason) == 0)
        return 0;
    tried_add(search, reason.text);
none:
    dlclose(handle);
    return -1;
}

static int is_mpi_name(const char *name)
{
    static const struct candidates *const all[] = {&mpich, &openmpi,
                                                   &abi_mpich};
    size_t length;
    size_t i;
    size_t j;

    for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        for (j = 0; j < 3 && all[i]->names[j]; j++) {
            length = strlen(all[i]->names[j]);
            if (strncmp(name, all[i]->names[j], length) == 0 &&
                (name[length] == '\0' || name[length] == '.'))
                return 1;
        }
    }
    return 0;
}

/* The beginning of what dl_iterate_phdr(3) hands out.  Declared here, because
 * <link.h> includes <elf.h>, and that may be found in src/.
 */
struct dl_phdr_info {
    uintptr_t address;
    const char *name;
};

int dl_iterate_phdr(int (*callback)(struct dl_phdr_info *info, size_t size,
                                    void *data),
                    void *data);

static int keep_mpi_path(struct dl_phdr_info *info, size_t size, void *data)
{
    char **path = data;

    (void)size;
    if (!info->name || !is_mpi_name(basename_of(info->name)))
        return 0;
    *path = strdup(info->name);
    return 1;
}

/* One that an extension module brought with it, unseen by others so far.  A
 * second MPI beside it would be a disaster.
 */
static int find_local(struct mpimin_library *library, struct search *search)
{
    char *path = NULL;
    int rc;

    dl_iterate_phdr(keep_mpi_path, &path);
    if (!path)
        return -1;
    rc = open_name(library, path, NULL, RTLD_NOLOAD, search);
    free(path);
    return rc;
}

/* ---- search ------------------------------------------------------------ */

/* Does the job's launcher come from the environment whose lib/ this is?  Not
 * asked for the system's own lib/, which the linker looks in anyway
 * (ld.so(8)).
 */
static int is_launchers(const char *libdir)
{
    char prefix[PATH_MAX];
    const char *slash = strrchr(libdir, '/');
    int length;

    if (!slash)
        return 0;
    length = snprintf(prefix, sizeof(prefix), "%.*s", (int)(slash - libdir),
                      libdir);
    if (length <= 0 || (size_t)length >= sizeof(prefix) ||
        strcmp(prefix, "/usr") == 0)
        return 0;
    return mpimin_ancestor_below("/proc", prefix);
}

/* The order of mpimin_open(). */
static void choose_places(struct search *search, const char *libdir)
{
    int first;

    search->place_count = 1;
    if (!libdir || !libdir[0])
        return;
    first = is_launchers(libdir);
    search->places[first ? 0 : 1] = libdir;
    search->place_count = 2;
}

static int open_in(struct mpimin_library *library, const char *dir,
                   const char *name, const struct candidates *want,
                   struct search *search)
{
    char *path;
    int rc;

    if (!dir)
        return open_name(library, name, want, 0, search);
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return -1;
    rc = open_name(library, path, want, 0, search);
    free(path);
    return rc;
}

static int find_in(struct mpimin_library *library, const char *dir,
                   struct search *search)
{
    const struct candidates *family;
    int i;
    int j;
    int most;

    for (i = 0; i < 4 && search->families[i]; i++) {
        family = search->families[i];
        /* Each name costs every rank an open there: where several families
         * are in question, only the name that PyPI's packages use.
         */
        most = dir && search->families[1] ? 1 : 3;
        for (j = 0; j < most && family->names[j]; j++) {
            if (open_in(library, dir, family->names[j], family, search) == 0)
                return 0;
        }
    }
    return -1;
}

static int find_families(struct mpimin_library *library, const char *libdir,
                         struct search *search)
{
    int i;

    choose_places(search, libdir);
    for (i = 0; i < search->place_count; i++) {
        if (find_in(library, search->places[i], search) == 0)
            return 0;
    }
    return -1;
}

static int find_file(struct mpimin_library *library, const char *which,
                     const char *libdir, struct search *search)
{
    int i;

    choose_places(search, strchr(which, '/') ? NULL : libdir);
    for (i = 0; i < search->place_count; i++) {
        if (open_in(library, search->places[i], which, NULL, search) == 0)
            return 0;
    }
    return -1;
}

/* The families that the launcher calls for. */
static void choose_families(struct search *search,
                            const struct mpimin_promise *promise)
{
    const struct candidates **to = search->families;

    switch (promise->family) {
    case MPIMIN_MPICH:
        *to++ = &mpich;
        *to++ = &abi_mpich;
        break;
    case MPIMIN_OPENMPI:
        *to++ = &openmpi;
        *to++ = &abi_openmpi;
        break;
    case MPIMIN_ABI:
        *to++ = &abi_mpich;
        break;
    case MPIMIN_NONE:
        *to++ = promise->pmix ? &openmpi : &mpich;
        *to++ = promise->pmix ? &mpich : &openmpi;
        *to++ = promise->pmix ? &abi_openmpi : &abi_mpich;
        break;
    }
}

static int choose_family(struct search *search, const char *which,
                         const struct mpimin_promise *promise)
{
    int fits_openmpi = promise->family == MPIMIN_OPENMPI || promise->pmix;

    if (strcmp(which, "mpich") == 0)
        search->families[0] = &mpich;
    else if (strcmp(which, "intel") == 0)
        search->families[0] = &intel;
    else if (strcmp(which, "openmpi") == 0)
        search->families[0] = &openmpi;
    else if (strcmp(which, "abi") == 0)
        search->families[0] = fits_openmpi ? &abi_openmpi : &abi_mpich;
    else
        return -1;
    return 0;
}

static int is_file_name(const char *which)
{
    return strchr(which, '/') || strstr(which, ".so");
}

static int find_auto(struct mpimin_library *library, const char *libdir,
                     const struct mpimin_promise *promise,
                     struct search *search, struct mi_error *err)
{
    if (find_global(library, search) == 0 || find_local(library, search) == 0)
        return 0;
    if (!promise->launcher[0])
        return 0;
    choose_families(search, promise);
    if (find_families(library, libdir, search) == 0 || !promise->certain)
        return 0;
    return mi_fail(err, MI_ERRNO, ENOENT,
                   "started by %s, but no MPI library fits: choose one "
                   "with " MPIMIN_WAY_OUT "; tried %s",
                   promise->launcher, search->tried);
}

int mpimin_library_find(struct mpimin_library *library, const char *which,
                        const char *libdir,
                        const struct mpimin_promise *promise,
                        struct mi_error *err)
{
    struct search search;
    int rc;

    memset(library, 0, sizeof(*library));
    memset(&search, 0, sizeof(search));
    if (!which || !which[0])
        return find_auto(library, libdir, promise, &search, err);
    if (strcmp(which, "none") == 0)
        return 0;
    if (is_file_name(which))
        rc = find_file(library, which, libdir, &search);
    else if (choose_family(&search, which, promise) == 0)
        rc = find_families(library, libdir, &search);
    else
        return mi_fail(
            err, MI_ERRNO, EINVAL,
            "unknown MPI '%.100s': use " MPIMIN_WAY_OUT ", or 'none'", which);
    if (rc == 0)
        return 0;
    return mi_fail(
        err, MI_ERRNO, ENOENT,
        "no MPI library for '%.200s': choose another with " MPIMIN_WAY_OUT
        "; tried %s",
        which, search.tried);
}
