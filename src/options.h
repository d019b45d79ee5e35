/* The command line and the PYTHON_MPI_* variables of the launchers.
 *
 * What belongs to the launcher is taken out of the command line; what is left
 * is python3's, word for word, and CPython itself reads that.  Pure: no input
 * or output.  Local.
 * Source: CPython's "Command line and environment" page.
 */
#ifndef MI_OPTIONS_H
#define MI_OPTIONS_H

#include "error.h"
#include "limit.h"

enum mi_program {
    MI_PROGRAM_NONE, /* nothing was named: standard input */
    MI_PROGRAM_SCRIPT,
    MI_PROGRAM_COMMAND, /* -c */
    MI_PROGRAM_MODULE,  /* -m */
    MI_PROGRAM_STDIN,   /* - */
    MI_PROGRAM_HELP,
    MI_PROGRAM_VERSION
};

enum mi_strategy { MI_STRATEGY_NONE, MI_STRATEGY_NAMES, MI_STRATEGY_ALL };

/* Whose files are served to a program that reads them itself. */
enum mi_data { MI_DATA_NONE, MI_DATA_PACKAGES };

/* Lists of words end with a NULL and are never NULL themselves, until cleared.
 * Nothing is decoded: words are bytes as the system gave them.  All of it is
 * owned by the struct.
 */
struct mi_options {
    /* The command line as python3 would get it, without argv[0]: the
     * interpreter's options, the program, its arguments.  A word that mixes
     * letters of both keeps python3's ("-Ovu" becomes "-Ou").  -V, -S
     * and -x are python3's.
     */
    char **words;
    /* Of these, the interpreter's options only, without the "--" that ends
     * them; "-OuBc" leaves "-OuB".
     */
    char **python;
    int no_site;    /* -S is among them */
    int skip_first; /* -x is among them */
    enum mi_program program;
    char *value;  /* path, command or module; NULL for the others */
    char **args;  /* sys.argv[1:] */
    char *mpi;    /* -I: mpich, openmpi, intel, abi, path; or NULL */
    char *tmpdir; /* -T, as it was given; or NULL */
    struct mi_limit max_store;
    int verbose;       /* how often -v was given */
    int direct;        /* -d */
    int timing;        /* --timing, unless =0 */
    char *timing_file; /* --timing=FILE; or NULL */
    enum mi_strategy strategy;
    enum mi_data data;
    int gc_defer;       /* garbage collection waits for the end of imports */
    char *manifest;     /* --manifest, as it was given ("none"); or NULL */
    int manifest_build; /* --manifest-build; 'manifest' is a file, or NULL */
    char **share;       /* absolute path prefixes without a trailing slash; */
    char **local;       /* no prefix is in both */
    int version_level;  /* 1 for -V, 2 for -VV */
};

/* Read the command line 'argv' (NULL-terminated, without the launcher's own
 * name) and the environment, asked through 'get' (getenv(3)).  The environment
 * is looked at only if a program is to run: a bad variable does not keep
 * anybody from reading the help.  '*options' need not be initialised.  Returns
 * 0, or -1 with 'err' (one or two sentences for the user on one line; MI_ERRNO
 * with EINVAL, or ENOMEM) and '*options' to be cleared all the same.  The
 * caller clears.
 */
int mi_options_parse(struct mi_options *options, char *const *argv,
                     char *(*get)(const char *name), struct mi_error *err);

/* Free what is in it; repeating it does no harm. */
void mi_options_clear(struct mi_options *options);

/* The text of --help, with a final newline; 'name' is the launcher's.  The
 * caller frees it; NULL with errno when there is no memory.
 */
char *mi_options_help(const char *name);

#endif
