/* Foresight: has the pool read what modules are about to import.
 *
 * Brings together what a module gives to do (ahead.h) and the pool that does
 * it (pool.h).  Part of the reader.  Thread-safe.
 */
#ifndef MI_FORESIGHT_H
#define MI_FORESIGHT_H

#include <stddef.h>

#include "ahead.h"
#include "error.h"
#include "pool.h"
#include "store.h"

struct mi_foresight;

/* All is borrowed and outlives this one. */
struct mi_foresight_config {
    struct mi_store *store;
    struct mi_pool *pool;
    char *const *share; /* prefixes: mi_prefixes_shared() */
    char *const *local;
    const unsigned char *magic; /* of bytecode */
    /* A directory's listing: as mi_reader_answer(). */
    int (*list)(void *arg, const char *directory,
                const struct mi_record **record, struct mi_error *err);
    void *arg;
};

int mi_foresight_create(struct mi_foresight **foresight,
                        const struct mi_foresight_config *config,
                        struct mi_error *err);
/* NULL is allowed. */
void mi_foresight_destroy(struct mi_foresight *foresight);

/* As mi_reader_foresee(), for a pool that has threads; _path(), _program() and
 * _exact() of the reader.
 */
int mi_foresight_begin(struct mi_foresight *foresight,
                       const struct mi_ahead_rules *rules, char *const *path,
                       struct mi_error *err);
int mi_foresight_path(struct mi_foresight *foresight, char *const *path,
                      struct mi_error *err);
int mi_foresight_program(struct mi_foresight *foresight, const void *code,
                         size_t size, struct mi_error *err);
void mi_foresight_end(struct mi_foresight *foresight);

/* A record has been published: have the pool do what it gives to do. */
void mi_foresight_meet(struct mi_foresight *foresight,
                       const struct mi_record *record);
/* Do what a message says that has been put into the pool, mi_ahead_is(). */
void mi_foresight_work(struct mi_foresight *foresight, const void *message,
                       size_t size);

#endif
