/* Mailbox of a node: the little that its ranks write to each other.
 *
 * Beside the node store, which mates only read, the ranks of a node share one
 * writable segment: slots for asks, a word to wait for growth of the store, a
 * word to wake the pump, and what the node knows in common (the mirror's
 * place, who has reached the end, what has been said already).  Waiting is by
 * futex(2), with time limits: nobody depends on a wake-up but the pump of a
 * node that is alone, which kicks reach again and again while a rank waits.
 */
#ifndef MI_MAILBOX_H
#define MI_MAILBOX_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "format.h"

struct mi_mailbox;

/* State of the stream, as a rank of the node sees it. */
enum mi_stream {
    MI_STREAM_OPEN = 0, /* asks are answered */
    MI_STREAM_FULL = 1, /* what is in the store is all there will be */
    MI_STREAM_GONE = 2  /* the same, because the pump has ended */
};

/* As mi_store_create() and mi_store_open(). */
int mi_mailbox_create(struct mi_mailbox **box, int dir, const char *name,
                      struct mi_error *err);
int mi_mailbox_create_private(struct mi_mailbox **box, struct mi_error *err);
int mi_mailbox_open(struct mi_mailbox **box, int dir, const char *name,
                    struct mi_error *err);
void mi_mailbox_destroy(struct mi_mailbox *box);

/* ---- growth of the store ------------------------------------------------ */

/* A number that changes whenever the store has grown.  Read it, look for the
 * record, and only then wait with it.
 */
uint32_t mi_mailbox_growth(const struct mi_mailbox *box);
/* Wait until it differs from 'seen', for at most 'milliseconds'. */
void mi_mailbox_wait_growth(struct mi_mailbox *box, uint32_t seen,
                            int milliseconds);
/* The store has grown, or the stream's state has changed.  Writer. */
void mi_mailbox_grown(struct mi_mailbox *box);
/* Is anybody waiting for growth? */
int mi_mailbox_waiters(const struct mi_mailbox *box);

enum mi_stream mi_mailbox_stream(const struct mi_mailbox *box);
/* Only from OPEN to FULL to GONE.  Wakes everybody who waits. */
void mi_mailbox_set_stream(struct mi_mailbox *box, enum mi_stream stream);

/* ---- asks --------------------------------------------------------------- */

/* Leave an ask (mi_ask_pack) for the pump and wake it.  Any rank and thread.
 * Returns 1, or 0 if all slots are taken (try again).
 */
int mi_mailbox_post(struct mi_mailbox *box, const void *message, size_t size);
/* Take one out into 'message' (MI_ASK_MAX bytes): its size, or 0 if there is
 * none.  The pump only.
 */
size_t mi_mailbox_take(struct mi_mailbox *box, void *message);

/* ---- the pump's sleep --------------------------------------------------- */

/* A number that changes with every mi_mailbox_kick(). */
uint32_t mi_mailbox_kicks(const struct mi_mailbox *box);
/* Sleep until it differs from 'seen', for at most 'microseconds' (negative:
 * for ever).  The pump only.
 */
void mi_mailbox_sleep(struct mi_mailbox *box, uint32_t seen,
                      long microseconds);
/* Wake the pump. */
void mi_mailbox_kick(struct mi_mailbox *box);

/* ---- what the node knows in common -------------------------------------- */

/* Count a rank that has reached the end; mi_mailbox_kick() is implied. */
void mi_mailbox_detach(struct mi_mailbox *box);
int mi_mailbox_detached(const struct mi_mailbox *box);

/* Set a bit; returns 1 for the first rank of the node that does. */
int mi_mailbox_first(struct mi_mailbox *box, unsigned bit);
#define MI_FIRST_CRASH 0    /* an uncaught exception is being shown */
#define MI_FIRST_DIRECT 1   /* "modules are loaded directly" has been said */
#define MI_FIRST_MIRROR 2   /* "objects are loaded directly" has been said */
#define MI_FIRST_THREAD 3   /* "no MPI_THREAD_MULTIPLE" has been said */
#define MI_FIRST_END 4      /* trouble at the end has been said */
#define MI_FIRST_MANIFEST 5 /* trouble with the manifest has been said */

/* For what is said about memory: what the user can do. */
#define MI_WAY_OUT                                                            \
    "(-T DIR chooses another directory for it, --max-store SIZE how much of " \
    "it may be used)"

/* Directory below which objects are mirrored; "" until there is one.  Set by
 * the leader once, before the first MIRROR record is published.
 */
void mi_mailbox_set_mirror(struct mi_mailbox *box, const char *path);
const char *mi_mailbox_mirror(const struct mi_mailbox *box);

#endif
