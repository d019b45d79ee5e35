/* Early: who is reading which object, before its closure is at it.
 *
 * Closures are made one at a time, since they share libraries; what takes
 * long is to read the files.  So a thread reads the object that it was asked
 * for before it waits for its turn, and whichever closure needs that object
 * takes what was read, if need be once it is complete.  Who reads early waits
 * for nobody.  Thread-safe.
 */
#ifndef MI_EARLY_H
#define MI_EARLY_H

#include "copy.h"
#include "error.h"

struct mi_early;

int mi_early_create(struct mi_early **early, struct mi_error *err);
/* When all that was begun has ended.  NULL is allowed. */
void mi_early_destroy(struct mi_early *early);

/* The caller is going to read 'path' (which stays its own, until the end): 1.
 * 0: somebody else is at it, or there is no memory.  Has to be followed by
 * mi_early_end(), in the same thread.
 */
int mi_early_begin(struct mi_early *early, const char *path);

/* Hand over what was read: 'copy' is not the caller's any more.  NULL: it
 * could not be.  Wakes those who wait for it.
 */
void mi_early_give(struct mi_early *early, const char *path,
                   const struct mi_copy *copy);

/* Take what somebody has read, or is reading: 1 with 'copy', which is the
 * caller's, or 0: there is nothing.
 */
int mi_early_take(struct mi_early *early, const char *path,
                  struct mi_copy *copy);

/* The end of what mi_early_begin() has begun: 1 with 'copy', which is the
 * caller's, if nobody took it, or 0.
 */
int mi_early_end(struct mi_early *early, const char *path,
                 struct mi_copy *copy);

#endif
