#include "options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "line.h"
#include "list.h"
#include "prefixes.h"
#include "usage.h"

static const struct variable {
    const char *name;
    enum mi_item item;
} variables[] = {
    {"PYTHON_MPI_MPI", MI_ITEM_MPI},
    {"PYTHON_MPI_TMPDIR", MI_ITEM_TMPDIR},
    {"PYTHON_MPI_MAX_STORE", MI_ITEM_MAX_STORE},
    {"PYTHON_MPI_VERBOSE", MI_ITEM_VERBOSE},
    {"PYTHON_MPI_DIRECT", MI_ITEM_DIRECT},
    {"PYTHON_MPI_TIMING", MI_ITEM_TIMING},
    {"PYTHON_MPI_STRATEGY", MI_ITEM_STRATEGY},
    {"PYTHON_MPI_DATA", MI_ITEM_DATA},
    {"PYTHON_MPI_GC_DEFER", MI_ITEM_GC_DEFER},
    {"PYTHON_MPI_MANIFEST", MI_ITEM_MANIFEST},
    {"PYTHON_MPI_SHARE", MI_ITEM_SHARE},
    {"PYTHON_MPI_LOCAL", MI_ITEM_LOCAL},
};

#define VARIABLES (sizeof(variables) / sizeof(variables[0]))

/* In the order of enum mi_strategy. */
static const struct mi_choices strategies = {{"none", "names", "all"},
                                             "'none', 'names', or 'all'"};
/* In the order of enum mi_data. */
static const struct mi_choices data = {{"none", "packages"},
                                       "'none' or 'packages'"};
static const struct mi_choices switches = {{"0", "1"}, "'0' or '1'"};

/* Values of one kind of origin. */
struct source {
    const struct mi_given *given;
    size_t count;
};

struct sources {
    struct source line;
    struct source environment;
};

/* The variables that are set; an empty one counts as unset. */
static size_t read_environment(char *(*get)(const char *name),
                               struct mi_given *given)
{
    size_t count = 0;

    for (size_t i = 0; i < VARIABLES; i++) {
        const char *text = get(variables[i].name);

        if (text && *text)
            given[count++] =
                (struct mi_given){text, variables[i].name, variables[i].item};
    }
    return count;
}

static const struct mi_given *last_of(const struct source *source,
                                      enum mi_item item)
{
    for (size_t i = source->count; i-- > 0;)
        if (source->given[i].item == item)
            return &source->given[i];
    return NULL;
}

/* The value that counts, or NULL. */
static const struct mi_given *find(const struct sources *sources,
                                   enum mi_item item)
{
    const struct mi_given *found = last_of(&sources->line, item);

    return found ? found : last_of(&sources->environment, item);
}

/* ---- values ------------------------------------------------------------- */

static int copy(char **place, const char *text, struct mi_error *err)
{
    *place = strdup(text);
    return *place ? 0 : mi_usage_no_memory(err);
}

static int is_script(const char *text)
{
    size_t size = strlen(text);

    return size >= 3 && strcmp(text + size - 3, ".py") == 0;
}

/* Refuse what shows that python's -I was meant. */
static int set_mpi(struct mi_options *options, const struct mi_given *given,
                   struct mi_error *err)
{
    if (given->text[0] == '-' || is_script(given->text))
        return mi_usage_refuse(
            err,
            "%s takes an MPI (mpich, openmpi, intel, abi or the path of a "
            "library), not " MI_USAGE_VALUE "; for python's -I use -E -s -P",
            given->origin, given->text);
    return copy(&options->mpi, given->text, err);
}

static int set_tmpdir(struct mi_options *options, const struct mi_given *given,
                      struct mi_error *err)
{
    return copy(&options->tmpdir, given->text, err);
}

static int set_max_store(struct mi_options *options,
                         const struct mi_given *given, struct mi_error *err)
{
    if (mi_limit_parse(&options->max_store, given->text) == 0)
        return 0;
    return mi_usage_refuse(err,
                           "%s takes bytes (with K, M, G or T) or a "
                           "percentage (0%% to 100%%), not " MI_USAGE_VALUE,
                           given->origin, given->text);
}

static int set_timing(struct mi_options *options, const struct mi_given *given,
                      struct mi_error *err)
{
    options->timing = strcmp(given->text, "0") != 0;
    if (!options->timing || strcmp(given->text, "1") == 0)
        return 0;
    return copy(&options->timing_file, given->text, err);
}

static int set_strategy(struct mi_options *options,
                        const struct mi_given *given, struct mi_error *err)
{
    int choice = mi_usage_choose(&strategies, given->text, given->origin, err);

    if (choice < 0)
        return -1;
    options->strategy = (enum mi_strategy)choice;
    return 0;
}

static int set_data(struct mi_options *options, const struct mi_given *given,
                    struct mi_error *err)
{
    int choice = mi_usage_choose(&data, given->text, given->origin, err);

    if (choice < 0)
        return -1;
    options->data = (enum mi_data)choice;
    return 0;
}

/* Refuse what shows that the file was forgotten. */
static int set_manifest(struct mi_options *options,
                        const struct mi_given *given, struct mi_error *err)
{
    if (given->text[0] == '-' || is_script(given->text))
        return mi_usage_refuse(err,
                               "%s takes a file of its own or 'none', "
                               "not " MI_USAGE_VALUE,
                               given->origin, given->text);
    return copy(&options->manifest, given->text, err);
}

static int set_verbose(struct mi_options *options,
                       const struct mi_given *given, struct mi_error *err)
{
    long number;

    if (given->text[strspn(given->text, "0123456789")])
        return mi_usage_refuse(err, "%s must be a number, not " MI_USAGE_VALUE,
                               given->origin, given->text);
    number = strtol(given->text, NULL, 10);
    options->verbose = number < INT_MAX ? (int)number : INT_MAX;
    return 0;
}

static int set_direct(struct mi_options *options, const struct mi_given *given,
                      struct mi_error *err)
{
    int choice = mi_usage_choose(&switches, given->text, given->origin, err);

    if (choice < 0)
        return -1;
    options->direct = choice;
    return 0;
}

static int set_gc_defer(struct mi_options *options,
                        const struct mi_given *given, struct mi_error *err)
{
    int choice = mi_usage_choose(&switches, given->text, given->origin, err);

    if (choice < 0)
        return -1;
    options->gc_defer = choice;
    return 0;
}

/* In the order in which errors are looked for. */
static const struct setter {
    enum mi_item item;
    int (*set)(struct mi_options *options, const struct mi_given *given,
               struct mi_error *err);
} setters[] = {
    {MI_ITEM_MPI, set_mpi},           {MI_ITEM_TMPDIR, set_tmpdir},
    {MI_ITEM_TIMING, set_timing},     {MI_ITEM_STRATEGY, set_strategy},
    {MI_ITEM_DATA, set_data},         {MI_ITEM_VERBOSE, set_verbose},
    {MI_ITEM_DIRECT, set_direct},     {MI_ITEM_MAX_STORE, set_max_store},
    {MI_ITEM_GC_DEFER, set_gc_defer}, {MI_ITEM_MANIFEST, set_manifest},
};

static int set_values(struct mi_options *options, const struct mi_line *line,
                      const struct sources *sources, struct mi_error *err)
{
    options->verbose = line->counts[MI_ITEM_VERBOSE];
    options->direct = line->counts[MI_ITEM_DIRECT] > 0;
    options->gc_defer = line->counts[MI_ITEM_GC_DEFER] == 0;
    for (size_t i = 0; i < sizeof(setters) / sizeof(setters[0]); i++) {
        const struct mi_given *given = find(sources, setters[i].item);

        /* -v, -d and the like, which have no value, win as well. */
        if (given && !line->counts[setters[i].item] &&
            setters[i].set(options, given, err) != 0)
            return -1;
    }
    return 0;
}

/* What is to be built must be asked for.  A manifest that the environment
 * forbids is the usual one then.
 */
static int set_build(struct mi_options *options, const struct mi_line *line,
                     const struct sources *sources, struct mi_error *err)
{
    options->manifest_build = line->counts[MI_ITEM_MANIFEST_BUILD] > 0;
    if (!options->manifest_build)
        return 0;
    if (options->direct || options->strategy == MI_STRATEGY_NONE)
        return mi_usage_refuse(err, "--manifest-build needs what %s turns off",
                               options->direct ? "--direct"
                                               : "--strategy none");
    if (!options->manifest || strcmp(options->manifest, "none") != 0)
        return 0;
    if (last_of(&sources->line, MI_ITEM_MANIFEST))
        return mi_usage_refuse(err,
                               "--manifest-build contradicts --manifest none");
    free(options->manifest);
    options->manifest = NULL;
    return 0;
}

/* ---- prefixes ----------------------------------------------------------- */

static int read_prefixes(char ***list, const struct source *source,
                         enum mi_item item, struct mi_error *err)
{
    *list = mi_list_new(0);
    if (!*list)
        return mi_usage_no_memory(err);
    for (size_t i = 0; i < source->count; i++)
        if (source->given[i].item == item &&
            mi_prefixes_add(list, source->given[i].text,
                            source->given[i].origin, err) != 0)
            return -1;
    return 0;
}

/* All of one source have the same origin. */
static int refuse_both(const struct source *source, char *const *share,
                       char *const *local, struct mi_error *err)
{
    for (; *share; share++)
        if (mi_list_has(local, *share))
            return mi_usage_refuse(err, MI_USAGE_VALUE " is in both %s and %s",
                                   *share,
                                   last_of(source, MI_ITEM_SHARE)->origin,
                                   last_of(source, MI_ITEM_LOCAL)->origin);
    return 0;
}

static int join(struct mi_options *options, char **share, char **local,
                struct mi_error *err)
{
    mi_list_subtract(options->share, local);
    mi_list_subtract(options->share, share);
    mi_list_subtract(options->local, share);
    mi_list_subtract(options->local, local);
    if (mi_list_move(&options->share, share) != 0 ||
        mi_list_move(&options->local, local) != 0)
        return mi_usage_no_memory(err);
    return 0;
}

static int join_prefixes(struct mi_options *options,
                         const struct source *source, struct mi_error *err)
{
    char **share = NULL, **local = NULL;
    int rc = read_prefixes(&share, source, MI_ITEM_SHARE, err);

    if (rc == 0)
        rc = read_prefixes(&local, source, MI_ITEM_LOCAL, err);
    if (rc == 0)
        rc = refuse_both(source, share, local, err);
    if (rc == 0)
        rc = join(options, share, local, err);
    mi_list_clear(&share);
    mi_list_clear(&local);
    return rc;
}

/* ---- all ---------------------------------------------------------------- */

static int set_all(struct mi_options *options, const struct mi_line *line,
                   char *(*get)(const char *name), struct mi_error *err)
{
    struct mi_given given[VARIABLES];
    struct sources sources = {
        .line = {line->given, line->count},
        .environment = {given, read_environment(get, given)}};

    if (set_values(options, line, &sources, err) != 0 ||
        set_build(options, line, &sources, err) != 0)
        return -1;
    /* Options add to the variables, and win where the two contradict. */
    if (join_prefixes(options, &sources.environment, err) != 0)
        return -1;
    return join_prefixes(options, &sources.line, err);
}

/* Help and version come before any program. */
static int asks(struct mi_options *options, const struct mi_line *line)
{
    int help = line->counts[MI_ITEM_HELP];
    int version = line->counts[MI_ITEM_VERSION];

    if (!help && !version)
        return 0;
    options->program = help ? MI_PROGRAM_HELP : MI_PROGRAM_VERSION;
    if (!help)
        options->version_level = version < 2 ? 1 : 2;
    free(options->value);
    options->value = NULL;
    return 1;
}

static int parse(struct mi_options *options, struct mi_line *line,
                 char *const *argv, char *(*get)(const char *name),
                 struct mi_error *err)
{
    options->share = mi_list_new(0);
    options->local = mi_list_new(0);
    if (!options->share || !options->local)
        return mi_usage_no_memory(err);
    if (mi_line_read(line, options, argv, err) != 0)
        return -1;
    options->no_site = line->counts[MI_ITEM_NO_SITE] > 0;
    options->skip_first = line->counts[MI_ITEM_SKIP_FIRST] > 0;
    return asks(options, line) ? 0 : set_all(options, line, get, err);
}

int mi_options_parse(struct mi_options *options, char *const *argv,
                     char *(*get)(const char *name), struct mi_error *err)
{
    struct mi_line line = {.options = options};
    int rc;

    *options = (struct mi_options){.strategy = MI_STRATEGY_ALL,
                                   .data = MI_DATA_PACKAGES};
    rc = parse(options, &line, argv, get, err);
    mi_line_clear(&line);
    return rc;
}

void mi_options_clear(struct mi_options *options)
{
    mi_list_clear(&options->words);
    mi_list_clear(&options->python);
    mi_list_clear(&options->args);
    mi_list_clear(&options->share);
    mi_list_clear(&options->local);
    free(options->value);
    free(options->mpi);
    free(options->tmpdir);
    free(options->timing_file);
    free(options->manifest);
    *options = (struct mi_options){.program = MI_PROGRAM_NONE};
}
