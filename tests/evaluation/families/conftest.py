from collections.abc import Callable
from typing import Any

import pytest

from titans_seq.training.saver import Saver


class Killed(BaseException):
    """Stands for ``kill -9``: nobody catches it."""


@pytest.fixture
def killed_at() -> Callable[..., None]:
    """Call something, and let the process seem to die before its n-th training step."""

    def call(number: int, work: Callable[..., Any], *words: Any, **settings: Any) -> None:
        before, calls = Saver.on_train_batch_start, 0

        def counted(self: Saver, *others: Any) -> None:
            nonlocal calls
            before(self, *others)
            calls += 1
            if calls == number:
                raise Killed

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Saver, "on_train_batch_start", counted)
            work(*words, every=0, **settings)

    return call
