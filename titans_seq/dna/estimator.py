"""A scikit-learn classifier of DNA sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin

from titans_seq.config import Variant
from titans_seq.dna.base import TitansDNAEstimator
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.targets import check_classes, check_labels, row_weights
from titans_seq.dna.learning.tasks import probabilities
from titans_seq.exceptions import ConfigError


class TitansDNAClassifier(ClassifierMixin, TitansDNAEstimator):
    """Classify DNA sequences with a Titans network.

    Sequences may be strings, Biopython ``Seq`` or ``SeqRecord``, or records of
    :func:`~titans_seq.dna.read_fasta`, of any lengths, with any IUPAC letters in either case;
    labels may be strings, numbers or booleans. With an indicator matrix of 0 and 1 (the column
    names of a data frame are kept) a sequence may have several labels, or none.

    Parameters
    ----------
    variant
        How memory and attention are combined: ``mac``, ``mag``, ``mal``, ``lmm``, or
        ``attention`` (no memory).
    dim
        Width of a token.
    layers
        Blocks of the backbone.
    tokens
        Tokens that the backbone reads: ``motif`` (motif detectors, one token for 6 bases),
        ``base`` (one token per base), or ``2-mer`` to ``6-mer`` (one token for every k bases).
    init
        Folder of a model pre-trained with :func:`~titans_seq.dna.pretrain` to start from; None:
        random weights.
    reverse_complement
        ``auto``: ``average`` or ``none``, whichever predicts held-out rows better; ``none``
        without such rows. ``none``: only the given strand is read. ``augment``: half of the
        sequences of each epoch are reverse-complemented. ``average``: that, and predictions
        are the mean over both strands. ``equivariant``: the network reads both strands with the
        same weights and averages their features, in training too. With the last two, a
        sequence and its reverse complement get the same prediction.
    max_epochs
        Most passes over the training sequences. None: as many as make 1,500 batches or 12
        million letters, whichever is less, but at least 4 and at most 60.
    batch_size
        Sequences of a batch; long ones come in smaller batches.
    learning_rate
        Peak step of AdamW.
    weight_decay
        Decay of AdamW.
    dropout
        Share of features dropped in training.
    class_weight
        Weight of each class: None (all rows alike), ``balanced``, or a dict by label.
    early_stopping
        Stop when the held-out loss no longer falls; False runs every epoch. Either way the
        held-out rows, if there are any, choose the best epoch and calibrate.
    validation_fraction
        Share of each class held out to choose the best epoch, to weight the branches of the
        network and to calibrate; with 0, or fewer than 20 such rows, nothing is held out.
    n_iter_no_change
        Epochs without a better held-out loss before training stops.
    tol
        How much lower the held-out loss must be to count as better.
    warm_start
        Let ``fit`` continue the last training.
    threshold
        Lowest probability at which a label is predicted; sequences below it are
        ``unclassified``. None: predict the most probable label whatever its probability (with
        several labels per sequence: those of at least 0.5).
    min_length
        Sequences with fewer letters are not used for training, and are ``unclassified``.
    unclassified
        Label that ``predict`` gives to those; for numeric labels, use a number.
    random_state
        Seed of everything random; an int gives the same classifier each time.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    verbose
        1 shows a progress bar, if standard error is a terminal.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted; with several labels per sequence, their names by column.
    network_ : TitansDNANetwork
        The trained network; it is on the CPU between calls.
    history_ : dict
        Losses and times of the last training, see :class:`titans_seq.training.History`.
    loss_curve_ : list of float
        Training loss of every epoch, including trainings that it continued.
    calibration_ : dict
        Cross-validated ``loss`` and ``ece`` (expected calibration error) on ``rows`` held-out
        rows, and the ``temperature``; empty if none were held out.
    motifs_ : list of str
        k-mers of the largest weight, N for any base; the motif detectors are initialised with
        them.
    n_iter_ : int
        Epochs begun.
    """

    _kind = "titans-dna-classifier"

    classes_: npt.NDArray[Any]

    def __init__(
        self,
        *,
        variant: Variant = "mag",
        dim: int = 64,
        layers: int = 2,
        tokens: str = "motif",
        init: Any = None,
        reverse_complement: str = "auto",
        max_epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.2,
        class_weight: Any = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 8,
        tol: float = 0.0,
        warm_start: bool = False,
        threshold: float | None = None,
        min_length: int = 1,
        unclassified: Any = "unclassified",
        random_state: Any = None,
        device: str = "auto",
        verbose: int = 0,
    ) -> None:
        super().__init__(
            variant=variant,
            dim=dim,
            layers=layers,
            tokens=tokens,
            init=init,
            reverse_complement=reverse_complement,
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            dropout=dropout,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            warm_start=warm_start,
            min_length=min_length,
            random_state=random_state,
            device=device,
            verbose=verbose,
        )
        self.class_weight = class_weight
        self.threshold = threshold
        self.unclassified = unclassified

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on sequences ``X`` and their labels ``y``.

        Parameters
        ----------
        X, y
            Sequences, and a label for each, or an indicator matrix of 0 and 1.
        sample_weight
            Weight of each sequence in the loss, at least 0; None: all alike.

        Raises
        ------
        DataError
            If a sequence is not DNA, or the labels are invalid.
        ConfigError
            If a setting is outside its range.
        DivergedError
            If the loss became non-finite.
        """
        return self._fit(X, y, sample_weight, partial=False, classes=None)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train in one pass over sequences ``X`` at a constant rate, continuing the last training.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes
            All labels that may occur; required in the first call.

        Raises
        ------
        DataError
            As :meth:`fit`, or if ``classes`` are missing or differ from those of before.
        """
        return self._fit(X, y, sample_weight, partial=True, classes=classes)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, partial: bool, classes: Any) -> Self:
        sequences = encode_all(X)
        known = None
        if partial:
            known = getattr(self, "classes_", None)
            if classes is not None or known is None:
                known = check_classes(classes, known)
            if self.class_weight == "balanced":
                raise ConfigError(
                    "class_weight must be a dict by label or None for partial_fit, which does not "
                    "see all rows, got 'balanced'"
                )
        target = check_labels(y, len(sequences), known)
        weights = row_weights(target, self.class_weight, sample_weight)
        self._train(sequences, target, weights, partial=partial)
        self.classes_ = target.names
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of each class (columns, as in ``classes_``) for each sequence.

        Rows add up to 1; with several labels per sequence, columns are independent.

        Raises
        ------
        DataError
            If a sequence is not DNA.
        """
        outputs, _ = self._predict_outputs(X)
        return probabilities(outputs, self.network_.config.task)

    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Return log-odds of the second of two classes, else a column for each class or label."""
        outputs = self._predict_outputs(X)[0].numpy()
        if self.network_.config.task == "classes" and len(self.classes_) == 2:
            return np.asarray(outputs[:, 1] - outputs[:, 0])
        return np.asarray(outputs)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the label of each sequence, or ``unclassified``.

        With several labels per sequence, return an indicator matrix of 0 and 1.
        """
        outputs, sequences = self._predict_outputs(X)
        predicted = probabilities(outputs, self.network_.config.task)
        return self.decide(predicted, [len(codes) for codes in sequences])

    def decide(
        self, probabilities: npt.NDArray[np.float64], lengths: Sequence[int] | None = None
    ) -> npt.NDArray[Any]:
        """Return the labels that :meth:`predict` gives for these probabilities.

        Parameters
        ----------
        probabilities
            As returned by :meth:`predict_proba`.
        lengths
            Letters of each sequence; None: all are long enough.
        """
        short = np.asarray(self.min_length if lengths is None else lengths) < self.min_length
        short = np.broadcast_to(short, (len(probabilities),))
        if self.network_.config.task == "labels":
            positive = probabilities >= (0.5 if self.threshold is None else self.threshold)
            return np.asarray((positive & ~short[:, None]).astype(np.int64))
        labels: npt.NDArray[Any] = self.classes_[probabilities.argmax(axis=-1)]
        doubtful = short
        if self.threshold is not None:
            doubtful = short | (probabilities.max(axis=-1) < self.threshold)
        return _replaced(labels, doubtful, self.unclassified) if doubtful.any() else labels

    def _outputs(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str}

    def _restore_outputs(self, outputs: dict[str, Any]) -> None:
        self.classes_ = np.array(outputs["classes"], dtype=np.dtype(outputs["dtype"]))

    def _outputs_text(self) -> str:
        kind = "Classes" if self.network_.config.task == "classes" else "Labels"
        return f"{kind}: {', '.join(map(str, self.classes_.tolist()))}."

    def __sklearn_tags__(self) -> Any:
        """Declare that a sequence may have several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _replaced(
    labels: npt.NDArray[Any], where: npt.NDArray[np.bool_], name: Any
) -> npt.NDArray[Any]:
    """Return labels with some replaced by a name; as objects if their types do not mix."""
    name_type = np.asarray(name).dtype
    kinds = {name_type.kind, labels.dtype.kind}
    same_kind = len(kinds) == 1 or kinds <= set("iuf")
    replaced = labels.astype(np.result_type(name_type, labels.dtype) if same_kind else object)
    replaced[where] = name
    return replaced
