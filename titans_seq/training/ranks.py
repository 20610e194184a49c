"""Several processes that work as one: which of them this is, and what they tell each other.

Each process runs the same program on the same data, and comes to the same results. What costs
time is shared out: rows of a training batch, batches of a prediction. Only the first process
writes files. Outside :func:`titans_seq.training.distributed` there is one process, and nothing
here talks to anyone, or loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from titans_seq.exceptions import TitansSeqError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


class World(NamedTuple):
    """The processes that work as one."""

    rank: int = 0
    """Which of them this is, from 0."""

    size: int = 1
    """How many they are."""

    local_rank: int = 0
    """Which this is of those on its machine, from 0."""

    local_size: int = 1
    """How many are on each machine."""

    strategy: str = "ddp"
    """``ddp``: each holds the whole network; ``fsdp``: each holds a share of it."""


class _Outcome(NamedTuple):
    """What one process came to: a value, or why there is none."""

    value: Any = None
    error: str = ""
    cause: Exception | None = None

    def told(self) -> _Outcome:
        """Return what the others are told: an exception may not travel."""
        return self._replace(cause=None)


_WORLD: ContextVar[World] = ContextVar("world", default=World())  # noqa: B039


def world() -> World:
    """Return the processes that work as one with this one."""
    return _WORLD.get()


@contextmanager
def joined(found: World) -> Iterator[None]:
    """Let this process be one of several."""
    before = _WORLD.set(found)
    try:
        yield
    finally:
        _WORLD.reset(before)


@contextmanager
def single_process() -> Iterator[None]:
    """Let this process do what is inside by itself, whatever the others do meanwhile."""
    with joined(world()._replace(size=1)):
        yield


@contextmanager
def unshared() -> Iterator[None]:
    """Let each process hold the whole of what is trained inside, whatever the strategy."""
    with joined(world()._replace(strategy="ddp")):
        yield


def is_first() -> bool:
    """Tell whether this is the process that writes files."""
    return world().rank == 0


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sums of values over all processes."""
    if world().size == 1:
        return values
    import torch.distributed as dist

    values = values.clone()
    dist.all_reduce(values)
    return values


def all_reduce_max(*values: float) -> tuple[float, ...]:
    """Return for each value the highest of all processes."""
    if world().size == 1:
        return values
    import torch
    import torch.distributed as dist

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    found = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return tuple(found.tolist())


def all_gather(value: T, what: str) -> list[T]:
    """Return the value of each process, in the order of their ranks.

    Parameters
    ----------
    value
        That of this process.
    what
        What this process is doing, in a few words; all must be doing the same.

    Raises
    ------
    TitansSeqError
        If they are not.
    """
    if world().size == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * world().size
    dist.all_gather_object(found, (what, value))
    if len({place for place, _ in found}) > 1:
        places = ", ".join(f"{rank} is at {place}" for rank, (place, _) in enumerate(found))
        raise TitansSeqError(
            f"the processes are at different places ({places}): inside distributed() each must "
            "make the same calls; what one does by itself belongs into `with single_process():`"
        )
    return [one for _, one in found]


def broadcast_from_rank0(make: Callable[[], T]) -> T:
    """Return to every process what the first one makes.

    Raises
    ------
    TitansSeqError
        In all others, if the first fails; it raises what went wrong.
    """
    if world().size == 1:
        return make()
    outcome = _try(make) if is_first() else _Outcome()
    told = all_gather(outcome.told(), "a question to the first process")
    _raise_if_failed(outcome, told)
    found: T = told[0].value
    return found


def shared_map(make: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield what is made of each item, in their order; the items are shared out.

    Parameters
    ----------
    make
        Is called once for each item, in one of the processes, which then is alone.
    items
        The same in every process; gone through as results are asked for.

    Raises
    ------
    TitansSeqError
        If another process failed; that one raises what went wrong.
    """
    if world().size == 1:
        yield from map(make, items)
        return
    iterator, mine = iter(items), world()
    while turn := list(islice(iterator, mine.size)):
        outcome = _Outcome()
        if mine.rank < len(turn):
            with single_process():
                outcome = _try(make, turn[mine.rank])
        told = all_gather(outcome.told(), "a prediction")
        _raise_if_failed(outcome, told)
        yield from (one.value for one in told[: len(turn)])


def _try(make: Callable[..., Any], *given: Any) -> _Outcome:
    """Return what is made, or why it is not."""
    try:
        return _Outcome(make(*given))
    except Exception as error:
        return _Outcome(None, f"{type(error).__name__}: {error}", error)


def _raise_if_failed(own: _Outcome, told: Sequence[_Outcome]) -> None:
    """Raise what went wrong here, or say what went wrong elsewhere."""
    if own.cause is not None:
        raise own.cause
    for rank, outcome in enumerate(told):
        if outcome.error:
            raise TitansSeqError(f"process {rank} failed: {outcome.error}")
