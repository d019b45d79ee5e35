/* src/imports.c and src/marshal.c.  With arguments: "test_imports FILE..."
 * prints what each of these .pyc files imports, a line for each import
 * (tests/unit/test_imports.py).
 */
#include "bytecode.h"

#include "../../src/imports.h"

struct seen {
    char text[2000];
    int count;
};

/* "LEVEL NAME: FROM FROM;" of each. */
static void note(void *arg, const struct mi_import *import)
{
    struct seen *seen = arg;
    size_t used = strlen(seen->text);

    seen->count++;
    used += (size_t)snprintf(seen->text + used, sizeof(seen->text) - used,
                             "%d %s:", import->level, import->name);
    for (const char *p = import->from; *p; p += strlen(p) + 1)
        used += (size_t)snprintf(seen->text + used, sizeof(seen->text) - used,
                                 " %s", p);
    snprintf(seen->text + used, sizeof(seen->text) - used, ";");
}

static struct seen scan(const struct bytecode *b, int program)
{
    struct seen seen = {0};
    struct mi_error err;

    mi_error_clear(&err);
    CHECK_FOR(err.text, mi_imports_scan(b->bytes, b->size, BYTECODE_MAGIC,
                                        program, note, &seen, &err) == 0);
    return seen;
}

static void test_scan_statements_gives_names_in_order(void)
{
    struct bytecode b;
    struct seen seen;

    bytecode_begin(&b);
    bytecode_import(&b, 0, "a.b", NULL);
    bytecode_import(&b, 0, "a", "c d");
    bytecode_import(&b, 1, "", "e");
    bytecode_import(&b, 2, "f", "*");
    bytecode_end(&b);
    seen = scan(&b, 0);
    CHECK_FOR(seen.text,
              strcmp(seen.text, "0 a.b:;0 a: c d;1 : e;2 f:;") == 0);
}

/* More constants than one byte counts. */
static void test_scan_extended_argument_counts(void)
{
    struct bytecode b;
    struct seen seen;

    bytecode_begin(&b);
    for (int i = 0; i < 300; i++)
        bytecode_constant(&b, "filler");
    bytecode_import(&b, 0, "far", "x");
    bytecode_end(&b);
    seen = scan(&b, 0);
    CHECK_FOR(seen.text, strcmp(seen.text, "0 far: x;") == 0);
}

static void test_scan_condition_on_typing_passes_over(void)
{
    struct bytecode b;
    struct seen seen;
    size_t jump;

    bytecode_begin(&b);
    jump = bytecode_unless(&b, "TYPE_CHECKING");
    bytecode_import(&b, 0, "never", NULL);
    bytecode_land(&b, jump);
    bytecode_import(&b, 0, "always", NULL);
    jump = bytecode_unless(&b, "SOMETHING");
    bytecode_import(&b, 0, "perhaps", NULL);
    bytecode_land(&b, jump);
    bytecode_end(&b);
    seen = scan(&b, 0);
    CHECK_FOR(seen.text, strcmp(seen.text, "0 always:;0 perhaps:;") == 0);
}

static void test_scan_main_depends_on_program(void)
{
    struct bytecode b;
    struct seen seen;
    size_t jump;

    bytecode_begin(&b);
    jump = bytecode_unless_equal(&b, "__name__", "__main__");
    bytecode_import(&b, 0, "tool", NULL);
    bytecode_land(&b, jump);
    bytecode_end(&b);
    seen = scan(&b, 0);
    CHECK(seen.count == 0);
    seen = scan(&b, 1);
    CHECK(seen.count == 1);
}

/* What is behind a return is reached by an exception, if at all. */
static void test_scan_behind_return_is_not_reached(void)
{
    struct bytecode b;
    struct seen seen;

    bytecode_begin(&b);
    bytecode_import(&b, 0, "first", NULL);
    bytecode_return(&b);
    bytecode_import(&b, 0, "second", NULL);
    bytecode_end(&b);
    seen = scan(&b, 0);
    CHECK_FOR(seen.text, strcmp(seen.text, "0 first:;") == 0);
}

static void test_scan_impossible_names_left_out(void)
{
    static char name[MI_IMPORT_TEXT + 10];
    struct bytecode b;
    struct seen seen;

    memset(name, 'n', sizeof(name) - 1);
    bytecode_begin(&b);
    bytecode_import(&b, 0, name, NULL);
    bytecode_import(&b, 0, "a/../b", NULL);
    bytecode_import(&b, -1, "negative", NULL);
    bytecode_import(&b, 0, "good", NULL);
    bytecode_end(&b);
    seen = scan(&b, 0);
    CHECK_FOR(seen.text, strcmp(seen.text, "0 good:;") == 0);
}

static void test_scan_unsound_refused(void)
{
    struct bytecode b;
    struct seen seen = {0};
    struct mi_error err;

    bytecode_begin(&b);
    bytecode_import(&b, 0, "a", "b");
    bytecode_end(&b);
    for (size_t cut = 0; cut < b.size; cut++) {
        mi_error_clear(&err);
        CHECK(mi_imports_scan(b.bytes, cut, BYTECODE_MAGIC, 0, note, &seen,
                              &err) == -1 &&
              err.domain == MI_FORMAT);
    }
    CHECK(mi_imports_scan(b.bytes, b.size, 1, 0, note, &seen, &err) == -1);
    CHECK(mi_imports_scan("N", 1, BYTECODE_MAGIC, 0, note, &seen, &err) == -1);
    CHECK(seen.count == 0);
}

/* Objects in objects in objects: the stack must hold. */
static void test_scan_deep_objects_refused(void)
{
    const size_t deep = 1u << 20;
    unsigned char *bytes = malloc(deep);
    struct mi_error err;

    check_need(bytes != NULL, "memory");
    memset(bytes, ')', deep);
    for (size_t i = 22; i < deep; i += 2)
        bytes[i] = 1;
    memcpy(bytes, "c12341234123412341234", 21);
    CHECK(mi_imports_scan(bytes, deep, BYTECODE_MAGIC, 0, NULL, NULL, &err) ==
          -1);
    free(bytes);
}

static void print(void *arg, const struct mi_import *import)
{
    (void)arg;
    printf("%d %s", import->level, import->name);
    for (const char *p = import->from; *p; p += strlen(p) + 1)
        printf(" %s", p);
    printf("\n");
}

static int print_all(char **paths)
{
    struct mi_error err;
    size_t size;

    for (; *paths; paths++) {
        unsigned char *bytes = check_read(*paths, &size);

        printf("= %s\n", *paths);
        if (size < 16 ||
            mi_imports_scan(bytes + 16, size - 16,
                            (unsigned)bytes[0] | (unsigned)bytes[1] << 8, 0,
                            print, NULL, &err) != 0)
            printf("! %s\n", size < 16 ? "no header" : err.text);
        free(bytes);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return print_all(argv + 1);
    test_scan_statements_gives_names_in_order();
    test_scan_extended_argument_counts();
    test_scan_condition_on_typing_passes_over();
    test_scan_main_depends_on_program();
    test_scan_behind_return_is_not_reached();
    test_scan_impossible_names_left_out();
    test_scan_unsound_refused();
    test_scan_deep_objects_refused();
    return check_report();
}
