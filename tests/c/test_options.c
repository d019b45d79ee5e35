/* Tests of src/options.c and of what it is made of: whose each word is, what
 * the values mean, and what is said about wrong ones.
 *
 * A command line is written as one string here: blanks separate the words, ''
 * is an empty one.
 */
#include "check.h"

#include <ctype.h>

/* The sources are compiled here, so that an allocation can be made to fail:
 * the one for which 'patience' has come down to 0.
 */
static int patience = -1;

static int is_refused(void)
{
    return patience >= 0 && patience-- == 0;
}

static void *test_malloc(size_t size)
{
    return is_refused() ? NULL : malloc(size);
}

static void *test_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : calloc(count, size);
}

static void *test_realloc(void *block, size_t size)
{
    return is_refused() ? NULL : realloc(block, size);
}

static char *test_strdup(const char *text)
{
    return is_refused() ? NULL : strdup(text);
}

#define malloc test_malloc
#define calloc test_calloc
#define realloc test_realloc
#undef strdup
#define strdup test_strdup
#include "../../src/line.c"
#include "../../src/list.c"
#include "../../src/options.c"
#include "../../src/prefixes.c"
#undef malloc
#undef calloc
#undef realloc
#undef strdup

#define TEXT 8192

/* ---- command lines ------------------------------------------------------ */

/* The words of 'line'. */
static char **split(const char *line)
{
    char **words = mi_list_new(strlen(line) + 1);
    size_t n = 0, size;

    check_need(words != NULL, "memory");
    for (line += strspn(line, " "); *line; line += strspn(line, " ")) {
        size = strcspn(line, " ");
        words[n] =
            strncmp(line, "''", size) ? strndup(line, size) : strdup("");
        check_need(words[n++] != NULL, "memory");
        line += size;
    }
    return words;
}

/* The other way round; static. */
static const char *join_words(char *const *words)
{
    static char text[TEXT];

    text[0] = '\0';
    check_need(words != NULL, "words");
    for (; *words; words++) {
        check_need(strlen(text) + strlen(*words) + 4 < TEXT, "room");
        strcat(text, **words ? *words : "''");
        strcat(text, words[1] ? " " : "");
    }
    return text;
}

static int are(char *const *words, const char *line)
{
    return strcmp(join_words(words), line) == 0;
}

static int is(const char *text, const char *expected)
{
    if (!text || !expected)
        return text == expected;
    return strcmp(text, expected) == 0;
}

/* What get() looks in: NAME=VALUE each. */
static char **environment;
static int asked;

static char *get(const char *name)
{
    size_t size = strlen(name);

    asked++;
    for (char **word = environment; *word; word++)
        if (strncmp(*word, name, size) == 0 && (*word)[size] == '=')
            return *word + size + 1;
    return NULL;
}

/* All that the options were made from is freed when they are looked at. */
static int read_options(struct mi_options *options, const char *line,
                        const char *variables_set, struct mi_error *err)
{
    char **argv = split(line);
    int rc;

    environment = split(variables_set);
    memset(options, 0x5a, sizeof(*options));
    memset(err, 0x5a, sizeof(*err));
    asked = 0;
    rc = mi_options_parse(options, argv, get, err);
    mi_list_clear(&argv);
    mi_list_clear(&environment);
    return rc;
}

static struct mi_options parsed(const char *line, const char *variables_set)
{
    struct mi_options options;
    struct mi_error err;

    if (!CHECK_FOR(line,
                   read_options(&options, line, variables_set, &err) == 0)) {
        fprintf(stderr, "refused: %s\n", err.text);
        abort();
    }
    return options;
}

/* The message; static. */
static const char *refused(const char *line, const char *variables_set)
{
    static struct mi_error err;
    struct mi_options options;

    CHECK_FOR(line, read_options(&options, line, variables_set, &err) == -1);
    CHECK_FOR(line, err.domain == MI_ERRNO && err.code == EINVAL);
    CHECK_FOR(line, memchr(err.text, '\0', sizeof(err.text)) != NULL);
    mi_options_clear(&options);
    return err.text;
}

/* ---- whose the words are ------------------------------------------------ */

struct words_case {
    const char *line;
    const char *words;
    const char *python;
};

static void check_words(const struct words_case *c)
{
    struct mi_options options = parsed(c->line, "");

    CHECK_FOR(c->line, are(options.words, c->words));
    CHECK_FOR(c->line, are(options.python, c->python));
    mi_options_clear(&options);
}

static void test_words_of_python_stay_as_they_are(void)
{
    static const char *const cases[] = {
        "",
        "-b",
        "-bb",
        "-BEiOPqsux",
        "-OO -O",
        "-O -W error -Xdev -u",
        "-Wignore -Wdefault",
        "-uWignore",
        "-OX dev",
        "-W -O",
        "-W ''",
        "-X -v",
        "-Wv",
        "-WI",
        "--check-hash-based-pycs never",
        "--check-hash-based-pycs always -u",
        "-Rt",
        "-SO",
        "-x",
        "-?S",
        "-V",
        "-VV",
        "-qVV --version",
        "--help --help-all --help-env --help-xoptions -h",
    };
    char text[TEXT];

    for (size_t i = 0; i < COUNT(cases); i++) {
        check_words(&(struct words_case){cases[i], cases[i], cases[i]});
        snprintf(text, sizeof(text), "%s%sx.py -v ''", cases[i],
                 cases[i][0] ? " " : "");
        check_words(&(struct words_case){text, text, cases[i]});
    }
}

static void test_words_of_the_launcher_are_taken_out(void)
{
    static const struct words_case cases[] = {
        {"-Ovu", "-Ou", "-Ou"},
        {"-v", "", ""},
        {"-vdv", "", ""},
        {"-v -O -d x.py -v", "-O x.py -v", "-O"},
        {"-vc CMD", "-c CMD", ""},
        {"-vcCMD a", "-cCMD a", ""},
        {"-vm mod -I", "-m mod -I", ""},
        {"-uI mpich", "-u", "-u"},
        {"-uImpich", "-u", "-u"},
        {"-I mpich -u", "-u", "-u"},
        {"-OT/dev/shm", "-O", "-O"},
        {"-OvT /dev/shm a.py -T", "-O a.py -T", "-O"},
        {"-vWignore", "-Wignore", "-Wignore"},
        {"-dvW ignore", "-W ignore", "-W ignore"},
        {"-vVd", "-V", "-V"},
        {"-vSdx a.py", "-Sx a.py", "-Sx"},
        {"--verbose -u --direct -", "-u -", "-u"},
        {"--mpi abi --tmpdir /x --strategy all -q", "-q", "-q"},
        {"--mpi=abi --tmpdir=/x --strategy=all -q", "-q", "-q"},
        {"--share /a -b --local /b a.py --share", "-b a.py --share", "-b"},
        {"--timing -B --timing=x --timing=0 - a", "-B - a", "-B"},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        check_words(&cases[i]);
}

static void test_words_of_the_program_are_no_options(void)
{
    static const struct words_case cases[] = {
        {"-OuBc CMD -O", "-OuBc CMD -O", "-OuB"},
        {"-OuBcCMD", "-OuBcCMD", "-OuB"},
        {"-c CMD", "-c CMD", ""},
        {"-c ''", "-c ''", ""},
        {"-u -mmod -c", "-u -mmod -c", "-u"},
        {"-Xa -vum mod -d", "-Xa -um mod -d", "-Xa -u"},
        {"-u -- a.py -u", "-u -- a.py -u", "-u"},
        {"-v --", "--", ""},
        {"-- -v -I", "-- -v -I", ""},
        {"-- -- -v", "-- -- -v", ""},
        {"- --timing --", "- --timing --", ""},
        {"'' -v", "'' -v", ""},
        {"-V -vc CMD -v", "-V -c CMD -v", "-V"},
        {"-VI abi a.py -v", "-V a.py -v", "-V"},
        {"-OVc CMD", "-OVc CMD", "-OV"},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        check_words(&cases[i]);
}

static void test_words_many_long(void)
{
    size_t count = 50000, size = 200000;
    char **argv = mi_list_new(count);
    struct mi_options options;
    struct mi_error err;

    environment = split("");
    check_need(argv && (argv[0] = malloc(size + 1)) != NULL, "memory");
    memset(argv[0], 'O', size);
    argv[0][0] = '-';
    argv[0][size] = '\0';
    for (size_t i = 1; i < count; i++)
        check_need((argv[i] = strdup(i < count / 2 ? "-vu" : "a")) != NULL,
                   "memory");
    CHECK(mi_options_parse(&options, argv, get, &err) == 0);
    CHECK(is(options.words[0], argv[0]) && is(options.words[1], "-u"));
    CHECK(mi_list_length(options.words) == count);
    CHECK(mi_list_length(options.python) == count / 2);
    CHECK(mi_list_length(options.args) == count - count / 2 - 1);
    CHECK(options.verbose == (int)count / 2 - 1);
    mi_options_clear(&options);
    mi_list_clear(&argv);
    mi_list_clear(&environment);
}

/* ---- the program -------------------------------------------------------- */

static void test_program_and_arguments(void)
{
    static const struct {
        const char *line;
        enum mi_program program;
        const char *value;
        const char *args;
    } cases[] = {
        {"", MI_PROGRAM_NONE, NULL, ""},
        {"-O", MI_PROGRAM_NONE, NULL, ""},
        {"-v", MI_PROGRAM_NONE, NULL, ""},
        {"--", MI_PROGRAM_NONE, NULL, ""},
        {"a.py", MI_PROGRAM_SCRIPT, "a.py", ""},
        {"a.py -O -v -- -", MI_PROGRAM_SCRIPT, "a.py", "-O -v -- -"},
        {"-- -c x", MI_PROGRAM_SCRIPT, "-c", "x"},
        {"-u -- a.py -u", MI_PROGRAM_SCRIPT, "a.py", "-u"},
        {"''", MI_PROGRAM_SCRIPT, "", ""},
        {"-", MI_PROGRAM_STDIN, NULL, ""},
        {"-u - a -", MI_PROGRAM_STDIN, NULL, "a -"},
        {"-- - a", MI_PROGRAM_STDIN, NULL, "a"},
        {"-c code -m x", MI_PROGRAM_COMMAND, "code", "-m x"},
        {"-ccode", MI_PROGRAM_COMMAND, "code", ""},
        {"-Ouc code a", MI_PROGRAM_COMMAND, "code", "a"},
        {"-Oucu", MI_PROGRAM_COMMAND, "u", ""},
        {"-c ''", MI_PROGRAM_COMMAND, "", ""},
        {"-c '' ''", MI_PROGRAM_COMMAND, "", "''"},
        {"-c - --", MI_PROGRAM_COMMAND, "-", "--"},
        {"-m pkg.mod -v --help", MI_PROGRAM_MODULE, "pkg.mod", "-v --help"},
        {"-mfoo a", MI_PROGRAM_MODULE, "foo", "a"},
        {"-umfoo", MI_PROGRAM_MODULE, "foo", ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_options options = parsed(cases[i].line, "");

        CHECK_FOR(cases[i].line, options.program == cases[i].program);
        CHECK_FOR(cases[i].line, is(options.value, cases[i].value));
        CHECK_FOR(cases[i].line, are(options.args, cases[i].args));
        mi_options_clear(&options);
    }
}

static void test_nothing_given_defaults(void)
{
    struct mi_options options = parsed("", "");

    CHECK(are(options.words, "") && are(options.python, ""));
    CHECK(are(options.args, "") && !options.value);
    CHECK(!options.no_site && !options.skip_first);
    CHECK(!options.mpi && !options.tmpdir && !options.verbose);
    CHECK(!options.direct && !options.timing && !options.timing_file);
    CHECK(options.strategy == MI_STRATEGY_ALL);
    CHECK(options.max_store.kind == MI_LIMIT_DEFAULT);
    CHECK(options.data == MI_DATA_PACKAGES && options.gc_defer);
    CHECK(!options.manifest && !options.manifest_build);
    CHECK(are(options.share, "") && are(options.local, ""));
    CHECK(options.version_level == 0 && asked == (int)VARIABLES);
    mi_options_clear(&options);
}

static void test_site_and_first_line_seen(void)
{
    static const struct {
        const char *line;
        int no_site;
        int skip_first;
    } cases[] = {
        {"-S a.py", 1, 0},     {"-OSu a.py", 1, 0}, {"-x a.py", 0, 1},
        {"-xS -S a.py", 1, 1}, {"-W S a.py", 0, 0}, {"a.py -S -x", 0, 0},
        {"-Xx -c S", 0, 0},    {"-V -S", 1, 0},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_options options = parsed(cases[i].line, "");

        CHECK_FOR(cases[i].line, options.no_site == cases[i].no_site);
        CHECK_FOR(cases[i].line, options.skip_first == cases[i].skip_first);
        mi_options_clear(&options);
    }
}

static void test_version_levels(void)
{
    static const struct {
        const char *line;
        int level;
    } cases[] = {
        {"-V", 1},   {"--version", 1}, {"-VV", 2},     {"-V --version", 2},
        {"-VVV", 2}, {"-qV", 1},       {"-V a.py", 1}, {"-V -c x", 1},
        {"-vV", 1},  {"-V -d -mx", 1},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_options options = parsed(cases[i].line, "");

        CHECK_FOR(cases[i].line, options.program == MI_PROGRAM_VERSION);
        CHECK_FOR(cases[i].line, options.version_level == cases[i].level);
        CHECK_FOR(cases[i].line, !options.value && are(options.args, ""));
        mi_options_clear(&options);
    }
}

static void test_help_comes_before_everything(void)
{
    static const char *const cases[] = {
        "-h",         "-?",         "--help",          "-Vh",      "-hV",
        "--help-all", "--help-env", "--help-xoptions", "-Oh a.py", "-h -c x",
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_options options = parsed(cases[i], "");

        CHECK_FOR(cases[i], options.program == MI_PROGRAM_HELP);
        CHECK_FOR(cases[i], !options.value && are(options.args, ""));
        CHECK_FOR(cases[i], options.version_level == 0);
        CHECK_FOR(cases[i], are(options.share, "") && are(options.local, ""));
        mi_options_clear(&options);
    }
}

static void test_bad_variable_does_not_hide_the_help(void)
{
    static const char *const cases[] = {"-h", "-V"};
    const char *bad = "PYTHON_MPI_STRATEGY=bogus";

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_options options = parsed(cases[i], bad);

        CHECK_FOR(cases[i], asked == 0);
        mi_options_clear(&options);
    }
    refused("a.py", bad);
}

/* ---- values ------------------------------------------------------------- */

/* The value of 'item' as one string, static where it is not the options'. */
static const char *shown(const struct mi_options *options, enum mi_item item)
{
    static const char *const names[] = {"none", "names", "all"};
    static const char *const whose[] = {"none", "packages"};
    static char number[32];

    if (item == MI_ITEM_MPI)
        return options->mpi;
    if (item == MI_ITEM_TMPDIR)
        return options->tmpdir;
    if (item == MI_ITEM_MANIFEST)
        return options->manifest;
    if (item == MI_ITEM_STRATEGY)
        return names[options->strategy];
    if (item == MI_ITEM_DATA)
        return whose[options->data];
    if (item == MI_ITEM_SHARE || item == MI_ITEM_LOCAL)
        return join_words(item == MI_ITEM_SHARE ? options->share
                                                : options->local);
    if (item == MI_ITEM_MAX_STORE) {
        snprintf(number, sizeof(number), "%llu%s",
                 (unsigned long long)options->max_store.value,
                 options->max_store.kind == MI_LIMIT_PERCENT ? "%" : "");
        return number;
    }
    if (item == MI_ITEM_TIMING && options->timing_file)
        return options->timing ? options->timing_file : "file without timing";
    snprintf(number, sizeof(number), "%d",
             item == MI_ITEM_TIMING     ? options->timing
             : item == MI_ITEM_VERBOSE  ? options->verbose
             : item == MI_ITEM_GC_DEFER ? options->gc_defer
                                        : options->direct);
    return number;
}

static const char *variable_of(enum mi_item item)
{
    size_t i = 0;

    while (variables[i].item != item)
        i++;
    return variables[i].name;
}

static const struct form {
    enum mi_item item;
    const char *before; /* the value */
    const char *other;  /* what the variable says */
    const char *values[3];
} forms[] = {
    {MI_ITEM_MPI, "-I ", "abi", {"mpich", "/opt/mpi=5/libmpi.so"}},
    {MI_ITEM_MPI, "-I", "abi", {"mpich", "/opt/mpi=5/libmpi.so"}},
    {MI_ITEM_MPI, "--mpi ", "abi", {"mpich", "/opt/mpi=5/libmpi.so"}},
    {MI_ITEM_MPI, "--mpi=", "abi", {"mpich", "/opt/mpi=5/libmpi.so"}},
    {MI_ITEM_MPI, "-OI", "abi", {"mpich", "/opt/mpi=5/libmpi.so"}},
    {MI_ITEM_MPI, "-uvI ", "abi", {"mpich", "/opt/mpi=5/libmpi.so"}},
    {MI_ITEM_TMPDIR, "-T ", "/else", {"/dev/shm", "relative=dir"}},
    {MI_ITEM_TMPDIR, "-T", "/else", {"/dev/shm", "relative=dir"}},
    {MI_ITEM_TMPDIR, "--tmpdir ", "/else", {"/dev/shm", "relative=dir"}},
    {MI_ITEM_TMPDIR, "--tmpdir=", "/else", {"/dev/shm", "relative=dir"}},
    {MI_ITEM_TMPDIR, "-dT ", "/else", {"/dev/shm", "relative=dir"}},
    {MI_ITEM_MAX_STORE, "--max-store ", "5M", {"12345", "0", "10%"}},
    {MI_ITEM_MAX_STORE, "--max-store=", "50%", {"12345", "0", "0%"}},
    {MI_ITEM_STRATEGY, "--strategy ", "names", {"none", "names", "all"}},
    {MI_ITEM_STRATEGY, "--strategy=", "names", {"none", "names", "all"}},
    {MI_ITEM_DATA, "--data ", "none", {"none", "packages"}},
    {MI_ITEM_DATA, "--data=", "none", {"none", "packages"}},
    {MI_ITEM_MANIFEST, "--manifest ", "none", {"none", "/a=b", "m"}},
    {MI_ITEM_MANIFEST, "--manifest=", "/m", {"none", "/a=b", "m"}},
    {MI_ITEM_SHARE, "--share ", "/else", {"/a=b"}},
    {MI_ITEM_SHARE, "--share=", "/else", {"/a=b"}},
    {MI_ITEM_LOCAL, "--local ", "/else", {"/a=b"}},
    {MI_ITEM_LOCAL, "--local=", "/else", {"/a=b"}},
    {MI_ITEM_TIMING, "--timing=", "else.json", {"out.json", "a=b.json"}},
};

static void check_value(const struct form *form, const char *value,
                        const char *other)
{
    char line[TEXT], environ_text[TEXT] = "", expected[TEXT];
    int adds = form->item == MI_ITEM_SHARE || form->item == MI_ITEM_LOCAL;
    struct mi_options options;

    snprintf(line, sizeof(line), "%s%s a.py x", form->before, value);
    if (other)
        snprintf(environ_text, sizeof(environ_text), "%s=%s",
                 variable_of(form->item), other);
    snprintf(expected, sizeof(expected), "%s%s%s", other && adds ? other : "",
             other && adds ? " " : "", value);
    options = parsed(line, environ_text);
    CHECK_FOR(line, is(shown(&options, form->item), expected));
    CHECK_FOR(line, is(options.value, "a.py") && are(options.args, "x"));
    mi_options_clear(&options);
}

static void test_value_in_every_form_wins(void)
{
    for (size_t i = 0; i < COUNT(forms); i++)
        for (size_t k = 0; k < 3 && forms[i].values[k]; k++) {
            check_value(&forms[i], forms[i].values[k], NULL);
            check_value(&forms[i], forms[i].values[k], forms[i].other);
        }
}

static void check_variable(enum mi_item item, const char *text,
                           const char *expected)
{
    static const char *const lines[] = {"a.py", "-E a.py", "-c x", "", "-"};
    char set[TEXT];

    snprintf(set, sizeof(set), "%s=%s", variable_of(item), text);
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct mi_options options = parsed(lines[i], set);

        CHECK_FOR(set, is(shown(&options, item), expected));
        mi_options_clear(&options);
    }
}

static void test_variables_count(void)
{
    static const struct {
        enum mi_item item;
        const char *text;
        const char *expected;
    } cases[] = {
        {MI_ITEM_MPI, "openmpi", "openmpi"},
        {MI_ITEM_TMPDIR, "/dev/shm", "/dev/shm"},
        {MI_ITEM_MAX_STORE, "2K", "2048"},
        {MI_ITEM_MAX_STORE, "3m", "3145728"},
        {MI_ITEM_MAX_STORE, "0", "0"},
        {MI_ITEM_MAX_STORE, "7%", "7%"},
        {MI_ITEM_VERBOSE, "0", "0"},
        {MI_ITEM_VERBOSE, "3", "3"},
        {MI_ITEM_VERBOSE, "007", "7"},
        {MI_ITEM_VERBOSE, "2147483648", "2147483647"},
        {MI_ITEM_VERBOSE, "99999999999999999999", "2147483647"},
        {MI_ITEM_DIRECT, "0", "0"},
        {MI_ITEM_DIRECT, "1", "1"},
        {MI_ITEM_GC_DEFER, "0", "0"},
        {MI_ITEM_GC_DEFER, "1", "1"},
        {MI_ITEM_TIMING, "1", "1"},
        {MI_ITEM_TIMING, "0", "0"},
        {MI_ITEM_TIMING, "t.json", "t.json"},
        {MI_ITEM_STRATEGY, "none", "none"},
        {MI_ITEM_STRATEGY, "names", "names"},
        {MI_ITEM_DATA, "none", "none"},
        {MI_ITEM_DATA, "packages", "packages"},
        {MI_ITEM_MANIFEST, "none", "none"},
        {MI_ITEM_MANIFEST, "/cache/m", "/cache/m"},
        {MI_ITEM_SHARE, "/a:/b/c", "/a /b/c"},
        {MI_ITEM_LOCAL, "/a:/b/c", "/a /b/c"},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        check_variable(cases[i].item, cases[i].text, cases[i].expected);
}

static void test_empty_variable_counts_as_unset(void)
{
    struct mi_options plain = parsed("", "");
    char expected[TEXT];

    for (size_t i = 0; i < VARIABLES; i++) {
        const char *text = shown(&plain, variables[i].item);

        snprintf(expected, sizeof(expected), "%s", text ? text : "");
        check_variable(variables[i].item, "", text ? expected : NULL);
    }
    mi_options_clear(&plain);
}

static void test_verbose_and_direct_count_and_win(void)
{
    const char *set = "PYTHON_MPI_VERBOSE=5 PYTHON_MPI_DIRECT=0";
    struct mi_options options = parsed("-vv -v --verbose -d", set);

    CHECK(options.verbose == 4 && options.direct == 1);
    CHECK(are(options.words, "") && are(options.python, ""));
    mi_options_clear(&options);
    options = parsed("--direct", set);
    CHECK(options.verbose == 5 && options.direct == 1);
    mi_options_clear(&options);
    options = parsed("-dd a.py -v", "");
    CHECK(options.verbose == 0 && options.direct == 1);
    mi_options_clear(&options);
}

static void test_manifest_build_wins_over_variable(void)
{
    struct mi_options options =
        parsed("--manifest-build a.py", "PYTHON_MPI_MANIFEST=none");

    CHECK(options.manifest_build && !options.manifest);
    CHECK(are(options.words, "a.py"));
    mi_options_clear(&options);
    options = parsed("--manifest-build a.py", "PYTHON_MPI_MANIFEST=/m");
    CHECK(options.manifest_build && is(options.manifest, "/m"));
    mi_options_clear(&options);
}

static void test_timing_takes_no_separate_file(void)
{
    static const struct {
        const char *line;
        const char *expected;
        const char *value;
    } cases[] = {
        {"--timing", "1", NULL},
        {"--timing=0", "0", NULL},
        {"--timing=1", "1", NULL},
        {"--timing a.json", "1", "a.json"},
        {"--timing=x --timing", "1", NULL},
        {"--timing --timing=x", "x", NULL},
        {"-u", "env.json", NULL},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_options options =
            parsed(cases[i].line, "PYTHON_MPI_TIMING=env.json");

        CHECK_FOR(cases[i].line,
                  is(shown(&options, MI_ITEM_TIMING), cases[i].expected));
        CHECK_FOR(cases[i].line, is(options.value, cases[i].value));
        mi_options_clear(&options);
    }
}

static void test_last_value_wins(void)
{
    struct mi_options options = parsed("-Iabi --mpi=mpich -T x -Ty", "");

    CHECK(is(options.mpi, "mpich") && is(options.tmpdir, "y"));
    mi_options_clear(&options);
}

static void test_bad_variable_is_no_matter_where_an_option_wins(void)
{
    struct mi_options options =
        parsed("--strategy=none -v -d -Iabi",
               "PYTHON_MPI_STRATEGY=some PYTHON_MPI_VERBOSE=x "
               "PYTHON_MPI_DIRECT=x PYTHON_MPI_MPI=x.py");

    CHECK(options.strategy == MI_STRATEGY_NONE && options.verbose == 1);
    CHECK(options.direct == 1 && is(options.mpi, "abi"));
    mi_options_clear(&options);
}

/* ---- prefixes ----------------------------------------------------------- */

static void test_prefixes_joined_and_normalised(void)
{
    static const struct {
        const char *line;
        const char *set;
        const char *share;
        const char *local;
    } cases[] = {
        {"--share=/b//c/./:/d/ --share /e::/d --local=/",
         "PYTHON_MPI_SHARE=/z:/d PYTHON_MPI_LOCAL=/y/", "/z /b/c /d /e",
         "/y /"},
        {"--local=/a/ --share=/c",
         "PYTHON_MPI_SHARE=/a:/b PYTHON_MPI_LOCAL=/c", "/b /c", "/a"},
        {"--share=/.:///:/./.", "", "/", ""},
        {"--share=/...:/..a:/a..:/.a/", "", "/... /..a /a.. /.a", ""},
        {"--share=:", "PYTHON_MPI_SHARE=::", "", ""},
        {"--share=/a:/aa --local=/a/b", "", "/a /aa", "/a/b"},
        {"--share=/a --share=/b --share=/a/", "", "/a /b", ""},
        {"--local=/b", "PYTHON_MPI_LOCAL=/b:/c", "", "/c /b"},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mi_options options = parsed(cases[i].line, cases[i].set);

        CHECK_FOR(cases[i].line, are(options.share, cases[i].share));
        CHECK_FOR(cases[i].line, are(options.local, cases[i].local));
        mi_options_clear(&options);
    }
}

/* ---- wrong ones --------------------------------------------------------- */

static void test_bad_value_is_refused_by_name(void)
{
    static const struct {
        const char *line;
        const char *set;
        const char *message;
    } cases[] = {
        {"--share=/a --local=/b:/a/", "",
         "'/a' is in both --share and --local"},
        {"--local=/c --share=/b:/c/./", "PYTHON_MPI_SHARE=/a",
         "'/c' is in both --share and --local"},
        {"", "PYTHON_MPI_SHARE=/a PYTHON_MPI_LOCAL=/a",
         "'/a' is in both PYTHON_MPI_SHARE and PYTHON_MPI_LOCAL"},
        {"--share=lib", "",
         "--share takes absolute paths; 'lib' is a relative one"},
        {"--local=/a:lib:/b", "",
         "--local takes absolute paths; 'lib' is a relative one"},
        {"", "PYTHON_MPI_SHARE=~/x",
         "PYTHON_MPI_SHARE takes absolute paths; '~/x' is a relative one"},
        {"", "PYTHON_MPI_LOCAL=./x",
         "PYTHON_MPI_LOCAL takes absolute paths; './x' is a relative one"},
        {"--share=/a/../b", "",
         "--share takes paths without '..', not '/a/../b'"},
        {"--local=/x:/a/..:/b", "",
         "--local takes paths without '..', not '/a/..'"},
        {"", "PYTHON_MPI_VERBOSE=yes",
         "PYTHON_MPI_VERBOSE must be a number, not 'yes'"},
        {"", "PYTHON_MPI_VERBOSE=-1",
         "PYTHON_MPI_VERBOSE must be a number, not '-1'"},
        {"", "PYTHON_MPI_VERBOSE=\xd9\xa3",
         "PYTHON_MPI_VERBOSE must be a number, not '\xd9\xa3'"},
        {"", "PYTHON_MPI_GC_DEFER=no",
         "PYTHON_MPI_GC_DEFER must be one of '0' or '1', not 'no'"},
        {"", "PYTHON_MPI_DIRECT=yes",
         "PYTHON_MPI_DIRECT must be one of '0' or '1', not 'yes'"},
        {"", "PYTHON_MPI_STRATEGY=some",
         "PYTHON_MPI_STRATEGY must be one of 'none', 'names', or 'all', not "
         "'some'"},
        {"--max-store=1X", "",
         "--max-store takes bytes (with K, M, G or T) or a percentage (0% to "
         "100%), not '1X'"},
        {"--max-store 101%", "",
         "--max-store takes bytes (with K, M, G or T) or a percentage (0% to "
         "100%), not '101%'"},
        {"--max-store -1", "",
         "--max-store takes bytes (with K, M, G or T) or a percentage (0% to "
         "100%), not '-1'"},
        {"", "PYTHON_MPI_MAX_STORE=much",
         "PYTHON_MPI_MAX_STORE takes bytes (with K, M, G or T) or a "
         "percentage (0% to 100%), not 'much'"},
        {"", "PYTHON_MPI_DATA=all",
         "PYTHON_MPI_DATA must be one of 'none' or 'packages', not 'all'"},
        {"--manifest app.py", "",
         "--manifest takes a file of its own or 'none', not 'app.py'"},
        {"--manifest -m mod", "",
         "--manifest takes a file of its own or 'none', not '-m'"},
        {"--manifest-build -d a.py", "",
         "--manifest-build needs what --direct turns off"},
        {"--manifest-build --strategy none a.py", "",
         "--manifest-build needs what --strategy none turns off"},
        {"--manifest-build --manifest none a.py", "PYTHON_MPI_MANIFEST=/m",
         "--manifest-build contradicts --manifest none"},
        {"--data=1", "",
         "--data must be one of 'none' or 'packages', not '1'"},
        {"--strategy=All", "",
         "--strategy must be one of 'none', 'names', or 'all', not 'All'"},
        {"-I -c x", "",
         "-I takes an MPI (mpich, openmpi, intel, abi or the path of a "
         "library), not '-c'; for python's -I use -E -s -P"},
        {"-I app.py", "",
         "-I takes an MPI (mpich, openmpi, intel, abi or the path of a "
         "library), not 'app.py'; for python's -I use -E -s -P"},
        {"--mpi=.py", "",
         "--mpi takes an MPI (mpich, openmpi, intel, abi or the path of a "
         "library), not '.py'; for python's -I use -E -s -P"},
        {"", "PYTHON_MPI_MPI=-x",
         "PYTHON_MPI_MPI takes an MPI (mpich, openmpi, intel, abi or the path "
         "of a library), not '-x'; for python's -I use -E -s -P"},
    };
    char line[TEXT];

    for (size_t i = 0; i < COUNT(cases); i++) {
        snprintf(line, sizeof(line), "%s a.py", cases[i].line);
        CHECK_FOR(cases[i].message,
                  is(refused(line, cases[i].set), cases[i].message));
    }
}

static const struct {
    const char *line;
    const char *message;
} wrong[] = {
    {"-Z", "Unknown option: -Z"},
    {"-OZu a.py", "Unknown option: -Z"},
    {"-vZ", "Unknown option: -Z"},
    {"-V -Z", "Unknown option: -Z"},
    {"-h -Z", "Unknown option: -Z"},
    {"-J", "Unknown option: -J"},
    {"-O\xc3\xa9x", "Unknown option: -\xc3\xa9"},
    {"-O-", "expected long option"},
    {"-v-", "expected long option"},
    {"--zzz", "unknown option --zzz"},
    {"--zzz=1 a.py", "unknown option --zzz=1"},
    {"--=", "unknown option --="},
    {"--ver", "unknown option --ver"},
    {"---", "unknown option ---"},
    {"--manifests none", "unknown option --manifests"},
    {"--manifests=none", "unknown option --manifests=none"},
    {"--version=1", "unknown option --version=1"},
    {"--verbose=2", "unknown option --verbose=2"},
    {"--check-hash-based-pycs=never",
     "unknown option --check-hash-based-pycs=never"},
    {"-c", "Argument expected for the -c option"},
    {"-Ouc", "Argument expected for the -c option"},
    {"-m", "Argument expected for the -m option"},
    {"-W", "Argument expected for the -W option"},
    {"-O -uX", "Argument expected for the -X option"},
    {"-I", "Argument expected for the -I option"},
    {"-I '' a.py", "Argument expected for the -I option"},
    {"-vT", "Argument expected for the -T option"},
    {"--tmpdir", "Argument expected for the --tmpdir option"},
    {"--tmpdir= a.py", "Argument expected for the --tmpdir option"},
    {"--mpi=", "Argument expected for the --mpi option"},
    {"--share ''", "Argument expected for the --share option"},
    {"--local", "Argument expected for the --local option"},
    {"--strategy=", "Argument expected for the --strategy option"},
    {"--manifest=", "Argument expected for the --manifest option"},
    {"--max-store=", "Argument expected for the --max-store option"},
    {"--max-store", "Argument expected for the --max-store option"},
    {"--max", "unknown option --max"},
    {"--timing=", "Argument expected for the --timing option"},
    {"--check-hash-based-pycs",
     "Argument expected for the --check-hash-based-pycs option"},
    {"--check-hash-based-pycs x",
     "--check-hash-based-pycs must be one of 'default', 'always', or 'never', "
     "not 'x'"},
    {"--check-hash-based-pycs ''",
     "--check-hash-based-pycs must be one of 'default', 'always', or 'never', "
     "not ''"},
};

static void test_errors_read_as_pythons(void)
{
    for (size_t i = 0; i < COUNT(wrong); i++)
        CHECK_FOR(wrong[i].line,
                  is(refused(wrong[i].line, ""), wrong[i].message));
}

static void test_long_value_leaves_the_rest_of_the_message(void)
{
    static const char *const options[] = {
        "--mpi=-", "--share=", "--share=/../", "--strategy="};
    static const char *const ends[] = {"use -E -s -P", "is a relative one",
                                       "a'", "a'"};
    char line[TEXT];

    for (size_t i = 0; i < COUNT(options); i++) {
        const char *text;

        memset(line, 'a', sizeof(line));
        line[sizeof(line) - 1] = '\0';
        memcpy(line, options[i], strlen(options[i]));
        text = refused(line, "");
        CHECK_FOR(text, strlen(text) > strlen(ends[i]));
        CHECK_FOR(text, is(text + strlen(text) - strlen(ends[i]), ends[i]));
    }
    memcpy(line, "--zzz-------", 12);
    CHECK(strncmp(refused(line, ""), "unknown option --zzz", 20) == 0);
}

static void test_message_is_one_line(void)
{
    CHECK(is(refused("--a\nb\x1b[1m\x7f", ""), "unknown option --a?b?[1m?"));
    CHECK(is(refused("-\n", ""), "Unknown option: -?"));
    CHECK(strchr(refused("--share=a\nb", ""), '\n') == NULL);
}

static void test_without_error_struct_refused(void)
{
    char **argv = split("--share=x");
    struct mi_options options;

    environment = split("");
    CHECK(mi_options_parse(&options, argv, get, NULL) == -1);
    mi_options_clear(&options);
    mi_list_clear(&argv);
    mi_list_clear(&environment);
}

/* ---- memory ------------------------------------------------------------- */

static int parse_short_of_memory(int allocations, const char *line,
                                 const char *set)
{
    char **argv = split(line);
    struct mi_options options;
    struct mi_error err;
    int rc;

    environment = split(set);
    patience = allocations;
    rc = mi_options_parse(&options, argv, get, &err);
    patience = -1;
    CHECK_FOR(line, rc == 0 || err.code == ENOMEM);
    CHECK_FOR(line, rc == 0 || is(err.text, "no memory for the command line"));
    mi_options_clear(&options);
    mi_options_clear(&options);
    mi_list_clear(&argv);
    mi_list_clear(&environment);
    return rc;
}

static void test_no_memory_is_an_error(void)
{
    static const char *const lines[] = {
        "-Ou -W x -Xy -vI abi -T/x --timing=f --share=/a:/b/c --local /d "
        "--check-hash-based-pycs never -bc CMD arg",
        "-vu -- a.py b",
        "-m mod",
        "-uI abi x",
        "-mmod",
        "-Vc x",
        "-h a b",
        "-x - c",
    };
    const char *set = "PYTHON_MPI_SHARE=/d:/e PYTHON_MPI_LOCAL=/a "
                      "PYTHON_MPI_MPI=x PYTHON_MPI_TIMING=y";

    for (size_t i = 0; i < COUNT(lines); i++) {
        int n = 0;

        while (n < 1000 && parse_short_of_memory(n, lines[i], set) != 0)
            n++;
        CHECK_FOR(lines[i], n >= 8 && n < 1000);
    }
}

static void test_clear_repeated_does_no_harm(void)
{
    struct mi_options options = parsed("-c x a", "PYTHON_MPI_TMPDIR=/x");
    struct mi_options zeroed = {.program = MI_PROGRAM_NONE};

    mi_options_clear(&options);
    CHECK(!options.words && !options.value && !options.share);
    mi_options_clear(&options);
    mi_options_clear(&zeroed);
}

/* ---- the interpreter's opinion ------------------------------------------ */

/* Run python3 with 'argv'; what it writes to 'stream' (1 or 2) goes into
 * 'text' (TEXT bytes).  Returns its exit status.
 */
static int run_python(char *const *argv, int stream, char *text)
{
    size_t used = 0;
    int ends[2], status = -1;
    pid_t child;
    ssize_t n;

    check_need(pipe(ends) == 0, "pipe");
    child = fork();
    check_need(child >= 0, "fork");
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 0);
        dup2(null, 3 - stream);
        dup2(ends[1], stream);
        execvp("python3", argv);
        _exit(127);
    }
    close(ends[1]);
    while ((n = read(ends[0], text + used, TEXT - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The same with lists of words, of which some may be NULL. */
static int run_words(char *const *first, char *const *second,
                     char *const *third, int stream, char *text)
{
    char *const *const lists[] = {first, second, third};
    static char name[] = "python3";
    char *argv[64] = {name};
    size_t n = 1;

    for (size_t i = 0; i < COUNT(lists); i++)
        for (char *const *word = lists[i]; word && *word; word++) {
            check_need(n < COUNT(argv) - 1, "room");
            argv[n++] = *word;
        }
    return run_python(argv, stream, text);
}

static int have_python(void)
{
    char **argv = split("-c import\tsys;sys.exit(sys.version_info<(3,11))");
    char text[TEXT];
    int status = run_words(argv, NULL, NULL, 1, text);

    mi_list_clear(&argv);
    return status == 0;
}

#define STATE                                                                 \
    "import\tsys;print(sys.flags,sys.argv,sys.warnoptions,sys._xoptions)"

static void check_same(const char *line)
{
    struct mi_options options = parsed(line, "");
    char text[TEXT], again[TEXT], dash[] = "-c";
    char *program_words[] = {dash, options.value, NULL};

    CHECK_FOR(line, run_words(options.words, NULL, NULL, 1, text) == 0);
    CHECK_FOR(line, run_words(options.python, program_words, options.args, 1,
                              again) == 0);
    CHECK_FOR(line, text[0] && is(text, again));
    mi_options_clear(&options);
}

static void test_words_and_options_mean_the_same_to_python(void)
{
    check_same("-OuBc " STATE " -O arg");
    check_same("-vdOuBc " STATE " -O -v");
    check_same("-bbsE -Wignore -XdevX -c " STATE);
    check_same("-Xutf8=1 -W error -I abi -P -q -c" STATE " -- -");
    check_same("--check-hash-based-pycs always --timing -OOc " STATE);
    check_same("-X dev -BRt -T /x -c " STATE " -c x");
}

/* "-V" in the words: the interpreter prints its version. */
static void test_version_is_pythons(void)
{
    static const char *const lines[] = {"-vV", "-d --version", "-VV -v"};
    char text[TEXT];

    for (size_t i = 0; i < COUNT(lines); i++) {
        struct mi_options options = parsed(lines[i], "");

        CHECK(run_words(options.words, NULL, NULL, 1, text) == 0);
        CHECK_FOR(text, strncmp(text, "Python 3.", 9) == 0);
        mi_options_clear(&options);
    }
}

static void test_errors_equal_those_of_the_interpreter(void)
{
    static const char *const lines[] = {
        "-Z",  "-OZu",  "--zzz",       "--zzz=1",
        "-c",  "-Ouc",  "-m",          "-W",
        "-uX", "-O-",   "--version=1", "--check-hash-based-pycs=never",
        "---", "-V -Z",
    };
    char text[TEXT];

    for (size_t i = 0; i < COUNT(lines); i++) {
        char **argv = split(lines[i]);

        run_words(argv, NULL, NULL, 2, text);
        text[strcspn(text, "\n")] = '\0';
        CHECK_FOR(text, is(refused(lines[i], ""), text));
        mi_list_clear(&argv);
    }
}

/* Each line of python3's help that starts with a letter's option. */
static void test_all_letters_of_the_interpreter_are_known(void)
{
    char **argv = split("--help"), *saved = NULL, *row;
    char text[TEXT], line[TEXT];
    int count = 0;

    CHECK(run_words(argv, NULL, NULL, 1, text) == 0);
    for (row = strtok_r(text, "\n", &saved); row;
         row = strtok_r(NULL, "\n", &saved)) {
        if (row[0] != '-' || !isalpha((unsigned char)row[1]) ||
            isalnum((unsigned char)row[2]))
            continue;
        snprintf(line, sizeof(line), "-%c default a.py", row[1]);
        struct mi_options options = parsed(line, "");
        mi_options_clear(&options);
        count++;
    }
    CHECK(count > 15);
    mi_list_clear(&argv);
}

static void test_with_python(void)
{
    if (!have_python()) {
        check_skipped(__func__, "no python3 of 3.11 or newer in PATH");
        return;
    }
    test_words_and_options_mean_the_same_to_python();
    test_version_is_pythons();
    test_errors_equal_those_of_the_interpreter();
    test_all_letters_of_the_interpreter_are_known();
}

/* ---- help --------------------------------------------------------------- */

static char *help(const char *name)
{
    char *text = mi_options_help(name);

    check_need(text != NULL, "help");
    return text;
}

static int is_word_character(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

/* Is the option there, and not only as a part of another? */
static int is_listed(const char *text, const char *option)
{
    const char *at = text;

    while ((at = strstr(at, option)) != NULL) {
        char next = at[strlen(option)];

        if ((at == text || !is_word_character(at[-1])) &&
            !islower((unsigned char)next) && next != '-')
            return 1;
        at++;
    }
    return 0;
}

static void test_help_fits_and_ends_with_one_newline(void)
{
    char *text = help("python-mpi.py");
    size_t size = strlen(text), width;

    for (const char *row = text; *row; row += width + 1) {
        width = strcspn(row, "\n");
        CHECK_FOR(row, width <= 79);
        CHECK_FOR(row, width == 0 || row[width - 1] != ' ');
    }
    for (const char *p = text; *p; p++)
        if (*p != '\n')
            CHECK_FOR(p, *p >= ' ' && *p < 127);
    CHECK(size > 2 && text[size - 1] == '\n' && text[size - 2] != '\n');
    free(text);
}

static void test_help_names_every_option_and_variable(void)
{
    char *text = help("x"), name[64];

    for (size_t i = 0; i < COUNT(known); i++) {
        const char *word = known[i].word;

        snprintf(name, sizeof(name), "-%c", known[i].letter);
        if (known[i].letter && !strchr("Rt", known[i].letter))
            CHECK_FOR(name, is_listed(text, name));
        if (word && !is(word, "--help-env") && !is(word, "--help-xoptions"))
            CHECK_FOR(word, is_listed(text, word));
    }
    for (size_t i = 0; i < VARIABLES; i++) {
        snprintf(name, sizeof(name), "%s=", variables[i].name);
        CHECK_FOR(name, strstr(text, name) != NULL);
    }
    CHECK(strstr(text, "PYTHON_MPI_PYTHON=/path/bin/python") != NULL);
    CHECK(strstr(text, "VIRTUAL_ENV") != NULL);
    CHECK(is_listed(text, "--manifest-build") && !is_listed(text, "-Z"));
    free(text);
}

static void test_help_explains_the_options_that_are_taken(void)
{
    char *text = help("x");

    CHECK(strstr(text, "Python's -I, -v and -d are not available") != NULL);
    CHECK(strstr(text, "use -E -s -P") != NULL);
    free(text);
}

static void test_help_names_the_launcher(void)
{
    char *text = help("some-name");

    CHECK(strncmp(text, "usage: some-name [option] ...", 29) == 0);
    CHECK(strstr(text, " -n 64 some-name app.py") != NULL);
    free(text);
}

static void test_help_examples_parse(void)
{
    char *text = help("NAME"), *saved = NULL, *row;
    char *examples = strstr(text, "Examples:\n");
    int count = 0;

    check_need(examples != NULL, "examples");
    strtok_r(examples, "\n", &saved);
    while ((row = strtok_r(NULL, "\n", &saved)) != NULL) {
        const char *command = strstr(row, "NAME ");
        struct mi_options options = parsed(command ? command + 5 : "-Z", "");

        CHECK_FOR(row, options.program >= MI_PROGRAM_SCRIPT &&
                           options.program <= MI_PROGRAM_MODULE);
        mi_options_clear(&options);
        count++;
    }
    CHECK(count == 3);
    free(text);
}

int main(void)
{
    test_words_of_python_stay_as_they_are();
    test_words_of_the_launcher_are_taken_out();
    test_words_of_the_program_are_no_options();
    test_words_many_long();
    test_program_and_arguments();
    test_nothing_given_defaults();
    test_site_and_first_line_seen();
    test_version_levels();
    test_help_comes_before_everything();
    test_bad_variable_does_not_hide_the_help();
    test_value_in_every_form_wins();
    test_variables_count();
    test_empty_variable_counts_as_unset();
    test_verbose_and_direct_count_and_win();
    test_manifest_build_wins_over_variable();
    test_timing_takes_no_separate_file();
    test_last_value_wins();
    test_bad_variable_is_no_matter_where_an_option_wins();
    test_prefixes_joined_and_normalised();
    test_bad_value_is_refused_by_name();
    test_errors_read_as_pythons();
    test_long_value_leaves_the_rest_of_the_message();
    test_message_is_one_line();
    test_without_error_struct_refused();
    test_no_memory_is_an_error();
    test_clear_repeated_does_no_harm();
    test_with_python();
    test_help_fits_and_ends_with_one_newline();
    test_help_names_every_option_and_variable();
    test_help_explains_the_options_that_are_taken();
    test_help_names_the_launcher();
    test_help_examples_parse();
    return check_report();
}
