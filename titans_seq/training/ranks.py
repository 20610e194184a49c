"""Rank and world size of this process, and the collective calls between processes.

Every process runs the same program on the same data, and arrives at the same results; the rows
of a training batch and the batches of a prediction are divided among them. Only rank 0 writes
files. Outside :func:`titans_seq.training.distributed` the world has one process, collective
calls return at once, and torch is not imported.
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
    """Place of this process among those that work together."""

    rank: int = 0
    """Index of this process, from 0."""

    size: int = 1
    """Number of processes."""

    local_rank: int = 0
    """Index among the processes of this machine, from 0."""

    local_size: int = 1
    """Number of processes on each machine."""

    strategy: str = "ddp"
    """``ddp``: each holds the whole network; ``fsdp``: each holds a shard of it."""


class _Outcome(NamedTuple):
    """Result of a call in one process: a value, or an error."""

    value: Any = None
    error: str = ""
    cause: Exception | None = None

    def to_send(self) -> _Outcome:
        """Return a copy for the other processes; an exception may not be picklable."""
        return self._replace(cause=None)


_WORLD: ContextVar[World] = ContextVar("world", default=World())  # noqa: B039


def world() -> World:
    """Return rank and sizes of this process's world."""
    return _WORLD.get()


@contextmanager
def in_world(processes: World) -> Iterator[None]:
    """Make this process one of several inside the block."""
    token = _WORLD.set(processes)
    try:
        yield
    finally:
        _WORLD.reset(token)


@contextmanager
def single_process() -> Iterator[None]:
    """Run the block in this process by itself, whatever the others do meanwhile."""
    with in_world(world()._replace(size=1)):
        yield


@contextmanager
def unshared() -> Iterator[None]:
    """Train whole networks inside the block, replicated by DDP, whatever the strategy."""
    with in_world(world()._replace(strategy="ddp")):
        yield


def is_first() -> bool:
    """Return whether this is the process that writes files, rank 0."""
    return world().rank == 0


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the elementwise sum of a tensor over all processes."""
    if world().size == 1:
        return values
    import torch.distributed as dist

    values = values.clone()
    dist.all_reduce(values)
    return values


def all_reduce_max(*values: float) -> tuple[float, ...]:
    """Return the maximum of each value over all processes."""
    if world().size == 1:
        return values
    import torch
    import torch.distributed as dist

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    maxima = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(maxima, op=dist.ReduceOp.MAX)
    return tuple(maxima.tolist())


def all_gather(value: T, operation: str) -> list[T]:
    """Return the value of each process, ordered by rank.

    Parameters
    ----------
    value
        That of this process; it must be picklable.
    operation
        Name of what this process is doing, compared between processes.

    Raises
    ------
    TitansSeqError
        If the processes are doing different things.
    """
    if world().size == 1:
        return [value]
    import torch.distributed as dist

    gathered: list[Any] = [None] * world().size
    dist.all_gather_object(gathered, (operation, value))
    if len({other for other, _ in gathered}) > 1:
        operations = ", ".join(f"rank {rank}: {other}" for rank, (other, _) in enumerate(gathered))
        raise TitansSeqError(
            f"the processes make different calls ({operations}): inside distributed() each must "
            "make the same calls; work of one process belongs inside `with single_process():`"
        )
    return [other for _, other in gathered]


def broadcast_from_rank0(make: Callable[[], T]) -> T:
    """Call ``make`` in rank 0, and return its result in every process.

    Raises
    ------
    TitansSeqError
        In the other processes, if the call fails; rank 0 raises the exception itself.
    """
    if world().size == 1:
        return make()
    own = _try(make) if is_first() else _Outcome()
    outcomes = all_gather(own.to_send(), "broadcast")
    _raise_if_failed(own, outcomes)
    value: T = outcomes[0].value
    return value


def shared_map(make: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Map a function over items, divided among the processes; every process gets all results.

    Parameters
    ----------
    make
        Called once for each item, in one of the processes, as in :func:`single_process`.
    items
        The same in every process; consumed as results are consumed.

    Raises
    ------
    TitansSeqError
        If a call fails in another process; that one raises the exception itself.
    """
    if world().size == 1:
        yield from map(make, items)
        return
    iterator, process = iter(items), world()
    # In turns of one item a process, so that no process runs ahead of what is consumed.
    while turn := list(islice(iterator, process.size)):
        own = _Outcome()
        if process.rank < len(turn):
            with single_process():
                own = _try(make, turn[process.rank])
        outcomes = all_gather(own.to_send(), "prediction")
        _raise_if_failed(own, outcomes)
        yield from (outcome.value for outcome in outcomes[: len(turn)])


def _try(make: Callable[..., Any], *arguments: Any) -> _Outcome:
    """Call a function, and return its result or its exception."""
    try:
        return _Outcome(make(*arguments))
    except Exception as error:
        return _Outcome(None, f"{type(error).__name__}: {error}", error)


def _raise_if_failed(own: _Outcome, outcomes: Sequence[_Outcome]) -> None:
    """Raise the exception of this process, or an error that reports that of another one."""
    if own.cause is not None:
        raise own.cause
    for rank, outcome in enumerate(outcomes):
        if outcome.error:
            raise TitansSeqError(f"process {rank} failed: {outcome.error}")
