#!/usr/bin/env bash
# The core tests with every CPython of this machine; "make test-pythons".
#
#   tools/test-pythons.sh         test with each
#   tools/test-pythons.sh --list  only say which there are
#
# Each interpreter has a copy of the checkout in build/pythons/VERSION-HASH,
# where HASH is of the interpreter's path, with .venv, .mpi and build of its
# own.  They stay, so that a second run is quick.  All are tested with the
# state that the checkout had at the start.  What make prints is in
# build/pythons/VERSION-HASH.log.
#
# PYTHONS          names or paths of the interpreters; default: all that are
#                  found and can be used
# TESTS            what pytest runs
# PYTHONS_TIMEOUT  seconds for one interpreter, set-up included, default 3600
#
# Other variables of the Makefile (PYTESTFLAGS, MPIEXEC, CC, ...) are passed
# on.  Status 0 if all passed, 1 if not, 2 if nothing could be tested.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minimum=3.11
where=build/pythons
snapshot=$where/.snapshot
tests=${TESTS:-tests/unit tests/launch tests/mpi}
limit=${PYTHONS_TIMEOUT:-3600}

# What make or an active environment has set is about this checkout, not
# about the copies.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES PYTHON VIRTUAL_ENV
unset PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE CONDA_PREFIX
unset "${!GIT_@}"

say() {
    echo "test-pythons: $*"
}

fail() {
    echo "test-pythons: $*" >&2
    exit 2
}

# ---- interpreters ---------------------------------------------------------

# Print "VERSION<tab>PATH<tab>PROBLEM" of the interpreter $1: the one behind
# it, if it is a pyenv shim or of a virtual environment.  Fails if it does not
# run, or is too old.
probe() {
    timeout 30 "$1" -I -c "
import os, sys, sysconfig
if sys.version_info < tuple(map(int, '$minimum'.split('.'))):
    sys.exit(1)
try:
    import ensurepip, venv
    problem = ''
except ImportError as error:
    problem = 'no module ' + error.name
header = os.path.join(sysconfig.get_path('include'), 'Python.h')
if not os.path.exists(header):
    problem = 'no ' + header
if sysconfig.get_config_var('Py_GIL_DISABLED'):
    problem = 'a free-threaded build'
if sys.implementation.name != 'cpython':
    problem = 'not CPython but ' + sys.implementation.name
path = os.path.realpath(getattr(sys, '_base_executable', sys.executable))
version = sys.version.split()[0].rstrip('+')
print(version, path, problem, sep='\t')" 2> /dev/null < /dev/null
}

# Print, one a line, the directories in which there may be interpreters.
directories() {
    local data=${XDG_DATA_HOME:-${HOME:-/}/.local/share} conda
    tr : '\n' <<< "$PATH"
    printf '%s\n' /usr/bin /usr/local/bin /opt/*/bin \
        "${HOME:-}"/.pyenv/versions/*/bin "${HOME:-}"/.local/bin \
        "${UV_PYTHON_INSTALL_DIR:-$data/uv/python}"/*/bin
    if [[ ${PYENV_ROOT:-} ]]; then
        printf '%s\n' "$PYENV_ROOT"/versions/*/bin
    fi
    for conda in "${MAMBA_ROOT_PREFIX:-}" /opt/conda \
        {/opt,"${HOME:-}"}/{mini,ana}conda3 \
        "${HOME:-}"/{.conda,miniforge3,mambaforge,micromamba}; do
        [[ $conda && -d $conda ]] || continue
        printf '%s\n' "$conda/bin" "$conda"/envs/*/bin
    done
}

candidates() {
    local directory path
    directories | while read -r directory; do
        [[ $directory == /* ]] || continue
        for path in "$directory"/python3 "$directory"/python3.[1-9][0-9]{,t}
        do
            [[ -f $path && -x $path ]] && echo "$path"
        done
    done | awk '!seen[$0]++'
}

# Fill 'versions' and 'paths' with what is to be tested.
versions=()
paths=()
find_interpreters() {
    local candidate found version path problem seen=$'\n'
    while read -r candidate; do
        found=$(probe "$candidate") || continue
        IFS=$'\t' read -r version path problem <<< "$found"
        [[ $seen != *$'\n'"$path"$'\n'* ]] || continue
        seen+=$path$'\n'
        if [[ $problem ]]; then
            say "skipped: $path ($version): $problem"
            continue
        fi
        versions+=("$version")
        paths+=("$path")
    done < <(candidates)
}

# The same from PYTHONS.  What is asked for is tested, or an error.
take_interpreters() {
    local name found version path
    for name in $PYTHONS; do
        found=$(probe "$name") ||
            fail "PYTHONS: $name is no Python $minimum or newer"
        IFS=$'\t' read -r version path _ <<< "$found"
        versions+=("$version")
        paths+=("$path")
    done
}

# ---- copies ---------------------------------------------------------------

# Print the names of the source files.  Without git: all but what is built.
sources() {
    if [[ $(git rev-parse --show-cdup 2> /dev/null || echo no) == "" ]]; then
        git -c core.quotePath=off ls-files --cached --others \
            --exclude-standard
        return
    fi
    find . -type d \( -name __pycache__ -o -path ./build -o -path ./.git \
        -o -path ./.venv -o -path ./.mpi -o -name .\*_cache \) -prune -o \
        \( -type f -o -type l \) ! -path './bin/*' -print
    find bin -type f -name '*.py'
}

# Some may be in git's index only.
present() {
    local name
    while read -r name; do
        if [[ -f $name || -L $name ]]; then
            echo "${name#./}"
        fi
    done
}

take_snapshot() {
    rm -rf $snapshot $snapshot.files
    mkdir -p $snapshot
    sources | present | LC_ALL=C sort -u > $snapshot.files
    [[ -s $snapshot.files ]] || fail "no source files found"
    tar -cf - -T $snapshot.files | tar -xf - -C $snapshot
}

same() {
    [[ -f $2 && ! -L $2 && ! -L $1 ]] && cmp -s "$1" "$2" &&
        [[ -x $1 && -x $2 || ! -x $1 && ! -x $2 ]]
}

# Bring the copy $1 up to date.  Changed files get the time of now: their own
# may be before that of an object that was made without the change.
update() {
    local copy=$1 name
    mkdir -p "$copy"
    touch "$copy/.files"
    LC_ALL=C comm -13 $snapshot.files "$copy/.files" |
        while read -r name; do
            rm -f "$copy/$name"
        done
    # Before the files themselves, so that an interrupted run knows its own.
    cp $snapshot.files "$copy/.files"
    while read -r name; do
        same "$snapshot/$name" "$copy/$name" && continue
        rm -f "$copy/$name"
        mkdir -p "$(dirname "$copy/$name")"
        cp -P "$snapshot/$name" "$copy/$name"
    done < $snapshot.files
}

# ---- tests ----------------------------------------------------------------

running=
stop() {
    trap '' INT TERM HUP
    if [[ $running ]]; then
        say "stopped: ending process group $running"
        # To timeout, which passes it on, and gives a grace period.
        kill -TERM "$running" 2> /dev/null || :
        wait "$running" 2> /dev/null || :
    fi
    exit $((128 + $1))
}
trap 'stop 2' INT
trap 'stop 15' TERM
trap 'stop 1' HUP

# Run make in the copy $1 with the interpreter $2; set 'status'.
# With job control, because a background job would ignore SIGINT otherwise,
# and so would the jobs of the tests.
run_make() {
    status=0
    set -m
    timeout -k 30 "$limit" make -C "$1" PYTHON="$2" TESTS="$tests" test \
        > "$1.log" 2>&1 < /dev/null 9>&- &
    running=$!
    set +m
    wait "$running" || status=$?
    running=
}

# Print pytest's own last line in $1 without ornament and time, if it is there.
counts() {
    sed -n 's/\x1b\[[0-9;]*m//g
s/^=* *\(.*[0-9][a-z ,0-9]*\) in [0-9.]*s.*$/\1/p' "$1" | tail -n 1
}

# Print what failed according to the log $1.
show_failures() {
    if grep -qE '^(FAILED|ERROR) ' "$1"; then
        grep -E '^(FAILED|ERROR) ' "$1" | cut -c 1-160 | head -n 20
    else
        tail -n 15 "$1"
    fi | sed 's/^/    /'
}

summary=()
failed=0
test_with() {
    local version=$1 path=$2 hash copy start result
    hash=$(sha256sum <<< "$path" | cut -c 1-8)
    copy=$where/$version-$hash
    start=$SECONDS
    say "$version, $path: log in $copy.log"
    update "$copy"
    run_make "$copy" "$path"
    result=$(counts "$copy.log")
    case $status in
    0) result="ok: ${result:-no tests}" ;;
    124 | 137) result="FAILED: not done after $limit s" ;;
    *) result="FAILED: ${result:-make, status $status}" ;;
    esac
    result+=", $((SECONDS - start)) s"
    say "$version $result"
    if [[ $status != 0 ]]; then
        failed=1
        show_failures "$copy.log"
    fi
    summary+=("$(printf '%-9s %s (%s)' "$version" "$result" "$path")")
}

if [[ ${PYTHONS:-} ]]; then
    take_interpreters
else
    find_interpreters
fi
((${#paths[@]} > 0)) ||
    fail "no CPython $minimum or newer with headers and venv"
if [[ ${1:-} == --list ]]; then
    for i in "${!paths[@]}"; do
        printf '%-9s %s\n' "${versions[i]}" "${paths[i]}"
    done
    exit 0
fi

mkdir -p $where
exec 9> $where/.lock
if command -v flock > /dev/null && ! flock -n 9; then
    fail "already running in this checkout"
fi
take_snapshot
for i in "${!paths[@]}"; do
    test_with "${versions[i]}" "${paths[i]}"
done
echo
printf '%s\n' "${summary[@]}"
exit $failed
