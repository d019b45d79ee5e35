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

/* Does the absolute 'path' lie on the shared tree?  The longest prefix of the
 * two lists decides, 'share' if both have it; shared if none does.
 */
int mi_prefixes_shared(char *const *share, char *const *local,
                       const char *path);

/* Does 'path' lie below one of the prefixes, or is it one? */
int mi_prefixes_has(char *const *list, const char *path);

#endif
