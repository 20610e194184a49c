"""The page on the memory layer: its examples run, and a split changes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from titans_seq.config import VARIANTS


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "memory.md").read_text(encoding="utf-8")


def test_the_examples_run_and_a_split_changes_nothing(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "memory_page"}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    exec(compile(code, "docs/memory.md", "exec", dont_inherit=True), names)
    whole, _ = names["memory"](names["x"])
    torch.testing.assert_close(torch.cat([names["first"], names["rest"]], 1), whole)
    assert names["again"].equals(names["copy"])


def test_the_table_names_every_variant(page: str) -> None:
    table = page.split("| `variant` |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(VARIANTS)
