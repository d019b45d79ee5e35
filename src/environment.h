/* Which Python environment the native launcher runs.
 *
 * An environment is named by its interpreter.  That is never executed, only
 * its place matters; ranks and their children see it as sys.executable.
 * Source: PEP 405 (pyvenv.cfg).
 */
#ifndef MI_ENVIRONMENT_H
#define MI_ENVIRONMENT_H

#include "error.h"

struct mi_environment {
    char *python;       /* absolute path of the interpreter */
    const char *origin; /* the variable that names it, or NULL: built in */
};

/* Choose by PYTHON_MPI_PYTHON (a path), VIRTUAL_ENV (a directory), or else
 * 'built', the interpreter that this was built for; variables are asked
 * through 'get' (getenv(3)).  No file is looked at.  The caller clears.
 * Returns 0, or -1 with 'err'.  Local.
 */
int mi_environment_choose(struct mi_environment *environment,
                          const char *built, char *(*get)(const char *name),
                          struct mi_error *err);

/* Is the interpreter there, and of the version 'major'.'minor' of 'version'
 * (such as "3.11.7", for messages)?  A version that cannot be found out is
 * taken to be right.  Reads the filesystem: for root.  Returns 0, or -1 with
 * 'err', which names both versions and the way out.
 */
int mi_environment_check(const struct mi_environment *environment, int major,
                         int minor, const char *version, struct mi_error *err);

/* Repeating it does no harm. */
void mi_environment_clear(struct mi_environment *environment);

#endif
