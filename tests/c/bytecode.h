/* Bytecode of a module, put together by hand: CPython 3.11's instructions.
 * What is too large for the buffers aborts the test.
 */
#ifndef BYTECODE_H
#define BYTECODE_H

#include "check.h"

#define BYTECODE_MAGIC 3495u
#define BYTECODE_MAX 65536

/* Everything is static: not each test uses all. */
#define BYTECODE_CALL static inline

struct bytecode_part {
    unsigned char bytes[BYTECODE_MAX];
    size_t size;
    unsigned count; /* of its objects */
};

struct bytecode {
    struct bytecode_part code, consts, names;
    unsigned char bytes[4 * BYTECODE_MAX]; /* bytecode_end(): marshalled */
    size_t size;
};

BYTECODE_CALL void bytecode_put(struct bytecode_part *part, const void *bytes,
                                size_t size)
{
    check_need(part->size + size <= BYTECODE_MAX, "room for bytecode");
    memcpy(part->bytes + part->size, bytes, size);
    part->size += size;
}

BYTECODE_CALL void bytecode_word(struct bytecode_part *part, uint32_t value)
{
    const unsigned char bytes[] = {
        (unsigned char)value, (unsigned char)(value >> 8),
        (unsigned char)(value >> 16), (unsigned char)(value >> 24)};

    bytecode_put(part, bytes, 4);
}

/* A string object. */
BYTECODE_CALL void bytecode_text(struct bytecode_part *part, const char *text,
                                 size_t size)
{
    bytecode_put(part, "\xe1", 1); /* TYPE_ASCII, and may be referred to */
    bytecode_word(part, (uint32_t)size);
    bytecode_put(part, text, size);
}

/* An instruction, with as many EXTENDED_ARG as it takes. */
BYTECODE_CALL void bytecode_do(struct bytecode *b, int number, uint32_t arg)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        const unsigned char unit[] = {(unsigned char)(shift ? 144 : number),
                                      (unsigned char)(arg >> shift)};

        if (!shift || arg >> shift)
            bytecode_put(&b->code, unit, 2);
    }
}

BYTECODE_CALL void bytecode_begin(struct bytecode *b)
{
    b->code.size = b->consts.size = b->names.size = b->size = 0;
    b->code.count = b->consts.count = b->names.count = 0;
    bytecode_do(b, 151, 0); /* RESUME */
}

BYTECODE_CALL unsigned bytecode_constant(struct bytecode *b, const char *text)
{
    bytecode_text(&b->consts, text, strlen(text));
    return b->consts.count++;
}

BYTECODE_CALL unsigned bytecode_name(struct bytecode *b, const char *text)
{
    bytecode_text(&b->names, text, strlen(text));
    return b->names.count++;
}

/* 'from': words, or NULL: "import name". */
BYTECODE_CALL void bytecode_import(struct bytecode *b, int level,
                                   const char *name, const char *from)
{
    unsigned char *count;

    bytecode_put(&b->consts, "i", 1);
    bytecode_word(&b->consts, (uint32_t)level);
    bytecode_do(b, 100, b->consts.count++);
    bytecode_put(&b->consts, from ? ")" : "N", 1);
    if (from) {
        count = b->consts.bytes + b->consts.size;
        bytecode_put(&b->consts, "", 1);
        *count = 0;
        for (const char *p = from; *p; p += *p == ' ') {
            size_t size = strcspn(p, " ");

            bytecode_text(&b->consts, p, size);
            ++*count;
            p += size;
        }
    }
    bytecode_do(b, 100, b->consts.count++);
    bytecode_do(b, 108, bytecode_name(b, name)); /* IMPORT_NAME */
    bytecode_do(b, 1, 0);                        /* POP_TOP */
}

/* A jump to be landed: where its argument is. */
BYTECODE_CALL size_t bytecode_jump(struct bytecode *b)
{
    bytecode_do(b, 114, 0); /* POP_JUMP_FORWARD_IF_FALSE */
    return b->code.size;
}

/* "if name:" */
BYTECODE_CALL size_t bytecode_unless(struct bytecode *b, const char *name)
{
    bytecode_do(b, 101, bytecode_name(b, name)); /* LOAD_NAME */
    return bytecode_jump(b);
}

/* "if name == 'constant':" */
BYTECODE_CALL size_t bytecode_unless_equal(struct bytecode *b,
                                           const char *name,
                                           const char *constant)
{
    bytecode_do(b, 101, bytecode_name(b, name));
    bytecode_do(b, 100, bytecode_constant(b, constant));
    bytecode_do(b, 107, 2); /* COMPARE_OP, two caches */
    bytecode_put(&b->code, "\0\0\0\0", 4);
    return bytecode_jump(b);
}

BYTECODE_CALL void bytecode_land(struct bytecode *b, size_t jump)
{
    size_t units = (b->code.size - jump) / 2;

    check_need(units < 256, "a jump so far");
    b->code.bytes[jump - 1] = (unsigned char)units;
}

BYTECODE_CALL void bytecode_return(struct bytecode *b)
{
    bytecode_do(b, 83, 0);
}

BYTECODE_CALL void bytecode_append(struct bytecode *b, const void *bytes,
                                   size_t size)
{
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

BYTECODE_CALL void bytecode_append_head(struct bytecode *b, char type,
                                        size_t count)
{
    const unsigned char head[] = {
        (unsigned char)type, (unsigned char)count, (unsigned char)(count >> 8),
        (unsigned char)(count >> 16), (unsigned char)(count >> 24)};

    bytecode_append(b, head, sizeof(head));
}

/* Marshal it. */
BYTECODE_CALL void bytecode_end(struct bytecode *b)
{
    bytecode_return(b);
    bytecode_append(b, "\xe3", 1); /* TYPE_CODE 'c', referred to */
    bytecode_append(b, "\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 20);
    bytecode_append_head(b, 's', b->code.size);
    bytecode_append(b, b->code.bytes, b->code.size);
    bytecode_append_head(b, '(', b->consts.count);
    bytecode_append(b, b->consts.bytes, b->consts.size);
    bytecode_append_head(b, '(', b->names.count);
    bytecode_append(b, b->names.bytes, b->names.size);
    bytecode_append(b, ")\0s\0\0\0\0z\1fz\1nz\1q", 16);
    bytecode_append(b, "\1\0\0\0", 4);
    bytecode_append(b, "s\0\0\0\0s\0\0\0\0", 10);
}

#endif
