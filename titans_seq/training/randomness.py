"""Seeded random numbers, without a change of the global generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators inside the block, and restore them after it.

    Parameters
    ----------
    seed
        Any non-negative integer below 2**63.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
