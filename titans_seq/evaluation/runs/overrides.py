"""Words ``name=value``, as the command line takes them, to settings of the right type."""

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

OF_THE_RECIPE = ("seeds", "horizons", "splits", "input", "max_steps")
"""What a recipe says itself; all else are parameters of its estimator."""

OF_THE_CARD = ("id_col", "time_col", "target_col", "random_state")
"""Parameters that come from the data set's card, or from ``seeds``."""


def read_settings(words: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that words such as ``dim=64`` say.

    Parameters
    ----------
    words
        ``name=value`` each, the value as TOML writes it; what is no TOML is a text.
    known
        Names that may be set, with their defaults: a value has the type of its default, unless
        that is None.

    Raises
    ------
    ConfigError
        If a name is not known (the nearest is named), or a value has another type.
    """
    found = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not equals:
            raise ConfigError(f"-s {word}: write NAME=VALUE")
        if name not in known:
            raise unknown_key_error(name, known, f"-s {word}")
        value, default = _read_value(text), known[name]
        many = (list, tuple)
        kinds = {float: (int, float), list: many, tuple: many}.get(type(default), (type(default),))
        if default is not None and not isinstance(value, kinds):
            raise ConfigError(f"-s {word}: {name} is of type {type(default).__name__}")
        found[name] = value
    return found


def override(recipe: RecipeCard, words: Sequence[str], where: str) -> RecipeCard:
    """Return a recipe with some of its settings changed.

    Parameters
    ----------
    recipe
        What to change.
    words
        As for :func:`read_settings`: ``seeds``, ``horizons``, ``splits``, ``input``,
        ``max_steps``, or a parameter of the estimator.
    where
        What the recipe is called in an error.

    Raises
    ------
    ConfigError
        If a word, or what comes of it, cannot be.
    """
    parameters = settings_of(recipe)
    check_settings(recipe, where)
    own = {field.name: None for field in fields(RecipeCard) if field.name in OF_THE_RECIPE}
    settable = {name: value for name, value in parameters.items() if name not in OF_THE_CARD}
    changes = read_settings(words, {**own, **settable})
    table = table_from_record(recipe)
    table |= {name: changes.pop(name) for name in OF_THE_RECIPE if name in changes}
    table["settings"] = {**recipe.settings, **changes}
    if "horizon" in changes and recipe.horizons:
        raise ConfigError(f"-s horizon={changes['horizon']}: this recipe has horizons; set those")
    changed = record_from_table(RecipeCard, table, where)
    return with_input(changed, changed.input)


def check_settings(recipe: RecipeCard, where: str) -> None:
    """Refuse settings that the estimator does not have, or that the card has already said."""
    known = [name for name in settings_of(recipe) if name not in OF_THE_CARD]
    for name in recipe.settings:
        if name not in known:
            raise unknown_key_error(name, known, f"{where}, settings")


def with_steps(recipe: RecipeCard, max_steps: int | None) -> RecipeCard:
    """Return a recipe whose trainings take no more steps than that; None changes nothing."""
    return recipe if max_steps is None else replace(recipe, max_steps=max_steps)


def with_input(recipe: RecipeCard, path: str | os.PathLike[str] | None) -> RecipeCard:
    """Return a recipe that reads this file of the user's; None changes nothing.

    The whole path is kept, so that the run can be repeated from elsewhere.
    """
    return recipe if path is None else replace(recipe, input=str(Path(path).absolute()))


def _read_value(text: str) -> Any:
    """Return a value as TOML writes it; what is no TOML is a word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
