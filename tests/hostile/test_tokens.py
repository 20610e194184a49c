"""Tokens that are not finite, pieces without tokens, and batches without sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from titans_seq import NeuralMemory, TitansBackbone, TitansConfig
from titans_seq.config import VARIANTS
from titans_seq.exceptions import DataError
from titans_seq.nn.packing import pack_finite
from titans_seq.nn.rules import RULES

DIM, TIME = 8, 23

MODULES = [*VARIANTS, *(f"memory {rule}" for rule in sorted(RULES))]


def _module(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("memory "):
        return NeuralMemory(DIM, heads=2, depth=1, chunk_size=4, rule=name[7:]).double().eval()
    config = TitansConfig(
        dim=DIM, variant=name, heads=2, segment_len=6, window=5, chunk_size=4, persistent_tokens=2
    )
    return TitansBackbone(config).double().eval()


def _tokens() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, TIME, DIM, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", MODULES)
def test_a_token_that_is_not_finite_changes_no_other(name: str, number: float) -> None:
    module, tokens = _module(name), _tokens()
    tokens[0, 9, 3] = number
    absent = torch.ones(2, TIME, dtype=torch.bool)
    absent[0, 9] = False
    expected, _ = module(tokens.masked_fill(~absent.unsqueeze(-1), 0.0), None, absent)
    whole, after = module(tokens)
    assert whole[0, 9].isnan().all()
    torch.testing.assert_close(whole[absent], expected[absent])
    assert all(one.isfinite().all() for one in after.tensors())
    pieces, state = [], None
    with torch.no_grad():
        for piece in tokens.split(1, dim=1):
            out, state = module(piece, state)
            pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, equal_nan=True)


@pytest.mark.parametrize("name", MODULES)
def test_what_is_masked_may_be_anything(name: str) -> None:
    module, tokens = _module(name), _tokens()
    mask = torch.ones(2, TIME, dtype=torch.bool)
    mask[0, 7:12] = mask[1, :3] = False
    expected, _ = module(tokens, None, mask)
    tokens[~mask] = torch.nan
    tokens.requires_grad_()
    out, _ = module(tokens, None, mask)
    torch.testing.assert_close(out, expected)
    (by_tokens,) = torch.autograd.grad(out.sum(), tokens)
    assert by_tokens.isfinite().all()


def test_finite_tokens_whose_sum_overflows_are_all_read() -> None:
    packed = pack_finite(torch.full((1, 2, 3), 1e308, dtype=torch.float64), None)
    assert packed.lengths is None
    assert packed.not_finite is None or not packed.not_finite.any()


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_memory_reads_empty_pieces(rule: str) -> None:
    memory, tokens = _module(f"memory {rule}"), _tokens()
    out, state, surprise = memory(tokens[:, :0], return_surprise=True)
    assert out.shape == (2, 0, DIM)
    assert surprise.shape == (2, 0)
    whole, _ = memory(tokens)
    first, state = memory(tokens[:, :6], state)
    nothing, state = memory(tokens[:, 6:6], state)
    rest, _ = memory(tokens[:, 6:], state)
    torch.testing.assert_close(torch.cat([first, nothing, rest], dim=1), whole)


@pytest.mark.parametrize("name", MODULES)
def test_a_batch_may_hold_no_sequence(name: str) -> None:
    module = _module(name)
    out, state = module(_tokens()[:0])
    assert out.shape == (0, TIME, DIM)
    assert module(_tokens()[:0], state)[0].shape == (0, TIME, DIM)


def test_a_memory_refuses_tokens_of_another_width() -> None:
    memory = _module("memory titans")
    with pytest.raises(DataError, match=r"tokens of shape \(2, 23, 7\), expected \(batch, time, 8"):
        memory(_tokens()[..., :7])
