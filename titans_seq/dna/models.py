"""Whatever estimator a model folder holds."""

from __future__ import annotations

import os

from titans_seq.bundles import bundle_kind
from titans_seq.dna.estimator import TitansDNAClassifier
from titans_seq.dna.regressor import REGRESSOR_KIND, TitansDNARegressor


def load_estimator(folder: str | os.PathLike[str]) -> TitansDNAClassifier | TitansDNARegressor:
    """Read a classifier or a regressor that was saved.

    Raises
    ------
    BundleError
        If the folder holds neither, or is damaged.
    """
    if bundle_kind(folder) == REGRESSOR_KIND:
        return TitansDNARegressor.load(folder)
    return TitansDNAClassifier.load(folder)
