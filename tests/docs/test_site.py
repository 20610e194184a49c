"""The documentation site: it lists every public name, and its figures are measured.

``make docs`` checks that it builds without warnings and that the tutorials run.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import statistics
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest

PUBLIC = ["", ".forecasting", ".forecasting.stream", ".forecasting.ptf", ".dna", ".evaluation",
          ".language", ".training"]  # fmt: skip


def _listed(root: Path) -> set[str]:
    """Qualified names that the reference documents."""
    names = set()
    for page in (root / "docs" / "reference").glob("*.rst"):
        module = ""
        for line in page.read_text("utf-8").splitlines():
            if line.startswith(".. currentmodule::"):
                module = line.split("::")[1].strip()
            elif re.fullmatch(r"   [\w.]+", line):
                names.add(f"{module}.{line.strip()}")
    return names


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_in_the_reference(root: Path, package: str) -> None:
    if package == ".forecasting.ptf":
        pytest.importorskip("pytorch_forecasting")
    module = importlib.import_module(f"titans_seq{package}")
    public = {f"titans_seq{package}.{name}" for name in module.__all__} - {"titans_seq.__version__"}
    assert public <= _listed(root)


def test_the_reference_lists_only_names_that_exist(root: Path) -> None:
    for name in _listed(root):
        owner, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ImportError:
            try:
                assert hasattr(importlib.import_module(owner), last), name
            except ModuleNotFoundError:  # a name of a module below, such as stream.ForecastStream
                outer, _, inner = owner.rpartition(".")
                assert hasattr(importlib.import_module(f"{outer}.{inner}"), last), name


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every command and group."""
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    paths = [path]
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        paths += _commands(below, (*path, name))
    return paths


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_every_command_is_on_the_pages_of_the_command_line(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("sphinx_click")
    from sphinx.application import Sphinx

    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    out = tmp_path / "out"
    confoverrides = {"extensions": ["sphinx_click", "myst_parser"], "root_doc": "index",
                     "keep_warnings": True}  # fmt: skip
    Sphinx(
        root / "docs" / "cli", None, out, tmp_path / "trees", "text", confoverrides, status=None
    ).build()
    text = "\n".join(page.read_text("utf-8") for page in out.glob("*.txt"))
    for path in _commands(entry.load()):
        assert f"   {' '.join(('titans-seq', *path))} [OPTIONS]" in text, path
    assert "System Message" not in text


def _tutorials(root: Path) -> dict[str, list[str]]:
    """The list of tutorials in ``docs/conf.py``, read without running it."""
    tree = ast.parse((root / "docs" / "conf.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TUTORIALS":
            return dict(ast.literal_eval(node.value))
    raise AssertionError("conf.py has no TUTORIALS")


def test_every_tutorial_is_listed_and_has_text_and_a_figure(root: Path) -> None:
    listed = {f"{folder}/{name}" for folder, names in _tutorials(root).items() for name in names}
    examples = root / "examples"
    existing = {str(path.relative_to(examples)) for path in examples.rglob("*.py")}
    plain = {name for name in existing if name.startswith("distributed/")}
    assert listed == existing - plain
    page = (root / "docs" / "distributed.md").read_text("utf-8")
    assert all(f"`examples/{name}`" in page for name in plain)
    for name in listed:
        text = (examples / name).read_text("utf-8")
        heading = (ast.get_docstring(ast.parse(text)) or "").splitlines()
        assert heading[1] == "=" * len(heading[0]), name
        assert text.count("# %%") >= 4, name
        assert re.search(r"plt\.show\(\)|^figure = ", text, re.MULTILINE), name


def test_every_figure_has_an_alternative_text(root: Path) -> None:
    for page in (root / "docs").glob("*.md"):
        for alt in re.findall(r"!\[(.*?)\]\(", page.read_text("utf-8")):
            assert len(alt) > 15, (page.name, alt)


def test_every_page_is_in_a_table_of_contents(root: Path) -> None:
    docs = root / "docs"
    lists = "\n".join((docs / name).read_text("utf-8") for name in ("index.md", "guides.md"))
    listed = set(re.findall(r"^([\w-]+)$", lists, re.MULTILINE))
    assert {page.stem for page in docs.glob("*.md")} - {"index"} <= listed


def _result(root: Path, name: str) -> Any:
    return json.loads((root / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def _row(page: str, what: str) -> list[float]:
    """Return the figures of the row of the comparison that starts with a text."""
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {what}")]
    return [
        float(figure)
        for figure in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w.]\d)", row.split("|")[3])
    ]


@pytest.fixture(scope="module")
def comparison(root: Path) -> str:
    return (root / "docs" / "comparison.md").read_text("utf-8")


def test_the_comparisons_of_the_memory_are_the_measured_ones(root: Path, comparison: str) -> None:
    worst = {claim["claim"]: claim["worst"] for claim in _result(root, "memory-cpu")["claims"]}
    same = {claim: x for claim, x in worst.items() if claim.endswith("same gradient point")}
    short = [x for claim, x in same.items() if "chunk 16, batch 1," in claim]
    rows = {
        "training the memory": [min(same.values()), min(short)],
        "training it, depth 2": [worst[next(c for c in worst if c.startswith("train, depth 2: "))]],
        "one token with": [worst["decode: over titans-pytorch's single-token step"]],
        "the exact linear": [worst["train, exact linear memory: over fla-core's reference"]],
    }
    for what, measured in rows.items():
        for stated, true in zip(_row(comparison, what), measured, strict=True):
            assert stated <= true < 1.1 * stated, (what, stated, true)


def test_the_comparisons_of_recall_are_the_measured_ones(root: Path, comparison: str) -> None:
    runs = _result(root, "recall-cpu")["runs"]
    for what, length in (("facts recalled", "4096"), ("the same at 32,768", "32768")):
        measured = [
            statistics.median(
                run["accuracy"]["recall"][length]["right"]
                / run["accuracy"]["recall"][length]["asked"]
                for run in runs
                if run["variant"] == variant
            )
            for variant in ("lmm", "attention")
        ]
        assert _row(comparison, what) == [round(share, 2) for share in measured]


def test_the_other_comparisons_are_the_measured_ones(root: Path, comparison: str) -> None:
    tasks = _result(root, "forecasting-cpu")["tasks"]
    epoch = tasks["epoch"]
    stream = _result(root, "forecast-streams-cpu")["medians"]["real"]["vic_elec"]
    reading = _result(root, "dna-cpu")["reading"]
    wrapped, short = reading["16 wrapped records"], reading["200 bp, wrapped"]
    by_record = short["ours, by record"]["mb_per_cpu_second"]
    measured = {
        "cutting": [round(tasks["windows"]["TimeSeriesDataSet"]["over_ours"])],
        "an epoch on seven": [round(epoch[peer]["over_ours"], 1) for peer in ("N-HiTS", "TFT")],
        "an epoch on ETTh1": [
            round(_result(root, "forecast-epoch-cpu")["tasks"]["epoch"]["ours_over_theirs"], 2)
        ],
        "streaming": [round(stream[key], 3) for key in ("carried", "reset_some")],
        "reading wrapped": [round(wrapped["SimpleFastaParser"]["ours_times_as_fast"], 1)],
        "| pyfastx": [round(wrapped["pyfastx.Fastx"]["ours_times_as_fast"], 2)],
        "short records": [round(by_record / short["SimpleFastaParser"]["mb_per_cpu_second"], 2)],
    }
    for what, figures in measured.items():
        assert _row(comparison, what) == figures, what
