#include "options.h"

#include <stdio.h>

static const char sharing[] =
    "MPI and sharing (and the environment variable that does the same):\n"
    "  -I, --mpi MPI       which MPI library to load: mpich, openmpi, intel, "
    "abi\n"
    "                      (the standard ABI of MPI 5) or the path of a "
    "library;\n"
    "                      found by itself if not given\n"
    "                      PYTHON_MPI_MPI=MPI\n"
    "  -T, --tmpdir DIR    where the nodes keep their stores; a local "
    "directory in\n"
    "                      memory (tmpfs)\n"
    "                      PYTHON_MPI_TMPDIR=DIR\n"
    "  --max-store SIZE    how much of its memory a node's store may take, "
    "with "
    "the\n"
    "                      shared objects kept beside it: bytes, with K, M, G "
    "or T\n"
    "                      behind, or N% of the -T filesystem; 25% if not "
    "given;\n"
    "                      0: no objects are kept, and the store is as large "
    "as it\n"
    "                      has to be\n"
    "                      PYTHON_MPI_MAX_STORE=SIZE\n"
    "  -d, --direct        every rank reads the filesystem itself, no "
    "broadcast\n"
    "                      PYTHON_MPI_DIRECT=1\n"
    "  --strategy WHAT     how much is shared: none (as plain python), names\n"
    "                      (listings and stats; each rank reads files itself) "
    "or\n"
    "                      all (the default)\n"
    "                      PYTHON_MPI_STRATEGY=WHAT\n"
    "  --data WHOSE        files that the program reads: packages (those of "
    "the\n"
    "                      installed ones are shared; the default) or none\n"
    "                      PYTHON_MPI_DATA=WHOSE\n"
    "  --no-gc-defer       let Python look for garbage while it imports, as "
    "plain\n"
    "                      python does; else it does so after the imports\n"
    "                      PYTHON_MPI_GC_DEFER=0\n"
    "  --manifest FILE     what earlier runs of the program have asked for, "
    "to "
    "be\n"
    "                      read ahead by this one and written at its end; "
    "'none'\n"
    "                      turns that off; if not given, a file in "
    "mpiimport/ of\n"
    "                      $XDG_CACHE_HOME or ~/.cache\n"
    "                      PYTHON_MPI_MANIFEST=FILE\n"
    "  --manifest-build    record for the manifest also if there is a single "
    "rank\n"
    "  --share DIR[:DIR]   absolute paths; share everything below them\n"
    "                      PYTHON_MPI_SHARE=DIR[:DIR]\n"
    "  --local DIR[:DIR]   absolute paths; each node reads what is below "
    "them\n"
    "                      itself\n"
    "                      PYTHON_MPI_LOCAL=DIR[:DIR]\n"
    "\n";

static const char environment[] =
    "Environment (without an option):\n"
    "  PYTHON_MPI_PYTHON=/path/bin/python\n"
    "                      which environment python-mpi runs: its "
    "interpreter;\n"
    "                      else $VIRTUAL_ENV, else the one it was built for;\n"
    "                      python-mpi.py runs the python3 in PATH\n"
    "\n";

static const char reports[] =
    "Reports:\n"
    "  --timing[=FILE]     report at the end where the start-up time went; "
    "with\n"
    "                      FILE also write it there as JSON; =0 turns it off\n"
    "                      PYTHON_MPI_TIMING=1 or =FILE\n"
    "  -v, --verbose       say more, also in the report; may be repeated\n"
    "                      PYTHON_MPI_VERBOSE=NUMBER\n"
    "  -V, --version       print the version; -VV: with more about the build\n"
    "  -h, -?, --help      print this help\n"
    "\n"
    "An option on the command line wins over the variable.  --share and "
    "--local\n"
    "may be repeated and add to the variables; the longest prefix decides.  "
    "An\n"
    "empty variable counts as unset.\n"
    "\n";

static const char python[] =
    "Python's options:\n"
    "  -b, -bb             warn about comparing bytes with str; -bb: raise\n"
    "  -B                  do not write .pyc files\n"
    "  -c cmd              run the command; ends the options\n"
    "  -E                  ignore PYTHON* variables (PYTHON_MPI_* still "
    "count)\n"
    "  -i                  inspect interactively after the program\n"
    "  -m mod              run the module as a script; ends the options\n"
    "  -O, -OO             drop assert statements; -OO: docstrings too\n"
    "  -P                  do not put the program's directory on sys.path\n"
    "  -q                  no version and copyright messages\n"
    "  -s                  no user site directory\n"
    "  -S                  no 'import site'\n"
    "  -u                  unbuffered stdout and stderr\n"
    "  -W arg              warning control\n"
    "  -x                  skip the first line of the program\n"
    "  -X opt              implementation-specific option\n"
    "  --check-hash-based-pycs default|always|never\n"
    "                      when to validate hash-based .pyc files\n"
    "\n"
    "Python's -I, -v and -d are not available: these letters are the "
    "launcher's.\n"
    "For python's -I (isolated) use -E -s -P.  All about python's own options "
    "and\n"
    "variables: python3 --help-all\n"
    "\n";

static const char program[] =
    "Program:\n"
    "  file                a script, or a directory or zip with a "
    "__main__.py\n"
    "  -                   read the program from stdin\n"
    "  --                  ends the options\n"
    "  arg ...             sys.argv[1:]\n"
    "\n";

char *mi_options_help(const char *name)
{
    char *text;
    int size = asprintf(
        &text,
        "usage: %s [option] ... [-c cmd | -m mod | file | -] [arg] ...\n"
        "\n"
        "Run a Python program on every rank of an MPI job.  Rank 0 alone "
        "reads the\n"
        "shared filesystem; the other ranks import what it broadcasts.  Start "
        "it with\n"
        "the launcher of your MPI, as in the examples below.\n"
        "\n"
        "%s%s%s%s%s"
        "Examples:\n"
        "  mpiexec -n 64 %s app.py input.dat\n"
        "  mpiexec -n 4 %s --timing=start.json -m package.module\n"
        "  mpiexec -n 128 %s -I openmpi -T /dev/shm -Ouc \"import numpy\"\n",
        name, sharing, environment, reports, python, program, name, name,
        name);

    return size < 0 ? NULL : text;
}
