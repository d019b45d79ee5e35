/* tick: have the scheduler choose anew, while this thread may spin.
 *
 * MPICH's MPI_Init waits in barriers of its own that spin.  Where a node has
 * more ranks than processors, each that waits keeps a processor to the end of
 * its time slice, some milliseconds, and what it waits for is done by ranks
 * that are not running: half of the call's time and more.  A thread that wakes
 * for a moment takes the processor from whatever runs there, and whoever has
 * waited longest is next.
 */
#ifndef MPIMIN_TICK_H
#define MPIMIN_TICK_H

#include <pthread.h>

struct mpimin_tick {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    int is_over;
    int is_running;
};

/* Start to tick if 'ranks', those of this node, are more than the processors
 * that this process or its parent, the launcher, may use.  Without a thread
 * there are no ticks.  Local.
 */
void mpimin_tick_start(struct mpimin_tick *tick, int ranks);

/* End it; wait for the thread. */
void mpimin_tick_stop(struct mpimin_tick *tick);

#endif
