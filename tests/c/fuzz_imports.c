/* Damaged bytecode for src/imports.c.  Usage: fuzz_imports [rounds [seed]];
 * the same arguments give the same bytes.  Each lies in a block of just its
 * size, so that a sanitizer sees the first byte read beyond it; what is found
 * is read to the end.
 */
#include "bytecode.h"
#include "random.h"

#include "../../src/imports.h"

enum { ROUNDS = 60000 };

static long found, sound, refused, wrong;

/* A module with everything that is looked at. */
static void make(struct bytecode *b)
{
    size_t jump;

    bytecode_begin(b);
    for (int i = 0; i < 4; i++) {
        bytecode_import(b, i, "a.b", NULL);
        jump = bytecode_unless(b, "TYPE_CHECKING");
        bytecode_import(b, i, "cc", "d e fff");
        bytecode_land(b, jump);
        jump = bytecode_unless_equal(b, "__name__", "__main__");
        bytecode_import(b, 0, "g", "*");
        bytecode_land(b, jump);
        bytecode_constant(b, "filler");
    }
    /* What else can be marshalled: a constant each, some with parts. */
    bytecode_put(&b->consts, "l\xfe\xff\xff\xff\1\0\1\0", 9);
    bytecode_put(&b->consts, "g\0\0\0\0\0\0\0\0", 9);
    bytecode_put(&b->consts, "y\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);
    bytecode_put(&b->consts, "\xa9\3NTF", 5);
    bytecode_put(&b->consts, ">\2\0\0\0i\1\0\0\0r\1\0\0\0", 15);
    bytecode_put(&b->consts, "{i\1\0\0\0N0", 8);
    bytecode_put(&b->consts, ":NNN", 4);
    b->consts.count += 7;
    bytecode_end(b);
}

static void damage(unsigned char *bytes, size_t size)
{
    static const unsigned char types[] = "0NFTSil.gyxsutaAzZ()[<>{:cr\xe3\xa9";

    for (size_t n = 1 + below(4); n > 0; n--) {
        size_t at = below(size);

        switch (below(6)) {
        case 0:
            bytes[at] = (unsigned char)next_random();
            break;
        case 1:
            bytes[at] ^= (unsigned char)(1u << below(8));
            break;
        case 2:
            bytes[at] = types[below(sizeof(types) - 1)];
            break;
        case 3: /* a large number, or a negative one */
            for (size_t i = at; i < at + 4 && i < size; i++)
                bytes[i] = below(2) ? 0xff : 0x7f;
            break;
        case 4: /* a small one */
            for (size_t i = at; i < at + 4 && i < size; i++)
                bytes[i] = i == at ? (unsigned char)below(64) : 0;
            break;
        default: /* something from elsewhere */
            bytes[at] = bytes[below(size)];
        }
    }
}

static void note(void *arg, const struct mi_import *import)
{
    const char *from = import->from;
    size_t total = strlen(import->name) + 1;

    (void)arg;
    found++;
    for (; *from; from += strlen(from) + 1)
        total += strlen(from) + 1;
    wrong += total >= MI_IMPORT_TEXT || import->level < 0 ||
             from < import->name || strchr(import->name, '/') != NULL;
}

int main(int argc, char **argv)
{
    static const unsigned magics[] = {3495, 3531, 3571};
    static struct bytecode b;
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : ROUNDS;

    if (argc > 2)
        seed_random(argv[2]);
    make(&b);
    for (long i = 0; i < rounds; i++) {
        size_t size = below(8) ? b.size : below(b.size);
        unsigned char *bytes = malloc(size ? size : 1);
        struct mi_error err;

        check_need(bytes != NULL, "memory");
        memcpy(bytes, b.bytes, size);
        if (i > 0)
            damage(bytes, size);
        if (mi_imports_scan(bytes, size, magics[below(3)], (int)below(2), note,
                            NULL, &err) == 0)
            sound++;
        else
            refused++;
        free(bytes);
    }
    printf("fuzz_imports: %ld sound, %ld refused, %ld imports, %ld wrong\n",
           sound, refused, found, wrong);
    return wrong > 0 || sound == 0 || refused == 0 || found == 0;
}
