/* bin/python-mpi: the native launcher.
 *
 *     mpiexec -n N python-mpi [OPTION...] PROGRAM [ARGUMENT...]
 *
 * MPI and the node's store are up before Python exists.  Rank 0 then starts
 * Python as python3 does; the others start it from what rank 0 has found
 * (startup.h).  From there on src/launch.py does the same for both launchers.
 */
#include <Python.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "config.h"
#include "environment.h"
#include "error.h"
#include "job.h"
#include "mpiimport.h"
#include "mpimin.h"
#include "options.h"
#include "startup.h"
#include "stub.h"
#include "target.h"

#define NAME "python-mpi"
#define USAGE 2 /* exit status, as python3 */

/* MPI comes before Python: what it takes hold of in the process is not to be
 * what Python finds at its start.
 */
struct process {
    int held[3]; /* standard descriptors that were closed: now /dev/null */
    struct sigaction actions[NSIG];
};

struct native {
    struct mi_options options;
    struct mi_environment environment;
    PyConfig config;
    int seeded;      /* by the user's PYTHONHASHSEED */
    char check_hash; /* of --check-hash-based-pycs: a, d or n */
    int optimize;    /* -O */
    int inspect;     /* -i */
    int use_environment;
    struct process process;
    struct mi_job *job;
    struct mi_startup startup;
};

/* What rank 0 tells before anybody starts Python. */
struct head {
    int32_t failed; /* rank 0 has said why */
    uint32_t seed;
};

/* ---- the process as it was ---------------------------------------------- */

/* Before MPI. */
static void keep_process(struct process *process)
{
    for (int i = 0; i < 3; i++)
        process->held[i] = fcntl(i, F_GETFD) < 0 &&
                           open("/dev/null", O_RDWR | O_CLOEXEC) == i;
    for (int i = 1; i < NSIG; i++)
        if (sigaction(i, NULL, &process->actions[i]) != 0)
            process->actions[i].sa_handler = SIG_ERR;
}

static int is_same(const struct sigaction *a, const struct sigaction *b)
{
    return a->sa_handler == b->sa_handler;
}

/* Before Python: put the signals back; 'process' gets MPI's.  Descriptors are
 * closed again where no other rank, and so no thread of MPI, could open
 * something there at any time.
 */
static void restore_process(struct process *process, int alone)
{
    struct sigaction before;

    for (int i = 0; i < 3; i++)
        if (process->held[i] && alone) {
            close(i);
            process->held[i] = 0;
        }
    for (int i = 1; i < NSIG; i++) {
        before = process->actions[i];
        if (before.sa_handler == SIG_ERR ||
            sigaction(i, NULL, &process->actions[i]) != 0 ||
            is_same(&before, &process->actions[i]) ||
            sigaction(i, &before, NULL) != 0)
            process->actions[i].sa_handler = SIG_ERR;
    }
}

/* Python has no streams for descriptors that were closed. */
static int hide_streams(const struct process *process)
{
    static const char *const names[3][2] = {{"stdin", "__stdin__"},
                                            {"stdout", "__stdout__"},
                                            {"stderr", "__stderr__"}};

    for (int i = 0; i < 3; i++)
        if (process->held[i] && (PySys_SetObject(names[i][0], Py_None) != 0 ||
                                 PySys_SetObject(names[i][1], Py_None) != 0))
            return -1;
    return 0;
}

/* After Python: MPI's again, where Python has not set its own. */
static void resume_process(const struct process *process)
{
    struct sigaction now;

    for (int i = 1; i < NSIG; i++)
        if (process->actions[i].sa_handler != SIG_ERR &&
            sigaction(i, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
            sigaction(i, &process->actions[i], NULL);
}

/* ---- messages ----------------------------------------------------------- */

static void say(const struct mi_error *err)
{
    fprintf(stderr, NAME ": %s\n", err->text);
}

/* What is the same on all ranks is said by one. */
static int refuse(const struct mi_error *err, const char *more, int status)
{
    if (mpimin_promise_first(getenv)) {
        say(err);
        fputs(more, stderr);
    }
    return status;
}

static int print_help(void)
{
    char *text = mi_options_help(NAME);

    if (!text) {
        perror(NAME);
        return 1;
    }
    if (mpimin_promise_first(getenv))
        fputs(text, stdout);
    free(text);
    return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- the interpreter's command line ------------------------------------- */

/* As python3's main() would see it. */
static PyStatus set_words(PyConfig *config, const struct native *native)
{
    Py_ssize_t count = 0;
    PyStatus status;
    char **argv;

    while (native->options.words[count])
        count++;
    argv = calloc((size_t)count + 2, sizeof(*argv));
    if (!argv)
        return PyStatus_NoMemory();
    argv[0] = native->environment.python;
    memcpy(argv + 1, native->options.words, (size_t)count * sizeof(*argv));
    PyConfig_InitPythonConfig(config);
    status = PyConfig_SetBytesArgv(config, count + 1, argv);
    free(argv);
    return status;
}

/* Let CPython read the command line: errors and -V end here.  Some versions
 * lose -X warn_default_encoding on the way from there to the interpreter,
 * which has to read it anew then (at the price of -R, which would have it draw
 * a seed of its own).
 */
static PyStatus read_config(struct native *native)
{
    PyConfig *config = &native->config;
    PyStatus status = set_words(config, native);

    if (!PyStatus_Exception(status))
        status = PyConfig_Read(config);
    if (PyStatus_Exception(status))
        return status;
    native->seeded = config->use_hash_seed;
    native->check_hash = (char)config->check_hash_pycs_mode[0];
    native->optimize = config->optimization_level;
    native->inspect = config->inspect;
    native->use_environment = config->use_environment;
    if (config->warn_default_encoding) {
        PyConfig_Clear(config);
        status = set_words(config, native);
        if (PyStatus_Exception(status))
            return status;
    }
    config->site_import = 0; /* launch.py does that in its own way */
    return PyConfig_SetBytesString(config, &config->executable,
                                   native->environment.python);
}

/* ---- MPI, store, pump --------------------------------------------------- */

static int start_job(struct native *native, struct mi_error *err)
{
    static const unsigned char magic[4] = {MI_TARGET_MAGIC};
    struct mi_config config;
    int rc = mi_config_make(&config, &native->options,
                            native->environment.python, getenv, err);

    memcpy(config.job.rule.magic, magic, sizeof(magic));
    config.job.rule.check_hash = native->check_hash;
    config.job.optimize = native->optimize;
    config.job.launcher = MI_LAUNCHER_NATIVE;
    if (rc == 0)
        rc = mi_config_identify(&config, &native->options,
                                native->environment.python, getenv, err);
    if (rc == 0)
        rc = mi_job_start(&native->job, &config.job, err);
    mi_config_clear(&config);
    return rc;
}

/* Do the others start from what rank 0 finds? */
static int is_shared(const struct native *native)
{
    return mi_job_size(native->job) > 1 && !mi_job_direct(native->job);
}

/* A seed that is not 0, which would switch the randomisation off. */
static int draw_seed(uint32_t *seed, struct mi_error *err)
{
    do {
        if (getrandom(seed, sizeof(*seed), 0) != sizeof(*seed))
            return mi_fail_errno(err, "getrandom");
    } while (*seed == 0);
    return 0;
}

static int check_environment(const struct native *native, struct mi_error *err)
{
    return mi_environment_check(&native->environment, PY_MAJOR_VERSION,
                                PY_MINOR_VERSION, MI_TARGET_VERSION, err);
}

/* Rank 0 checks the environment and draws the seed.  Collective; returns 1 if
 * rank 0 has refused, which it has said.
 */
static int share_head(struct native *native, struct mi_error *err)
{
    struct head head = {0, 0};
    struct mi_error why;

    if (mi_job_rank(native->job) == 0 &&
        (check_environment(native, &why) != 0 ||
         draw_seed(&head.seed, &why) != 0)) {
        head.failed = 1;
        say(&why);
    }
    if (mi_job_bcast(native->job, &head, sizeof(head), 0, err) != 0)
        return -1;
    if (!native->seeded) {
        native->config.use_hash_seed = 1;
        native->config.hash_seed = head.seed;
    }
    return head.failed;
}

/* ---- Python ------------------------------------------------------------- */

/* Tell the others that rank 0 has no Python for them. */
static void withdraw(struct native *native)
{
    void *nothing = NULL;
    uint64_t size = 0;
    struct mi_error err;

    if (is_shared(native) &&
        mi_job_bcast_blob(native->job, &nothing, &size, 0, &err) != 0)
        say(&err);
}

/* Returns 1 if rank 0 has withdrawn. */
static int receive_startup(struct native *native, struct mi_error *err)
{
    uint64_t size;
    void *bytes;

    if (mi_job_bcast_blob(native->job, &bytes, &size, 0, err) != 0)
        return -1;
    if (size == 0) {
        free(bytes);
        return 1;
    }
    return mi_startup_take(&native->startup, bytes, size, &native->config,
                           err);
}

/* End without Python: with the others, which do the same. */
static int leave(struct native *native, int status)
{
    struct mi_error err;

    if (mi_job_finish(native->job, &err) != 0)
        say(&err);
    mi_job_remove(native->job);
    return status;
}

/* The interpreter cannot be started.  If this is rank 0's, the others are
 * told; otherwise they go on by now.
 */
static _Noreturn void give_up(struct native *native, PyStatus status)
{
    if (mi_job_size(native->job) > 1 &&
        (mi_job_rank(native->job) > 0 || !is_shared(native))) {
        fprintf(stderr, NAME ": rank %d: Python cannot be started: %s\n",
                mi_job_rank(native->job),
                status.err_msg ? status.err_msg : "unknown error");
        mi_job_abort(native->job, 1);
    }
    withdraw(native);
    leave(native, 1);
    Py_ExitStatusException(status);
}

/* What is left of the startup message, for Python. */
static PyObject *take_rest(struct native *native)
{
    PyObject *rest =
        native->startup.rest
            ? PyBytes_FromStringAndSize(native->startup.rest,
                                        (Py_ssize_t)native->startup.rest_size)
            : Py_NewRef(Py_None);

    mi_startup_clear(&native->startup);
    return rest;
}

/* PyErr_Print() ends the process after SystemExit.  Anything else comes here
 * only from before the program, when others wait for this rank.
 */
static int run(struct native *native)
{
    PyObject *module = PyImport_ImportModule("mpiimport");
    PyObject *rest = module ? take_rest(native) : NULL;
    PyObject *result =
        rest ? mpiimport_run(native->job, &native->options, rest) : NULL;
    int status = result ? (int)PyLong_AsLong(result) : 1;

    if (PyErr_Occurred()) {
        PyErr_Print();
        if (mi_job_size(native->job) > 1)
            mi_job_abort(native->job, 1);
    }
    Py_XDECREF(module);
    Py_XDECREF(rest);
    Py_XDECREF(result);
    return status;
}

/* -i, or PYTHONINSPECT, which the program may have set. */
static int is_inspected(const struct native *native)
{
    const char *wish =
        native->use_environment ? getenv("PYTHONINSPECT") : NULL;

    return (native->inspect || (wish && wish[0])) && isatty(0);
}

static int end(int status)
{
    return Py_FinalizeEx() < 0 ? 120 : status;
}

/* Start the interpreter.  -1: it cannot be, and *status says why; 1: rank 0
 * has said why.
 */
static int start_python(struct native *native, PyStatus *status,
                        struct mi_error *err)
{
    int rc;

    if (PyImport_AppendInittab("mpiimport", PyInit_mpiimport) != 0) {
        *status = PyStatus_NoMemory();
        return 0;
    }
    if (mi_job_rank(native->job) > 0 && is_shared(native)) {
        rc = receive_startup(native, err);
        if (rc != 0)
            return rc;
    }
    restore_process(&native->process, mi_job_size(native->job) == 1);
    *status = mi_startup_initialize(&native->startup, &native->config);
    if (PyStatus_Exception(*status))
        return 0;
    resume_process(&native->process);
    if (hide_streams(&native->process) != 0)
        *status = PyStatus_NoMemory();
    return 0;
}

static int launch(struct native *native)
{
    struct mi_error err;
    PyStatus status;
    int rc = share_head(native, &err);

    if (rc == 0)
        rc = start_python(native, &status, &err);
    if (rc > 0)
        return leave(native, 1);
    if (rc < 0) {
        say(&err);
        mi_job_abort(native->job, 1);
    }
    if (PyStatus_Exception(status))
        give_up(native, status);
    PyConfig_Clear(&native->config);
    mi_environment_clear(&native->environment);
    rc = run(native);
    if (is_inspected(native))
        rc = PyRun_AnyFileFlags(stdin, "<stdin>", NULL) != 0;
    return end(rc);
}

/* ---- main --------------------------------------------------------------- */

/* A message of the interpreter about its options, once. */
static int exit_by(PyStatus status)
{
    if (PyStatus_IsExit(status))
        return status.exitcode;
    if (!mpimin_promise_first(getenv))
        return 1;
    Py_ExitStatusException(status);
}

/* Extension modules that need the interpreter's shared library find its
 * functions here, and must not load it beside this one: its name is taken.
 * Without that they still would find those here first.
 */
static void take_name(void)
{
#ifdef MI_STATIC_SONAME
    struct mi_stub stub = {0};
    struct mi_error err;
    void *handle;

    if (mi_stub_name(&stub, MI_STATIC_SONAME, &err) == 0)
        mi_stub_open(&stub, RTLD_NOW | RTLD_LOCAL, &handle, &err);
    mi_stub_clear(&stub);
#endif
}

int main(int argc, char **argv)
{
    static struct native native;
    struct mi_error err;
    PyStatus status;

    (void)argc;
    mi_clock_charge(MI_BOOT, mi_clock_process_start());
    mi_clock_enter(MI_BOOT);
    if (mi_options_parse(&native.options, argv + 1, getenv, &err) != 0)
        return refuse(&err, "Try '" NAME " --help' for more information.\n",
                      USAGE);
    if (native.options.program == MI_PROGRAM_HELP)
        return print_help();
    if (mi_environment_choose(&native.environment, MI_TARGET_PYTHON, getenv,
                              &err) != 0)
        return refuse(&err, "", 1);
    status = read_config(&native);
    if (PyStatus_Exception(status))
        return exit_by(status);
    keep_process(&native.process);
    take_name();
    if (start_job(&native, &err) != 0) {
        say(&err);
        mi_job_abort(native.job, 1);
    }
    return launch(&native);
}
