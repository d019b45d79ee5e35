/* Libraries of the system that are opened ahead of an object that needs them.
 *
 * The dynamic linker takes what is loaded already by its SONAME, and looks
 * nowhere.  So an object whose own search path would send it to the shared
 * tree, in vain, finds the system's libraries without a look.
 * Source: ld.so(8), dlopen(3).
 */
#ifndef MI_PRELOAD_H
#define MI_PRELOAD_H

struct mi_preload;

/* NULL when there is no memory.  Never freed: what is open stays open. */
struct mi_preload *mi_preload_create(void);

/* Is 'name' seen for the first time?  Thread-safe; also 0 without memory. */
int mi_preload_first(struct mi_preload *preload, const char *name);

/* Open the library 'name' for good; that it is not there is no error. */
void mi_preload_open(const char *name);

#endif
