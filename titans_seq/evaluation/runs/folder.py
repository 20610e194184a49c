"""Folder of a recipe's run: recipe, environment, data, scores, models and plots.

::

    recipe.toml        the recipe as it was run; running this file repeats the run
    environment.json   versions, machine, threads, back end of the memory, command
    data.json          files with their digests, borders of the parts
    metrics.jsonl      one line for each epoch
    metrics.json       scores of every training and control, and their means
    checkpoints/       states to resume from, one folder for each training
    model/             the trained model, or one folder for each of several
    predictions/       predictions of the test part
    plots/             plots
    report.md          scores beside published figures
    timing.json        CPU and wall time of each training
    DONE               written last

Each file is written whole or not at all, so that a run may be killed at any time. Of several
processes that share a run only the first reads its folder, and broadcasts to the others.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from titans_seq.config import table_from_record
from titans_seq.evaluation.cards.reading import parse_recipe, read_toml
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.exceptions import ConfigError, DataError, MissingExtraError
from titans_seq.files import write_json, write_whole
from titans_seq.training import broadcast_from_rank0, is_first

RECIPE, ENVIRONMENT, DATA, EPOCHS, METRICS, TIMING, DONE = (
    "recipe.toml", "environment.json", "data.json", "metrics.jsonl", "metrics.json",
    "timing.json", "DONE",
)  # fmt: skip

_TEMPORARY_NAME = re.compile(r"\.(?:[0-9a-f]{8}\..+|.+\.[0-9a-f]{8})")
"""Temporary names of :mod:`titans_seq.files`."""


class RunFolder:
    """One run on disk.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def begin(self, recipe: RecipeCard, *, resume: bool, force: bool) -> bool:
        """Create the folder, or resume in it; return whether the run is already complete.

        Raises
        ------
        ConfigError
            If the folder holds something else, or a run and neither ``resume`` nor ``force`` is
            given, or a run of another recipe.
        """
        return broadcast_from_rank0(lambda: self._begin(recipe, resume=resume, force=force))

    def _begin(self, recipe: RecipeCard, *, resume: bool, force: bool) -> bool:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; name a folder for the run")
        has_content = self.path.is_dir() and any(self.path.iterdir())
        has_run = (self.path / RECIPE).is_file()
        if has_content and not has_run and not self._killed_at_start():
            raise ConfigError(f"{self.path} holds other files (no {RECIPE}); name a new folder")
        if has_run and not (resume or force):
            raise ConfigError(
                f"{self.path} holds a run already: --resume continues it, --force replaces it"
            )
        # With both options an existing run is resumed, not replaced.
        if force and has_content and not resume:
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._remove_temporary_files()
        if (self.path / RECIPE).is_file():
            self._check_same_recipe(recipe)
        else:
            self._write_recipe(recipe)
        return (self.path / DONE).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold a lock on the folder, which is released even if the process is killed.

        Raises
        ------
        ConfigError
            If another process holds it.
        """
        try:
            import fcntl
        except ImportError:  # no such locks on Windows
            yield
            return
        if not is_first():
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        # A lock on the folder itself leaves no lock file behind, and ends with the process.
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"{self.path}: another process is running in this folder"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON file as the first process reads it, in every process."""
        return broadcast_from_rank0(lambda: self.read_here(name))

    def read_here(self, name: str) -> dict[str, Any]:
        """Return a JSON file as this process reads it; an empty table if there is none yet.

        Raises
        ------
        ConfigError
            If it is damaged.
        """
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            value = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is damaged ({error}); start again with --force") from error
        if not isinstance(value, dict):
            raise ConfigError(
                f"{path} is damaged: expected a JSON object; start again with --force"
            )
        return value

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        write_json(self.path / name, value)

    def record_data(self, value: Mapping[str, Any]) -> None:
        """Write the files and the borders of the data.

        Raises
        ------
        DataError
            If the run began with other data.
        """
        before = self.read(DATA)
        # Through JSON, so that tuples compare equal to the lists that were read.
        now: dict[str, Any] = json.loads(json.dumps(value))
        for name, file in before.get("files", {}).items():
            if file["sha256"] != now["files"].get(name, {}).get("sha256"):
                raise DataError(f"{file['path']} has changed since {self.path} was begun")
        if before and before["parts"] != now["parts"]:
            raise DataError(
                f"{self.path / DATA}: train and test part have changed since the run was begun"
            )
        self.write(DATA, value)

    def keep_epochs(self, trial: str, records: list[dict[str, Any]]) -> None:
        """Write the epochs of one training, replacing its earlier lines."""
        path = self.path / EPOCHS
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        # A resumed training reports all its epochs again.
        lines = [line for line in lines if json.loads(line)["trial"] != trial]
        lines += [json.dumps({"trial": trial, **record}) for record in records]
        with write_whole(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def folder(self, name: str) -> Path:
        """Return a folder in the run, created if necessary."""
        path = self.path / name
        if is_first():
            path.mkdir(exist_ok=True)
        return path

    def _killed_at_start(self) -> bool:
        """Return whether there are only temporary files, of a run killed before its first file."""
        return all(_TEMPORARY_NAME.fullmatch(path.name) for path in self.path.iterdir())

    def _remove_temporary_files(self) -> None:
        """Remove the temporary files of a killed run."""
        for path in sorted(self.path.rglob(".*")):
            if _TEMPORARY_NAME.fullmatch(path.name):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _write_recipe(self, recipe: RecipeCard) -> None:
        try:
            import tomli_w
        except ModuleNotFoundError as error:
            raise MissingExtraError("tomli_w", extra="all") from error
        with write_whole(self.path / RECIPE) as temporary:
            temporary.write_text(tomli_w.dumps(plain_recipe(recipe)), "utf-8")

    def _check_same_recipe(self, recipe: RecipeCard) -> None:
        """Refuse to resume with another recipe than the run began with."""
        path = self.path / RECIPE
        before, now = plain_recipe(read_recipe_file(path)), plain_recipe(recipe)
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"{path}: the run began with {name} = {before.get(name)!r}, now it is "
                    f"{now.get(name)!r}; resume with the same recipe, or name another folder"
                )


def read_recipe_file(path: Path) -> RecipeCard:
    """Return the recipe in a file, whose name may differ from the recipe's.

    Raises
    ------
    ConfigError
        If it is not a valid recipe.
    """
    # Parsed twice: errors name the file, but the card's name is that of the recipe.
    table = read_toml(path)
    name = str(table.get("name", path.stem))
    recipe = parse_recipe({**table, "name": path.stem}, str(path))
    return parse_recipe({**table_from_record(recipe), "name": name}, f"{name}.toml")


def plain_recipe(recipe: RecipeCard) -> dict[str, Any]:
    """Return a recipe as plain values for TOML, without unset fields."""
    table = json.loads(json.dumps(table_from_record(recipe)))
    return {key: value for key, value in table.items() if value is not None and value != {}}
