/* What rank 0 found out while it started Python, for the other ranks.
 *
 * Rank 0 starts its interpreter as usual, with the genuine getpath.  The
 * others get the result, and the code of the modules that an interpreter
 * imports before anything can be hooked (encodings, and what options such as
 * -W bring in), so that they start without a look at the tree.
 *
 * Made by src/startup.py, as bytes in the machine's own order; "count" and
 * "size" are uint32_t:
 *
 *   5 texts   prefix, base_prefix, exec_prefix, base_exec_prefix, home
 *   count     and so many modules, each:
 *               size, name (with a NUL)
 *               1 for a package, else 0 (uint32_t)
 *               size, code (as marshal has it)
 *   the rest  is for src/startup.py on the other side
 *
 *   text      size in characters, characters (wchar_t)
 *
 * Source: CPython's "Python Initialization Configuration".
 */
#ifndef MI_STARTUP_H
#define MI_STARTUP_H

#include <Python.h>

#include "error.h"

struct mi_startup {
    void *bytes;            /* as they came; owned */
    struct _frozen *frozen; /* owned; names and code lie in 'bytes' */
    const char *rest;
    size_t rest_size;
};

/* Set the path fields of 'config', and keep the modules.  'bytes' comes from
 * malloc(3) and is taken over in any case.  Returns 0, or -1 with 'err'
 * (MI_FORMAT, or ENOMEM).  Local; the interpreter is pre-initialised.
 */
int mi_startup_take(struct mi_startup *startup, void *bytes, size_t size,
                    PyConfig *config, struct mi_error *err);

/* Initialise the interpreter with it; as usual if it is all zero.  sys.path
 * and some others are not right before startup.restore() has got 'rest'.
 */
PyStatus mi_startup_initialize(struct mi_startup *startup,
                               const PyConfig *config);

/* After the last use of 'rest'; repeating it does no harm. */
void mi_startup_clear(struct mi_startup *startup);

#endif
