#include "ancestor.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define LEVELS 16
/* PROC/PID/NAME; a longer one is cut off, and is then not there. */
#define NAME_SIZE 512

/* How the names of launchers begin: MPICH and Intel MPI, MVAPICH, Open MPI 5
 * and 6, Open MPI 4.
 */
static const char *const launchers[] = {
    "mpiexec", "mpirun", "hydra_", "mpispawn", "prte", "orted", "orterun"};

static int is_launcher(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t i;

    for (i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
        if (strncmp(name, launchers[i], strlen(launchers[i])) == 0)
            return 1;
    }
    return 0;
}

/* The beginning of the file 'name', as a string.  -1: not to be read. */
static int read_start(const char *name, char *text, size_t size)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0)
        return -1;
    got = read(fd, text, size - 1);
    close(fd);
    if (got < 0)
        return -1;
    text[got] = '\0';
    return 0;
}

/* The parent of 'who', a number or "self"; 0 if it has none that can be seen.
 * The name in the second field may hold anything, also ") R 1"; what follows
 * it holds no parenthesis.
 */
static long parent_of(const char *proc, const char *who)
{
    char name[NAME_SIZE];
    char text[512];
    const char *end;
    long parent;

    snprintf(name, sizeof(name), "%s/%s/stat", proc, who);
    if (read_start(name, text, sizeof(text)) < 0)
        return 0;
    end = strrchr(text, ')');
    if (!end || sscanf(end, ") %*c %ld", &parent) != 1)
        return 0;
    return parent;
}

static int is_below(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(path, prefix, length) == 0 && path[length] == '/';
}

static int is_same_file(const char *a, const char *b)
{
    struct stat one;
    struct stat two;

    return stat(a, &one) == 0 && stat(b, &two) == 0 &&
           one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

/* Is 'exe' below 'prefix', if that leads through symbolic links? */
static int is_below_linked(const char *exe, const char *prefix)
{
    const char *last = strrchr(prefix, '/');
    char path[PATH_MAX];
    const char *at;
    int length;

    if (!last || !last[1])
        return 0;
    for (at = strchr(exe, '/'); at; at = strchr(at + 1, '/')) {
        if (!is_below(at, last))
            continue;
        length =
            snprintf(path, sizeof(path), "%s%s", prefix, at + strlen(last));
        if (length > 0 && (size_t)length < sizeof(path) &&
            is_same_file(path, exe))
            return 1;
    }
    return 0;
}

static int launcher_below(const char *process, const char *exe,
                          const char *prefix)
{
    char name[NAME_SIZE];
    char called[PATH_MAX];

    if (is_below(exe, prefix))
        return 1;
    snprintf(name, sizeof(name), "%.480s/cmdline", process);
    if (read_start(name, called, sizeof(called)) == 0 &&
        is_below(called, prefix))
        return 1;
    return is_below_linked(exe, prefix);
}

int mpimin_ancestor_below(const char *proc, const char *prefix)
{
    char process[NAME_SIZE];
    char name[NAME_SIZE];
    char exe[PATH_MAX];
    char who[24] = "self";
    ssize_t length;
    long pid = 0;
    int i;

    for (i = 0; i < LEVELS && pid != 1; i++) {
        pid = parent_of(proc, who);
        if (pid <= 0)
            return 0;
        snprintf(who, sizeof(who), "%ld", pid);
        snprintf(process, sizeof(process), "%.400s/%s", proc, who);
        snprintf(name, sizeof(name), "%.480s/exe", process);
        length = readlink(name, exe, sizeof(exe) - 1);
        if (length <= 0)
            return 0;
        exe[length] = '\0';
        if (is_launcher(exe))
            return launcher_below(process, exe, prefix);
    }
    return 0;
}
