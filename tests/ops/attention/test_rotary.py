"""Rotary positions."""

from __future__ import annotations

import pytest
import torch

from titans_seq.ops.attention.rotary import ROTARY_BASE, prefix_keys, rotate


def _keys(time: int = 4, dim: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, time, dim, generator=generator, dtype=torch.float64)


def test_is_the_rotation_of_pairs_as_complex_numbers() -> None:
    x, places = _keys(), torch.tensor([0, 1, 5, 1_000_003])
    pairs = torch.complex(x[..., :2], x[..., 2:4])
    speeds = torch.tensor([1.0, ROTARY_BASE**-0.5], dtype=torch.float64)
    angles = places.unsqueeze(1) * speeds
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat([turned.real, turned.imag, x[..., 4:]], -1)
    torch.testing.assert_close(rotate(x, places), expected)


@pytest.mark.parametrize("shift", [1, 1000])
def test_only_the_distance_of_positions_counts(shift: int) -> None:
    q, k, places = _keys(), _keys() + 1, torch.arange(4)
    here = rotate(q, places) @ rotate(k, places).mT
    there = rotate(q, places + shift) @ rotate(k, places + shift).mT
    torch.testing.assert_close(here, there)


def test_prefix_keys_are_scored_alike_at_every_position() -> None:
    q, prefix = _keys(1), prefix_keys(_keys(3))
    near, far = (rotate(q, torch.tensor([place])) @ prefix.mT for place in (0, 12_345))
    torch.testing.assert_close(near, far)


@pytest.mark.parametrize("dim", [1, 3])
def test_heads_too_narrow_for_a_pair_stay_as_they_are(dim: int) -> None:
    x = _keys(dim=dim)
    torch.testing.assert_close(rotate(x, torch.arange(4)), x)


def test_gradients_are_right_twice() -> None:
    x, places = _keys().requires_grad_(), torch.tensor([0, 3, 4, 90])
    assert torch.autograd.gradcheck(lambda one: rotate(one, places), x)
    assert torch.autograd.gradgradcheck(lambda one: rotate(one, places), x)


def test_narrow_types_are_rotated_in_single_precision() -> None:
    x, places = _keys().bfloat16(), torch.tensor([0, 1, 77, 901])
    exact = rotate(x.double(), places)
    torch.testing.assert_close(rotate(x, places), exact.bfloat16())
