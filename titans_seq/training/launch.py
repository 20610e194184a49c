"""Runs this program again in several processes, by the launcher that torchrun stands on."""

from __future__ import annotations

import logging
import os
import secrets
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

INTERRUPTED = 130


def run_again(processes: int) -> int:
    """Run this program in so many processes of this machine; return their exit code.

    When one fails the others are ended; when this one is told to end, so are they.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            # The processes tell themselves what went wrong.
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
        # One that lost its partner fails with 1, one that was killed with a negative number.
        return max(1, *(failure.exitcode for failure in error.failures.values()))
    except (SignalException, KeyboardInterrupt):
        return INTERRUPTED
    return 0
