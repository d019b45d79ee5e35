#include "identity.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf.h"
#include "format.h"

/* Variables that decide what Python looks for. */
static const char *const variables[] = {
    "PYTHONHOME",     "PYTHONPATH",       "PYTHONPYCACHEPREFIX",
    "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONNOUSERSITE",
    "PYTHONSAFEPATH",
};

/* ---- paths -------------------------------------------------------------- */

/* 'path' as it is seen from the working directory, without "." and "..". */
static char *absolute(const char *path)
{
    char joined[2 * PATH_MAX], normal[2 * PATH_MAX], here[PATH_MAX] = "";

    if (path[0] != '/' && !getcwd(here, sizeof(here)))
        return strdup(path);
    if (snprintf(joined, sizeof(joined), "%s%s%s", here, here[0] ? "/" : "",
                 path) >= (int)sizeof(joined) ||
        mi_path_normal(joined, normal, sizeof(normal)) != 0)
        return strdup(path);
    return strdup(normal);
}

/* The user's cache directory: *directory is to be freed; NULL: there is none.
 * Source: XDG Base Directory Specification.
 */
static int cache_directory(char **directory, char *(*get)(const char *name))
{
    const char *cache = get("XDG_CACHE_HOME"), *home = get("HOME");
    int xdg = cache && cache[0] == '/';

    *directory = NULL;
    if (!xdg && (!home || home[0] != '/'))
        return 0;
    return asprintf(directory, "%s%s/mpiimport", xdg ? cache : home,
                    xdg ? "" : "/.cache") < 0
               ? -1
               : 0;
}

static int set_path(struct mi_identity *identity, const char *file,
                    char *(*get)(const char *name))
{
    char *directory;
    int rc = 0;

    if (file) {
        identity->path = absolute(file);
        return identity->path ? 0 : -1;
    }
    if (cache_directory(&directory, get) != 0)
        return -1;
    if (directory &&
        asprintf(&identity->path, "%s/%016llx.manifest", directory,
                 (unsigned long long)mi_hash(0, identity->key,
                                             strlen(identity->key))) < 0) {
        identity->path = NULL;
        rc = -1;
    }
    free(directory);
    return rc;
}

/* ---- the key ------------------------------------------------------------ */

static void print_program(FILE *to, const struct mi_options *options)
{
    const char *value = options->value ? options->value : "";
    char *path;

    if (options->program == MI_PROGRAM_SCRIPT && (path = absolute(value))) {
        fprintf(to, "script %s\n", path);
        free(path);
    } else if (options->program == MI_PROGRAM_MODULE) {
        fprintf(to, "module %s\n", value);
    } else if (options->program == MI_PROGRAM_COMMAND) {
        fprintf(to, "command %016llx\n",
                (unsigned long long)mi_hash(0, value, strlen(value)));
    } else {
        fprintf(to, "standard input\n");
    }
}

static void print_environment(FILE *to, char *(*get)(const char *name))
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *value = get(variables[i]);

        if (value && value[0])
            fprintf(to, "%s=%s\n", variables[i], value);
    }
}

static void print_key(FILE *to, const struct mi_options *options,
                      const char *python, const struct mi_bytecode *rule,
                      int optimize, char *(*get)(const char *name))
{
    static const char *const strategies[] = {"none", "names", "all"};
    static const char *const data[] = {"none", "packages"};

    print_program(to, options);
    fprintf(to, "interpreter %s %02x%02x%02x%02x\noptimize %d\noptions",
            python ? python : "", rule->magic[0], rule->magic[1],
            rule->magic[2], rule->magic[3], optimize);
    for (char *const *word = options->python; word && *word; word++)
        fprintf(to, " %s", *word);
    fprintf(to, "\nstrategy %s\ndata %s\n", strategies[options->strategy],
            data[options->data]);
    print_environment(to, get);
}

/* ---- both --------------------------------------------------------------- */

/* Is there anything to know it by? */
static int is_named(const struct mi_options *options)
{
    return options->program == MI_PROGRAM_SCRIPT ||
           options->program == MI_PROGRAM_MODULE ||
           (options->program == MI_PROGRAM_COMMAND && options->value[0]);
}

static int is_wanted(const struct mi_options *options)
{
    if (options->direct || options->strategy == MI_STRATEGY_NONE)
        return 0;
    return options->manifest ? strcmp(options->manifest, "none") != 0
                             : is_named(options);
}

int mi_identity_make(struct mi_identity *identity,
                     const struct mi_options *options, const char *python,
                     const struct mi_bytecode *rule, int optimize,
                     char *(*get)(const char *name), struct mi_error *err)
{
    size_t size;
    FILE *to;

    *identity = (struct mi_identity){.path = NULL};
    if (!is_wanted(options))
        return 0;
    to = open_memstream(&identity->key, &size);
    if (!to)
        return mi_fail_errno(err, "manifest");
    print_key(to, options, python, rule, optimize, get);
    if (fclose(to) != 0 || set_path(identity, options->manifest, get) != 0)
        return mi_fail_errno(err, "manifest");
    if (!identity->path)
        mi_identity_clear(identity);
    return 0;
}

void mi_identity_clear(struct mi_identity *identity)
{
    free(identity->path);
    free(identity->key);
    *identity = (struct mi_identity){.path = NULL};
}
