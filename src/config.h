/* From the launcher's options and variables to the configuration of a job. */
#ifndef MI_CONFIG_H
#define MI_CONFIG_H

#include "error.h"
#include "identity.h"
#include "job.h"
#include "options.h"

/* 'job' points into the others, and into the options it was made from. */
struct mi_config {
    struct mi_job_config job;
    char *tmpdir;
    char *libdir;
    char **local; /* the options', and what is the node's own anyhow */
    struct mi_identity identity;
};

/* Fill 'config' but for job.rule and job.optimize, which only an interpreter
 * knows, and job.launcher.  'python'
 * is the path of the environment's interpreter, or NULL: MPI's library may lie
 * in lib/ beside its bin/.  The PYTHON_MPI_* variables for tuning are asked
 * through 'get' (getenv(3)).  No file is looked at.  Returns 0, or -1 with
 * 'err' (EINVAL for a variable that is no number).  The caller clears in any
 * case; 'options' has to live as long.  Local.
 */
int mi_config_make(struct mi_config *config, const struct mi_options *options,
                   const char *python, char *(*get)(const char *name),
                   struct mi_error *err);

/* Then, with job.rule and job.optimize: job.manifest and job.manifest_key.
 * Arguments and result as above.
 */
int mi_config_identify(struct mi_config *config,
                       const struct mi_options *options, const char *python,
                       char *(*get)(const char *name), struct mi_error *err);

/* Repeating it does no harm. */
void mi_config_clear(struct mi_config *config);

#endif
