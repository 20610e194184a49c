"""The order of the house: no import circles, one meaning a name, files and functions of a size."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

LONGEST_FILE = 500
LONGEST_FUNCTION = 80

SHARED_NAMES: dict[str, str] = {}
"""Public names that stand in two files on purpose, and why; five at most."""


def _modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for folder in ("titans_seq", "cli"):
        for path in sorted((root / folder).rglob("*.py")):
            yield str(path.relative_to(root)), ast.parse(path.read_text(encoding="utf-8"))


def _public_names(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            targets = [ast.Name(node.name)]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                yield target.id


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import of the package, those inside functions and for type checkers included."""
    return grimp.build_graph("titans_seq", exclude_type_checking_imports=False, cache_dir=None)


def test_no_imports_run_in_circles(graph: grimp.ImportGraph) -> None:
    circles = {
        package: graph.nominate_cycle_breakers(package)
        for package in sorted(graph.modules)
        if graph.find_children(package)
    }
    assert len(circles) > 20
    assert {package: imports for package, imports in circles.items() if imports} == {}


def test_the_check_for_circles_sees_one() -> None:
    graph = grimp.ImportGraph()
    for name in ("house", "house.below", "house.below.a", "house.above"):
        graph.add_module(name)
    graph.add_import(importer="house.above", imported="house.below")
    assert not graph.nominate_cycle_breakers("house")
    graph.add_import(importer="house.below.a", imported="house.above")
    assert graph.nominate_cycle_breakers("house")


def test_a_public_name_stands_in_one_file(root: Path) -> None:
    files = defaultdict(set)
    for path, module in _modules(root):
        for name in _public_names(module):
            files[name].add(path)
    assert len(files) > 1000
    assert {name for name in files if len(files[name]) > 1} == set(SHARED_NAMES)
    assert len(SHARED_NAMES) <= 5


@pytest.mark.slow
def test_no_file_and_no_function_is_too_long(root: Path) -> None:
    for path, module in _modules(root):
        assert len((root / path).read_text().splitlines()) <= LONGEST_FILE, path
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, (path, node.name)
