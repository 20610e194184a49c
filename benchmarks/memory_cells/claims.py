"""Ratios of cells that were timed in turn, and the claims that they must bear out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from memory_cells.running import ratio

Cell = dict[str, Any]

SIZES = ("mode", "dim", "heads", "depth", "chunk", "batch", "time")


@dataclass(frozen=True, slots=True)
class Claim:
    """A promise about a figure of some cells: ``at_least`` or, if ``below``, less than."""

    text: str
    bound: float
    where: Callable[[Cell], bool]
    """Which of our cells it is about."""
    peer: str = ""
    """Whose seconds are divided by ours; without one, ``field`` is the figure."""
    field: str = ""
    below: bool = False


def _train(chunk: int, batch: int, depth: int | None = None, least: int = 0) -> Any:
    def where(cell: Cell) -> bool:
        sizes = (cell["mode"], cell["chunk"], cell["batch"])
        deep = depth is None or cell["depth"] == depth
        return sizes == ("train", chunk, batch) and deep and cell["time"] >= least

    return where


REFRESH, DEFAULT = "titans-pytorch-refresh", "titans-pytorch-default"

CLAIMS = (
    Claim("train, chunk 16, batch 1, T >= 1024: over titans-pytorch, same gradient point",
          5.0, _train(16, 1, least=1024), REFRESH),
    Claim("train, chunk 16, batch 8, T >= 1024: over titans-pytorch, same gradient point",
          3.0, _train(16, 8, least=1024), REFRESH),
    Claim("train, chunk 64, batch 1, depth 2: over titans-pytorch, same gradient point",
          2.5, _train(64, 1, 2), REFRESH),
    Claim("train, chunk 64, batch 8, depth 2: over titans-pytorch, same gradient point",
          1.7, _train(64, 8, 2), REFRESH),
    Claim("train, chunk 64, batch 1, depth 1: over titans-pytorch, same gradient point",
          1.0, _train(64, 1, 1), REFRESH),
    Claim("train, chunk 64, batch 8, depth 1: over titans-pytorch, same gradient point",
          1.0, _train(64, 8, 1), REFRESH),
    Claim("forward, depth 2: over titans-pytorch's default, gradient at the first weights",
          1.0, lambda cell: (cell["mode"], cell["depth"]) == ("forward", 2), DEFAULT),
    Claim("train, depth 2: over titans-pytorch's default, gradient at the first weights",
          1.0, lambda cell: (cell["mode"], cell["depth"]) == ("train", 2), DEFAULT),
    Claim("forward, exact linear memory: over fla-core's reference",
          2.0, lambda cell: cell["mode"] == "forward", "fla-op"),
    Claim("train, exact linear memory: over fla-core's reference",
          2.0, lambda cell: cell["mode"] == "train", "fla-op"),
    Claim("decode: over titans-pytorch's single-token step",
          8.0, lambda cell: cell["mode"] == "decode", REFRESH),
    Claim("train: over titans-unofficial",
          10.0, lambda cell: cell["mode"] == "train", "titans-unofficial"),
    Claim("train, depth 2, chunk 64, batch 8, T 16384: peak MB", 2500.0,
          lambda cell: _train(64, 8, 2)(cell) and (cell["dim"], cell["time"]) == (128, 16384),
          field="peak_mb", below=True),
    Claim("forward, dim 512, heads 8, depth 2, chunk 64, batch 8, T 4096: share of the floor",
          0.45, lambda cell: (cell["dim"], cell["time"], cell["mode"]) == (512, 4096, "forward"),
          field="share_of_floor"),
    Claim("train, dim 512, heads 8, depth 2, chunk 64, batch 8, T 4096: share of the floor",
          0.35, lambda cell: (cell["dim"], cell["time"], cell["mode"]) == (512, 4096, "train"),
          field="share_of_floor"),
)  # fmt: skip


def measured(cell: Cell | None) -> bool:
    """Tell whether a cell has figures."""
    return cell is not None and cell["status"] == "ok"


def partner(cell: Cell, subject: str, cells: dict[str, Cell]) -> Cell | None:
    """Return another subject's cell of the same group."""
    return cells.get(cell["key"].replace(cell["subject"], subject, 1))


def ratio_of(cell: Cell, subject: str, cells: dict[str, Cell]) -> float | None:
    """Return how many times ``subject``'s seconds ``cell`` needs one of; None if not measured."""
    other = partner(cell, subject, cells)
    if other is None or not measured(other) or not measured(cell):
        return None
    if other["measured"] != cell["measured"]:
        return float(other["median_seconds"] / cell["median_seconds"])
    return ratio(other["seconds_by_round"], cell["seconds_by_round"])


def check(cells: dict[str, Cell]) -> list[dict[str, Any]]:
    """Hold the claims to the cells; each answer names the worst cell and its figure.

    A cell in which ours failed falls short; one in which the peer failed is only counted.
    """
    return [_check_one(claim, cells) for claim in CLAIMS]


def _check_one(claim: Claim, cells: dict[str, Cell]) -> dict[str, Any]:
    figures: list[tuple[float, str]] = []
    ours_failed, peer_failed = [], []
    for cell in _about(claim, cells):
        figure = ratio_of(cell, claim.peer, cells) if claim.peer else cell.get(claim.field)
        if not measured(cell):
            ours_failed.append(cell["key"])
        elif figure is not None:
            figures.append((figure, cell["key"]))
        elif partner(cell, claim.peer, cells) is not None:
            peer_failed.append(cell["key"])
    answer: dict[str, Any] = {
        "claim": claim.text, "bound": claim.bound, "below": claim.below, "cells": len(figures),
        "ours_failed": ours_failed, "peer_failed": peer_failed,
    }  # fmt: skip
    if not figures:
        return answer | {"holds": False if ours_failed else None}
    worst, where = max(figures) if claim.below else min(figures)
    met = worst < claim.bound if claim.below else worst >= claim.bound
    return answer | {"worst": worst, "where": where, "holds": met and not ours_failed}


def _about(claim: Claim, cells: dict[str, Cell]) -> Iterable[Cell]:
    """Return our cells that a claim speaks of."""
    subject = "ours-exact-op" if claim.peer == "fla-op" else "ours-titans"
    return [one for one in cells.values() if one["subject"] == subject and claim.where(one)]
