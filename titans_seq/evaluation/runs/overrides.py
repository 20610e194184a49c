"""Overrides of settings, ``name=value`` on the command line, checked against their defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from titans_seq.config import record_from_table, table_from_record, unknown_key_error
from titans_seq.evaluation.cards.recipes import RecipeCard
from titans_seq.evaluation.families.registry import settings_of
from titans_seq.exceptions import ConfigError

_RECIPE_FIELDS = ("seeds", "horizons", "splits", "input", "max_steps")
"""Fields of a recipe that can be overridden; other names are settings."""

_CARD_PARAMETERS = ("id_col", "time_col", "target_col", "random_state")
"""Parameters of an estimator that come from the data set's card, or from ``seeds``."""


def read_settings(overrides: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Parse overrides such as ``dim=64``.

    Parameters
    ----------
    overrides
        ``name=value`` each, the value in TOML; what is not TOML is taken as a string.
    known
        Settable names with their defaults: a value must have the type of its default, unless that
        is None.

    Raises
    ------
    ConfigError
        If a name is unknown (the nearest is suggested), or a value has another type.
    """
    settings = {}
    for entry in overrides:
        name, equals, text = (part.strip() for part in entry.partition("="))
        if not equals:
            raise ConfigError(f"-s {entry}: write NAME=VALUE")
        if name not in known:
            raise unknown_key_error(name, known, f"-s {entry}")
        value, default = _parse_value(text), known[name]
        # TOML has no tuples, and integers are valid where a float is expected.
        sequence = (list, tuple)
        types = {float: (int, float), list: sequence, tuple: sequence}.get(
            type(default), (type(default),)
        )
        if default is not None and not isinstance(value, types):
            expected = type(default).__name__
            raise ConfigError(f"-s {entry}: {name} must be of type {expected}, got {value!r}")
        settings[name] = value
    return settings


def override(recipe: RecipeCard, overrides: Sequence[str], where: str) -> RecipeCard:
    """Return a recipe with some of its settings changed.

    Parameters
    ----------
    recipe
        Recipe to change.
    overrides
        As for :func:`read_settings`: ``seeds``, ``horizons``, ``splits``, ``input``,
        ``max_steps``, or a parameter of the estimator.
    where
        Name of the recipe in errors.

    Raises
    ------
    ConfigError
        If an override, or the changed recipe, is invalid.
    """
    parameters = settings_of(recipe)
    check_recipe_settings(recipe, where)
    own = {field.name: None for field in fields(RecipeCard) if field.name in _RECIPE_FIELDS}
    settable = {name: value for name, value in parameters.items() if name not in _CARD_PARAMETERS}
    changes = read_settings(overrides, {**own, **settable})
    table = table_from_record(recipe)
    table |= {name: changes.pop(name) for name in _RECIPE_FIELDS if name in changes}
    table["settings"] = {**recipe.settings, **changes}
    if "horizon" in changes and recipe.horizons:
        raise ConfigError(
            f"-s horizon={changes['horizon']}: this recipe has several; set horizons instead"
        )
    changed = record_from_table(RecipeCard, table, where)
    return with_input(changed, changed.input)


def check_recipe_settings(recipe: RecipeCard, where: str) -> None:
    """Refuse settings that the estimator does not have, or that come from the card."""
    known = [name for name in settings_of(recipe) if name not in _CARD_PARAMETERS]
    for name in recipe.settings:
        if name not in known:
            raise unknown_key_error(name, known, f"{where}, settings")


def with_steps(recipe: RecipeCard, max_steps: int | None) -> RecipeCard:
    """Return a recipe with a limit of optimizer steps; None changes nothing."""
    return recipe if max_steps is None else replace(recipe, max_steps=max_steps)


def with_input(recipe: RecipeCard, path: str | os.PathLike[str] | None) -> RecipeCard:
    """Return a recipe that reads a file of the user's; None changes nothing.

    The absolute path is stored, so that the run can be repeated from another folder.
    """
    return recipe if path is None else replace(recipe, input=str(Path(path).absolute()))


def _parse_value(text: str) -> Any:
    """Return a TOML value, or the text itself if it is not TOML."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
