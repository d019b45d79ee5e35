/* Reader: answers questions from the shared tree and publishes the answers.
 *
 * Lives where the tree is read: on root (or, without MPI_THREAD_MULTIPLE, on
 * each leader for its node).  A thread that imports gets its answers inline;
 * what other ranks ask goes to a pool of threads.  Nothing is read twice: who
 * asks for what somebody is reading already waits for that.
 */
#ifndef MI_READER_H
#define MI_READER_H

#include <stddef.h>

#include "ahead.h"
#include "asked.h"
#include "error.h"
#include "files.h"
#include "mailbox.h"
#include "mirror.h"
#include "objects.h"
#include "refused.h"
#include "store.h"

struct mi_reader;

/* All handles are borrowed and outlive the reader. */
struct mi_reader_config {
    struct mi_store *store;
    struct mi_mailbox *mailbox;
    struct mi_mirror *mirror;   /* NULL: objects are not mirrored */
    char *const *share;         /* prefixes of the tree, and of what is not: */
    char *const *local;         /* mi_prefixes_shared(); lists, or NULL */
    struct mi_refused *refused; /* what is loaded directly; may be NULL */
    struct mi_asked *asked;     /* by other ranks; may be NULL */
    char *const *loaded;        /* struct mi_objects_config */
    struct mi_bytecode rule;
    int threads; /* of the pool; 0: nobody else will ask */
    int alone;   /* nobody else will ask, and the pool reads ahead for it */
    int stream;  /* keep objects for mi_reader_object() */
    /* Called (from any thread) with one line that the user should see. */
    void (*notice)(void *arg, unsigned first, const char *text);
    void *arg;
};

int mi_reader_create(struct mi_reader **reader,
                     const struct mi_reader_config *config,
                     struct mi_error *err);
/* Stop the threads (what they have begun they finish) and free. */
void mi_reader_destroy(struct mi_reader *reader);

/* Answer now, from the store or the tree.  'key' and 'extra' are terminated.
 * Returns 1 with *record, which lives as long as the store; 0 if the answer
 * cannot be stored (the stream is then FULL); -1 on errors.
 */
int mi_reader_answer(struct mi_reader *reader, enum mi_query query,
                     const char *key, const char *extra,
                     const struct mi_record **record, struct mi_error *err);

/* The answer alone, for the caller: nothing is published, and 'answer' is to
 * be cleared.  Not for MI_MIRROR and MI_COPY.  0; 1 if it had been read ahead,
 * for one that is alone (mi_reader_replay()); -1 on errors.
 */
int mi_reader_read(struct mi_reader *reader, enum mi_query query,
                   const char *key, const char *extra,
                   struct mi_answer *answer, struct mi_error *err);

/* Have the pool answer an ask (mi_ask_pack).  A malformed one is an error. */
int mi_reader_submit(struct mi_reader *reader, const void *message,
                     size_t size, struct mi_error *err);
/* Have the pool read what nobody has asked for yet, in the order of the calls,
 * whenever there is no ask.  The end of the job does not wait for it.
 */
int mi_reader_ahead(struct mi_reader *reader, enum mi_query query,
                    const char *key, const char *extra, struct mi_error *err);
/* From now on also have it read what the modules import that it has read: the
 * first call counts, and must come before mi_reader_program().  'path' is that
 * of mi_ahead_path().  Nothing happens in a reader without threads.
 */
int mi_reader_foresee(struct mi_reader *reader,
                      const struct mi_ahead_rules *rules, char *const *path,
                      struct mi_error *err);
/* The search path is another one now. */
int mi_reader_path(struct mi_reader *reader, char *const *path,
                   struct mi_error *err);
/* What the program's marshalled code imports is needed next. */
int mi_reader_program(struct mi_reader *reader, const void *code, size_t size,
                      struct mi_error *err);
/* What is needed is known, and given to mi_reader_ahead(): from now on, and
 * whatever mi_reader_foresee() was or will be told, imports are not followed.
 */
void mi_reader_exact(struct mi_reader *reader);
/* The same of a manifest's question, of which is published that there is no
 * such thing only if that was so before: the program may make it yet.
 */
int mi_reader_replay(struct mi_reader *reader,
                     const struct mi_question *question, struct mi_error *err);
/* Read with one thread only, or (0, as at first) with as many as make sense.
 */
void mi_reader_hold(struct mi_reader *reader, int hold);
/* Nothing more is to be read by the pool: its threads end when all is done. */
void mi_reader_complete(struct mi_reader *reader);
/* Nobody is going to ask any more: forget what was to be read ahead.  Returns
 * the number of questions that are still to be answered; 0: the threads rest.
 */
int mi_reader_settle(struct mi_reader *reader);

/* Publish an answer made elsewhere (compiled code).  As mi_reader_answer(). */
int mi_reader_publish(struct mi_reader *reader, const struct mi_entry *entry,
                      const struct mi_record **record, struct mi_error *err);

/* Wait for a source file that somebody else needs compiled; its path goes into
 * 'path' (PATH_MAX bytes).  Returns 1, or 0 when mi_reader_stop() was called.
 */
int mi_reader_compile(struct mi_reader *reader, char *path);
/* End all mi_reader_compile(), now and later. */
void mi_reader_stop(struct mi_reader *reader);

/* Take the oldest object that the other nodes need: mi_objects_take(). */
int mi_reader_object(struct mi_reader *reader, struct mi_object *object);

/* What has been read from the tree so far. */
const struct mi_traffic *mi_reader_traffic(const struct mi_reader *reader);

#endif
