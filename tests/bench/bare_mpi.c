/* A bare MPI program: what MPI itself costs a process.
 *
 *     bare_mpi FILE LIBRARY...  open the first LIBRARY that is there, then
 *                               MPI_Init and MPI_Finalize; FILE gets the
 *                               seconds of the three, on one line
 *     bare_mpi                  nothing: what a process costs
 *
 * Needs no mpi.h: the two calls have the same C signature in every MPI.
 * Status: 0, or 1 with a message.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef int init_call(int *argc, char ***argv);
typedef int finalize_call(void);

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int complain(const char *what)
{
    fprintf(stderr, "bare_mpi: %s\n", what);
    return 1;
}

/* Open the first that is there, as a linked program has it: for all. */
static void *open_library(char **names)
{
    void *found = NULL;

    for (; *names && !found; names++)
        found = dlopen(*names, RTLD_LAZY | RTLD_GLOBAL);
    return found;
}

static int write_seconds(const char *name, const double *stamps)
{
    FILE *file = fopen(name, "w");

    if (!file)
        return complain(name);
    fprintf(file, "%.9f %.9f %.9f\n", stamps[1] - stamps[0],
            stamps[2] - stamps[1], stamps[3] - stamps[2]);
    return fclose(file) == 0 ? 0 : complain(name);
}

int main(int argc, char **argv)
{
    init_call *init = NULL;
    finalize_call *finalize = NULL;
    void *library, *symbol;
    double stamps[4];

    if (argc < 3)
        return 0;
    stamps[0] = now();
    library = open_library(argv + 2);
    if (!library)
        return complain("no MPI library");
    symbol = dlsym(library, "MPI_Init");
    memcpy(&init, &symbol, sizeof(symbol));
    symbol = dlsym(library, "MPI_Finalize");
    memcpy(&finalize, &symbol, sizeof(symbol));
    if (!init || !finalize)
        return complain("not an MPI library");
    stamps[1] = now();
    if (init(NULL, NULL) != 0)
        return complain("MPI_Init failed");
    stamps[2] = now();
    if (finalize() != 0)
        return complain("MPI_Finalize failed");
    stamps[3] = now();
    return write_seconds(argv[1], stamps);
}
