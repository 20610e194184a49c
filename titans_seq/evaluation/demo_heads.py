"""What the demo does with each head: train what a recipe says, score, plot, save."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from titans_seq.evaluation.cards import Columns, RecipeCard, data_path, read_card, read_recipe
from titans_seq.evaluation.report import ScoreTable

if TYPE_CHECKING:
    import pandas as pd

    from titans_seq.forecasting import TitansForecaster

FORECAST_RECIPE = "nyc13"
DNA_RECIPE = "ecoli_coding_vs_intergenic"
DAYS_INTO_TEST = 10
"""Where in the test part the forecast of the plot begins."""


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
    from titans_seq.evaluation.protocols import score_forecast_controls, score_forecaster
    from titans_seq.forecasting import TitansForecaster, read_frame

    begin = time.perf_counter()
    recipe = read_recipe(FORECAST_RECIPE)
    card = read_card(recipe.dataset)
    roles, split = card.columns, card.split
    assert roles is not None, f"the card of {card.name} lacks columns"
    assert split is not None, f"the card of {card.name} lacks a split"
    frame = read_frame(data_path(card, "hourly"))
    borders = split.borders(int(frame.groupby(roles.id).size().min()))
    columns = {"id_col": roles.id, "time_col": roles.time, "target_col": roles.target,
               "past": roles.past, "future": roles.future}  # fmt: skip
    forecaster = TitansForecaster(random_state=recipe.seed, **{**columns, **recipe.settings})
    seen = frame.groupby(roles.id, sort=False).head(borders.validation_end)
    forecaster.fit(seen, val_size=borders.validation_end - borders.train_end)
    scores = score_forecaster(forecaster, frame, split)
    controls = score_forecast_controls(
        frame, split, horizon=forecaster.horizon,
        look_back=forecaster.network_.config.context_length,
        id_col=roles.id, time_col=roles.time, target_col=roles.target, future=roles.future,
        season=roles.season,
    )  # fmt: skip
    forecaster.save(folder / "nyc13-model", force=True)
    _plot_forecast(forecaster, frame, roles, borders.test_start, folder / "nyc13-forecast.png")
    return DemoPart(
        ScoreTable(
            f"{card.name}: {roles.target} departures {forecaster.horizon} hours ahead, in units "
            f"of the train rows' deviation; {scores['series']} airports, each "
            f"{scores['windows']:,} windows",
            ("mse", "mae", "pinball", "coverage"),
            (("TitansForecaster", scores), *controls.items()),
        ),
        _verdicts(recipe, scores),
        ("nyc13-forecast.png", "nyc13-model"),
        time.perf_counter() - begin,
    )


def _plot_forecast(
    forecaster: TitansForecaster, frame: pd.DataFrame, roles: Columns, start: int, path: Path
) -> None:
    """Draw a forecast of the test part beside what came."""
    from titans_seq.forecasting.plots import plot_forecast

    horizon = forecaster.horizon
    places = frame.groupby(roles.id).cumcount()
    cutoff = start + DAYS_INTO_TEST * 24
    history = frame[places < cutoff]
    came = frame[(places >= cutoff) & (places < cutoff + horizon)]
    forecast = forecaster.predict(history, came[[roles.id, roles.time, *roles.future]])
    plot_forecast(
        history, forecast, path, actual=came, id_col=roles.id, time_col=roles.time,
        target_col=roles.target, title=f"Late departures, {horizon} hours ahead",
    )  # fmt: skip


def run_dna(folder: Path) -> DemoPart:
    """Train, score and plot the DNA head."""
    from titans_seq.dna import TitansDNAClassifier, read_labelled
    from titans_seq.dna.plots import plot_scores
    from titans_seq.evaluation.classification import score_classifier
    from titans_seq.evaluation.dna_controls import score_dna_controls

    begin = time.perf_counter()
    recipe = read_recipe(DNA_RECIPE)
    card = read_card(recipe.dataset)
    train = read_labelled(data_path(card, "train"))
    test = read_labelled(data_path(card, "test"))
    classifier = TitansDNAClassifier(random_state=recipe.seed, **recipe.settings)
    classifier.fit(train.sequences, train.labels)
    chances = classifier.predict_proba(test.sequences)
    scores = score_classifier(test.labels, chances, classifier.classes_)
    controls = score_dna_controls((train.sequences, train.labels), (test.sequences, test.labels))
    classifier.save(folder / "ecoli-model", force=True)
    plot_scores(
        test.labels, chances, list(classifier.classes_), folder / "ecoli-scores.png",
        title=f"{card.name}, test part",
    )  # fmt: skip
    return DemoPart(
        ScoreTable(
            f"{card.name}: {' or '.join(map(str, classifier.classes_))}; "
            f"{len(train.labels):,} windows to learn from, {len(test.labels):,} to test",
            ("accuracy", "f1", "mcc", "auroc"),
            (("TitansDNAClassifier", scores), *controls.items()),
        ),
        _verdicts(recipe, scores),
        ("ecoli-scores.png", "ecoli-model"),
        time.perf_counter() - begin,
    )


def _verdicts(recipe: RecipeCard, scores: dict[str, float]) -> tuple[str, ...]:
    """Return a line for each figure that the recipe expects."""
    lines = []
    for metric, bounds in recipe.expect.items():
        for bound, value in bounds.items():
            reached = scores[metric] <= value if bound == "at_most" else scores[metric] >= value
            word = "reached" if reached else "NOT REACHED"
            lines.append(f"expected {metric} {bound.replace('_', ' ')} {value:g}: {word}")
    return tuple(lines)
