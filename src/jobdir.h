/* A job's private directory on a memory filesystem: made under a name that
 * nobody can guess, marked alive by a lock, removed whatever happens.
 *
 *   TOP/mpiimport-UID-RANDOM/      mode 0700
 *     lock                         flock(2)ed by its owner while that lives
 *     ...                          the store at start-up, or the mirror's tree
 *
 * It goes away when its owner clears it; when the owner is killed, by a guard
 * (a shell that waits for the owner's end) if one was started; and when even
 * the guard was killed, by the next job of the same user, which finds the lock
 * free.  Never followed or removed: what belongs to another user.
 */
#ifndef MI_JOBDIR_H
#define MI_JOBDIR_H

#include <limits.h>

#include "error.h"

#define MI_JOBDIR_PREFIX "mpiimport-"

struct mi_jobdir {
    int dir;   /* descriptor of the directory; -1: none */
    int lock;  /* descriptor of the locked file */
    int guard; /* our end of the guard's pipe; -1: no guard */
    int owner; /* process that made it: only that one removes it */
    char path[PATH_MAX];
};

#define MI_JOBDIR_NONE                                                        \
    {                                                                         \
        .dir = -1, .lock = -1, .guard = -1                                    \
    }

/* Make one in the directory 'top'.  Errors name 'top'. */
int mi_jobdir_create(struct mi_jobdir *jobdir, const char *top,
                     struct mi_error *err);

/* The same, and guarded from before its beginning: there is no time at which a
 * killed process would leave it.
 */
int mi_jobdir_create_guarded(struct mi_jobdir *jobdir, const char *top,
                             struct mi_error *err);

/* Have it removed if this process dies without doing so. */
int mi_jobdir_guard(struct mi_jobdir *jobdir, struct mi_error *err);

/* Remove it with all it holds, and release the lock and the guard.
 * Repeating it, and calling it in a forked child, does no harm.
 */
void mi_jobdir_clear(struct mi_jobdir *jobdir);

/* May what lies in it be executed?  Found out by mapping a file so, as dlopen
 * would.  0, or -1 with EPERM where the filesystem is mounted noexec.
 */
int mi_jobdir_try_execution(const struct mi_jobdir *jobdir,
                            struct mi_error *err);

/* Remove the directories in 'top' that jobs of this user have left behind.
 * Returns how many.  Nothing is done on a filesystem that several machines may
 * share: there nobody can tell by a lock who is alive.
 */
int mi_jobdir_sweep(const char *top);

#endif
