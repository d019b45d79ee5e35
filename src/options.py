"""The command line and the PYTHON_MPI_* environment of the launchers.

Pure: no input or output, no MPI, no imports.  Every rank runs this before
anything is shared, so each import here would be multiplied by the ranks.

Source: CPython's "Command line and environment" page and `python3 --help`
of 3.11 to 3.14; the order of the checks and the messages are CPython's.
"""

PREFIX = "PYTHON_MPI_"
STRATEGIES = ("none", "names", "all")
HASH_MODES = ("default", "always", "never")

# Letters that go to the interpreter as they are.  -R and -t do nothing, but
# CPython accepts them without listing them.
_PYTHON_FLAGS = "bBEiOPqRstux"
_PYTHON_ARGUMENTS = "WX"

_PROGRAM_LETTERS = {"c": "command", "m": "module"}
_VALUE_LETTERS = {"I": "mpi", "T": "tmpdir"}
_VALUE_WORDS = {
    "--mpi": "mpi",
    "--tmpdir": "tmpdir",
    "--strategy": "strategy",
    "--share": "share",
    "--local": "local",
}
_COUNT_LETTERS = {
    "h": "help",
    "?": "help",
    "V": "version",
    "v": "verbose",
    "d": "direct",
    "S": "no_site",
}
_COUNT_WORDS = {
    "--help": "help",
    "--help-all": "help",
    "--help-env": "help",
    "--help-xoptions": "help",
    "--version": "version",
    "--verbose": "verbose",
    "--direct": "direct",
}
_VARIABLES = (
    "mpi",
    "tmpdir",
    "verbose",
    "direct",
    "timing",
    "strategy",
    "share",
    "local",
)


class UsageError(Exception):
    """A command line or a variable that cannot be used; str() says why.

    The launcher prints the text and exits with status 2.
    """


class Options:
    """What parse() found.

    python_options  list of str, for the interpreter, one argv item each
    no_site         bool, the user's own -S (not in python_options)
    program         "script", "command", "module", "stdin", "none" (nothing
                    was named), "help" or "version"
    value           str: path, command or module name; None for the others
    args            list of str, for sys.argv[1:]
    mpi             str (mpich, openmpi, intel, abi or a path) or None
    tmpdir          str, where node stores live, or None
    verbose         int, how often -v was given
    direct          bool, no broadcast at all
    timing          None (off), True (report as text) or str (JSON file)
    strategy        "none", "names" or "all"
    share, local    lists of str, absolute path prefixes, without trailing
                    slash; no prefix is in both
    version_level   1 for -V, 2 for -VV, 0 where no version is asked for
    """

    __slots__ = (
        "python_options",
        "no_site",
        "program",
        "value",
        "args",
        "mpi",
        "tmpdir",
        "verbose",
        "direct",
        "timing",
        "strategy",
        "share",
        "local",
        "version_level",
    )

    def __init__(self):
        self.python_options = []
        self.no_site = False
        self.program = "none"
        self.value = None
        self.args = []
        self.mpi = None
        self.tmpdir = None
        self.verbose = 0
        self.direct = False
        self.timing = None
        self.strategy = "all"
        self.share = []
        self.local = []
        self.version_level = 0

    def __repr__(self):
        pairs = [f"{name}={getattr(self, name)!r}" for name in self.__slots__]
        return f"Options({', '.join(pairs)})"


def parse(argv, environ):
    """Return the Options of a launcher's command line.  Local.

    argv: list of str, everything after the launcher's own name.
    environ: mapping of str to str; read, never changed.
    Raises UsageError.  The environment is looked at only if a program is to
    run: a bad variable does not keep anybody from reading the help.
    """
    line = _Line(argv)
    line.scan()
    options = Options()
    options.python_options = line.python_options
    options.no_site = line.counts["no_site"] > 0
    if line.counts["help"]:
        options.program = "help"
        return options
    if line.counts["version"]:
        options.program = "version"
        options.version_level = min(line.counts["version"], 2)
        return options
    _set_program(options, line)
    _set_values(options, line, _variables(environ))
    return options


class _Line:
    """A command line that is being read from left to right."""

    def __init__(self, words):
        self.words = list(words)
        self.python_options = []
        self.counts = dict.fromkeys(_COUNT_LETTERS.values(), 0)
        self.values = {}  # name -> list of (text, option)
        self.program = None  # set by -c and -m
        self.value = None

    def scan(self):
        """Read the options; what is left in self.words is the program."""
        while self.words and self.program is None:
            word = self.words[0]
            if not word.startswith("-") or word == "-":
                return
            del self.words[0]
            if word == "--":
                return
            if word.startswith("--"):
                self._long(word)
            else:
                self._cluster(word)

    def _next(self, option):
        if not self.words:
            raise UsageError(f"Argument expected for the {option} option")
        return self.words.pop(0)

    def _keep(self, name, text, option):
        if not text:
            raise UsageError(f"Argument expected for the {option} option")
        self.values.setdefault(name, []).append((text, option))

    def _cluster(self, word):
        """Short options that share one dash, as in -Ouc."""
        for index, letter in enumerate(word[1:], 2):
            if letter in _PYTHON_FLAGS:
                self.python_options.append("-" + letter)
            elif letter in _COUNT_LETTERS:
                self.counts[_COUNT_LETTERS[letter]] += 1
            elif letter == "-":
                raise UsageError("expected long option")
            else:
                self._with_argument(letter, word[index:])
                return

    def _with_argument(self, letter, attached):
        option = "-" + letter
        if letter in _PYTHON_ARGUMENTS:
            text = attached or self._next(option)
            self.python_options += [option, text]
        elif letter in _PROGRAM_LETTERS:
            self.value = attached or self._next(option)
            self.program = _PROGRAM_LETTERS[letter]
        elif letter in _VALUE_LETTERS:
            text = attached or self._next(option)
            self._keep(_VALUE_LETTERS[letter], text, option)
        else:
            raise UsageError(f"Unknown option: {option}")

    def _long(self, word):
        name, equals, text = word.partition("=")
        if word in _COUNT_WORDS:
            self.counts[_COUNT_WORDS[word]] += 1
        elif word == "--check-hash-based-pycs":
            mode = _one_of(HASH_MODES, self._next(word), word)
            self.python_options += [word, mode]
        elif word == "--timing":
            self._keep("timing", "1", word)
        elif name == "--timing":
            self._keep("timing", text, name)
        elif name in _VALUE_WORDS:
            value = text if equals else self._next(name)
            self._keep(_VALUE_WORDS[name], value, name)
        else:
            raise UsageError(f"unknown option {word}")


def _variables(environ):
    """Return {name: [(text, variable)]}; an empty variable counts as unset."""
    values = {}
    for name in _VARIABLES:
        variable = PREFIX + name.upper()
        if text := environ.get(variable):
            values[name] = [(text, variable)]
    return values


def _set_program(options, line):
    options.program = line.program or "none"
    options.value = line.value
    if line.program is None and line.words:
        first = line.words.pop(0)
        options.program = "stdin" if first == "-" else "script"
        options.value = None if first == "-" else first
    options.args = line.words


def _set_values(options, line, variables):
    def last(name):
        found = line.values.get(name) or variables.get(name)
        return found[-1] if found else None

    if found := last("mpi"):
        options.mpi = _mpi(*found)
    if found := last("tmpdir"):
        options.tmpdir = found[0]
    if found := last("timing"):
        options.timing = _timing(found[0])
    if found := last("strategy"):
        options.strategy = _one_of(STRATEGIES, *found)
    options.verbose = line.counts["verbose"]
    if not options.verbose and (found := last("verbose")):
        options.verbose = _number(*found)
    options.direct = line.counts["direct"] > 0
    if not options.direct and (found := last("direct")):
        options.direct = _one_of(("0", "1"), *found) == "1"
    _set_prefixes(options, line, variables)


def _set_prefixes(options, line, variables):
    """Options add to the variables, and win where the two contradict."""
    for given in (variables, line.values):
        share = _prefixes(given.get("share", []))
        local = _prefixes(given.get("local", []))
        for path in share:
            if path in local:
                raise UsageError(
                    f"{path!r} is in both {share[path]} and {local[path]}"
                )
        options.share = _join(options.share, share, local)
        options.local = _join(options.local, local, share)


def _join(old, new, opposite):
    kept = [path for path in old if path not in opposite and path not in new]
    return kept + list(new)


def _prefixes(found):
    """Return {normalised prefix: where it was given}, in order."""
    paths = {}
    for text, origin in found:
        for path in text.split(":"):
            if path:
                paths[_prefix(path, origin)] = origin
    return paths


def _prefix(path, origin):
    if not path.startswith("/"):
        raise UsageError(
            f"{origin} takes absolute paths; {path!r} is a relative one"
        )
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageError(f"{origin} takes paths without '..', not {path!r}")
    return "/" + "/".join(parts)


def _mpi(text, origin):
    """Refuse what shows that python's -I was meant."""
    if text.startswith("-") or text.endswith(".py"):
        raise UsageError(
            f"{origin} takes an MPI (mpich, openmpi, intel, abi or the path "
            f"of a library), not {text!r}; for python's -I use -E -s -P"
        )
    return text


def _timing(text):
    if text == "0":
        return None
    return True if text == "1" else text


def _number(text, origin):
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{origin} must be a number, not {text!r}")
    return int(text)


def _one_of(choices, text, origin):
    if text not in choices:
        names = [repr(choice) for choice in choices]
        if len(names) > 2:
            names[:-1] = [", ".join(names[:-1]) + ","]
        raise UsageError(
            f"{origin} must be one of {' or '.join(names)}, not {text!r}"
        )
    return text


_HELP = """\
usage: python-mpi.py [option] ... [-c cmd | -m mod | file | -] [arg] ...

Run a Python program on every rank of an MPI job.  Rank 0 alone reads the
shared filesystem; the other ranks import what it broadcasts.  Start it with
the launcher of your MPI, as in the examples below.

MPI and sharing (and the environment variable that does the same):
  -I, --mpi MPI       which MPI library to load: mpich, openmpi, intel, abi
                      (the standard ABI of MPI 5) or the path of a library;
                      found by itself if not given
                      PYTHON_MPI_MPI=MPI
  -T, --tmpdir DIR    where the nodes keep their stores; a local directory in
                      memory (tmpfs)
                      PYTHON_MPI_TMPDIR=DIR
  -d, --direct        every rank reads the filesystem itself, no broadcast
                      PYTHON_MPI_DIRECT=1
  --strategy WHAT     how much is shared: none (as plain python), names
                      (listings and stats; each rank reads files itself) or
                      all (the default)
                      PYTHON_MPI_STRATEGY=WHAT
  --share DIR[:DIR]   absolute paths; share everything below them
                      PYTHON_MPI_SHARE=DIR[:DIR]
  --local DIR[:DIR]   absolute paths; each node reads what is below them
                      itself
                      PYTHON_MPI_LOCAL=DIR[:DIR]

Reports:
  --timing[=FILE]     report at the end where the start-up time went; with
                      FILE also write it there as JSON; =0 turns it off
                      PYTHON_MPI_TIMING=1 or =FILE
  -v, --verbose       say more, also in the report; may be repeated
                      PYTHON_MPI_VERBOSE=NUMBER
  -V, --version       print the version; -VV: with more about the build
  -h, -?, --help      print this help

An option on the command line wins over the variable.  --share and --local
may be repeated and add to the variables; the longest prefix decides.  An
empty variable counts as unset.

Python's options:
  -b, -bb             warn about comparing bytes with str; -bb: raise
  -B                  do not write .pyc files
  -c cmd              run the command; ends the options
  -E                  ignore PYTHON* variables (PYTHON_MPI_* still count)
  -i                  inspect interactively after the program
  -m mod              run the module as a script; ends the options
  -O, -OO             drop assert statements; -OO: docstrings too
  -P                  do not put the program's directory on sys.path
  -q                  no version and copyright messages
  -s                  no user site directory
  -S                  no 'import site'
  -u                  unbuffered stdout and stderr
  -W arg              warning control
  -x                  skip the first line of the program
  -X opt              implementation-specific option
  --check-hash-based-pycs default|always|never
                      when to validate hash-based .pyc files

Python's -I, -v and -d are not available: these letters are the launcher's.
For python's -I (isolated) use -E -s -P.  All about python's own options and
variables: python3 --help-all

Program:
  file                a script, or a directory or zip with a __main__.py
  -                   read the program from stdin
  --                  ends the options
  arg ...             sys.argv[1:]

Examples:
  mpiexec -n 64 python-mpi.py app.py input.dat
  mpiexec -n 4 python-mpi.py --timing=start.json -m package.module
  mpiexec -n 128 python-mpi.py -I openmpi -T /dev/shm -Ouc "import numpy"
"""


def help_text():
    """Return the help, at most 79 columns wide, with a final newline."""
    return _HELP
