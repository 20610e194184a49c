"""The page on several processes: its commands and scripts exist, and its examples run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

EXAMPLES = Path(__file__).parents[2] / "examples" / "distributed"


def _run(*arguments: str | Path) -> str:
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_every_command_and_script_of_the_page_exists(root: Path) -> None:
    page = (root / "docs" / "distributed.md").read_text("utf-8")
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    command = entry.load()
    shown = re.findall(r"titans-seq ((?:dna|forecast|recipe) \w+)(.*)", page)
    assert {name for name, _ in shown} >= {"dna fit", "dna predict", "forecast fit", "recipe run"}
    for name, arguments in shown:
        help_text = CliRunner().invoke(command, [*name.split(), "--help"]).output
        for option in re.findall(r"--[a-z-]+", arguments.partition("#")[0]):
            assert option in help_text, (name, option)
    for name in re.findall(r"examples/distributed/(\w+\.py)", page):
        assert (EXAMPLES / name).is_file()
    for script in re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        assert shlex.split(script, comments=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
def test_the_search_with_optuna_runs(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'delays.db'}"
    printed = _run(EXAMPLES / "optuna_search.py", "--trials", "2", "--epochs", "1", "--rows", "400",
                "--storage", storage)  # fmt: skip
    assert re.match(r"loss \d+\.\d+ with \{'context_length'", printed)


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("ray") is None or find_spec("ray.train") is None, reason="ray is not installed"
)
def test_the_training_with_ray_runs(tmp_path: Path) -> None:
    printed = _run(EXAMPLES / "ray_train.py", "--epochs", "1", "--rows", "400",
                "--out", tmp_path / "delays")  # fmt: skip
    assert "of 2 workers" in printed
    assert (tmp_path / "delays" / "model.safetensors").is_file()
