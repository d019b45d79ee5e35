/* Tests of src/identity.c: which runs have the same manifest. */
#include "check.h"

#include "../../src/identity.h"

/* What get() answers: "NAME=VALUE", up to a NULL. */
static const char *variables[8];

static char *get(const char *name)
{
    size_t size = strlen(name);

    for (const char *const *v = variables; *v; v++)
        if (strncmp(*v, name, size) == 0 && (*v)[size] == '=')
            return (char *)(uintptr_t)(*v + size + 1);
    return NULL;
}

static void set(const char *first, const char *second)
{
    variables[0] = first;
    variables[1] = first ? second : NULL;
    variables[2] = NULL;
}

/* A run of 'line' (words without quotes), up to 32 words. */
static struct mi_identity identity_of(const char *line, int optimize)
{
    const struct mi_bytecode rule = {.magic = {1, 2, 3, 4}};
    char text[1000], *words[33], *saved = NULL;
    struct mi_identity identity;
    struct mi_options options;
    struct mi_error err;
    size_t n = 0;

    snprintf(text, sizeof(text), "%s", line);
    for (char *w = strtok_r(text, " ", &saved); w && n < 32;
         w = strtok_r(NULL, " ", &saved))
        words[n++] = w;
    words[n] = NULL;
    mi_error_clear(&err);
    CHECK_FOR(err.text, mi_options_parse(&options, words, get, &err) == 0);
    CHECK_FOR(err.text, mi_identity_make(&identity, &options, "/v/bin/python",
                                         &rule, optimize, get, &err) == 0);
    CHECK_FOR(line, !identity.path == !identity.key);
    mi_options_clear(&options);
    return identity;
}

/* Its manifest's path, in one of two buffers; "" if there is none. */
static const char *path_of(const char *line)
{
    static char paths[2][PATH_MAX];
    static int next;
    struct mi_identity identity = identity_of(line, 0);

    next = !next;
    snprintf(paths[next], PATH_MAX, "%s", identity.path ? identity.path : "");
    mi_identity_clear(&identity);
    mi_identity_clear(&identity);
    return paths[next];
}

static int is_same(const char *a, const char *b)
{
    return strcmp(path_of(a), path_of(b)) == 0;
}

static void test_same_program_same_manifest(void)
{
    static const char *const same[][2] = {
        {"/a/b.py", "/a/b.py x --y"},          {"/a/b.py", "/a/./c/..//b.py"},
        {"-m pkg.mod", "-m pkg.mod -x"},       {"-c pass", "-v -c pass 1"},
        {"/a/b.py", "--timing -T /x /a/b.py"},
    };

    set("XDG_CACHE_HOME=/c", NULL);
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        CHECK_FOR(same[i][1], is_same(same[i][0], same[i][1]));
}

static void test_other_program_or_options_other_manifest(void)
{
    static const char *const lines[] = {
        "/a/b.py",       "/a/c.py",    "-m b",
        "-m c",          "-c b",       "-c c",
        "-S /a/b.py",    "-E /a/b.py", "--strategy names /a/b.py",
        "-s -P /a/b.py", "-s /a/b.py", "--data none /a/b.py",
    };
    const size_t count = sizeof(lines) / sizeof(lines[0]);

    set("XDG_CACHE_HOME=/c", NULL);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++)
            CHECK_FOR(lines[i], is_same(lines[i], lines[k]) == (i == k));
}

static void test_environment_counts(void)
{
    static const char *const others[] = {
        "PYTHONPATH=/x", "PYTHONPATH=/y", "PYTHONHOME=/x",
        "PYTHONPYCACHEPREFIX=/x", "PYTHONNOUSERSITE=1"};
    char plain[PATH_MAX];
    struct mi_identity identity;

    set("XDG_CACHE_HOME=/c", NULL);
    strcpy(plain, path_of("/a.py"));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        set("XDG_CACHE_HOME=/c", others[i]);
        CHECK_FOR(others[i], strcmp(plain, path_of("/a.py")) != 0);
    }
    set("XDG_CACHE_HOME=/c", "PYTHONPATH=");
    CHECK(strcmp(plain, path_of("/a.py")) == 0);
    identity = identity_of("/a.py", 1);
    CHECK(identity.path && strcmp(plain, identity.path) != 0);
    mi_identity_clear(&identity);
}

static void test_key_is_readable(void)
{
    struct mi_identity identity;

    set("XDG_CACHE_HOME=/c", "PYTHONPATH=/x:/y");
    identity = identity_of("-E -W error /a/b.py x", 2);
    CHECK(identity.key &&
          strcmp(identity.key, "script /a/b.py\n"
                               "interpreter /v/bin/python 01020304\n"
                               "optimize 2\n"
                               "options -E -W error\n"
                               "strategy all\n"
                               "data packages\n"
                               "PYTHONPATH=/x:/y\n") == 0);
    mi_identity_clear(&identity);
}

static int begins(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

static void test_place_is_the_users_cache(void)
{
    set("XDG_CACHE_HOME=/c", "HOME=/h");
    CHECK(begins(path_of("a.py"), "/c/mpiimport/"));
    set("XDG_CACHE_HOME=relative", "HOME=/h");
    CHECK(begins(path_of("a.py"), "/h/.cache/mpiimport/"));
    set("HOME=/h", NULL);
    CHECK(begins(path_of("a.py"), "/h/.cache/mpiimport/"));
    set("HOME=relative", NULL);
    CHECK(strcmp(path_of("a.py"), "") == 0);
    set(NULL, NULL);
    CHECK(strcmp(path_of("a.py"), "") == 0);
}

static void test_file_is_taken_without_a_home(void)
{
    char here[PATH_MAX], expected[2 * PATH_MAX];

    set(NULL, NULL);
    CHECK(strcmp(path_of("--manifest /m/../f a.py"), "/f") == 0);
    check_need(getcwd(here, sizeof(here)) != NULL, "directory");
    snprintf(expected, sizeof(expected), "%s/sub/f", here);
    CHECK(strcmp(path_of("--manifest sub/f -"), expected) == 0);
    CHECK(strcmp(path_of("--manifest sub/f"), expected) == 0);
}

static void test_none_where_there_is_nothing_to_know(void)
{
    static const char *const lines[] = {"",
                                        "-",
                                        "--manifest none a.py",
                                        "-d a.py",
                                        "--strategy none a.py",
                                        "-d --manifest /m a.py",
                                        "--strategy none --manifest /m a.py"};

    set("XDG_CACHE_HOME=/c", NULL);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        CHECK_FOR(lines[i], strcmp(path_of(lines[i]), "") == 0);
}

int main(void)
{
    test_same_program_same_manifest();
    test_other_program_or_options_other_manifest();
    test_environment_counts();
    test_key_is_readable();
    test_place_is_the_users_cache();
    test_file_is_taken_without_a_home();
    test_none_where_there_is_nothing_to_know();
    return check_report();
}
