"""Which back end runs which rule: the tables of the package and of the docs, by dispatching."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

import titans_seq.ops
from titans_seq.nn.rules import RULES
from titans_seq.ops.cpu import library as kernels
from titans_seq.ops.memory import choose_back_end, example_call, reasons_against_faster

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"


ROWS = [line.split() for line in (titans_seq.ops.__doc__ or "").splitlines()]
ROWS = [row for row in ROWS if len(row) == 5 and row[0] in RULES]
CASES = [
    (name, depth, *back_ends)
    for name, depths, *back_ends in ROWS
    for depth in range(int(depths[0]), int(depths[-1]) + 1)
]


def test_the_table_names_every_rule_and_depth() -> None:
    stated = {(case[0], case[1]) for case in CASES}
    depths = {
        name: 1 if rule.update.gradient_point == "token" else 4 for name, rule in RULES.items()
    }
    assert stated == {(name, depth + 1) for name in RULES for depth in range(depths[name])}


def test_the_page_has_the_same_table() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    assert [row for row in rows if row[0] in RULES] == ROWS


@pytest.mark.skipif(kernels.library() is None, reason="installed without a C compiler")
@pytest.mark.parametrize(("name", "depth", "cpu", "traced", "cuda"), CASES)
def test_the_stated_back_end_runs_the_rule(
    name: str, depth: int, cpu: str, traced: str, cuda: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = example_call(RULES[name].update, depth, "cpu")
    assert choose_back_end(call).name == cpu
    assert choose_back_end(call).run(call).outputs.isfinite().all()
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        chosen = choose_back_end(call)
    assert chosen.name == traced
    assert chosen.run(call).outputs.isfinite().all()
    if importlib.util.find_spec("triton") is not None:
        monkeypatch.setattr("titans_seq.ops.gpu.memory.available", lambda: True)
        with FakeTensorMode():
            assert choose_back_end(example_call(RULES[name].update, depth, "cuda")).name == cuda


def test_reasons_name_the_feature_and_the_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = reasons_against_faster(example_call(RULES["omega"].update, 2, "cpu"))
    if kernels.library() is not None:
        assert reasons["compiled"] == "it does not compute windows of several tokens"
        assert reasons_against_faster(example_call(RULES["titans"].update, 2, "cpu")) == {}
    monkeypatch.setattr(kernels, "library", lambda: None)
    reasons = reasons_against_faster(example_call(RULES["titans"].update, 2, "cpu"))
    assert "C compiler" in reasons["compiled"]
