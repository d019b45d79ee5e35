/* Tests of src/ldcache.c: the system's cache, and caches made by hand, whole
 * and damaged.
 */
#include "check.h"

#include "../../src/ldcache.h"

#define MUTATIONS 10000

/* Of libraries for this machine; 0: not known here. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define FLAGS 0x0303
#elif defined(__aarch64__) && !defined(__ILP32__)
#define FLAGS 0x0a03
#else
#define FLAGS 0
#endif

static char top[PATH_MAX]; /* this program's scratch directory */

/* ---- caches made by hand -------------------------------------------------
 */

/* A library as it is written: flags, special (0: plain), name, path. */
struct library {
    uint32_t flags;
    uint64_t special;
    const char *name, *path;
};

struct cache {
    unsigned char bytes[4096];
    size_t size;
};

static void put(struct cache *cache, const void *bytes, size_t size)
{
    check_need(cache->size + size <= sizeof(cache->bytes), "room");
    memcpy(cache->bytes + cache->size, bytes, size);
    cache->size += size;
}

static void put_number(struct cache *cache, uint32_t number)
{
    put(cache, &number, sizeof(number));
}

/* The part for old linkers, with 'count' libraries that nobody reads. */
static void put_old(struct cache *cache, uint32_t count)
{
    static const char zeros[8];

    put(cache, "ld.so-1.7.0", 12);
    put_number(cache, count);
    for (uint32_t i = 0; i < 3 * count; i++)
        put_number(cache, 1);
    put(cache, zeros, (8 - cache->size % 8) % 8);
}

static uint32_t count_strings(const struct library *libraries)
{
    size_t size = 0;

    for (; libraries->name; libraries++)
        size += strlen(libraries->name) + strlen(libraries->path) + 2;
    return (uint32_t)size;
}

static uint32_t count_libraries(const struct library *libraries)
{
    uint32_t count = 0;

    while (libraries[count].name)
        count++;
    return count;
}

static void put_header(struct cache *cache, const struct library *libraries)
{
    put(cache, "glibc-ld.so.cache1.1", 20);
    put_number(cache, count_libraries(libraries));
    put_number(cache, count_strings(libraries));
    for (int i = 0; i < 5; i++)
        put_number(cache, 0);
}

/* Append the cache of these libraries, up to one without a name. */
static void put_cache(struct cache *cache, const struct library *libraries)
{
    uint32_t at = 48 + 24 * count_libraries(libraries);
    const struct library *library;

    put_header(cache, libraries);
    for (library = libraries; library->name; library++) {
        put_number(cache, library->flags);
        put_number(cache, at);
        at += (uint32_t)strlen(library->name) + 1;
        put_number(cache, at);
        at += (uint32_t)strlen(library->path) + 1;
        put_number(cache, 0);
        put(cache, &library->special, 8);
    }
    for (library = libraries; library->name; library++) {
        put(cache, library->name, strlen(library->name) + 1);
        put(cache, library->path, strlen(library->path) + 1);
    }
}

/* Those bytes as a cache; NULL if they are refused. */
static struct mi_ldcache *open_bytes(const void *bytes, size_t size,
                                     struct mi_error *err)
{
    struct mi_ldcache *cache = NULL;
    char path[PATH_MAX];
    int rc;

    check_write(check_join(path, top, "cache"), bytes, size);
    rc = mi_ldcache_open(&cache, path, err);
    CHECK((rc == 0) == (cache != NULL));
    return cache;
}

static struct mi_ldcache *open_made(const struct cache *made)
{
    struct mi_error err = {0};
    struct mi_ldcache *cache = open_bytes(made->bytes, made->size, &err);

    check_need(cache != NULL, err.text);
    return cache;
}

/* 'path' may be NULL: not found. */
static void expect(const struct mi_ldcache *cache, const char *name,
                   const char *path)
{
    const char *found = mi_ldcache_find(cache, name);

    CHECK_FOR(name, path ? found && strcmp(found, path) == 0 : !found);
}

static void expect_refused(const struct cache *made, const char *about)
{
    struct mi_error err = {0};
    struct mi_ldcache *cache = open_bytes(made->bytes, made->size, &err);

    CHECK_FOR(about, cache == NULL);
    CHECK_FOR(about, err.domain == MI_FORMAT && err.code == 0);
    CHECK_FOR(about, strstr(err.text, "/cache: ") != NULL);
    mi_ldcache_close(cache);
}

static const struct library libraries[] = {
    {FLAGS, 0, "libz.so.1", "/usr/lib/libz.so.1"},
    {0x0003, 0, "libonly32.so", "/lib32/libonly32.so"},
    {0x0003, 0, "libboth.so", "/lib32/libboth.so"},
    {FLAGS, 0, "libboth.so", "/lib/libboth.so"},
    {FLAGS, 0, "libboth.so", "/second/libboth.so"},
    {FLAGS, UINT64_C(1) << 62, "libfast.so",
     "/lib/glibc-hwcaps/v3/libfast.so"},
    {FLAGS, 0, "libfast.so", "/lib/libfast.so"},
    {FLAGS, UINT64_C(1) << 62, "libfaster.so", "/lib/hwcaps/libfaster.so"},
    {FLAGS, 0, "librelative.so", "lib/librelative.so"},
    {FLAGS, 0, "", "/lib/empty"},
    {0}};

static void expect_libraries(const struct mi_ldcache *cache)
{
    expect(cache, "libz.so.1", "/usr/lib/libz.so.1");
    expect(cache, "libonly32.so", NULL);
    expect(cache, "libboth.so", "/lib/libboth.so");
    expect(cache, "libfast.so", "/lib/libfast.so");
    expect(cache, "libfaster.so", NULL);
    expect(cache, "librelative.so", NULL);
    expect(cache, "libz.so", NULL);
    expect(cache, "libz.so.1.2", NULL);
    expect(cache, "/usr/lib/libz.so.1", NULL);
}

static void test_find_in_new_format(void)
{
    struct cache made = {.size = 0};
    struct mi_ldcache *cache;

    put_cache(&made, libraries);
    cache = open_made(&made);
    expect_libraries(cache);
    mi_ldcache_close(cache);
}

static void test_find_behind_old_format(void)
{
    for (uint32_t count = 0; count < 4; count++) {
        struct cache made = {.size = 0};
        struct mi_ldcache *cache;

        put_old(&made, count);
        put_cache(&made, libraries);
        cache = open_made(&made);
        expect_libraries(cache);
        mi_ldcache_close(cache);
    }
}

static void test_find_in_empty_cache_nothing(void)
{
    static const struct library none[] = {{0}};
    struct cache made = {.size = 0};
    struct mi_ldcache *cache;

    put_cache(&made, none);
    cache = open_made(&made);
    expect(cache, "libz.so.1", NULL);
    expect(cache, "", NULL);
    mi_ldcache_close(cache);
}

/* ---- damage --------------------------------------------------------------
 */

/* Ask for all, and read what is found to its end. */
static void read_all(const struct mi_ldcache *cache)
{
    const struct library *library;

    for (library = libraries; library->name; library++) {
        const char *path = mi_ldcache_find(cache, library->name);

        CHECK(!path || (path[0] == '/' && strlen(path) < 4096));
    }
}

static void test_open_truncated_refused(void)
{
    for (int old = 0; old < 2; old++) {
        struct cache made = {.size = 0};
        size_t size;

        if (old)
            put_old(&made, 3);
        put_cache(&made, libraries);
        size = made.size;
        for (made.size = 0; made.size < size; made.size++)
            expect_refused(&made, __func__);
    }
}

static void test_open_other_format_refused(void)
{
    struct cache made = {.size = 0};

    put_old(&made, 300);
    made.size = 200;
    expect_refused(&made, "old format, truncated");
    made.size = 0;
    put_old(&made, 3);
    for (int i = 0; i < 100; i++)
        put_number(&made, 1);
    expect_refused(&made, "old format");
    made.size = 0;
    put_cache(&made, libraries);
    made.bytes[19] = '2';
    expect_refused(&made, "version");
    made.bytes[19] = '1';
    made.bytes[28] = 1;
    expect_refused(&made, "byte order");
    memset(made.bytes + 20, 0xff, 4);
    made.bytes[28] = 0;
    expect_refused(&made, "count");
}

/* The first library with other offsets, unless they are 0. */
static void expect_offset(uint32_t key, uint32_t value, const char *path)
{
    struct cache made = {.size = 0};
    struct mi_ldcache *cache;

    put_cache(&made, libraries);
    if (key)
        memcpy(made.bytes + 48 + 4, &key, 4);
    if (value)
        memcpy(made.bytes + 48 + 8, &value, 4);
    cache = open_made(&made);
    expect(cache, "libz.so.1", path);
    expect(cache, "libboth.so", "/lib/libboth.so");
    mi_ldcache_close(cache);
}

static void test_find_offset_beyond_end_not_found(void)
{
    struct cache made = {.size = 0};

    put_cache(&made, libraries);
    expect_offset(0, 0, "/usr/lib/libz.so.1");
    expect_offset(UINT32_MAX, 0, NULL);
    expect_offset(0, UINT32_MAX, NULL);
    expect_offset((uint32_t)made.size, 0, NULL);
    expect_offset(0, (uint32_t)made.size, NULL);
    expect_offset(0, (uint32_t)made.size - 1, NULL);
    expect_offset(0, (uint32_t)made.size - 7, "/empty");
}

/* The last string without its end, in a cache that is as long as it says. */
static void test_find_string_without_end_not_found(void)
{
    static const struct library one[] = {{FLAGS, 0, "liba.so", "/lib/liba.so"},
                                         {0}};
    struct cache made = {.size = 0};
    struct mi_ldcache *cache;

    put_cache(&made, one);
    cache = open_made(&made);
    expect(cache, "liba.so", "/lib/liba.so");
    mi_ldcache_close(cache);
    made.bytes[made.size - 1] = 'x';
    cache = open_made(&made);
    expect(cache, "liba.so", NULL);
    mi_ldcache_close(cache);
}

static uint64_t next_random(void)
{
    static uint64_t state = 20240229;

    /* xorshift64*, Vigna 2016 */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * UINT64_C(0x2545f4914f6cdd1d)) >> 16;
}

static void mutate(struct cache *cache)
{
    static const uint32_t awkward[] = {
        0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0, 4095};
    size_t at = next_random() % (cache->size - 4);
    uint32_t value = awkward[next_random() % 7];

    switch (next_random() % 4) {
    case 0:
        cache->bytes[at] = (unsigned char)next_random();
        break;
    case 1:
        memcpy(cache->bytes + at / 4 * 4, &value, 4);
        break;
    case 2:
        value = (uint32_t)(next_random() % (cache->size + 8));
        memcpy(cache->bytes + at / 4 * 4, &value, 4);
        break;
    default:
        cache->size -= next_random() % 16;
        break;
    }
}

/* For the sanitizers: nothing is read beyond the end. */
static void test_damaged_nothing_read_beyond(void)
{
    int accepted = 0;

    for (int i = 0; i < MUTATIONS; i++) {
        struct cache made = {.size = 0};
        struct mi_error err = {0};
        struct mi_ldcache *cache;

        if (i % 2)
            put_old(&made, (uint32_t)i % 3);
        put_cache(&made, libraries);
        for (uint64_t n = 1 + next_random() % 4; n > 0; n--)
            mutate(&made);
        cache = open_bytes(made.bytes, made.size, &err);
        if (!cache) {
            CHECK(err.domain == MI_FORMAT);
            continue;
        }
        accepted++;
        read_all(cache);
        mi_ldcache_close(cache);
    }
    CHECK(accepted > MUTATIONS / 10 && accepted < MUTATIONS);
}

/* ---- files ---------------------------------------------------------------
 */

static void expect_unreadable(const char *path, int code)
{
    struct mi_ldcache *cache = (void *)top;
    struct mi_error err = {0};

    CHECK_FOR(path, mi_ldcache_open(&cache, path, &err) == -1);
    CHECK_FOR(path, cache == (void *)top);
    CHECK_FOR(err.text, err.domain == MI_ERRNO && err.code == code);
    CHECK_FOR(err.text, strstr(err.text, path) != NULL);
    CHECK_FOR(path, mi_ldcache_open(&cache, path, NULL) == -1);
}

static void test_open_not_a_file_told(void)
{
    int files = check_entries("/proc/self/fd");
    char path[PATH_MAX];

    expect_unreadable(check_join(path, top, "missing"), ENOENT);
    expect_unreadable(top, EINVAL);
    check_need(mkfifo(check_join(path, top, "fifo"), 0600) == 0, path);
    expect_unreadable(path, EINVAL);
    CHECK(check_entries("/proc/self/fd") == files);
    mi_ldcache_close(NULL);
}

/* ---- the system's --------------------------------------------------------
 */

/* What ldconfig -p says of a library, "\tNAME (KIND) => PATH". */
struct line {
    char name[256], kind[256], path[PATH_MAX];
};

static int parse_line(const char *text, struct line *line)
{
    return sscanf(text, "\t%255s (%255[^)]) => %4095s", line->name, line->kind,
                  line->path) == 3;
}

/* The kind of the library of this path without what it says of kernels, as
 * "libc6,x86-64".
 */
static void find_kind(FILE *lines, const char *path, char kind[256])
{
    char text[2 * PATH_MAX], *comma;
    struct line line;

    *kind = '\0';
    rewind(lines);
    while (fgets(text, sizeof(text), lines))
        if (parse_line(text, &line) && path && strcmp(line.path, path) == 0)
            strcpy(kind, line.kind);
    comma = strchr(kind, ',');
    comma = comma ? strchr(comma + 1, ',') : NULL;
    if (comma)
        *comma = '\0';
}

/* All lines of that kind, the first of each name.  Returns their number. */
static int compare_lines(const struct mi_ldcache *cache, FILE *lines,
                         const char *kind)
{
    char text[2 * PATH_MAX], last[256] = "";
    const size_t length = strlen(kind);
    struct line line;
    int count = 0;

    rewind(lines);
    while (fgets(text, sizeof(text), lines)) {
        if (!parse_line(text, &line) || strstr(line.kind, "hwcap") ||
            strncmp(line.kind, kind, length) != 0 ||
            (line.kind[length] && line.kind[length] != ',') ||
            strcmp(line.name, last) == 0)
            continue;
        strcpy(last, line.name);
        expect(cache, line.name, line.path);
        count++;
    }
    return count;
}

static void compare_ldconfig(const struct mi_ldcache *cache)
{
    char command[2 * PATH_MAX], path[PATH_MAX], kind[256];
    FILE *lines;

    check_join(path, top, "lines");
    snprintf(command, sizeof(command),
             "PATH=$PATH:/sbin:/usr/sbin ldconfig -p > %s 2> /dev/null", path);
    if (system(command) != 0) {
        check_skipped(__func__, "no ldconfig");
        return;
    }
    lines = fopen(path, "r");
    check_need(lines != NULL, path);
    find_kind(lines, mi_ldcache_find(cache, "libc.so.6"), kind);
    CHECK_FOR(kind, compare_lines(cache, lines, kind) > 1);
    fclose(lines);
}

static void test_find_in_system_cache(void)
{
    static const char *const names[] = {"libc.so.6", "libm.so.6"};
    struct mi_ldcache *cache = NULL;
    struct mi_error err = {0};

    if (access("/etc/ld.so.cache", R_OK) != 0) {
        check_skipped(__func__, "no /etc/ld.so.cache");
        return;
    }
    CHECK_FOR(err.text, mi_ldcache_open(&cache, NULL, &err) == 0);
    check_need(cache != NULL, err.text);
    for (int i = 0; i < 2; i++) {
        const char *path = mi_ldcache_find(cache, names[i]);

        CHECK_FOR(names[i], path && access(path, R_OK) == 0);
        CHECK_FOR(names[i], path && strstr(path, names[i]) != NULL);
    }
    expect(cache, "libmi-nowhere.so.3", NULL);
    compare_ldconfig(cache);
    mi_ldcache_close(cache);
}

int main(void)
{
    check_scratch(top);
    if (FLAGS) {
        test_find_in_new_format();
        test_find_behind_old_format();
        test_find_offset_beyond_end_not_found();
        test_find_string_without_end_not_found();
        test_damaged_nothing_read_beyond();
    } else {
        check_skipped("caches made by hand", "flags of this machine");
    }
    test_find_in_empty_cache_nothing();
    test_open_truncated_refused();
    test_open_other_format_refused();
    test_open_not_a_file_told();
    test_find_in_system_cache();
    check_remove(top);
    return check_report();
}
