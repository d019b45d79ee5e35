/* Text that is put together from parts.  Not thread-safe. */
#ifndef MI_TEXT_H
#define MI_TEXT_H

#include <stddef.h>

/* Zero: an empty one. */
struct mi_text {
    char *bytes; /* 'size' of them, and a '\0'; NULL: none yet */
    size_t size, room;
    int failed; /* an errno value: parts are missing */
};

/* Add bytes, a string, or what printf(3) writes. */
void mi_text_put(struct mi_text *text, const void *bytes, size_t size);
void mi_text_add(struct mi_text *text, const char *string);
__attribute__((format(printf, 2, 3))) void
mi_text_format(struct mi_text *text, const char *format, ...);

/* All of it, terminated, to be freed with free(3); the text is empty then.
 * NULL with errno if anything is missing.  'size' may be NULL.
 */
char *mi_text_take(struct mi_text *text, size_t *size);
/* Free it instead. */
void mi_text_clear(struct mi_text *text);

#endif
