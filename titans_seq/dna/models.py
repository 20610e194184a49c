"""Load a classifier or a regressor, whichever a model folder contains."""

from __future__ import annotations

import os

from titans_seq.bundles import bundle_kind
from titans_seq.dna.estimator import TitansDNAClassifier
from titans_seq.dna.regressor import TitansDNARegressor


def load_estimator(folder: str | os.PathLike[str]) -> TitansDNAClassifier | TitansDNARegressor:
    """Read a saved classifier or regressor.

    Raises
    ------
    BundleError
        If the folder contains neither, or is damaged.
    """
    if bundle_kind(folder) == TitansDNARegressor._kind:
        return TitansDNARegressor.load(folder)
    return TitansDNAClassifier.load(folder)
