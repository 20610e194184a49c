"""The classifier keeps scikit-learn's promises, learns, and comes back from its folder."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from titans_seq.dna import FastaRecord, TitansDNAClassifier
from titans_seq.dna.alphabet import decode, encode, reverse_complement
from titans_seq.dna.learning.batches import pad
from titans_seq.exceptions import BundleError, ConfigError, DataError

pytestmark = pytest.mark.usefixtures("brief_start_of_module")

TINY: dict[str, Any] = {"dim": 8, "layers": 1, "max_epochs": 1, "batch_size": 16, "random_state": 0}


def _sequences(count: int = 60, length: int = 40) -> tuple[list[str], list[str]]:
    """Return sequences that hold ``TATAAA`` at place 10, or something else there."""
    draw = random.Random(0)
    labels = ["motif" if i % 2 else "other" for i in range(count)]
    sequences = []
    for label in labels:
        letters = draw.choices("ACGT", k=length + draw.randrange(4))
        letters[10:16] = "TATAAA" if label == "motif" else draw.choices("ACG", k=6)
        sequences.append("".join(letters))
    return sequences, labels


@pytest.fixture(scope="module")
def fitted() -> TitansDNAClassifier:
    return TitansDNAClassifier(**TINY).fit(*_sequences())


def test_tags_say_that_inputs_are_strings() -> None:
    tags = TitansDNAClassifier().__sklearn_tags__()
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.string
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.two_d_array


@pytest.mark.slow
def test_it_learns_what_is_there_to_learn() -> None:
    sequences, labels = _sequences(240)
    classifier = TitansDNAClassifier(**TINY | {"max_epochs": 10, "dim": 16})
    classifier.fit(sequences[:160], labels[:160])
    assert classifier.score(sequences[160:], labels[160:]) > 0.9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_classifier_and_no_global_one_moves() -> None:
    sequences, labels = _sequences(30)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = TitansDNAClassifier(**TINY).fit(sequences, labels).predict_proba(sequences)
    again = TitansDNAClassifier(**TINY).fit(sequences, labels).predict_proba(sequences)
    other = TitansDNAClassifier(**TINY | {"random_state": 1}).fit(sequences, labels)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other.predict_proba(sequences)).max() > 1e-6
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_probabilities_do_not_depend_on_neighbours_or_case(fitted: TitansDNAClassifier) -> None:
    mixed = ["A", "ACGTN" * 30, *_sequences(5)[0]]
    together = fitted.predict_proba(mixed)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(fitted.predict_proba(mixed[::-1])[::-1], together, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict_proba([s.lower() for s in mixed]), together)
    for row, sequence in zip(together, mixed, strict=True):
        np.testing.assert_allclose(fitted.predict_proba([sequence])[0], row, atol=1e-6)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(lambda flags: np.where(flags, "b", "a"), id="words"),
        pytest.param(lambda flags: np.where(flags, 7, -3), id="integers"),
        pytest.param(lambda flags: np.asarray(flags), id="booleans"),
        pytest.param(lambda flags: np.where(flags, "b", "a").astype(object), id="objects"),
        pytest.param(lambda flags: pd.Series(np.where(flags, "b", "a")), id="series"),
        pytest.param(lambda flags: ["b" if flag else "a" for flag in flags], id="list"),
    ],
)
def test_labels_come_back_as_they_went_in(tmp_path: Path, labels: Any) -> None:
    sequences, names = _sequences(20)
    y = labels([name == "motif" for name in names])
    classifier = TitansDNAClassifier(**TINY).fit(sequences, y)
    found = classifier.predict(sequences)
    assert set(found) <= set(y)
    assert found.dtype == np.asarray(y).dtype
    classifier.save(tmp_path / "model")
    again = TitansDNAClassifier.load(tmp_path / "model")
    assert again.classes_.dtype == classifier.classes_.dtype
    np.testing.assert_array_equal(again.predict(sequences), found)


@pytest.mark.parametrize(
    "wrap",
    [
        tuple,
        np.array,
        lambda s: np.array(s, dtype=object),
        lambda s: np.array(s)[:, None],
        pd.Series,
        lambda s: pd.DataFrame({"sequence": s}),
        lambda s: [Seq(one) for one in s],
        lambda s: [SeqRecord(Seq(one), id="x") for one in s],
        lambda s: [FastaRecord("x", "x", one) for one in s],
        lambda s: [one.encode() for one in s],
    ],
)
def test_sequences_may_come_in_any_dress(fitted: TitansDNAClassifier, wrap: Any) -> None:
    sequences = _sequences(6)[0]
    expected = fitted.predict_proba(sequences)
    np.testing.assert_array_equal(fitted.predict_proba(wrap(sequences)), expected)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("ACGT", "single sequence; put it in a list"),
        (Seq("ACGT"), "single sequence|not a string"),
        (SeqRecord(Seq("ACGT")), "single sequence"),
        ([], "X contains 0 sequences"),
        (["ACGT", "ACQT"], "sequence 1: letter 'Q' at position 3"),
        (["ACGT", ""], "sequence 1: the sequence is empty"),
        ([1.5], "sequence 0 is a float"),
        ([None], "sequence 0 is a NoneType"),
        (np.zeros((2, 3)), r"X has shape \(2, 3\)"),
        (3, "X is a int"),
    ],
)
def test_what_is_no_list_of_dna_is_refused(
    fitted: TitansDNAClassifier, X: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fitted.predict(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (["a"] * 3, r"4 sequences but labels of shape \(3,\)"),
        (["a"] * 4, "every label is 'a'"),
        (["a", "b", None, "a"], "label 2 is missing"),
        ([0.0, np.nan, 1.0, 1.0], "label 1 is missing"),
        ([0.5, 0.1, 0.7, 1.2], "labels are not classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TitansDNAClassifier(**TINY).fit(["ACGT"] * 4, y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "rnn"}, "variant must be one of .*got 'rnn'"),
        (
            {"reverse_complement": "both"},
            "reverse_complement must be one of .*got 'both'",
        ),
        ({"max_epochs": 0}, "max_epochs must be a positive integer, got 0"),
        ({"batch_size": 1.5}, "batch_size must be a positive integer, got 1.5"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"validation_fraction": -0.1}, "validation_fraction must be .*got -0.1"),
        ({"dim": 9}, "dim must be a positive multiple of heads"),
        ({"class_weight": "fair"}, "class_weight='fair'"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"tokens": "codon"}, "tokens must be motif, base, or 2-mer to 6-mer, got 'codon'"),
        ({"tokens": "7-mer"}, "tokens must be .*got '7-mer'"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be a positive integer, got 0"),
        ({"tol": -1e-4}, "tol must be at least 0, got -0.0001"),
        ({"threshold": 1.5}, "threshold must be None or from 0 to 1, got 1.5"),
        ({"min_length": True}, "min_length must be a positive integer, got True"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TitansDNAClassifier(**TINY | changes).fit(*_sequences(8))


def test_nothing_is_predicted_or_saved_before_fit(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        TitansDNAClassifier().predict(["ACGT"])
    with pytest.raises(NotFittedError):
        TitansDNAClassifier().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_saved_classifier_answers_the_same(fitted: TitansDNAClassifier, tmp_path: Path) -> None:
    sequences = _sequences(10)[0]
    fitted.save(tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files == {
        "config.json",
        "model.safetensors",
        "preprocess.json",
        "metrics.json",
        "card.md",
    }
    again = TitansDNAClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(sequences), fitted.predict_proba(sequences))
    assert again.get_params() == fitted.get_params()
    assert again.history_ == fitted.history_
    again.save(tmp_path / "model", force=True)


def test_what_is_no_model_is_refused(fitted: TitansDNAClassifier, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        TitansDNAClassifier.load(tmp_path / "none")
    folder = tmp_path / "model"
    fitted.save(folder)
    with pytest.raises(BundleError, match="exists already"):
        fitted.save(folder)
    (folder / "preprocess.json").write_text('{"dtype": "<U5"}')
    with pytest.raises(BundleError, match=r"preprocess.json is damaged, or belongs"):
        TitansDNAClassifier.load(folder)


def test_pickle_and_clone(fitted: TitansDNAClassifier) -> None:
    sequences = _sequences(6)[0]
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(sequences), fitted.predict_proba(sequences))
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert not hasattr(fresh, "classes_")


@pytest.mark.slow
def test_it_works_inside_scikit_learns_tools() -> None:
    sequences, labels = _sequences(24)
    pipeline = make_pipeline(
        FunctionTransformer(lambda X: [s.upper() for s in X]), TitansDNAClassifier(**TINY)
    )
    grid = GridSearchCV(pipeline, {"titansdnaclassifier__dim": [4, 8]}, cv=2)
    grid.fit(sequences, labels)
    assert set(grid.predict(sequences)) <= {"motif", "other"}
    calibrated = CalibratedClassifierCV(TitansDNAClassifier(**TINY), cv=2).fit(sequences, labels)
    np.testing.assert_allclose(calibrated.predict_proba(sequences).sum(axis=1), 1)
    proba = cross_val_predict(
        TitansDNAClassifier(**TINY), sequences, labels, cv=2, method="predict_proba"
    )
    assert proba.shape == (24, 2)


@pytest.mark.slow
def test_both_strands_get_one_answer_if_averaged() -> None:
    sequences, labels = _sequences(20)
    others = [decode(reverse_complement(encode(sequence))) for sequence in sequences]
    ways = {"average": True, "equivariant": True, "augment": False, "none": False}
    for way, same in ways.items():
        classifier = TitansDNAClassifier(**TINY | {"reverse_complement": way, "max_epochs": 3})
        classifier.fit(sequences, labels)
        gap = np.abs(classifier.predict_proba(sequences) - classifier.predict_proba(others)).max()
        assert (gap < 1e-6) == same


@pytest.mark.slow
def test_class_weights_move_the_answer_to_the_rare_class() -> None:
    sequences, labels = _sequences(120)
    keep = [i for i in range(120) if labels[i] == "other" or i % 10 == 1]
    X, y = [sequences[i] for i in keep], [labels[i] for i in keep]
    plain = TitansDNAClassifier(**TINY).fit(X, y).predict_proba(X)[:, 0].mean()
    for weight in ("balanced", {"motif": 5.0, "other": 1.0}):
        weighted = TitansDNAClassifier(**TINY | {"class_weight": weight}).fit(X, y)
        assert weighted.predict_proba(X)[:, 0].mean() > plain
    given = np.where(np.array(y) == "motif", 5.0, 1.0)
    sampled = TitansDNAClassifier(**TINY).fit(X, y, sample_weight=given)
    assert sampled.predict_proba(X)[:, 0].mean() > plain
    with pytest.raises(DataError, match="sample_weight"):
        TitansDNAClassifier(**TINY).fit(X, y, sample_weight=given[:-1])


@pytest.mark.slow
def test_training_goes_on_where_it_stopped() -> None:
    sequences, labels = _sequences(60)
    plain = TitansDNAClassifier(**TINY)
    warm = TitansDNAClassifier(**TINY | {"warm_start": True})
    for classifier in (plain, warm):
        classifier.fit(sequences, labels).fit(sequences, labels)
    assert (len(plain.loss_curve_), len(warm.loss_curve_)) == (1, 2)
    assert warm.loss_curve_[1] < warm.loss_curve_[0] == plain.loss_curve_[0]
    with pytest.raises(
        DataError, match=r"trained for classes \['motif', 'other'\], not for classes"
    ):
        warm.fit(sequences, ["third", *labels[1:]])


@pytest.mark.slow
def test_part_by_part_it_learns_every_class_it_was_told_of() -> None:
    sequences, labels = _sequences(120)
    classifier = TitansDNAClassifier(**TINY | {"dim": 16})
    with pytest.raises(DataError, match="classes must be passed on the first call"):
        classifier.partial_fit(sequences, labels)
    for _ in range(5):
        for part in (slice(0, 40), slice(40, 80)):
            classifier.partial_fit(sequences[part], labels[part], classes=["other", "motif"])
    assert classifier.classes_.tolist() == ["motif", "other"]
    assert classifier.score(sequences[80:], labels[80:]) > 0.8
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 10
    classifier.partial_fit(sequences[:1], labels[:1])
    with pytest.raises(DataError, match="label 'third' of sequence 0 is not one of the classes"):
        classifier.partial_fit(sequences[:1], ["third"])
    with pytest.raises(DataError, match=r"classes must be the same .* got \['a', 'b'\]"):
        classifier.partial_fit(sequences[:1], ["a"], classes=["a", "b"])
    with pytest.raises(ConfigError, match="class_weight must be a dict by label or None"):
        classifier.set_params(class_weight="balanced").partial_fit(sequences, labels)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["motif", "base", "3-mer"])
@pytest.mark.parametrize("way", ["none", "equivariant"])
def test_every_kind_of_token_learns(tokens: str, way: str) -> None:
    sequences, labels = _sequences(160)
    changes = {"tokens": tokens, "reverse_complement": way, "dim": 16, "max_epochs": 5}
    classifier = TitansDNAClassifier(**TINY | changes).fit(sequences, labels)
    assert classifier.network_.titans.tokens.stride == {"motif": 6, "base": 1, "3-mer": 3}[tokens]
    titans = classifier.network_.branch_outputs(**pad([encode(one) for one in sequences]))[0]
    called = classifier.classes_[titans.argmax(dim=-1).numpy()]
    assert np.mean(called == labels) > 0.7


@pytest.mark.slow
def test_training_stops_when_held_out_rows_say_so() -> None:
    sequences, labels = _sequences(220)
    changes = {"max_epochs": 3, "n_iter_no_change": 1, "tol": 10.0}
    stopped = TitansDNAClassifier(**TINY | changes).fit(sequences, labels)
    assert stopped.n_iter_ == 2
    assert stopped.history_["stopped_by"] == "patience"
    through = TitansDNAClassifier(**TINY | changes | {"early_stopping": False})
    assert through.fit(sequences, labels).n_iter_ == 3


@pytest.mark.slow
def test_answers_are_calibrated_on_rows_that_were_held_out() -> None:
    sequences, labels = _sequences(240)
    classifier = TitansDNAClassifier(**TINY | {"max_epochs": 4}).fit(sequences, labels)
    found = classifier.calibration_
    assert found["rows"] == 24
    assert 0 <= found["ece"] <= 1
    assert found["temperature"] == pytest.approx(1 / float(classifier.network_.mixing.sum()))
    assert TitansDNAClassifier(**TINY).fit(sequences[:20], labels[:20]).calibration_ == {}


def test_what_is_short_or_unsure_is_unclassified(fitted: TitansDNAClassifier) -> None:
    sequences = [*_sequences(6)[0], "ACGT"]
    strict = clone(fitted).set_params(min_length=30, threshold=0.0)
    strict.fit([*_sequences()[0], "ACGT"], [*_sequences()[1], "other"])
    plain = strict.set_params(min_length=1).predict(sequences)
    found = strict.set_params(min_length=30).predict(sequences)
    assert found[-1] == "unclassified"
    np.testing.assert_array_equal(found[:-1], plain[:-1])
    assert set(strict.set_params(threshold=1.0).predict(sequences)) == {"unclassified"}
    with pytest.raises(DataError, match="no sequence has min_length=500 letters; the longest has"):
        strict.set_params(min_length=500).fit(*_sequences())


@pytest.mark.parametrize(("name", "kind"), [(-1, "i"), ("?", "O"), (None, "O")])
def test_numbers_get_a_number_for_what_is_unclassified(name: Any, kind: str) -> None:
    sequences, labels = _sequences(20)
    numbers = [1 if label == "motif" else 2 for label in labels]
    classifier = TitansDNAClassifier(**TINY | {"threshold": 1.0, "unclassified": name})
    found = classifier.fit(sequences, numbers).predict(sequences)
    assert found.dtype.kind == kind
    assert set(found) == {name}


@pytest.mark.slow
def test_a_sequence_may_have_several_labels(tmp_path: Path) -> None:
    draw = random.Random(0)
    table = pd.DataFrame(
        [(draw.random() < 0.5, draw.random() < 0.5) for _ in range(240)], columns=["tata", "gc"]
    ).astype(int)
    sequences = []
    for tata, gc in table.to_numpy():
        letters = draw.choices("ACGT", k=60)
        letters[10:16] = "TATAAA" if tata else draw.choices("ACG", k=6)
        letters[40:46] = "GGGCGG" if gc else draw.choices("AT", k=6)
        sequences.append("".join(letters))
    classifier = TitansDNAClassifier(**TINY | {"max_epochs": 8, "dim": 16})
    classifier.fit(sequences[:180], table[:180])
    assert classifier.classes_.tolist() == ["tata", "gc"]
    found = classifier.predict(sequences[180:])
    assert found.shape == (60, 2)
    assert (found == table[180:]).to_numpy().mean() > 0.9
    assert classifier.calibration_ == {}
    classifier.save(tmp_path / "model")
    again = TitansDNAClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(sequences[180:]), found)
    with pytest.raises(ConfigError, match="class_weight must be None for several labels"):
        classifier.set_params(class_weight="balanced").fit(sequences, table)
    with pytest.raises(DataError, match="a matrix of several labels must contain only 0 and 1"):
        classifier.set_params(class_weight=None).fit(sequences, table + 1)


@pytest.mark.slow
def test_joblib_and_searches_in_other_processes(
    fitted: TitansDNAClassifier, tmp_path: Path
) -> None:
    sequences, labels = _sequences(12)
    joblib.dump(fitted, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(sequences), fitted.predict_proba(sequences))
    search = GridSearchCV(TitansDNAClassifier(**TINY), {"dim": [4, 8]}, cv=2, n_jobs=2, refit=False)
    search.fit(np.array(sequences), labels)
    assert set(search.cv_results_["rank_test_score"]) <= {1, 2}
