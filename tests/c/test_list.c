/* Tests of src/list.c and of what src/prefixes.c asks a list: the rest of both
 * is tested by way of the options.
 */
#include "check.h"

#include "../../src/list.h"
#include "../../src/prefixes.h"

static void test_append_copies_in_order(void)
{
    char **list = mi_list_new(0), text[] = "one";

    check_need(list != NULL, "memory");
    CHECK(mi_list_append(&list, text) == 0);
    text[0] = 'x';
    CHECK(mi_list_append(&list, "") == 0 && mi_list_append(&list, "two") == 0);
    CHECK(mi_list_length(list) == 3 && !list[3]);
    CHECK(strcmp(list[0], "one") == 0 && strcmp(list[1], "") == 0 &&
          strcmp(list[2], "two") == 0);
    CHECK(mi_list_has(list, "two") && !mi_list_has(list, "xne"));
    mi_list_clear(&list);
    CHECK(!list);
}

static void test_copy_same_texts_own_memory(void)
{
    char one[] = "one", two[] = "two", *list[] = {one, two, NULL}, **copy;

    CHECK(mi_list_copy(&copy, list) == 0);
    CHECK(mi_list_length(copy) == 2 && copy[0] != one);
    CHECK(strcmp(copy[0], "one") == 0 && strcmp(copy[1], "two") == 0);
    mi_list_clear(&copy);
    CHECK(mi_list_copy(&copy, NULL) == 0 && copy && !copy[0]);
    mi_list_clear(&copy);
    CHECK(mi_list_copy(&copy, list + 2) == 0 && copy && !copy[0]);
    mi_list_clear(&copy);
}

static void test_prefixes_has_whole_names(void)
{
    static const struct {
        const char *prefix;
        const char *path;
        int has;
    } cases[] = {{"/a/b", "/a/b", 1},  {"/a/b", "/a/b/c", 1},
                 {"/a/b", "/a/bc", 0}, {"/a/b", "/a", 0},
                 {"/a/b/", "/a/b", 1}, {"/", "/a", 1},
                 {"/", "/", 1},        {"/a", "/b/a", 0}};
    char *list[2] = {NULL, NULL};

    CHECK(!mi_prefixes_has(NULL, "/a") && !mi_prefixes_has(list, "/a"));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        list[0] = strdup(cases[i].prefix);
        CHECK_FOR(cases[i].path,
                  mi_prefixes_has(list, cases[i].path) == cases[i].has);
        free(list[0]);
    }
}

static void test_prefixes_shared_longest_decides(void)
{
    char a[] = "/a", b[] = "/a/b", c[] = "/a/b/c";
    char *share[] = {a, c, NULL}, *local[] = {b, NULL};

    CHECK(mi_prefixes_shared(NULL, NULL, "/x"));
    CHECK(mi_prefixes_shared(share, local, "/x"));
    CHECK(mi_prefixes_shared(share, local, "/a/x"));
    CHECK(!mi_prefixes_shared(share, local, "/a/b"));
    CHECK(!mi_prefixes_shared(share, local, "/a/b/x"));
    CHECK(mi_prefixes_shared(share, local, "/a/b/c/x"));
    CHECK(!mi_prefixes_shared(NULL, local, "/a/b/c/x"));
    CHECK(mi_prefixes_shared(local, local, "/a/b")); /* both have it */
}

int main(void)
{
    test_append_copies_in_order();
    test_copy_same_texts_own_memory();
    test_prefixes_has_whole_names();
    test_prefixes_shared_longest_decides();
    return check_report();
}
