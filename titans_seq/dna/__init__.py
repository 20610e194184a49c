"""DNA: FASTA in, labels out. Nothing is loaded before it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.dna.estimator import TitansDNAClassifier
    from titans_seq.dna.explaining import Explanation, explain
    from titans_seq.dna.learning.bases import PretrainSettings
    from titans_seq.dna.learning.language import LanguageConfig
    from titans_seq.dna.pretraining import Pretrained, pretrain
    from titans_seq.dna.reading.fasta import FastaRecord, read_fasta
    from titans_seq.dna.reading.labels import (
        LabelledSequences,
        read_labelled,
        read_labels,
        read_sequences,
    )
    from titans_seq.dna.regressor import TitansDNARegressor

__all__ = [
    "Explanation",
    "FastaRecord",
    "LabelledSequences",
    "LanguageConfig",
    "PretrainSettings",
    "Pretrained",
    "TitansDNAClassifier",
    "TitansDNARegressor",
    "explain",
    "pretrain",
    "read_fasta",
    "read_labelled",
    "read_labels",
    "read_sequences",
]

_HOME = {
    "Explanation": "explaining",
    "explain": "explaining",
    "FastaRecord": "reading.fasta",
    "LabelledSequences": "reading.labels",
    "LanguageConfig": "learning.language",
    "PretrainSettings": "learning.bases",
    "Pretrained": "pretraining",
    "TitansDNAClassifier": "estimator",
    "TitansDNARegressor": "regressor",
    "pretrain": "pretraining",
    "read_fasta": "reading.fasta",
    "read_labelled": "reading.labels",
    "read_labels": "reading.labels",
    "read_sequences": "reading.labels",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
