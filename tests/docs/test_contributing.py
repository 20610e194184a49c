"""CONTRIBUTING: every file and folder that it names exists, and its map is complete."""

from __future__ import annotations

import importlib
import re
import textwrap
import tomllib
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "CONTRIBUTING.md").read_text("utf-8")


def test_every_path_exists(root: Path, page: str) -> None:
    paths = re.findall(
        r"`((?:cli|titans_seq|tests|docs|recipes|datasets|examples)/[\w./-]*)`", page
    )
    paths += re.findall(r"\]\((docs/[\w./-]+)\)", page)
    assert len(paths) > 60
    missing = [path for path in paths if "NAME" not in path and not (root / path).exists()]
    assert not missing


def test_every_folder_of_code_is_on_the_map(root: Path, page: str) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["setuptools"]["packages"]
    listed = page.split("## A map of the code")[1].split("\n\n")[1]
    folders = {f"{name.replace('.', '/')}/" for name in packages if name.count(".") > 0}
    at_root = {f"titans_seq/{name}/": f"{name}/" for name in ("cli", "datasets", "recipes")}
    missing = [name for name in folders if f"`{at_root.get(name, name)}`" not in listed]
    assert not missing


def test_the_targets_of_make_that_are_named_exist(root: Path, page: str) -> None:
    makefile = (root / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make (\w+)", page, re.MULTILINE):
        assert f"\n{target}: " in makefile, target


def test_the_first_change_passes_its_test(
    root: Path, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch, test = (
        textwrap.dedent(block)
        for block in re.findall(r"^ {3}```python\n(.*?)^ {3}```", page, re.MULTILINE | re.DOTALL)
    )
    code = (root / "titans_seq/forecasting/tables/frames.py").read_text("utf-8")
    beside = '        elif name.endswith((".csv",'
    assert code.count(beside) == 1
    changed = tmp_path / "changed_frames.py"
    changed.write_text(code.replace(beside, textwrap.indent(branch, " " * 8) + beside), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("changed_frames")
    names = {"pd": module.pd, "read_frame": module.read_frame}
    exec(compile(test, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    names["test_a_feather_file_is_read_as_it_was_written"](tmp_path)
