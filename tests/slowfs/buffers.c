#include "buffers.h"

#include <pthread.h>
#include <stdlib.h>

union buffer {
    union buffer *next; /* while nobody has it */
    char bytes[SLOW_LARGEST_READ];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static union buffer *unused;

char *slow_buffers_take(void)
{
    union buffer *buffer;

    pthread_mutex_lock(&lock);
    buffer = unused;
    if (buffer)
        unused = buffer->next;
    pthread_mutex_unlock(&lock);
    if (!buffer)
        buffer = malloc(sizeof(*buffer));
    return buffer ? buffer->bytes : NULL;
}

void slow_buffers_give(char *bytes)
{
    union buffer *buffer = (union buffer *)(void *)bytes;

    pthread_mutex_lock(&lock);
    buffer->next = unused;
    unused = buffer;
    pthread_mutex_unlock(&lock);
}
