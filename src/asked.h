/* What has been asked in this run, for the next run's manifest.
 *
 * Kept where the tree is read, beside the store: the store's own records must
 * not change once they are published.  What was only read ahead is not in it,
 * but for what the others are certain to ask.  Nor is what the program may
 * have written itself before it was imported, and might write anew: next time
 * that would be read too early.
 *
 * Thread-safe, but not for forked children.  NULL stands for a record that
 * nobody wants.
 */
#ifndef MI_ASKED_H
#define MI_ASKED_H

#include <stddef.h>
#include <stdint.h>

#include "format.h"
#include "manifest.h"
#include "store.h"

struct mi_asked;

enum mi_asker {
    MI_ASKER_NOBODY, /* read ahead: only 'extra' is kept, for who may come */
    MI_ASKER_OTHER,  /* another rank, or it is about to */
    MI_ASKER_OWN     /* this rank's program */
};

/* How it stands; what came from the manifest is 'known'. */
struct mi_asked_count {
    size_t known;   /* questions */
    size_t used;    /* of these, by this rank's program */
    size_t added;   /* asked, and not known */
    size_t dropped; /* known, and too old by now */
};

/* NULL when there is no memory.  'manifest' is what was known before: it is
 * borrowed, and the record's from the first mi_asked_shrink() on.
 */
struct mi_asked *mi_asked_create(struct mi_manifest *manifest);
void mi_asked_destroy(struct mi_asked *asked);

/* Somebody asks that (extra: "" if it is not known).  The texts are copied if
 * they are new.  Without memory the question is forgotten.
 */
void mi_asked_add(struct mi_asked *asked, enum mi_query query, const char *key,
                  const char *extra, enum mi_asker asker);
/* The same by this rank's program, of an answer that was there already. */
void mi_asked_mark(struct mi_asked *asked, const struct mi_record *record);
/* The directory of the program's own, absolute: its listing, and files right
 * in it, are not for the next run.  Once.
 */
void mi_asked_own(struct mi_asked *asked, const char *directory);

/* Keep no text that a record in 'store' has, and clear the manifest: it must
 * not be in use any more.  From then on 'store' has to outlive the record, and
 * the texts that mi_asked_merge() gives.
 */
void mi_asked_shrink(struct mi_asked *asked, const struct mi_store *store);

/* The questions for the next run, in the order of first need; what is known
 * and nobody is seen to need stays where it was until it is too old
 * (MI_MANIFEST_AGE).  What was modified or changed since 'since' (nanoseconds
 * since the epoch), by its record in 'store', is left out.  *questions is an
 * array of *count, which the caller frees; the texts live as long as the
 * record. Returns 1 if the manifest is to be written, 0 if it is as it was
 * (nothing is allocated then), -1 without memory.
 */
int mi_asked_merge(struct mi_asked *asked, const struct mi_store *store,
                   int64_t since, struct mi_question **questions,
                   size_t *count);

void mi_asked_counts(struct mi_asked *asked, struct mi_asked_count *counts);

#endif
