"""FlexAttention's tiles and mask against the blocks: its plain operations, which have no backward
on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_seq.ops.attention.flex import (
    TILE,
    block_mask,
    flex_fits,
    flex_sliding,
    seen_by,
    seen_tiles,
)
from titans_seq.ops.attention.sliding import sliding_attention

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def _problem(
    time: int, window: int, prefix: int
) -> tuple[list[Tensor], tuple[Tensor, Tensor] | None]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, 16, generator=generator, dtype=torch.float64)

    tensors = [draw(2, 2, time) for _ in range(3)] + [draw(2, 2, window - 1) for _ in range(2)]
    return tensors, (draw(2, prefix), draw(2, prefix)) if prefix else None


@pytest.mark.parametrize(
    ("time", "window", "prefix", "valid"),
    [(1, 3, 0, 1), (130, 20, 4, 0), (260, 130, 0, 129), (300, 1, 2, 0)],
)
def test_agrees_with_the_blocks(time: int, window: int, prefix: int, valid: int) -> None:
    (q, k, v, *past), before = _problem(time, window, prefix)
    fast = flex_sliding(q, k, v, window, tuple(past), valid, before)
    slow = sliding_attention(q, k, v, window, tuple(past), valid, before)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("time", "window", "prefix"), [(1, 3, 0), (128, 2, 1), (300, 130, 140), (513, 256, 4)]
)
def test_the_tiles_are_those_that_hold_a_seen_key(time: int, window: int, prefix: int) -> None:
    numbers, tiles = seen_tiles(time, window, prefix)
    queries = torch.arange(time).unsqueeze(1)
    keys = torch.arange(prefix + window - 1 + time).unsqueeze(0)
    seen = seen_by(window, prefix, window - 1)(queries, queries, queries, keys)
    for row in range(len(numbers)):
        of_row = seen[row * TILE : (row + 1) * TILE].any(0)
        wanted = {place // TILE for place in of_row.nonzero().flatten().tolist()}
        assert set(tiles[row, : numbers[row]].tolist()) == wanted


def test_a_mask_made_in_inference_is_kept_and_serves_training() -> None:
    block_mask.cache_clear()
    with torch.inference_mode():
        made = block_mask(5, 4, 0, 3, torch.device("cpu"))
    assert block_mask(5, 4, 0, 3, torch.device("cpu")) is made
    assert not made.kv_indices.is_inference()


def test_is_left_alone_on_a_cpu() -> None:
    assert not flex_fits(torch.zeros(1, 1, 1000, 64), 512, 511)
