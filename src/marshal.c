#include "marshal.h"

#include <errno.h>
#include <string.h>

#include "block.h"

#define FLAG_REF 0x80
#define DEPTH 250 /* of objects in objects */

static int skip(struct mi_marshal *m, int depth);

/* ---- bytes -------------------------------------------------------------- */

static uint32_t word(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static int pass(struct mi_marshal *m, uint64_t size)
{
    if (size > m->size - m->at)
        return -1;
    m->at += (size_t)size;
    return 0;
}

/* A number of one or four bytes. */
static int take(struct mi_marshal *m, int width, uint32_t *value)
{
    const unsigned char *p = m->bytes + m->at;

    if (pass(m, (uint64_t)width) != 0)
        return -1;
    *value = width == 1 ? p[0] : word(p);
    return 0;
}

/* What is as long as the number before it says. */
static int pass_counted(struct mi_marshal *m, int width)
{
    uint32_t size;

    return take(m, width, &size) != 0 ? -1 : pass(m, size);
}

/* Digits of 15 bits; the sign of their number is that of the integer. */
static int pass_long(struct mi_marshal *m)
{
    uint32_t count;

    if (take(m, 4, &count) != 0)
        return -1;
    if (count & 0x80000000u)
        count = -count;
    return pass(m, 2 * (uint64_t)count);
}

/* ---- objects ------------------------------------------------------------ */

static int skip_some(struct mi_marshal *m, uint32_t count, int depth)
{
    while (count-- > 0)
        if (skip(m, depth) != 0)
            return -1;
    return 0;
}

static int skip_counted(struct mi_marshal *m, int width, int depth)
{
    uint32_t count;

    return take(m, width, &count) != 0 ? -1 : skip_some(m, count, depth);
}

/* Keys and values, to the null object. */
static int skip_dict(struct mi_marshal *m, int depth)
{
    while (m->at < m->size && m->bytes[m->at] != '0')
        if (skip_some(m, 2, depth) != 0)
            return -1;
    return pass(m, 1);
}

/* Five numbers; code, constants, names, five more; a number; two tables. */
static int skip_code(struct mi_marshal *m, int depth)
{
    size_t code, consts, names;

    if (pass(m, 20) != 0)
        return -1;
    code = m->at;
    if (skip(m, depth) != 0)
        return -1;
    consts = m->at;
    if (skip(m, depth) != 0)
        return -1;
    names = m->at;
    if (skip_some(m, 6, depth) != 0 || pass(m, 4) != 0 ||
        skip_some(m, 2, depth) != 0)
        return -1;
    if (depth == DEPTH - 1) { /* the outermost */
        m->code = code;
        m->consts = consts;
        m->names = names;
    }
    return 0;
}

/* Number the object at m->at, as the reader of the stream would. */
static int number(struct mi_marshal *m)
{
    size_t room = m->room ? 2 * m->room : 256;
    size_t *bigger;

    if (m->count == m->room) {
        bigger = mi_block_resize(m->refs, room * sizeof(*bigger));
        if (!bigger)
            return -1;
        m->refs = bigger;
        m->room = room;
    }
    m->refs[m->count++] = m->at;
    return 0;
}

static int skip_body(struct mi_marshal *m, int type, int depth)
{
    switch (type) {
    case '0':
    case 'N':
    case 'F':
    case 'T':
    case 'S':
    case '.':
        return 0;
    case 'i':
    case 'r':
        return pass(m, 4);
    case 'I':
    case 'g':
        return pass(m, 8);
    case 'y':
        return pass(m, 16);
    case 'l':
        return pass_long(m);
    case 's':
    case 't':
    case 'u':
    case 'a':
    case 'A':
        return pass_counted(m, 4);
    case 'z':
    case 'Z':
    case 'f':
        return pass_counted(m, 1);
    case 'x':
        return pass_counted(m, 1) != 0 ? -1 : pass_counted(m, 1);
    case ')':
        return skip_counted(m, 1, depth);
    case '(':
    case '[':
    case '<':
    case '>':
        return skip_counted(m, 4, depth);
    case ':':
        return skip_some(m, 3, depth);
    case '{':
        return skip_dict(m, depth);
    case 'c':
        return skip_code(m, depth);
    default:
        return -1;
    }
}

/* Go past one object. */
static int skip(struct mi_marshal *m, int depth)
{
    int type;

    if (m->at >= m->size || depth == 0)
        return -1;
    type = m->bytes[m->at];
    if ((type & FLAG_REF) && number(m) != 0)
        return -1;
    m->at++;
    return skip_body(m, type & ~FLAG_REF, depth - 1);
}

/* The object itself, where there is a reference to it; m->size: none. */
static size_t target(const struct mi_marshal *m, size_t object)
{
    uint32_t index;

    if (object >= m->size || (m->bytes[object] & ~FLAG_REF) != 'r')
        return object;
    if (m->size - object < 5)
        return m->size;
    index = word(m->bytes + object + 1);
    return index < m->count ? m->refs[index] : m->size;
}

/* Its type, and how many bytes are left behind that; 0: there is none. */
static int type_of(const struct mi_marshal *m, size_t *object, size_t *left)
{
    *object = target(m, *object);
    if (*object >= m->size)
        return 0;
    *left = m->size - *object - 1;
    return m->bytes[*object] & ~FLAG_REF;
}

/* ---- what is asked for -------------------------------------------------- */

size_t *mi_marshal_tuple(struct mi_marshal *m, size_t object, size_t *count)
{
    size_t left, *objects, known = m->count;
    int type = type_of(m, &object, &left), width = type == '(' ? 4 : 1;
    uint32_t size;

    if (type != '(' && type != ')')
        return NULL;
    m->at = object + 1;
    if (take(m, width, &size) != 0 || size > m->size - m->at)
        return NULL;
    objects = mi_block_new((size + 1) * sizeof(*objects));
    if (!objects)
        return NULL;
    for (uint32_t i = 0; i < size; i++) {
        objects[i] = m->at;
        if (skip(m, DEPTH - 1) != 0) {
            mi_block_free(objects);
            objects = NULL;
            break;
        }
    }
    m->count = known; /* they were numbered before */
    *count = size;
    return objects;
}

const char *mi_marshal_text(const struct mi_marshal *m, size_t object,
                            size_t *size)
{
    size_t left, head;
    int type = type_of(m, &object, &left);
    const unsigned char *p;

    if (!type || !strchr("stuaAzZ", type))
        return NULL;
    head = type == 'z' || type == 'Z' ? 1 : 4;
    p = m->bytes + object + 1;
    if (left < head)
        return NULL;
    *size = head == 1 ? p[0] : word(p);
    return *size <= left - head ? (const char *)p + head : NULL;
}

int mi_marshal_int(const struct mi_marshal *m, size_t object, int32_t *value)
{
    size_t left;

    if (type_of(m, &object, &left) != 'i' || left < 4)
        return 0;
    *value = (int32_t)word(m->bytes + object + 1);
    return 1;
}

int mi_marshal_open(struct mi_marshal *marshal, const void *bytes, size_t size,
                    struct mi_error *err)
{
    struct mi_marshal m = {.bytes = bytes, .size = size};

    if (size == 0 || (m.bytes[0] & ~FLAG_REF) != 'c' || skip(&m, DEPTH) != 0) {
        mi_marshal_clear(&m);
        return mi_fail(err, MI_FORMAT, EBADMSG,
                       "not the code of a module, or damaged");
    }
    *marshal = m;
    return 0;
}

void mi_marshal_clear(struct mi_marshal *marshal)
{
    mi_block_free(marshal->refs);
    *marshal = (struct mi_marshal){0};
}
