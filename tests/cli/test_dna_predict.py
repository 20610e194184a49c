"""``dna predict`` along records: rows, tracks, intervals, variants; whole outputs or none."""

from __future__ import annotations

import gzip
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from titans_seq.dna import TitansDNAClassifier

Run = Callable[..., Result]

READERS = {".csv": pd.read_csv, ".tsv": pd.read_table, ".parquet": pd.read_parquet,
           ".jsonl": lambda path: pd.read_json(path, lines=True)}  # fmt: skip


@pytest.fixture(scope="module")
def chromosomes() -> dict[str, str]:
    generator = np.random.default_rng(0)
    return {
        name: "".join(generator.choice(list("ACGT"), n)) for name, n in (("I", 430), ("II", 75))
    }


@pytest.fixture(scope="module")
def genome(chromosomes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text("".join(f">{name} words\n{text}\n" for name, text in chromosomes.items()))
    return path


def test_windows_are_rows_in_every_form(
    run: Run, dna_model: Path, genome: Path, chromosomes: dict[str, str], tmp_path: Path
) -> None:
    words = ("dna", "predict", genome, "--model", dna_model, "--window", "50", "--stride", "20")
    classifier = TitansDNAClassifier.load(dna_model)
    rows = list(classifier.predict_stream(genome, window=50, stride=20))
    for suffix, read in READERS.items():
        out, summary = tmp_path / f"out{suffix}", tmp_path / f"summary{suffix}"
        answer = run(*words, "--out", out, "--summary", summary)
        assert (answer.exit_code, answer.output) == (0, "")
        found = read(out)
        assert list(found.columns) == ["id", "start", "end", "label", "p(none)", "p(tata)"]
        assert list(found["id"]) == [row.record for row in rows]
        assert list(found["start"]) == [row.start for row in rows]
        assert list(found["end"]) == [row.end for row in rows]
        assert list(found["label"]) == [row.label for row in rows]
        chances = np.array([row.values for row in rows])
        np.testing.assert_allclose(found[["p(none)", "p(tata)"]], chances, rtol=1e-5)
        sums = read(summary)
        assert list(sums["id"]) == list(chromosomes)
        assert list(sums["length"]) == [430, 75]
        assert list(sums["windows"]) == [(found["id"] == name).sum() for name in chromosomes]
    assert run(*words).stdout == (tmp_path / "out.tsv").read_text()


def test_windows_are_tracks(run: Run, dna_model: Path, genome: Path, tmp_path: Path) -> None:
    words = ("dna", "predict", genome, "--model", dna_model, "--window", "50")
    table = tmp_path / "out.tsv"
    run(*words, "--carry", "--out", table)
    rows = pd.read_table(table)
    for what, column in ((None, "p(tata)"), ("none", "p(none)"), ("surprise", "surprise")):
        out = tmp_path / "out.bedgraph"
        answer = run(*words, "--carry", "--out", out, *(("--track", what) if what else ()))
        assert answer.exit_code == 0, answer.output
        drawn = pd.read_table(out, header=None)
        assert (
            drawn.iloc[:, :3].to_numpy().tolist()
            == rows[["id", "start", "end"]].to_numpy().tolist()
        )
        np.testing.assert_allclose(drawn[3], rows[column], rtol=1e-4)
    out = tmp_path / "out.bed"
    assert run(*words, "--carry", "--out", out).exit_code == 0
    drawn = pd.read_table(out, header=None)
    assert list(drawn[3]) == list(rows["label"])
    np.testing.assert_allclose(drawn[4], 1000 * rows[["p(none)", "p(tata)"]].max(axis=1), atol=0.51)


def test_intervals_and_variants_are_rows(
    run: Run, dna_model: Path, genome: Path, chromosomes: dict[str, str], tmp_path: Path
) -> None:
    bed, vcf = tmp_path / "x.bed", tmp_path / "x.vcf.gz"
    bed.write_text("II\t3\t53\tone\t0\t-\nI\t100\t150\ttwo\t0\t+\n")
    base = chromosomes["I"][200]
    alt = "A" if base != "A" else "G"
    vcf.write_bytes(gzip.compress(f"##x\nI\t201\trs1\t{base}\t{alt},<DEL>\n".encode()))
    words = ("dna", "predict", genome, "--model", dna_model)
    classifier = TitansDNAClassifier.load(dna_model)

    answer = run(*words, "--intervals", bed, "--out", tmp_path / "i.tsv")
    assert answer.exit_code == 0, answer.output
    found = pd.read_table(tmp_path / "i.tsv")
    assert list(found["id"]) == ["one", "two"]
    assert list(found["strand"]) == ["-", "+"]
    wanted = classifier.predict_proba([chromosomes["I"][100:150]])[0]
    np.testing.assert_allclose(found.loc[1, ["p(none)", "p(tata)"]].astype(float), wanted, 1e-4)
    assert run(*words, "--intervals", bed, "--out", tmp_path / "i.bed").exit_code == 0
    assert (tmp_path / "i.bed").read_text().splitlines()[0].endswith("\t-")

    answer = run(*words, "--variants", vcf, "--out", tmp_path / "v.tsv")
    assert answer.exit_code == 0, answer.output
    assert "1 ALT(s) that are not sequences are skipped, '<DEL>' of line 2" in answer.stderr
    found = pd.read_table(tmp_path / "v.tsv")
    around = chromosomes["I"][176:226]
    pair = classifier.predict_proba([around, around[:24] + alt + around[25:]])
    np.testing.assert_allclose(found["ref p(tata)"], pair[0, 1], rtol=1e-4)
    np.testing.assert_allclose(found["alt p(tata)"], pair[1, 1], rtol=1e-4)
    vcf.write_bytes(gzip.compress(f"I\t201\trs1\t{alt}\tT\n".encode()))
    answer = run(*words, "--variants", vcf, "--out", tmp_path / "v2.tsv")
    assert answer.exit_code == 4
    assert f"line 1: REF is {alt!r}, but {genome} has {base!r} at I:201" in answer.stderr
    assert not (tmp_path / "v2.tsv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--stride", "5"), "need a --window"),
        (("--carry",), "need a --window"),
        (("--window", "5", "--track", "tata"), "--track needs a .bedgraph file"),
        (("--intervals", "x.bed", "--variants", "x.bed"), "cannot be combined"),
        (("--intervals", "x.bed", "--window", "5"), "their own lengths"),
        (("--intervals", "x.bed", "--window", "5", "--carry"), "are for windows along records"),
        (("--on-error", "skip"), "needs a file for the records: --refused"),
        (("--refused", "x.fa"), "--refused needs --on-error skip"),
        (("--variants", "x.bed", "--out", "x.bedgraph"), "--variants needs a table"),
        (("--window", "0"), "x>=1"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    run: Run, genome: Path, tmp_path: Path, words: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("x.bed").write_text("I\t1\t2\n")
    answer = run("dna", "predict", genome, "--model", "none", *words)
    assert answer.exit_code == 2, answer.output
    assert message in " ".join(answer.stderr.split())


@pytest.mark.parametrize(
    ("number", "suffix"),
    [
        (signal.SIGINT, ".tsv"),
        (signal.SIGINT, ".parquet"),
        (signal.SIGINT, ".bedgraph"),
        (signal.SIGTERM, ".jsonl"),
    ],
)
def test_an_interrupted_run_leaves_no_file(
    number: signal.Signals,
    run: Run, dna_model: Path, genome: Path, tmp_path: Path, suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    calls = []
    predict = TitansDNAClassifier.predict_proba

    def interrupted(self: TitansDNAClassifier, rows: list[np.ndarray]) -> np.ndarray:
        calls.append(rows)
        if len(calls) == 2:
            signal.raise_signal(number)
        return predict(self, rows)

    monkeypatch.setattr(TitansDNAClassifier, "predict_proba", interrupted)
    monkeypatch.setattr("titans_seq.dna.streaming.predictions.BATCH_LETTERS", 50)
    old = tmp_path / f"old{suffix}"
    old.write_text("old")
    for out in (tmp_path / f"out{suffix}", old):
        calls.clear()
        answer = run("dna", "predict", genome, "--model", dna_model, "--window", "50",
                     "--out", out, "--summary", tmp_path / "summary.csv")  # fmt: skip
        assert answer.exit_code == 130
        assert len(calls) == 2
        assert list(tmp_path.iterdir()) == [old]
    assert old.read_text() == "old"


def test_a_long_record_is_sent_to_windows(run: Run, dna_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.fa"
    path.write_text(">short\nACGT\n>long\n" + "ACGT" * 50_001 + "\n")
    answer = run("dna", "predict", path, "--model", dna_model, "--out", tmp_path / "out.tsv")
    assert answer.exit_code == 4
    assert "long.fa, record long: 200,004 letters" in answer.stderr
    assert "--window" in answer.stderr
