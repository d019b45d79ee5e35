/* What a shared object needs, found as the dynamic linker finds it.
 *
 * Root only.  Sources: ld.so(8), dlopen(3).
 */
#ifndef MI_NEEDS_H
#define MI_NEEDS_H

#include "elf.h"
#include "error.h"
#include "format.h"
#include "search.h"
#include "text.h"

/* How to look around, and what to do with what is found. */
struct mi_needs_config {
    struct mi_search *search;
    char *const *share; /* path prefixes: mi_prefixes_shared() */
    char *const *local;
    /* The listing of a directory of the tree: 1 with *list, 0 if that cannot
     * be stored, -1 on errors.
     */
    int (*list)(void *arg, const char *directory,
                const struct mi_record **list, struct mi_error *err);
    /* The object 'path' of the tree is needed by one whose RPATHs it
     * 'inherits' (a list of mi_search_list()).
     */
    int (*add)(void *arg, const char *path, const char *inherits,
               struct mi_error *err);
    /* The same for one that is likely to be opened. */
    int (*open)(void *arg, const char *path, const char *inherits,
                struct mi_error *err);
    /* The same for an object of ours that is to answer to the name 'path': its
     * own path, which lives as long as 'arg', goes to *alias.
     */
    int (*add_alias)(void *arg, const char *path, const char *inherits,
                     const char **alias, struct mi_error *err);
    /* The object may open libraries of that directory under names that cannot
     * be known: links to them are wanted.
     */
    int (*link)(void *arg, const char *directory, struct mi_error *err);
    void *arg;
};

/* An object that was read. */
struct mi_needs_object {
    const char *path;      /* where it lies: normal, absolute */
    const char *inherited; /* as for add() */
    const struct mi_elf *elf;
    const void *image;
    size_t size; /* bytes */
};

/* Write what the object needs to 'out', as the texts of mi_record_need(),
 * terminated each, and add what of it is on the tree.  Libraries that it names
 * among its bytes and that lie where it could look for them are added as well
 * if it uses dlopen(3), and links are made to the others there.  Returns 0, or
 * -1 with 'err'.
 */
int mi_needs_write(const struct mi_needs_config *config,
                   const struct mi_needs_object *object, struct mi_text *out,
                   struct mi_error *err);

/* The same for the library 'name' alone, as if 'object' opened it (path and
 * elf are looked at).
 */
int mi_needs_write_one(const struct mi_needs_config *config,
                       const struct mi_needs_object *object, const char *name,
                       struct mi_text *out, struct mi_error *err);

#endif
