/* Queue: messages that wait, the oldest first.
 *
 * Not thread-safe: whoever has one has a lock, too.
 */
#ifndef MI_QUEUE_H
#define MI_QUEUE_H

#include <stddef.h>

/* Once taken, free it with free(3). */
struct mi_item {
    struct mi_item *next;
    size_t size;
    unsigned char message[]; /* 'size' bytes, and a '\0' */
};

struct mi_queue {
    struct mi_item *head, **tail;
};

/* Make it empty.  It must not be moved from then on. */
void mi_queue_init(struct mi_queue *queue);
/* Free all that is left. */
void mi_queue_clear(struct mi_queue *queue);

/* Copy a message to the end.  0, or -1 with errno: there is no memory. */
int mi_queue_put(struct mi_queue *queue, const void *message, size_t size);
/* Put all of 'more', which is empty then, before the rest. */
void mi_queue_put_first(struct mi_queue *queue, struct mi_queue *more);
/* The oldest one, which is the caller's; NULL: it is empty. */
struct mi_item *mi_queue_take(struct mi_queue *queue);
/* Is there the same message? */
int mi_queue_has(const struct mi_queue *queue, const void *message,
                 size_t size);

#endif
