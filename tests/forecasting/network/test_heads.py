from __future__ import annotations

import pytest
import torch

from titans_seq.forecasting.network.heads import QuantileHead, window_scale


@pytest.mark.parametrize("levels", [(0.5,), (0.1, 0.9), (0.05, 0.1, 0.5, 0.7, 0.95), (0.8, 0.9)])
def test_quantiles_never_cross(levels: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    head = QuantileHead(6, levels)
    torch.nn.init.normal_(head.project.weight, std=5)
    quantiles = head(torch.randn(4, 9, 6) * 10, torch.randn(4, 9))
    assert quantiles.shape == (4, 9, len(levels))
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_quantiles_begin_as_those_of_a_normal_distribution() -> None:
    levels = (0.1, 0.4, 0.5, 0.9)
    found = QuantileHead(3, levels)(torch.zeros(1, 1, 3), torch.zeros(1, 1))
    expected = torch.special.ndtri(torch.tensor(levels))
    torch.testing.assert_close(found[0, 0], expected, atol=1e-4, rtol=0)


def test_scale_counts_only_what_was_seen() -> None:
    history = torch.tensor([[1.0, 2.0, 3.0, 99.0], [5.0, 99.0, 99.0, 99.0], [9.0, 9.0, 9.0, 9.0]])
    seen = history != 99
    seen[2] = False
    mean = window_scale(history, seen, "mean")
    assert mean.centre[:, 0].tolist() == [2, 5, 0]
    torch.testing.assert_close(mean.spread[:, 0], torch.tensor([(2 / 3) ** 0.5, 1, 1]))
    assert window_scale(history, seen, "last").centre[:, 0].tolist() == [3, 5, 0]
    assert window_scale(history, seen, "none").centre[:, 0].tolist() == [0, 0, 0]
