"""Split-conformal calibration: intervals with the coverage that they claim.

A network's quantiles are right on average over the rows that it was trained on. On other rows,
the calibration rows, each actual value has a normal score under the distribution that was
forecast; with perfect forecasts these scores would be standard normal. Their empirical quantiles,
for each step of the horizon, give the score to read a level at instead. For one interval that is
split-conformal prediction with the score as the measure of nonconformity (distributional conformal
prediction, Chernozhukov and others, PNAS 2021, arXiv 1909.07889; like conformalised quantile
regression, arXiv 1905.03222, but wider where the network is less sure).

Windows that overlap are not independent: exchangeable are whole horizons one after another, or
whole series, whichever are more, and their number decides how far from the middle a level is read
(as blocks do in Chernozhukov and others, COLT 2018, arXiv 1802.06300). Coverage is guaranteed if
the rows to forecast are exchangeable with the calibration rows; series drift, so
:meth:`TitansForecaster.backtest` measures it.

The rank correlations of these scores between the steps give a Gaussian copula, from which whole
paths are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from titans_seq.exceptions import BundleError
from titans_seq.forecasting.learning.fitting import VALIDATION_WINDOWS
from titans_seq.forecasting.learning.forecasts import forecast_index
from titans_seq.forecasting.learning.windows import WindowIndex
from titans_seq.forecasting.network.network import ForecastNetwork
from titans_seq.forecasting.predicting.distribution import Distribution, normal_scores
from titans_seq.forecasting.tables.arrays import FloatArray
from titans_seq.forecasting.tables.panel import Panel

SCORE_LEVELS = np.arange(1, 100) / 100
"""Levels at which quantiles of the scores are kept."""

_FEWEST = 20
"""Values that a step needs to be calibrated by itself; with fewer it shares those of all steps."""

FEWEST_BLOCKS = 10
"""Independent blocks that are assumed at least: with fewer, every interval would have to be as
wide as the worst error."""

CALIBRATION_PREFIX = "calibration."
"""Prefix of its tensors in a model folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Correction of a network's distributions, learnt on the calibration rows."""

    scores: FloatArray
    """Quantiles of the normal scores at :data:`SCORE_LEVELS`, (horizon, 99)."""

    correlation: FloatArray
    """Between the steps' normal scores, (horizon, horizon)."""

    blocks: int
    """How many blocks of the calibration rows are assumed to be independent."""

    @classmethod
    def learn(
        cls,
        point: FloatArray,
        quantiles: FloatArray,
        actual: FloatArray,
        *,
        levels: Sequence[float],
        blocks: int,
    ) -> Calibration | None:
        """Learn from forecasts of rows that were not trained on; return None if they are too few.

        Parameters
        ----------
        point, quantiles
            (windows, horizon) and (windows, horizon, levels), on the scale of their series.
        actual
            Target, (windows, horizon); NaN where it is missing.
        levels
            Levels of the quantiles.
        blocks
            How many blocks of the rows are independent.
        """
        scores = Distribution.of(point, quantiles, levels).scores(actual)
        known = scores[np.isfinite(scores)]
        if len(known) < _FEWEST:
            return None
        shared = _quantiles(known, blocks)
        steps = [column[np.isfinite(column)] for column in scores.T]
        knots = [_quantiles(step, blocks) if len(step) >= _FEWEST else shared for step in steps]
        return cls(np.stack(knots), _correlation(scores), blocks)

    def read(self, scores: FloatArray) -> FloatArray:
        """Return the network's scores at which nominal ones are read, (..., horizon, n).

        Beyond the outermost levels they continue at slope 1, which is the network's own tail.
        """
        knots = normal_scores(SCORE_LEVELS)
        scores = np.broadcast_to(scores, (*scores.shape[:-2], len(self.scores), scores.shape[-1]))
        inside = np.clip(scores, knots[0], knots[-1])
        segment = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
        step = np.arange(len(self.scores))[:, None]
        low, high = self.scores[step, segment], self.scores[step, segment + 1]
        fraction = (inside - knots[segment]) / np.diff(knots)[segment]
        corrected: FloatArray = low + fraction * (high - low) + (scores - inside)
        return corrected

    def draw(self, windows: int, paths: int, generator: np.random.RandomState) -> FloatArray:
        """Draw nominal scores, (windows, horizon, paths), correlated along each path."""
        # The small diagonal keeps a singular correlation factorable.
        root = np.linalg.cholesky(self.correlation + 1e-6 * np.eye(len(self.correlation)))
        noise = generator.standard_normal((windows, len(root), paths))
        drawn: FloatArray = root @ noise
        return drawn

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors, for a model folder."""
        return {
            f"{CALIBRATION_PREFIX}scores": torch.from_numpy(self.scores.astype(np.float32)),
            f"{CALIBRATION_PREFIX}correlation": torch.from_numpy(
                self.correlation.astype(np.float32)
            ),
            f"{CALIBRATION_PREFIX}blocks": torch.tensor(self.blocks),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], horizon: int) -> Calibration | None:
        """Read what :meth:`to_tensors` returned; None if there is no calibration.

        Raises
        ------
        BundleError
            If a tensor is missing, or of another shape.
        """
        own = {
            name.removeprefix(CALIBRATION_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(CALIBRATION_PREFIX)
        }
        if not own:
            return None
        shapes = {
            "scores": (horizon, len(SCORE_LEVELS)),
            "correlation": (horizon, horizon),
            "blocks": (),
        }
        for name, shape in shapes.items():
            if name not in own or own[name].shape != shape:
                raise BundleError(f"the calibration's {name} must have the shape {shape}")
        numbers = {name: tensor.double().numpy() for name, tensor in own.items()}
        return cls(numbers["scores"], numbers["correlation"], int(numbers["blocks"]))


def calibrate_network(
    network: ForecastNetwork, panel: Panel, held_out: WindowIndex
) -> Calibration | None:
    """Calibrate the quantiles of a network on held-out windows; None if they are too few."""
    count = len(held_out.cutoffs)
    chosen = torch.linspace(0, count - 1, min(count, VALIDATION_WINDOWS)).long()
    raw = forecast_index(network, panel, held_out.take(chosen))
    windows = torch.bincount(held_out.series) if count else torch.zeros(1, dtype=torch.long)
    horizons = -(-int(windows.max()) // network.config.horizon)
    series = int((windows > 0).sum())
    return Calibration.learn(*raw, levels=network.config.quantiles, blocks=max(horizons, series))


def values_at(
    distribution: Distribution, calibration: Calibration | None, levels: Sequence[float]
) -> FloatArray:
    """Return quantiles, (windows, horizon, levels), corrected by the calibration if any."""
    horizon = distribution.values.shape[1]
    nominal = np.broadcast_to(normal_scores(levels), (horizon, len(levels)))
    return distribution.at(nominal if calibration is None else calibration.read(nominal))


def _quantiles(scores: FloatArray, blocks: int) -> FloatArray:
    """Return the quantiles of scores at :data:`SCORE_LEVELS`, further out for few blocks.

    An upper bound at level p is the score of rank p (n + 1) among n independent ones, so that the
    next one lies below it with probability p; a lower bound is its mirror image, and the median
    stays as it is.
    """
    count = max(blocks, FEWEST_BLOCKS)
    outwards = np.sign(SCORE_LEVELS - 0.5)
    further = SCORE_LEVELS + outwards * np.maximum(SCORE_LEVELS, 1 - SCORE_LEVELS) / count
    quantiles: FloatArray = np.quantile(scores, np.clip(further, 0.0, 1.0))
    return quantiles


def _correlation(scores: FloatArray) -> FloatArray:
    """Return the correlation of the scores' ranks between steps, shrunk towards zero (OAS).

    A missing value counts as the middle rank; from one window there is no correlation.
    """
    if len(scores) < 2:
        return np.eye(scores.shape[1])
    # Imported here because sklearn.covariance is slow to load and predicting does not need it.
    from sklearn.covariance import oas

    ranks = rankdata(scores, axis=0, nan_policy="omit")
    counts = np.isfinite(scores).sum(axis=0)
    normal: FloatArray = np.nan_to_num(normal_scores(ranks / (counts + 1)))
    covariance, _ = oas(normal, assume_centered=True)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    correlation: FloatArray = covariance / np.outer(deviation, deviation)
    return correlation
