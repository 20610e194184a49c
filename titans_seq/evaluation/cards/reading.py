"""Readers of data set and recipe cards.

A card is a TOML file without code: ``datasets/NAME.toml`` describes the source, the columns and the
split of a data set; ``recipes/NAME.toml`` how a model is trained on it and the expected scores.
Reading is strict: an unknown key is an error.
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

CardKind = Literal["datasets", "recipes"]
_RecordT = TypeVar("_RecordT")


def card_folder(kind: CardKind) -> Path:
    """Return the folder of cards: in the installed package, or beside it in a checkout."""
    package = Path(str(files("titans_seq")))
    installed = package / kind
    return installed if installed.is_dir() else package.parent / kind


def list_cards(kind: CardKind = "datasets") -> list[str]:
    """Return the names of all cards of a kind, sorted."""
    return sorted(path.stem for path in card_folder(kind).glob("*.toml"))


def card_path(kind: CardKind, name: str) -> Path:
    """Return the path of a card.

    Raises
    ------
    ConfigError
        If there is no such card; the nearest name is suggested.
    """
    path = card_folder(kind) / f"{name}.toml"
    if name not in list_cards(kind):
        raise unknown_key_error(name, list_cards(kind), f"cards in {card_folder(kind)}")
    return path


def read_card(name: str) -> DatasetCard:
    """Read the card of a data set.

    Raises
    ------
    ConfigError
        If there is no such card, or it is invalid.
    """
    return parse_dataset(read_toml(card_path("datasets", name)), f"datasets/{name}.toml")


def read_recipe(name: str) -> RecipeCard:
    """Read a recipe.

    Raises
    ------
    ConfigError
        If there is no such card, or it is invalid.
    """
    return parse_recipe(read_toml(card_path("recipes", name)), f"recipes/{name}.toml")


def parse_dataset(table: Mapping[str, Any], where: str) -> DatasetCard:
    """Return a data set's card from a TOML table; ``where`` names it in errors."""
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
    card = _check_name(record_from_table(DatasetCard, values, where), where)
    # References between parts of the card, which no part can check by itself.
    if card.own is not None and card.own not in card.files:
        raise unknown_key_error(card.own, card.files, f"{where}, own")
    for name, described in card.files.items():
        if described.made_from is not None and described.made_from not in card.raw:
            raise unknown_key_error(described.made_from, card.raw, f"{where}, files.{name}")
    for number, entry in enumerate(card.intervals, start=1):
        for file in (entry.file, entry.genome):
            if file not in card.files:
                raise unknown_key_error(file, card.files, f"{where}, intervals {number}")
    return card


def parse_recipe(table: Mapping[str, Any], where: str) -> RecipeCard:
    """Return a recipe from a TOML table; ``where`` names it in errors."""
    card = _check_name(record_from_table(RecipeCard, table, where), where)
    for metric in card.expect:
        expectation(card, metric, where)
    return card


def expectation(recipe: RecipeCard, metric: str, where: str) -> Expectation:
    """Return a recipe's expectation of one score.

    Raises
    ------
    ConfigError
        If it is invalid.
    """
    table = _subtable(recipe.expect, metric, f"{where}, expect")
    return record_from_table(Expectation, table, f"{where}, expect.{metric}")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error


def _records(record: type[_RecordT], rows: Any, where: str) -> tuple[_RecordT, ...]:
    """Return the records of an array of tables."""
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ConfigError(f"{where} must be an array of tables, [[{where.rpartition(' ')[2]}]]")
    return tuple(
        record_from_table(record, row, f"{where} {number}")
        for number, row in enumerate(rows, start=1)
    )


def _subtable(table: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """Return the table under ``key``."""
    subtable = table.get(key, {})
    if not isinstance(subtable, dict):
        raise ConfigError(f"{where}: {key} must be a table, [{key}], got {subtable!r}")
    return subtable


def _check_name(card: _RecordT, where: str) -> _RecordT:
    """Return the card, after comparing its name with that of its file."""
    name = getattr(card, "name", None)
    if name != Path(where).stem:
        raise ConfigError(f"{where}: name must be {Path(where).stem!r}, as the file, got {name!r}")
    return card
