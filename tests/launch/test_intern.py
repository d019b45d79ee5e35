"""Parts of code objects that are alike are kept once, and stay right."""

import pytest

JOBS = [(1, "one"), (3, "one"), (3, "two"), (5, "two")]

# Compares what is imported with what the compiler makes.
COMPARE = """
import argparse, contextlib, difflib, typing, _pydecimal

KINDS = ("co_varnames", "co_cellvars", "co_freevars", "co_names", "co_consts")


def codes(code):
    yield code
    for one in code.co_consts:
        if isinstance(one, type(code)):
            yield from codes(one)


def of(code):
    return [code, *(getattr(code, name) for name in KINDS)]


different, count = [], 0
for module in (argparse, contextlib, difflib, typing, _pydecimal):
    spec = module.__spec__
    served = spec.loader.get_code(spec.name)
    with open(spec.origin, encoding="utf-8") as file:
        genuine = compile(file.read(), spec.origin, "exec", dont_inherit=True)
    for a, b in zip(codes(served), codes(genuine), strict=True):
        count += 1
        if of(a) != of(b):
            different.append(a.co_qualname)
report([different, count])
"""

ALIKE = """
import ctypes
import first, second


def address(function):
    # Of the kinds of its variables: the member before co_filename.
    code = function.__code__
    members = (ctypes.c_void_p * 20).from_address(id(code))
    return members[list(members).index(id(code.co_filename)) - 1]


functions = [first.f, first.g, second.f, second.more, second.cell]
report([address(one) == address(first.f) for one in functions])
"""
FIRST = """
def f(left, right):
    return left, right
def g(here, there):
    return here
"""
SECOND = """
def f(left, right):
    return right
def more(one, two, three):
    return one
def cell(left, right):
    return lambda: left
"""


@pytest.mark.parametrize("ranks, nodes", JOBS)
def test_equal_to_the_compilers(launch, program, ranks, nodes):
    result = launch(ranks, [program(COMPARE)], nodes=nodes)
    assert result.status == 0, str(result)
    assert len(result.reports) == ranks
    for different, count in result.reports.values():
        assert different == [] and count > 500, str(result)


def test_same_kinds_of_variables_once(launch, program, tmp_path):
    """In one module and across modules, on every rank."""
    main = program(ALIKE)
    (tmp_path / "first.py").write_text(FIRST)
    (tmp_path / "second.py").write_text(SECOND)
    result = launch(3, [main])
    assert result.status == 0, str(result)
    wanted = dict.fromkeys(range(3), [True, True, True, False, False])
    assert result.reports == wanted, str(result)
    stock = launch(1, [main], launcher="stock")
    assert stock.reports == {0: [True, *[False] * 4]}, str(stock)
