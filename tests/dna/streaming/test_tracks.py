"""BED, bedGraph and summaries: nothing overlaps, nothing is counted twice."""

from __future__ import annotations

import numpy as np
import pytest

from titans_seq.dna.alphabet import encode
from titans_seq.dna.reading.records import RecordHeader, RecordPiece
from titans_seq.dna.streaming.predictions import OutputNames, SequencePredictions
from titans_seq.dna.streaming.stream import RecordWindow, WindowGrid, WindowPredictions, cut_windows
from titans_seq.dna.streaming.summaries import Summaries, summary_columns
from titans_seq.dna.streaming.tracks import BedGraph, window_columns, window_lines
from titans_seq.exceptions import ConfigError

CLASSES = np.array(["no", "a b"])
OUTPUTS = OutputNames(["no", "a b"], ["p(no)", "p(a b)"], True)
VALUES = OutputNames(["x", "y"], ["value(x)", "value(y)"], False)


def _pieces(lengths: list[int]) -> list[RecordPiece]:
    return [
        RecordPiece(RecordHeader(number, f"r{number}", ""), 0, encode("A" * length), True)
        for number, length in enumerate(lengths, start=1)
    ]


def _predictions(windows: list[RecordWindow], first: int = 0) -> WindowPredictions:
    share = (np.arange(first, first + len(windows)) % 7 + 1) / 8
    chances = np.stack([1 - share, share], axis=1)
    labels = CLASSES[chances.argmax(axis=1)]
    return WindowPredictions(windows, SequencePredictions(chances, labels), share * 10)


def _parts(lengths: list[int], grid: WindowGrid, size: int) -> list[WindowPredictions]:
    windows = list(cut_windows(_pieces(lengths), grid))
    return [_predictions(windows[i : i + size], i) for i in range(0, len(windows), size)]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(("window", "stride"), [(10, 10), (10, 3), (10, 1), (5, 12)])
def test_each_letter_has_the_value_of_the_nearest_window(
    window: int, stride: int, size: int
) -> None:
    lengths = [57, 3, 40, 10]
    grid = WindowGrid.checked(window, stride)
    track = BedGraph(OUTPUTS, "a b")
    text = "".join(track.lines(part) for part in _parts(lengths, grid, size)) + track.end()
    drawn: dict[tuple[str, int], float] = {}
    for line in text.splitlines():
        name, start, end, value = line.split("\t")
        assert int(start) < int(end)
        for place in range(int(start), int(end)):
            assert (name, place) not in drawn
            drawn[name, place] = float(value)
    windows = list(cut_windows(_pieces(lengths), grid))
    values = _predictions(windows).predictions.values[:, 1]
    for number, length in enumerate(lengths, start=1):
        for place in range(length):
            own = [i for i, one in enumerate(windows) if one.head.number == number]
            over = [i for i in own if windows[i].start <= place < windows[i].end]
            if not over:
                assert (f"r{number}", place) not in drawn
                continue
            apart = {i: abs(windows[i].start + windows[i].end - 1 - 2 * place) for i in over}
            nearest = {values[i] for i in over if apart[i] <= min(apart.values()) + 1}
            assert any(abs(drawn[f"r{number}", place] - value) < 1e-5 for value in nearest)


def test_bed_has_one_line_a_window() -> None:
    (part,) = _parts([12, 5], WindowGrid.checked(10), 10)
    assert (
        window_lines(part)
        == "r1\t0\t10\tno\t875\t.\nr1\t10\t12\tno\t750\t.\nr2\t0\t5\tno\t625\t.\n"
    )


def test_surprise_needs_a_memory_and_a_class_a_name() -> None:
    (part,) = _parts([12], WindowGrid.checked(10), 10)
    assert BedGraph(OUTPUTS, "surprise").lines(part) == "r1\t0\t10\t1.25\n"
    with pytest.raises(ConfigError, match="needs a carried memory"):
        BedGraph(OUTPUTS, "surprise").lines(part._replace(surprise=None))
    with pytest.raises(ConfigError, match="unknown track 'x'; choose one of no, a b, surprise"):
        BedGraph(OUTPUTS, "x")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_summaries_do_not_depend_on_the_batches(size: int) -> None:
    lengths, grid = [57, 3, 40], WindowGrid.checked(10, 4)
    summaries = Summaries()
    list(summaries.count_letters(_pieces(lengths)))
    found = [one for part in _parts(lengths, grid, size) for one in summaries.add(part)]
    found += summaries.end()
    (whole,) = _parts(lengths, grid, 1000)
    names = window_columns(whole, OUTPUTS, positions=True)["id"]
    columns = summary_columns(found, OUTPUTS)
    assert columns["id"] == ["r1", "r2", "r3"]
    assert columns["length"] == lengths
    for row, name in enumerate(columns["id"]):
        own = [i for i, one in enumerate(names) if one == name]
        chances = whole.predictions.values[own]
        assert columns["windows"][row] == len(own)
        assert columns["windows(a b)"][row] == (chances.argmax(axis=1) == 1).sum()
        assert columns["mean p(a b)"][row] == pytest.approx(chances[:, 1].mean())
        assert columns["max p(a b)"][row] == chances[:, 1].max()
        best = own[int(chances[:, 1].argmax())]
        assert columns["start of max p(a b)"][row] == whole.windows[best].start


def test_values_have_no_labels() -> None:
    (part,) = _parts([12], WindowGrid.checked(10), 10)
    part = part._replace(predictions=SequencePredictions(part.predictions.values, None))
    assert list(window_columns(part, VALUES, positions=False)) == [
        "id", "value(x)", "value(y)", "surprise"
    ]  # fmt: skip
    assert window_lines(part) == "r1\t0\t10\t0.875\t0\t.\nr1\t10\t12\t0.75\t0\t.\n"
    summaries = Summaries()
    list(summaries.count_letters(_pieces([12])))
    found = [*summaries.add(part), *summaries.end()]
    assert summary_columns(found, VALUES)["max value(y)"] == [0.25]
    assert "label" not in summary_columns(found, VALUES)
