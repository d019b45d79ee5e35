/* Shared objects that hold nothing but names for the dynamic linker.
 *
 * A stub needs libraries, in an order and by the names that its maker chooses.
 * Who opens one has the linker map these; what is opened next finds them
 * loaded under those names, and the linker looks nowhere for it.  So:
 *
 *     mi_stub_open(&stub, flags, &handle, err);
 *     object = dlopen(PATH, flags);
 *     dlclose(handle);
 *
 * Afterwards the object and what it needs are as if it had been opened alone
 *
 *   - if the stub needs PATH first and then its libraries, in the order in
 *     which the linker would come to them (breadth first): what a stub loads
 *     looks up its symbols there in the stub's order;
 *   - and if 'flags' has RTLD_NOW.  What is bound later, when the stub has
 *     been closed, looks up its symbols in itself and what it needs before it
 *     does in the object; with a stub that stays open it is right again.
 *
 * What nothing needs is unmapped by the last call.
 *
 * A library is known to the linker by its SONAME and by each name under which
 * it was asked for.  One without a SONAME is known as "liba.so" only if that
 * was the name, found by way of mi_stub_search(): not if it was "/d/liba.so".
 *
 * Source: System V ABI chapter 5, ld.so(8), dlopen(3), memfd_create(2).
 */
#ifndef MI_STUB_H
#define MI_STUB_H

#include <stddef.h>

#include "error.h"

/* Owned by the caller.  All zero is an empty stub, which needs nothing; to be
 * changed by the functions below only, and by one thread at a time.
 */
struct mi_stub {
    char **needed; /* DT_NEEDED in their order */
    size_t needed_count;
    char *search; /* DT_RPATH; NULL: none */
    char *soname; /* DT_SONAME; NULL: none */
};

/* Each of these copies its string, and returns 0, or -1 with 'err' filled and
 * the stub as it was: MI_ERRNO with EINVAL (a string that is empty or that the
 * linker would not take literally, see there), ENAMETOOLONG (PATH_MAX bytes
 * or more: the linker puts names on its stack), ENOMEM.
 */

/* Need 'name' as well, a path or a bare name; one that is needed already keeps
 * its place.  The linker expands $ORIGIN and the like: the directory of the
 * image, where that is a file (mi_stub_open() has none).
 */
int mi_stub_need(struct mi_stub *stub, const char *name, struct mi_error *err);

/* Look for bare names in 'directory', after those that were given before.  No
 * ':', which separates directories.  Of '$' the same.  It holds for what the
 * needed libraries need in turn, unless they have a RUNPATH, and for what
 * their constructors open; no longer once the stub is closed.  The linker
 * tries the subdirectories for special processors first (glibc-hwcaps), in
 * each directory that has not been found to be without them.
 */
int mi_stub_search(struct mi_stub *stub, const char *directory,
                   struct mi_error *err);

/* Let the stub be known as 'soname', a bare name or a path, instead of what it
 * was before.  With one needed library this is another name for that.  Who
 * needs it by that name keeps the stub loaded, and has the library one step
 * farther down in the order in which symbols are looked up.
 */
int mi_stub_name(struct mi_stub *stub, const char *soname,
                 struct mi_error *err);

/* The stub as a file for this machine, 'size' bytes at 'image', which the
 * caller frees with free(3).  Thread-safe.  Returns 0, or -1 with 'err' filled
 * and the outputs untouched: MI_ERRNO, ENOMEM, or ENOTSUP if this program was
 * linked without its ELF header.
 */
int mi_stub_image(const struct mi_stub *stub, void **image, size_t *size,
                  struct mi_error *err);

/* dlopen(3) the stub, by way of a file in memory that is gone on return.
 * 'flags' are dlopen's; they hold for what is needed, too.  The handle is
 * closed with dlclose(3).  Thread-safe.  Needs /proc.  Returns 0, or -1 with
 * 'err' filled and 'handle' untouched: MI_FORMAT, code 0, with the text of
 * dlerror(3), or MI_ERRNO if there is no such file or no memory.
 */
int mi_stub_open(const struct mi_stub *stub, int flags, void **handle,
                 struct mi_error *err);

/* Free what it holds and make it empty.  Allowed: NULL, an empty stub, a
 * second call.  Keeps errno.
 */
void mi_stub_clear(struct mi_stub *stub);

#endif
