"""What stays of a chunk's writes, against singular values worked out one by one."""

from __future__ import annotations

import pytest
import torch

from titans_seq.ops.rules.boundary import QUINTIC, Orthogonalise, newton_schulz


def _matrices(inner: int, outer: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(inner)
    return torch.randn(3, 2, inner, outer, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("inner", "outer"), [(4, 4), (3, 7), (7, 3), (1, 5)])
@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_iterations_apply_the_polynomial_to_the_singular_values(
    inner: int, outer: int, iterations: int
) -> None:
    matrices = _matrices(inner, outer)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    values = values / values.square().sum(-1, keepdim=True).sqrt()
    first, third, fifth = QUINTIC
    for _ in range(iterations):
        values = first * values + third * values**3 + fifth * values**5
    right_answer = left @ torch.diag_embed(values) @ right
    torch.testing.assert_close(newton_schulz(matrices, iterations), right_answer)


def test_five_iterations_bring_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(newton_schulz(_matrices(6, 6), 5))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_what_stays_is_the_nearest_multiple_and_never_longer() -> None:
    wrote = _matrices(5, 4)
    stays, directions = Orthogonalise().close(wrote), newton_schulz(wrote, 5)
    nearest = (wrote * directions).sum((-2, -1)) / directions.square().sum((-2, -1))
    torch.testing.assert_close(stays, directions * nearest[..., None, None], rtol=1e-5, atol=1e-6)
    assert (stays.square().sum((-2, -1)) <= wrote.square().sum((-2, -1))).all()


def test_a_chunk_that_wrote_nothing_leaves_nothing_and_finite_gradients() -> None:
    wrote = torch.zeros(1, 1, 3, 3, requires_grad=True)
    stays = Orthogonalise().close(wrote)
    assert not stays.any()
    (gradient,) = torch.autograd.grad(stays.sum(), wrote)
    assert gradient.isfinite().all()
