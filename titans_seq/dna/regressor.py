"""A scikit-learn regressor of DNA sequences."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin

from titans_seq.dna.base import TitansDNAEstimator
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.targets import check_values, row_weights


class TitansDNARegressor(RegressorMixin, TitansDNAEstimator):
    """Predict numbers from DNA sequences, such as activity or strength.

    Sequences and parameters are those of :class:`~titans_seq.dna.TitansDNAClassifier`, except
    for those that concern classes. Values are standardised for training and predicted in their
    own units; a sequence shorter than ``min_length`` gets NaN.

    Attributes
    ----------
    names_ : ndarray
        Names of the values: columns of a data frame, or 0, 1, ...
    center_, scale_ : ndarray
        Mean and standard deviation of each value in training.
    network_, history_, loss_curve_, calibration_, n_iter_
        As of the classifier.
    """

    _kind = "titans-dna-regressor"

    names_: npt.NDArray[Any]
    center_: npt.NDArray[np.float64]
    scale_: npt.NDArray[np.float64]
    _flat: bool

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on sequences ``X`` and their values ``y``, (rows,) or (rows, values).

        Raises
        ------
        DataError
            If a sequence is not DNA, or values do not match it in number or are not finite.
        ConfigError
            If a setting is outside its range.
        DivergedError
            If the loss became non-finite.
        """
        return self._fit(X, y, sample_weight, partial=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train in one pass over sequences ``X``; the first call sets the units."""
        return self._fit(X, y, sample_weight, partial=True)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, partial: bool) -> Self:
        sequences = encode_all(X)
        target = check_values(y, len(sequences))
        weights = row_weights(target, None, sample_weight)
        if self._continues(partial):
            self._check_same_outputs(target)
            center, scale, flat = self.center_, self.scale_, self._flat
        else:
            center = np.average(target.values, axis=0, weights=weights)
            deviation = np.average((target.values - center) ** 2, axis=0, weights=weights) ** 0.5
            scale = np.where(deviation > 0, deviation, 1.0)
            flat = np.asarray(y).ndim == 1
        scaled = ((target.values - center) / scale).astype(np.float32)
        self._train(sequences, target._replace(values=scaled), weights, partial=partial)
        # Set last: an estimator whose training failed is not fitted.
        self.names_, self.center_, self.scale_, self._flat = target.names, center, scale, flat
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the values of each sequence, in their own units, in the shape given to ``fit``."""
        outputs, sequences = self._predict_outputs(X)
        values: npt.NDArray[np.float64] = outputs.numpy() * self.scale_ + self.center_
        values[[len(codes) < self.min_length for codes in sequences]] = np.nan
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

    def _restore_outputs(self, outputs: dict[str, Any]) -> None:
        self.names_ = np.array(outputs["names"])
        self.center_ = np.array(outputs["center"], dtype=np.float64)
        self.scale_ = np.array(outputs["scale"], dtype=np.float64)
        self._flat = bool(outputs["flat"])

    def __sklearn_tags__(self) -> Any:
        """Declare that several values may be predicted at once."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
