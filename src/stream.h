/* Stream: what both ends of it have in common.  Root's is the sender, a
 * follower's the receiver; the frames between them are drawn in format.h.
 *
 * Part of the pump, whose configuration they share.  For the pump's thread
 * only.
 */
#ifndef MI_STREAM_H
#define MI_STREAM_H

#include <stddef.h>

#include "error.h"
#include "pump.h"

/* Messages between the leaders, beside the frames. */
enum mi_tag {
    MI_TAG_ASK = 1, /* to root: mi_ask_pack */
    MI_TAG_DONE,    /* to root: a whole node has detached; an int */
    MI_TAG_WAKE     /* to a follower: frames come again; empty */
};

/* Receive a message if one is there: *got says so, and *size is that of what
 * is in 'message', which has 'room' bytes.  One that is larger is an error.
 */
int mi_stream_receive(const struct mi_pump_config *config, enum mi_tag tag,
                      void *message, size_t room, size_t *size, int *got,
                      struct mi_error *err);

/* Tell the user that this node goes without something: 'first' as in
 * mailbox.h, 'what' has happened, and why.
 */
void mi_stream_say(const struct mi_pump_config *config, unsigned first,
                   const char *what, const struct mi_error *why);

#endif
