/* Preloading: an object's libraries are given to the dynamic linker, so that
 * it looks for none of them on the shared tree.
 *
 * An object that is loaded from the mirror may name directories of the tree in
 * its search path, or LD_LIBRARY_PATH may: then the linker of each rank would
 * look there, for what is in the mirror, and in vain for the system's
 * libraries.  So a stub (src/stub.h) is opened first, which needs the object
 * and all its libraries by the names that they are asked for, in the linker's
 * own order; the linker takes what is loaded, and looks nowhere.  The copies
 * in the mirror stay as they are: their search paths also hold for the dlopen
 * calls that they make themselves.
 *
 * Source: ld.so(8), dlopen(3).
 */
#ifndef MI_PRELOAD_H
#define MI_PRELOAD_H

#include "format.h"

struct mi_preload;

/* How records are found, and where objects are. */
struct mi_preload_config {
    /* The MIRROR record of an object's path, or NULL. */
    const struct mi_record *(*find)(const void *arg, const char *path);
    /* Where that object is to be opened, in 'place' (PATH_MAX): its copy, or
     * its own path if it has none.  0 if it cannot be told.
     */
    int (*place)(const void *arg, const struct mi_record *record, char *place);
    const void *arg;
    int library_path; /* LD_LIBRARY_PATH was set when the process began */
};

/* NULL when there is no memory.  Never freed: what it remembers is loaded. */
struct mi_preload *mi_preload_create(const struct mi_preload_config *config);

/* Before the object of 'record' is opened with dlopen(3) and 'flags': give the
 * linker what it needs, if it has to be helped.  Returns a handle to be closed
 * by mi_preload_close() when the object is open, or could not be opened; NULL
 * if there is nothing to do, or nothing that can be done: then the linker
 * looks for itself, which is right, only slow.  'err' is cleared, or says why
 * the linker could not do it (MI_FORMAT, dlerror(3)'s words).  With 'self'
 * zero the object itself is left out.  Constructors of libraries run.
 * Thread-safe.
 */
void *mi_preload_open(struct mi_preload *preload,
                      const struct mi_record *record, int self, int flags,
                      struct mi_error *err);
void mi_preload_close(void *handle);

#endif
