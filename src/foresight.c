#include "foresight.h"

#include <stdlib.h>
#include <string.h>

#include "queue.h"

struct mi_foresight {
    struct mi_foresight_config config;
    struct mi_ahead *ahead;
};

/* What mi_ahead_work() comes to. */
struct batch {
    struct mi_store *store;
    struct mi_queue queue;
    int count;
};

static void batch_init(struct batch *batch, struct mi_store *store)
{
    batch->store = store;
    mi_queue_init(&batch->queue);
    batch->count = 0;
}

static void on_later(void *arg, const void *message, size_t size)
{
    struct batch *batch = arg;

    batch->count += mi_queue_put(&batch->queue, message, size) == 0;
}

static void on_ask(void *arg, enum mi_query query, const char *key,
                   const char *extra)
{
    const struct mi_ask ask = mi_ask_of(query, key, extra);
    struct batch *batch = arg;
    unsigned char message[MI_ASK_MAX];
    struct mi_error err;
    size_t size;

    if (!mi_store_find(batch->store, query, key, ask.key_size) &&
        mi_ask_pack(message, &ask, &size, &err) == 0)
        on_later(batch, message, size);
}

/* Queued before all else that is to be read ahead, modules are read in about
 * the order in which they will be imported.
 */
static void queue_batch(struct mi_foresight *foresight, struct batch *batch)
{
    mi_pool_ahead_first(foresight->config.pool, &batch->queue, batch->count);
}

void mi_foresight_work(struct mi_foresight *foresight, const void *message,
                       size_t size)
{
    struct batch batch;

    batch_init(&batch, foresight->config.store);
    mi_ahead_work(foresight->ahead, message, size, &batch);
    queue_batch(foresight, &batch);
}

void mi_foresight_meet(struct mi_foresight *foresight,
                       const struct mi_record *record)
{
    struct batch batch;

    batch_init(&batch, foresight->config.store);
    mi_ahead_meet(foresight->ahead, record, &batch);
    if (batch.count > 0)
        queue_batch(foresight, &batch);
}

int mi_foresight_begin(struct mi_foresight *foresight,
                       const struct mi_ahead_rules *rules, char *const *path,
                       struct mi_error *err)
{
    if (mi_ahead_path(foresight->ahead, path, err) != 0)
        return -1;
    return mi_ahead_begin(foresight->ahead, rules, err);
}

int mi_foresight_path(struct mi_foresight *foresight, char *const *path,
                      struct mi_error *err)
{
    return mi_ahead_path(foresight->ahead, path, err);
}

int mi_foresight_program(struct mi_foresight *foresight, const void *code,
                         size_t size, struct mi_error *err)
{
    size_t total;
    void *message = mi_ahead_program(foresight->ahead, code, size, &total);
    int rc;

    if (!message)
        return 0;
    rc = mi_pool_ahead(foresight->config.pool, message, total, err);
    free(message);
    return rc;
}

void mi_foresight_end(struct mi_foresight *foresight)
{
    mi_ahead_end(foresight->ahead);
}

static const struct mi_record *on_find(void *arg, const char *directory)
{
    const struct mi_foresight *foresight = arg;

    return mi_store_find(foresight->config.store, MI_LIST, directory,
                         strlen(directory));
}

static int on_list(void *arg, const char *directory,
                   const struct mi_record **record, struct mi_error *err)
{
    const struct mi_foresight *foresight = arg;

    return foresight->config.list(foresight->config.arg, directory, record,
                                  err);
}

int mi_foresight_create(struct mi_foresight **result,
                        const struct mi_foresight_config *config,
                        struct mi_error *err)
{
    struct mi_foresight *foresight = calloc(1, sizeof(*foresight));
    const struct mi_ahead_config ahead = {
        .share = config->share,
        .local = config->local,
        .magic = (unsigned)config->magic[0] | (unsigned)config->magic[1] << 8,
        .list = on_list,
        .find = on_find,
        .arg = foresight,
        .ask = on_ask,
        .later = on_later,
    };

    if (!foresight)
        return mi_fail_errno(err, "reader");
    foresight->config = *config;
    if (mi_ahead_create(&foresight->ahead, &ahead, err) != 0) {
        free(foresight);
        return -1;
    }
    *result = foresight;
    return 0;
}

void mi_foresight_destroy(struct mi_foresight *foresight)
{
    if (!foresight)
        return;
    mi_ahead_destroy(foresight->ahead);
    free(foresight);
}
