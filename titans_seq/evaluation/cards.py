"""Reads the cards of data sets and recipes, and finds the files that they describe.

A card is a TOML file that holds no code: ``datasets/NAME.toml`` says where data come from, what
their columns mean and how they are split; ``recipes/NAME.toml`` says how a model is trained on
them and what to expect. The reader is strict: a key it does not know is an error.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from titans_seq.config import record_from_table, unknown_key_error
from titans_seq.evaluation.splits import Split
from titans_seq.exceptions import ConfigError, DataError, MissingDataError

Kind = Literal["datasets", "recipes"]
Record = TypeVar("Record")

DATA_VARIABLE = "TITANS_SEQ_DATA"
"""Environment variable that names the folder of data files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One file of a data set."""

    path: str
    """Where it lies, relative to the data folder or, for embedded sets, to the cards."""

    sha256: str
    """Digest of the file as it is stored."""

    rows: int
    """Rows of a table without its header, or records of a FASTA file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What the columns of a table of time series mean."""

    id: str
    """Name of the series a row belongs to."""

    time: str
    """Time stamp of the row."""

    target: str
    """What is to be forecast."""

    static: tuple[str, ...] = ()
    """Constant within a series."""

    past: tuple[str, ...] = ()
    """Known only afterwards."""

    future: tuple[str, ...] = ()
    """Known ahead."""

    other: tuple[str, ...] = ()
    """For reference; not given to a model."""

    season: int | None = None
    """Rows of a season, for the seasonal naive control; chosen in the train rows if left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One figure that somebody reached on the data set."""

    model: str
    """What was scored."""

    metric: str
    """Name of the figure, as our own tables call it."""

    value: float
    """The figure."""

    source: str
    """Where it is published, or how it was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetCard:
    """Everything that must be known of a data set before it is used."""

    name: str
    """The card's own name, that of its file."""

    task: Literal["forecasting", "classification"]
    """Which head it is for."""

    summary: str
    """One or two sentences."""

    source: str
    """Who made it, and where it was taken from."""

    url: str
    """Page of that source."""

    licence: str
    """Terms of use, an SPDX name where there is one."""

    citation: str
    """What to cite."""

    split_rule: str
    """How train and test are told apart, in words."""

    files: dict[str, DataFile]
    """Files by what they are for, such as ``train`` and ``test``."""

    built_by: str | None = None
    """Script of the repository that makes the files from the source."""

    columns: Columns | None = None
    """Roles of the columns of a table of time series."""

    split: Split | None = None
    """Borders by rows, where one file holds all parts."""

    results: tuple[Result, ...] = ()
    """Figures to compare with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeCard:
    """One benchmark run: every setting that is not a default, and what to expect."""

    name: str
    """The card's own name, that of its file."""

    summary: str
    """One sentence."""

    dataset: str
    """Name of a data set's card."""

    estimator: Literal["TitansForecaster", "TitansDNAClassifier"]
    """Class that is trained."""

    seed: int
    """``random_state`` of the estimator."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the estimator, apart from column names, which the data set's card has."""

    expect: dict[str, dict[str, float]] = field(default_factory=dict)
    """By metric, ``at_most`` or ``at_least``: what every run must reach."""


def card_folder(kind: Kind) -> Path:
    """Return the folder of cards: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("titans_seq")))
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def list_cards(kind: Kind = "datasets") -> list[str]:
    """Return the names of all cards of a kind, in the order of the alphabet."""
    return sorted(path.stem for path in card_folder(kind).glob("*.toml"))


def read_card(name: str) -> DatasetCard:
    """Return the card of a data set.

    Raises
    ------
    ConfigError
        If there is no such card, or it is not as it should be.
    """
    return parse_dataset(_load("datasets", name), f"datasets/{name}.toml")


def read_recipe(name: str) -> RecipeCard:
    """Return a recipe.

    Raises
    ------
    ConfigError
        If there is no such card, or it is not as it should be.
    """
    return parse_recipe(_load("recipes", name), f"recipes/{name}.toml")


def parse_dataset(table: Mapping[str, Any], where: str) -> DatasetCard:
    """Return the card that a TOML table describes; ``where`` names it in an error."""
    values = dict(table)
    described = _subtable(values, "files", where)
    values["files"] = {
        name: record_from_table(DataFile, _subtable(described, name, f"{where}, files"),
                                f"{where}, files.{name}")
        for name in described
    }  # fmt: skip
    for key, record in (("columns", Columns), ("split", Split)):
        if key in values:
            values[key] = record_from_table(
                record, _subtable(values, key, where), f"{where}, {key}"
            )
    if "results" in values:
        values["results"] = tuple(
            record_from_table(Result, one, f"{where}, results {number}")
            for number, one in enumerate(values["results"], start=1)
        )
    return _named(record_from_table(DatasetCard, values, where), where)


def parse_recipe(table: Mapping[str, Any], where: str) -> RecipeCard:
    """Return the recipe that a TOML table describes; ``where`` names it in an error."""
    card = _named(record_from_table(RecipeCard, table, where), where)
    for metric, bounds in card.expect.items():
        for bound in bounds:
            if bound not in ("at_least", "at_most"):
                raise unknown_key_error(bound, ("at_least", "at_most"), f"{where}, expect.{metric}")
    return card


def data_path(card: DatasetCard, file: str, folder: Path | None = None) -> Path:
    """Return where one file of a data set lies, after comparing its digest with the card.

    Parameters
    ----------
    card
        Card of the data set.
    file
        Name of the file in the card, such as ``train``.
    folder
        Data folder; that of ``TITANS_SEQ_DATA`` if left out. Embedded files are found without.

    Raises
    ------
    ConfigError
        If the card has no such file.
    MissingDataError
        If the file is in neither place.
    DataError
        If the file is not the one that the card describes.
    """
    if file not in card.files:
        raise unknown_key_error(file, card.files, f"files of data set {card.name}")
    described = card.files[file]
    if folder is None and os.environ.get(DATA_VARIABLE):
        folder = Path(os.environ[DATA_VARIABLE])
    places = [] if folder is None else [folder / described.path]
    places.append(card_folder("datasets") / described.path)
    for path in places:
        if path.is_file():
            _compare_digest(path, described.sha256)
            return path
    raise MissingDataError(
        f"data set {card.name}: no file {described.path}, looked for "
        f"{' and '.join(map(str, places))}; set {DATA_VARIABLE} to the folder that holds it"
    )


def _compare_digest(path: Path, expected: str) -> None:
    """Refuse a file that is not the one on the card."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise DataError(f"{path}: sha256 is {found}, its card says {expected}; fetch it again")


def _load(kind: Kind, name: str) -> dict[str, Any]:
    """Return the table of a card's file."""
    path = card_folder(kind) / f"{name}.toml"
    if not path.is_file():
        raise unknown_key_error(name, list_cards(kind), f"cards in {card_folder(kind)}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error


def _subtable(table: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """Return the table under ``key``."""
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {key} = {found!r} must be a table, [{key}]")
    return found


def _named(card: Record, where: str) -> Record:
    """Return the card if its name is that of its file."""
    name = getattr(card, "name", None)
    if name != Path(where).stem:
        raise ConfigError(f"{where}: name = {name!r}, but the file is called {Path(where).stem!r}")
    return card
