"""Split-conformal calibration: intervals that hold as much as they say.

A network's quantiles are right on average over what it was trained on. On rows it was not
trained on, the calibration part, each value that came has a normal score under the distribution
that was forecast; were the forecasts right, these scores would be standard normal. Their
empirical quantiles, for each step of the horizon apart, say which score to read a level at
instead. For one interval that is split-conformal prediction with the score as the measure of
nonconformity (distributional conformal prediction, Chernozhukov and others, PNAS 2021,
arXiv 1909.07889; like conformalised quantile regression, arXiv 1905.03222, but wider where the
network is less sure). Windows that overlap are not independent: what is exchangeable are whole
horizons one after another, or whole series, whichever are more, and that number decides how far
from the middle a level is read (as blocks do in Chernozhukov and others, COLT 2018,
arXiv 1802.06300). Coverage is promised if what comes is exchangeable with the calibration part;
series drift, so :meth:`TitansForecaster.backtest` measures it.

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
"""Levels at which the scores' quantiles are kept."""

_FEWEST = 20
"""Values that a step needs to be calibrated by itself; with fewer, all steps share theirs."""

FEWEST_BLOCKS = 10
"""Independent parts that are assumed at least: with fewer, every interval would have to be as wide
as the worst error."""

CALIBRATION_PREFIX = "calibration."
"""What the names of its tensors begin with in a model folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the calibration part says about the network's distributions."""

    scores: FloatArray
    """Quantiles of the normal scores at :data:`SCORE_LEVELS`, (horizon, 99)."""

    correlation: FloatArray
    """Between the steps' normal scores, (horizon, horizon)."""

    blocks: int
    """How many parts of the calibration rows are taken to be independent."""

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
        """Learn from forecasts of rows that were not trained on; None if these are too few.

        Parameters
        ----------
        point, quantiles
            (windows, horizon) and (windows, horizon, levels), on the scale of their series.
        actual
            What came, (windows, horizon); NaN where it is missing.
        levels
            Levels of the quantiles.
        blocks
            How many parts of the rows are independent.
        """
        found = Distribution.of(point, quantiles, levels).scores(actual)
        known = found[np.isfinite(found)]
        if len(known) < _FEWEST:
            return None
        shared = _quantiles(known, blocks)
        steps = [column[np.isfinite(column)] for column in found.T]
        scores = [_quantiles(own, blocks) if len(own) >= _FEWEST else shared for own in steps]
        return cls(np.stack(scores), _correlation(found), blocks)

    def read(self, scores: FloatArray) -> FloatArray:
        """Return the network's scores that stand for nominal ones, (..., horizon, n).

        Beyond the outermost levels they go on at slope 1, which is the network's own tail.
        """
        knots = normal_scores(SCORE_LEVELS)
        wanted = np.broadcast_to(scores, (*scores.shape[:-2], len(self.scores), scores.shape[-1]))
        inside = np.clip(wanted, knots[0], knots[-1])
        segment = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
        step = np.arange(len(self.scores))[:, None]
        low, high = self.scores[step, segment], self.scores[step, segment + 1]
        share = (inside - knots[segment]) / np.diff(knots)[segment]
        found: FloatArray = low + share * (high - low) + (wanted - inside)
        return found

    def draw(self, windows: int, paths: int, generator: np.random.RandomState) -> FloatArray:
        """Return nominal scores, (windows, horizon, paths), that hang together along a path."""
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
        """Return what :meth:`to_tensors` gave; None if there is nothing.

        Raises
        ------
        BundleError
            If something is missing, or of another shape.
        """
        found = {
            name.removeprefix(CALIBRATION_PREFIX): held
            for name, held in tensors.items()
            if name.startswith(CALIBRATION_PREFIX)
        }
        if not found:
            return None
        shapes = {
            "scores": (horizon, len(SCORE_LEVELS)),
            "correlation": (horizon, horizon),
            "blocks": (),
        }
        for name, shape in shapes.items():
            if name not in found or found[name].shape != shape:
                raise BundleError(f"the calibration's {name} must be there, in the shape {shape}")
        numbers = {name: held.double().numpy() for name, held in found.items()}
        return cls(numbers["scores"], numbers["correlation"], int(numbers["blocks"]))


def calibrate_network(
    network: ForecastNetwork, panel: Panel, held_out: WindowIndex
) -> Calibration | None:
    """Return what held-out windows say about the network's quantiles; None if they are too few."""
    count = len(held_out.cutoffs)
    chosen = torch.linspace(0, count - 1, min(count, VALIDATION_WINDOWS)).long()
    raw = forecast_index(network, panel, held_out.take(chosen))
    each = torch.bincount(held_out.series) if count else torch.zeros(1, dtype=torch.long)
    horizons = -(-int(each.max()) // network.config.horizon)
    return Calibration.learn(
        *raw, levels=network.config.quantiles, blocks=max(horizons, int((each > 0).sum()))
    )


def values_at(
    found: Distribution, calibration: Calibration | None, levels: Sequence[float]
) -> FloatArray:
    """Return quantiles of distributions, (windows, horizon, levels), calibrated if they can be."""
    nominal = np.broadcast_to(normal_scores(levels), (found.values.shape[1], len(levels)))
    return found.at(nominal if calibration is None else calibration.read(nominal))


def _quantiles(scores: FloatArray, blocks: int) -> FloatArray:
    """Return the quantiles at :data:`SCORE_LEVELS`, as far out as so few independent parts ask for.

    A bound from above at level p is the score of rank p (n + 1) among n independent ones, so
    that the next one lies below it with probability p; a bound from below is its mirror image,
    and the median stays what it is.
    """
    count = max(blocks, FEWEST_BLOCKS)
    further = (
        SCORE_LEVELS
        + np.sign(SCORE_LEVELS - 0.5) * np.maximum(SCORE_LEVELS, 1 - SCORE_LEVELS) / count
    )
    found: FloatArray = np.quantile(scores, np.clip(further, 0.0, 1.0))
    return found


def _correlation(scores: FloatArray) -> FloatArray:
    """Return the correlation of the scores' ranks between steps, shrunk towards none.

    A missing value counts as the middle rank; one window says nothing.
    """
    if len(scores) < 2:
        return np.eye(scores.shape[1])
    # In here, so that predicting does not wait for it.
    from sklearn.covariance import oas

    ranks = rankdata(scores, axis=0, nan_policy="omit")
    counts = np.isfinite(scores).sum(axis=0)
    normal: FloatArray = np.nan_to_num(normal_scores(ranks / (counts + 1)))
    covariance, _ = oas(normal, assume_centered=True)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    found: FloatArray = covariance / np.outer(deviation, deviation)
    return found
