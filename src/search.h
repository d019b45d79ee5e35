/* Where the dynamic linker looks for a library: search paths, expanded.
 *
 * A list of directories is a string, its entries separated by colons:
 *
 *   /DIR   relative to an object of the mirror ($ORIGIN): the linker looks in
 *          the mirror
 *   =/DIR  absolute: the linker looks there, on the tree or wherever that is
 *   ?      known to the linker only
 *
 * Sources: ld.so(8), System V ABI chapter 5.
 */
#ifndef MI_SEARCH_H
#define MI_SEARCH_H

#include <stddef.h>

#include "dirs.h"
#include "error.h"

struct mi_search_real;

/* What holds for every library that this process opens.  All is owned. */
struct mi_search {
    char *program;      /* the RPATHs of what calls dlopen(), and of the
                         * program: for objects without a RUNPATH */
    char *library_path; /* LD_LIBRARY_PATH */
    char **loaded;      /* the SONAMEs of what is loaded: mi_loaded_list() */
    char *lib;          /* what $LIB stands for; NULL: not known */
    char *platform;     /* what $PLATFORM stands for; NULL: not known */
    struct mi_search_real *real; /* directories that were looked at */
    struct mi_dirs *dirs; /* borrowed; to be set by the owner, or NULL */
};

/* Look at this process: at the RPATHs of its program and of the object that
 * has the function 'caller' (NULL or not there: none), and at LD_LIBRARY_PATH,
 * asked through 'get' (getenv(3)).  What is loaded by then is what every rank
 * has.  Reads those two files.  The caller clears.
 */
int mi_search_init(struct mi_search *search, const char *caller,
                   char *(*get)(const char *name), struct mi_error *err);
void mi_search_clear(struct mi_search *search);

/* The list for an object's RPATH or RUNPATH 'path' (NULL: none) in the
 * directory 'origin', followed by the lists in 'more', up to a NULL.  With
 * 'real' the object is not in the mirror: $ORIGIN is absolute; so is what a
 * ".." behind a symbolic link leads to, where the mirror has a directory.
 * Allocated; NULL with errno without memory.  One thread at a time.
 */
char *mi_search_list(struct mi_search *search, const char *path,
                     const char *origin, int real, const char *const *more);

/* The directory part of an absolute path, into 'directory' (PATH_MAX). */
void mi_search_directory(const char *path, char *directory);

/* Is it one of the directories that the linker searches without being told?
 */
int mi_search_default(const char *directory);

#endif
