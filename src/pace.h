/* Pace: do threads that read wait for the filesystem, or do they work?
 *
 * More threads help as long as those that there are wait: on a local disk one
 * or two do all, far away many have to ask at the same time.  Counted in
 * nanoseconds, of the last few answers above all.
 */
#ifndef MI_PACE_H
#define MI_PACE_H

#include <stdint.h>

/* Zero: nothing is known.  Not thread-safe. */
struct mi_pace {
    uint64_t wall, waited;
};

/* An answer that a thread makes: how long it took, and for how much of that
 * the filesystem had the thread wait.
 */
struct mi_lap {
    uint64_t wall, waited;
    uint64_t called; /* the clock at mi_lap_call() */
    long sleeps;     /* of the thread until then */
};

/* It begins in the calling thread. */
void mi_lap_begin(struct mi_lap *lap);
/* Turn it into what has passed since, in the same thread. */
void mi_lap_end(struct mi_lap *lap);

/* Around a system call that may have to wait for the filesystem; they keep
 * errno, and do nothing in a thread without a lap.  It has waited if the
 * thread has gone to sleep, which it does not where others take the processor
 * from it.  For locks of ours it may wait outside of these.
 * Source: getrusage(2), ru_nvcsw.
 */
void mi_lap_call(void);
void mi_lap_return(void);

/* Count an answer.  1 if the filesystem had its thread wait for at least half
 * of the time, as well as the threads lately: one more of them makes sense.
 */
int mi_pace_add(struct mi_pace *pace, const struct mi_lap *lap);

/* Is that so as well when what does not count is left out: the time in which
 * the thread could have run, but others had the processors?  In the thread of
 * the lap, after its end; what was before the lap counts, too, unless the last
 * call's result was 0.
 * Source: proc(5), /proc/pid/schedstat (Documentation/scheduler/sched-stats).
 */
int mi_lap_slept(const struct mi_lap *lap);

#endif
