/* Tests of src/error.c. */
#include "check.h"

#include "../../src/error.h"

static void test_fail_fields_filled(void)
{
    struct mi_error err;

    memset(&err, 0x5a, sizeof(err));
    errno = EXDEV;
    CHECK(mi_fail(&err, MI_MPI, 17, "%s at %d", "trouble", 5) == -1);
    CHECK(err.domain == MI_MPI && err.code == 17);
    CHECK(strcmp(err.text, "trouble at 5") == 0);
    CHECK(errno == EXDEV);
}

static void test_fail_null_survived(void)
{
    errno = EXDEV;
    CHECK(mi_fail(NULL, MI_FORMAT, 0, "%s", "nobody reads this") == -1);
    CHECK(mi_fail_errno(NULL, "%s", "nor this") == -1);
    CHECK(mi_fail_context(NULL, "%s", "nor this") == -1);
    mi_error_clear(NULL);
    CHECK(errno == EXDEV);
}

static void test_fail_long_text_cut(void)
{
    struct mi_error err;
    char text[3000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    CHECK(mi_fail(&err, MI_ERRNO, 1, "%s", text) == -1);
    CHECK(strlen(err.text) == sizeof(err.text) - 1);
    CHECK(strncmp(err.text, text, sizeof(err.text) - 1) == 0);
    errno = ENOENT;
    CHECK(mi_fail_errno(&err, "%s", text) == -1);
    CHECK(strlen(err.text) == sizeof(err.text) - 1 && err.code == ENOENT);
    CHECK(mi_fail_context(&err, "%s", text) == -1);
    CHECK(strlen(err.text) == sizeof(err.text) - 1 && err.code == ENOENT);
    CHECK(mi_fail_context(&err, "short") == -1);
    CHECK(strncmp(err.text, "short: xxx", 10) == 0);
    CHECK(strlen(err.text) == sizeof(err.text) - 1);
}

static void test_fail_errno_system_text_added(void)
{
    struct mi_error err;

    errno = ENOSPC;
    CHECK(mi_fail_errno(&err, "cannot write %s", "/a") == -1);
    CHECK(errno == ENOSPC);
    CHECK(err.domain == MI_ERRNO && err.code == ENOSPC);
    CHECK(strcmp(err.text, "cannot write /a: No space left on device") == 0);
    errno = 123456;
    CHECK(mi_fail_errno(&err, "odd") == -1 && err.code == 123456);
    CHECK(strncmp(err.text, "odd: ", 5) == 0 && strstr(err.text, "123456"));
}

static void test_context_fields_kept(void)
{
    struct mi_error err;

    mi_fail(&err, MI_FORMAT, 74, "not a record");
    CHECK(mi_fail_context(&err, "/a/%s", "b.so") == -1);
    CHECK(err.domain == MI_FORMAT && err.code == 74);
    CHECK(strcmp(err.text, "/a/b.so: not a record") == 0);
    CHECK(mi_fail_context(&err, "%d", 3) == -1);
    CHECK(strcmp(err.text, "3: /a/b.so: not a record") == 0);
}

static void test_clear_filled_empty(void)
{
    struct mi_error err;

    mi_fail(&err, MI_ERRNO, 5, "something");
    mi_error_clear(&err);
    CHECK(err.domain == MI_NONE && err.code == 0 && err.text[0] == '\0');
    mi_error_clear(&err);
    CHECK(err.domain == MI_NONE);
}

int main(void)
{
    test_fail_fields_filled();
    test_fail_null_survived();
    test_fail_long_text_cut();
    test_fail_errno_system_text_added();
    test_context_fields_kept();
    test_clear_filled_empty();
    return check_report();
}
