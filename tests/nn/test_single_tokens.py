"""A stream read token by token, without gradients, takes shorter ways to the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from titans_seq import TitansBackbone, TitansConfig
from titans_seq.exceptions import DataError
from titans_seq.nn import context
from titans_seq.nn.state import StackState
from titans_seq.ops.attention import sliding as attention

VARIANTS = ("lmm", "mac", "mag", "mal", "attention")


def _backbone(variant: str, persistent: int = 3) -> TitansBackbone:
    torch.manual_seed(0)
    config = TitansConfig(
        dim=16, layers=2, heads=2, variant=variant, segment_len=5, window=6, chunk_size=4,
        persistent_tokens=persistent,
    )  # fmt: skip
    return TitansBackbone(config).double().eval()


def _stream(backbone: TitansBackbone, x: Tensor) -> tuple[Tensor, StackState]:
    state: StackState | None = None
    outputs: list[Tensor] = []
    for token in x.split(1, dim=1):
        out, state = backbone(token, state)
        outputs.append(out)
    assert state is not None
    return torch.cat(outputs, dim=1), state


def _assert_same_state(one: StackState, two: StackState) -> None:
    pairs = list(zip(one.leaves(), two.leaves(), strict=True))
    for (name, mine), (other_name, theirs) in pairs:
        assert name == other_name
        if isinstance(mine, Tensor):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10, msg=name)
        else:
            assert mine == theirs


@pytest.mark.parametrize("persistent", [0, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stream_of_single_tokens_gives_what_one_call_gives(variant: str, persistent: int) -> None:
    backbone = _backbone(variant, persistent)
    x = torch.randn(2, 23, 16, dtype=torch.float64)
    whole, after = backbone(x)
    with torch.no_grad():
        out, state = _stream(backbone, x)
    torch.testing.assert_close(out, whole, rtol=0, atol=1e-10)
    _assert_same_state(state, after.detach())


@pytest.mark.parametrize("variant", VARIANTS)
def test_single_tokens_have_the_gradients_of_one_call(variant: str) -> None:
    backbone = _backbone(variant)
    x = torch.randn(1, 9, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 9, 16, dtype=torch.float64)
    leaves = [x, *backbone.parameters()]
    grads = [
        torch.autograd.grad((out * weight).sum(), leaves, allow_unused=True)
        for out in (backbone(x)[0], _stream(backbone, x)[0])
    ]
    for mine, theirs in zip(*grads, strict=True):
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


def test_a_step_of_memory_as_context_is_taken_and_leaves_its_state_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = _backbone("mac")
    x = torch.randn(2, 8, 16, dtype=torch.float64)
    with torch.no_grad():
        _, state = _stream(backbone, x[:, :7])
        kept = state.clone()
        steps: list[int] = []
        read = context.read_one

        def counted(*given: Any) -> Any:
            steps.append(1)
            return read(*given)

        monkeypatch.setattr("titans_seq.nn.context.read_one", counted)
        one, _ = backbone(x[:, 7:], state)
        two, _ = backbone(x[:, 7:], state)
    assert len(steps) == 4
    assert torch.equal(one, two)
    assert state.equals(kept)


def _pair(both: Tensor) -> tuple[Tensor, Tensor]:
    return both[0], both[1]


@pytest.mark.parametrize("valid", [0, 2, 5])
def test_one_query_agrees_with_a_longer_call(valid: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 3, 8, dtype=torch.float64)
    past = _pair(torch.randn(2, 2, 2, 5, 8, dtype=torch.float64))
    prefix = _pair(torch.randn(2, 2, 4, 8, dtype=torch.float64))
    want = attention.sliding_attention(q, k, v, 6, past, valid, prefix)
    q, k, v = (one[:, :, :1] for one in (q, k, v))
    got = attention.sliding_attention(q, k, v, 6, past, valid, prefix)
    torch.testing.assert_close(got, want[:, :, :1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_that_the_backbone_left_is_checked_when_anything_has_changed(variant: str) -> None:
    backbone = _backbone(variant)
    x = torch.randn(2, 3, 16, dtype=torch.float64)
    with torch.no_grad():
        _, state = _stream(backbone, x)
        with pytest.raises(DataError, match=r"state\.layers\.0"):
            backbone(x[:1, :1], state)
        with pytest.raises(DataError, match="float64"):
            backbone.float()(x[:, :1].float(), state)
    other = TitansBackbone(TitansConfig(dim=16, layers=3, heads=2, variant=variant)).double()
    with pytest.raises(DataError, match="2 layers"):
        other(x[:, :1], state)
