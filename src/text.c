#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST 128 /* bytes to begin with */

/* Have room for 'more' bytes and a '\0'. */
static int make_room(struct mi_text *text, size_t more)
{
    size_t room = text->room ? text->room : LEAST;
    char *bytes;

    if (text->failed)
        return 0;
    while (room - text->size <= more)
        room *= 2;
    if (room == text->room)
        return 1;
    bytes = realloc(text->bytes, room);
    if (!bytes) {
        text->failed = errno;
        return 0;
    }
    text->bytes = bytes;
    text->room = room;
    return 1;
}

void mi_text_put(struct mi_text *text, const void *bytes, size_t size)
{
    if (!make_room(text, size))
        return;
    if (size > 0)
        memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

void mi_text_add(struct mi_text *text, const char *string)
{
    mi_text_put(text, string, strlen(string));
}

void mi_text_format(struct mi_text *text, const char *format, ...)
{
    va_list list;
    int size;

    va_start(list, format);
    size = vsnprintf(NULL, 0, format, list);
    va_end(list);
    if (size < 0)
        text->failed = text->failed ? text->failed : errno;
    if (size < 0 || !make_room(text, (size_t)size))
        return;
    va_start(list, format);
    vsnprintf(text->bytes + text->size, (size_t)size + 1, format, list);
    va_end(list);
    text->size += (size_t)size;
}

char *mi_text_take(struct mi_text *text, size_t *size)
{
    char *bytes, *exact;
    int failed;

    mi_text_put(text, "", 0); /* at least a '\0' */
    bytes = text->bytes;
    failed = text->failed;
    if (failed) {
        mi_text_clear(text);
        errno = failed;
        return NULL;
    }
    if (size)
        *size = text->size;
    exact = realloc(bytes, text->size + 1);
    *text = (struct mi_text){.size = 0};
    return exact ? exact : bytes;
}

void mi_text_clear(struct mi_text *text)
{
    free(text->bytes);
    *text = (struct mi_text){.size = 0};
}
