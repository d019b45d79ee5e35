/* Tests of src/limit.c: sizes as users give them. */
#include "check.h"

#include "../../src/limit.h"

#define KIB ((uint64_t)1 << 10)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_parse_number_and_unit_read(void)
{
    static const struct {
        const char *text;
        enum mi_limit_kind kind;
        uint64_t value;
    } cases[] = {
        {"0", MI_LIMIT_BYTES, 0},
        {"1", MI_LIMIT_BYTES, 1},
        {"007", MI_LIMIT_BYTES, 7},
        {"0T", MI_LIMIT_BYTES, 0},
        {"1K", MI_LIMIT_BYTES, KIB},
        {"3k", MI_LIMIT_BYTES, 3 * KIB},
        {"5M", MI_LIMIT_BYTES, 5 * KIB * KIB},
        {"5m", MI_LIMIT_BYTES, 5 * KIB * KIB},
        {"2G", MI_LIMIT_BYTES, 2 * KIB * KIB * KIB},
        {"2g", MI_LIMIT_BYTES, 2 * KIB * KIB * KIB},
        {"4T", MI_LIMIT_BYTES, 4 * KIB * KIB * KIB * KIB},
        {"4t", MI_LIMIT_BYTES, 4 * KIB * KIB * KIB * KIB},
        {"16777215T", MI_LIMIT_BYTES, ((uint64_t)16777215) << 40},
        {"18446744073709551615", MI_LIMIT_BYTES, UINT64_MAX},
        {"0%", MI_LIMIT_PERCENT, 0},
        {"10%", MI_LIMIT_PERCENT, 10},
        {"100%", MI_LIMIT_PERCENT, 100},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_limit limit = {0};

        CHECK_FOR(cases[i].text, mi_limit_parse(&limit, cases[i].text) == 0);
        CHECK_FOR(cases[i].text, limit.kind == cases[i].kind);
        CHECK_FOR(cases[i].text, limit.value == cases[i].value);
        CHECK_FOR(cases[i].text,
                  mi_limit_is_zero(&limit) == (cases[i].value == 0));
    }
}

static void test_parse_anything_else_refused(void)
{
    static const char *const cases[] = {"",
                                        " ",
                                        "K",
                                        "%",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1 K",
                                        "1KK",
                                        "1KB",
                                        "1KiB",
                                        "1P",
                                        "1.5G",
                                        "0x10",
                                        "101%",
                                        "1%%",
                                        "1%K",
                                        "1K%",
                                        "1e3",
                                        "\xd9\xa3",
                                        "1\xff",
                                        "half",
                                        "1B",
                                        "16777216T",
                                        "18446744073709551616",
                                        "18014398509481984K"};

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_limit limit = {.kind = MI_LIMIT_PERCENT, .value = 77};

        CHECK_FOR(cases[i], mi_limit_parse(&limit, cases[i]) == -1);
        CHECK_FOR(cases[i],
                  limit.kind == MI_LIMIT_PERCENT && limit.value == 77);
    }
}

/* Of a filesystem of 1000 KiB. */
static int measure(void *arg)
{
    static const struct {
        struct mi_limit limit;
        uint64_t bytes;
    } cases[] = {
        {{MI_LIMIT_DEFAULT, 0}, 250 * KIB},
        {{MI_LIMIT_PERCENT, 0}, 0},
        {{MI_LIMIT_PERCENT, 1}, 10 * KIB},
        {{MI_LIMIT_PERCENT, 10}, 100 * KIB},
        {{MI_LIMIT_PERCENT, 100}, 1000 * KIB},
        {{MI_LIMIT_BYTES, 12345}, 12345},
        {{MI_LIMIT_BYTES, 0}, 0},
    };

    if (!check_small_tmpfs(arg, 1000))
        return CHECK_SKIP;
    for (size_t i = 0; i < COUNT(cases); i++)
        CHECK(mi_limit_bytes(&cases[i].limit, arg) == cases[i].bytes);
    check_need(check_noexec_tmpfs(arg, 0), arg); /* 0: without a size */
    CHECK(mi_limit_bytes(&cases[0].limit, arg) == UINT64_MAX);
    CHECK(mi_limit_bytes(&cases[5].limit, arg) == 12345);
    return 0;
}

static void test_bytes_of_filesystem(void)
{
    const struct mi_limit none = {0}, some = {MI_LIMIT_BYTES, 5};
    char scratch[PATH_MAX], path[PATH_MAX];

    check_scratch(scratch);
    check_join(path, scratch, "absent");
    CHECK(mi_limit_bytes(&none, path) == UINT64_MAX);
    CHECK(mi_limit_bytes(&some, path) == 5);
    CHECK(!mi_limit_is_zero(&none));
    if (!check_child(measure, scratch, __func__))
        check_skipped(__func__, "a filesystem cannot be mounted here");
    check_remove(scratch);
}

int main(void)
{
    test_parse_number_and_unit_read();
    test_parse_anything_else_refused();
    test_bytes_of_filesystem();
    return check_report();
}
