"""Windows along records: every letter covered, whatever the pieces."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from titans_seq.dna.reading.records import RecordHeader, RecordPiece, checked_fasta
from titans_seq.dna.streaming.stream import WindowGrid, cut_windows
from titans_seq.exceptions import ConfigError


def _pieces(records: list[np.ndarray], size: int) -> Iterator[RecordPiece]:
    for number, codes in enumerate(records, start=1):
        head = RecordHeader(number, f"r{number}", f"r{number}")
        for start in range(0, len(codes), size):
            yield RecordPiece(head, start, codes[start : start + size], False)
        yield RecordPiece(head, len(codes), codes[:0], True)


def _records(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(1, 16, size=n).astype(np.uint8) for n in lengths]


def _wanted(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return the windows as the text says it: until one reaches the end."""
    found = [(0, min(window, length))]
    while found[-1][1] < length and found[-1][0] + stride < length:
        start = found[-1][0] + stride
        found.append((start, min(start + window, length)))
    return found


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (5, 5), (5, 2), (5, 1), (5, 9), (64, 7)])
def test_windows_lie_where_they_should(window: int, stride: int, size: int) -> None:
    records = _records([1, 4, 5, 6, 10, 11, 63, 64, 65, 200])
    found = list(cut_windows(_pieces(records, size), WindowGrid.checked(window, stride)))
    for number, codes in enumerate(records, start=1):
        own = [one for one in found if one.head.number == number]
        assert [(one.start, one.end) for one in own] == _wanted(len(codes), window, stride)
        for one in own:
            np.testing.assert_array_equal(one.codes, codes[one.start : one.end])
        if stride <= window:
            assert {i for one in own for i in range(one.start, one.end)} == set(range(len(codes)))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_without_a_window_a_record_is_one(size: int) -> None:
    records = _records([1, 4, 200])
    found = list(cut_windows(_pieces(records, size), WindowGrid.checked(None)))
    assert [len(one.codes) for one in found] == [1, 4, 200]
    for one, codes in zip(found, records, strict=True):
        np.testing.assert_array_equal(one.codes, codes)


def test_memory_does_not_grow_with_the_record(tmp_path: Path) -> None:
    path = tmp_path / "long.fa"

    def peak(lines: int) -> int:
        path.write_bytes(b">long\n" + (b"ACGTTGCA" * 10 + b"\n") * lines)
        tracemalloc.start()
        with checked_fasta(path) as source:
            letters = sum(
                len(one.codes) for one in cut_windows(source.pieces(), WindowGrid.checked(200))
            )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert letters == 80 * lines
        return most

    short, long = peak(20_000), peak(100_000)
    assert long < 1.05 * short < 4_000_000  # of 1.6 and 8 million letters


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"window": 5, "stride": 0}, "stride must be at least 1, got 0"),
        ({"window": None, "stride": 5}, "stride=5 needs a window"),
        ({"window": None, "carry": True}, "carry needs a window"),
        ({"window": 5, "stride": 2, "carry": True}, "stride=2: a carried memory reads each"),
    ],
)
def test_windows_that_cannot_be_are_refused(words: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WindowGrid.checked(**words)
