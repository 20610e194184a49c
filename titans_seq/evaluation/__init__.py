"""Cards of data sets, recipes and their runs, scoring rules, controls; loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_seq.evaluation.cards.reading import list_cards, read_card, read_recipe
    from titans_seq.evaluation.cards.recipes import RecipeCard
    from titans_seq.evaluation.cards.records import DatasetCard
    from titans_seq.evaluation.cards.splits import Borders, Split
    from titans_seq.evaluation.data.fetch import fetch_dataset, verify_dataset
    from titans_seq.evaluation.data.places import data_path
    from titans_seq.evaluation.demo.run import run_demo
    from titans_seq.evaluation.dna.assessment import Assessment, assess_classifier, assess_grouped
    from titans_seq.evaluation.dna.classification import score_classifier, score_dna
    from titans_seq.evaluation.dna.controls import score_dna_controls
    from titans_seq.evaluation.dna.values import assess_labels, assess_values
    from titans_seq.evaluation.forecasts.protocols import score_forecast_controls, score_forecaster
    from titans_seq.evaluation.runs.comparison import Comparison, compare_runs, write_comparison
    from titans_seq.evaluation.runs.run import run_recipe

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
    "Assessment": "dna.assessment",
    "Borders": "cards.splits",
    "Comparison": "runs.comparison",
    "DatasetCard": "cards.records",
    "RecipeCard": "cards.recipes",
    "Split": "cards.splits",
    "compare_runs": "runs.comparison",
    "data_path": "data.places",
    "fetch_dataset": "data.fetch",
    "assess_classifier": "dna.assessment",
    "assess_grouped": "dna.assessment",
    "assess_labels": "dna.values",
    "assess_values": "dna.values",
    "list_cards": "cards.reading",
    "read_card": "cards.reading",
    "read_recipe": "cards.reading",
    "run_demo": "demo.run",
    "run_recipe": "runs.run",
    "score_classifier": "dna.classification",
    "score_dna": "dna.classification",
    "score_dna_controls": "dna.controls",
    "score_forecast_controls": "forecasts.protocols",
    "score_forecaster": "forecasts.protocols",
    "verify_dataset": "data.fetch",
    "write_comparison": "runs.comparison",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
