/* The path prefixes of --share and --local. */
#ifndef MI_PREFIXES_H
#define MI_PREFIXES_H

#include "error.h"

/* Add the absolute 'paths', which colons separate, to the end of 'list'
 * (src/list.h), without doubled slashes, dots, and those that it has. 'origin'
 * is the option or the variable they come from.  Returns 0, or -1 with 'err'
 * and part of them added.
 */
int mi_prefixes_add(char ***list, const char *paths, const char *origin,
                    struct mi_error *err);

#endif
