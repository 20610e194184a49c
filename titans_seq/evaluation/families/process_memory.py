"""Memory use of this process, in MB."""

from __future__ import annotations

import sys
from pathlib import Path

_MEGABYTE = 1e6


def resident_megabytes() -> float:
    """Return the memory that this process holds now; NaN where the system does not say."""
    return _linux_status("VmRSS")


def peak_megabytes() -> float:
    """Return the peak memory of this process; NaN where the system does not say."""
    peak = _linux_status("VmHWM")
    if peak == peak:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, other systems kilobytes.
    return peak / _MEGABYTE if sys.platform == "darwin" else peak * 1024 / _MEGABYTE


def _linux_status(name: str) -> float:
    """Return an entry of ``/proc/self/status``; NaN on other systems.

    Unlike ``getrusage`` it does not include the peak of the parent process.
    """
    path = Path("/proc/self/status")
    if not path.is_file():
        return float("nan")
    lines = dict(line.partition(":")[::2] for line in path.read_text("ascii").splitlines())
    return int(lines[name].split()[0]) * 1024 / _MEGABYTE if name in lines else float("nan")
