/* Tests of src/environment.c: which interpreter, and is it of our version. */
#include "check.h"

#include "../../src/environment.h"

#define CHOOSER "PYTHON_MPI_PYTHON"
#define BUILT "/built/bin/python3.11"

static char scratch[PATH_MAX];

/* What get() answers; NULL: not set. */
static const char *chooser, *active;

static char *get(const char *name)
{
    const char *value = strcmp(name, CHOOSER) == 0         ? chooser
                        : strcmp(name, "VIRTUAL_ENV") == 0 ? active
                                                           : NULL;

    return (char *)(uintptr_t)value;
}

/* "SCRATCH/NAME", in one of a few buffers. */
static const char *at(const char *name)
{
    static char path[4][PATH_MAX];
    static unsigned next;

    next = (next + 1) % 4;
    return check_join(path[next], scratch, name);
}

/* ---- choice
 * ------------------------------------------------------------------- */

static void expect_choice(const char *path, const char *venv,
                          const char *python, const char *origin)
{
    struct mi_environment environment;
    struct mi_error err;

    memset(&environment, 0x5a, sizeof(environment));
    mi_error_clear(&err);
    chooser = path;
    active = venv;
    if (mi_environment_choose(&environment, BUILT, get, &err) != 0) {
        CHECK_FOR(err.text, !"chosen");
        return;
    }
    CHECK_FOR(environment.python, strcmp(environment.python, python) == 0);
    CHECK_FOR(python, origin ? environment.origin &&
                                   strcmp(environment.origin, origin) == 0
                             : !environment.origin);
    mi_environment_clear(&environment);
    CHECK(!environment.python && !environment.origin);
    mi_environment_clear(&environment);
}

static void test_choose_each_variable_taken(void)
{
    expect_choice(NULL, NULL, BUILT, NULL);
    expect_choice("/a/bin/python", NULL, "/a/bin/python", CHOOSER);
    expect_choice(NULL, "/v", "/v/bin/python3", "VIRTUAL_ENV");
    expect_choice("/a b/python 3", NULL, "/a b/python 3", CHOOSER);
    expect_choice(NULL, "/v w", "/v w/bin/python3", "VIRTUAL_ENV");
    expect_choice("/\377/%s", NULL, "/\377/%s", CHOOSER);
    expect_choice(NULL, "/%s%n", "/%s%n/bin/python3", "VIRTUAL_ENV");
}

static void test_choose_path_before_virtual_env(void)
{
    expect_choice("/a/bin/python", "/v", "/a/bin/python", CHOOSER);
    expect_choice("", "/v", "/v/bin/python3", "VIRTUAL_ENV");
    expect_choice("/a/bin/python", "", "/a/bin/python", CHOOSER);
}

static void test_choose_empty_variables_ignored(void)
{
    expect_choice("", NULL, BUILT, NULL);
    expect_choice(NULL, "", BUILT, NULL);
    expect_choice("", "", BUILT, NULL);
}

/* A shell's "activate" writes an absolute one. */
static void test_choose_virtual_env_relative_ignored(void)
{
    expect_choice(NULL, "v", BUILT, NULL);
    expect_choice(NULL, "./v", BUILT, NULL);
}

/* A long path is not cut. */
static void test_choose_long_path_whole(void)
{
    size_t size = 100000;
    char *path = malloc(size + 100), *python = malloc(size + 100);

    check_need(path && python, "memory");
    memset(path, 'x', size);
    path[0] = '/';
    path[size] = '\0';
    expect_choice(path, NULL, path, CHOOSER);
    sprintf(python, "%s/bin/python3", path);
    expect_choice(NULL, path, python, "VIRTUAL_ENV");
    free(path);
    free(python);
}

static int choose_relative(void *arg)
{
    char here[PATH_MAX];

    (void)arg;
    check_need(chdir(scratch) == 0 && getcwd(here, sizeof(here)) != NULL,
               scratch);
    strcpy(scratch, here); /* without symbolic links */
    expect_choice("v/bin/python", NULL, at("v/bin/python"), CHOOSER);
    expect_choice("./python", "/v", at("./python"), CHOOSER);
    expect_choice("../python", NULL, at("../python"), CHOOSER);
    return 0;
}

static void test_choose_path_relative_made_absolute(void)
{
    check_child(choose_relative, NULL, __func__);
}

static int choose_nowhere(void *arg)
{
    struct mi_environment environment;
    struct mi_error err;

    (void)arg;
    check_need(mkdir(at("gone"), 0700) == 0 && chdir(at("gone")) == 0 &&
                   rmdir(at("gone")) == 0,
               scratch);
    mi_error_clear(&err);
    chooser = "v/python";
    CHECK(mi_environment_choose(&environment, BUILT, get, &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENOENT && err.text[0]);
    mi_environment_clear(&environment);
    /* An absolute one does not care. */
    expect_choice("/v/python", NULL, "/v/python", CHOOSER);
    expect_choice(NULL, "/v", "/v/bin/python3", "VIRTUAL_ENV");
    return 0;
}

static void test_choose_no_directory_relative_refused(void)
{
    check_child(choose_nowhere, NULL, __func__);
}

static void test_choose_bare_name_refused(void)
{
    static const char *const names[] = {"python3", "python", ".", "%s%n"};
    struct mi_environment environment;
    struct mi_error err;

    active = "/v";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        mi_error_clear(&err);
        chooser = names[i];
        CHECK(mi_environment_choose(&environment, BUILT, get, &err) == -1);
        CHECK(err.domain == MI_ERRNO && err.code == EINVAL);
        CHECK_FOR(err.text, strstr(err.text, names[i]));
        CHECK_FOR(err.text, strstr(err.text, CHOOSER "=/"));
        CHECK(mi_environment_choose(&environment, BUILT, get, NULL) == -1);
        mi_environment_clear(&environment);
    }
}

/* ---- check
 * -------------------------------------------------------------------- */

/* Make a directory and those above it, all in SCRATCH. */
static void make_directory(const char *name)
{
    char path[PATH_MAX];

    check_join(path, scratch, name);
    for (char *p = path + strlen(scratch) + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        mkdir(path, 0700);
        *p = '/';
    }
    check_need(mkdir(path, 0700) == 0 || errno == EEXIST, path);
}

/* Make a file of that text, with the directories it is in. */
static void make_file(const char *name, const char *text, mode_t mode)
{
    char directory[PATH_MAX];

    strcpy(directory, name);
    *strrchr(directory, '/') = '\0';
    make_directory(directory);
    check_write(at(name), text, strlen(text));
    check_need(chmod(at(name), mode) == 0, name);
}

/* It is never executed. */
static void make_python(const char *name)
{
    make_file(name, "not a program\n", 0755);
}

static void make_link(const char *target, const char *name)
{
    check_need(symlink(target, at(name)) == 0, name);
}

/* Is it found to be right by a launcher that was built for 3.11.7? */
static int check_python(const char *name, const char *origin,
                        struct mi_error *err)
{
    char python[PATH_MAX];
    struct mi_environment environment = {python, origin};

    check_join(python, scratch, name);
    mi_error_clear(err);
    return mi_environment_check(&environment, 3, 11, "3.11.7", err);
}

static void expect_right(const char *name)
{
    struct mi_error err;

    CHECK_FOR(err.text, check_python(name, CHOOSER, &err) == 0);
    CHECK_FOR(name, err.domain == MI_NONE);
}

/* Of 'version', as the message writes it. */
static void expect_other(const char *name, const char *version)
{
    char text[100];
    struct mi_error err;

    snprintf(text, sizeof(text), " is of Python %s,", version);
    CHECK_FOR(name, check_python(name, CHOOSER, &err) == -1);
    CHECK_FOR(name, err.domain == MI_ERRNO && err.code == EINVAL);
    CHECK_FOR(err.text, strstr(err.text, text));
    CHECK_FOR(err.text, strstr(err.text, " 3.11.7:"));
}

static void expect_unusable(const char *name, const char *origin, int why)
{
    struct mi_error err;

    CHECK_FOR(name, check_python(name, origin, &err) == -1);
    CHECK_FOR(err.text, err.domain == MI_ERRNO && err.code == why);
    CHECK_FOR(err.text, strstr(err.text, at(name)));
    CHECK_FOR(err.text, strstr(err.text, strerror(why)));
    CHECK_FOR(err.text, strstr(err.text, CHOOSER "=/"));
    CHECK_FOR(err.text,
              strncmp(err.text, origin ? origin : "built for", 9) == 0);
    CHECK(!strchr(err.text, '\n'));
}

static void test_check_unusable_told(void)
{
    make_directory("u/directory");
    make_file("u/plain", "", 0644);
    make_link("nothing", "u/dangling");
    make_link("circle", "u/circle");
    check_need(mkfifo(at("u/fifo"), 0755) == 0, "fifo");
    expect_unusable("u/absent", CHOOSER, ENOENT);
    expect_unusable("u/absent", "VIRTUAL_ENV", ENOENT);
    expect_unusable("u/absent", NULL, ENOENT);
    expect_unusable("u/plain/python", CHOOSER, ENOTDIR);
    expect_unusable("u/directory", CHOOSER, EISDIR);
    expect_unusable("u/plain", CHOOSER, EACCES);
    expect_unusable("u/fifo", CHOOSER, EACCES);
    expect_unusable("u/dangling", CHOOSER, ENOENT);
    expect_unusable("u/circle", CHOOSER, ELOOP);
}

/* Unusable comes before a wrong version. */
static void test_check_missing_in_other_venv_told(void)
{
    make_file("m/pyvenv.cfg", "version = 3.12.1\n", 0644);
    expect_unusable("m/bin/python3", "VIRTUAL_ENV", ENOENT);
}

static void test_check_unknown_version_right(void)
{
    make_python("x/bin/python");
    expect_right("x/bin/python");
    make_python("x/bin/python3");
    expect_right("x/bin/python3");
    make_directory("x/lib/python3"); /* as on Debian: no version */
    make_directory("x/lib/pythonista");
    expect_right("x/bin/python3");
}

static void test_check_venv_version_read(void)
{
    static const struct {
        const char *text;
        const char *version; /* NULL: right */
    } cases[] = {
        {"version = 3.11.7\n", NULL},
        {"version = 3.11.2\n", NULL},
        {"version = 3.11\n", NULL},
        {"version = 3.11.0rc1\n", NULL},
        {"version_info = 3.11.7.final.0\n", NULL},
        {"version = 3.12.1\n", "3.12.1"},
        {"version = 3.12\n", "3.12"},
        {"version = 3.12.1", "3.12.1"},
        {"version = 3.1\n", "3.1"},
        {"version = 3.110.1\n", "3.110.1"},
        {"version = 2.11.7\n", "2.11.7"},
        {"version = 13.11.7\n", "13.11.7"},
        {"version = 3.15.0a1+\n", "3.15.0a1+"},
        {"version_info = 3.12.1.final.0\n", "3.12.1.final.0"},
        {"home = /b\nversion_info = 3.12.1\nprompt = x\n", "3.12.1"},
        {"home = /b\r\nversion = 3.12.1\r\n", "3.12.1"},
        {"version=3.12.1\n", "3.12.1"},
        {"version\t =  \t3.12.1 \t\n", "3.12.1"},
        {"version= 3.12.1 (main)\n", "3.12.1"},
        /* the first that is a version */
        {"version = 3.12.1\nversion_info = 3.11.7\n", "3.12.1"},
        {"version = 3.11.7\nversion_info = 3.12.1\n", NULL},
        {"version = \nversion = new\nversion = 3.12.1\n", "3.12.1"},
        /* no version at all */
        {"", NULL},
        {"\n\n=\n = \n3.12.1\nversion\nversion 3.12.1\n", NULL},
        {"version =\n", NULL},
        {"version = 3\n", NULL},
        {"version = .12\n", NULL},
        {"version = -3.12\n", NULL},
        {"version = x3.12\n", NULL},
        {"my version = 3.12.1\n", NULL},
        {"versions = 3.12.1\n", NULL},
        {"command = python3.12 -m venv version = 3.12.1\n", NULL},
    };

    make_python("c/bin/python");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make_file("c/pyvenv.cfg", cases[i].text, 0644);
        if (cases[i].version)
            expect_other("c/bin/python", cases[i].version);
        else
            expect_right("c/bin/python");
    }
}

/* Beside the interpreter, or else one directory above. */
static void test_check_venv_place(void)
{
    make_python("p/v/bin/python");
    make_file("p/pyvenv.cfg", "version = 3.13.0\n", 0644); /* too far */
    expect_right("p/v/bin/python");
    make_file("p/v/pyvenv.cfg", "version = 3.12.1\n", 0644);
    expect_other("p/v/bin/python", "3.12.1");
    make_file("p/v/bin/pyvenv.cfg", "version = 3.10.2\n", 0644);
    expect_other("p/v/bin/python", "3.10.2");
    make_file("p/v/bin/pyvenv.cfg", "version = 3.11.1\n", 0644);
    expect_right("p/v/bin/python");
    /* One that says nothing: the next. */
    make_file("p/v/bin/pyvenv.cfg", "home = /b\n", 0644);
    expect_other("p/v/bin/python", "3.12.1");
    check_need(unlink(at("p/v/bin/pyvenv.cfg")) == 0, "pyvenv.cfg");
    make_directory("p/v/bin/pyvenv.cfg");
    expect_other("p/v/bin/python", "3.12.1");
}

/* What a line is longer than, and what a name is made of. */
static void test_check_venv_odd_lines_passed(void)
{
    char *text = malloc(3 * PATH_MAX);

    check_need(text != NULL, "memory");
    memset(text, 'x', 3 * PATH_MAX);
    strcpy(text + 2 * PATH_MAX, "\nversion = 3.12.1\n");
    make_python("l/bin/python");
    make_file("l/pyvenv.cfg", text, 0644);
    expect_other("l/bin/python", "3.12.1");
    /* Its text is cut in the message. */
    memset(text, '0', PATH_MAX);
    memcpy(text, "version = 3.12.", 15);
    strcpy(text + PATH_MAX / 2, "\n");
    make_file("l/pyvenv.cfg", text, 0644);
    expect_other("l/bin/python", "3.12.00000000000000000000000000");
    free(text);
}

/* The environment's own file counts, not what its link leads to. */
static void test_check_venv_before_name(void)
{
    make_python("n/base/bin/python3.12");
    make_directory("n/v/bin");
    make_link("../../base/bin/python3.12", "n/v/bin/python");
    expect_other("n/v/bin/python", "3.12");
    make_file("n/v/pyvenv.cfg", "version = 3.11.9\n", 0644);
    expect_right("n/v/bin/python");
    make_file("n/v/pyvenv.cfg", "version = unknown\n", 0644);
    expect_other("n/v/bin/python", "3.12");
}

static void test_check_name_resolved(void)
{
    make_python("r/bin/python3.12");
    make_python("r/bin/python3.11");
    make_python("r/bin/python3.1");
    make_python("r/bin/python3.13t");
    make_link("python3.12", "r/bin/python3");
    make_link("python3", "r/bin/python");
    make_link("python3.11", "r/bin/right");
    /* The name of the link says nothing. */
    make_link("python3.11", "r/bin/python3.10");
    expect_other("r/bin/python3.12", "3.12");
    expect_other("r/bin/python3", "3.12");
    expect_other("r/bin/python", "3.12");
    expect_other("r/bin/python3.1", "3.1");
    expect_other("r/bin/python3.13t", "3.13t");
    expect_right("r/bin/python3.11");
    expect_right("r/bin/right");
    expect_right("r/bin/python3.10");
}

static void test_check_prefix_library_directory(void)
{
    make_python("q/bin/python");
    make_directory("q/lib/pkgconfig");
    make_directory("q/lib/python3.12");
    expect_other("q/bin/python", "3.12");
    /* By a link from elsewhere, as of a virtual environment. */
    make_directory("q-link/bin");
    make_link("../../q/bin/python", "q-link/bin/python");
    expect_other("q-link/bin/python", "3.12");
    make_directory("q-link/lib/python3.11");
    expect_other("q-link/bin/python", "3.12");
    /* Of several nobody knows which. */
    make_directory("q/lib/python3.13");
    expect_right("q/bin/python");
    make_python("q-right/bin/python");
    make_directory("q-right/lib/python3.11");
    expect_right("q-right/bin/python");
}

/* At the top of the filesystem, and nowhere near it. */
static void test_check_odd_places_no_harm(void)
{
    char shell[] = "/bin/sh", deep[PATH_MAX + 100];
    struct mi_environment environment = {shell, NULL};
    struct mi_error err;

    CHECK(mi_environment_check(&environment, 3, 11, "3.11.7", &err) == 0);
    memset(deep, '/', sizeof(deep));
    strcpy(deep + PATH_MAX - 2 - strlen(shell), shell);
    environment.python = deep;
    CHECK(mi_environment_check(&environment, 3, 11, "3.11.7", &err) == 0);
    memset(deep, '/', sizeof(deep));
    strcpy(deep + PATH_MAX, shell);
    mi_error_clear(&err);
    CHECK(mi_environment_check(&environment, 3, 11, "3.11.7", &err) == -1);
    CHECK(err.domain == MI_ERRNO && err.code == ENAMETOOLONG);
}

static void test_check_other_version_way_out_told(void)
{
    static const char *const origins[] = {CHOOSER, "VIRTUAL_ENV", NULL};
    struct mi_error err;

    make_python("w/bin/python");
    make_file("w/pyvenv.cfg", "version = 3.12.1\n", 0644);
    for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
        const char *origin = origins[i] ? origins[i] : "built for";

        CHECK(check_python("w/bin/python", origins[i], &err) == -1);
        CHECK_FOR(err.text, strncmp(err.text, origin, strlen(origin)) == 0);
        CHECK_FOR(err.text, strstr(err.text, at("w/bin/python")));
        CHECK_FOR(err.text, strstr(err.text, "3.12.1"));
        CHECK_FOR(err.text, strstr(err.text, "3.11.7"));
        CHECK_FOR(err.text, strstr(err.text, "make PYTHON=/"));
        CHECK_FOR(err.text, strstr(err.text, CHOOSER "=/"));
        CHECK(!strchr(err.text, '\n'));
    }
}

static void test_check_same_minor_right(void)
{
    char python[PATH_MAX];
    struct mi_environment environment = {python, CHOOSER};
    struct mi_error err;

    make_python("s/bin/python");
    make_file("s/pyvenv.cfg", "version = 3.12.1\n", 0644);
    check_join(python, scratch, "s/bin/python");
    for (int minor = 0; minor < 20; minor++)
        CHECK((mi_environment_check(&environment, 3, minor, "3.x", &err) ==
               0) == (minor == 12));
    CHECK(mi_environment_check(&environment, 4, 12, "4.12", &err) == -1);
    CHECK(mi_environment_check(&environment, 4, 12, "4.12", NULL) == -1);
}

int main(void)
{
    check_scratch(scratch);
    test_choose_each_variable_taken();
    test_choose_path_before_virtual_env();
    test_choose_empty_variables_ignored();
    test_choose_virtual_env_relative_ignored();
    test_choose_long_path_whole();
    test_choose_path_relative_made_absolute();
    test_choose_no_directory_relative_refused();
    test_choose_bare_name_refused();
    test_check_unusable_told();
    test_check_missing_in_other_venv_told();
    test_check_unknown_version_right();
    test_check_venv_version_read();
    test_check_venv_place();
    test_check_venv_odd_lines_passed();
    test_check_venv_before_name();
    test_check_name_resolved();
    test_check_prefix_library_directory();
    test_check_odd_places_no_harm();
    test_check_other_version_way_out_told();
    test_check_same_minor_right();
    check_remove(scratch);
    return check_report();
}
