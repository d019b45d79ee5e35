/* Tests of src/config.c: from options and variables to a job. */
#include "check.h"

#include "../../src/config.h"
#include "../../src/list.h"

/* What get() answers. */
struct variable {
    const char *name;
    const char *value;
};
static struct variable variables[8]; /* up to the first without a name */
static int asked;                    /* for names that are not a number's */

static const char *const numbers[] = {
    "PYTHON_MPI_RANKS_PER_NODE", "PYTHON_MPI_READERS", "PYTHON_MPI_GRACE_MS",
    "PYTHON_MPI_PATIENCE", "PYTHON_MPI_THREAD_LEVEL"};
enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static char *get(const char *name)
{
    int known = 0;

    for (int i = 0; i < NUMBERS; i++)
        known |= strcmp(name, numbers[i]) == 0;
    known |= strcmp(name, "TMPDIR") == 0;
    asked += !known;
    for (struct variable *v = variables; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return (char *)(uintptr_t)v->value;
    return NULL;
}

static void set_one(const char *name, const char *value)
{
    variables[0] = (struct variable){name, value};
    variables[1] = (struct variable){NULL, NULL};
}

/* The field that is variable number i. */
static int field(const struct mi_job_config *job, int i)
{
    const int fields[NUMBERS] = {job->ranks_per_node, job->readers, job->grace,
                                 job->patience, job->thread};

    return fields[i];
}

static int default_of(int i)
{
    return i == NUMBERS - 1 ? -1 : 0;
}

/* The caller clears. */
static int make(struct mi_config *config, const struct mi_options *options,
                const char *python)
{
    struct mi_error err;
    int rc;

    memset(config, 0x5a, sizeof(*config));
    mi_error_clear(&err);
    rc = mi_config_make(config, options, python, get, &err);
    CHECK_FOR(err.text, rc == 0);
    return rc;
}

static void test_make_nothing_given_defaults(void)
{
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;
    const struct mi_job_config *job = &config.job;

    set_one(NULL, NULL);
    asked = 0;
    make(&config, &options, NULL);
    for (int i = 0; i < NUMBERS; i++)
        CHECK_FOR(numbers[i], field(job, i) == default_of(i));
    CHECK(!job->mpi && !job->tmpdir && !config.tmpdir);
    CHECK(!job->libdir || !job->libdir[0]);
    CHECK(!job->direct && !job->report);
    CHECK(job->max_store.kind == MI_LIMIT_DEFAULT);
    CHECK(asked == 0);
    mi_config_clear(&config);
    CHECK(!config.tmpdir && !config.libdir && !config.job.libdir);
    mi_config_clear(&config);
}

static void test_make_max_store_taken(void)
{
    struct mi_options options = {.strategy = MI_STRATEGY_ALL,
                                 .max_store = {MI_LIMIT_PERCENT, 7}};
    struct mi_config config;

    set_one(NULL, NULL);
    make(&config, &options, NULL);
    CHECK(config.job.max_store.kind == MI_LIMIT_PERCENT);
    CHECK(config.job.max_store.value == 7);
    mi_config_clear(&config);
}

static void test_make_each_variable_read(void)
{
    static const struct {
        const char *text;
        int value;
    } cases[] = {{"0", 0},
                 {"1", 1},
                 {"3", 3},
                 {"010", 10}, /* decimal */
                 {"000000000000000000000000000007", 7},
                 {"2147483647", INT_MAX}};
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;

    for (int i = 0; i < NUMBERS; i++)
        for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
            set_one(numbers[i], cases[k].text);
            make(&config, &options, NULL);
            for (int j = 0; j < NUMBERS; j++)
                CHECK_FOR(numbers[j],
                          field(&config.job, j) ==
                              (j == i ? cases[k].value : default_of(j)));
            mi_config_clear(&config);
        }
}

static void test_make_all_variables_read(void)
{
    static const char *const texts[NUMBERS] = {"4", "5", "6", "7", "2"};
    static const int values[NUMBERS] = {4, 5, 6, 7, 2};
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;

    for (int i = 0; i < NUMBERS; i++)
        variables[i] = (struct variable){numbers[i], texts[i]};
    variables[NUMBERS] = (struct variable){NULL, NULL};
    make(&config, &options, NULL);
    for (int i = 0; i < NUMBERS; i++)
        CHECK_FOR(numbers[i], field(&config.job, i) == values[i]);
    mi_config_clear(&config);
}

static void test_make_empty_variable_default(void)
{
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;

    for (int i = 0; i < NUMBERS; i++) {
        set_one(numbers[i], "");
        make(&config, &options, NULL);
        CHECK_FOR(numbers[i], field(&config.job, i) == default_of(i));
        mi_config_clear(&config);
    }
}

static void test_make_no_number_refused(void)
{
    static const char *const texts[] = {"-1",
                                        "-0",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1\n",
                                        "x",
                                        "1x",
                                        "0x10",
                                        "1.5",
                                        "1e3",
                                        "1,000",
                                        "one",
                                        "-",
                                        " ",
                                        "%s%n",
                                        "1%s",
                                        "2147483648",
                                        "4294967296",
                                        "4294967297",
                                        "18446744073709551617",
                                        "99999999999999999999999999999999"};
    struct mi_options options = {.strategy = MI_STRATEGY_ALL,
                                 .tmpdir = (char[]){"/t"}};
    struct mi_config config;
    struct mi_error err;

    for (int i = 0; i < NUMBERS; i++)
        for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
            set_one(numbers[i], texts[k]);
            mi_error_clear(&err);
            CHECK_FOR(texts[k], mi_config_make(&config, &options, "/a/bin/p",
                                               get, &err) == -1);
            CHECK_FOR(texts[k], err.domain == MI_ERRNO && err.code == EINVAL);
            CHECK_FOR(err.text, strstr(err.text, numbers[i]));
            CHECK_FOR(err.text, strstr(err.text, texts[k]));
            mi_config_clear(&config);
            CHECK(mi_config_make(&config, &options, NULL, get, NULL) == -1);
            mi_config_clear(&config);
        }
}

static void test_make_endless_number_cut_in_message(void)
{
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;
    struct mi_error err;
    static char text[100000];

    memset(text, '1', sizeof(text) - 1);
    set_one(numbers[0], text);
    CHECK(mi_config_make(&config, &options, NULL, get, &err) == -1);
    CHECK(err.code == EINVAL && strstr(err.text, "not a number"));
    mi_config_clear(&config);
}

static void test_make_mpi_handed_on(void)
{
    char mpi[] = "openmpi";
    struct mi_options options = {.strategy = MI_STRATEGY_ALL, .mpi = mpi};
    struct mi_config config;

    set_one(NULL, NULL);
    make(&config, &options, NULL);
    CHECK(config.job.mpi && strcmp(config.job.mpi, "openmpi") == 0);
    mi_config_clear(&config);
    CHECK(strcmp(mpi, "openmpi") == 0);
}

static int make_tmpdirs(void *arg)
{
    static const char *const absolute[] = {"/", "/dev/shm", "/a/../b/", "/a b",
                                           "/%s"};
    static const char *const relative[] = {"t",   "./t", "../t",
                                           "a/b", "%s",  "a b"};
    char scratch[PATH_MAX], here[PATH_MAX], path[PATH_MAX + 20], given[20];
    struct mi_options options = {.strategy = MI_STRATEGY_ALL, .tmpdir = given};
    struct mi_config config;

    (void)arg;
    check_scratch(scratch);
    check_need(chdir(scratch) == 0 && getcwd(here, sizeof(here)) != NULL,
               scratch);
    set_one(NULL, NULL);
    for (size_t i = 0; i < sizeof(absolute) / sizeof(absolute[0]); i++) {
        strcpy(given, absolute[i]);
        make(&config, &options, NULL);
        CHECK_FOR(given, strcmp(config.job.tmpdir, given) == 0);
        CHECK(config.job.tmpdir != given);
        mi_config_clear(&config);
    }
    for (size_t i = 0; i < sizeof(relative) / sizeof(relative[0]); i++) {
        strcpy(given, relative[i]);
        snprintf(path, sizeof(path), "%s/%s", here, given);
        make(&config, &options, NULL);
        CHECK_FOR(given, strcmp(config.job.tmpdir, path) == 0);
        mi_config_clear(&config);
    }
    check_remove(scratch);
    return 0;
}

static void test_make_tmpdir_absolute(void)
{
    check_child(make_tmpdirs, NULL, __func__);
}

static int make_nowhere(void *arg)
{
    char scratch[PATH_MAX], given[] = "t";
    struct mi_options options = {.strategy = MI_STRATEGY_ALL, .tmpdir = given};
    struct mi_config config;
    struct mi_error err;

    (void)arg;
    check_scratch(scratch);
    check_need(chdir(scratch) == 0 && rmdir(scratch) == 0, scratch);
    set_one(NULL, NULL);
    mi_error_clear(&err);
    CHECK(mi_config_make(&config, &options, "/a/bin/python", get, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOENT && err.text[0]);
    mi_config_clear(&config);
    return 0;
}

static void test_make_no_directory_tmpdir_refused(void)
{
    check_child(make_nowhere, NULL, __func__);
}

static void test_make_libdir_beside_bin(void)
{
    static const struct {
        const char *python;
        const char *libdir; /* "" for none */
    } cases[] = {
        {"/usr/bin/python3", "/usr/lib"},
        {"/v w/bin/python3.12", "/v w/lib"},
        {"/bin/python", "/lib"},
        {"/a/bin/bin/python", "/a/bin/lib"},
        {"/a/%s/bin/python", "/a/%s/lib"},
        {"/a/bin/", "/a/lib"},
        {"/usr/sbin/python3", ""},
        {"/usr/bin", ""},
        {"/usr/bin/x/python3", ""},
        {"/usr/Bin/python3", ""},
        {"/usr/binx/python3", ""},
        {"/python3", ""},
        {"bin/python3", ""},
        {"in/python3", ""},
        {"python3", ""},
        {"/", ""},
        {"", ""},
    };
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;

    set_one(NULL, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* Ends where its block ends. */
        char *python = strdup(cases[i].python);

        check_need(python != NULL, "memory");
        make(&config, &options, python);
        free(python);
        CHECK_FOR(cases[i].python,
                  strcmp(config.job.libdir ? config.job.libdir : "",
                         cases[i].libdir) == 0);
        mi_config_clear(&config);
    }
}

static void test_make_libdir_long_whole(void)
{
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;
    size_t size = 100000;
    char *python = malloc(size + 20);

    check_need(python != NULL, "memory");
    memset(python, 'x', size);
    python[0] = '/';
    strcpy(python + size, "/bin/python");
    set_one(NULL, NULL);
    make(&config, &options, python);
    CHECK(strlen(config.job.libdir) == size + 4);
    CHECK(strcmp(config.job.libdir + size, "/lib") == 0);
    mi_config_clear(&config);
    free(python);
}

static void test_make_direct(void)
{
    static const struct {
        int direct;
        enum mi_strategy strategy;
        int expected;
    } cases[] = {
        {0, MI_STRATEGY_ALL, 0},   {0, MI_STRATEGY_NAMES, 0},
        {0, MI_STRATEGY_NONE, 1},  {1, MI_STRATEGY_ALL, 1},
        {1, MI_STRATEGY_NAMES, 1}, {1, MI_STRATEGY_NONE, 1},
    };
    struct mi_config config;

    set_one(NULL, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mi_options options = {.direct = cases[i].direct,
                                     .strategy = cases[i].strategy};

        make(&config, &options, NULL);
        CHECK(!config.job.direct == !cases[i].expected);
        CHECK(!config.job.report);
        mi_config_clear(&config);
    }
}

static void test_make_report(void)
{
    struct mi_config config;

    set_one(NULL, NULL);
    for (int timing = 0; timing < 2; timing++) {
        struct mi_options options = {.strategy = MI_STRATEGY_ALL,
                                     .timing = timing};

        make(&config, &options, NULL);
        CHECK(!config.job.report == !timing && !config.job.direct);
        mi_config_clear(&config);
    }
}

/* What is the node's own comes behind what was given. */
static void test_make_local_own_directories_added(void)
{
    static const char *const own[] = {"/tmp", "/var/tmp", "/dev",
                                      "/run", "/proc",    "/sys"};
    char given[] = "/given", *list[] = {given, NULL};
    struct mi_options options = {.strategy = MI_STRATEGY_ALL, .local = list};
    struct mi_config config;

    set_one(NULL, NULL);
    make(&config, &options, NULL);
    CHECK(config.job.local == config.local);
    CHECK(strcmp(config.local[0], "/given") == 0 && config.local[0] != given);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        CHECK_FOR(own[i], mi_list_has(config.local, own[i]));
    CHECK(mi_list_length(config.local) == 7);
    mi_config_clear(&config);
    CHECK(!config.local && mi_list_length(list) == 1);
    options.local = NULL;
    make(&config, &options, NULL);
    CHECK(mi_list_length(config.local) == 6);
    mi_config_clear(&config);
}

static void test_make_local_tmpdir_added(void)
{
    static const struct {
        const char *value;
        int added;
    } cases[] = {{"/scratch/me", 1}, {"", 0}, {"/", 0}, {"relative", 0}};
    struct mi_options options = {.strategy = MI_STRATEGY_ALL};
    struct mi_config config;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_one("TMPDIR", cases[i].value);
        make(&config, &options, NULL);
        CHECK_FOR(cases[i].value,
                  mi_list_has(config.local, cases[i].value) == cases[i].added);
        CHECK_FOR(cases[i].value,
                  mi_list_length(config.local) == 6 + (size_t)cases[i].added);
        mi_config_clear(&config);
    }
    set_one(NULL, NULL);
}

int main(void)
{
    test_make_nothing_given_defaults();
    test_make_max_store_taken();
    test_make_each_variable_read();
    test_make_all_variables_read();
    test_make_empty_variable_default();
    test_make_no_number_refused();
    test_make_endless_number_cut_in_message();
    test_make_mpi_handed_on();
    test_make_tmpdir_absolute();
    test_make_no_directory_tmpdir_refused();
    test_make_libdir_beside_bin();
    test_make_libdir_long_whole();
    test_make_direct();
    test_make_report();
    test_make_local_own_directories_added();
    test_make_local_tmpdir_added();
    return check_report();
}
