#include "environment.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHOOSER "PYTHON_MPI_PYTHON"

/* A version as it is written, and its first two numbers. */
struct version {
    char text[32]; /* "" if unknown */
    int major, minor;
};

/* ---- choice ------------------------------------------------------------- */

static int take(struct mi_environment *environment, const char *origin,
                char *python, struct mi_error *err)
{
    if (!python)
        return mi_fail_errno(err, "environment");
    environment->python = python;
    environment->origin = origin;
    return 0;
}

static int choose_by_path(struct mi_environment *environment, const char *path,
                          struct mi_error *err)
{
    char *here, *python = NULL;

    if (!strchr(path, '/'))
        return mi_fail(err, MI_ERRNO, EINVAL,
                       CHOOSER "=%.200s: not a path; name an interpreter as "
                               "in " CHOOSER "=/path/to/venv/bin/python",
                       path);
    if (path[0] == '/')
        return take(environment, CHOOSER, strdup(path), err);
    here = getcwd(NULL, 0);
    if (here && asprintf(&python, "%s/%s", here, path) < 0)
        python = NULL;
    free(here);
    return take(environment, CHOOSER, python, err);
}

int mi_environment_choose(struct mi_environment *environment,
                          const char *built, char *(*get)(const char *name),
                          struct mi_error *err)
{
    const char *path = get(CHOOSER);
    const char *virtual = get("VIRTUAL_ENV");
    char *python;

    memset(environment, 0, sizeof(*environment));
    if (path && path[0])
        return choose_by_path(environment, path, err);
    if (!virtual || virtual[0] != '/')
        return take(environment, NULL, strdup(built), err);
    if (asprintf(&python, "%s/bin/python3", virtual) < 0)
        python = NULL;
    return take(environment, "VIRTUAL_ENV", python, err);
}

void mi_environment_clear(struct mi_environment *environment)
{
    free(environment->python);
    memset(environment, 0, sizeof(*environment));
}

/* ---- version ------------------------------------------------------------ */

/* Is 'text' a version ("3.12", "3.12.1", "3.12.1.final.0")? */
static int read_version(struct version *version, const char *text)
{
    size_t size = strspn(text, "0123456789abcdefghijklmnopqrstuvwxyz.+");

    if (!isdigit((unsigned char)text[0]) ||
        sscanf(text, "%d.%d", &version->major, &version->minor) != 2)
        return 0;
    snprintf(version->text, sizeof(version->text), "%.*s", (int)size, text);
    return 1;
}

/* The value of a line "version = VALUE" or "version_info = VALUE". */
static const char *version_value(char *line)
{
    char *equals = strchr(line, '=');
    char *end;

    if (!equals)
        return NULL;
    for (end = equals; end > line && isspace((unsigned char)end[-1]); end--)
        ;
    *end = '\0';
    if (strcmp(line, "version") != 0 && strcmp(line, "version_info") != 0)
        return NULL;
    for (equals++; isspace((unsigned char)*equals); equals++)
        ;
    return equals;
}

/* By the pyvenv.cfg in 'directory'. */
static int version_of_venv(struct version *version, const char *directory)
{
    char path[PATH_MAX];
    char line[PATH_MAX];
    const char *value;
    FILE *file;
    int found = 0;

    if (snprintf(path, sizeof(path), "%s/pyvenv.cfg", directory) >=
        (int)sizeof(path))
        return 0;
    file = fopen(path, "re");
    if (!file)
        return 0;
    while (!found && fgets(line, sizeof(line), file)) {
        value = version_value(line);
        found = value && read_version(version, value);
    }
    fclose(file);
    return found;
}

/* By a name such as "python3.12". */
static int version_of_name(struct version *version, const char *path)
{
    const char *name = strrchr(path, '/');

    name = name ? name + 1 : path;
    return strncmp(name, "python", 6) == 0 && read_version(version, name + 6);
}

/* By the only lib/pythonX.Y below 'prefix'. */
static int version_of_prefix(struct version *version, const char *prefix)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *directory;
    int found = 0;

    if (snprintf(path, sizeof(path), "%s/lib", prefix) >= (int)sizeof(path))
        return 0;
    directory = opendir(path);
    if (!directory)
        return 0;
    while ((entry = readdir(directory)))
        found += version_of_name(version, entry->d_name);
    closedir(directory);
    return found == 1;
}

/* Cut off the last component; 0 if there is none. */
static int cut(char *path)
{
    char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return 0;
    *slash = '\0';
    return 1;
}

static int find_version(struct version *version, const char *python)
{
    char path[PATH_MAX];
    char real[PATH_MAX];

    if (strlen(python) >= sizeof(path))
        return 0;
    strcpy(path, python);
    if (!cut(path))
        return 0;
    if (version_of_venv(version, path) ||
        (cut(path) && version_of_venv(version, path)))
        return 1;
    if (!realpath(python, real))
        return 0;
    return version_of_name(version, real) ||
           (cut(real) && cut(real) && version_of_prefix(version, real));
}

/* ---- check -------------------------------------------------------------- */

/* What the user has written, or what stands for it. */
static const char *origin(const struct mi_environment *environment)
{
    return environment->origin ? environment->origin : "built for";
}

static int check_file(const struct mi_environment *environment,
                      struct mi_error *err)
{
    const char *python = environment->python;
    struct stat status;
    int why = 0;

    if (stat(python, &status) != 0)
        why = errno;
    else if (!S_ISREG(status.st_mode))
        why = S_ISDIR(status.st_mode) ? EISDIR : EACCES;
    else if (access(python, X_OK) != 0)
        why = errno;
    if (!why)
        return 0;
    return mi_fail(err, MI_ERRNO, why,
                   "%s: no interpreter %s: %s; name one by " CHOOSER
                   "=/path/bin/python",
                   origin(environment), python, strerror(why));
}

int mi_environment_check(const struct mi_environment *environment, int major,
                         int minor, const char *version, struct mi_error *err)
{
    struct version found;

    if (check_file(environment, err) != 0)
        return -1;
    if (!find_version(&found, environment->python) ||
        (found.major == major && found.minor == minor))
        return 0;
    return mi_fail(err, MI_ERRNO, EINVAL,
                   "%s: %s is of Python %s, and this launcher was built for "
                   "Python %s: build one by 'make PYTHON=%s', or choose "
                   "another environment by " CHOOSER "=/path/bin/python",
                   origin(environment), environment->python, found.text,
                   version, environment->python);
}
