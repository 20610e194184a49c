"""Lookup of a recipe's family: its class, its settings and its input files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from titans_seq.evaluation.cards.reading import read_card
from titans_seq.evaluation.cards.recipes import Family, RecipeCard
from titans_seq.evaluation.cards.records import DatasetCard
from titans_seq.evaluation.data.locations import hash_file, stored_file
from titans_seq.evaluation.families.protocol import Experiment, RunInputs
from titans_seq.exceptions import ConfigError, MissingDataError


class _Family(NamedTuple):
    """Import paths of a family, ``module:name``."""

    experiment: str
    """Class that runs it."""

    settings: str
    """Estimator whose parameters a recipe may set, or function that returns all settings with
    their defaults."""


_FURTHER_SETS = ("fine_tune", "train_on")
"""Settings that name a further data set."""

_PACKAGE = "titans_seq.evaluation.families"
_FAMILIES: dict[str, _Family] = {
    "windows": _Family(f"{_PACKAGE}.forecasting:ForecastExperiment",
                       "titans_seq.forecasting:TitansForecaster"),
    "m4": _Family(f"{_PACKAGE}.m4:M4Experiment", "titans_seq.forecasting:TitansForecaster"),
    "next-base": _Family(f"{_PACKAGE}.next_base:NextBaseExperiment",
                         f"{_PACKAGE}.next_base:next_base_settings"),
    "scan": _Family(f"{_PACKAGE}.scan:ScanExperiment", f"{_PACKAGE}.scan:scan_settings"),
    "recall": _Family(f"{_PACKAGE}.recall:RecallExperiment",
                      f"{_PACKAGE}.recall:recall_settings"),
    "bytes": _Family(f"{_PACKAGE}.bytes:ByteExperiment", "titans_seq.language:TitansByteModel"),
    "labels": _Family(f"{_PACKAGE}.classification:ClassificationExperiment",
                      "titans_seq.dna:TitansDNAClassifier"),
}  # fmt: skip

_DEFAULT_FAMILY: dict[str, Family] = {
    "TitansForecaster": "windows",
    "TitansDNAClassifier": "labels",
    "TitansDNALanguage": "next-base",
    "TitansByteModel": "bytes",
    "TitansRecall": "recall",
}


def family_of(recipe: RecipeCard, card: DatasetCard | None = None) -> Family:
    """Return the family of a recipe: the one it names, or the default of its estimator."""
    if recipe.family is not None:
        return recipe.family
    if card is not None and card.competition is not None:
        return "m4"
    return _DEFAULT_FAMILY[recipe.estimator]


def settings_of(recipe: RecipeCard, card: DatasetCard | None = None) -> dict[str, Any]:
    """Return all settings that a recipe may have, with their defaults."""
    source = _load(_FAMILIES[family_of(recipe, card)].settings)
    settings: dict[str, Any] = source().get_params() if isinstance(source, type) else source()
    return settings


def read_inputs(recipe: RecipeCard, folder: Path | None = None) -> RunInputs:
    """Read the data set's card of a recipe, and find and verify the files.

    Parameters
    ----------
    recipe
        Names the data set, and further ones in its settings.
    folder
        Data folder; that of ``TITANS_SEQ_DATA`` if left out.

    Raises
    ------
    ConfigError
        If the recipe has an ``input``, but its data set has files of its own.
    MissingDataError
        If a file is not found.
    DataError
        If a file differs from its card.
    """
    card = read_card(recipe.dataset)
    files = {}
    if recipe.input is not None:
        if card.own is None:
            raise ConfigError(
                f"recipe {recipe.name}: data set {card.name} has files of its own; leave out input"
            )
        path = Path(recipe.input)
        if not path.is_file():
            raise MissingDataError(f"recipe {recipe.name}: there is no file {recipe.input} (input)")
        files[card.own] = hash_file(path)
    files |= {name: stored_file(card, name, folder) for name in card.files if name not in files}
    defaults = settings_of(recipe, card)
    others = {}
    for setting in _FURTHER_SETS:
        name = recipe.settings.get(setting, defaults.get(setting))
        if name:
            other = read_card(name)
            others[name] = RunInputs(
                other, {key: stored_file(other, key, folder) for key in other.files}
            )
    return RunInputs(card, files, others)


def read_experiment(recipe: RecipeCard, inputs: RunInputs) -> Experiment:
    """Read the data of a recipe.

    Raises
    ------
    ConfigError
        If recipe and card do not match.
    DataError
        If the data cannot be used.
    """
    family = family_of(recipe, inputs.card)
    if "grouped" in recipe.splits and family != "labels":
        raise ConfigError(
            f"recipe {recipe.name}: a grouped split is only possible for labelled sequences"
        )
    if recipe.horizons and family != "windows":
        raise ConfigError(
            f"recipe {recipe.name}: horizons are only possible for forecasts by windows"
        )
    experiment: Experiment = _load(_FAMILIES[family].experiment)(recipe, inputs)
    return experiment


def _load(path: str) -> Any:
    """Import ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
