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
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from titans_seq.evaluation.cards.reading import read_card, read_recipe
from titans_seq.evaluation.cards.records import Columns
from titans_seq.evaluation.data.locations import data_path
from titans_seq.evaluation.demo.heads import (
    DNA_RECIPE,
    FORECAST_RECIPE,
    DemoPart,
    run_dna,
    run_forecasting,
)
from titans_seq.evaluation.scores.report import to_json
from titans_seq.exceptions import ConfigError, MissingExtraError
from titans_seq.files import write_whole


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
    MissingExtraError
        If a package of one of the heads is not installed.
    """
    begin = time.perf_counter()
    _check_extras()
    folder = Path(out)
    _make_folder(folder)
    _copy_data(folder)
    parts = _run_heads(folder, workers)
    demo = Demo(tuple(parts), folder, time.perf_counter() - begin)
    with write_whole(folder / "results.json") as path:
        path.write_text(to_json(demo.to_record()), encoding="utf-8")
    with write_whole(folder / "results.md") as path:
        tables = [part.table.to_markdown() for part in demo.parts]
        path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    return demo


def _run_heads(folder: Path, workers: int | None) -> list[DemoPart]:
    """Run both heads, at once where there are cores for it."""
    heads = (run_forecasting, run_dna)
    cores = _cores()
    if min(workers or cores, len(heads)) == 1:
        return [head(folder) for head in heads]
    threads = max(1, cores // len(heads))
    with ProcessPoolExecutor(len(heads), get_context("spawn"), _set_threads, (threads,)) as pool:
        return list(pool.map(_run_head, heads, (folder,) * len(heads)))


def _run_head(head: Callable[[Path], DemoPart], folder: Path) -> DemoPart:
    """Run one head in a worker."""
    return head(folder)


def _commands(out: Path) -> str:
    """Return what to type for the same on one's own files; it works as it stands on the copies."""
    recipe, data = read_recipe(FORECAST_RECIPE), out / "data"
    settings, card = recipe.settings, read_card(recipe.dataset)
    roles, dna = card.columns, read_recipe(DNA_RECIPE).settings
    assert isinstance(roles, Columns)
    also = [name for name in ("dim", "layers", "batch_size") if name in settings]
    sizes = "".join(f" -s {name}={settings[name]}" for name in also)
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
    """Copy the embedded files to where a user finds them."""
    copies = {
        "nyc13.csv.gz": data_path(read_card(FORECAST_RECIPE), "hourly"),
        "ecoli-train.fa.gz": data_path(read_card(DNA_RECIPE), "train"),
        "ecoli-test.fa.gz": data_path(read_card(DNA_RECIPE), "test"),
    }
    for name, source in copies.items():
        with write_whole(folder / "data" / name) as path:
            shutil.copyfile(source, path)


def _check_extras() -> None:
    """Refuse to begin without what both heads need."""
    for module in ("pandas", "sklearn", "lightning", "matplotlib", "Bio"):
        if find_spec(module) is None:
            raise MissingExtraError(module, extra="all")


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
