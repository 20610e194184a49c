"""What the demo does with each head: train what a recipe says, score, plot, save."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from titans_seq.evaluation.cards.reading import read_card, read_recipe
from titans_seq.evaluation.families.registry import read_head
from titans_seq.evaluation.runs.summary import summarise, verdicts
from titans_seq.evaluation.scores.report import ScoreTable

FORECAST_RECIPE = "nyc13"
DNA_RECIPE = "ecoli_coding_vs_intergenic"


@dataclass(frozen=True, slots=True)
class DemoPart:
    """What one head reached."""

    table: ScoreTable
    """Its score beside the simple controls."""

    verdicts: tuple[str, ...]
    """What the recipe expects, and whether it was reached."""

    files: tuple[str, ...]
    """What was written, relative to the demo's folder."""

    seconds: float
    """Time from reading to plot."""


def run_forecasting(folder: Path) -> DemoPart:
    """Train, score and plot the forecasting head."""
    return _run(FORECAST_RECIPE, folder, "nyc13-forecast.png", "nyc13-model")


def run_dna(folder: Path) -> DemoPart:
    """Train, score and plot the DNA head."""
    return _run(DNA_RECIPE, folder, "ecoli-scores.png", "ecoli-model")


def _run(name: str, folder: Path, picture: str, kept: str) -> DemoPart:
    """Do what a recipe says, once."""
    begin = time.perf_counter()
    recipe = read_recipe(name)
    head = read_head(recipe, read_card(recipe.dataset))
    trial = head.trials[0]
    model = head.learn(trial)
    scored = head.score(model, trial)
    model.save(folder / kept, force=True)
    head.plot(model, trial, folder / picture)
    rows = ((recipe.estimator, scored.scores), *head.controls(trial).items())
    return DemoPart(
        ScoreTable(head.title(trial), head.columns[:4], rows),
        verdicts(recipe, summarise([{**trial._asdict(), "scores": scored.scores}])["mean"]),
        (picture, kept),
        time.perf_counter() - begin,
    )
