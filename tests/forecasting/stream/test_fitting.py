"""The gate is trained as if the network had not seen its training rows."""

from __future__ import annotations

import pytest
import torch

from titans_seq.forecasting.stream.fitting import _optimism, _with_held_out_errors
from titans_seq.forecasting.stream.mixture import Mixture, Snapshot
from titans_seq.forecasting.stream.training_set import Examples

CONTEXT, HORIZON, COUNT = 4, 2, 4_000


def _examples(*, error: float, noise: float, seed: int) -> Examples:
    """Return examples around a level of 0, with the noise and the network's error given."""
    source = torch.Generator().manual_seed(seed)
    target = noise * torch.randn(COUNT, HORIZON, generator=source)
    network = target + error * torch.randn(COUNT, HORIZON, generator=source)
    snapshot = Snapshot(
        torch.zeros(COUNT, CONTEXT),
        torch.ones(COUNT, CONTEXT, dtype=torch.bool),
        torch.zeros(COUNT, 1, CONTEXT + HORIZON),
        torch.zeros(COUNT, HORIZON),
        torch.ones(COUNT, 4, 2),
        torch.ones(COUNT, 4),
        torch.ones(COUNT),
    )
    return Examples(snapshot, network, target, torch.rand(COUNT, HORIZON, generator=source) < 0.9)


def test_optimism_is_the_error_ratio_beyond_that_of_the_bare_levels() -> None:
    mixture = Mixture(CONTEXT, HORIZON, heads=1)
    own = _examples(error=0.5, noise=1.0, seed=0)
    harder = _examples(error=2.0, noise=2.0, seed=1)  # twice as hard, the network worse by four
    assert _optimism(mixture, own, harder) == pytest.approx(4, rel=0.1)
    assert _optimism(mixture, own, _examples(error=0.4, noise=1.0, seed=2)) == 1
    few = harder.select(torch.arange(50))
    assert _optimism(mixture, own, few) == 1


def test_inflated_errors_are_as_large_as_held_out_ones() -> None:
    own = _examples(error=0.5, noise=1.0, seed=0)
    unseen = _with_held_out_errors(own, 4.0)
    before, after = (
        (examples.network - own.target)[own.seen].square().mean() for examples in (own, unseen)
    )  # fmt: skip
    assert float(after / before) == pytest.approx(4, rel=1e-4)
    assert torch.equal(unseen.network[~own.seen], own.network[~own.seen])
    assert unseen.snapshot.errors[:, 0].eq(4).all()
    assert unseen.snapshot.errors[:, 1:].eq(1).all()
