"""Demo of both heads on the embedded data: training, scores beside simple controls, plots.

Each head runs in a process of its own, so that two cores are used. The trainings are those of
``recipes/nyc13.toml`` and ``recipes/ecoli_coding_vs_intergenic.toml``.
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from titans_seq.evaluation.cards.reading import read_card, read_recipe
from titans_seq.evaluation.cards.records import Columns
from titans_seq.evaluation.data.locations import data_path
from titans_seq.evaluation.families.registry import read_experiment, read_inputs
from titans_seq.evaluation.runs.summary import summarise, verdicts
from titans_seq.evaluation.scores.report import ScoreTable, to_json
from titans_seq.exceptions import ConfigError, MissingExtraError
from titans_seq.files import write_whole


class _DemoRecipe(NamedTuple):
    """A recipe of the demo, and the names of its outputs."""

    name: str
    plot: str
    model: str


FORECASTING = _DemoRecipe("nyc13", "nyc13-forecast.png", "nyc13-model")
DNA = _DemoRecipe("ecoli_coding_vs_intergenic", "ecoli-scores.png", "ecoli-model")

_TABLE_COLUMNS = 4
"""Scores of an experiment that the demo prints."""


@dataclass(frozen=True, slots=True)
class DemoPart:
    """Result of one head."""

    table: ScoreTable
    """Its scores beside the simple controls."""

    verdicts: tuple[str, ...]
    """Expectations of the recipe, reached or not."""

    files: tuple[str, ...]
    """Files written, relative to the demo's folder."""

    seconds: float
    """Time from reading to plot."""


@dataclass(frozen=True, slots=True)
class Demo:
    """Results and files of the demo."""

    parts: tuple[DemoPart, ...]
    """Forecasting, then DNA."""

    out: Path
    """Folder of all files."""

    seconds: float
    """Time in total."""

    def to_text(self) -> str:
        """Return tables, files, and the commands for the user's own files."""
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
        Folder, created if necessary. An earlier demo in it is replaced.
    workers
        1 runs one head after the other in this process, 2 both in parallel in processes of their
        own; the number of cores if left out.

    Returns
    -------
    Demo
        Scores and names of files; ``results.json`` and ``results.md`` hold the scores too.

    Raises
    ------
    ConfigError
        If ``out`` cannot be a folder.
    MissingExtraError
        If a package of one of the heads is not installed.
    """
    start = time.perf_counter()
    _check_extras()
    folder = Path(out)
    _create_folder(folder)
    _copy_data(folder)
    parts = _run_heads(folder, workers)
    demo = Demo(tuple(parts), folder, time.perf_counter() - start)
    with write_whole(folder / "results.json") as path:
        path.write_text(to_json(demo.to_record()), encoding="utf-8")
    with write_whole(folder / "results.md") as path:
        tables = [part.table.to_markdown() for part in demo.parts]
        path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    return demo


def _run_heads(folder: Path, workers: int | None) -> list[DemoPart]:
    """Run both heads, in parallel if there are enough cores."""
    recipes = (FORECASTING, DNA)
    cores = _cores()
    if min(workers or cores, len(recipes)) == 1:
        return [_run_head(recipe, folder) for recipe in recipes]
    # Spawned, not forked: torch's threads do not survive a fork.
    threads = max(1, cores // len(recipes))
    with ProcessPoolExecutor(len(recipes), get_context("spawn"), _set_threads, (threads,)) as pool:
        return list(pool.map(_run_head, recipes, (folder,) * len(recipes)))


def _run_head(names: _DemoRecipe, folder: Path) -> DemoPart:
    """Run the first trial of a recipe."""
    start = time.perf_counter()
    recipe = read_recipe(names.name)
    experiment = read_experiment(recipe, read_inputs(recipe))
    trial = experiment.trials[0]
    model = experiment.train(trial)
    scored = experiment.score(model, trial)
    model.save(folder / names.model, force=True)
    experiment.plot(model, trial, folder / names.plot)
    rows = ((recipe.estimator, scored.scores), *experiment.controls(trial).items())
    summary = summarise([{**trial._asdict(), "scores": scored.scores}])
    return DemoPart(
        ScoreTable(experiment.title(trial), experiment.columns[:_TABLE_COLUMNS], rows),
        verdicts(recipe, summary["mean"]),
        (names.plot, names.model),
        time.perf_counter() - start,
    )


def _commands(out: Path) -> str:
    """Return the commands for the user's own files; they run unchanged on the demo's copies."""
    recipe, data = read_recipe(FORECASTING.name), out / "data"
    settings, card = recipe.settings, read_card(recipe.dataset)
    roles, dna = card.columns, read_recipe(DNA.name).settings
    assert isinstance(roles, Columns)
    sizes = "".join(
        f" -s {name}={settings[name]}"
        for name in ("dim", "layers", "batch_size")
        if name in settings
    )
    return f"""The same on your own files (these are copies of the demo's):
  titans-seq forecast fit {data / "nyc13.csv.gz"} --horizon {settings["horizon"]} \\
    --context-length {settings["context_length"]} --id-col {roles.id} --time-col {roles.time} \\
    --target-col {roles.target} --future {",".join(roles.future)} --split {card.split} \\
    --max-epochs {settings["max_epochs"]}{sizes} --model my-forecaster
  titans-seq forecast evaluate {data / "nyc13.csv.gz"} --model my-forecaster
  titans-seq dna fit {data / "ecoli-train.fa.gz"} --max-epochs {dna["max_epochs"]} \\
    --model my-classifier
  titans-seq dna evaluate {data / "ecoli-test.fa.gz"} --model my-classifier \\
    --train {data / "ecoli-train.fa.gz"}
  titans-seq dna predict {data / "ecoli-test.fa.gz"} --model my-classifier --out labels.tsv"""


def _copy_data(folder: Path) -> None:
    """Copy the embedded files into the demo's folder."""
    copies = {
        "nyc13.csv.gz": data_path(read_card(FORECASTING.name), "hourly"),
        "ecoli-train.fa.gz": data_path(read_card(DNA.name), "train"),
        "ecoli-test.fa.gz": data_path(read_card(DNA.name), "test"),
    }
    for name, source in copies.items():
        with write_whole(folder / "data" / name) as path:
            shutil.copyfile(source, path)


def _check_extras() -> None:
    """Refuse to start without the packages of both heads."""
    for module in ("pandas", "sklearn", "lightning", "matplotlib", "Bio"):
        if find_spec(module) is None:
            raise MissingExtraError(module, extra="all")


def _create_folder(folder: Path) -> None:
    """Create the folder, and the one for data in it."""
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{folder} is a file, not a folder to write the demo into") from None


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _set_threads(count: int) -> None:
    """Limit a worker to its share of the cores."""
    import torch

    torch.set_num_threads(count)
