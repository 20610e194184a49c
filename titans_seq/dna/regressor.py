"""A scikit-learn regressor of DNA: strings in, numbers out."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin

from titans_seq.dna.base import TitansDNAEstimator
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.targets import read_values, row_weights

REGRESSOR_KIND = "titans-dna-regressor"
"""What ``config.json`` of a saved regressor says it is."""

Values = npt.NDArray[np.float64]


class TitansDNARegressor(RegressorMixin, TitansDNAEstimator):
    """Predict numbers from DNA sequences, such as activity or strength.

    Sequences and parameters are those of :class:`~titans_seq.dna.TitansDNAClassifier`, but
    for those that concern classes. Values are learnt in units of their spread and come back in
    their own; a sequence shorter than ``min_length`` gets NaN.

    Attributes
    ----------
    names_ : ndarray
        Names of the values: a frame's columns, or 0, 1, ...
    center_, scale_ : ndarray
        Mean and spread of each value in training.
    network_, history_, loss_curve_, calibration_, n_iter_
        As of the classifier.
    """

    _kind = REGRESSOR_KIND

    names_: npt.NDArray[Any]
    center_: Values
    scale_: Values

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on sequences ``X`` and their values ``y``, (rows,) or (rows, values).

        Raises
        ------
        DataError
            If a sequence is no DNA, or values do not fit or are not finite.
        ConfigError
            If a setting is outside its range.
        DivergedError
            If the loss became non-finite.
        """
        return self._fit(X, y, sample_weight, partial=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Pass once over sequences ``X``; the first call settles units and sizes."""
        return self._fit(X, y, sample_weight, partial=True)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, partial: bool) -> Self:
        rows = encode_all(X)
        target = read_values(y, len(rows))
        weights = row_weights(target, None, sample_weight)
        kept = self._long_enough(rows)
        if not (hasattr(self, "network_") and (partial or self.warm_start)):
            self.names_ = target.names
            self._flat = np.asarray(y).ndim == 1
            self.center_ = np.average(target.values, axis=0, weights=weights)
            spread = np.average((target.values - self.center_) ** 2, axis=0, weights=weights) ** 0.5
            self.scale_ = np.where(spread > 0, spread, 1.0)
        scaled = ((target.values - self.center_) / self.scale_).astype(np.float32)
        self._learn(
            [row for row, keep in zip(rows, kept, strict=True) if keep],
            target._replace(values=scaled[kept]),
            weights[kept],
            partial=partial,
        )
        return self

    def predict(self, X: Any) -> Values:
        """Return the values of each sequence, in their own units, of the shape that ``fit`` got."""
        answer, rows = self._answers(X)
        values: Values = answer.numpy() * self.scale_ + self.center_
        values[[len(row) < self.min_length for row in rows]] = np.nan
        return values[:, 0] if self._flat else values

    def _outputs(self) -> dict[str, Any]:
        return {
            "names": self.names_.tolist(),
            "center": self.center_.tolist(),
            "scale": self.scale_.tolist(),
            "flat": self._flat,
        }

    def _outputs_text(self) -> str:
        ranges = zip(self.names_.tolist(), self.center_, self.scale_, strict=True)
        return "Values: " + ", ".join(f"{n} ({c:.4g} ± {s:.4g})" for n, c, s in ranges) + "."

    def _restore(self, outputs: dict[str, Any]) -> None:
        self.names_ = np.array(outputs["names"])
        self.center_ = np.array(outputs["center"], dtype=np.float64)
        self.scale_ = np.array(outputs["scale"], dtype=np.float64)
        self._flat = bool(outputs["flat"])

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that several values may be predicted at once."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
