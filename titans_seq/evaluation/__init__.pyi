from .cards.reading import list_cards, read_card, read_recipe
from .cards.recipes import RecipeCard
from .cards.records import DatasetCard
from .cards.splits import Borders, Split
from .data.fetch import fetch_dataset, verify_dataset
from .data.locations import data_path
from .demo import run_demo
from .dna.assessment import (
    Assessment,
    assess_classifier,
    assess_grouped,
    assess_labels,
    assess_values,
)
from .dna.classification import score_classifier, score_dna
from .dna.controls import score_dna_controls
from .forecasts.protocols import score_forecast_controls, score_forecaster
from .runs.comparison import Comparison, compare_runs
from .runs.report_files import write_comparison
from .runs.run import run_recipe

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
