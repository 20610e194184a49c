"""Reads the cards of data sets and recipes.

A card is a TOML file that holds no code: ``datasets/NAME.toml`` says where data come from, what
their columns mean and how they are split; ``recipes/NAME.toml`` says how a model is trained on
them and what to expect. The reader is strict: a key it does not know is an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from titans_seq.config import record_from_table, unknown_key_error
from titans_seq.evaluation.cards.recipes import Expectation, RecipeCard
from titans_seq.evaluation.cards.records import (
    Columns,
    Competition,
    DataFile,
    DatasetCard,
    Intervals,
    Result,
)
from titans_seq.evaluation.cards.splits import Split
from titans_seq.exceptions import ConfigError

Kind = Literal["datasets", "recipes"]
Record = TypeVar("Record")


def card_folder(kind: Kind) -> Path:
    """Return the folder of cards: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("titans_seq")))
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def list_cards(kind: Kind = "datasets") -> list[str]:
    """Return the names of all cards of a kind, in the order of the alphabet."""
    return sorted(path.stem for path in card_folder(kind).glob("*.toml"))


def card_path(kind: Kind, name: str) -> Path:
    """Return the file of a card.

    Raises
    ------
    ConfigError
        If there is no such card; the nearest is named.
    """
    path = card_folder(kind) / f"{name}.toml"
    if name not in list_cards(kind):
        raise unknown_key_error(name, list_cards(kind), f"cards in {card_folder(kind)}")
    return path


def read_card(name: str) -> DatasetCard:
    """Return the card of a data set.

    Raises
    ------
    ConfigError
        If there is no such card, or it is not as it should be.
    """
    return parse_dataset(read_toml(card_path("datasets", name)), f"datasets/{name}.toml")


def read_recipe(name: str) -> RecipeCard:
    """Return a recipe.

    Raises
    ------
    ConfigError
        If there is no such card, or it is not as it should be.
    """
    return parse_recipe(read_toml(card_path("recipes", name)), f"recipes/{name}.toml")


def parse_dataset(table: Mapping[str, Any], where: str) -> DatasetCard:
    """Return the card that a TOML table describes; ``where`` names it in an error."""
    values = dict(table)
    for group in ("files", "raw"):
        tables = _subtable(values, group, where)
        values[group] = {
            name: record_from_table(DataFile, _subtable(tables, name, f"{where}, {group}"),
                                    f"{where}, {group}.{name}")
            for name in tables
        }  # fmt: skip
    for key, record in (
        ("columns", Columns), ("split", Split), ("competition", Competition),
    ):  # fmt: skip
        if key in values:
            values[key] = record_from_table(
                record, _subtable(values, key, where), f"{where}, {key}"
            )
    if "results" in values:
        values["results"] = _records(Result, values["results"], f"{where}, results")
    if "intervals" in values:
        values["intervals"] = _records(Intervals, values["intervals"], f"{where}, intervals")
    card = _named(record_from_table(DatasetCard, values, where), where)
    if card.own is not None and card.own not in card.files:
        raise unknown_key_error(card.own, card.files, f"{where}, own")
    for name, described in card.files.items():
        if described.made_from is not None and described.made_from not in card.raw:
            raise unknown_key_error(described.made_from, card.raw, f"{where}, files.{name}")
    for number, one in enumerate(card.intervals, start=1):
        for file in (one.file, one.genome):
            if file not in card.files:
                raise unknown_key_error(file, card.files, f"{where}, intervals {number}")
    return card


def parse_recipe(table: Mapping[str, Any], where: str) -> RecipeCard:
    """Return the recipe that a TOML table describes; ``where`` names it in an error."""
    card = _named(record_from_table(RecipeCard, table, where), where)
    for metric in card.expect:
        expectation(card, metric, where)
    return card


def expectation(recipe: RecipeCard, metric: str, where: str) -> Expectation:
    """Return what a recipe expects of one figure.

    Raises
    ------
    ConfigError
        If that is not as it should be.
    """
    table = _subtable(recipe.expect, metric, f"{where}, expect")
    return record_from_table(Expectation, table, f"{where}, expect.{metric}")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises
    ------
    ConfigError
        If it is none.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error


def _records(record: type[Record], rows: Any, where: str) -> tuple[Record, ...]:
    """Return the records of an array of tables."""
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ConfigError(f"{where} must be an array of tables, [[{where.rpartition(' ')[2]}]]")
    return tuple(
        record_from_table(record, row, f"{where} {number}")
        for number, row in enumerate(rows, start=1)
    )


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
