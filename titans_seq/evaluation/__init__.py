"""Cards of data sets, scoring rules, simple controls, and the demo; loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.evaluation.cards import (
        DatasetCard,
        RecipeCard,
        data_path,
        list_cards,
        read_card,
        read_recipe,
    )
    from titans_seq.evaluation.classification import score_classifier, score_dna
    from titans_seq.evaluation.demo import run_demo
    from titans_seq.evaluation.dna_assessment import Assessment, assess_classifier, assess_grouped
    from titans_seq.evaluation.dna_controls import score_dna_controls
    from titans_seq.evaluation.dna_values import assess_labels, assess_values
    from titans_seq.evaluation.protocols import score_forecast_controls, score_forecaster
    from titans_seq.evaluation.splits import Borders, Split

__all__ = [
    "Assessment",
    "Borders",
    "DatasetCard",
    "RecipeCard",
    "Split",
    "assess_classifier",
    "assess_grouped",
    "assess_labels",
    "assess_values",
    "data_path",
    "list_cards",
    "read_card",
    "read_recipe",
    "run_demo",
    "score_classifier",
    "score_dna",
    "score_dna_controls",
    "score_forecast_controls",
    "score_forecaster",
]

_HOME = {
    "Assessment": "dna_assessment",
    "Borders": "splits",
    "DatasetCard": "cards",
    "RecipeCard": "cards",
    "Split": "splits",
    "assess_classifier": "dna_assessment",
    "assess_grouped": "dna_assessment",
    "assess_labels": "dna_values",
    "assess_values": "dna_values",
    "data_path": "cards",
    "list_cards": "cards",
    "read_card": "cards",
    "read_recipe": "cards",
    "run_demo": "demo",
    "score_classifier": "classification",
    "score_dna": "classification",
    "score_dna_controls": "dna_controls",
    "score_forecast_controls": "protocols",
    "score_forecaster": "protocols",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
