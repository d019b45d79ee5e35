/* Receiver: a follower's end of the stream.
 *
 * Expects root's frames (format.h) in order, puts their records into the node
 * store, and the objects where these say (arrivals.h).  A node that can hold
 * no more follows the stream to its end all the same.
 *
 * Part of the pump.  Followers only, for the pump's thread only: each call is
 * of MPI.  After an error the stream has broken: MPI may still be using the
 * buffers, so that the receiver must be kept.
 */
#ifndef MI_RECEIVER_H
#define MI_RECEIVER_H

#include <stdatomic.h>

#include "error.h"
#include "pump.h"

struct mi_receiver;

/* 'config' is borrowed and outlives the receiver, as does 'bytes', to which
 * what has been received is added, headers included.  Local.
 */
int mi_receiver_create(struct mi_receiver **receiver,
                       const struct mi_pump_config *config,
                       atomic_uint_fast64_t *bytes, struct mi_error *err);
/* Free, after the end of the stream; objects whose records have not come are
 * given up.  NULL is allowed.
 */
void mi_receiver_destroy(struct mi_receiver *receiver);

/* One round: receive as much as is there; *busy is set if that is anything.
 * While the stream is parked only root's message is looked for.
 */
int mi_receiver_receive(struct mi_receiver *receiver, int *busy,
                        struct mi_error *err);
/* Has END come? */
int mi_receiver_ended(const struct mi_receiver *receiver);

#endif
