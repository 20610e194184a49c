"""``distributed()``: join the process group, or start its processes.

``torchrun`` starts the processes, on one machine or on several, and describes each by
environment variables. Without it, ``devices=2`` starts them on this machine by torchrun's own
launcher: every process runs the program from its beginning.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
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
from titans_seq.training.ranks import World, all_gather, in_world, is_first, world

_STRATEGIES = ("auto", "ddp", "fsdp")
"""How several processes hold a network; ``auto`` is ``ddp``."""

_TIMEOUT = timedelta(hours=12)
"""Of a collective call while another process works; a process that dies is noticed at once."""

_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Set by ``torchrun`` and other launchers."""

_THREAD_GRACE = 0.1
"""Seconds in which the threads of a destroyed group release their tensors."""

_FAILURES = "titans-seq failed"
"""Key of the store under which failed processes are counted."""

_EXIT_INTERRUPTED = 130


@contextmanager
def distributed(
    *, devices: int | None = None, nodes: int | None = None, strategy: str = "auto"
) -> Iterator[World]:
    """Divide all training and prediction inside among several processes.

    Every process runs the same program. A batch has ``batch_size`` rows for each process, and
    the trained model is that of one process with the larger batch. Predictions come to every
    process, whole and in order. Only the first process writes files.

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
        If a number differs from what ``torchrun`` started, or processes cannot be started here.
    SystemExit
        In the process that started others, when they have ended.
    """
    if strategy not in _STRATEGIES:
        raise ConfigError(f"strategy must be one of {', '.join(_STRATEGIES)}, got {strategy!r}")
    for name, value in (("devices", devices), ("nodes", nodes)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be a positive integer, got {value}")
    if world().size > 1:  # inside another distributed()
        yield world()
        return
    initialized = dist.is_available() and dist.is_initialized()
    if not initialized and not is_launched():
        _launch(devices or 1, nodes or 1)
        yield world()
        return
    processes = _read_world(initialized)._replace(strategy="fsdp" if strategy == "fsdp" else "ddp")
    _check_sizes(processes, devices, nodes)
    if processes.size == 1:
        yield world()
        return
    with ExitStack() as stack:
        if not initialized:
            _init_process_group(processes)
        stack.enter_context(in_world(processes))
        if not is_first():
            stack.enter_context(discarding())
        try:
            yield processes
        except RuntimeError as error:
            if _is_peer_lost(error):
                raise TitansSeqError(
                    "another process has ended before its work was done"
                ) from error
            raise
        all_gather(None, "the end of distributed()")


def is_launched() -> bool:
    """Return whether a launcher started this process as one of several."""
    return all(os.environ.get(name) for name in _LAUNCHER_VARIABLES)


def first_to_fail() -> bool:
    """Return whether no other process has called this before: one of them prints an error."""
    if world().size == 1:
        return True
    store = dist.distributed_c10d._get_default_store()
    try:
        return bool(store.add(_FAILURES, 1) == 1)
    except RuntimeError:  # the process that holds the store is gone, and has printed its error
        return is_first()


def _read_world(initialized: bool) -> World:
    """Return rank and sizes, from the process group or from the launcher's variables."""
    rank = dist.get_rank() if initialized else int(os.environ["RANK"])
    size = dist.get_world_size() if initialized else int(os.environ["WORLD_SIZE"])
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    return World(rank, size, int(os.environ.get("LOCAL_RANK", rank % local_size)), local_size)


def _check_sizes(processes: World, devices: int | None, nodes: int | None) -> None:
    """Refuse numbers of devices and nodes that differ from what was launched."""
    machines = processes.size // processes.local_size
    for name, wanted, launched in (
        ("devices", devices, processes.local_size),
        ("nodes", nodes, machines),
    ):
        if wanted is not None and wanted != launched:
            raise ConfigError(
                f"{name} must be {launched}, or be left out, because this process was launched as "
                f"one of {processes.size}, {processes.local_size} on each of {machines} "
                f"machine(s); got {wanted}"
            )


def _init_process_group(processes: World) -> None:
    """Create the default process group; it is destroyed when the process ends."""
    # Its functions take the default group of the time of import as their default argument, and
    # would keep a group alive: so it is imported before there is one.
    import_module("torch.distributed.nn")
    gpus = torch.cuda.is_available() and processes.local_rank < torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(processes.local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_TIMEOUT)
    atexit.register(_destroy_process_group)


def _is_peer_lost(error: RuntimeError) -> bool:
    """Return whether an error means that another process is gone."""
    if isinstance(error, TitansSeqError):
        return False
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def _destroy_process_group() -> None:
    """Destroy the default process group, and wait for its threads.

    A thread that releases a tensor after the interpreter has ended aborts the process (SIGABRT);
    torch's caches of sharding plans keep a group alive, so its threads get a moment.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        time.sleep(_THREAD_GRACE)


def _launch(devices: int, nodes: int) -> None:
    """Run the program in ``devices`` processes and exit with them; return if that is one."""
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
    raise SystemExit(_run_again(devices))


def _run_again(processes: int) -> int:
    """Run this program in several processes of this machine; return their exit code.

    When one fails, or this process is terminated, all are terminated.
    """
    # Slow to import, and needed in the launching process only.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            # The processes print their errors themselves.
            logging.getLogger(name).setLevel(logging.CRITICAL)
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=secrets.token_hex(8),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
    except ChildFailedError as error:
        # A process that lost its peer exits with 1, a killed one with a negative number.
        return max(1, *(failure.exitcode for failure in error.failures.values()))
    except (SignalException, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    return 0
