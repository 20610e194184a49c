"""The folder of a recipe's run: what was run, on what, with what, and what came of it.

::

    recipe.toml        the recipe as it was run; running it again repeats the run
    environment.json   versions, machine, threads, form of the memory, command
    data.json          files with their digests, borders of the parts
    metrics.jsonl      one line an epoch
    metrics.json       scores of every training and control, and their means
    checkpoints/       what a training needs to go on, one folder a training
    model/             the trained models, one folder each if there are several
    predictions/       answers on the test part
    plots/             pictures
    report.md          ours beside published figures
    timing.json        CPU and wall time of each training
    DONE               written last

Each file is written whole or not at all, so that a run may be killed at any moment. Of several
processes that share a run only the first looks at its folder, and tells the others.
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

_HALF_WRITTEN = re.compile(r"\.(?:[0-9a-f]{8}\..+|.+\.[0-9a-f]{8})")
"""Temporary names of :mod:`titans_seq.files`."""


class RunFolder:
    """One run on the disk.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def begin(self, recipe: RecipeCard, *, resume: bool, force: bool) -> bool:
        """Make the folder, or go on in it; tell whether the run is complete already.

        Raises
        ------
        ConfigError
            If something else stands there, or a run does, and neither ``resume`` nor ``force``
            was given, or the run that stands there is of another recipe.
        """
        return broadcast_from_rank0(lambda: self._begin(recipe, resume=resume, force=force))

    def _begin(self, recipe: RecipeCard, *, resume: bool, force: bool) -> bool:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; name a folder for the run")
        holds = self.path.is_dir() and any(self.path.iterdir())
        known = (self.path / RECIPE).is_file()
        if holds and not known and not self._hardly_begun():
            raise ConfigError(f"{self.path} holds other files (no {RECIPE}); name a new folder")
        if known and not (resume or force):
            raise ConfigError(
                f"{self.path} holds a run already: --resume goes on with it, --force replaces it"
            )
        if force and holds and not resume:
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._clear()
        if (self.path / RECIPE).is_file():
            self._compare(recipe)
        else:
            self._write_recipe(recipe)
        return (self.path / DONE).is_file()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse to write where another process is writing; a killed one no longer is.

        Raises
        ------
        ConfigError
            If there is one.
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
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"{self.path}: another process is at this run") from None
            yield
        finally:
            os.close(descriptor)

    def read(self, name: str) -> dict[str, Any]:
        """Return a file of JSON as the first process finds it, to all of them alike."""
        return broadcast_from_rank0(lambda: self.look(name))

    def look(self, name: str) -> dict[str, Any]:
        """Return a file of JSON as this process finds it; nothing if it is not there yet.

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
            raise ConfigError(f"{path} is damaged ({error}); run anew with --force") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{path} is damaged: no table; run anew with --force")
        return value

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of JSON."""
        write_json(self.path / name, value)

    def note_data(self, value: Mapping[str, Any]) -> None:
        """Write what the run is on.

        Raises
        ------
        DataError
            If the part of the run that is done was on something else.
        """
        before = self.read(DATA)
        now: dict[str, Any] = json.loads(json.dumps(value))
        for name, file in before.get("files", {}).items():
            if file["sha256"] != now["files"].get(name, {}).get("sha256"):
                raise DataError(f"{file['path']} has changed since {self.path} was begun")
        if before and before["parts"] != now["parts"]:
            raise DataError(f"{self.path / DATA}: train and test part have changed since")
        self.write(DATA, value)

    def keep_epochs(self, trial: str, records: list[dict[str, Any]]) -> None:
        """Write the epochs of one training, in place of what was known of it."""
        path = self.path / EPOCHS
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        lines = [line for line in lines if json.loads(line)["trial"] != trial]
        lines += [json.dumps({"trial": trial, **record}) for record in records]
        with write_whole(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def folder(self, name: str) -> Path:
        """Return a folder in the run, made if need be."""
        path = self.path / name
        if is_first():
            path.mkdir(exist_ok=True)
        return path

    def _hardly_begun(self) -> bool:
        """Tell whether a run was killed before it wrote what it is."""
        return all(_HALF_WRITTEN.fullmatch(path.name) for path in self.path.iterdir())

    def _clear(self) -> None:
        """Remove what a killed run left half-written."""
        for path in sorted(self.path.rglob(".*")):
            if _HALF_WRITTEN.fullmatch(path.name):
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

    def _compare(self, recipe: RecipeCard) -> None:
        """Refuse to go on with another recipe than the run began with."""
        path = self.path / RECIPE
        before, now = plain_recipe(read_recipe_file(path)), plain_recipe(recipe)
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"{path}: the run began with {name} = {before.get(name)!r}, now it is "
                    f"{now.get(name)!r}; go on with the same recipe, or name another folder"
                )


def read_recipe_file(path: Path) -> RecipeCard:
    """Return the recipe of a file that may have any name.

    Raises
    ------
    ConfigError
        If it is not as it should be.
    """
    table = read_toml(path)
    name = str(table.get("name", path.stem))
    recipe = parse_recipe({**table, "name": path.stem}, str(path))
    return parse_recipe({**table_from_record(recipe), "name": name}, f"{name}.toml")


def plain_recipe(recipe: RecipeCard) -> dict[str, Any]:
    """Return a recipe as TOML can hold it: without what is not set."""
    table = json.loads(json.dumps(table_from_record(recipe)))
    return {key: value for key, value in table.items() if value is not None and value != {}}
