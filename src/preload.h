/* Libraries of the system that are opened ahead of an object that needs them.
 *
 * The dynamic linker takes what is loaded already by its SONAME, and looks
 * nowhere.  So an object whose own search path would send it to the shared
 * tree, in vain, finds the system's libraries without a look.
 * Source: ld.so(8), dlopen(3).
 */
#ifndef MI_PRELOAD_H
#define MI_PRELOAD_H

#include "format.h"

struct mi_preload;

/* The MIRROR record of the object 'path', or NULL. */
typedef const struct mi_record *mi_preload_find(const void *arg,
                                                const char *path);

/* NULL when there is no memory.  Never freed: what is open stays open. */
struct mi_preload *mi_preload_create(void);

/* Before the object of that record is opened: open the system's libraries that
 * it needs, and that what it needs on the tree needs (mi_record_before()),
 * each once per process.  One of whose name there is another on the tree is
 * left to the linker, as is one that cannot be opened.  Thread-safe.
 */
void mi_preload_before(struct mi_preload *preload,
                       const struct mi_record *record, mi_preload_find *find,
                       const void *arg);

#endif
