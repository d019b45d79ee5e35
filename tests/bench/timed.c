/* Run a command and note how long its process lived.
 *
 *     timed FILE COMMAND [ARGUMENT...]
 *
 * FILE gets, on one line, the seconds from just before the process is made to
 * the moment its end is known, and its processor seconds.  Below mpiexec this
 * is the rank's own time, without mpiexec's.
 * Status: the command's, 128 + signal, or 127 if it could not be started.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double seconds(const struct timeval *time)
{
    return (double)time->tv_sec + 1e-6 * (double)time->tv_usec;
}

static int write_times(const char *name, double wall,
                       const struct rusage *usage)
{
    FILE *file = fopen(name, "w");

    if (!file)
        return -1;
    fprintf(file, "%.9f %.6f\n", wall,
            seconds(&usage->ru_utime) + seconds(&usage->ru_stime));
    return fclose(file);
}

int main(int argc, char **argv)
{
    struct rusage usage;
    double start, wall;
    int status, error;
    pid_t child;

    if (argc < 3) {
        fprintf(stderr, "usage: timed FILE COMMAND [ARGUMENT...]\n");
        return 2;
    }
    start = now();
    error = posix_spawnp(&child, argv[2], NULL, NULL, argv + 2, environ);
    if (error) {
        fprintf(stderr, "timed: %s: %s\n", argv[2], strerror(error));
        return 127;
    }
    while (wait4(child, &status, 0, &usage) < 0) {
        if (errno != EINTR)
            return 127;
    }
    wall = now() - start;
    if (write_times(argv[1], wall, &usage) != 0) {
        fprintf(stderr, "timed: %s: %s\n", argv[1], strerror(errno));
        return 127;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
