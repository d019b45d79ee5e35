"""The timing report as text and as JSON (src/report.py)."""

import ast
import importlib.util
import json
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = ROOT / "src" / "report.py"
LINE = re.compile(r"^([A-Za-z]+): ([0-9.]+) \(([0-9]+)\)", re.MULTILINE)
NAMES = "FIND IO COMM LOAD LOADFile LOADDirect SITE BOOT ALL".split()


def load():
    spec = importlib.util.spec_from_file_location("report", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


report = load()


def answer(rank, per_node=2, **changes):
    """What rank 'rank' of a plausible job sends."""
    phases = {
        name: [0.001 * k * (rank + 1), 100 * k + rank]
        for k, name in enumerate(NAMES[:-1], 1)
    }
    phases["ALL"] = [
        sum(seconds for seconds, _ in phases.values()),
        sum(phases[n][1] for n in NAMES if n.startswith("LOAD")),
    ]
    leader = rank % per_node == 0
    return {
        "rank": rank,
        "host": f"nid{rank // per_node:03}",
        "node": rank // per_node,
        "phases": phases,
        "run": 1.5 + rank,
        "bytes_read": 5000000 if rank == 0 else 7 * rank,
        "bytes_sent": 6000000 if rank == 0 else 10,
        "operations": 400 if rank == 0 else rank,
        "avoided": 1000,
        "store_bytes": 8000000 + rank if leader else 0,
        "mirror_bytes": 2048 if leader else 0,
        **changes,
    }


def job(size, missing=(), **changes):
    return [
        None if rank in missing else answer(rank, **changes)
        for rank in range(size)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("verbose", [0, 1])
def test_text_parses_back_to_rank_0(size, verbose):
    ranks = job(size)
    found = LINE.findall(report.text(report.merge(ranks), verbose))
    assert [name for name, _, _ in found] == NAMES
    for name, seconds, count in found:
        exact = ranks[0]["phases"][name]
        assert float(seconds) == pytest.approx(exact[0], abs=0.5001e-4)
        assert int(count) == exact[1]


def test_text_line_shows_the_spread_over_the_ranks():
    ranks = [answer(rank) for rank in range(3)]
    for rank, seconds, count in (
        (0, 0.0123, 456),
        (1, 0.01, 400),
        (2, 0.015, 420),
    ):
        ranks[rank]["phases"]["FIND"] = [seconds, count]
    line = next(
        line
        for line in report.text(report.merge(ranks), 0).splitlines()
        if line.startswith("FIND")
    )
    assert (
        line.split()
        == (
            "FIND: 0.0123 (456) min 0.0100 mean 0.0124 "
            "max 0.0150 count 400..456"
        ).split()
    )


def test_text_columns_are_aligned():
    ranks = job(4)
    ranks[2]["phases"]["COMM"] = [1234.5, 10**7]
    lines = [
        line
        for line in report.text(report.merge(ranks), 0).splitlines()
        if LINE.match(line) or line.startswith("RUN:")
    ]
    assert len(lines) == len(NAMES) + 1
    for word in (" min ", " mean ", " max "):
        assert len({line.index(word) for line in lines}) == 1
    assert len({line.index(" count ") for line in lines[:-1]}) == 1


def test_text_fits_the_terminal_for_a_usual_job():
    lines = report.text(report.merge(job(4)), 0).splitlines()
    assert max(map(len, lines)) <= 79


def test_text_run_comes_after_all_and_has_no_count():
    lines = report.text(report.merge(job(2)), 0).splitlines()
    names = [line.partition(":")[0] for line in lines]
    run = lines[names.index("ALL") + 1]
    assert re.fullmatch(
        r"RUN: 1\.5000 +min 1\.5000 mean 2\.0000 max 2\.5000", run
    )


def test_text_header_explains_the_columns():
    head = report.text(report.merge(job(4, missing=[1])), 0)
    head = head.partition("FIND:")[0]
    for words in (
        "4 ranks on 2 nodes",
        "NAME: seconds (count) of rank 0",
        "over 3 ranks",
        "RUN is the program's own time",
    ):
        assert words in head


def test_text_totals_are_exact():
    shown = report.text(report.merge(job(4)), 0)
    assert re.search(
        r"^bytes read +root 5000000 \(4\.8 MiB\) +others 42$",
        shown,
        re.MULTILINE,
    )
    assert re.search(
        r"^bytes sent +root 6000000 \(5\.7 MiB\) +others 30$",
        shown,
        re.MULTILINE,
    )
    assert re.search(
        r"^operations +root 400 +others 6 +avoided 4000$", shown, re.MULTILINE
    )


def test_text_counts_beyond_floats_stay_exact():
    huge = 2**63 + 1
    ranks = [answer(0, bytes_read=huge, avoided=huge)]
    ranks[0]["phases"]["FIND"] = [1e6, huge]
    shown = report.text(report.merge(ranks), 0)
    assert f"({huge}) " in shown and f"count {huge}..{huge}" in shown
    assert f"root {huge} (" in shown and f"avoided {huge}" in shown


def test_text_lists_the_nodes():
    shown = report.text(report.merge(job(5)), 0).splitlines()
    assert (
        "node 1: store 8000002 (7.6 MiB), mirror 2048 (2.0 KiB), "
        "nid001, ranks 2-3"
    ) in shown
    assert shown[-1].endswith("nid002, rank 4")


def test_text_sums_up_many_nodes_unless_verbose():
    merged = report.merge(job(40))
    short, long = report.text(merged, 0), report.text(merged, 1)
    assert "node 7:" not in short and "node 19:" in long
    assert re.search(
        r"^store +per node +min 8000000 .*mean 8000019 .*max "
        r"8000038 ",
        short,
        re.MULTILINE,
    )


@pytest.mark.parametrize(
    "missing, words",
    [
        ([3], "no answer from rank 3:"),
        ([1, 2, 3, 5, 7, 8], "no answer from ranks 1-3, 5, 7-8:"),
    ],
)
def test_text_names_the_ranks_that_did_not_answer(missing, words):
    ranks = job(9, missing)
    shown = report.text(report.merge(ranks), 0)
    assert len([n for n, _, _ in LINE.findall(shown)]) == len(NAMES)
    assert any(line.startswith(words) for line in shown.splitlines())
    assert "no answer" not in report.text(report.merge(job(9)), 0)


def test_merge_without_rank_0_uses_the_lowest_that_answered():
    merged = report.merge(job(3, missing=[0]))
    assert merged["first"] == 1
    assert merged["operations"] == {"root": 0, "others": 3}
    shown = report.text(merged, 1)
    assert "(count) of rank 1" in shown
    assert LINE.findall(shown)[0] == ("FIND", "0.0020", "101")


@pytest.mark.parametrize("ranks", [[], [None], [None, None]])
@pytest.mark.parametrize("verbose", [0, 1])
def test_merge_without_any_answer_still_reports(ranks, verbose):
    merged = report.merge(ranks)
    assert merged["first"] is None
    assert set(merged["phases"]) == set(NAMES)
    assert "not known" in report.text(merged, verbose)
    assert json.loads(report.to_json(merged))["size"] == len(ranks)


def test_merge_counts_nothing_twice():
    merged = report.merge(job(5, missing=[3]))
    find = merged["phases"]["FIND"]
    assert find["seconds"] == pytest.approx(
        {"first": 0.001, "min": 0.001, "mean": 0.00275, "max": 0.005}
    )
    assert find["count"] == {"first": 100, "min": 100, "max": 104}
    assert merged["missing"] == [3] and merged["size"] == 5
    assert merged["avoided"] == 4000
    assert merged["bytes_read"] == {"root": 5000000, "others": 49}
    assert [n["ranks"] for n in merged["nodes"]] == [[0, 1], [2], [4]]


def test_merge_phase_that_a_rank_lacks_is_zero():
    ranks = job(2)
    del ranks[1]["phases"]["SITE"]
    site = report.merge(ranks)["phases"]["SITE"]
    assert site["seconds"]["min"] == 0 and site["count"]["min"] == 0
    assert site["count"]["first"] == 700


def test_merge_mean_lies_between_min_and_max():
    for size in range(1, 50):
        ranks = [answer(rank, run=0.1) for rank in range(size)]
        run = report.merge(ranks)["run"]
        assert run["min"] <= run["mean"] <= run["max"]


def test_merge_keeps_its_input():
    ranks = job(3, missing=[2])
    before = json.dumps(ranks)
    report.text(report.merge(ranks), 1)
    assert json.dumps(ranks) == before


def test_text_rounding_gives_no_sign():
    ranks = job(1)
    ranks[0]["phases"]["IO"] = [-1e-9, 0]
    assert "IO: 0.0000 (0)" in report.text(report.merge(ranks), 0)


def modules(number):
    return [[f"pkg.m{k}", NAMES[3 + k % 3], k / 100] for k in range(number)]


def test_text_verbose_lists_the_slowest_20_of_rank_0():
    ranks = job(2)
    ranks[0]["modules"] = modules(30)
    ranks[1]["modules"] = [["other", "LOAD", 99.0]]
    merged = report.merge(ranks)
    table = report.text(merged, 1).partition("slowest ")[2].splitlines()
    assert table[0] == "20 of 30 modules of rank 0:"
    assert table[1].split() == ["seconds", "phase", "module"]
    names = [line.split()[2] for line in table[2:]]
    assert names == [f"pkg.m{k}" for k in range(29, 9, -1)]
    assert table[2].split() == ["0.2900", "LOADDirect", "pkg.m29"]
    assert "pkg.m" not in report.text(merged, 0)
    assert merged["ranks"][1]["modules"] == [["other", "LOAD", 99.0]]


def test_text_verbose_with_few_or_no_modules():
    ranks = job(1)
    assert "slowest" not in report.text(report.merge(ranks), 1)
    ranks[0]["modules"] = modules(1)
    shown = report.text(report.merge(ranks), 1)
    assert "slowest 1 of 1 module of rank 0:" in shown


@pytest.mark.parametrize(
    "size, shown",
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1024 (1.0 KiB)"),
        (1024**2 - 1, "1048575 (1.0 MiB)"),
        (1024**3, "1073741824 (1.0 GiB)"),
        (5 * 1024**5, f"{5 * 1024**5} (5120.0 TiB)"),
    ],
)
def test_text_bytes_are_exact_and_rounded(size, shown):
    lines = report.text(report.merge([answer(0, bytes_read=size)]), 0)
    line = next(k for k in lines.splitlines() if k.startswith("bytes read"))
    assert re.sub(r" +", " ", line) == f"bytes read root {shown} others 0"


def test_json_is_the_report():
    ranks = job(4, missing=[2])
    ranks[0]["modules"] = modules(30)
    ranks[1]["host"] = 'odd "name" \udcff'
    merged = report.merge(ranks)
    text = report.to_json(merged)
    assert json.loads(text) == merged
    assert list(json.loads(text)) == list(merged)
    assert text.isascii() and text.endswith("}\n")
    assert json.loads(text)["schema"] == 1
    assert len(json.loads(text)["ranks"][0]["modules"]) == 30


def test_json_has_a_line_per_rank():
    lines = report.to_json(report.merge(job(40))).splitlines()
    assert sum(line.startswith('  {"rank": ') for line in lines) == 40


def test_manifest_one_line_only_if_there_is_one():
    counts = {"known": 9, "read_ahead": 8, "used": 7, "added": 2}
    manifest = {"file": "/c/a\nb", "dropped": 1, "written": True, **counts}
    merged = report.merge(job(2), (), 0, manifest)
    lines = report.text(merged, 0).splitlines()
    assert (
        "manifest     read ahead 8   used by rank 0 7   new 2   /c/a\\nb"
        in lines
    )
    assert json.loads(report.to_json(merged))["manifest"] == manifest
    without = report.text(report.merge(job(2)), 0)
    assert len(without.splitlines()) == len(lines) - 1


@pytest.mark.parametrize(
    "value",
    [
        "".join(map(chr, range(0x250))) + "\u20ac\U0001f600\ud800x\udcff",
        {"a": [], "b": {}, 'c"\n': None, "": [True, False, [[1], (2,)]]},
        [0, -1, 1 << 70, 0.0, -2.5, 1e-320, 1e300, 0.1, 3e-5],
    ],
)
def test_json_has_what_the_module_json_reads(value):
    merged = report.merge(job(1)) | {"manifest": value}
    expected = json.loads(json.dumps(value))
    assert json.loads(report.to_json(merged))["manifest"] == expected


def test_json_refuses_what_is_not_json():
    with pytest.raises(ValueError):
        report.to_json(report.merge([answer(0, run=float("nan"))]))


def documented(heading):
    """Names in the first column of the table below a heading or line."""
    page = (ROOT / "docs" / "timing.md").read_text()
    table = page.partition(heading)[2].partition("\n|---")[2]
    table = table.partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[1:]]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_docs_describe_every_field_and_phase():
    ranks = job(2)
    ranks[0]["modules"] = modules(1)
    merged = report.merge(ranks)
    assert documented("## JSON, schema 1") == set(merged)
    assert documented("An object of `ranks`:") == set(ranks[0])
    assert documented("## Phases") == set(NAMES)


def test_report_imports_only_what_is_built_in():
    tree = ast.parse(SOURCE.read_text())
    imports = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    modules = {node.module for node in imports}  # "from", all of them
    assert modules <= set(sys.builtin_module_names)


def refused(count):
    return [[f"/tree/{i}.so", f"reason {i}"] for i in range(count)]


def direct_lines(shown):
    return [
        line
        for line in shown.splitlines()
        if line.startswith(("loaded directly", "... and"))
    ]


def test_nothing_refused_nothing_said():
    merged = report.merge(job(2))
    assert merged["refused"] == [] and merged["refused_count"] == 0
    assert direct_lines(report.text(merged, 1)) == []


@pytest.mark.parametrize(
    ("kept", "count", "lines", "more"),
    [(1, 0, 1, 0), (20, 20, 20, 0), (21, 21, 20, 1), (1000, 1234, 20, 1214)],
)
@pytest.mark.parametrize("answers", [2, 0])
def test_refused_objects_are_named(kept, count, lines, more, answers):
    ranks = job(2, missing=range(answers, 2))
    merged = report.merge(ranks, refused(kept), count)
    shown = direct_lines(report.text(merged, 0))
    expected = [
        f"loaded directly: {path} ({why})" for path, why in refused(lines)
    ]
    assert shown == expected + ([f"... and {more} more"] if more else [])
    parsed = json.loads(report.to_json(merged))
    assert parsed["refused"] == refused(kept)
    assert parsed["refused_count"] == max(kept, count)


def test_refused_odd_path_is_one_line_that_can_be_printed():
    paths = [("/a\nb\udcff\x1b[1m.so", "why\n")]
    merged = report.merge(job(1), paths)
    (line,) = direct_lines(report.text(merged, 0))
    assert line == "loaded directly: /a\\nb\\udcff\\x1b[1m.so (why\\n)"
    assert line.encode("utf-8")
    assert json.loads(report.to_json(merged))["refused"] == [list(paths[0])]
