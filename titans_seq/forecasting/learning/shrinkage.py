"""Shrinkage of the backbone's contribution by the held-out least-squares factor."""

from __future__ import annotations

import torch
from torch import Tensor

from titans_seq.forecasting.learning.windows import WindowBatches
from titans_seq.forecasting.network.network import ForecastNetwork


@torch.no_grad()
def shrink_backbone(network: ForecastNetwork, held_out: WindowBatches) -> None:
    """Scale the backbone's contribution to the point forecast by how well it holds out of sample.

    The factor is that of least squares on the held-out windows less one standard error, between 0
    and 1, so that little is kept where there is little to learn beyond the linear part. Windows
    within a horizon of each other are not independent; the standard error is one over stretches
    of a series as long as the horizon, and months of one season leave doubt about the next.

    Parameters
    ----------
    network
        Its buffer ``share`` is set to the factor.
    held_out
        Windows that were not trained on, in their order.
    """
    network.share.fill_(1.0)
    device = network.share.device
    products, squares = [], []
    for batch in held_out:
        windows = batch.windows.to(device)
        baseline = network.baseline(windows)
        without = baseline.expected()
        contribution = network.complete(windows, baseline).point - without
        contribution = contribution * batch.target_seen.to(device)
        residual = batch.target.to(device) - without
        products.append((contribution * residual).double().sum(1).cpu())
        squares.append(contribution.double().square().sum(1).cpu())
    drawn = held_out.drawn()
    keys = torch.stack([drawn.series, drawn.cutoffs // network.config.horizon], dim=1)
    stretch = keys.unique(dim=0, return_inverse=True)[1]
    count = int(stretch.max()) + 1 if len(stretch) else 0
    by_stretch = (
        torch.zeros(count, dtype=torch.double).index_add_(0, stretch, torch.cat(sums))
        for sums in (products, squares)
    )
    network.share.fill_(_factor(*by_stretch))


def _factor(products: Tensor, squares: Tensor) -> float:
    """Return the factor from each stretch's sums of contribution * residual and contribution^2."""
    if not squares.sum() > 0:
        return 1.0
    factor = products.sum() / squares.sum()
    count = len(squares)
    if count > 1:
        # Standard error of a ratio of sums over independent stretches (linearised)
        deviation = products - factor * squares
        variance = deviation.square().sum() * count / (count - 1)
        factor = factor - variance.sqrt() / squares.sum()
    return float(factor.clamp(0.0, 1.0))
