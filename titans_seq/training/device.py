"""Choice of the device."""

from __future__ import annotations

import torch

from titans_seq.exceptions import DeviceError
from titans_seq.training.ranks import world


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name
        ``auto`` (CUDA if available, else the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``. With
        several processes on a machine, ``cuda`` is the device of this process's local rank.

    Raises
    ------
    DeviceError
        If the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and world().local_size > 1:
        name = f"cuda:{world().local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r}: choose auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cpu":
        return device
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) < count:
            return device
        raise DeviceError(f"device {name!r}: torch sees {count} CUDA devices here; use cpu")
    if device.type == "mps":
        if torch.backends.mps.is_available():
            return device
        raise DeviceError(f"device {name!r}: torch sees no Apple GPU here; use cpu")
    raise DeviceError(f"device {name!r}: choose auto, cpu, cuda, cuda:1 or mps")
