"""Trains both heads on the embedded data, scores them beside simple controls, and plots.

Each head runs in a process of its own, so that two cores are used. What is trained stands in
``recipes/nyc13.toml`` and ``recipes/ecoli_coding_vs_intergenic.toml``.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titans_seq.evaluation.cards import (
    Columns,
    RecipeCard,
    data_path,
    read_card,
    read_recipe,
)
from titans_seq.evaluation.report import ScoreTable, to_json
from titans_seq.exceptions import ConfigError
from titans_seq.files import write_whole

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


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo reached and wrote."""

    parts: tuple[DemoPart, ...]
    """Forecasting, then DNA."""

    out: Path
    """Folder of all that was written."""

    seconds: float
    """Time of the whole."""

    def to_text(self) -> str:
        """Return tables, files, and the commands for files of one's own."""
        blocks = [
            "\n".join((part.table.to_text(), *part.verdicts, f"{part.seconds:.0f} seconds"))
            for part in self.parts
        ]
        written = [f"  {self.out / file}" for part in self.parts for file in part.files]
        blocks.append("\n".join((f"Written in {self.seconds:.0f} seconds:", *written)))
        blocks.append(_commands(self.out))
        return "\n\n".join(blocks)

    def to_record(self) -> dict[str, Any]:
        """Return all scores as plain values."""
        return {
            "seconds": round(self.seconds, 1),
            "parts": [
                {**part.table.to_record(), "verdicts": list(part.verdicts),
                 "seconds": round(part.seconds, 1), "files": list(part.files)}
                for part in self.parts
            ],
        }  # fmt: skip


def run_demo(out: str | os.PathLike[str], *, workers: int | None = None) -> Demo:
    """Train, score and plot both heads; write models, plots and scores into a folder.

    Parameters
    ----------
    out
        Folder, made if need be. An earlier demo in it is replaced.
    workers
        1 runs one head after the other in this process, 2 both at once in processes of their own;
        as many as there are cores if left out.

    Returns
    -------
    Demo
        Scores and names of files; ``results.json`` and ``results.md`` have the scores too.

    Raises
    ------
    ConfigError
        If ``out`` cannot be a folder.
    """
    begin = time.perf_counter()
    folder = Path(out)
    _make_folder(folder)
    _copy_data(folder)
    heads = (_forecasting, _dna)
    cores = _cores()
    if min(workers or cores, len(heads)) == 1:
        parts = [head(folder) for head in heads]
    else:
        with ProcessPoolExecutor(
            len(heads), get_context("spawn"), _set_threads, (max(1, cores // len(heads)),)
        ) as pool:
            parts = list(pool.map(_run_head, heads, (folder,) * len(heads)))
    demo = Demo(tuple(parts), folder, time.perf_counter() - begin)
    with write_whole(folder / "results.json") as path:
        path.write_text(to_json(demo.to_record()), encoding="utf-8")
    with write_whole(folder / "results.md") as path:
        tables = [part.table.to_markdown() for part in demo.parts]
        path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    return demo


def _run_head(head: Callable[[Path], DemoPart], folder: Path) -> DemoPart:
    """Run one head in a worker."""
    return head(folder)


def _forecasting(folder: Path) -> DemoPart:
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
        frame, split, horizon=forecaster.horizon, look_back=forecaster.context_length,
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


def _dna(folder: Path) -> DemoPart:
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


def _commands(out: Path) -> str:
    """Return what to type for the same on one's own files; it works as it stands on the copies."""
    recipe, data = read_recipe(FORECAST_RECIPE), out / "data"
    settings, card = recipe.settings, read_card(recipe.dataset)
    roles, dna = card.columns, read_recipe(DNA_RECIPE).settings
    assert isinstance(roles, Columns)
    return f"""The same on your own files (these are copies of the demo's):
  titans-seq forecast fit {data / "nyc13.csv.gz"} --horizon {settings["horizon"]} \\
    --context-length {settings["context_length"]} --id-col {roles.id} --time-col {roles.time} \\
    --target-col {roles.target} --future {",".join(roles.future)} --split {card.split} \\
    --max-epochs {settings["max_epochs"]} --model my-forecaster
  titans-seq forecast evaluate {data / "nyc13.csv.gz"} --model my-forecaster
  titans-seq dna fit {data / "ecoli-train.fa.gz"} --max-epochs {dna["max_epochs"]} \\
    --reverse-complement {dna["reverse_complement"]} --model my-classifier
  titans-seq dna evaluate {data / "ecoli-test.fa.gz"} --model my-classifier \\
    --train {data / "ecoli-train.fa.gz"}
  titans-seq dna predict {data / "ecoli-test.fa.gz"} --model my-classifier --out labels.tsv"""


def _copy_data(folder: Path) -> None:
    """Copy the embedded files to where a user finds them."""
    copies = {
        "nyc13.csv.gz": data_path(read_card(FORECAST_RECIPE), "hourly"),
        "ecoli-train.fa.gz": data_path(read_card(DNA_RECIPE), "train"),
        "ecoli-test.fa.gz": data_path(read_card(DNA_RECIPE), "test"),
    }
    for name, source in copies.items():
        with write_whole(folder / "data" / name) as path:
            shutil.copyfile(source, path)


def _make_folder(folder: Path) -> None:
    """Make the folder and the one for data in it."""
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{folder} is a file, not a folder to write the demo into") from None


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _set_threads(count: int) -> None:
    """Let one worker use its share of the cores."""
    import torch

    torch.set_num_threads(count)
