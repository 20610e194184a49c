"""Trainings that survive: checkpoints, and what a signal does to a training.

Inside ``with checkpointing(folder)`` every call of :func:`titans_seq.training.train` writes
what it needs to go on: ``training-1.safetensors`` the first one, ``training-2.safetensors``
the next. With ``resume=True`` a training that stands there goes on after its last checkpoint,
one that is finished is not run again, and the weights that come out are, on the same machine
with the same number of threads, those of a training that was never stopped, to the last bit.
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

EVERY = 30.0
"""Seconds of an epoch after which a checkpoint is due."""

CHECKPOINTS = "training-*.safetensors"
HALF_WRITTEN = f".*.{CHECKPOINTS}"
"""What a killed training leaves."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Listener = Callable[[Sequence[EpochRecord]], None]
"""Is told all epochs so far, at the end of each."""


class Session:
    """The trainings inside one ``checkpointing``."""

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
        self.in_main = threading.current_thread() is threading.main_thread()
        self.begun = 0
        self.training = False
        self.stop_asked = False

    def next_file(self) -> Path:
        """Return the file of the training that begins now."""
        self.begun += 1
        return self.folder / f"training-{self.begun}.safetensors"

    def hear(self) -> None:
        """Let the first Ctrl-C or SIGTERM in a training stop it after its step."""
        if not self.in_main:
            return
        for number in SIGNALS:
            # What the parent told us to ignore stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Stop after the step; at once if nothing is trained, or if it was asked before."""
        if not self.training or self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True

    def stop_if_asked(self) -> None:
        """Stop here if a signal came; the checkpoint has been written.

        Raises
        ------
        KeyboardInterrupt
            Says where the checkpoint is.
        """
        if self.stop_asked:
            raise KeyboardInterrupt(f"a checkpoint was written to {self.folder}")


_SESSION: ContextVar[Session | None] = ContextVar("session", default=None)


def current_session() -> Session | None:
    """Return the session that trainings begin in; None outside ``checkpointing``."""
    return _SESSION.get()


@contextmanager
def checkpointing(
    folder: str | os.PathLike[str],
    *,
    every: float = EVERY,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    listen: Listener | None = None,
) -> Iterator[None]:
    """Let every training inside write checkpoints, and stop in good order when signalled.

    A checkpoint is written between two steps: at each epoch's end, in long epochs every
    ``every`` seconds, and when SIGINT or SIGTERM comes, before ``KeyboardInterrupt`` is
    raised; a second signal does not wait. It replaces the one before it, whole or not at all.

    Parameters
    ----------
    folder
        Where checkpoints lie; made when the first is written.
    every
        Seconds; 0 writes one before every step.
    resume
        Go on after the checkpoints that lie there; without any, begin.
    about
        What the trainings depend on besides their settings, as plain values: a checkpoint
        that says otherwise is refused.
    listen
        Is told all epochs so far at the end of each epoch.

    Raises
    ------
    ConfigError
        If ``folder`` is a file; while training, if a checkpoint belongs to another training.
    """
    place = Path(folder)
    broadcast_from_rank0(lambda: _prepare(place, resume=resume))
    session = Session(place, every=every, resume=resume, about=about or {}, listen=listen)
    before = _SESSION.set(session)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        session.hear()
        yield
    finally:
        _SESSION.reset(before)
        if session.in_main:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _prepare(folder: Path, *, resume: bool) -> None:
    """Take away what another training left, and what a killed one has half written."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder of checkpoints")
    if resume:
        _remove(folder, HALF_WRITTEN)
    else:
        remove_checkpoints(folder)


def has_checkpoints(folder: Path) -> bool:
    """Tell whether trainings have left checkpoints in a folder, that of the first process."""
    return broadcast_from_rank0(lambda: any(folder.glob(CHECKPOINTS)))


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints in a folder, and the folder if it holds nothing else."""
    if not is_first():
        return
    _remove(folder, HALF_WRITTEN, CHECKPOINTS)
    with suppress(OSError):  # it holds other files, or is not there
        folder.rmdir()


def _remove(folder: Path, *patterns: str) -> None:
    """Remove the files whose names are of these patterns."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
