/* Shelf: what files hold, read ahead for a rank that is alone.
 *
 * Threads of its reader put the contents of files there before the program
 * asks for them.  Each is taken once; what the program has asked for already
 * is not put there any more.  There is room for MI_SHELF_BYTES; when it is
 * full, threads wait until half of that has been taken.  What the program has
 * passed by (it takes what was put there much later) is thrown away, so that
 * it does not stand in the way for good.
 *
 * Of one process, thread-safe.
 */
#ifndef MI_SHELF_H
#define MI_SHELF_H

#include "error.h"
#include "files.h"
#include "format.h"

#define MI_SHELF_BYTES (2u << 20) /* then the reading waits */
#define MI_SHELF_PASSED 64        /* answers: so much earlier is passed by */

struct mi_shelf;

int mi_shelf_create(struct mi_shelf **shelf, struct mi_error *err);
/* Nobody waits here any more, and nothing more is put. */
void mi_shelf_close(struct mi_shelf *shelf);
/* No other thread uses it any more.  NULL is allowed. */
void mi_shelf_destroy(struct mi_shelf *shelf);

/* Is the answer still to be read?  Waits for room.  1: the caller has to, and
 * to put it; 0: not that, or no memory.
 */
int mi_shelf_begin(struct mi_shelf *shelf, enum mi_query query,
                   const char *key);
/* Put it, which takes over what the answer owns.  NULL: it could not be had.
 */
void mi_shelf_put(struct mi_shelf *shelf, enum mi_query query, const char *key,
                  struct mi_answer *answer);

/* Take an answer, also one that is just being read.  1 with *answer, to be
 * cleared, its key being 'key'; 0: the caller reads for itself.
 */
int mi_shelf_take(struct mi_shelf *shelf, enum mi_query query, const char *key,
                  struct mi_answer *answer);

#endif
