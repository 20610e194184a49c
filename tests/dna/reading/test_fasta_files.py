"""Good and bad FASTA files: what both readers and the command make of each.

Each file is read by Biopython's parser (whole records) and by the reader of blocks (pieces, in
blocks of several sizes); both give the same records, or refuse with the same words. The command
then predicts it, stopping at faults and skipping them: never a traceback, a lost or doubled
record, or half an output.
"""

from __future__ import annotations

import gzip
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result

from titans_seq.dna import read_fasta
from titans_seq.dna.alphabet import decode
from titans_seq.dna.reading.records import read_pieces, summarize_fasta
from titans_seq.exceptions import DataError

Records = list[tuple[str, str]]
AB: Records = [("a", "ACGTNRYK"), ("b", "GGCC")]
PLAIN = b">a a first one\nACGTN\nRYK\n>b label=x\nGGCC\n"
LONG = bytes(np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 9000))


def bgzip(text: bytes, size: int = 20) -> bytes:
    """Pack as bgzip does: a member each block, its length in an extra field, an empty one last."""
    out = []
    for start in [*range(0, len(text), size), len(text)]:
        block = text[start : start + size]
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(block) + packer.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(packed) + 25)
        out.append(head + packed + struct.pack("<II", zlib.crc32(block), len(block)))
    return b"".join(out)


class Good(NamedTuple):
    """A file that is read."""

    name: str
    content: bytes
    records: Sequence[tuple[str, str]] = tuple(AB)


class Bad(NamedTuple):
    """A file of which something is refused, or all of it."""

    name: str
    content: bytes
    words: str
    """What the error says."""

    kept: Sequence[tuple[str, str]] = ()
    """Records that are left when refused ones are skipped; none: the whole file is refused."""


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


GOOD = [
    Good("plain", PLAIN),
    Good("windows line ends", PLAIN.replace(b"\n", b"\r\n")),
    Good("old mac line ends", PLAIN.replace(b"\n", b"\r")),
    Good("mixed line ends", PLAIN.replace(b"ACGTN\n", b"ACGTN\r").replace(b"RYK\n", b"RYK\r\n")),
    Good("byte-order mark", b"\xef\xbb\xbf" + PLAIN),
    Good("lower case", PLAIN.replace(b"ACGTN", b"acgtn")),
    Good("mixed case", PLAIN.replace(b"GGCC", b"GgcC")),
    Good("rna", PLAIN.replace(b"ACGTN", b"ACGUN")),
    Good("lower case rna", PLAIN.replace(b"ACGTN", b"acgun")),
    Good("blank lines", b"\n\n" + PLAIN.replace(b"\n", b"\n\n")),
    Good("blank windows lines", PLAIN.replace(b"\n", b"\r\n\r\n")),
    Good("lines of blanks", PLAIN.replace(b"RYK\n", b" \t \nRYK\n \n")),
    Good("blanks at line ends", PLAIN.replace(b"ACGTN\n", b"ACGTN  \t\n")),
    Good("blanks in a sequence", PLAIN.replace(b"RYK\n", b"RY K\n")),
    Good("tabs in a sequence", PLAIN.replace(b"RYK\n", b"RY\tK\n")),
    Good("indented lines", PLAIN.replace(b"RYK\n", b"   RYK\n")),
    Good("form feeds", PLAIN.replace(b"RYK\n", b"RYK\f\n")),
    Good("no last line end", PLAIN.rstrip()),
    Good("one line a record", PLAIN.replace(b"ACGTN\n", b"ACGTN")),
    Good("one letter a line", b">a\nA\nC\nG\nT\nN\nR\nY\nK\n>b\nG\nG\nC\nC\n"),
    Good("gzip", packed(PLAIN)),
    Good("gzip of windows lines", packed(PLAIN.replace(b"\n", b"\r\n"))),
    Good("gzip of two members", packed(PLAIN[:20]) + packed(PLAIN[20:])),
    Good("gzip of a member a line", b"".join(packed(x) for x in PLAIN.splitlines(True))),
    Good("gzip, zeros behind", packed(PLAIN) + bytes(64)),
    Good("gzip of a byte-order mark", packed(b"\xef\xbb\xbf" + PLAIN)),
    Good("bgzip", bgzip(PLAIN)),
    Good("bgzip of one block", bgzip(PLAIN, 1 << 16)),
    Good("every letter", b">a\nACGTURYSWKMBDHVN\n", [("a", "ACGTTRYSWKMBDHVN")]),
    Good("every small letter", b">a\nacgturyswkmbdhvn\n", [("a", "ACGTTRYSWKMBDHVN")]),
    Good("one record", b">a\nACGT\n", [("a", "ACGT")]),
    Good("one letter", b">a\nA", [("a", "A")]),
    Good("names twice", b">a\nAC\n>a\nGT\n>b\nA\n", [("a", "AC"), ("a", "GT"), ("b", "A")]),
    Good("a blank before the name", b"> a\nACGT\n", [("a", "ACGT")]),
    Good("a tab behind the name", b">a\tfirst\nACGT\n", [("a", "ACGT")]),
    Good("words of another tongue", ">é ß 日本\nACGT\n".encode(), [("é", "ACGT")]),
    Good("quotes and commas in a name", b'>a,"b";c|d\nACGT\n', [('a,"b";c|d', "ACGT")]),
    Good("> in a header", b">a x>y\nAC\n>b>c\nGT\n", [("a", "AC"), ("b>c", "GT")]),
    Good("a name of 5,000 letters", b">" + b"x" * 5000 + b"\nAC\n", [("x" * 5000, "AC")]),
    Good("a long line", b">a\n" + LONG + b"\n>b\nA\n", [("a", LONG.decode()), ("b", "A")]),
    Good("600 records", b"".join(b">r%d\nACGT\n" % i for i in range(600)),
         [(f"r{i}", "ACGT") for i in range(600)]),
    Good("all N", b">a\nNNNNNNNN\n", [("a", "NNNNNNNN")]),
]  # fmt: skip

WHOLE = [
    Bad("nothing", b"", "is empty"),
    Bad("blank lines only", b"\n \n\r\n", "is empty"),
    Bad("a byte-order mark only", b"\xef\xbb\xbf", "is empty"),
    Bad("gzip of nothing", packed(b""), "is empty"),
    Bad("no header", b"ACGT\n", "line 1: 'ACGT' stands before the first header"),
    Bad("text before the header", b"\nhello\n>a\nAC\n", "line 2: 'hello' stands before the first"),
    Bad("an indented first header", b" >a\nAC\n", "line 1: '>a' stands before the first header"),
    Bad("a ; comment", b"\n; note\n>a\nAC\n", "line 2: '; note' .*comment"),
    Bad("a # comment", b"# note\n>a\nAC\n", "line 1: .*comment"),
    Bad("fastq", b"@r1\nACGT\n+\nIIII\n", "line 1: .*FASTQ"),
    Bad("gzipped fastq", packed(b"@r1\nACGT\n+\nIIII\n"), "line 1: .*FASTQ"),
    Bad("genbank", b"LOCUS       X 10 bp\n", "line 1: .*GenBank"),
    Bad("embl", b"ID   X; SV 1;\n", "line 1: .*EMBL"),
    Bad("html", b"<!doctype html>", "line 1: .*HTML"),
    Bad("utf-16", ">a\nACGT\n".encode("utf-16"), "UTF-16"),
    Bad("any bytes", bytes(range(128, 256)), "line 1: not UTF-8"),
    Bad("bzip2", b"BZh91AY&SY", "compressed with bzip2"),
    Bad("xz", b"\xfd7zXZ\0\0", "compressed with xz"),
    Bad("zip", b"PK\x03\x04....", "compressed with zip"),
    Bad("zstd", b"\x28\xb5\x2f\xfd....", "compressed with zstd"),
    Bad("gzip cut off", packed(b">a\n" + LONG + b"\n")[:-900], "truncated after"),
    Bad("gzip without its end", packed(b">a\nACGT\n")[:-4], "truncated after"),
    Bad("gzip cut off in its head", packed(b">a\nACGT\n")[:6], "truncated after"),
    Bad("gzip damaged", packed(b">a\n" + LONG)[:99] + b"x" * 99, "gzip file is damaged"),
    Bad("gzip of another sum", packed(b">a\nACGT\n")[:-8] + bytes(8), "gzip file is damaged"),
    Bad("text behind gzip", packed(b">a\nACGT\n") + b"tail", "gzip file is damaged"),
    Bad("bgzip cut off", bgzip(b">a\n" + LONG, 999)[:-2000], "truncated after"),
]
PARTS = [
    Bad("protein", b">a\nACGT\n>b\nACEGT\n", "record b: letter 'E' at position 3.*protein",
        [("a", "ACGT")]),
    Bad("protein in every record", b">a\nMKL\n>b\nMFV\n", "record a: letter 'L' at position 3"),
    Bad("a gap", b">a\nACGT\nAC-T\n>b\nA\n", "record a: letter '-' at position 7.*gaps",
        [("b", "A")]),
    Bad("a dot", b">a\nACGT\nAC.T\n>b\nA\n", r"record a: letter '\.' at position 7.*gaps",
        [("b", "A")]),
    Bad("a digit", b">a\nA\n>b\nAC1\n", "record b: letter '1' at position 3", [("a", "A")]),
    Bad("a stop", b">a\nA\n>b\nACG*\n", r"record b: letter '\*' at position 4.*protein",
        [("a", "A")]),
    Bad("a question mark", b">a\nA\n>b\nAC?\n", r"record b: letter '\?' at position 3",
        [("a", "A")]),
    Bad("a zero byte", b">a\nA\n>b\nA\0C\n", r"record b: letter '\\x00' at position 2",
        [("a", "A")]),
    Bad("a letter with an accent", ">a\nA\n>b\nACé\n".encode(), "(letter 'é' at|line 4: not)",
        [("a", "A")]),
    Bad("no letters in the middle", b">a\n>b\nACGT\n", r"record a \(line 1\): no sequence",
        [("b", "ACGT")]),
    Bad("no letters at the end", b">a\nAC\n>b\n\n", r"record b \(line 3\): no sequence",
        [("a", "AC")]),
    Bad("a header at the end", b">a\nAC\n>b", r"record b \(line 3\): no sequence",
        [("a", "AC")]),
    Bad("only a header", b">a\n", r"record a \(line 1\): no sequence"),
    Bad("> in a line", b">a\nACGT>b\nGGGG\n>c\nA\n", "line 2: '>' inside a line", [("c", "A")]),
    Bad("> at a line's end", b">a\nACGT>\n>c\nA\n", "line 2: '>' inside a line", [("c", "A")]),
    Bad("an indented header", b">a\nACGT\n >b\nGGGG\n>c\nA\n", "line 3: '>' inside a line",
        [("c", "A")]),
    Bad("two >", b">a\nA\n>>\nAC\n>c\nA\n", "", [("a", "A"), (">", "AC"), ("c", "A")]),
    Bad("no name", b">a\nA\n>\nACGT\n", "line 3: a header without a name", [("a", "A")]),
    Bad("a name of blanks", b">  \nACGT\n>b\nA\n", "line 1: a header without a name",
        [("b", "A")]),
    Bad("another encoding in a header", b">ok\nAC\n>caf\xe9\nACGT\n", "line 3: not UTF-8",
        [("ok", "AC")]),
    Bad("another encoding in a sequence", b">ok\nAC\n>b\nAC\xe9T\n", "line 4: not UTF-8",
        [("ok", "AC")]),
    Bad("several faults", b">a\nAX\n>b\n>c\nACGT\n>d\nA-\n>e\nA\n",
        "record a: letter 'X' at position 2", [("c", "ACGT"), ("e", "A")]),
    Bad("a fault at the end of a long line", b">a\n" + LONG + b"Z\n>b\nA\n",
        "record a: letter 'Z' at position 9001", [("b", "A")]),
]  # fmt: skip
FINE = [case for case in PARTS if not case.words]
PARTS = [case for case in PARTS if case.words]
GOOD += [Good(case.name, case.content, list(case.kept)) for case in FINE]

good = pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
bad = pytest.mark.parametrize("case", WHOLE + PARTS, ids=lambda case: case.name)
partly = pytest.mark.parametrize("case", PARTS, ids=lambda case: case.name)

SIZES = (1, 2, 7, 1 << 20)


def _file(folder: Path, case: Good | Bad) -> Path:
    path = folder / "x.fa"
    path.write_bytes(case.content)
    return path


def _whole(path: Path) -> Records:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names that occur twice
        records = list(read_fasta(path))
    return [(record.name, record.sequence.upper().replace("U", "T")) for record in records]


def _joined(path: Path, size: int, skip: set[int] | None = None) -> Records:
    found: dict[int, list[str]] = {}
    names, ended = {}, []
    for piece in read_pieces(path, size=size, skip=skip or ()):
        parts = found.setdefault(piece.head.number, [])
        assert piece.start == sum(map(len, parts))
        parts.append(decode(piece.codes))
        names[piece.head.number] = piece.head.name
        if piece.ends:
            ended.append(piece.head.number)
    assert ended == list(found)
    return [(names[number], "".join(parts)) for number, parts in found.items()]


def test_there_are_enough_files() -> None:
    names = [case.name for case in (*GOOD, *WHOLE, *PARTS)]
    assert len(set(names)) == len(names) >= 90


@good
def test_both_readers_find_the_same_records(tmp_path: Path, case: Good) -> None:
    path = _file(tmp_path, case)
    assert _whole(path) == list(case.records)
    for size in SIZES if len(case.content) < 1000 else SIZES[2:]:
        assert _joined(path, size) == list(case.records), size
    found = summarize_fasta(path)
    assert (found.records, found.invalid) == (len(case.records), [])
    assert found.letters == sum(len(sequence) for _, sequence in case.records)
    assert found.longest[0] == max(len(sequence) for _, sequence in case.records)


@bad
def test_both_readers_refuse_with_the_same_words(tmp_path: Path, case: Bad) -> None:
    path = _file(tmp_path, case)
    with pytest.raises(DataError, match=rf"x\.fa.*{case.words}"):
        _whole(path)
    for size in SIZES if len(case.content) < 1000 else SIZES[2:]:
        with pytest.raises(DataError, match=rf"x\.fa.*{case.words}"):
            _joined(path, size)


@partly
def test_what_is_left_does_not_depend_on_the_blocks(tmp_path: Path, case: Bad) -> None:
    path = _file(tmp_path, case)
    found = summarize_fasta(path)
    skip = {fault.number for fault in found.invalid}
    assert found.records == len(case.kept)
    assert found.letters == sum(len(sequence) for _, sequence in case.kept)
    for size in SIZES if len(case.content) < 1000 else SIZES[2:]:
        assert _joined(path, size, skip) == list(case.kept)


class Answers:
    """As much of a classifier as the command needs, without a network."""

    classes_ = np.array(["other", "rich"])

    @classmethod
    def load(cls, _: Path) -> Answers:
        return cls()

    def predict_proba(self, rows: list[np.ndarray]) -> np.ndarray:
        share = np.array([np.isin(row, (2, 4)).mean() for row in rows])
        return np.stack([1 - share, share], axis=1)

    def decide(self, chances: np.ndarray, _: list[int]) -> np.ndarray:
        return self.classes_[chances.argmax(axis=1)]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``titans-seq dna predict``."""
    monkeypatch.setattr("titans_seq.dna.models.load_estimator", Answers.load)
    (found,) = entry_points(group="console_scripts", name="titans-seq")
    command = found.load()

    def run(*words: str | Path, **more: bytes) -> Result:
        line = ["-q", "dna", "predict", *map(str, words), "--model", "."]
        return CliRunner().invoke(command, line, prog_name="titans-seq", **more)

    return run


def _ids(path: Path) -> list[str]:
    import pandas as pd

    return [str(name) for name in pd.read_json(path, lines=True, dtype={"id": str})["id"]]


@good
def test_the_command_gives_a_row_a_record(
    tmp_path: Path, predict: Callable[..., Result], case: Good
) -> None:
    path, out = _file(tmp_path, case), tmp_path / "out.jsonl"
    answer = predict(path, "--out", out)
    assert (answer.exit_code, answer.output) == (0, "")
    assert _ids(out) == [name for name, _ in case.records]
    piped = predict("-", input=case.content)
    assert piped.exit_code == 0
    assert piped.stdout.count("\n") == len(case.records) + 1


@bad
def test_the_command_refuses_in_one_line_and_writes_nothing(
    tmp_path: Path, predict: Callable[..., Result], case: Bad
) -> None:
    path, out = _file(tmp_path, case), tmp_path / "out.tsv"
    for words in ((path, "--out", out), (path, "--window", "3", "--out", out)):
        answer = predict(*words)
        assert answer.exit_code == 4
        assert answer.stdout == ""
        assert re.fullmatch(rf"Error: .*x\.fa.*{case.words}.*\n", answer.stderr)
    assert list(tmp_path.iterdir()) == [path]
    piped = predict("-", input=case.content)
    assert (piped.exit_code, piped.stdout) == (4, "")
    assert re.fullmatch(rf"Error: standard input.*{case.words}.*\n", piped.stderr)


@bad
def test_the_command_skips_what_is_refused_and_keeps_it(
    tmp_path: Path, predict: Callable[..., Result], case: Bad
) -> None:
    path, out, refused = _file(tmp_path, case), tmp_path / "out.jsonl", tmp_path / "bad.fa"
    answer = predict(path, "--on-error", "skip", "--out", out, "--refused", refused)
    if not case.kept:
        assert answer.exit_code == 4
        assert not out.exists()
        return
    assert answer.exit_code == 0
    assert _ids(out) == [name for name, _ in case.kept]
    text = refused.read_bytes()
    left = summarize_fasta(path).invalid
    assert re.findall(rb'refused="([^\n]*)"\n', text + b"\n") == [
        fault.message.replace('"', "'").encode() for fault in left
    ]
    assert (
        re.sub(rb' refused="[^\n]*"', b"", text).replace(b"\n", b"")
        in case.content.replace(b"\n", b"")
        or len(left) > 1
    )


def test_refused_records_go_beside_the_output_by_default(
    tmp_path: Path, predict: Callable[..., Result]
) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(b">a\nAC\nGT\n>b words\nAC\nXT\n>c\n>d\nA\n")
    answer = predict(path, "--on-error", "skip", "--out", tmp_path / "out.tsv")
    assert answer.exit_code == 0
    assert (tmp_path / "out.tsv.refused.fa").read_text() == (
        f">b words refused=\"{path}, record b: letter 'X' at position 3 (line 6) is not one of "
        'ACGTRYSWKMBDHVN; is this protein? Only DNA and RNA can be read"\nAC\nXT\n'
        f'>c refused="{path}, record c (line 7): no sequence follows it"\n'
    )


def test_a_file_with_a_header_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(b">a\nAC\n>" + b"x" * (1 << 21))
    with pytest.raises(DataError, match=r"x\.fa, line 3: a header of more than 1048576 bytes"):
        list(read_pieces(path))
