/* Marshal: objects in the bytes of a .pyc, found without making them.
 *
 * An object is known by the offset of its type byte.  Everything is checked
 * against the end of the bytes: damaged ones are an error, or objects that do
 * not make sense, and never read beyond it.  Knows CPython 3.11 and later.
 * Source: CPython's Python/marshal.c.
 */
#ifndef MI_MARSHAL_H
#define MI_MARSHAL_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* The parts of a module's code object that are asked for. */
struct mi_marshal {
    const unsigned char *bytes; /* borrowed */
    size_t size;
    size_t at;
    size_t *refs; /* where the objects are that others refer to */
    size_t count, room;
    size_t code, consts, names; /* objects */
};

/* Take marshalled code apart.  On success the caller clears 'marshal'. */
int mi_marshal_open(struct mi_marshal *marshal, const void *bytes, size_t size,
                    struct mi_error *err);
/* Safe to repeat. */
void mi_marshal_clear(struct mi_marshal *marshal);

/* The objects in a tuple, a block (block.h) that the caller frees, and how
 * many there are.  NULL if it is no tuple, or without memory.
 */
size_t *mi_marshal_tuple(struct mi_marshal *marshal, size_t object,
                         size_t *count);
/* The characters of a string or the bytes of a bytes object, which live as
 * long as the marshalled bytes; NULL if it is neither.
 */
const char *mi_marshal_text(const struct mi_marshal *marshal, size_t object,
                            size_t *size);
/* A small integer: 1, or 0 if it is something else. */
int mi_marshal_int(const struct mi_marshal *marshal, size_t object,
                   int32_t *value);

#endif
