"""Cards of data sets, recipes and their runs, scoring rules, controls; loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.evaluation.card_records import DatasetCard
    from titans_seq.evaluation.cards import list_cards, read_card, read_recipe
    from titans_seq.evaluation.classification import score_classifier, score_dna
    from titans_seq.evaluation.comparison import Comparison, compare_runs, write_comparison
    from titans_seq.evaluation.demo import run_demo
    from titans_seq.evaluation.dna_assessment import Assessment, assess_classifier, assess_grouped
    from titans_seq.evaluation.dna_controls import score_dna_controls
    from titans_seq.evaluation.dna_values import assess_labels, assess_values
    from titans_seq.evaluation.fetch import fetch_dataset, verify_dataset
    from titans_seq.evaluation.places import data_path
    from titans_seq.evaluation.protocols import score_forecast_controls, score_forecaster
    from titans_seq.evaluation.recipe_records import RecipeCard
    from titans_seq.evaluation.run import run_recipe
    from titans_seq.evaluation.splits import Borders, Split

__all__ = [
    "Assessment",
    "Borders",
    "Comparison",
    "DatasetCard",
    "RecipeCard",
    "Split",
    "assess_classifier",
    "assess_grouped",
    "assess_labels",
    "assess_values",
    "compare_runs",
    "data_path",
    "fetch_dataset",
    "list_cards",
    "read_card",
    "read_recipe",
    "run_demo",
    "run_recipe",
    "score_classifier",
    "score_dna",
    "score_dna_controls",
    "score_forecast_controls",
    "score_forecaster",
    "verify_dataset",
    "write_comparison",
]

_HOME = {
    "Assessment": "dna_assessment",
    "Borders": "splits",
    "Comparison": "comparison",
    "DatasetCard": "card_records",
    "RecipeCard": "recipe_records",
    "Split": "splits",
    "compare_runs": "comparison",
    "data_path": "places",
    "fetch_dataset": "fetch",
    "assess_classifier": "dna_assessment",
    "assess_grouped": "dna_assessment",
    "assess_labels": "dna_values",
    "assess_values": "dna_values",
    "list_cards": "cards",
    "read_card": "cards",
    "read_recipe": "cards",
    "run_demo": "demo",
    "run_recipe": "run",
    "score_classifier": "classification",
    "score_dna": "classification",
    "score_dna_controls": "dna_controls",
    "score_forecast_controls": "protocols",
    "score_forecaster": "protocols",
    "verify_dataset": "fetch",
    "write_comparison": "comparison",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
