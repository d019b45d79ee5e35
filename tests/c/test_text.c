/* Tests of src/text.c. */
#include "check.h"

#include "../../src/text.h"

static void test_parts_one_after_the_other(void)
{
    struct mi_text text = {.size = 0};
    size_t size;
    char *all;

    mi_text_add(&text, "a");
    mi_text_put(&text, "b\0c", 3);
    mi_text_put(&text, NULL, 0);
    mi_text_format(&text, "%c%s-%d", '\0', "d", 7);
    CHECK(text.size == 8 && text.bytes[8] == '\0');
    all = mi_text_take(&text, &size);
    CHECK(size == 8 && memcmp(all, "ab\0c\0d-7", 9) == 0);
    CHECK(!text.bytes && text.size == 0);
    free(all);
}

static void test_empty(void)
{
    struct mi_text text = {.size = 0};
    size_t size = 1;
    char *all = mi_text_take(&text, &size);

    CHECK(all && size == 0 && all[0] == '\0');
    free(all);
    mi_text_clear(&text);
}

/* Around each size at which there is no room any more. */
static void test_grows(void)
{
    struct mi_text text = {.size = 0};
    char *all, expected[6000];
    int used = 0;

    for (int i = 0; i < 1000; i++) {
        used += snprintf(expected + used, sizeof(expected) - (size_t)used,
                         "%d,", i);
        mi_text_format(&text, "%d,", i);
        CHECK(strcmp(text.bytes, expected) == 0);
    }
    all = mi_text_take(&text, NULL);
    CHECK(strcmp(all, expected) == 0);
    free(all);
}

static void test_failure_stays(void)
{
    struct mi_text text = {.size = 0};

    mi_text_add(&text, "a");
    text.failed = ENOMEM; /* as when there is no memory */
    mi_text_add(&text, "b");
    mi_text_format(&text, "%d", 1);
    errno = 0;
    CHECK(!mi_text_take(&text, NULL) && errno == ENOMEM);
    CHECK(!text.bytes && !text.failed);
    mi_text_add(&text, "c"); /* a new one */
    CHECK(strcmp(text.bytes, "c") == 0);
    mi_text_clear(&text);
    CHECK(!text.bytes);
}

int main(void)
{
    test_parts_one_after_the_other();
    test_empty();
    test_grows();
    test_failure_stays();
    return check_report();
}
