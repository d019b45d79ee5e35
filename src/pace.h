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

/* The begin of an answer, in the thread that makes it. */
struct mi_lap {
    uint64_t wall, cpu; /* clocks */
    uint64_t delay;     /* time in which it could have run, and others did */
    long gone;          /* how often the thread has gone to sleep */
};

void mi_lap_begin(struct mi_lap *lap);
/* Turn it into what has passed since, in the same thread. */
void mi_lap_end(struct mi_lap *lap);

/* Count an answer.  What others had the processor for is no waiting; where the
 * kernel does not tell, one during which its thread has never slept is none.
 */
void mi_pace_add(struct mi_pace *pace, const struct mi_lap *lap);
/* Did the threads wait for at least half of the time? */
int mi_pace_waits(const struct mi_pace *pace);

#endif
