"""Finds the family of a recipe: its module, its settings, its files."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.recipes import Family, RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.data.locations import data_path
from titans_seq.evaluation.families.protocol import Head
from titans_seq.exceptions import ConfigError, MissingDataError


class _Home(NamedTuple):
    """Where a family is found, as ``module:name``."""

    head: str
    """The class that runs it."""

    settings: str
    """The estimator whose parameters a recipe may set, or a function that returns them all with
    their defaults."""


OTHER_SETS = ("fine_tune", "train_on")
"""Settings that name a further data set."""

_ROOM = "titans_seq.evaluation.families"
_HOMES: dict[str, _Home] = {
    "windows": _Home(f"{_ROOM}.forecasting:ForecastHead",
                     "titans_seq.forecasting:TitansForecaster"),
    "m4": _Home(f"{_ROOM}.m4:M4Head", "titans_seq.forecasting:TitansForecaster"),
    "next-base": _Home(f"{_ROOM}.next_base:NextBaseHead", f"{_ROOM}.next_base:settings"),
    "scan": _Home(f"{_ROOM}.scan:ScanHead", f"{_ROOM}.scan:settings"),
    "recall": _Home(f"{_ROOM}.recall:RecallHead", f"{_ROOM}.recall:settings"),
    "bytes": _Home(f"{_ROOM}.bytes:ByteHead", "titans_seq.language:TitansByteModel"),
    "labels": _Home(f"{_ROOM}.classification:DNAHead", "titans_seq.dna:TitansDNAClassifier"),
}  # fmt: skip

_USUAL: dict[str, Family] = {
    "TitansForecaster": "windows",
    "TitansDNAClassifier": "labels",
    "TitansDNALanguage": "next-base",
    "TitansByteModel": "bytes",
    "TitansRecall": "recall",
}


def family_of(recipe: RecipeCard, card: DatasetCard | None = None) -> Family:
    """Return the family of a recipe: the one it names, or the usual one of its estimator."""
    if recipe.family is not None:
        return recipe.family
    if card is not None and card.competition is not None:
        return "m4"
    return _USUAL[recipe.estimator]


def settings_of(recipe: RecipeCard, card: DatasetCard | None = None) -> dict[str, Any]:
    """Return the names that a recipe's settings may have, with their defaults."""
    found = _load(_HOMES[family_of(recipe, card)].settings)
    known: dict[str, Any] = found().get_params() if isinstance(found, type) else found()
    return known


def read_head(recipe: RecipeCard, card: DatasetCard, folder: Path | None = None) -> Head:
    """Read the data of a recipe.

    Parameters
    ----------
    recipe, card
        What to train, and on what.
    folder
        Data folder; that of ``TITANS_SEQ_DATA`` if left out.

    Raises
    ------
    ConfigError
        If recipe and card do not fit.
    MissingDataError
        If a file is nowhere.
    DataError
        If a file is not the one on the card.
    """
    family = family_of(recipe, card)
    if "grouped" in recipe.splits and family != "labels":
        raise ConfigError(f"recipe {recipe.name}: only labelled sequences can be split grouped")
    if recipe.horizons and family != "windows":
        raise ConfigError(f"recipe {recipe.name}: horizons are for forecasts by windows only")
    head: Head = _load(_HOMES[family].head)(recipe, card, recipe_files(recipe, card, folder))
    return head


def recipe_files(
    recipe: RecipeCard, card: DatasetCard, folder: Path | None = None
) -> dict[str, Path]:
    """Return where the files lie that a recipe reads, by their name in the card.

    Those of a further data set, which a setting names, are called ``set/name``.

    Raises
    ------
    ConfigError
        If the recipe brings a file, but its data set has its own.
    MissingDataError
        If a file is nowhere.
    DataError
        If a file is not the one on the card.
    """
    found: dict[str, Path] = {}
    if recipe.input is not None:
        if card.own is None:
            raise ConfigError(
                f"recipe {recipe.name}: data set {card.name} has files of its own; leave out input"
            )
        found[card.own] = Path(recipe.input)
        if not found[card.own].is_file():
            raise MissingDataError(f"recipe {recipe.name}: there is no file {recipe.input} (input)")
    found |= {name: data_path(card, name, folder) for name in card.files if name not in found}
    known = settings_of(recipe, card)
    for key in OTHER_SETS:
        other = recipe.settings.get(key, known.get(key))
        if other:
            further = read_card(other)
            files = {f"{other}/{name}": data_path(further, name, folder) for name in further.files}
            found |= files
    return found


def files_of(name: str, files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of a further data set, by their name in its card."""
    head = f"{name}/"
    return {key.removeprefix(head): path for key, path in files.items() if key.startswith(head)}


def _load(place: str) -> Any:
    """Return what stands at ``module:name``."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
