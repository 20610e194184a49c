"""Large pages for buffers that are written once and read once.

The first write to a page of the usual size costs more than filling it; Linux grants pages of
2 MiB on request. Elsewhere, and where the system refuses, nothing changes.
"""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

from torch import Tensor

LARGE = 1 << 21
"""Bytes of a large page."""


def ask_for_large_pages(tensor: Tensor) -> int:
    """Ask for large pages under a contiguous tensor that was not written yet.

    Returns
    -------
    int
        Bytes that were advised: none of a tensor that holds no whole large page.
    """
    advise = _advise()
    # only whole pages inside the tensor: round its start up and its end down
    first = -(-tensor.data_ptr() // LARGE) * LARGE
    length = (tensor.data_ptr() + tensor.nbytes) // LARGE * LARGE - first
    if advise is None or length <= 0:
        return 0
    # advice only: a refusal leaves the usual pages, and nothing else changes
    refused = advise(first, length, mmap.MADV_HUGEPAGE)
    return 0 if refused else length


@cache
def _advise() -> Any:
    """Return libc's ``madvise``, or ``None`` where large pages are not available."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise
