/* Who takes requests: one thread, the leader.
 *
 * It takes them from the kernel, works them out, and sends the answers when
 * they are due, so that a request costs few changes from thread to thread.
 * What keeps it for long, a large read or a look at /proc, is done after
 * slow_lead_yield(): another thread leads meanwhile.  The rest is quick if the
 * source is in the machine's memory, as it should be.  All calls are
 * thread-safe.
 */
#ifndef SLOW_LEAD_H
#define SLOW_LEAD_H

#include <stdbool.h>

/* Return as the leader, at once if this thread is it already. */
void slow_lead_take(void);

/* Let another thread lead; no effect in one that does not. */
void slow_lead_yield(void);

bool slow_lead_is_mine(void);

#endif
