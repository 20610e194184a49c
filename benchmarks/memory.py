"""Measure the memory layer's speed and memory against other implementations, and the floor.

    python benchmarks/memory.py [--quick] [--peer-python PYTHON] [--out FILE]

The peers come with `pip install titans-seq[bench]`; one that is missing is noted and left
out. Each cell is a process of its own with one thread; the subjects of one shape are timed in
turn, and a ratio is the median over turns. The file of results is written after every group
of cells; a second run goes on where the first stopped. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from memory_cells.cells import MODES, SUBJECTS, Grid, Group, large_grid
from memory_cells.claims import check
from memory_cells.machine import environment, most_of_the_memory
from memory_cells.running import Settings, run_group
from memory_cells.table import HEADINGS, claim_lines, row, whole_table

from titans_seq.files import write_json

HOPELESS = ("too slow", "out of memory", "process ended")
"""What a cell may die of that a longer sequence would die of too."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    home = Path(__file__).parent
    add = parser.add_argument
    add("--out", type=Path, default=home / "results" / "memory-cpu.json")
    add("--fresh", action="store_true", help="measure again what the file already holds")
    add("--peer-python", default=sys.executable, help="interpreter that the peers run in")
    add("--dim", type=int, default=128)
    add("--heads", type=int, default=4)
    add("--depths", type=int, nargs="+", default=[1, 2])
    add("--chunks", type=int, nargs="+", default=[16, 64])
    add("--batches", type=int, nargs="+", default=[1, 8])
    add("--times", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    add("--modes", nargs="+", choices=MODES, default=list(MODES))
    add("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    add("--decode-time", type=int, default=128, help="tokens a call of a decode cell reads")
    add("--large", choices=("with", "only", "without"), default="with",
        help="the cells of dim 512, heads 8, depth 2, chunk 64, batch 8, T 4096")  # fmt: skip
    add("--quick", action="store_true", help="T 256 and 1024, two short turns, no large cells")
    add("--rounds", type=int, default=5, help="turns that count, a subject")
    add("--turn", type=float, default=0.25, help="least seconds of a turn")
    add("--budget", type=float, default=60.0, help="seconds after which a subject's turns end")
    add("--limit", type=float, default=300.0, help="seconds after which one turn is given up")
    add("--memory-limit", type=int, default=most_of_the_memory(), help="MB a process may take")
    add("--clock", choices=("wall", "cpu"), default="wall",
        help="cpu: processor's time, for a machine that others use too")  # fmt: skip
    add("--seed", type=int, default=0)
    words = parser.parse_args()
    if words.quick:
        words.times, words.rounds, words.turn, words.large = [256, 1024], 2, 0.1, "without"
    return words


def wanted_groups(words: argparse.Namespace) -> Iterable[Group]:
    """Return the groups of cells that the command line asks for."""
    grid = Grid(
        dim=words.dim, heads=words.heads, depths=tuple(words.depths),
        chunks=tuple(words.chunks), batches=tuple(words.batches), times=tuple(words.times),
        modes=tuple(words.modes), subjects=tuple(words.subjects), decode_time=words.decode_time,
    )  # fmt: skip
    large = [one for one in words.subjects if one == "ours-titans"]
    groups: list[Iterable[Group]] = []
    if words.large != "only":
        groups.append(grid.groups())
    if words.large != "without" and large:
        groups.append(large_grid(tuple(large), words.modes).groups())
    return chain(*groups)


def surroundings(words: argparse.Namespace) -> dict[str, Any]:
    """Return where and how the cells are measured."""
    names = ("torch", "titans-pytorch", "titans-unofficial", "fla-core", "triton")
    ask = (
        "import json, sys, importlib.metadata as m\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({one: have.get(one) for one in sys.argv[1:]}))"
    )
    worker = subprocess.run(
        [words.peer_python, "-c", ask, *names], capture_output=True, text=True, check=True
    )
    peers = {"peers": json.loads(worker.stdout)}
    choices = {"threads": 1, "dtype": "float32", "clock": words.clock, "seed": words.seed}
    return environment() | peers | choices


def load(path: Path, here: dict[str, Any], fresh: bool) -> dict[str, dict[str, Any]]:
    """Return the cells that a file of results holds, by key.

    Raises
    ------
    SystemExit
        If they were measured on another machine, with another torch or by another clock.
    """
    if fresh or not path.exists():
        return {}
    held = json.loads(path.read_text("utf-8"))
    for name in ("processor", "torch", "clock"):
        if held["environment"][name] != here[name]:
            raise SystemExit(
                f"{path}: measured with {name} {held['environment'][name]!r}, here is "
                f"{here[name]!r}; name another --out, or --fresh to replace it"
            )
    return {cell["key"]: cell for cell in held["cells"]}


def save(path: Path, here: dict[str, Any], cells: dict[str, dict[str, Any]]) -> None:
    """Write the file of results whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"environment": here, "cells": list(cells.values()), "claims": check(cells)}
    write_json(path, table)


def is_done(cell: dict[str, Any] | None) -> bool:
    """Tell whether a cell need not be measured; another error may have been mended since."""
    return cell is not None and cell["status"].startswith(("ok", *HOPELESS))


def without_hope(group: Group, subject: str, cells: dict[str, dict[str, Any]]) -> str | None:
    """Return the status of a subject that has died on a shorter sequence of the same kind."""
    for cell in cells.values():
        shorter = dict(group.sizes(), time=cell["time"])
        alike = all(cell[name] == value for name, value in shorter.items())
        same = (cell["subject"], cell["mode"]) == (subject, group.mode)
        shorter_failed = cell["time"] < group.shape.time and cell["status"].startswith(HOPELESS)
        if alike and same and shorter_failed:
            return f"{cell['status']} (at T={cell['time']})"
    return None


def measure(group: Group, settings: Settings, cells: dict[str, dict[str, Any]]) -> None:
    """Run a group's cells into ``cells``, but for those that have no hope."""
    hopes = {one: without_hope(group, one, cells) for one in group.subjects}
    able = tuple(one for one, status in hopes.items() if status is None)
    for record in run_group(dataclasses.replace(group, subjects=able), settings):
        cells[record["key"]] = record
    for one, status in hopes.items():
        if status is not None:
            cells[group.key(one)] = {
                "key": group.key(one), "subject": one, "mode": group.mode, **group.sizes(),
                "status": status,
            }  # fmt: skip


def main() -> None:
    """Measure what is missing, write it, print the table and the claims."""
    words = arguments()
    here = surroundings(words)
    cells = load(words.out, here, words.fresh)
    settings = Settings(
        seed=words.seed, rounds=words.rounds, turn=words.turn, budget=words.budget,
        limit=words.limit, memory_limit=words.memory_limit, peer_python=words.peer_python,
        clock=words.clock,
    )  # fmt: skip
    print(HEADINGS, file=sys.stderr)
    for group in wanted_groups(words):
        if all(is_done(cells.get(group.key(one))) for one in group.subjects):
            continue
        measure(group, settings, cells)
        save(words.out, here, cells)
        for one in group.subjects:
            if one.startswith("ours"):
                print(row(cells[group.key(one)], cells), file=sys.stderr, flush=True)
    print(whole_table(cells))
    print()
    print(claim_lines(check(cells)))


if __name__ == "__main__":
    main()
