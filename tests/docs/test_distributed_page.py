"""The page about several processes: its words are there, and its examples run."""

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


def _run(*words: str | Path) -> str:
    answer = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_every_command_and_script_of_the_page_is_there(root: Path) -> None:
    page = (root / "docs" / "distributed.md").read_text("utf-8")
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    command = entry.load()
    told = re.findall(r"titans-seq ((?:dna|forecast|recipe) \w+)(.*)", page)
    assert {words for words, _ in told} >= {"dna fit", "dna predict", "forecast fit", "recipe run"}
    for words, more in told:
        help_text = CliRunner().invoke(command, [*words.split(), "--help"]).output
        for option in re.findall(r"--[a-z-]+", more.partition("#")[0]):
            assert option in help_text, (words, option)
    for name in re.findall(r"examples/distributed/(\w+\.py)", page):
        assert (EXAMPLES / name).is_file()
    for script in re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        assert shlex.split(script, comments=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
def test_the_search_with_optuna_runs(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'delays.db'}"
    told = _run(EXAMPLES / "optuna_search.py", "--trials", "2", "--epochs", "1", "--rows", "400",
                "--storage", storage)  # fmt: skip
    assert re.match(r"loss \d+\.\d+ with \{'context_length'", told)


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("ray") is None or find_spec("ray.train") is None, reason="ray is not installed"
)
def test_the_training_with_ray_runs(tmp_path: Path) -> None:
    told = _run(EXAMPLES / "ray_train.py", "--epochs", "1", "--rows", "400",
                "--out", tmp_path / "delays")  # fmt: skip
    assert "of 2 workers" in told
    assert (tmp_path / "delays" / "model.safetensors").is_file()
