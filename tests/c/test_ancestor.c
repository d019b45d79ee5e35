/* Tests of libmpi_min/ancestor.c, with a /proc made for each case. */
#include "check.h"

#include "../../libmpi_min/ancestor.h"

static char scratch[PATH_MAX];
static int looks; /* calls of stat(2): operations on the tree */

/* In place of the C library's. */
int stat(const char *path, struct stat *status)
{
    looks++;
    return fstatat(AT_FDCWD, path, status, 0);
}

/* ---- a made /proc ------------------------------------------------------- */

struct process {
    int pid; /* 0: "self" */
    int parent;
    const char *exe;    /* NULL: may not be read */
    const char *called; /* NULL: as exe */
    const char *name;   /* NULL: "sh" */
};

static const char *write_process(char *path, const char *proc,
                                 const struct process *process)
{
    const char *called = process->called ? process->called : process->exe;
    char directory[PATH_MAX];
    char text[256];
    int length;

    if (process->pid)
        snprintf(text, sizeof(text), "%d", process->pid);
    else
        snprintf(text, sizeof(text), "self");
    check_join(directory, proc, text);
    check_need(mkdir(directory, 0700) == 0, directory);
    length = snprintf(text, sizeof(text), "%d (%s) S %d 7 7 34816 7 4194304",
                      process->pid ? process->pid : 9999,
                      process->name ? process->name : "sh", process->parent);
    check_write(check_join(path, directory, "stat"), text, (size_t)length);
    if (!process->exe)
        return path;
    check_join(path, directory, "exe");
    check_need(symlink(process->exe, path) == 0, path);
    length = snprintf(text, sizeof(text), "%s%c-n%c2%c", called, 0, 0, 0);
    check_write(check_join(path, directory, "cmdline"), text, (size_t)length);
    return path;
}

/* The answer where exactly these processes exist. */
static int ask(const struct process *processes, int count, const char *prefix)
{
    char proc[PATH_MAX];
    char path[PATH_MAX];
    int answer;
    int i;

    check_join(proc, scratch, "proc");
    check_need(mkdir(proc, 0700) == 0, proc);
    for (i = 0; i < count; i++)
        write_process(path, proc, &processes[i]);
    looks = 0;
    answer = mpimin_ancestor_below(proc, prefix);
    check_remove(proc);
    return answer;
}

#define ASK(processes, prefix)                                                \
    ask(processes, (int)(sizeof(processes) / sizeof((processes)[0])), prefix)

/* The answer for one launcher that is the parent. */
static int ask_one(const char *exe, const char *called, const char *prefix)
{
    const struct process processes[] = {
        {.pid = 0, .parent = 20, .exe = "/usr/bin/rank"},
        {.pid = 20, .parent = 1, .exe = exe, .called = called}};

    return ASK(processes, prefix);
}

/* ---- which program ------------------------------------------------------ */

static void test_ancestor_launchers_recognised_by_name(void)
{
    static const char *const names[] = {"mpiexec",
                                        "mpiexec.hydra",
                                        "mpiexec.gforker",
                                        "mpirun",
                                        "prterun",
                                        "prte",
                                        "prted",
                                        "orterun",
                                        "orted",
                                        "mpispawn",
                                        "mpirun_rsh",
                                        "hydra_pmi_proxy",
                                        "hydra_bstrap_proxy"};
    static const char *const others[] = {"python3.11", "sh",  "my-mpiexec",
                                         "strace",     "mpi", "hydra"};
    char path[PATH_MAX];
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        check_join(path, "/venv/bin", names[i]);
        CHECK_FOR(path, ask_one(path, NULL, "/venv") == 1);
        CHECK_FOR(path, ask_one(path, NULL, "/other") == 0);
    }
    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        check_join(path, "/venv/bin", others[i]);
        CHECK_FOR(path, ask_one(path, NULL, "/venv") == 0);
    }
    CHECK(looks == 0);
}

static void test_ancestor_prefix_is_whole_components(void)
{
    CHECK(ask_one("/venv/lib/python3.11/site-packages/m/bin/mpiexec", NULL,
                  "/venv") == 1);
    CHECK(ask_one("/venv/bin/mpiexec (deleted)", NULL, "/venv") == 1);
    CHECK(ask_one("/venv2/bin/mpiexec", NULL, "/venv") == 0);
    CHECK(ask_one("/ven/bin/mpiexec", NULL, "/venv") == 0);
    CHECK(ask_one("/usr/bin/mpiexec", NULL, "/venv") == 0);
    CHECK(ask_one("/venv/bin/mpiexec", NULL, "venv") == 0);
    CHECK(ask_one("mpiexec", NULL, "/venv") == 0);
    CHECK(looks == 0);
}

static void test_ancestor_name_it_was_called_by_counts(void)
{
    CHECK(ask_one("/data/v3/bin/hydra_pmi_proxy", "/venv/bin/hydra_pmi_proxy",
                  "/venv") == 1);
    CHECK(ask_one("/data/v3/bin/mpiexec", "/env/bin/mpiexec", "/venv") == 0);
    CHECK(ask_one("/data/v3/bin/mpiexec", "mpiexec", "/venv") == 0);
    CHECK(ask_one("/usr/bin/dash", "/venv/bin/mpiexec", "/venv") == 0);
    CHECK(looks == 0);
}

/* ---- the way up --------------------------------------------------------- */

static void test_ancestor_way_leads_through_others(void)
{
    static const struct process processes[] = {
        {.pid = 0, .parent = 50, .exe = "/usr/bin/rank"},
        {.pid = 50, .parent = 40, .exe = "/usr/bin/dash", .name = "a) R 1 (b"},
        {.pid = 40, .parent = 30, .exe = "/usr/bin/strace", .name = ") S 2"},
        {.pid = 30, .parent = 20, .exe = "/venv/bin/python3.11", .name = ""},
        {.pid = 20, .parent = 10, .exe = "/venv/bin/hydra_pmi_proxy"},
        {.pid = 10, .parent = 1, .exe = "/usr/bin/mpiexec"},
        {.pid = 1, .parent = 0}};

    CHECK(ASK(processes, "/venv") == 1);
    CHECK(ASK(processes, "/usr") == 0); /* the nearest launcher decides */
}

static void test_ancestor_nearest_launcher_decides(void)
{
    static const struct process processes[] = {
        {.pid = 0, .parent = 30, .exe = "/usr/bin/rank"},
        {.pid = 30, .parent = 20, .exe = "/usr/bin/hydra_pmi_proxy"},
        {.pid = 20, .parent = 10, .exe = "/venv/bin/python3.11"},
        {.pid = 10, .parent = 1, .exe = "/venv/bin/mpiexec"}};

    CHECK(ASK(processes, "/venv") == 0);
    CHECK(looks == 0);
}

static void test_ancestor_process_1_may_be_the_launcher(void)
{
    static const struct process container[] = {
        {.pid = 0, .parent = 1, .exe = "/usr/bin/rank"},
        {.pid = 1, .parent = 0, .exe = "/venv/bin/prterun"}};
    static const struct process outside[] = {
        {.pid = 0, .parent = 0, .exe = "/usr/bin/rank"},
        {.pid = 1, .parent = 0, .exe = "/venv/bin/prterun"}};

    CHECK(ASK(container, "/venv") == 1);
    CHECK(ASK(outside, "/venv") == 0); /* srun into a container */
}

static void test_ancestor_unreadable_ends_the_way(void)
{
    static const struct process processes[] = {
        {.pid = 0, .parent = 30, .exe = "/usr/bin/rank"},
        {.pid = 30, .parent = 20, .name = "slurmstepd"},
        {.pid = 20, .parent = 1, .exe = "/venv/bin/mpiexec"}};
    static const struct process gone[] = {
        {.pid = 0, .parent = 30, .exe = "/usr/bin/rank"}};

    CHECK(ASK(processes, "/venv") == 0);
    CHECK(ASK(gone, "/venv") == 0);
    CHECK(ask(processes, 0, "/venv") == 0);
    CHECK(mpimin_ancestor_below("/no/such/proc", "/venv") == 0);
    CHECK(looks == 0);
}

static void test_ancestor_bad_stat_ends_the_way(void)
{
    static const char *const texts[] = {
        "", "7", "7 (sh", "7 (sh)", "7 (sh) S", "7 (sh) S x", "7 (sh) S -3"};
    char directory[PATH_MAX];
    char path[PATH_MAX];
    size_t i;

    check_join(directory, scratch, "self");
    check_need(mkdir(directory, 0700) == 0, directory);
    check_join(path, directory, "stat");
    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        check_write(path, texts[i], strlen(texts[i]));
        CHECK_FOR(texts[i], mpimin_ancestor_below(scratch, "/venv") == 0);
    }
    check_remove(directory);
}

/* A row of 'between' shells, then the launcher. */
static int ask_far(int between)
{
    struct process processes[20];
    int i;

    memset(processes, 0, sizeof(processes));
    for (i = 0; i <= between; i++) {
        processes[i].pid = i ? 100 + i : 0;
        processes[i].parent = 101 + i;
        processes[i].exe = "/usr/bin/dash";
    }
    processes[i].pid = 100 + i;
    processes[i].parent = 1;
    processes[i].exe = "/venv/bin/mpiexec";
    return ask(processes, i + 1, "/venv");
}

static void test_ancestor_sixteen_levels(void)
{
    static const struct process ring[] = {
        {.pid = 0, .parent = 30, .exe = "/usr/bin/rank"},
        {.pid = 30, .parent = 20, .exe = "/usr/bin/dash"},
        {.pid = 20, .parent = 30, .exe = "/usr/bin/dash"}};

    CHECK(ask_far(0) == 1);
    CHECK(ask_far(15) == 1);
    CHECK(ask_far(16) == 0);
    CHECK(ASK(ring, "/venv") == 0);
}

/* ---- symbolic links ----------------------------------------------------- */

static void test_ancestor_prefix_by_symbolic_link(void)
{
    char other[PATH_MAX];
    char data[PATH_MAX];
    char venv[PATH_MAX];
    char path[PATH_MAX];
    char exe[PATH_MAX];

    check_join(data, scratch, "data");
    check_need(mkdir(data, 0700) == 0, data);
    check_join(venv, data, "venv");
    check_need(mkdir(venv, 0700) == 0, venv);
    check_write(check_join(exe, venv, "prterun"), "x", 1);
    check_join(path, scratch, "venv");
    check_need(symlink(venv, path) == 0, path);
    CHECK(ask_one(exe, "prterun", path) == 1);
    CHECK(looks == 2);
    /* A namesake is not the same directory, and costs one look. */
    check_join(other, scratch, "else");
    check_need(mkdir(other, 0700) == 0, other);
    check_join(path, other, "venv");
    check_need(mkdir(path, 0700) == 0, path);
    CHECK(ask_one(exe, "prterun", path) == 0);
    CHECK(looks == 1);
    check_write(check_join(other, path, "prterun"), "x", 1);
    CHECK(ask_one(exe, "prterun", path) == 0);
    CHECK(looks == 2);
    /* Where no component agrees, nothing is looked at. */
    CHECK(ask_one("/usr/bin/mpiexec", "mpiexec", path) == 0);
    CHECK(ask_one("/venv2/bin/mpiexec", "mpiexec", path) == 0);
    CHECK(looks == 0);
}

int main(void)
{
    check_scratch(scratch);
    test_ancestor_launchers_recognised_by_name();
    test_ancestor_prefix_is_whole_components();
    test_ancestor_name_it_was_called_by_counts();
    test_ancestor_way_leads_through_others();
    test_ancestor_nearest_launcher_decides();
    test_ancestor_process_1_may_be_the_launcher();
    test_ancestor_unreadable_ends_the_way();
    test_ancestor_bad_stat_ends_the_way();
    test_ancestor_sixteen_levels();
    test_ancestor_prefix_by_symbolic_link();
    check_remove(scratch);
    return check_report();
}
