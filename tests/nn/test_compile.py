"""Compiled without a graph break: the backbone's values and gradients are those of eager."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from titans_seq import NeuralMemory, TitansBackbone, TitansConfig
from titans_seq.config import VARIANTS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _problem(variant: str, rule: str = "titans") -> tuple[TitansBackbone, Tensor]:
    torch.manual_seed(0)
    config = TitansConfig(
        dim=8, heads=2, layers=1, variant=variant, segment_len=4, window=3, chunk_size=4,
        persistent_tokens=2, rule=rule, memory_depth=1 if rule != "titans" else 2,
    )  # type: ignore[arg-type]  # fmt: skip
    return TitansBackbone(config).double(), torch.randn(2, 7, 8).double()


def _outputs_and_gradients(model: Any, backbone: TitansBackbone, x: Tensor) -> list[Tensor]:
    backbone.zero_grad()
    y, state = model(x)
    (y.square().sum() + sum(one.square().sum() for one in state.tensors())).backward()
    return [y, *state.tensors(), *(one.grad.clone() for one in backbone.parameters())]


def _assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_compiles_whole_and_agrees(variant: str) -> None:
    backbone, x = _problem(variant)
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    eager = _outputs_and_gradients(backbone, backbone, x)
    _assert_same(_outputs_and_gradients(compiled, backbone, x), eager)


def test_a_stream_compiles_whole_and_agrees() -> None:
    backbone, x = _problem("attention")
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    mine = yours = None
    with torch.inference_mode():
        for piece in x.split([3, 4], dim=1):
            y, mine = compiled(piece, mine)
            z, yours = backbone(piece, yours)
            torch.testing.assert_close(y, z, rtol=1e-9, atol=1e-11)
    _assert_same(list(mine.tensors()), list(yours.tensors()))


def test_a_memorys_stream_compiles_whole_and_agrees() -> None:
    torch.manual_seed(0)
    memory = NeuralMemory(8, heads=2, depth=1, chunk_size=4).double()
    x = torch.randn(1, 8, 8, dtype=torch.float64)
    # lengths are part of the graph: a chunk's tokens are counted while it is traced
    compiled = torch.compile(memory, fullgraph=True, backend="aot_eager", dynamic=False)
    mine = yours = None
    with torch.no_grad():
        for piece in x.split([3, 5], dim=1):
            y, mine = compiled(piece, mine)
            z, yours = memory(piece, yours)
            torch.testing.assert_close(y, z, rtol=1e-9, atol=1e-11)
    assert mine is not None
    assert yours is not None
    _assert_same(list(mine.tensors()), list(yours.tensors()))
