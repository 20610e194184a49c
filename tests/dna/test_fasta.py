"""FASTA at the door: what is read, and what is refused with its place."""

from __future__ import annotations

import gzip
import io
import random
import sys
from pathlib import Path

import pytest

from titans_seq.dna import read_fasta
from titans_seq.exceptions import DataError

PLAIN = b">a first one\nACGTN\nRYK\n>b label=x\nGGCC\n"


def _write(folder: Path, content: bytes, name: str = "x.fa") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _read(path: Path) -> list[tuple[str, str]]:
    return [(record.name, record.sequence.upper().replace("U", "T")) for record in read_fasta(path)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN.replace(b"\n", b"\r\n"), id="windows line ends"),
        pytest.param(PLAIN.replace(b"\n", b"\r"), id="old mac line ends"),
        pytest.param(b"\xef\xbb\xbf" + PLAIN, id="byte-order mark"),
        pytest.param(PLAIN.replace(b"ACGTN", b"acguN"), id="lower case and u"),
        pytest.param(b"\n\n" + PLAIN.replace(b"\n", b"\n\n"), id="blank lines"),
        pytest.param(PLAIN.replace(b"RYK\n", b"RY K \t\n"), id="spaces in a sequence"),
        pytest.param(PLAIN.rstrip(), id="no last line end"),
        pytest.param(gzip.compress(PLAIN, mtime=0), id="gzip"),
        pytest.param(
            gzip.compress(PLAIN[:20], mtime=0) + gzip.compress(PLAIN[20:], mtime=0),
            id="many members",
        ),
        pytest.param(gzip.compress(PLAIN.replace(b"\n", b"\r\n"), mtime=0), id="gzip, windows"),
    ],
)
def test_the_same_records_however_they_are_written(tmp_path: Path, content: bytes) -> None:
    expected = [("a", "ACGTNRYK"), ("b", "GGCC")]
    assert _read(_write(tmp_path, PLAIN)) == expected
    assert _read(_write(tmp_path, content, "other.txt")) == expected


@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN, mtime=0)])
def test_standard_input_reads_as_a_file(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert [record.name for record in read_fasta("-")] == ["a", "b"]
    assert not stdin.buffer.closed


def test_headers_keep_their_words(tmp_path: Path) -> None:
    first, second = read_fasta(_write(tmp_path, PLAIN))
    assert (first.description, first.label) == ("a first one", None)
    assert (second.description, second.label) == ("b label=x", "x")


def test_a_name_that_occurs_twice_is_kept_and_told(tmp_path: Path) -> None:
    path = _write(tmp_path, b">a\nAC\n>a\nGT\n>b\nA\n")
    with pytest.warns(UserWarning, match=r"x.fa: 1 name\(s\) occur more than once, 'a' first"):
        records = list(read_fasta(path))
    assert [record.sequence for record in records] == ["AC", "GT", "A"]


def _letters(count: int) -> bytes:
    return "".join(random.Random(0).choices("ACGT", k=count)).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.fa is empty"),
        (b"\n \n", r"x\.fa is empty"),
        (b"ACGT\n", r"x\.fa, line 1: 'ACGT' stands before the first header"),
        (b"\n; note\n>a\nAC\n", r"line 2: '; note' .*comment"),
        (b"# note\n>a\nAC\n", r"line 1: .*comment"),
        (b"@r1\nACGT\n+\nIIII\n", r"line 1: .*FASTQ"),
        (b"<!doctype html>", r"line 1: .*HTML"),
        (b"LOCUS       X 10 bp\n", r"line 1: .*GenBank"),
        (b">a\nACGT\n>b\nACEGT\n", r"x\.fa, record b: letter 'E' at position 3 of 5.*protein"),
        (b">a\nACGT\nAC.T\n", r"record a: letter '\.' at position 7 of 8"),
        (b">a\nAC1\n", r"record a: letter '1' at position 3 of 3"),
        (b">a\n>b\nACGT\n", r"record a \(line 1\): no sequence"),
        (b">a\nAC\n>b\n\n", r"record b \(line 3\): no sequence"),
        (b">a\nACGT>b\nGGGG\n", r"line 2: '>' inside a line"),
        (b">a\nACGT\n >b\nGGGG\n", r"line 3: '>' inside a line"),
        (b">\nACGT\n", r"line 1: a header without a name"),
        (b">ok\nAC\n>caf\xe9\nACGT\n", r"line 3: not UTF-8"),
        (">a\nACGT\n".encode("utf-16"), r"UTF-16"),
        (bytes(range(128, 256)), r"line 1: not UTF-8"),
        (b"BZh91AY&SY", r"packed with bzip2"),
        (b"PK\x03\x04....", r"packed with zip"),
        (gzip.compress(b">a\n" + _letters(9000) + b"\n", mtime=0)[:-900], r"cut off after line 1"),
        (gzip.compress(b">a\nACGT\n", mtime=0)[:-4], r"cut off after line 2"),
        (
            gzip.compress(b">a\n" + b"ACGT" * 99, mtime=0)[:24] + b"xxxxxxxxx" * 9,
            r"gzip file is damaged",
        ),
        (gzip.compress(b">a\nACGT\n", mtime=0) + b"tail", r"damaged after line 2"),
    ],
)
def test_what_is_not_fasta_is_refused_by_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list(read_fasta(_write(tmp_path, content)))


def test_paths_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path.name} is a folder"):
        list(read_fasta(tmp_path))
    with pytest.raises(DataError, match=r"missing\.fa cannot be read: No such file"):
        list(read_fasta(tmp_path / "missing.fa"))


def test_a_real_genome_reads_whole(shared_data: Path) -> None:
    path = shared_data / "dna" / "genomes" / "ecoli_MG1655_U00096.3.fna.gz"
    (record,) = read_fasta(path)
    assert len(record.sequence) == 4_641_652
    assert set(record.sequence) == set("ACGT")
