/* Pump: the thread that copies what root has read into every node store.
 *
 * One per leader, and the only caller of MPI between start-up and the end.
 * Root's sends its arena's growth and the mirrored objects, in order, as
 * frames (format.h) over the communicator of the leaders, and hands the asks
 * of all ranks to the reader.  A follower's appends frames to its node store
 * and forwards its node's asks.  With a single node there is no stream, and
 * the pump hands over asks only.
 *
 * At rest: without a stream the pump sleeps until it is kicked.  With one it
 * looks for messages, the less often the longer nothing has happened, and when
 * root has had nothing to send for a second it sends the frame PARK: then no
 * broadcast is under way, and none is expected until root has sent a message
 * to each follower.
 *
 * The end: a leader whose whole node has detached (mi_mailbox_detach) says
 * so to root; when all have, root sends the frame END, and all pumps stop.
 */
#ifndef MI_PUMP_H
#define MI_PUMP_H

#include <stdint.h>

#include "error.h"
#include "mailbox.h"
#include "mirror.h"
#include "mpimin.h"
#include "reader.h"
#include "store.h"

struct mi_pump;

/* All handles are borrowed and outlive the pump. */
struct mi_pump_config {
    struct mpimin *mpi;
    mpimin_comm leaders; /* 0: this node is on its own */
    int rank;            /* among the leaders; 0 is root */
    int size;
    int mates; /* ranks on this node, this one included */
    struct mi_store *store;
    struct mi_mailbox *mailbox;
    struct mi_mirror *mirror; /* NULL: objects are received and dropped */
    struct mi_reader *reader; /* root's; NULL on followers */
    void (*notice)(void *arg, unsigned first, const char *text);
    void *arg;
};

/* Start the thread.  The handle lives as long as the process.  Local. */
int mi_pump_start(struct mi_pump **pump, const struct mi_pump_config *config,
                  struct mi_error *err);

/* Wait for the end described above, and release everything but the count of
 * bytes.  All mates of this node, this rank included, must have detached or be
 * about to.  Collective over the leaders.  -1 if the stream has broken: then
 * the other leaders wait in vain, and nothing but MPI_Abort ends them.
 */
int mi_pump_finish(struct mi_pump *pump);

/* Bytes that root has sent, or this leader received, headers included. */
uint64_t mi_pump_bytes(const struct mi_pump *pump);

#endif
