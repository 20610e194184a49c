"""Large pages are asked for within a tensor's own numbers, which stay as usable as before."""

from __future__ import annotations

import mmap

import pytest
import torch

from titans_seq.ops.cpu.pages import LARGE, ask_for_large_pages


def test_a_large_tensor_gets_whole_pages_of_its_own() -> None:
    tensor = torch.empty(4 * LARGE, dtype=torch.uint8)
    asked = ask_for_large_pages(tensor)
    assert asked % LARGE == 0
    assert asked <= tensor.nbytes
    if hasattr(mmap, "MADV_HUGEPAGE") and asked:
        assert asked >= 3 * LARGE
    assert int(tensor.fill_(3).sum()) == 12 * LARGE


@pytest.mark.parametrize("count", [0, 1, LARGE // 8])
def test_a_small_tensor_asks_for_none(count: int) -> None:
    assert ask_for_large_pages(torch.empty(count)) == 0
