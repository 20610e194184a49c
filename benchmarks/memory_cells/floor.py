"""The least work that the dual form of the memory needs, in floating-point operations.

A product of (a x b) and (b x c) counts ``2 a b c``. For one token and head, with layers that
map ``inner`` to ``outer`` (arXiv 2501.00663, equations 13 to 18, gradient at the chunk's start)::

    state    keys through W, errors back through W^T (layers after the first), queries
             through W and S, the chunk's sum into W and into S:  2 inner outer each
    chunk    H Z^T: 2 C inner, its product with the errors: 2 C outer
    masks    one C x C product a chunk and head, whatever the depth: 2 C^2 a token

With the gradient at every token (linear memory) keys also pass S, and each chunk needs
``K K^T`` and a triangular solve: 2 C inner + C outer. Projections are those of queries, keys,
values, output and the three rates. Backward counts twice the forward.
"""

from __future__ import annotations

import itertools
from typing import Any


def operations(sizes: dict[str, Any], *, exact: bool = False) -> dict[str, float]:
    """Return the operations of one token forward, by part.

    Parameters
    ----------
    sizes
        Fields of a :class:`memory_cells.cells.Shape`.
    exact
        Whether the gradient is taken at every token instead of at the chunk's start.
    """
    heads, chunk, dim = sizes["heads"], sizes["chunk"], sizes["dim"]
    width = dim // heads
    hidden = max(1, round(sizes["expansion"] * width))
    widths = [width, *[hidden] * (sizes["depth"] - 1), width]
    state = within = 0.0
    for layer, (inner, outer) in enumerate(itertools.pairwise(widths)):
        products = 5 + (layer > 0) + exact
        state += 2 * products * inner * outer
        within += 2 * chunk * (inner + outer) + exact * chunk * (2 * inner + outer)
    return {
        "state": heads * state,
        "chunk": heads * within,
        "masks": heads * 2.0 * chunk**2,
        "projections": 2.0 * dim * (4 * dim + 3 * heads),
    }


def beyond_floor(sizes: dict[str, Any]) -> dict[str, float]:
    """Return what our layer does a token besides, forward; no share of the floor counts it.

    The output gate (section 4.4), and of the triangular step the products of keys
    (``2 C inner``) and the solve (``C``) of every layer.
    """
    width = sizes["dim"] // sizes["heads"]
    hidden = max(1, round(sizes["expansion"] * width))
    inputs = [width, *[hidden] * (sizes["depth"] - 1)]
    chunk = sizes["chunk"]
    step = sum(2.0 * chunk * inner + chunk for inner in inputs)
    return {"output_gate": 2.0 * sizes["dim"] ** 2, "triangular_step": sizes["heads"] * step}


def floor_operations(subject: str, mode: str, sizes: dict[str, Any]) -> float | None:
    """Return the ideal operations of one call; ``None`` where no floor is defined."""
    if mode == "decode" or not subject.startswith("ours"):
        return None
    parts = operations(sizes, exact="exact" in subject)
    if subject.endswith("-op"):
        del parts["projections"]
    passes = 3 if mode == "train" else 1
    tokens: int = sizes["batch"] * sizes["time"]
    return passes * sum(parts.values()) * tokens
