/* Sender: root's end of the stream.
 *
 * Broadcasts the growth of root's arena and the mirrored objects in frames
 * (format.h), in order, a few of them under way at once.  When there has been
 * nothing to send for a while, it is told to send PARK; with the next frame it
 * wakes all followers itself.
 *
 * Part of the pump.  Root only, for the pump's thread only: each call is of
 * MPI.  After an error the stream has broken: MPI may still be using the
 * buffers, so that the sender must be kept.
 */
#ifndef MI_SENDER_H
#define MI_SENDER_H

#include <stdatomic.h>

#include "error.h"
#include "pump.h"

struct mi_sender;

/* 'config' is borrowed and outlives the sender, as does 'bytes', to which what
 * has been sent is added, headers included.  Local.
 */
int mi_sender_create(struct mi_sender **sender,
                     const struct mi_pump_config *config,
                     atomic_uint_fast64_t *bytes, struct mi_error *err);
/* Free, when all frames are out.  NULL is allowed. */
void mi_sender_destroy(struct mi_sender *sender);

/* One round: see which frames are out, and send the next one, if any; *busy is
 * set if anything was to do.  If nothing was, not before either (*busy), and
 * all there is has been sent, *all is 1: mi_sender_park() and mi_sender_end()
 * are for that moment only.
 */
int mi_sender_send(struct mi_sender *sender, int *busy, int *all,
                   struct mi_error *err);
/* Have the followers expect no broadcast until there is something to send.
 * Does nothing if they do not, or are still being told of the last end of
 * that.
 */
int mi_sender_park(struct mi_sender *sender, struct mi_error *err);
/* Send END, and wait until the last frames are out. */
int mi_sender_end(struct mi_sender *sender, struct mi_error *err);

#endif
