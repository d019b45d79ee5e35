/* Where the system's dynamic linker would find a library by its cache.
 *
 * Source: ld.so(8), ldconfig(8); the format is drawn in ldcache.c.
 */
#ifndef MI_LDCACHE_H
#define MI_LDCACHE_H

#include "error.h"

struct mi_ldcache;

/* Read the cache 'file' (NULL: the system's, /etc/ld.so.cache) into 'cache'.
 * Returns 0, or -1 with 'err' filled and 'cache' untouched: MI_ERRNO when it
 * cannot be read, MI_FORMAT, code 0, when it is truncated, of another machine
 * or of another format (that of glibc before 2.2).  Thread-safe.
 */
int mi_ldcache_open(struct mi_ldcache **cache, const char *file,
                    struct mi_error *err);

/* The absolute path of the library 'name' (bare), for this machine as far as
 * the cache tells them apart: on machines that are not listed in ldcache.c it
 * may be for another, which mi_elf_parse() finds out.  NULL if it is not in
 * the cache, or if its entry is damaged.  The file may be gone.
 *
 * It is the plain variant: where there is another for the processor at hand
 * (in a directory glibc-hwcaps/...), the linker would take that.
 *
 * The path lives as long as the cache.  Thread-safe.
 */
const char *mi_ldcache_find(const struct mi_ldcache *cache, const char *name);

/* Keeps errno; NULL is allowed. */
void mi_ldcache_close(struct mi_ldcache *cache);

#endif
