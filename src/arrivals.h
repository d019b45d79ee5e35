/* Arrivals: objects that a follower receives before the records that name
 * them.
 *
 * Their pieces are received in place, into the mirror's shared memory.  Who
 * has been given room there by mi_arrivals_room() may have MPI write to it, so
 * that nothing is unmapped before the receiver says that nothing is on its
 * way.
 *
 * Part of the receiver.  For the pump's thread only.
 */
#ifndef MI_ARRIVALS_H
#define MI_ARRIVALS_H

#include "error.h"
#include "format.h"
#include "pump.h"

struct mi_arrival;

/* Zero but for 'config', which is borrowed: nothing has arrived. */
struct mi_arrivals {
    const struct mi_pump_config *config;
    struct mi_arrival *held; /* the one being filled in first; whole ones
                              * behind */
    int lost;     /* there is none to be filled in: its pieces are dropped */
    int dropping; /* all that is held, as soon as nothing is on its way */
};

/* The first piece of an object has come: make room for all; without, its
 * pieces are dropped.
 */
void mi_arrivals_begin(struct mi_arrivals *arrivals,
                       const struct mi_frame *frame);
/* Where a piece goes; NULL: it is to be dropped.  Lives until the record has
 * come, or mi_arrivals_clear().  -1: it is of another object.
 */
int mi_arrivals_room(const struct mi_arrivals *arrivals,
                     const struct mi_frame *frame, void **room,
                     struct mi_error *err);
/* A record has come, and is not published yet: what it names is put in place.
 */
void mi_arrivals_place(struct mi_arrivals *arrivals,
                       const struct mi_record *record);
/* The records of what is held will not come.  MPI may be writing to it: so
 * this only says that mi_arrivals_clear() is to be called.
 */
void mi_arrivals_drop(struct mi_arrivals *arrivals);
/* Give up all that is held.  Nothing may be on its way. */
void mi_arrivals_clear(struct mi_arrivals *arrivals);

#endif
