"""Compiled without a graph break: values and gradients are those of eager, whatever the length."""

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


def _backbone(variant: str) -> TitansBackbone:
    torch.manual_seed(0)
    config = TitansConfig(
        dim=8, heads=2, layers=1, variant=variant, segment_len=4, window=3, chunk_size=4,
        persistent_tokens=2, memory_depth=2,
    )  # type: ignore[arg-type]  # fmt: skip
    return TitansBackbone(config).double()


def _memory(rule: str = "titans") -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(8, heads=2, depth=1, chunk_size=4, rule=rule).double()


def _tokens(time: int) -> Tensor:
    return torch.randn(2, time, 8, generator=torch.Generator().manual_seed(time)).double()


def _outputs_and_gradients(model: Any, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    y, state = model(x)
    (y.square().sum() + sum(one.square().sum() for one in state.tensors())).backward()
    return [y, *state.tensors(), *(one.grad.clone() for one in model.parameters())]


def _assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-9, atol=1e-11)


def _assert_trains_alike(model: Any, lengths: list[int], **how: Any) -> None:
    compiled = torch.compile(model, fullgraph=True, **how)
    for time in lengths:
        x = _tokens(time)
        _assert_same(_outputs_and_gradients(compiled, x), _outputs_and_gradients(model, x))


def _assert_streams_alike(model: Any, lengths: list[int], **how: Any) -> None:
    compiled = torch.compile(model, fullgraph=True, **how)
    mine: Any = None
    yours: Any = None
    with torch.no_grad():
        for time in lengths:
            y, mine = compiled(_tokens(time), mine)
            z, yours = model(_tokens(time), yours)
            torch.testing.assert_close(y, z, rtol=1e-9, atol=1e-11)
    _assert_same(list(mine.tensors()), list(yours.tensors()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_compiles_whole_and_agrees(variant: str) -> None:
    _assert_trains_alike(_backbone(variant), [7], backend="aot_eager")


@pytest.mark.parametrize("rule", ["titans", "titans-exact"])
def test_a_memory_trains_at_several_lengths(rule: str) -> None:
    _assert_trains_alike(_memory(rule), [7, 13, 9], backend="aot_eager")


def test_a_rule_without_compiled_code_trains_too() -> None:
    _assert_trains_alike(_memory("ttt"), [7], backend="aot_eager")


@pytest.mark.parametrize("variant", ["attention", "lmm"])
def test_a_stream_compiles_whole_and_agrees(variant: str) -> None:
    _assert_streams_alike(_backbone(variant), [3, 5, 4, 6], backend="aot_eager")


@pytest.mark.slow
def test_a_stream_of_segments_compiles_whole_at_any_place() -> None:
    _assert_streams_alike(_backbone("mac"), [3, 5, 4], backend="aot_eager")


def test_a_memorys_stream_compiles_whole_and_agrees() -> None:
    _assert_streams_alike(_memory(), [3, 5, 4, 6], backend="aot_eager")


def test_one_graph_reads_every_length_and_every_place_of_a_stream() -> None:
    memory = _memory()
    graphs: list[Any] = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(inputs)
        return graph

    compiled = torch.compile(memory, fullgraph=True, backend=count, dynamic=True)
    state: Any = None
    after: list[int] = []
    with torch.no_grad():
        for time in (5, 4, 6, 7, 5, 9):
            _, state = compiled(_tokens(time), state)
            after.append(len(graphs))
    # the first call has no state, the second finds a place, from the third on it is any place
    assert after[2:] == [after[2]] * 4
    assert after[2] <= 3


def test_the_default_compiler_agrees() -> None:
    _assert_trains_alike(_memory(), [7])
