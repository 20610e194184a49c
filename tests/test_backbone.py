"""The backbone: one pass, any split, any padding, any input."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from titans_seq import TitansBackbone, TitansConfig
from titans_seq.config import VARIANTS, Variant
from titans_seq.exceptions import ConfigError, DataError

DIM = 8


def _backbone(variant: Variant, **settings: object) -> TitansBackbone:
    torch.manual_seed(0)
    config = TitansConfig(
        dim=DIM, heads=2, variant=variant, segment_len=6, window=5, chunk_size=4,
        persistent_tokens=3, **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    return TitansBackbone(config).double().eval()


def _tokens(batch: int, time: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(seed)).double()


def _in_pieces(backbone: TitansBackbone, x: Tensor, sizes: list[int], mask: Tensor | None = None):
    state, outputs, first = None, [], 0
    for size in sizes:
        part = slice(first, first + size)
        y, state = backbone(x[:, part], state, None if mask is None else mask[:, part])
        outputs.append(y)
        first += size
    assert first == x.shape[1]
    return torch.cat(outputs, 1), state


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", [[1] * 25, [6, 6, 6, 6, 1], [7, 17, 1]])
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_split_equals_one_pass(variant: Variant, sizes: list[int], dtype: torch.dtype) -> None:
    backbone, x = _backbone(variant).to(dtype), _tokens(2, 25).to(dtype)
    whole, state = backbone(x)
    parts, carried = _in_pieces(backbone, x, sizes)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(parts, whole, rtol=tolerance, atol=tolerance)
    for mine, theirs in zip(carried.tensors(), state.tensors(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[30], [1] * 30, [11, 1, 18]])
@pytest.mark.parametrize("variant", VARIANTS)
def test_masked_tokens_and_neighbours_change_nothing(variant: Variant, sizes: list[int]) -> None:
    backbone, x = _backbone(variant), _tokens(4, 30)
    mask = torch.rand(4, 30, generator=torch.Generator().manual_seed(3)) < 0.7
    mask[0] = True
    mask[1] = torch.arange(30) < 9
    mask[2] = torch.arange(30) >= 12
    rubbish = torch.where(mask.unsqueeze(-1), x, torch.full_like(x, -1e3))
    together, _ = _in_pieces(backbone, rubbish, sizes, mask)
    assert (together[~mask] == 0).all()
    for row in range(4):
        alone, _ = backbone(x[row : row + 1, mask[row]])
        torch.testing.assert_close(together[row, mask[row]], alone[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_of_padding_only_is_harmless(variant: Variant) -> None:
    backbone, x = _backbone(variant), _tokens(2, 7)
    mask = torch.tensor([[True] * 7, [False] * 7])
    y, state = backbone(x, mask=mask)
    assert (y[1] == 0).all()
    more, _ = backbone(x, state)
    fresh, _ = backbone(x[1:])
    torch.testing.assert_close(more[1:], fresh, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_future_changes_nothing(variant: Variant) -> None:
    backbone, x = _backbone(variant), _tokens(1, 20)
    changed = x.clone()
    changed[:, 13:] += 1
    torch.testing.assert_close(backbone(x)[0][:, :13], backbone(changed)[0][:, :13])


@pytest.mark.parametrize("variant", ["lmm", "mac", "mag", "mal"])
def test_the_memory_reaches_beyond_every_window(variant: Variant) -> None:
    backbone, x = _backbone(variant, layers=1), _tokens(1, 60)
    changed = x.clone()
    changed[:, 0] += 1
    assert (backbone(x)[0] - backbone(changed)[0])[:, -1].abs().max() > 1e-9


def test_attention_does_not_reach_beyond_its_windows() -> None:
    backbone, x = _backbone("attention"), _tokens(1, 60)
    changed = x.clone()
    changed[:, 0] += 1
    torch.testing.assert_close(backbone(x)[0][:, 9:], backbone(changed)[0][:, 9:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant: Variant) -> None:
    backbone = _backbone(variant)
    backbone(_tokens(2, 14))[0].pow(3).sum().backward()
    missing = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_is_bounded(variant: Variant) -> None:
    backbone = _backbone(variant)
    sizes = {backbone(_tokens(1, time))[1].nbytes for time in (1, 30, 100)}
    assert len(sizes) == 1


@pytest.mark.parametrize("chunk", [16, 64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_long_hostile_input_stays_finite(variant: Variant, chunk: int) -> None:
    torch.manual_seed(0)
    config = TitansConfig(
        dim=16,
        layers=1,
        heads=2,
        variant=variant,
        segment_len=chunk,
        window=chunk,
        chunk_size=chunk,
    )
    backbone = TitansBackbone(config)
    time = 2_000
    hostile = [
        torch.randn(1, 1, 16).expand(1, time, 16),
        torch.randn(1, time, 16) * 1e12,
        torch.randn(1, time, 16),
    ]
    with torch.inference_mode():
        y, state = backbone(torch.cat(hostile))
    assert y.isfinite().all()
    assert all(one.isfinite().all() for one in state.tensors())


@pytest.mark.parametrize("variant", VARIANTS)
def test_bidirectional_sees_both_ways_and_keeps_padding_out(variant: Variant) -> None:
    backbone, x = _backbone(variant, bidirectional=True), _tokens(2, 12)
    y, state = backbone(x)
    assert state is None
    torch.testing.assert_close(backbone(x.flip(1))[0].flip(1), y)
    changed = x.clone()
    changed[:, -1] += 1
    assert not torch.allclose(backbone(changed)[0][:, -3], y[:, -3])

    mask = torch.arange(12) < torch.tensor([[12], [7]])
    padded, _ = backbone(x, mask=mask)
    torch.testing.assert_close(padded[1:, :7], backbone(x[1:, :7])[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_and_pickles(variant: Variant) -> None:
    backbone, x = _backbone(variant), _tokens(1, 6)
    y, state = backbone(x)
    for twin in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        torch.testing.assert_close(twin(x)[0], y)
    again = pickle.loads(pickle.dumps(state.detach()))
    torch.testing.assert_close(backbone(x, again)[0], backbone(x, state)[0])


@pytest.mark.parametrize("quiet", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("variant", VARIANTS)
def test_reads_and_streams_the_same_without_autograd(variant: Variant, quiet: Any) -> None:
    backbone, x = _backbone(variant), _tokens(2, 14)
    expected, _ = backbone(x)
    with quiet():
        whole, _ = backbone(x)
        parts, _ = _in_pieces(backbone, x, [5, 1, 8])
    torch.testing.assert_close(whole.clone(), expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.clone(), expected.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_dict_carries_everything_learnt(variant: Variant) -> None:
    backbone, x = _backbone(variant), _tokens(1, 9)
    torch.manual_seed(5)
    other = TitansBackbone(backbone.config).double().eval()
    assert not torch.allclose(other(x)[0], backbone(x)[0])
    other.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(other(x)[0], backbone(x)[0], rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_autocast_stays_close_to_double_precision(variant: Variant) -> None:
    torch.manual_seed(0)
    backbone = TitansBackbone(TitansConfig(dim=64, layers=1, variant=variant)).eval()
    x = torch.randn(2, 150, 64)
    with torch.no_grad():
        exact, _ = copy.deepcopy(backbone).double()(x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, state = backbone(x[:, :100])
        second, _ = backbone(x[:, 100:], state)
    y = torch.cat([first, second], dim=1)
    assert (y.double() - exact).abs().max() < 1e-2 * exact.abs().max()
    y.square().sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in backbone.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_reads_in_bfloat16_throughout(variant: Variant) -> None:
    backbone, x = _backbone(variant), _tokens(1, 14)
    exact, _ = backbone(x)
    coarse, state = backbone.bfloat16()(x[:, :9].bfloat16())
    more, _ = backbone(x[:, 9:].bfloat16(), state)
    both = torch.cat([coarse, more], dim=1)
    assert both.dtype == torch.bfloat16
    assert (both.double() - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_do_not_depend_on_whether_the_state_is_kept(variant: Variant, masked: bool) -> None:
    backbone, x = _backbone(variant), _tokens(2, 15)
    mask = torch.arange(15) < torch.tensor([[15], [8]]) if masked else None
    kept, _ = backbone(x, mask=mask)
    alone, state = backbone(x, mask=mask, keep_state=False)
    assert state is None
    torch.testing.assert_close(alone, kept, rtol=1e-12, atol=1e-12)


def test_refuses_tokens_of_another_width_and_a_state_it_cannot_use() -> None:
    with pytest.raises(DataError, match=r"\(batch, time, 8\) is right"):
        _backbone("mac")(torch.zeros(1, 3, 5))
    backbone = _backbone("mac", bidirectional=True)
    _, state = _backbone("mac")(_tokens(1, 3))
    with pytest.raises(ConfigError, match="state must be None"):
        backbone(_tokens(1, 3), state)
