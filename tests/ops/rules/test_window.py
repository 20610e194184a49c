"""The band of a window against sums written out one by one."""

from __future__ import annotations

import pytest
import torch

from titans_seq.ops.rules.rates import chunk_scalars
from titans_seq.ops.rules.window import times_written, windowed


@pytest.mark.parametrize("window", [1, 2, 5, 9])
def test_windowed_scalars_reproduce_the_recurrence(window: int) -> None:
    generator = torch.Generator().manual_seed(window)
    keep, momentum = torch.rand(2, 3, 7, generator=generator, dtype=torch.float64)
    write = (torch.rand(3, 7, generator=generator) < 0.7).double()
    # an empty slot ages nothing
    keep, momentum = (torch.where(write > 0, one, 1.0) for one in (keep, momentum))
    gradients = torch.randn(3, 7, generator=generator, dtype=torch.float64) * write
    scalars = windowed(chunk_scalars(keep.log(), momentum.log(), write), write, 0, window, 0)
    weights = surprise = torch.zeros(3, dtype=torch.float64)
    for t in range(7):
        together = gradients[:, max(0, t - window + 1) : t + 1].sum(-1)
        surprise = momentum[:, t] * surprise - write[:, t] * together
        weights = keep[:, t] * weights + write[:, t] * surprise
        torch.testing.assert_close(-(scalars.mix[:, t] * gradients).sum(-1), weights)
    torch.testing.assert_close(-(scalars.mix_last * gradients).sum(-1), weights)
    torch.testing.assert_close(-(scalars.decay_last * gradients).sum(-1), surprise)


def test_a_token_is_written_until_its_window_or_its_chunk_ends() -> None:
    times = times_written(2, 4, 3, 6, torch.zeros(()))
    assert times.tolist() == [3.0, 3.0, 2.0, 1.0]


def test_an_open_chunks_earlier_tokens_stand_in_later_windows() -> None:
    write = torch.ones(1, 2, dtype=torch.float64)
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    scalars = windowed(chunk_scalars(zeros, zeros.log(), write), write, 3, 3, 5)
    # writers: slots 0 to 4 of the earlier part, then the two tokens in slots 3 and 4
    once = [[0, 1, 1, 1, 0, 1, 0], [0, 1, 2, 2, 1, 2, 1]]
    assert scalars.mix[0].tolist() == once
