"""The README: its first and last examples run, and every command that it shows exists."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text("utf-8")


def _run_block(readme: str, import_line: str) -> dict[str, Any]:
    """Run the Python block that contains a line, and return the names it defines."""
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if import_line in block]
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    return names


@pytest.mark.slow
def test_the_first_example_forecasts_the_embedded_data(
    readme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = _run_block(readme, "import data_path, read_card")
    assert set(names["flights"].columns) == {"airport", "ds_utc", "late"}
    printed = capsys.readouterr().out
    assert "y_pred-lo-80" in printed
    assert "seasonal naive" in printed


def test_the_example_of_the_memory_runs(readme: str) -> None:
    names = _run_block(readme, "from titans_seq import NeuralMemory")
    assert names["y"].shape == names["x"].shape
    assert names["surprise"].shape == (2, 1000)


def test_every_command_has_the_options_that_are_shown(readme: str) -> None:
    (entry,) = entry_points(group="console_scripts", name="titans-seq")
    lines = re.sub(r"\\\n\s+", "", readme)
    shown = re.findall(r"^titans-seq ((?:dna|forecast) [a-z]+)(.*)$", lines, re.MULTILINE)
    assert len(shown) >= 10
    for command, arguments in shown:
        help_text = CliRunner().invoke(entry.load(), [*command.split(), "--help"]).output
        for option in re.findall(r"--[a-z-]+", arguments.partition(" # ")[0]):
            assert option in help_text, (command, option)
