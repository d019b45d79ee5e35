/* Who asked for what: requests by process and kind.
 *
 * A request comes with the number of a thread.  Which process that belongs to,
 * and which rank of an MPI job the process is, /proc tells: its environment
 * has what the job's launcher has put there.  A process has no such variable
 * before its execve(2), which may be what asks first; so one without is looked
 * at again, a limited number of times.
 *
 * All calls are thread-safe.
 */
#ifndef SLOW_CENSUS_H
#define SLOW_CENSUS_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum slow_kind {
    SLOW_LOOKUP = 0, /* a name in a directory, also one that is not there */
    SLOW_GETATTR = 1,
    SLOW_ACCESS = 2,
    SLOW_READLINK = 3,
    SLOW_OPENDIR = 4,
    SLOW_READDIR = 5, /* some kibibytes of a listing, or its end */
    SLOW_OPEN = 6,
    SLOW_READ = 7,
    SLOW_OTHER = 8, /* statfs */
};
#define SLOW_KINDS 9

/* Count a request of 'thread', which was answered with 'bytes' of a file.  The
 * lead (lead.h) may be given up.
 */
void slow_census_count(pid_t thread, enum slow_kind kind, uint64_t bytes);

/* Print the list of processes as JSON, without a newline:
 * [{"pid": N, "rank": N or null, "name": "...", "lookup": N, ..., "other": N,
 * "bytes": N}, ...]
 */
void slow_census_print(FILE *stream);

/* Forget all processes. */
void slow_census_reset(void);

#endif
