"""Run of a recipe: every training, its scores, and the controls."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from titans_seq.bundles import CONFIG
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.families.protocol import Experiment, Scored, Trial
from titans_seq.evaluation.families.registry import read_experiment, read_inputs
from titans_seq.evaluation.runs.comparison import compare_run
from titans_seq.evaluation.runs.folder import DONE, ENVIRONMENT, METRICS, TIMING, RunFolder
from titans_seq.evaluation.runs.overrides import check_recipe_settings
from titans_seq.evaluation.runs.report_files import write_comparison
from titans_seq.evaluation.runs.summary import summarise, verdicts
from titans_seq.files import plain_values, write_whole, write_whole_folder
from titans_seq.ops.cpu import library as kernels
from titans_seq.training import at_most, broadcast_from_rank0, checkpointing, world

_PACKAGES = ("titans-seq", "torch", "numpy", "lightning", "scikit-learn", "scipy", "pandas")
"""Packages whose versions a run records."""

_COMPARED_ENVIRONMENT = ("versions", "threads", "machine", "processes", "compiled_memory")
"""Parts of the environment that can change the last digits of scores."""

_logger = logging.getLogger(__name__)


def run_recipe(
    recipe: RecipeCard,
    out: str | os.PathLike[str],
    *,
    data_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    every: float = 30.0,
) -> dict[str, Any]:
    """Train, score and compare as a recipe describes; return the content of ``metrics.json``.

    Parameters
    ----------
    recipe
        Recipe to run.
    out
        Folder of the run, see :mod:`titans_seq.evaluation.runs.folder`.
    data_folder
        Folder of data files; that of ``TITANS_SEQ_DATA`` if left out.
    resume
        Resume the run in ``out``; if there is none, start it. The scores equal those of an
        uninterrupted run to the last bit, on the same machine.
    force
        Replace the run in ``out``.
    every
        Seconds between checkpoints within an epoch.

    Raises
    ------
    ConfigError
        If the recipe cannot be run, or ``out`` holds something else.
    MissingDataError
        If the data must be fetched first.
    DataError
        If the data differ from the card, or have changed since the run began.
    DivergedError
        If a training diverged; its last good checkpoint is kept.
    """
    check_recipe_settings(recipe, f"recipe {recipe.name}")
    inputs = read_inputs(recipe, data_folder)  # may fail: before the folder is made
    folder = RunFolder(out)
    with folder.locked():
        if folder.begin(recipe, resume=resume, force=force):
            return folder.read(METRICS)
        experiment = read_experiment(recipe, inputs)
        files = {
            name: {"path": str(file.path), "sha256": file.sha256, "bytes": file.bytes}
            for name, file in inputs.all_files().items()
        }
        run = _Run(folder, recipe, inputs.card, experiment, every)
        run.record_environment()
        folder.record_data(
            {"dataset": inputs.card.name, "parts": experiment.borders(), "files": files}
        )
        own = inputs.card.own
        run.metrics["data"] = None if own is None else _user_file(files[own])
        for trial in experiment.trials:
            run.run_trial(trial)
        return run.finish()


class _Run:
    """The trainings of one run; those that are complete are skipped."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: RecipeCard,
        card: DatasetCard,
        experiment: Experiment,
        every: float,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.card = card
        self.experiment = experiment
        self.every = every
        self.metrics = folder.read(METRICS) or {
            "recipe": recipe.name, "dataset": recipe.dataset, "estimator": recipe.estimator,
            "complete": False, "trials": {}, "controls": {},
        }  # fmt: skip

    def run_trial(self, trial: Trial) -> None:
        """Train and score one trial, unless that was done before."""
        group = trial.group
        if group not in self.metrics["controls"]:
            controls = broadcast_from_rank0(lambda: plain_values(self.experiment.controls(trial)))
            self.metrics["controls"][group] = controls
            self.folder.write(METRICS, self.metrics)
        if trial.name in self.metrics["trials"]:
            return
        _logger.info("%s: %s", self.recipe.name, trial.name)
        checkpoints = self.folder.folder("checkpoints") / trial.name
        resumed = checkpoints.is_dir()
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
            model = self.experiment.train(trial)
            measured = self._store(trial, model)
        # Times before scores: a trial in metrics.json is complete, and never run again.
        self.folder.write(TIMING, {
            **self.folder.read(TIMING),
            trial.name: {"cpu_seconds": round(time.process_time() - cpu, 1),
                         "wall_seconds": round(time.monotonic() - wall, 1), "resumed": resumed,
                         **({"measured": plain_values(measured)} if measured else {})},
        })  # fmt: skip
        self.folder.write(METRICS, self.metrics)

    def _store(self, trial: Trial, model: Any) -> Mapping[str, float]:
        """Score a trained model, and write it with its predictions and plots."""
        scored = self.experiment.score(model, trial)
        model_folder = self.folder.path / "model"
        if len(self.experiment.trials) > 1:
            model_folder = self.folder.folder("model") / trial.name
        with write_whole_folder(model_folder, force=True, marker=CONFIG) as temporary:
            model.save(temporary)
        self._store_predictions(trial, scored)
        if trial.seed == self.recipe.seeds[0]:
            with write_whole(self.folder.folder("plots") / f"{trial.name}.png") as path:
                self.experiment.plot(model, trial, path)
        history = model.history_ if isinstance(model.history_, dict) else model.history_.to_table()
        names = ("best_epoch", "best_loss", "steps", "stopped_by", "device")
        self.metrics["trials"][trial.name] = {
            "horizon": trial.horizon, "seed": trial.seed, "split": trial.split,
            "scores": plain_values(scored.scores),
            "training": {"epochs": len(history["epochs"]), **{k: history[k] for k in names}},
        }  # fmt: skip
        return scored.measured

    def _store_predictions(self, trial: Trial, scored: Scored) -> None:
        """Write the predictions, or move the file that holds them into the run's folder."""
        folder, predictions = self.folder.folder("predictions"), scored.predictions
        for name, content in scored.files.items():
            with write_whole(folder / f"{trial.name}-{name}") as path:
                path.write_bytes(content)
        if isinstance(predictions, Path):
            with write_whole(folder / f"{trial.name}{''.join(predictions.suffixes)}") as path:
                shutil.move(predictions, path)
            with suppress(OSError):  # the folder holds other files
                predictions.parent.rmdir()
            return
        with write_whole(folder / f"{trial.name}.parquet") as path:
            predictions.to_parquet(path, index=False)

    def finish(self) -> dict[str, Any]:
        """Write means, verdicts and the report, and mark the run as complete."""
        summary = summarise(self.metrics["trials"].values())
        columns = self.experiment.columns
        main = self.card.main_metric
        self.metrics |= {
            "metric": main if main in columns else columns[0],
            "columns": list(columns),
            "summary": summary,
            "verdicts": list(verdicts(self.recipe, summary["mean"])),
            "complete": True,
        }
        self.folder.write(METRICS, self.metrics)
        broadcast_from_rank0(self._write_report)
        trials = len(self.experiment.trials)
        done = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "trials": trials}
        self.folder.write(DONE, done)
        return self.folder.read(METRICS)

    def _write_report(self) -> None:
        """Write the scores beside published figures."""
        comparison = compare_run(self.card, self.folder.path)
        write_comparison([comparison], self.folder.path / "report.md")
        write_comparison([comparison], self.folder.folder("plots") / "comparison.png")

    def record_environment(self) -> None:
        """Write the environment; warn if the run began in a different one."""
        now = environment(self.recipe)
        before = self.folder.read(ENVIRONMENT)
        for name in _COMPARED_ENVIRONMENT:
            if name in before and before[name] != now[name]:
                _logger.warning(
                    "%s: %s was %s, now it is %s: scores may differ in their last digits from "
                    "those of an uninterrupted run",
                    self.folder.path, name, before[name], now[name],
                )  # fmt: skip
        if before:
            before["resumed"] = [*before.get("resumed", []), now]
        self.folder.write(ENVIRONMENT, before or now)


def environment(recipe: RecipeCard) -> dict[str, Any]:
    """Return versions, machine and settings that scores may depend on, as plain values."""
    import torch

    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": versions,
        "machine": {"platform": platform.platform(), "processor": platform.machine(),
                    "instructions": torch.backends.cpu.get_cpu_capability(), "gpus": devices},
        "threads": torch.get_num_threads(),
        "processes": world().size,
        "compiled_memory": kernels.library() is not None,
        "seeds": list(recipe.seeds),
        "command": sys.argv,
    }  # fmt: skip


def _user_file(file: Mapping[str, Any]) -> str:
    """Return a label that distinguishes a file of the user's in a table."""
    return f"{Path(file['path']).name}, sha256 {file['sha256'][:12]}"
