#include "queue.h"

#include <stdlib.h>
#include <string.h>

void mi_queue_init(struct mi_queue *queue)
{
    queue->head = NULL;
    queue->tail = &queue->head;
}

int mi_queue_put(struct mi_queue *queue, const void *message, size_t size)
{
    struct mi_item *item = malloc(sizeof(*item) + size + 1);

    if (!item)
        return -1;
    item->next = NULL;
    item->size = size;
    memcpy(item->message, message, size);
    item->message[size] = '\0';
    *queue->tail = item;
    queue->tail = &item->next;
    return 0;
}

void mi_queue_put_first(struct mi_queue *queue, struct mi_queue *more)
{
    if (!more->head)
        return;
    *more->tail = queue->head;
    if (!queue->head)
        queue->tail = more->tail;
    queue->head = more->head;
    mi_queue_init(more);
}

struct mi_item *mi_queue_take(struct mi_queue *queue)
{
    struct mi_item *item = queue->head;

    if (!item)
        return NULL;
    queue->head = item->next;
    if (!queue->head)
        queue->tail = &queue->head;
    return item;
}

int mi_queue_has(const struct mi_queue *queue, const void *message,
                 size_t size)
{
    for (const struct mi_item *i = queue->head; i; i = i->next)
        if (i->size == size && memcmp(i->message, message, size) == 0)
            return 1;
    return 0;
}

void mi_queue_clear(struct mi_queue *queue)
{
    struct mi_item *item;

    while ((item = mi_queue_take(queue)) != NULL)
        free(item);
}
