"""The figures as text."""

from __future__ import annotations

from typing import Any

from memory_cells.cells import OPERATORS
from memory_cells.claims import Cell, measured, partner, ratio_of

PEERS = ("titans-pytorch-refresh", "titans-pytorch-default", "titans-unofficial")
SHORT = {"titans-pytorch-refresh": "refresh", "titans-pytorch-default": "default",
         "titans-unofficial": "unofficial", "fla-op": "fla"}  # fmt: skip

HEADINGS = (
    f"{'subject':14} {'mode':8} {'dim':>4} {'L':>2} {'C':>3} {'B':>2} {'T':>6} "
    f"{'tokens/s':>10} {'peak MB':>8} {'of floor':>8}   times as fast as"
)


def row(cell: Cell, cells: dict[str, Cell]) -> str:
    """Return the line of one of our cells, with the ratios to its peers."""
    sizes = (
        f"{cell['subject']:14} {cell['mode']:8} {cell['dim']:4} {cell['depth']:2} "
        f"{cell['chunk']:3} {cell['batch']:2} {cell['time']:6}"
    )
    if not measured(cell):
        return f"{sizes}  {cell['status']}"
    share = cell.get("share_of_floor")
    return (
        f"{sizes} {cell['tokens_per_second']:10,.0f} {cell['peak_mb']:8,.0f} "
        f"{'' if share is None else f'{share:.0%}':>8}   {_against(cell, cells)}"
        f"{'' if cell['finite'] else '  NOT FINITE'}"
    )


def _against(cell: Cell, cells: dict[str, Cell]) -> str:
    """Return the ratios to every peer of a cell's group."""
    words = []
    for peer in ("fla-op",) if cell["subject"] in OPERATORS else PEERS:
        other = partner(cell, peer, cells)
        if other is None:
            continue
        figure = ratio_of(cell, peer, cells)
        if figure is None:
            words.append(f"{SHORT[peer]}: {other['status']}")
        else:
            peak = f" ({other['peak_mb']:,.0f} MB)"
            note = "" if other["finite"] else " not finite"
            words.append(f"{SHORT[peer]} {figure:.2f}{peak}{note}")
    return "; ".join(words)


def whole_table(cells: dict[str, Cell]) -> str:
    """Return every cell of ours."""
    ours = [one for one in cells.values() if one["subject"].startswith("ours")]
    order = ("dim", "mode", "subject", "depth", "chunk", "batch", "time")
    ours.sort(key=lambda cell: tuple(cell[name] for name in order))
    return "\n".join([HEADINGS, *(row(cell, cells) for cell in ours)])


def claim_lines(answers: list[dict[str, Any]]) -> str:
    """Return a line a claim: what, the worst cell's figure, whether it holds."""
    lines = []
    for answer in answers:
        bound = f"{'<' if answer['below'] else '>='} {answer['bound']:g}"
        verdict = {True: "holds", False: "FALLS SHORT", None: "not measured"}[answer["holds"]]
        line = f"{verdict:12} {answer['claim']} ({bound})"
        if "worst" in answer:
            line += f": worst of {answer['cells']} {answer['worst']:.4g} at {answer['where']}"
        if answer["peer_failed"]:
            line += f"; in {len(answer['peer_failed'])} more the peer failed"
        if answer["ours_failed"]:
            line += f"; ours failed in {len(answer['ours_failed'])}"
        lines.append(line)
    return "\n".join(lines)
