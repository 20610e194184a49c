"""What a process takes of the machine it runs on."""

from __future__ import annotations

import sys
from pathlib import Path

MEGA = 1e6


def resident_megabytes() -> float:
    """Return the memory that this process holds now, in MB; NaN where nobody says."""
    return _status("VmRSS")


def peak_megabytes() -> float:
    """Return the most memory that this process ever held, in MB; NaN where nobody says."""
    found = _status("VmHWM")
    if found == found:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MEGA if sys.platform == "darwin" else most * 1024 / MEGA


def _status(name: str) -> float:
    """Return a line of Linux's account of this process.

    Unlike ``getrusage`` it does not count what a parent held before it began this one.
    """
    path = Path("/proc/self/status")
    if not path.is_file():
        return float("nan")
    lines = dict(line.partition(":")[::2] for line in path.read_text("ascii").splitlines())
    return int(lines[name].split()[0]) * 1024 / MEGA if name in lines else float("nan")
