"""The page on learning rules: its example runs, and its tables are complete."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from titans_seq import NeuralMemory
from titans_seq.nn.rules import RULES
from titans_seq.ops.rules.rule import UpdateRule


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "rules.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example(page: str) -> dict[str, Any]:
    """Names that the page's code defines; running it compares both rules with the reference."""
    names: dict[str, Any] = {"__name__": "rules_page"}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    exec(compile(code, "docs/rules.md", "exec", dont_inherit=True), names)
    return names


@pytest.mark.parametrize("name", ["atlas", "smooth"])
def test_the_examples_rules_stream(example: dict[str, Any], name: str) -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(8, heads=2, chunk_size=4, rule=example[name]).double()
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    with torch.inference_mode():
        whole, _ = memory(x)
        first, state = memory(x[:, :6])
        rest, _ = memory(x[:, 6:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, rtol=1e-10, atol=1e-10)


def test_the_examples_test_finds_a_wrong_slope(example: dict[str, Any]) -> None:
    right = example["smooth"]

    class Wrong(example["LogCosh"]):  # type: ignore[misc]
        def slope(self, error: torch.Tensor) -> torch.Tensor:
            return error

    wrong = dataclasses.replace(right, update=UpdateRule(bias=Wrong()))
    with pytest.raises(AssertionError, match="not close"):
        example["test_agrees_with_the_loop"](wrong)


def test_the_table_names_every_rule_and_only_those(page: str) -> None:
    table = page.split("## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(RULES)


def test_the_page_names_every_field_of_an_update(page: str) -> None:
    fields = page.split("## Fields of a rule")[1].split("## A rule")[0]
    missing = [f.name for f in dataclasses.fields(UpdateRule) if f"`{f.name}`" not in fields]
    assert not missing
