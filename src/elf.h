/* The dynamic section of a shared object, read from its bytes in memory, and
 * the search paths in it.
 *
 * Nothing here opens, maps or reads a file.  All functions are thread-safe.
 * Sources: System V ABI chapters 4 and 5 (object files, dynamic linking),
 * ld.so(8) for the meaning of RPATH, RUNPATH and $ORIGIN.
 */
#ifndef MI_ELF_H
#define MI_ELF_H

#include <stddef.h>

#include "error.h"

/* What an object says about its dependents.
 *
 * Every string points INTO the image given to mi_elf_parse(): it lives as
 * long as the image does and changes when the image does.  Only the array
 * 'needed' is allocated.
 *
 * Offsets (from the start of the image) and lengths are in bytes, lengths
 * without the terminating zero; both are 0 where the string is NULL.  Whoever
 * rewrites a string in place: static linkers let strings share their bytes
 * (one may be the tail of another, or of a symbol's name).
 */
struct mi_elf {
    size_t needed_count;
    const char **needed; /* DT_NEEDED in the object's order; NULL if none */
    const char *soname;  /* DT_SONAME, DT_RPATH, DT_RUNPATH; NULL if absent */
    const char *rpath;
    const char *runpath;
    size_t rpath_offset;
    size_t rpath_length;
    size_t runpath_offset;
    size_t runpath_length;
    const char *strings; /* the whole string table, and its size in bytes */
    size_t strings_size;
};

/* Parse the 'size' bytes at 'image' (of any alignment) into 'elf', whose old
 * contents are not looked at; the caller clears it with mi_elf_clear().
 *
 * Accepted are executables and shared objects, 64-bit, little-endian, for the
 * machine that this was compiled for.  What the dynamic linker would take from
 * the file must be there: an image that ends before a PT_LOAD segment does is
 * refused, so a truncated object is found here and not by a SIGBUS (one that
 * only lost its section headers is whole).  An object without a dynamic
 * section is accepted and needs nothing.  Of a tag that may appear once the
 * last one counts, as in glibc.
 *
 * Returns 0, or -1 with 'err' filled and 'elf' untouched: MI_FORMAT, code 0,
 * for an image that is refused (the text does not name the file: use
 * mi_fail_context()), MI_ERRNO when memory is short.
 */
int mi_elf_parse(const void *image, size_t size, struct mi_elf *elf,
                 struct mi_error *err);

/* The same judgement, but for the dynamic section, of an object of 'size'
 * bytes of which only the first 'head_size' are at 'head'.  Headers of
 * segments that lie behind those are not looked at.  A page is enough for what
 * linkers make.
 */
int mi_elf_check(const void *head, size_t head_size, size_t size,
                 struct mi_error *err);

/* Free what mi_elf_parse() allocated and set all to zero.  Allowed: NULL, a
 * struct that is all zero, a second call.  Keeps errno.
 */
void mi_elf_clear(struct mi_elf *elf);

/* Does the object use dlopen(3); does it ask for its own place, as by
 * dladdr(3)?  As far as its string table tells.
 */
int mi_elf_opens(const struct mi_elf *elf);
int mi_elf_locates(const struct mi_elf *elf);

/* Step through the names of libraries that are written somewhere in an image:
 * terminated strings, without a directory, that have ".so" at their end or
 * before a version.  '*cursor' starts as 0 and is moved on.  Returns the next
 * name, which points into the image, or NULL.
 */
const char *mi_elf_name_next(const void *image, size_t size, size_t *cursor);

/* The search path in force: RUNPATH, otherwise RPATH, which ld.so(8) ignores
 * when there is a RUNPATH (even an empty one).  NULL if there is neither.
 * Lives as long as the image.
 */
const char *mi_elf_search(const struct mi_elf *elf);

/* Step through a colon-separated search path.  '*cursor' starts as the path,
 * or as NULL for none, and is moved on.  Returns the next entry that is not
 * empty, with its length in bytes in '*length' (a part of the path, so it is
 * not terminated), or NULL at the end with '*length' untouched.  An empty
 * entry means the working directory to the dynamic linker; it is passed over.
 */
const char *mi_elf_path_next(const char **cursor, size_t *length);

/* Expand the search-path entry of 'length' bytes at 'entry' for an object in
 * the directory 'object_dir' (absolute, terminated).  Returns
 *
 *    1  the entry is $ORIGIN or ${ORIGIN}, alone or followed by "/...": 'out'
 *       holds the directory, normalised as by mi_path_normal();
 *    0  it is not, or another '$' follows ($LIB, $PLATFORM: the dynamic
 *       linker's to expand);
 *   -1  it is, but 'out' of 'out_size' bytes, terminator included, is too
 *       small (errno ENAMETOOLONG), or 'object_dir' is not absolute (EINVAL).
 *
 * 'out' must not overlap the inputs and is untouched unless 1 is returned.
 */
int mi_elf_origin(const char *entry, size_t length, const char *object_dir,
                  char *out, size_t out_size);

/* Normalise the absolute 'path' into 'out' of 'out_size' bytes: no "//", no
 * "." or ".." component, no trailing slash; "/.." is "/".  Lexical: where a
 * component before a ".." is a symbolic link, the kernel goes elsewhere.
 * 'out' must not overlap 'path'.  Returns 0, or -1 with 'out' untouched and
 * errno ENAMETOOLONG (too small) or EINVAL (not absolute).
 */
int mi_path_normal(const char *path, char *out, size_t out_size);

#endif

/* This file has the name of a system header.  Under "-Isrc" it is what
 * <link.h> and others get for <elf.h>, so it hands on to the real one.
 */
#ifdef __has_include_next
#if __has_include_next(<elf.h>)
#include_next <elf.h>
#endif
#endif
