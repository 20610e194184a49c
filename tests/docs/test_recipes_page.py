"""The page on recipes: the recipes, settings and families that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from titans_seq.evaluation.cards.reading import list_cards, read_recipe
from titans_seq.evaluation.runs.overrides import override


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "recipes.md").read_text("utf-8")


def test_the_recipes_that_are_named_exist(page: str) -> None:
    table = page[page.index("| recipe | what it does") : page.index("All take")]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    names = {name for cell in first_cells for name in re.findall(r"`([a-z0-9_*]+)`", cell)}
    known = list_cards("recipes")
    for name in names:
        pattern = re.compile(name.replace("*", ".*"))
        assert any(pattern.fullmatch(recipe) for recipe in known), name


def test_the_settings_that_commands_change_exist(page: str) -> None:
    commands = re.findall(r"^titans-seq recipe run (\S+)(.*)$", page, flags=re.MULTILINE)
    assert len(commands) >= 8
    for name, rest in commands:
        if name in list_cards("recipes"):
            assignments = re.findall(r"-s (\S+=\S+)", rest)
            override(read_recipe(name), assignments, name)


def test_every_family_has_a_recipe(page: str) -> None:
    from titans_seq.evaluation.cards.reading import read_card
    from titans_seq.evaluation.cards.recipes import Family
    from titans_seq.evaluation.families.registry import family_of

    recipes = map(read_recipe, list_cards("recipes"))
    covered = {family_of(recipe, read_card(recipe.dataset)) for recipe in recipes}
    assert covered == set(Family.__args__)
