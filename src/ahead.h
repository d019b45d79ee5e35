/* Ahead: what a module that has just been read is about to ask for.
 *
 * Turns the imports of bytecode (imports.h) into questions: the listings on
 * the way to each module, its bytecode, its shared object.  They are resolved
 * as the finder does it, from the listings alone; nothing is executed.  What
 * comes out depends on what the tree holds and on which modules are read, not
 * on time or on the number of ranks.
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
};

/* All is borrowed and outlives this one. */
struct mi_ahead_config {
    char *const *share; /* prefixes: mi_prefixes_shared() */
    char *const *local;
    unsigned magic; /* of bytecode, its first two bytes */
    /* A directory's listing: as mi_reader_answer(). */
    int (*list)(void *arg, const char *directory,
                const struct mi_record **record, struct mi_error *err);
    void *arg;
    /* Where mi_ahead_work() leaves what it comes to: questions, and messages
     * for itself; both in the order in which they are to be done.
     */
    void (*ask)(void *batch, enum mi_query query, const char *key,
                const char *extra);
    void (*later)(void *batch, const void *message, size_t size);
};

int mi_ahead_create(struct mi_ahead **ahead,
                    const struct mi_ahead_config *config,
                    struct mi_error *err);
void mi_ahead_destroy(struct mi_ahead *ahead);

/* From now on mi_ahead_wants() something; once. */
int mi_ahead_begin(struct mi_ahead *ahead, const struct mi_ahead_rules *rules,
                   struct mi_error *err);
/* And from now on nothing any more. */
void mi_ahead_end(struct mi_ahead *ahead);
/* Directories in which modules are looked for, in that order: a list, whose
 * strings are absolute.
 */
int mi_ahead_path(struct mi_ahead *ahead, char *const *path,
                  struct mi_error *err);

/* Bytes of the message about a record. */
#define MI_AHEAD_RECORD (8 + sizeof(void *))

/* Has this record bytecode that is to be looked at?  Then 'message' says so;
 * the record lives longer than that.
 */
int mi_ahead_wants(struct mi_ahead *ahead, const struct mi_record *record,
                   unsigned char *message);
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
