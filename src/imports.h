/* Imports: what a module imports when it is executed, told from its bytecode.
 *
 * Nothing is executed.  What counts are the import statements of the module
 * itself, not those in its functions and classes, that can be reached without
 * an exception, and that conditions do not exclude which hold everywhere on
 * this platform: TYPE_CHECKING, __name__, os.name, sys.platform and
 * sys.version_info.
 * Source: CPython's documentation of the module dis; Python/bytecodes.c.
 */
#ifndef MI_IMPORTS_H
#define MI_IMPORTS_H

#include <stddef.h>

#include "error.h"

/* Bytes of an import's names, terminators included. */
#define MI_IMPORT_TEXT 4096

/* One import statement.  The texts live for the call that they are given to.
 */
struct mi_import {
    int level;        /* leading dots */
    const char *name; /* "a.b", or "" after dots alone */
    /* "c", "d" of "from a.b import c, d", each terminated, and an empty one
     * behind the last.  "from a.b import *" has none.
     */
    const char *from;
};

/* Call 'each' for every import of marshalled code, in the order of the code.
 *   magic    first two bytes of a .pyc of its version, little-endian
 *   program  it is executed as __main__
 * Names that do not fit in MI_IMPORT_TEXT are left out.
 * Fails with MI_FORMAT for damaged code and for an unknown version.
 * Thread-safe.
 */
int mi_imports_scan(const void *code, size_t size, unsigned magic, int program,
                    void (*each)(void *arg, const struct mi_import *import),
                    void *arg, struct mi_error *err);

#endif
