"""What tests of every room share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Triton reads it when it is first imported, by whichever test that is.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Test processes side by side have a core each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A library built with sanitizers, in place of the installed one: see `make sanitize`.
if "TITANS_SEQ_TEST_LIBRARY" in os.environ:
    from titans_seq.ops.cpu import library

    library.library_path = lambda: os.environ["TITANS_SEQ_TEST_LIBRARY"]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets that are not part of the project; skips where it is absent."""
    folder = Path(os.environ.get("TITANS_SEQ_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of real data: set TITANS_SEQ_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the checkout."""
    return ROOT


@contextmanager
def short_regressions() -> Iterator[None]:
    """Fit the regressions that a DNA model starts from in a tenth of the steps."""
    from titans_seq.dna.learning import fitting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_REGRESSION_STEPS", 40)
        patch.setattr(fitting, "_REGRESSION_EPOCHS", (1, 4))
        yield


@pytest.fixture
def brief_start() -> Iterator[None]:
    """Let DNA models start from regressions that are hardly fitted, where that does not matter."""
    with short_regressions():
        yield


@pytest.fixture(scope="module")
def brief_start_of_module() -> Iterator[None]:
    """The same for what the fixtures of a module train."""
    with short_regressions():
        yield
