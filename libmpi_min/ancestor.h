/* ancestor: the processes that this one descends from, as /proc shows them. */
#ifndef MPIMIN_ANCESTOR_H
#define MPIMIN_ANCESTOR_H

/* Was this job started by an MPI launcher that is installed below 'prefix'?
 *
 * Goes from the parent upwards, through shells, strace(1) and the like, to
 * the first process whose program has a launcher's name (mpiexec...,
 * mpirun..., hydra_..., prte..., orted, orterun, mpispawn); that one decides.
 * Interpreters do not count: a job is not the environment's because a script
 * of the environment has called the system's mpiexec.  The end, without a
 * launcher, is process 1, one whose program may not be read (another user's,
 * such as Slurm's slurmstepd), or the 16th.
 *
 * proc    "/proc", or a test's directory
 * prefix  absolute, no slash at its end; may lead through symbolic links
 *
 * It is below if the path of its program is, or the name that it was called
 * by.  These are only compared as strings.  But if the path has a component
 * like the last one of 'prefix' (/data/venv/bin/mpiexec and /venv), that may
 * be the same directory by a symbolic link: then, and only then, two stat(2)
 * of the program tell.
 *
 * 1 or 0; whatever cannot be read is 0.  Local; thread-safe.
 * Source: proc(5): /proc/PID/stat, /proc/PID/exe, /proc/PID/cmdline.
 */
int mpimin_ancestor_below(const char *proc, const char *prefix);

#endif
