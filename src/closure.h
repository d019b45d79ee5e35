/* Closures: an object of the tree and all that it needs.
 *
 * A worklist in the order of discovery, because libraries may need each other
 * in circles and in long chains.  Whoever reads the objects walks along 'list'
 * and describes each; what it needs joins behind.  Root only; one thread.
 */
#ifndef MI_CLOSURE_H
#define MI_CLOSURE_H

#include <stddef.h>
#include <stdint.h>

#include "copy.h"
#include "error.h"
#include "mirror.h"
#include "needs.h"
#include "search.h"
#include "store.h"

/* An object on its way.  All strings are owned. */
struct mi_item {
    char *path;
    char *place;     /* where the mirror puts it: without ".." */
    char *inherited; /* RPATHs of those that need it */
    void *image;     /* of an object of ours, allocated; or NULL */
    size_t image_size;
    struct mi_part part; /* id 0: it has no copy */
    void *bytes;         /* the copy, mapped; NULL: given away */
    size_t size;
    uint32_t mode;
    struct mi_identity identity;
    char *link;             /* place of the same file; or NULL */
    struct mi_item *target; /* the item of the same file; or NULL */
    int published;
    int begun;   /* at it since mi_early_begin() */
    char *text;  /* the payload of 'entry' */
    char *needs; /* texts of mi_record_need() */
    size_t needs_size;
    char *soname;
    struct mi_entry entry; /* to be published; no key: it has a record */
};

/* Zero but for the first lines, which the owner sets. */
struct mi_closure {
    struct mi_search *search;
    char *const *share; /* prefixes: mi_prefixes_shared() */
    char *const *local;
    /* A directory's listing: as mi_reader_answer(). */
    int (*look)(void *arg, const char *directory,
                const struct mi_record **record, struct mi_error *err);
    void *arg;
    struct mi_item **list;
    size_t count, room;
    struct mi_opened *opened; /* join when all that is needed has */
    int optional;             /* from now on what joins is not needed */
};

void mi_closure_clear(struct mi_closure *closure);

/* The item of 'path', which joins the closure unless it is there; it lives as
 * long as that.  NULL without memory.
 */
struct mi_item *mi_closure_add(struct mi_closure *closure, const char *path,
                               const char *inherited);

/* Have something join that an object may open itself: 1, 0 if there is none.
 */
int mi_closure_add_opened(struct mi_closure *closure);

/* Fill in soname and needs of an item from its image of 'size' bytes; what is
 * needed joins.  Returns 0, or -1 with 'err' (MI_FORMAT for a damaged one).
 */
int mi_closure_describe(struct mi_closure *closure, struct mi_item *item,
                        const void *image, size_t size, struct mi_error *err);

/* The same for a directory ("DIR/"): links to its libraries are wanted. */
int mi_closure_describe_directory(struct mi_closure *closure,
                                  struct mi_item *item, struct mi_error *err);
int mi_item_is_directory(const struct mi_item *item);

/* Write what the library 'name' is, as the object of 'elf' in the file
 * 'caller' would find it, to 'out': texts of mi_record_need().
 */
int mi_closure_find(struct mi_closure *closure, const char *caller,
                    const struct mi_elf *elf, const char *name,
                    struct mi_text *out, struct mi_error *err);

/* Make the payload of the item's record. */
int mi_item_write(struct mi_item *item, struct mi_error *err);

#endif
