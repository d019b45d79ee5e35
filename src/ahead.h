/* Ahead: what a module that has just been read is about to ask for.
 *
 * Turns the imports of bytecode (imports.h) into questions: the listings on
 * the way to each module, its bytecode, its shared object.  They are resolved
 * as the finder does it, from the listings alone; nothing is executed.  What
 * comes out depends on what the tree holds and on which modules are read, not
 * on time or on the number of ranks.
 *
 * A program may write modules and import them then.  So the directories of the
 * search path are listed by whoever imports, and not before; what is to be
 * looked for there waits for that.  And modules right beside the program are
 * not read ahead, other than packages.
 *
 * Part of the reader, in whose pool it works: a message is queued for each
 * step, so that many listings are read at once.
 */
#ifndef MI_AHEAD_H
#define MI_AHEAD_H

#include <stddef.h>

#include "error.h"
#include "format.h"

struct mi_ahead;

/* How the importer names things.  Borrowed for the call. */
struct mi_ahead_rules {
    /* What a module's file can end in, in the order in which the finder looks;
     * a list.
     */
    char *const *suffixes;
    const char *cached; /* of a .pyc in __pycache__: ".cpython-311.pyc" */
    /* What nobody looks for any more, a list: "a.b", a module; "a.b.", a
     * package, some of whose modules may be looked for still; "/a/b.py", a
     * file.
     */
    char *const *known;
    char *const *own; /* the program's directories on the search path; a list
                       */
};

/* All is borrowed and outlives this one. */
struct mi_ahead_config {
    char *const *share; /* prefixes: mi_prefixes_shared() */
    char *const *local;
    unsigned magic; /* of bytecode, its first two bytes */
    /* A directory's listing: as mi_reader_answer(). */
    int (*list)(void *arg, const char *directory,
                const struct mi_record **record, struct mi_error *err);
    /* The same from the store alone, or NULL. */
    const struct mi_record *(*find)(void *arg, const char *directory);
    void *arg;
    /* Where is left what is to be done: questions, and messages for
     * mi_ahead_work(); both in order.
     */
    void (*ask)(void *batch, enum mi_query query, const char *key,
                const char *extra);
    void (*later)(void *batch, const void *message, size_t size);
};

int mi_ahead_create(struct mi_ahead **ahead,
                    const struct mi_ahead_config *config,
                    struct mi_error *err);
void mi_ahead_destroy(struct mi_ahead *ahead);

/* From now on there is something to do; once. */
int mi_ahead_begin(struct mi_ahead *ahead, const struct mi_ahead_rules *rules,
                   struct mi_error *err);
/* And from now on nothing any more. */
void mi_ahead_end(struct mi_ahead *ahead);
/* Directories in which modules are looked for, in that order: a list, whose
 * strings are absolute.
 */
int mi_ahead_path(struct mi_ahead *ahead, char *const *path,
                  struct mi_error *err);

/* A record has been published, which lives longer than this: leave in 'batch'
 * what it gives to do.
 */
void mi_ahead_meet(struct mi_ahead *ahead, const struct mi_record *record,
                   void *batch);
/* The message about a program's marshalled code, allocated: the caller frees
 * it.  NULL if nothing is wanted, or without memory.
 */
void *mi_ahead_program(struct mi_ahead *ahead, const void *code, size_t size,
                       size_t *total);

/* Is it a message for mi_ahead_work(), rather than an ask? */
int mi_ahead_is(const void *message, size_t size);
/* Do it.  Thread-safe; may wait for a listing. */
void mi_ahead_work(struct mi_ahead *ahead, const void *message, size_t size,
                   void *batch);

#endif
