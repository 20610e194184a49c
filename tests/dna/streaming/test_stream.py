"""WindowPredictions along records: the same numbers as one at a time, in any split, at any case."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from titans_seq.dna import TitansDNAClassifier
from titans_seq.dna.alphabet import decode, encode, reverse_complement
from titans_seq.dna.reading.records import read_pieces
from titans_seq.dna.streaming.carry import carrying
from titans_seq.dna.streaming.stream import WindowGrid, predict_pieces
from titans_seq.exceptions import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("brief_start_of_module")

WINDOW = 30
RECORDS = {"chr1": 1000, "short": 7, "chr2": 301}


def _letters(count: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGTACGTACGTN"), count))


@pytest.fixture(scope="module")
def genome() -> dict[str, str]:
    return {name: _letters(count, count) for name, count in RECORDS.items()}


@pytest.fixture(scope="module")
def path(genome: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in genome.items()))
    return path


def _fit(strands: str = "none", variant: str = "mag") -> TitansDNAClassifier:
    rows = [_letters(WINDOW, seed) for seed in range(24)]
    labels = ["rich" if row.count("G") > row.count("A") else "poor" for row in rows]
    return TitansDNAClassifier(
        variant=variant, dim=8, layers=1, max_epochs=1, reverse_complement=strands, random_state=0
    ).fit(rows, labels)


@pytest.fixture(scope="module")
def classifier() -> TitansDNAClassifier:
    return _fit()


@pytest.mark.parametrize("strands", ["none", "average"])
@pytest.mark.parametrize("stride", [7, 30, 40])
def test_window_rows_agree_with_single_sequences(
    genome: dict[str, str], path: Path, strands: str, stride: int
) -> None:
    classifier = _fit(strands)
    rows = list(classifier.predict_stream(path, window=WINDOW, stride=stride))
    assert [row.record for row in rows] == sorted(
        (row.record for row in rows), key=list(RECORDS).index
    )
    texts = [genome[row.record][row.start : row.end] for row in rows]
    alone = np.concatenate([classifier.predict_proba([text]) for text in texts[:9] + texts[-5:]])
    found = np.array([row.values for row in rows])
    np.testing.assert_allclose(np.concatenate([found[:9], found[-5:]]), alone, atol=1e-6)
    np.testing.assert_allclose(found, classifier.predict_proba(texts), atol=1e-6)
    assert [row.label for row in rows] == classifier.predict(texts).tolist()
    assert {row.surprise for row in rows} == {None}


def _scores(classifier: TitansDNAClassifier, path: Path, **words: object) -> np.ndarray:
    return np.array([row.values for row in classifier.predict_stream(path, **words)])


def _dressed(genome: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield the genome written in other ways."""

    def wrapped(width: int, end: str = "\n") -> str:
        return "".join(
            f">{name}{end}" + "".join(text[i : i + width] + end for i in range(0, len(text), width))
            for name, text in genome.items()
        )

    yield "lower case", wrapped(60).lower().replace("chr", "chr").encode()
    yield (
        "mixed case",
        "".join(
            c.lower() if i % 3 and c in "ACGTN" else c for i, c in enumerate(wrapped(61))
        ).encode(),
    )
    yield "lines of 7", wrapped(7).encode()
    yield "windows line ends", wrapped(80, "\r\n").encode()
    yield "rna", wrapped(80).replace("T", "U").encode()
    yield "gzip", gzip.compress(wrapped(80).encode())


@pytest.mark.parametrize("carry", [False, True])
def test_the_dress_of_a_sequence_changes_nothing(
    classifier: TitansDNAClassifier, genome: dict[str, str], path: Path, tmp_path: Path, carry: bool
) -> None:
    wanted = _scores(classifier, path, window=WINDOW, carry=carry)
    for name, content in _dressed(genome):
        other = tmp_path / name
        other.write_bytes(content)
        found = _scores(classifier, other, window=WINDOW, carry=carry)
        np.testing.assert_array_equal(found, wanted, err_msg=name)


@pytest.mark.parametrize("carry", [False, True])
def test_order_and_neighbours_change_nothing(
    classifier: TitansDNAClassifier, genome: dict[str, str], path: Path, tmp_path: Path, carry: bool
) -> None:
    words = {"window": WINDOW, "carry": carry}
    by_record = {name: [] for name in genome}
    for row in classifier.predict_stream(path, **words):
        by_record[row.record].append(row.values)
    for name, text in genome.items():
        other = tmp_path / "alone.fa"
        other.write_text(f">{name}\n{text}\n")
        np.testing.assert_allclose(_scores(classifier, other, **words), by_record[name], atol=1e-6)
    other = tmp_path / "turned.fa"
    other.write_text("".join(f">{n}\n{t}\n" for n, t in reversed(genome.items())))
    wanted = np.concatenate([by_record[name] for name in reversed(genome)])
    np.testing.assert_allclose(_scores(classifier, other, **words), wanted, atol=1e-6)


@pytest.mark.parametrize("carry", [False, True])
def test_a_record_split_at_any_place_gives_the_same_numbers(
    classifier: TitansDNAClassifier, path: Path, carry: bool
) -> None:
    grid = WindowGrid.checked(WINDOW, carry=carry)

    def scores(size: int) -> np.ndarray:
        parts = predict_pieces(classifier, read_pieces(path, size=size), grid)
        return np.concatenate([part.predictions.values for part in parts])

    wanted = scores(1 << 20)
    for size in (1, 13, 100):
        np.testing.assert_array_equal(scores(size), wanted)


@pytest.mark.parametrize(
    ("variant", "strands"),
    [("mac", "none"), ("lmm", "none"), ("mal", "average"), ("attention", "none"),
     ("mag", "none"), ("mag", "average"), ("mag", "equivariant")],
)  # fmt: skip
def test_a_memory_carried_in_parts_gives_one_pass(variant: str, strands: str) -> None:
    classifier = _fit(strands, variant)
    rows = [encode(_letters(WINDOW, seed)) for seed in range(40)]
    with carrying(classifier) as (twin, memory):
        whole = twin.predict_proba(rows)
        surprise = memory.take_surprise(40)
        memory.reset()
        again = twin.predict_proba(rows)
        np.testing.assert_array_equal(again, whole)
        memory.take_surprise(40)
        for cuts in ((1, 2), (13, 39), (17, 18)):
            memory.reset()
            bounds = [0, *cuts, len(rows)]
            parts = [twin.predict_proba(rows[a:b]) for a, b in itertools.pairwise(bounds)]
            np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)
            np.testing.assert_allclose(memory.take_surprise(40), surprise, rtol=1e-3)
    assert np.isnan(surprise).all() == (variant == "attention")
    # the first window has no past, the others have one; and the model itself is as it was
    alone = classifier.predict_proba(rows)
    np.testing.assert_allclose(alone[0], whole[0], atol=1e-5)
    assert np.abs(alone - whole)[1:].max() > 1e-4


def test_carried_tokens_are_those_of_one_long_pass(classifier: TitansDNAClassifier) -> None:
    """The backbone sees the windows' tokens as one sequence, by its own word."""
    rows = [encode(_letters(WINDOW, seed)) for seed in range(5)]
    reader = classifier.network_.titans
    bases = classifier.network_.shares[torch.from_numpy(np.stack(rows)).long()]
    mask = torch.ones(bases.shape[:2], dtype=torch.bool)
    with torch.no_grad(), carrying(classifier) as (twin, _):
        tokens, real, _ = reader.tokens(bases, mask)
        whole, _ = reader.backbone(tokens.flatten(0, 1).unsqueeze(0))
        carried, _ = twin.network_.titans.backbone(tokens, mask=real)
    torch.testing.assert_close(carried.flatten(0, 1), whole[0])


def test_surprise_is_the_memory_s_own_loss() -> None:
    classifier = _fit(variant="lmm")
    rows = [encode(_letters(WINDOW, seed)) for seed in range(4)]
    reader = classifier.network_.titans
    bases = classifier.network_.shares[torch.from_numpy(np.stack(rows)).long()]
    mask = torch.ones(bases.shape[:2], dtype=torch.bool)
    with torch.no_grad(), carrying(classifier) as (twin, memory):
        twin.predict_proba(rows)
        found = memory.take_surprise(4)
        tokens, _, _ = reader.tokens(bases, mask)
        mixer = reader.backbone.blocks[0].mixer
        read = reader.backbone.blocks[0].mixer_norm(tokens.flatten(0, 1).unsqueeze(0))
        read = torch.cat([mixer.tokens.unsqueeze(0), read], dim=1)
        _, _, losses = mixer.memory(read, return_surprise=True)
    wanted = losses[0, len(mixer.tokens) :].unflatten(0, (4, -1)).mean(dim=1)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4)


def test_averaged_strands_give_a_turned_window_the_same_answer() -> None:
    classifier = _fit("average")
    rows = [encode(_letters(WINDOW, seed)) for seed in range(3)]
    turned = [reverse_complement(row) for row in rows]
    np.testing.assert_allclose(
        classifier.predict_proba(rows), classifier.predict_proba(turned), atol=1e-6
    )
    assert decode(turned[0]) != decode(rows[0])


def test_faults_are_told_before_the_first_row(
    classifier: TitansDNAClassifier, genome: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "bad.fa"
    other.write_text("".join(f">{n}\n{t}\n" for n, t in genome.items()) + ">bad\nACXT\n")
    with pytest.raises(DataError, match=r"bad\.fa, record bad: letter 'X' at position 3"):
        next(classifier.predict_stream(other, window=WINDOW))
    refused = tmp_path / "refused.fa"
    with pytest.warns(UserWarning, match=r"1 of 4 record\(s\) are skipped and written to"):
        rows = list(
            classifier.predict_stream(other, window=WINDOW, on_error="skip", refused=refused)
        )
    assert {row.record for row in rows} == set(genome)
    assert refused.read_text().startswith(">bad refused=")


def test_a_long_record_needs_windows(classifier: TitansDNAClassifier, tmp_path: Path) -> None:
    path = tmp_path / "long.fa"
    path.write_text(">long\n" + "ACGT" * 50_001 + "\n")
    with pytest.raises(DataError, match=r"record long: 200,004 letters are more than 200,000"):
        next(classifier.predict_stream(path))
    with pytest.raises(ConfigError, match="carry needs a window"):
        classifier.predict_stream(path, carry=True)
