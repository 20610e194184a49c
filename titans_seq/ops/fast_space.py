"""Working memory that is taken once and used again, within a call and from call to call.

Fresh memory costs a page fault each 4 KB on its first touch, which on a CPU is as much as
the arithmetic itself. So what a call gives back is kept for the next one, up to a bound.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

KEPT_BYTES = 512 * 2**20
"""Most memory that is kept for later calls."""


class Space:
    """Buffers by name; what an earlier user left in one is undefined to the next."""

    def __init__(self, kind: Hashable, like: Tensor) -> None:
        self.kind, self.dtype, self.device = kind, like.dtype, like.device
        self._held: dict[str, Tensor] = {}
        self._made: dict[Hashable, Any] = {}
        self._named = ""

    def name(self, prefix: str) -> None:
        """Let the names that follow stand for other buffers than under another prefix."""
        self._named = prefix

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """Return an uninitialised tensor."""
        count = 1
        for one in shape:
            count *= one
        name = self._named + name
        held = self._held.get(name)
        if held is None or held.numel() < count:
            held = torch.empty(count, dtype=self.dtype, device=self.device)
            self._held[name] = held
        return held[:count].view(tuple(shape))

    def once(self, make: Callable[[Any, Space, str], T], what: Hashable, name: str) -> T:
        """Return ``make(what, space, name)``, made when it is first asked for."""
        key = (make, what, self._named, name)
        if key not in self._made:
            self._made[key] = make(what, self, name)
        made: T = self._made[key]
        return made

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(one.numel() * one.element_size() for one in self._held.values())


class _Kept:
    """Spaces that no call uses, shared by all threads."""

    def __init__(self) -> None:
        self._spaces: list[Space] = []
        self._lock = threading.Lock()

    def borrow(self, kind: Hashable, like: Tensor) -> Space:
        wanted = (kind, like.dtype, like.device)
        with self._lock:
            for place, space in enumerate(self._spaces):
                if (space.kind, space.dtype, space.device) == wanted:
                    return self._spaces.pop(place)
        return Space(kind, like)

    def give_back(self, space: Space) -> None:
        with self._lock:
            self._spaces.append(space)
            while sum(one.nbytes for one in self._spaces) > KEPT_BYTES:
                self._spaces.pop(0)

    def release(self) -> None:
        with self._lock:
            self._spaces.clear()


_kept = _Kept()


def borrow(kind: Hashable, like: Tensor) -> Space:
    """Return a space that is nobody else's until it is given back; forgetting to is harmless.

    Parameters
    ----------
    kind
        A space is only lent again for the same kind of work.
    like
        A tensor of the type and device wanted.
    """
    return _kept.borrow(kind, like)


def give_back(space: Space) -> None:
    """Let later calls use a space again."""
    _kept.give_back(space)


def release() -> None:
    """Free the memory that is kept for later calls."""
    _kept.release()
