"""The house itself: what is shipped, what is loaded, what is promised in pyproject.toml."""

from __future__ import annotations

import importlib
import json
import re
import resource
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, requires, version
from pathlib import Path
from typing import Any

import pytest

import titans_seq

ROOT = Path(__file__).parents[1]
PROGRAM = str(Path(sys.executable).with_name("titans-seq"))
HEAVY = ("torch", "pandas", "sklearn", "lightning", "matplotlib", "Bio", "pytorch_forecasting")


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _loaded_by(statement: str) -> set[str]:
    """Return the heavy packages that ``statement`` loads in a new interpreter."""
    report = f"import json, sys; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    answer = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{report}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(answer.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import titans_seq",
        "import titans_seq, titans_seq.forecasting, titans_seq.dna, titans_seq.evaluation",
        "import titans_seq.training, titans_seq.files, titans_seq.config, titans_seq.exceptions",
        "dir(__import__('titans_seq'))",
    ],
)
def test_an_import_loads_nothing_heavy(statement: str) -> None:
    assert _loaded_by(statement) == set()


@pytest.mark.slow
def test_a_head_that_only_predicts_does_not_wait_for_lightning() -> None:
    for head in ("forecasting import TitansForecaster", "dna import TitansDNAClassifier"):
        assert not {"lightning", "matplotlib", "pytorch_forecasting"} & _loaded_by(
            f"from titans_seq.{head}"
        )


@pytest.mark.slow
def test_the_memory_does_not_bring_the_compiler() -> None:
    statement = (
        "import torch; from titans_seq import NeuralMemory; NeuralMemory(8)(torch.zeros(1, 3, 8)); "
        "import sys; assert 'torch._dynamo' not in sys.modules"
    )
    assert _loaded_by(statement) >= {"torch"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["forecast", "--help"],
        ["forecast", "fit", "--help"],
        ["dna", "--help"],
        ["dna", "predict", "--help"],
        ["demo", "--help"],
        ["doctor", "--help"],
        ["nonsense"],
    ],
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    statement = (
        "from importlib.metadata import entry_points\n"
        "(found,) = entry_points(group='console_scripts', name='titans-seq')\n"
        "try:\n"
        f"    found.load()({words!r}, prog_name='titans-seq')\n"
        "except SystemExit:\n"
        "    pass"
    )
    assert _loaded_by(statement) == set()


@pytest.mark.parametrize(
    ("command", "seconds"),
    [([sys.executable, "-c", "import titans_seq"], 0.1), ([PROGRAM, "--help"], 0.3)],
)
def test_the_first_answer_comes_at_once(command: list[str], seconds: float) -> None:
    bare = min(_cpu_seconds([sys.executable, "-c", "pass"]) for _ in range(3))
    assert min(_cpu_seconds(command) for _ in range(3)) - bare < seconds


def _cpu_seconds(words: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_every_folder_of_the_package_is_listed() -> None:
    places = {
        "titans_seq": ROOT / "titans_seq",
        "titans_seq.cli": ROOT / "cli",
        "titans_seq.datasets": ROOT / "datasets",
        "titans_seq.recipes": ROOT / "recipes",
    }
    mapped = _project()["tool"]["setuptools"]["package-dir"]
    assert {name: ROOT / folder for name, folder in mapped.items()} == {
        name: folder for name, folder in places.items() if name != "titans_seq"
    }
    found = set(places)
    for name in ("titans_seq", "titans_seq.cli"):
        for init in places[name].glob("*/**/__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(places[name]).parts]))
    assert sorted(found) == _project()["tool"]["setuptools"]["packages"]


def test_every_file_beside_the_code_is_shipped() -> None:
    shipped = _project()["tool"]["setuptools"]["package-data"]
    for name, folder in (("datasets", ROOT / "datasets"), ("recipes", ROOT / "recipes")):
        files = {path for path in folder.rglob("*") if path.is_file()}
        covered = {path for rule in shipped[f"titans_seq.{name}"] for path in folder.glob(rule)}
        assert files <= covered
    assert (ROOT / "titans_seq" / "py.typed").is_file()


def test_folders_of_data_hold_no_python() -> None:
    for folder in ("datasets", "recipes"):
        assert not list((ROOT / folder).rglob("*.py"))


def test_packages_at_the_root_hide_nobody_elses() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_the_installed_version_is_the_projects() -> None:
    assert titans_seq.__version__ == version("titans-seq") == _project()["project"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## {titans_seq.__version__}" in changes


def test_every_public_name_can_be_had() -> None:
    for name in ("", ".training", ".forecasting", ".dna", ".evaluation"):
        module = importlib.import_module(f"titans_seq{name}")
        assert set(module.__all__) <= set(dir(module))
        for public in module.__all__:
            assert getattr(module, public) is not None
        with pytest.raises(AttributeError, match="nonsense"):
            module.nonsense  # noqa: B018


def test_the_entry_point_is_a_command() -> None:
    (found,) = entry_points(group="console_scripts", name="titans-seq")
    assert found.load().name in ("main", "titans-seq")


def test_all_brings_what_either_head_needs_and_the_core_brings_neither() -> None:
    needs = requires("titans-seq") or []
    core = {re.split(r"[\W]", need.replace("-", "_"), maxsplit=1)[0] for need in needs
            if "extra ==" not in need}  # fmt: skip
    assert core == {"click", "einops", "jaxtyping", "lazy_loader", "numpy", "safetensors", "torch"}
    extras = _project()["project"]["optional-dependencies"]
    assert extras["all"] == ["titans-seq[forecasting,dna]"]
    assert any(need.startswith("pytorch-forecasting") for need in extras["forecasting"])
    assert any(need.startswith("biopython") for need in extras["dna"])
    for head in ("forecasting", "dna"):
        (lightning,) = [need for need in extras[head] if need.startswith("lightning")]
        assert "!=2.6.2" in lightning
        assert "!=2.6.3" in lightning
