"""Stretches cut out of records while they are read, BED intervals, and variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from titans_seq.dna.alphabet import Codes, decode, encode, reverse_complement
from titans_seq.dna.reading.records import checked_fasta, read_pieces
from titans_seq.dna.reading.spans import Span, extract_spans
from titans_seq.dna.streaming.intervals import predict_intervals, read_bed
from titans_seq.dna.streaming.predictions import output_names
from titans_seq.dna.streaming.variants import read_vcf, score_variants, variant_columns
from titans_seq.exceptions import DataError

GENOME = {
    name: "".join(np.random.default_rng(seed).choice(list("ACGT"), 300))
    for seed, name in enumerate(("chr1", "chr2", "chrM"))
}


class Places:
    """A classifier whose answer tells which sequence it was shown."""

    classes_ = np.array(["a", "b"])

    def __init__(self) -> None:
        self.seen: list[str] = []

    def predict_proba(self, rows: list[Codes]) -> np.ndarray:
        self.seen += [decode(row) for row in rows]
        share = np.array([(row * np.arange(1, len(row) + 1)).sum() / 1e6 for row in rows])
        return np.stack([share, 1 - share], axis=1)

    def decide(self, chances: np.ndarray, _: list[int]) -> np.ndarray:
        return self.classes_[chances.argmax(axis=1)]


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name} x\n{text}\n" for name, text in GENOME.items()))
    return path


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_spans_are_cut_as_from_the_whole_record(genome: Path, size: int) -> None:
    generator = np.random.default_rng(0)
    wanted: dict[str, list[Span]] = {"chr1": [], "chrM": []}
    for key in range(200):
        start = int(generator.integers(0, 310))
        end = start + int(generator.choice([1, 2, 30, 250]))
        wanted["chr1" if key % 2 else "chrM"].append(Span(start, end, key))
    found = dict(extract_spans(read_pieces(genome, size=size), wanted, "genome"))
    assert len(found) == 200
    for name, spans in wanted.items():
        for span in spans:
            assert decode(found[span.key]) == GENOME[name][span.start : span.end]


def test_a_name_that_two_records_have_is_refused_if_it_is_asked_for(tmp_path: Path) -> None:
    path = _write(tmp_path, "g.fa", ">a\nACGT\n>b\nACGT\n>a\nACGT\n")
    assert len(list(extract_spans(read_pieces(path), {"b": [Span(0, 2, 0)]}, "g.fa"))) == 1
    with pytest.raises(DataError, match=r"g\.fa: two records are called 'a'"):
        list(extract_spans(read_pieces(path), {"a": [Span(0, 2, 0)]}, "g.fa"))


def test_intervals_are_predicted_in_their_order_and_on_their_strand(
    genome: Path, tmp_path: Path
) -> None:
    bed = _write(
        tmp_path,
        "x.bed",
        "# made by hand\ntrack name=x\nchr2\t200\t300\tlate\t0\t+\nchr1\t5\t40\tfirst\t0\t-\n\n"
        "chr2\t0\t300\nchr1\t5\t6\n",
    )
    intervals = read_bed(bed)
    assert [one.line for one in intervals] == [3, 4, 6, 7]
    assert [one.strand for one in intervals] == ["+", "-", ".", "."]
    with checked_fasta(genome) as source:
        found = predict_intervals(Places(), source, intervals, "x.bed")
    texts = [GENOME["chr2"][200:], GENOME["chr1"][5:40], GENOME["chr2"], GENOME["chr1"][5]]
    rows = [encode(text) for text in texts]
    rows[1] = reverse_complement(rows[1])
    np.testing.assert_allclose(found.values, Places().predict_proba(rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x\.bed is empty"),
        ("# nothing\n", r"x\.bed is empty"),
        ("chr1\t5\n", r"x\.bed, line 1: 2 column\(s\)"),
        ("chr1\tfive\t9\n", r"line 1: start 'five' and end '9' must be integers"),
        ("chr1\t1\t2\nchr1\t9\t5\n", r"line 2: start 9 and end 5"),
        ("chr1\t-1\t5\n", r"line 1: start -1"),
        ("chr1\t1\t5\tn\t0\tx\n", r"line 1: strand 'x' must be one of \+ - \."),
        ("chr1\t1\t2\nchr9\t1\t5\n", r"x\.bed, line 2: .*genome\.fa has no record 'chr9'"),
        (
            "chr1\t1\t2\nchr1\t290\t301\n",
            r"line 2: chr1:290-301 extends beyond the end of",
        ),
        ("chr1\t400\t401\n", r"line 1: chr1:400-401 extends beyond the end"),
    ],
)
def test_intervals_that_cannot_be_are_refused(
    genome: Path, tmp_path: Path, text: str, message: str
) -> None:
    bed = _write(tmp_path, "x.bed", text)
    with pytest.raises(DataError, match=message), checked_fasta(genome) as source:
        predict_intervals(Places(), source, read_bed(bed), str(bed))


def _vcf(*rows: tuple[Any, ...]) -> str:
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL"]
    return "\n".join([*lines, *("\t".join(map(str, (*row, "."))) for row in rows)]) + "\n"


def test_variants_change_the_letters_they_name_and_no_others(genome: Path, tmp_path: Path) -> None:
    one, two = GENOME["chr1"], GENOME["chr2"]
    other = "A" if one[99] != "A" else "C"
    rows = [
        ("chr2", 151, "del", two[150:154], two[150]),
        ("chr1", 100, "snp", one[99].lower(), f"{other},{other}GG"),
        ("chr1", 2, "edge", one[1], "G"),
        ("chr1", 300, "last", one[299], "G"),
    ]
    variants = read_vcf(_write(tmp_path, "x.vcf", _vcf(*rows, ("chr1", 9, ".", "A", "<DEL>,*"))))
    assert variants.skipped == [(7, "<DEL>"), (7, "*")]
    assert [one.name for one in variants.scored] == ["del", "snp", "snp", "edge", "last"]
    shown = Places()
    with checked_fasta(genome) as source:
        scores = score_variants(shown, source, variants.scored, 20, "x.vcf")
    pairs = {
        ("del", two[142:162], two[142:151] + two[154:165]),
        ("snp", one[90:110], one[90:99] + other + one[100:110]),
        ("snp", one[90:110], one[90:99] + other + "GG" + one[100:108]),
        ("edge", one[:20], one[0] + "G" + one[2:20]),
        ("last", one[290:], one[290:299] + "G"),
    }
    assert {(a, b) for _, a, b in pairs} == set(zip(shown.seen[::2], shown.seen[1::2], strict=True))
    for variant, ref, alt in zip(variants.scored, scores.ref, scores.alt, strict=True):
        mine = [(a, b) for name, a, b in pairs if name == variant.name]
        answers = [Places().predict_proba([encode(a), encode(b)]) for a, b in mine]
        assert any(np.allclose([ref, alt], answer) for answer in answers)
    columns = variant_columns(variants.scored, scores, output_names(shown))
    assert columns["pos"] == [151, 100, 100, 2, 300]
    np.testing.assert_allclose(columns["change(a)"], scores.alt[:, 0] - scores.ref[:, 0])
    np.testing.assert_allclose(
        columns["log-odds(a)"],
        np.log(scores.alt[:, 0] / scores.alt[:, 1]) - np.log(scores.ref[:, 0] / scores.ref[:, 1]),
    )


_A = GENOME["chr1"][9]
_NOT = "C" if _A != "C" else "G"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x\.vcf: no variant whose alleles are sequences"),
        (_vcf(("chr1", 10, ".", _A, "<DEL>")), r"no variant whose alleles are sequences"),
        ("chr1\t10\n", r"x\.vcf, line 1: 2 column\(s\) separated by tabs"),
        (_vcf(("chr1", "x", ".", _A, "G")), r"line 3: POS must be a positive integer, got 'x'"),
        (_vcf(("chr1", 0, ".", _A, "G")), r"line 3: POS must be .* got '0'"),
        (_vcf(("chr1", 10, ".", ".", "G")), r"line 3: REF must .* of DNA, got '\.'"),
        (_vcf(("chr1", 10, ".", _NOT, "T")), rf"REF is '{_NOT}', but .* has '{_A}' at chr1"),
        (_vcf(("chr1", 999, ".", "A", "T")), r"line 3: .* has nothing at chr1:999"),
        (_vcf(("chr7", 10, ".", "A", "T")), r"line 3: .* has no record 'chr7'"),
        (_vcf(("chr1", 10, ".", "A" * 21, "T")), r"line 3: REF has 21 letters, more than the win"),
    ],
)  # fmt: skip
def test_variants_that_cannot_be_are_refused(
    genome: Path, tmp_path: Path, text: str, message: str
) -> None:
    path = _write(tmp_path, "x.vcf", text)
    with pytest.raises(DataError, match=message), checked_fasta(genome) as source:
        score_variants(Places(), source, read_vcf(path).scored, 20, str(path))
