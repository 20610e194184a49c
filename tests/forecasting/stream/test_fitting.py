"""What surrounds the memories is trained as if the network had not seen its training rows."""

from __future__ import annotations

import pytest
import torch

from titans_seq.forecasting.stream.fitting import _as_unseen, _flattery
from titans_seq.forecasting.stream.mixture import Mixture, Snapshot
from titans_seq.forecasting.stream.moments import Moments

CONTEXT, HORIZON, COUNT = 4, 2, 4_000


def _moments(*, missed: float, hard: float, seed: int) -> Moments:
    """Return moments of a level of 0: ``hard`` is its noise, ``missed`` the network's error."""
    source = torch.Generator().manual_seed(seed)
    target = hard * torch.randn(COUNT, HORIZON, generator=source)
    base = target + missed * torch.randn(COUNT, HORIZON, generator=source)
    look = Snapshot(
        torch.zeros(COUNT, CONTEXT),
        torch.ones(COUNT, CONTEXT, dtype=torch.bool),
        torch.zeros(COUNT, 1, CONTEXT + HORIZON),
        torch.zeros(COUNT, HORIZON),
        torch.ones(COUNT, 4, 2),
        torch.ones(COUNT, 4),
        torch.ones(COUNT),
    )
    return Moments(look, base, target, torch.rand(COUNT, HORIZON, generator=source) < 0.9)


def test_what_the_network_gains_on_its_own_rows_is_told_from_how_hard_they_are() -> None:
    mixture = Mixture(CONTEXT, HORIZON, heads=1)
    own = _moments(missed=0.5, hard=1.0, seed=0)
    harder = _moments(missed=2.0, hard=2.0, seed=1)  # twice as hard, the network worse by four
    assert _flattery(mixture, own, harder) == pytest.approx(4, rel=0.1)
    assert _flattery(mixture, own, _moments(missed=0.4, hard=1.0, seed=2)) == 1
    few = harder.take(torch.arange(50))
    assert _flattery(mixture, own, few) == 1


def test_moments_as_unseen_miss_by_as_much_as_held_out_ones() -> None:
    own = _moments(missed=0.5, hard=1.0, seed=0)
    unseen = _as_unseen(own, 4.0)
    before, after = (
        (one.base - own.target)[own.came].square().mean() for one in (own, unseen)
    )  # fmt: skip
    assert float(after / before) == pytest.approx(4, rel=1e-4)
    assert torch.equal(unseen.base[~own.came], own.base[~own.came])
    assert unseen.look.errors[:, 0].eq(4).all()
    assert unseen.look.errors[:, 1:].eq(1).all()
