"""Joins the processes that work as one, and starts them if nobody has.

``torchrun`` starts the processes, on one machine or on several, and tells each of its place by
environment variables. Without it, ``devices=2`` starts them on this machine, by torchrun's own
launcher: the program is run again, from its beginning, once for each.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from importlib import import_module

import torch
import torch.distributed as dist

from titans_seq.exceptions import ConfigError, TitansSeqError
from titans_seq.files import discarding
from titans_seq.training.ranks import World, all_gather, is_first, joined, world

STRATEGIES = ("auto", "ddp", "fsdp")
"""How several processes hold a network; ``auto`` is ``ddp``."""

LONGEST_WAIT = timedelta(hours=12)
"""For another process that is at work; of one that has died the others hear at once."""

_PLACE = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which a launcher tells a process its place."""

_TO_LET_GO = 0.1
"""Seconds that threads of a group have to drop what they carried."""

_FAILED = "titans-seq failed"
"""What the processes count in their common store."""


@contextmanager
def distributed(
    *, devices: int | None = None, nodes: int | None = None, strategy: str = "auto"
) -> Iterator[World]:
    """Let all that is trained and predicted inside be shared out among several processes.

    Every process runs the same program. A batch has ``batch_size`` rows for each of them, and is
    dealt out; the model that comes out is that of one process with the larger batch. Predictions
    come to every process, whole and in order. Only the first process writes files.

    Parameters
    ----------
    devices
        Processes on this machine, one a GPU if there are any. None: as many as ``torchrun``
        started, else one. Not under ``torchrun``, more than one are started here: the program is
        run again for each, and this process ends with them.
    nodes
        Machines; more than one need ``torchrun`` on each. None: as many as there are.
    strategy
        ``ddp``, ``fsdp``, or ``auto``, which is ``ddp``.

    Raises
    ------
    ConfigError
        If a number is not what ``torchrun`` started, or processes cannot be started from here.
    SystemExit
        In the process that started others, when they have ended.
    """
    if strategy not in STRATEGIES:
        raise ConfigError(f"strategy={strategy!r}: choose one of {', '.join(STRATEGIES)}")
    for name, value in (("devices", devices), ("nodes", nodes)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}={value}: at least 1")
    if world().size > 1:
        yield world()
        return
    started = dist.is_available() and dist.is_initialized()
    if not started and not is_launched():
        _launch(devices or 1, nodes or 1)
        yield world()
        return
    found = _place(started)._replace(strategy="fsdp" if strategy == "fsdp" else "ddp")
    _check(found, devices, nodes)
    if found.size == 1:
        yield world()
        return
    with ExitStack() as stack:
        if not started:
            _join(found)
        stack.enter_context(joined(found))
        if not is_first():
            stack.enter_context(discarding())
        try:
            yield found
        except RuntimeError as error:
            if _lost(error):
                raise TitansSeqError(
                    "another process has ended before its work was done"
                ) from error
            raise
        all_gather(None, "the end of distributed()")


def is_launched() -> bool:
    """Tell whether a launcher has told this process its place among others."""
    return all(os.environ.get(name) for name in _PLACE)


def first_to_fail() -> bool:
    """Tell whether no other process has asked this before: what went wrong is told once."""
    if world().size == 1:
        return True
    store = dist.distributed_c10d._get_default_store()
    try:
        return bool(store.add(_FAILED, 1) == 1)
    except RuntimeError:  # whoever holds it is gone, and has told
        return is_first()


def _place(started: bool) -> World:
    """Return the place of this process, by its group or by the launcher's variables."""
    rank = dist.get_rank() if started else int(os.environ["RANK"])
    size = dist.get_world_size() if started else int(os.environ["WORLD_SIZE"])
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    return World(rank, size, int(os.environ.get("LOCAL_RANK", rank % local_size)), local_size)


def _check(found: World, devices: int | None, nodes: int | None) -> None:
    """Refuse numbers that are not what was started."""
    machines = found.size // found.local_size
    for name, asked, there in (("devices", devices, found.local_size), ("nodes", nodes, machines)):
        if asked is not None and asked != there:
            raise ConfigError(
                f"{name}={asked}, but this process was started as one of {found.size}, "
                f"{found.local_size} on each of {machines} machine(s): {name}={there} is right, "
                "or leave it out"
            )


def _join(found: World) -> None:
    """Make one group of the processes; it lasts as long as they do."""
    # Loaded after there is a group, its functions have the group as a default, for ever.
    import_module("torch.distributed.nn")
    gpus = torch.cuda.is_available() and found.local_rank < torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(found.local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=LONGEST_WAIT)
    atexit.register(_part)


def _lost(error: RuntimeError) -> bool:
    """Tell whether an error says that another process is no longer there."""
    if isinstance(error, TitansSeqError):
        return False
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def _part() -> None:
    """Leave the group in good order.

    Its threads end with it. A thread that still drops a tensor when Python itself has ended ends
    the process by SIGABRT; torch's caches of shares keep a group, so its threads get a moment.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(_TO_LET_GO)


def _launch(devices: int, nodes: int) -> None:
    """Start the processes here, unless it is this one only, and end with them."""
    if nodes > 1:
        raise ConfigError(
            f"nodes={nodes}: start the program on each machine by torchrun --nnodes {nodes} "
            f"--nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint HOST:PORT"
        )
    if devices == 1:
        return
    if hasattr(sys, "ps1") or len(sys.orig_argv) < 2 or "ipykernel" in sys.modules:
        raise ConfigError(
            f"devices={devices}: an interactive session cannot be run again; write a script, or "
            "use the command line"
        )
    from titans_seq.training.launch import run_again

    raise SystemExit(run_again(devices))
