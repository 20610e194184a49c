from __future__ import annotations

import gzip
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from titans_seq.dna import TitansDNAClassifier
from titans_seq.dna.learning import fitting, pretraining

Run = Callable[..., Result]
Sequences = dict[str, tuple[str, str]]


def test_fit_says_how_it_went(run: Run, fasta: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    answer = run("dna", "fit", fasta, "--max-epochs", "1", "--model", model)
    assert answer.exit_code == 0, answer.output
    assert answer.stderr == ""
    assert "60 sequences, classes none, tata" in answer.stdout
    assert (model / "card.md").is_file()


def test_settings_reach_the_classifier(run: Run, fasta: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    run(
        "dna", "fit", fasta, "--max-epochs", "1", "--reverse-complement", "average",
        "--variant", "attention", "--class-weight", "balanced", "--seed", "7", "--model", model,
        "-s", "dim=16", "-s", "dropout = 0", "--set", "n_iter_no_change=3",
    )  # fmt: skip
    found = TitansDNAClassifier.load(model).get_params()
    wanted = {"reverse_complement": "average", "variant": "attention",
              "class_weight": "balanced", "random_state": 7, "max_epochs": 1,
              "dim": 16, "dropout": 0, "n_iter_no_change": 3}  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("dims=16", "unknown key 'dims'; did you mean 'dim'?"),
        ("dim=wide", "dim must be of type int"),
        ("dim", "-s dim: write NAME=VALUE"),
        ("dropout=1.5", "dropout must be at least 0 and below 1, got 1.5"),
    ],
)
def test_a_bad_parameter_is_named(
    run: Run, fasta: Path, tmp_path: Path, setting: str, words: str
) -> None:
    answer = run("dna", "fit", fasta, "-s", setting, "--model", tmp_path / "model")
    assert answer.exit_code == 3, answer.output
    assert words in answer.stderr
    assert not (tmp_path / "model").exists()


def test_predict_writes_what_the_library_predicts(
    run: Run, dna_model: Path, fasta: Path, sequences: Sequences, tmp_path: Path
) -> None:
    answer = run("dna", "predict", fasta, "--model", dna_model)
    assert answer.exit_code == 0, answer.output
    (tmp_path / "printed.tsv").write_text(answer.stdout)
    classifier = TitansDNAClassifier.load(dna_model)
    chances = classifier.predict_proba([text for text, _ in sequences.values()])
    readers = {".csv": pd.read_csv, ".tsv": pd.read_table, ".parquet": pd.read_parquet,
               ".jsonl": lambda path: pd.read_json(path, lines=True)}  # fmt: skip
    for name in ("out.csv", "out.tsv", "out.parquet", "out.jsonl", "printed.tsv"):
        path = tmp_path / name
        if name != "printed.tsv":
            assert run("dna", "predict", fasta, "--model", dna_model, "--out", path).stdout == ""
        found = readers[path.suffix](path)
        assert list(found.columns) == ["id", "label", "p(none)", "p(tata)"]
        assert list(found["id"]) == list(sequences)
        assert list(found["label"]) == list(classifier.classes_[chances.argmax(axis=1)])
        np.testing.assert_allclose(found[["p(none)", "p(tata)"]], chances, rtol=1e-5)


def test_fasta_comes_gzipped_or_by_standard_input(
    run: Run, dna_model: Path, fasta: Path, tmp_path: Path
) -> None:
    plain = run("dna", "predict", fasta, "--model", dna_model).stdout
    packed = tmp_path / "packed.fa.gz"
    packed.write_bytes(gzip.compress(fasta.read_bytes()))
    assert run("dna", "predict", packed, "--model", dna_model).stdout == plain
    words = ("dna", "predict", "-", "--model", dna_model)
    assert run(*words, input=fasta.read_bytes()).stdout == plain


@pytest.mark.slow
def test_labels_stand_in_headers_or_beside_or_in_one_table(
    run: Run, fasta: Path, sequences: Sequences, tmp_path: Path
) -> None:
    bare, beside, table = tmp_path / "bare.fa", tmp_path / "labels.tsv", tmp_path / "table.csv"
    bare.write_text("".join(f">{name}\n{text}\n" for name, (text, _) in sequences.items()))
    beside.write_text("".join(f"{name}\t{label}\n" for name, (_, label) in sequences.items()))
    rows = [f"{text},{label}\n" for text, label in sequences.values()]
    table.write_text("sequence,label\n" + "".join(rows))
    scores = []
    for number, words in enumerate(((fasta,), (bare, "--labels", beside), (table,))):
        model = tmp_path / str(number)
        answer = run("dna", "fit", *words, "--max-epochs", "1", "--model", model)
        assert answer.exit_code == 0, answer.output
        answer = run("dna", "evaluate", *words, "--model", model, "--out", "-")
        scores.append(json.loads(answer.stdout)["scores"])
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.slow
def test_evaluate_shows_simple_classifiers_beside(
    run: Run, dna_model: Path, fasta: Path, tmp_path: Path
) -> None:
    words = ("dna", "evaluate", fasta, "--model", dna_model)
    alone = run(*words)
    assert alone.exit_code == 0, alone.output
    assert "majority" not in alone.stdout
    out = tmp_path / "scores.json"
    answer = run(*words, "--train", fasta, "--out", out)
    scores = json.loads(out.read_text())["scores"]
    assert scores["majority"]["accuracy"] == 0.5
    assert {"accuracy", "f1", "mcc", "auroc", "auprc", "log_loss", "ece"} < set(
        scores["titans-seq"]
    )
    assert "majority" in answer.stdout
    assert "95% intervals" in answer.stdout
    assert "60 of 60 rows share a 24-letter word with a training row" in answer.stderr
    assert "Warning: simple models reach the interval" in answer.stderr
    assert "nearest training row (1.000)" in answer.stderr
    titles = [table["title"] for table in json.loads(out.read_text())["more"]]
    assert titles == ["95% intervals", "strands"]


@pytest.mark.slow
def test_evaluate_trains_anew_where_rows_that_overlap_stay_together(
    run: Run, fasta: Path, tmp_path: Path
) -> None:
    words = ("dna", "fit", fasta, "--max-epochs", "1", "--model", tmp_path / "model")
    answer = run(*words, "-s", "dim=8", "-s", "layers=1")
    assert answer.exit_code == 0, answer.output
    words = ("dna", "evaluate", fasta, "--model", tmp_path / "model")
    assert run(*words, "--grouped").exit_code == 2
    answer = run(*words, "--train", fasta, "--grouped")
    assert answer.exit_code == 0, answer.output
    assert "trained again, sequences that share a 24-mer" in answer.stdout
    assert "0 of " in answer.stderr


@pytest.mark.slow
def test_several_labels_and_values_go_from_table_to_scores(
    run: Run, fasta: Path, tmp_path: Path
) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("ACGT", k=30 + i % 7)) for i in range(40)]
    sets = ["tata;gc", "none", "gc", "tata"] * 10
    for task, labels in (("labels", sets), ("values", [str(len(text)) for text in texts])):
        table, model = tmp_path / f"{task}.csv", tmp_path / task
        rows = "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True))
        table.write_text("sequence,label\n" + rows)
        answer = run("dna", "fit", table, "--task", task, "--max-epochs", "1", "--model", model)
        assert answer.exit_code == 0, answer.output
        words = ("dna", "evaluate", table, "--model", model, "--train", table, "--out", "-")
        answer = run(*words)
        assert answer.exit_code == 0, answer.output
        found = json.loads(answer.stdout)["scores"]
        wanted = {"labels": {"titans-seq: gc", "titans-seq: tata", "majority"}, "values": {"mean"}}
        assert wanted[task] < set(found)
        answer = run("dna", "predict", table, "--model", model)
        titles = {"labels": ["id", "label", "p(gc)", "p(tata)"], "values": ["id", "value"]}
        assert answer.stdout.splitlines()[0].split("\t") == titles[task]
        assert len(answer.stdout.splitlines()) == 41
    answer = run("dna", "predict", fasta, "--model", tmp_path / "values", "--window", "50")
    assert len(answer.stdout.splitlines()) == 61
    bad = tmp_path / "bad.csv"
    bad.write_text("sequence,label\nACGT,1.5\nACGT,high\n")
    answer = run("dna", "fit", bad, "--task", "values", "--model", tmp_path / "other")
    assert answer.exit_code == 4
    assert "record 2: value 'high' is not a number" in answer.stderr
    words = ("dna", "fit", table, "--task", "values", "--threshold", "0.5")
    assert run(*words, "--model", tmp_path / "other").exit_code == 2


def test_pretraining_goes_before_few_labels(run: Run, fasta: Path, tmp_path: Path) -> None:
    words = (
        "dna", "pretrain", fasta, "--model", tmp_path / "begin", "--steps", "4", "--window", "40",
        "--batch-size", "4", "--check-every", "2", "--dim", "8", "--layers", "1",
    )  # fmt: skip
    answer = run(*words)
    assert answer.exit_code == 0, answer.output
    assert "11-mers" in answer.stdout
    assert run(*words).exit_code == 3
    words = ("dna", "fit", fasta, "--init", tmp_path / "begin", "--max-epochs", "1")
    answer = run(*words, "-s", "dim=8", "-s", "layers=1", "--model", tmp_path / "model")
    assert answer.exit_code == 0, answer.output
    answer = run(*words, "--model", tmp_path / "other")
    assert answer.exit_code == 3
    assert "pre-trained with dim=8, layers=1: set the same" in answer.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("hello\n", "line 1: 'hello'"),
        ("@read\nACGT\n+\nIIII\n", "FASTQ"),
        (">a label=x\nMKLV\n>b label=y\nACGT\n", "record a: letter 'L' at position 3"),
        (">a label=x\nACGT\n>b label=y\n", "record b"),
        (">a label=x\nACGT\n>b\nACGT\n", "record b: no label"),
        (">a label=x\nACGT\n>b label=x\nACGT\n", "at least two classes"),
    ],
)
def test_bad_data_is_named_and_leaves_no_model(
    run: Run, tmp_path: Path, text: str, words: str
) -> None:
    path, model = tmp_path / "bad.fa", tmp_path / "model"
    path.write_text(text)
    answer = run("dna", "fit", path, "--max-epochs", "1", "--model", model)
    assert answer.exit_code == 4, answer.output
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not model.exists()


def test_bad_data_leaves_no_output_file(run: Run, dna_model: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "bad.fa", tmp_path / "labels.tsv"
    path.write_text(">good\nACGT\n>bad\nACXT\n")
    answer = run("dna", "predict", path, "--model", dna_model, "--out", out)
    assert answer.exit_code == 4
    assert "bad.fa, record bad" in answer.stderr
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there_comes_before_a_model_that_is_not(run: Run) -> None:
    answer = run("dna", "predict", "no-such.fa", "--model", "no-such")
    assert answer.exit_code == 2
    assert "no-such.fa" in answer.stderr


def test_what_is_no_model_folder_is_refused(
    run: Run, fasta: Path, forecast_model: Path, tmp_path: Path
) -> None:
    for folder in (tmp_path / "none", tmp_path, forecast_model):
        answer = run("dna", "predict", fasta, "--model", folder)
        assert answer.exit_code == 3
        assert str(folder) in answer.stderr


@pytest.mark.slow
def test_a_model_is_replaced_only_by_force(run: Run, fasta: Path, tmp_path: Path) -> None:
    words = ("dna", "fit", fasta, "--max-epochs", "1", "--model", tmp_path / "model")
    assert run(*words).exit_code == 0
    assert run(*words).exit_code == 3
    assert run(*words, "--force").exit_code == 0
    (tmp_path / "letter.txt").write_text("dear")
    answer = run(*words[:-1], tmp_path, "--force")
    assert answer.exit_code == 3
    assert (tmp_path / "letter.txt").exists()


def test_an_interrupted_fit_goes_on_and_comes_to_the_same_model(
    run: Run, fasta: Path, dna_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, kept = tmp_path / "model", tmp_path / "model.checkpoints"
    words = ("-q", "dna", "fit", fasta, "--max-epochs", "1", "--model", model)
    loss, calls = fitting.titans_loss, 0

    def signalled(*values: Any) -> Any:
        nonlocal calls
        calls += 1
        os.kill(os.getpid(), signal.SIGTERM)
        return loss(*values)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "titans_loss", signalled)
        answer = run(*words)
    assert answer.exit_code == 130
    assert answer.stderr == (
        f"Interrupted: a checkpoint was written to {kept}; "
        "the same command with --resume continues\n"
    )
    assert calls == 1
    assert not model.exists()

    answer = run(*words)
    assert answer.exit_code == 3
    assert "--resume continues it, --force starts again" in answer.stderr

    for other, said in (
        (("-s", "dim=32"), "dim was 64, now it is 32"),
        (("--task", "labels"), "task was 'classes', now it is 'labels'"),
    ):
        answer = run(*words, *other, "--resume")
        assert answer.exit_code == 3
        assert said in answer.stderr

    answer = run(*words, "--resume")
    assert answer.exit_code == 0, answer.output
    assert not kept.exists()
    weights = [(folder / "model.safetensors").read_bytes() for folder in (model, dna_model)]
    same = weights[0] == weights[1]  # a difference of so many bytes takes minutes to print
    assert same


def test_an_interrupted_pretraining_goes_on_and_comes_to_the_same_model(
    run: Run, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, model, kept = (tmp_path / name for name in ("whole", "model", "model.checkpoints"))
    words = (
        "-q", "dna", "pretrain", fasta, "--steps", "4", "--window", "40", "--batch-size", "4",
        "--check-every", "2", "--dim", "8", "--layers", "1", "--model",
    )  # fmt: skip
    assert run(*words, whole).exit_code == 0
    loss = pretraining._mean_loss

    def signalled(*values: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return loss(*values)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "_mean_loss", signalled)
        answer = run(*words, model)
    assert answer.exit_code == 130
    assert answer.stderr.endswith("the same command with --resume continues\n")
    assert kept.is_dir()
    assert not model.exists()

    answer = run(*words, model)
    assert answer.exit_code == 3
    assert f"{kept} contains an interrupted training" in answer.stderr
    answer = run(*words, model, "--seed", "1", "--resume")
    assert answer.exit_code == 3
    assert "settings.seed was '0', now it is '1'" in answer.stderr

    answer = run(*words, model, "--resume")
    assert answer.exit_code == 0, answer.output
    assert not kept.exists()
    name = "model.safetensors"
    assert (model / name).read_bytes() == (whole / name).read_bytes()


def test_explain_writes_a_row_a_base_and_draws_a_logo(
    run: Run, dna_model: Path, fasta: Path, tmp_path: Path
) -> None:
    words = ("dna", "explain", fasta, "--model", dna_model)
    table, logo = tmp_path / "bases.tsv", tmp_path / "logo.png"
    one = (*words, "--record", "seq1", "--region", "21-26", "--target", "tata")
    answer = run(*one, "--out", table, "--plot", logo)
    assert answer.exit_code == 0, answer.output
    found = pd.read_table(table)
    assert list(found.columns) == [
        "id", "place", "base", "target", "importance", "to A", "to C", "to G", "to T",
    ]  # fmt: skip
    assert "".join(found["base"]) == "TATAAA"
    assert list(found["place"]) == [21, 22, 23, 24, 25, 26]
    assert logo.stat().st_size > 2000
    answer = run(*words, "--method", "surprise")
    assert answer.stdout.splitlines()[0] == "id\tplace\tbase\tsurprise"
    assert len(answer.stdout.splitlines()) == 1 + 60 * 50
    for bad in (("--plot", logo), ("--record", "none"), ("--region", "20")):
        assert run(*words, *bad).exit_code == 2
    assert run(*words, "--target", "exon").exit_code == 3


def test_what_is_short_or_unsure_is_unclassified(run: Run, fasta: Path, tmp_path: Path) -> None:
    model, path = tmp_path / "model", tmp_path / "mixed.fa"
    words = ("dna", "fit", fasta, "--max-epochs", "1", "-s", "dim=8", "-s", "layers=1")
    assert run(*words, "--min-length", "40", "--model", model).exit_code == 0
    path.write_text(">long\n" + "ACGGT" * 10 + "\n>short\nACGT\n")
    for more in ((), ("--window", "50")):
        answer = run("dna", "predict", path, "--model", model, *more)
        assert answer.exit_code == 0, answer.output
        column = answer.stdout.splitlines()[0].split("\t").index("label")
        first, second = (line.split("\t")[column] for line in answer.stdout.splitlines()[1:])
        assert first in {"tata", "none"}
        assert second == "unclassified"
