/* launch: who started this process, by the variables in its environment.
 *
 * Sources: the environments printed under Hydra, Open MPI 4 and 5; the manual
 * pages srun(1), flux-environment(7); the public headers of PALS.
 */
#include "mpimin.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One way to recognise a launcher: one of 'marks' is set and, if there are
 * any, one of 'needs'.  Rank and size are the first of their variables that
 * holds a number.
 */
struct launcher {
    const char *name;
    const char *marks[4];
    const char *needs[4];
    const char *rank[4];
    const char *size[4];
    const char *local_size;
    enum mpimin_family family;
    int intel;
    int pmix;
    int certain;
};

/* In this order.  A job manager comes after the launchers that are started
 * inside its allocations.
 */
static const struct launcher launchers[] = {
    {.name = "Open MPI (mpiexec)",
     .marks = {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
     .rank = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"},
     .size = {"OMPI_COMM_WORLD_SIZE"},
     .local_size = "OMPI_COMM_WORLD_LOCAL_SIZE",
     .family = MPIMIN_OPENMPI,
     .pmix = 1,
     .certain = 1},
    {.name = "PALS (mpiexec)",
     .marks = {"PALS_RANKID"},
     .rank = {"PALS_RANKID"},
     .size = {"PMI_SIZE"},
     .certain = 1},
    {.name = "ALPS (aprun)",
     .marks = {"ALPS_APP_PE"},
     .rank = {"ALPS_APP_PE"},
     .size = {"PMI_SIZE"},
     .certain = 1},
    {.name = "Intel MPI (mpiexec.hydra)",
     .marks = {"I_MPI_HYDRA_TOPOLIB"},
     .needs = {"PMI_RANK", "PMI_ID"},
     .rank = {"PMI_RANK", "PMI_ID"},
     .size = {"PMI_SIZE"},
     .local_size = "MPI_LOCALNRANKS",
     .family = MPIMIN_MPICH,
     .intel = 1,
     .certain = 1},
    {.name = "Hydra (MPICH's mpiexec)",
     .marks = {"HYDI_CONTROL_FD", "MPI_LOCALRANKID", "PMI_PORT"},
     .needs = {"PMI_RANK", "PMI_ID"},
     .rank = {"PMI_RANK", "PMI_ID"},
     .size = {"PMI_SIZE"},
     .local_size = "MPI_LOCALNRANKS",
     .family = MPIMIN_MPICH,
     .certain = 1},
    {.name = "Flux",
     .marks = {"FLUX_TASK_RANK"},
     .needs = {"FLUX_JOB_SIZE", "PMI_RANK", "PMIX_RANK"},
     .rank = {"FLUX_TASK_RANK"},
     .size = {"FLUX_JOB_SIZE", "PMI_SIZE"},
     .certain = 1},
    /* srun --mpi=pmi2, srun --mpi=pmix, and a batch script or an srun that
     * offers no process management: the last two look alike. */
    {.name = "Slurm (srun)",
     .marks = {"SLURM_PROCID"},
     .needs = {"PMI_RANK"},
     .rank = {"PMI_RANK"},
     .size = {"PMI_SIZE"},
     .certain = 1},
    {.name = "Slurm (srun)",
     .marks = {"SLURM_PROCID"},
     .needs = {"PMIX_RANK"},
     .rank = {"PMIX_RANK"},
     .size = {"SLURM_STEP_NUM_TASKS"},
     .pmix = 1,
     .certain = 1},
    {.name = "Slurm",
     .marks = {"SLURM_PROCID"},
     .rank = {"SLURM_PROCID"},
     .size = {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"},
     .certain = 0},
    {.name = "a PMIx launcher",
     .marks = {"PMIX_RANK"},
     .rank = {"PMIX_RANK"},
     .pmix = 1,
     .certain = 1},
    {.name = "a PMI launcher",
     .marks = {"PMI_RANK"},
     .needs = {"PMI_SIZE"},
     .rank = {"PMI_RANK"},
     .size = {"PMI_SIZE"},
     .certain = 1},
};

static const char *value(const char *name, char *(*get)(const char *name))
{
    const char *text = get(name);

    return text && text[0] ? text : NULL;
}

static int any_set(const char *const *names, char *(*get)(const char *name))
{
    int i;

    for (i = 0; i < 4 && names[i]; i++) {
        if (value(names[i], get))
            return 1;
    }
    return 0;
}

/* The first of 'names' that holds a number of at least 'least', or -1. */
static int number(const char *const *names, int least,
                  char *(*get)(const char *name))
{
    const char *text;
    char *end;
    long n;
    int i;

    for (i = 0; i < 4 && names[i]; i++) {
        text = value(names[i], get);
        if (!text || text[0] < '0' || text[0] > '9')
            continue;
        n = strtol(text, &end, 10);
        if (*end == '\0' && n >= least && n <= INT_MAX)
            return (int)n;
    }
    return -1;
}

static int matches(const struct launcher *launcher,
                   char *(*get)(const char *name))
{
    if (!any_set(launcher->marks, get))
        return 0;
    return !launcher->needs[0] || any_set(launcher->needs, get);
}

void mpimin_promise_read(struct mpimin_promise *promise,
                         char *(*get)(const char *name))
{
    const struct launcher *launcher = NULL;
    const char *local[4] = {NULL};
    int saved = errno;
    size_t i;

    memset(promise, 0, sizeof(*promise));
    promise->rank = -1;
    promise->size = -1;
    promise->local_size = -1;
    for (i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
        if (matches(&launchers[i], get)) {
            launcher = &launchers[i];
            break;
        }
    }
    if (!launcher)
        return;
    local[0] = launcher->local_size;
    snprintf(promise->launcher, sizeof(promise->launcher), "%s",
             launcher->name);
    promise->family = launcher->family;
    promise->intel = launcher->intel;
    promise->pmix = launcher->pmix || (launcher->family == MPIMIN_NONE &&
                                       value("PMIX_RANK", get) != NULL);
    promise->rank = number(launcher->rank, 0, get);
    promise->size = number(launcher->size, 1, get);
    promise->local_size = number(local, 1, get);
    promise->certain = launcher->certain;
    errno = saved;
}

int mpimin_promise_first(char *(*get)(const char *name))
{
    struct mpimin_promise promise;

    mpimin_promise_read(&promise, get);
    return promise.rank <= 0; /* -1: no launcher */
}
