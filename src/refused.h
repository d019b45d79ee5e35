/* What was refused by the mirror or the store, and is loaded directly: a list
 * for the report.
 *
 * Bounded: what comes later is only counted.  Thread-safe.  NULL stands for a
 * list that nobody wants.
 */
#ifndef MI_REFUSED_H
#define MI_REFUSED_H

#include <stddef.h>

#define MI_REFUSED_MOST 1000 /* entries that are kept */

struct mi_refused;

/* NULL when there is no memory. */
struct mi_refused *mi_refused_create(void);
void mi_refused_destroy(struct mi_refused *refused);

/* Note that 'path' was refused, and why (one line).  Both are copied.  A path
 * that is in the list stays as it is; without memory it is only counted.
 */
void mi_refused_add(struct mi_refused *refused, const char *path,
                    const char *why);
/* Entry number i, in the order of addition: 1, or 0 past the last.  The
 * strings live as long as the list.
 */
int mi_refused_get(struct mi_refused *refused, size_t i, const char **path,
                   const char **why);
/* How many there are, those that were only counted included. */
size_t mi_refused_count(struct mi_refused *refused);

#endif
