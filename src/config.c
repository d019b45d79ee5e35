#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "list.h"

struct number {
    const char *name;
    int *value;
};

static int read_number(const struct number *number,
                       char *(*get)(const char *name), struct mi_error *err)
{
    const char *text = get(number->name);
    char *end;
    long value;

    if (!text || !text[0])
        return 0;
    errno = 0;
    value = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || value > INT_MAX)
        return mi_fail(err, MI_ERRNO, EINVAL, "%s=%.200s: not a number",
                       number->name, text);
    *number->value = (int)value;
    return 0;
}

static int read_numbers(struct mi_job_config *job,
                        char *(*get)(const char *name), struct mi_error *err)
{
    const struct number numbers[] = {
        {"PYTHON_MPI_RANKS_PER_NODE", &job->ranks_per_node},
        {"PYTHON_MPI_READERS", &job->readers},
        {"PYTHON_MPI_GRACE_MS", &job->grace},
        {"PYTHON_MPI_PATIENCE", &job->patience},
        {"PYTHON_MPI_THREAD_LEVEL", &job->thread},
    };
    size_t i;

    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (read_number(&numbers[i], get, err) != 0)
            return -1;
    return 0;
}

/* 'path' as it is seen from the current directory. */
static char *absolute(const char *path)
{
    char *here, *joined;

    if (path[0] == '/')
        return strdup(path);
    here = getcwd(NULL, 0);
    if (!here || asprintf(&joined, "%s/%s", here, path) < 0)
        joined = NULL;
    free(here);
    return joined;
}

/* lib/ beside the bin/ that 'python' is in; "" if it is in another place. */
static char *library_directory(const char *python)
{
    const char *name = python ? strrchr(python, '/') : NULL;
    char *path;

    if (!name || name - python < 4 || memcmp(name - 4, "/bin", 4) != 0)
        return strdup("");
    if (asprintf(&path, "%.*s/lib", (int)(name - 4 - python), python) < 0)
        return NULL;
    return path;
}

/* Directories that are a node's own on every system. */
static int add_local(char ***local, char *(*get)(const char *name))
{
    static const char *const own[] = {"/tmp", "/var/tmp", "/dev",
                                      "/run", "/proc",    "/sys"};
    const char *tmpdir = get("TMPDIR");
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(own) / sizeof(own[0]); i++)
        rc = mi_list_append(local, own[i]);
    if (rc == 0 && tmpdir && tmpdir[0] == '/' && tmpdir[1])
        rc = mi_list_append(local, tmpdir);
    return rc;
}

int mi_config_make(struct mi_config *config, const struct mi_options *options,
                   const char *python, char *(*get)(const char *name),
                   struct mi_error *err)
{
    struct mi_job_config *job = &config->job;

    memset(config, 0, sizeof(*config));
    job->thread = -1;
    job->mpi = options->mpi;
    job->direct = options->direct || options->strategy == MI_STRATEGY_NONE;
    job->report = options->timing;
    job->strategy = (int)options->strategy;
    job->no_site = options->no_site;
    job->max_store = options->max_store;
    config->libdir = library_directory(python);
    if (options->tmpdir)
        config->tmpdir = absolute(options->tmpdir);
    if (!config->libdir || (options->tmpdir && !config->tmpdir) ||
        mi_list_copy(&config->local, options->local) != 0 ||
        add_local(&config->local, get) != 0)
        return mi_fail_errno(err, "configuration");
    job->libdir = config->libdir;
    job->tmpdir = config->tmpdir;
    job->share = options->share;
    job->local = config->local;
    return read_numbers(job, get, err);
}

int mi_config_identify(struct mi_config *config,
                       const struct mi_options *options, const char *python,
                       char *(*get)(const char *name), struct mi_error *err)
{
    struct mi_job_config *job = &config->job;

    if (mi_identity_make(&config->identity, options, python, &job->rule,
                         job->optimize, get, err) != 0)
        return -1;
    job->manifest = config->identity.path;
    job->manifest_key = config->identity.key;
    return 0;
}

void mi_config_clear(struct mi_config *config)
{
    mi_list_clear(&config->local);
    mi_identity_clear(&config->identity);
    free(config->tmpdir);
    free(config->libdir);
    memset(config, 0, sizeof(*config));
}
