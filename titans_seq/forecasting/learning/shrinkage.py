"""How much the backbone has to say in the point forecast, as held-out windows tell."""

from __future__ import annotations

import torch
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowBatches
from titans_seq.forecasting.network.network import ForecastNetwork


@torch.no_grad()
def shrink_backbone(network: ForecastNetwork, held_out: WindowBatches) -> None:
    """Let the backbone have a share in the point forecast that held-out windows bear out.

    Where there is little to learn beyond the linear part, what was learnt beyond it counts for
    less: the share is the least-squares factor of the backbone's part, less one standard error,
    between 0 and 1. Windows that lie within a horizon of each other tell the same, so that the
    error is one over stretches of a series as long as the horizon: months of one season leave
    doubt about the next.

    Parameters
    ----------
    network
        Whose share is set.
    held_out
        Windows in their order that were not trained on.
    """
    network.share.fill_(1.0)
    device = network.share.device
    agreement, size = [], []
    for batch in held_out:
        windows = batch.windows.to(device)
        baseline = network.baseline(windows)
        without = baseline.expected()
        part = network.complete(windows, baseline).point - without
        part = part * batch.target_seen.to(device)
        agreement.append((part * (batch.target.to(device) - without)).double().sum(1).cpu())
        size.append(part.double().square().sum(1).cpu())
    drawn = held_out.drawn()
    stretch = drawn.cutoffs // network.config.horizon
    named = torch.stack([drawn.series, stretch], dim=1).unique(dim=0, return_inverse=True)[1]
    count = int(named.max()) + 1 if len(named) else 0
    network.share.fill_(_share(*(
        torch.zeros(count, dtype=torch.double).index_add_(0, named, torch.cat(parts))
        for parts in (agreement, size)
    )))  # fmt: skip


def _share(agreement: Tensor, size: Tensor) -> float:
    """Return the share from sums over each stretch: of part times error, and of part squared."""
    if not size.sum() > 0:
        return 1.0
    share = agreement.sum() / size.sum()
    stretches = len(size)
    if stretches > 1:
        left = agreement - share * size
        share = share - (left.square().sum() * stretches / (stretches - 1)).sqrt() / size.sum()
    return float(share.clamp(0.0, 1.0))
