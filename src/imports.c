#include "imports.h"

#include <errno.h>
#include <string.h>

#include "block.h"
#include "marshal.h"

/* ---- versions ----------------------------------------------------------- */

/* What an instruction is to us. */
enum kind {
    OTHER,
    PASSED, /* as if it were not there */
    EXTENDED,
    IMPORT,
    CONST,
    NAME,
    ATTR,
    COMPARE,
    IF_FALSE, /* jumps forward, as all below */
    IF_TRUE,
    BRANCH, /* on something else */
    JUMP,
    END /* what follows is not reached from here */
};

#define KIND 0x1f
#define CACHED 0x20 /* a jump counts from behind one unit of cache */

struct python {
    unsigned magic;
    int minor;
    int attr_shift, compare_shift; /* above them is the argument proper */
    unsigned char kind[256];
};

/* Numbers of instructions; those of a version do not change once it is out.
 * Source: CPython's Include/opcode.h and Include/opcode_ids.h,
 * Lib/importlib/_bootstrap_external.py.
 */
static const struct python pythons[] = {
    {.magic = 3495,
     .minor = 11,
     .kind =
         {[0] = PASSED,     [9] = PASSED,    [144] = EXTENDED, [108] = IMPORT,
          [100] = CONST,    [101] = NAME,    [106] = ATTR,     [107] = COMPARE,
          [114] = IF_FALSE, [115] = IF_TRUE, [93] = BRANCH,    [111] = BRANCH,
          [112] = BRANCH,   [123] = BRANCH,  [128] = BRANCH,   [129] = BRANCH,
          [110] = JUMP,     [83] = END,      [119] = END,      [130] = END,
          [134] = END,      [140] = END}},
    {.magic = 3531,
     .minor = 12,
     .attr_shift = 1,
     .compare_shift = 4,
     .kind = {[0] = PASSED,
              [9] = PASSED,
              [144] = EXTENDED,
              [108] = IMPORT,
              [100] = CONST,
              [101] = NAME,
              [106] = ATTR,
              [107] = COMPARE,
              [114] = IF_FALSE,
              [115] = IF_TRUE,
              [93] = BRANCH | CACHED,
              [123] = BRANCH | CACHED,
              [128] = BRANCH,
              [129] = BRANCH,
              [110] = JUMP,
              [83] = END,
              [119] = END,
              [121] = END,
              [130] = END,
              [134] = END,
              [140] = END}},
    {.magic = 3571,
     .minor = 13,
     .attr_shift = 1,
     .compare_shift = 5,
     .kind = {[0] = PASSED,
              [30] = PASSED,
              [40] = PASSED, /* TO_BOOL */
              [71] = EXTENDED,
              [75] = IMPORT,
              [83] = CONST,
              [92] = NAME,
              [82] = ATTR,
              [58] = COMPARE,
              [97] = IF_FALSE | CACHED,
              [100] = IF_TRUE | CACHED,
              [72] = BRANCH | CACHED,
              [104] = BRANCH | CACHED,
              [98] = BRANCH | CACHED,
              [99] = BRANCH | CACHED,
              [79] = JUMP,
              [36] = END,
              [103] = END,
              [102] = END,
              [101] = END,
              [78] = END,
              [77] = END}},
};

static const struct python *find_python(unsigned magic)
{
    for (size_t i = 0; i < sizeof(pythons) / sizeof(pythons[0]); i++)
        if (pythons[i].magic == magic)
            return &pythons[i];
    return NULL;
}

/* ---- the walk ----------------------------------------------------------- */

#define PAST 4

struct instruction {
    enum kind kind;
    size_t arg;
};

struct walk {
    const struct python *python;
    struct mi_marshal marshal;
    const unsigned char *code;
    size_t units; /* of two bytes: number and argument */
    size_t *consts, *names;
    size_t const_count, name_count;
    unsigned char *marks; /* units that live code jumps to */
    int program;
    struct instruction past[PAST]; /* the last ones, newest first */
    void (*each)(void *arg, const struct mi_import *import);
    void *arg;
};

static const char *name_text(const struct walk *w, size_t i, size_t *size)
{
    return i < w->name_count ? mi_marshal_text(&w->marshal, w->names[i], size)
                             : NULL;
}

static int same(const char *text, size_t size, const char *word)
{
    return text && size == strlen(word) && memcmp(text, word, size) == 0;
}

/* Was the instruction 'back' before this one a look at 'word'? */
static int looks_at(const struct walk *w, int back, enum kind kind,
                    const char *word)
{
    const struct instruction *past = &w->past[back];
    size_t size = 0;
    size_t i = past->arg >> (kind == ATTR ? w->python->attr_shift : 0);
    const char *text = name_text(w, i, &size);

    return past->kind == kind && same(text, size, word);
}

/* ---- conditions --------------------------------------------------------- */

enum truth { NEVER, ALWAYS, MAYBE };
enum comparison { LESS, LESS_EQUAL, EQUAL, UNEQUAL, GREATER, GREATER_EQUAL };

/* Compare with a constant string what is 'value'. */
static enum truth compare_text(const struct walk *w, size_t constant,
                               size_t how, const char *value)
{
    size_t size = 0;
    const char *text = mi_marshal_text(&w->marshal, constant, &size);

    if (!text || (how != EQUAL && how != UNEQUAL))
        return MAYBE;
    return same(text, size, value) == (how == EQUAL) ? ALWAYS : NEVER;
}

/* Compare sys.version_info with a constant tuple.  It is the longer one, so
 * that it is greater where all of the tuple is equal.
 */
static enum truth compare_version(struct walk *w, size_t constant, size_t how)
{
    const int32_t version[] = {3, w->python->minor};
    size_t count = 0, i;
    size_t *items = mi_marshal_tuple(&w->marshal, constant, &count);
    int sign = 1;
    int32_t value = 0;

    for (i = 0; items && i < count && sign == 1; i++) {
        if (i == 2 || !mi_marshal_int(&w->marshal, items[i], &value))
            sign = 0; /* unknown */
        else if (value != version[i])
            sign = value < version[i] ? 2 : -1;
    }
    mi_block_free(items);
    if (!items || sign == 0)
        return MAYBE;
    switch (how) {
    case LESS:
    case LESS_EQUAL:
        return sign < 0 ? ALWAYS : NEVER;
    case GREATER:
    case GREATER_EQUAL:
        return sign > 0 ? ALWAYS : NEVER;
    case EQUAL:
        return NEVER;
    case UNEQUAL:
        return ALWAYS;
    default:
        return MAYBE;
    }
}

static enum truth compare(struct walk *w)
{
    size_t how = w->past[0].arg >> w->python->compare_shift;
    size_t constant;

    if (w->past[1].kind != CONST || w->past[1].arg >= w->const_count)
        return MAYBE;
    constant = w->consts[w->past[1].arg];
    if (looks_at(w, 2, NAME, "__name__"))
        return compare_text(w, constant, how,
                            w->program ? "__main__" : "a module");
    if (looks_at(w, 2, ATTR, "platform") && looks_at(w, 3, NAME, "sys"))
        return compare_text(w, constant, how, "linux");
    if (looks_at(w, 2, ATTR, "name") && looks_at(w, 3, NAME, "os"))
        return compare_text(w, constant, how, "posix");
    if (looks_at(w, 2, ATTR, "version_info") && looks_at(w, 3, NAME, "sys"))
        return compare_version(w, constant, how);
    return MAYBE;
}

/* What the value on top of the stack is, as a condition. */
static enum truth condition(struct walk *w)
{
    if (looks_at(w, 0, NAME, "TYPE_CHECKING") ||
        looks_at(w, 0, ATTR, "TYPE_CHECKING"))
        return NEVER;
    return w->past[0].kind == COMPARE ? compare(w) : MAYBE;
}

/* ---- import statements -------------------------------------------------- */

/* Append a text and its terminator.  0 if it has no place here. */
static int put(char *place, size_t *used, const char *text, size_t size)
{
    if (!text || size >= MI_IMPORT_TEXT - 1 - *used ||
        memchr(text, '\0', size) || memchr(text, '/', size))
        return 0;
    memcpy(place + *used, text, size);
    place[*used + size] = '\0';
    *used += size + 1;
    return 1;
}

static void put_from(struct walk *w, size_t constant, char *place,
                     size_t *used)
{
    size_t count = 0, size = 0;
    size_t *items = mi_marshal_tuple(&w->marshal, constant, &count);
    const char *text;

    for (size_t i = 0; items && i < count; i++) {
        text = mi_marshal_text(&w->marshal, items[i], &size);
        if (size > 0 && !same(text, size, "*"))
            put(place, used, text, size);
    }
    mi_block_free(items);
}

/* The two instructions before have put level and names on the stack. */
static void import_name(struct walk *w, size_t arg)
{
    char texts[MI_IMPORT_TEXT];
    struct mi_import import = {.name = texts};
    size_t size = 0, used = 0;
    int32_t level = 0;
    const char *name = name_text(w, arg, &size);

    if (w->past[0].kind != CONST || w->past[0].arg >= w->const_count ||
        w->past[1].kind != CONST || w->past[1].arg >= w->const_count ||
        !mi_marshal_int(&w->marshal, w->consts[w->past[1].arg], &level) ||
        level < 0 || !put(texts, &used, name, size))
        return;
    import.level = level;
    import.from = texts + used;
    put_from(w, w->consts[w->past[0].arg], texts, &used);
    texts[used] = '\0';
    w->each(w->arg, &import);
}

/* ---- instructions ------------------------------------------------------- */

static void mark(struct walk *w, size_t unit, unsigned kind, size_t arg)
{
    size_t target = unit + 1 + ((kind & CACHED) ? 1 : 0);

    if (arg < w->units && target + arg < w->units)
        w->marks[target + arg] = 1;
}

/* Follow one instruction.  Is the one behind it reached from here? */
static int follow(struct walk *w, size_t unit, unsigned kind, size_t arg)
{
    enum truth truth;

    switch (kind & KIND) {
    case IMPORT:
        import_name(w, arg);
        return 1;
    case IF_FALSE:
    case IF_TRUE:
        truth = condition(w);
        if (truth != ((kind & KIND) == IF_FALSE ? ALWAYS : NEVER))
            mark(w, unit, kind, arg);
        return truth != ((kind & KIND) == IF_FALSE ? NEVER : ALWAYS);
    case BRANCH:
        mark(w, unit, kind, arg);
        return 1;
    case JUMP:
        mark(w, unit, kind, arg);
        return 0;
    case END:
        return 0;
    default:
        return 1;
    }
}

static void forget(struct walk *w)
{
    memset(w->past, 0, sizeof(w->past));
}

static void remember(struct walk *w, unsigned kind, size_t arg)
{
    memmove(w->past + 1, w->past, sizeof(w->past) - sizeof(w->past[0]));
    w->past[0] =
        (struct instruction){.kind = (enum kind)(kind & KIND), .arg = arg};
}

static void walk(struct walk *w)
{
    size_t arg = 0;
    int live = 1;

    for (size_t i = 0; i < w->units; i++) {
        const unsigned kind = w->python->kind[w->code[2 * i]];

        if (w->marks[i]) {
            live = 1;
            forget(w);
        }
        arg = arg << 8 | w->code[2 * i + 1];
        if ((kind & KIND) == EXTENDED) {
            arg &= 0xffffff;
            continue;
        }
        if (live && (kind & KIND) != PASSED) {
            live = follow(w, i, kind, arg);
            remember(w, kind, arg);
        }
        arg = 0;
    }
}

static int prepare(struct walk *w, struct mi_error *err)
{
    size_t size = 0;

    w->code = (const unsigned char *)mi_marshal_text(&w->marshal,
                                                     w->marshal.code, &size);
    w->consts =
        mi_marshal_tuple(&w->marshal, w->marshal.consts, &w->const_count);
    w->names = mi_marshal_tuple(&w->marshal, w->marshal.names, &w->name_count);
    w->units = size / 2;
    w->marks = mi_block_new(w->units + 1);
    if (w->marks)
        memset(w->marks, 0, w->units + 1);
    if (!w->code || !w->consts || !w->names || !w->marks)
        return mi_fail(err, MI_FORMAT, EBADMSG, "damaged code of a module");
    return 0;
}

int mi_imports_scan(const void *code, size_t size, unsigned magic, int program,
                    void (*each)(void *arg, const struct mi_import *import),
                    void *arg, struct mi_error *err)
{
    struct walk w = {.python = find_python(magic),
                     .program = program,
                     .each = each,
                     .arg = arg};
    int rc;

    if (!w.python)
        return mi_fail(err, MI_FORMAT, ENOTSUP, "bytecode %u is not known",
                       magic);
    if (mi_marshal_open(&w.marshal, code, size, err) != 0)
        return -1;
    rc = prepare(&w, err);
    if (rc == 0)
        walk(&w);
    mi_block_free(w.marks);
    mi_block_free(w.names);
    mi_block_free(w.consts);
    mi_marshal_clear(&w.marshal);
    return rc;
}
