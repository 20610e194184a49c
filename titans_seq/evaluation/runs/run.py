"""Runs a recipe: every training, its score, and the controls beside."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from titans_seq.bundles import CONFIG
from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.families.protocol import Head, Scored, Trial
from titans_seq.evaluation.families.registry import read_head, recipe_files
from titans_seq.evaluation.runs.comparison import compare_runs, write_comparison
from titans_seq.evaluation.runs.folder import DONE, ENVIRONMENT, METRICS, TIMING, RunFolder
from titans_seq.evaluation.runs.overrides import check_settings
from titans_seq.evaluation.runs.summary import summarise, verdicts
from titans_seq.files import file_digest, plain_values, write_whole, write_whole_folder
from titans_seq.ops.cpu import library as kernels
from titans_seq.training import at_most, broadcast_from_rank0, checkpointing, world

PACKAGES = ("titans-seq", "torch", "numpy", "lightning", "scikit-learn", "scipy", "pandas")
"""Whose versions a run notes."""

logger = logging.getLogger(__name__)


def run_recipe(
    recipe: RecipeCard,
    out: str | os.PathLike[str],
    *,
    data_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    every: float = 30.0,
) -> dict[str, Any]:
    """Train, score and compare what a recipe says; return what ``metrics.json`` holds.

    Parameters
    ----------
    recipe
        What to run.
    out
        Folder of the run, see :mod:`titans_seq.evaluation.runs.folder`.
    data_folder
        Where data files lie; ``TITANS_SEQ_DATA`` if left out.
    resume
        Go on with the run that stands in ``out``; without one, begin. The scores that come out
        are those of a run that was never stopped, to the last bit, on the same machine.
    force
        Replace the run that stands there.
    every
        Seconds of an epoch after which a checkpoint is written.

    Raises
    ------
    ConfigError
        If the recipe cannot be run, or ``out`` holds something else.
    MissingDataError
        If the data must be fetched first.
    DataError
        If the data are not those of the card, or have changed since the run began.
    DivergedError
        If a training diverged; its last good checkpoint is kept.
    """
    where = f"recipe {recipe.name}"
    check_settings(recipe, where)
    card = read_card(recipe.dataset)
    files = recipe_files(recipe, card, data_folder)  # before the folder is made
    folder = RunFolder(out)
    with folder.alone():
        if folder.begin(recipe, resume=resume, force=force):
            return folder.read(METRICS)
        head = read_head(recipe, card, data_folder)
        digests = _digests(files)
        run = _Run(folder, recipe, head, every)
        run.metrics["data"] = None if card.own is None else _own(digests[card.own])
        run.note_environment()
        folder.note_data({"dataset": card.name, "parts": head.borders(), "files": digests})
        for trial in head.trials:
            run.do(trial)
        names = head.columns
        return run.finish(card.main_metric if card.main_metric in names else names[0])


class _Run:
    """The trainings of one run, those that are done left out."""

    def __init__(self, folder: RunFolder, recipe: RecipeCard, head: Head, every: float) -> None:
        self.folder = folder
        self.recipe = recipe
        self.head = head
        self.every = every
        self.metrics = folder.read(METRICS) or {
            "recipe": recipe.name, "dataset": recipe.dataset, "estimator": recipe.estimator,
            "complete": False, "trials": {}, "controls": {},
        }  # fmt: skip

    def do(self, trial: Trial) -> None:
        """Train and score once, unless that was done before."""
        group = trial.group
        if group not in self.metrics["controls"]:
            controls = broadcast_from_rank0(lambda: plain_values(self.head.controls(trial)))
            self.metrics["controls"][group] = controls
            self.folder.write(METRICS, self.metrics)
        if trial.name in self.metrics["trials"]:
            return
        logger.info("%s: %s", self.recipe.name, trial.name)
        checkpoints = self.folder.folder("checkpoints") / trial.name
        gone_on = checkpoints.is_dir()
        cpu, wall = time.process_time(), time.monotonic()
        with (
            at_most(self.recipe.max_steps),
            checkpointing(
                checkpoints, every=self.every, resume=True, about={"trial": trial.name},
                listen=lambda records: self.folder.keep_epochs(
                    trial.name, [record._asdict() for record in records]
                ),
            ),
        ):  # fmt: skip
            model = self.head.learn(trial)
            measured = self._keep(trial, model)
        self.folder.write(TIMING, {
            **self.folder.read(TIMING),
            trial.name: {"cpu_seconds": round(time.process_time() - cpu, 1),
                         "wall_seconds": round(time.monotonic() - wall, 1), "resumed": gone_on,
                         **({"measured": plain_values(measured)} if measured else {})},
        })  # fmt: skip
        self.folder.write(METRICS, self.metrics)

    def _keep(self, trial: Trial, model: Any) -> Mapping[str, float]:
        """Score a trained model, and write it with its answers and pictures."""
        scored = self.head.score(model, trial)
        place = self.folder.path / "model"
        if len(self.head.trials) > 1:
            place = self.folder.folder("model") / trial.name
        with write_whole_folder(place, force=True, marker=CONFIG) as temporary:
            model.save(temporary)
        self._keep_predictions(trial, scored)
        if trial.seed == self.recipe.seeds[0]:
            with write_whole(self.folder.folder("plots") / f"{trial.name}.png") as path:
                self.head.plot(model, trial, path)
        history = model.history_ if isinstance(model.history_, dict) else model.history_.to_table()
        names = ("best_epoch", "best_loss", "steps", "stopped_by", "device")
        self.metrics["trials"][trial.name] = {
            "horizon": trial.horizon, "seed": trial.seed, "split": trial.split,
            "scores": plain_values(scored.scores),
            "training": {"epochs": len(history["epochs"]), **{k: history[k] for k in names}},
        }  # fmt: skip
        return scored.measured

    def _keep_predictions(self, trial: Trial, scored: Scored) -> None:
        """Write the answers, or move the file that holds them to its place."""
        folder, answers = self.folder.folder("predictions"), scored.predictions
        for name, content in scored.files.items():
            with write_whole(folder / f"{trial.name}-{name}") as path:
                path.write_bytes(content)
        if isinstance(answers, Path):
            with write_whole(folder / f"{trial.name}{''.join(answers.suffixes)}") as path:
                shutil.move(answers, path)
            with suppress(OSError):  # it holds other files
                answers.parent.rmdir()
            return
        with write_whole(folder / f"{trial.name}.parquet") as path:
            answers.to_parquet(path, index=False)

    def finish(self, main_metric: str) -> dict[str, Any]:
        """Write means and verdicts, and that the run is done."""
        summary = summarise(self.metrics["trials"].values())
        self.metrics |= {
            "metric": main_metric,
            "columns": list(self.head.columns),
            "summary": summary,
            "verdicts": list(verdicts(self.recipe, summary["mean"])),
            "complete": True,
        }
        self.folder.write(METRICS, self.metrics)
        broadcast_from_rank0(self._report)
        done = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "trials": len(self.head.trials)}
        self.folder.write(DONE, done)
        return self.folder.read(METRICS)

    def _report(self) -> None:
        """Write what came out beside published figures."""
        (found,) = compare_runs([self.folder.path])
        write_comparison([found], self.folder.path / "report.md")
        write_comparison([found], self.folder.folder("plots") / "comparison.png")

    def note_environment(self) -> None:
        """Write what the run is made with; say if it began with something else."""
        now = environment(self.recipe)
        before = self.folder.read(ENVIRONMENT)
        for name in ("versions", "threads", "machine", "processes", "compiled_memory"):
            if name in before and before[name] != now[name]:
                logger.warning(
                    "%s: %s was %s, now it is %s: scores may differ in their last digits from "
                    "those of a run that was not stopped",
                    self.folder.path, name, before[name], now[name],
                )  # fmt: skip
        if before:
            before["resumed"] = [*before.get("resumed", []), now]
        self.folder.write(ENVIRONMENT, before or now)


def environment(recipe: RecipeCard) -> dict[str, Any]:
    """Return what a run is made with, as plain values."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **_versions(PACKAGES)},
        "machine": {"platform": platform.platform(), "processor": platform.machine(),
                    "instructions": torch.backends.cpu.get_cpu_capability(), "gpus": devices},
        "threads": torch.get_num_threads(),
        "processes": world().size,
        "compiled_memory": kernels.library() is not None,
        "seeds": list(recipe.seeds),
        "command": sys.argv,
    }  # fmt: skip


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the version of each package that is installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _digests(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return name, digest and length of each file as it is stored."""
    return {
        name: {"path": str(path), "sha256": file_digest(path), "bytes": path.stat().st_size}
        for name, path in files.items()
    }


def _own(file: Mapping[str, Any]) -> str:
    """Return what tells one file of the user's from another in a table."""
    return f"{Path(file['path']).name}, sha256 {file['sha256'][:12]}"
