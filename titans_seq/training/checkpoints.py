"""``checkpointing()``: write checkpoints, resume from them, stop after a signal.

Inside ``with checkpointing(folder)`` every call of :func:`titans_seq.training.train` writes a
checkpoint file: ``training-1.safetensors`` the first call, ``training-2.safetensors`` the next.
With ``resume=True`` an unfinished training resumes from its checkpoint, and a finished one is
not run again. On the same machine with the same number of threads, the weights are bit for bit
those of a training that was never stopped.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

from titans_seq.exceptions import ConfigError
from titans_seq.training.history import EpochRecord
from titans_seq.training.ranks import broadcast_from_rank0, is_first

_SECONDS_BETWEEN = 30.0
"""Seconds within an epoch after which a checkpoint is due."""

_CHECKPOINTS = "training-*.safetensors"
_TEMPORARY_FILES = f".*.{_CHECKPOINTS}"
"""Left by a process that was killed while it wrote."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Listener = Callable[[Sequence[EpochRecord]], None]
"""Called at the end of each epoch with the records of all epochs so far."""


class Session:
    """State that the trainings inside one ``checkpointing`` share."""

    def __init__(
        self,
        folder: Path,
        *,
        every: float,
        resume: bool,
        about: Mapping[str, Any],
        listen: Listener | None,
    ) -> None:
        self.folder = folder
        self.every = every
        self.resume = resume
        self.about = dict(about)
        self.listen = listen
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        self._trainings_begun = 0
        self.training = False
        self.stop_requested = False

    def next_file(self) -> Path:
        """Return the checkpoint file of the training that begins now."""
        self._trainings_begun += 1
        return self.folder / f"training-{self._trainings_begun}.safetensors"

    def install_handlers(self) -> None:
        """Make the first Ctrl-C or SIGTERM stop a training after its current step."""
        if not self.in_main_thread:
            return
        for number in _STOP_SIGNALS:
            # A signal that the parent process ignores (nohup) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Stop after the step; at once outside a training, or at the second signal."""
        if not self.training or self.stop_requested:
            raise KeyboardInterrupt
        self.stop_requested = True

    def raise_if_stopped(self) -> None:
        """Stop if a signal came; the checkpoint has been written.

        Raises
        ------
        KeyboardInterrupt
            With the folder of the checkpoint.
        """
        if self.stop_requested:
            raise KeyboardInterrupt(f"a checkpoint was written to {self.folder}")


_SESSION: ContextVar[Session | None] = ContextVar("session", default=None)


def current_session() -> Session | None:
    """Return the current session; None outside ``checkpointing``."""
    return _SESSION.get()


@contextmanager
def checkpointing(
    folder: str | os.PathLike[str],
    *,
    every: float = _SECONDS_BETWEEN,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    listen: Listener | None = None,
) -> Iterator[None]:
    """Write checkpoints of every training inside, and stop cleanly after a signal.

    A checkpoint is written between two steps: at each epoch's end, in long epochs every
    ``every`` seconds, and after SIGINT or SIGTERM, before ``KeyboardInterrupt`` is raised; a
    second signal does not wait. It replaces the previous one atomically.

    Parameters
    ----------
    folder
        Folder of the checkpoints; made when the first is written.
    every
        Seconds; 0 writes a checkpoint before every step.
    resume
        Resume from the checkpoints in ``folder``; without any, start from the beginning.
    about
        What the trainings depend on besides their settings, as plain values; a checkpoint with
        other values is refused.
    listen
        Called at the end of each epoch with the records of all epochs so far.

    Raises
    ------
    ConfigError
        If ``folder`` is a file; while training, if a checkpoint belongs to another training.
    """
    path = Path(folder)
    broadcast_from_rank0(lambda: _prepare(path, resume=resume))
    session = Session(path, every=every, resume=resume, about=about or {}, listen=listen)
    token = _SESSION.set(session)
    handlers = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    try:
        session.install_handlers()
        yield
    finally:
        _SESSION.reset(token)
        if session.in_main_thread:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _prepare(folder: Path, *, resume: bool) -> None:
    """Remove the checkpoints of another training, or only the temporary files of this one."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder of checkpoints")
    if resume:
        _remove(folder, _TEMPORARY_FILES)
    else:
        remove_checkpoints(folder)


def has_checkpoints(folder: Path) -> bool:
    """Return whether a folder holds checkpoints; every process gets the answer of rank 0."""
    return broadcast_from_rank0(lambda: any(folder.glob(_CHECKPOINTS)))


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints in a folder, and the folder if it holds nothing else."""
    if not is_first():
        return
    _remove(folder, _TEMPORARY_FILES, _CHECKPOINTS)
    with suppress(OSError):  # it holds other files, or is not there
        folder.rmdir()


def _remove(folder: Path, *patterns: str) -> None:
    """Remove the files whose names match one of the patterns."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
