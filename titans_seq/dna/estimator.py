"""A scikit-learn classifier of DNA: strings in, labels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin

from titans_seq.config import Variant
from titans_seq.dna.base import TitansDNAEstimator
from titans_seq.dna.inputs import encode_all
from titans_seq.dna.learning.targets import check_classes, read_target, row_weights
from titans_seq.dna.learning.tasks import probabilities
from titans_seq.dna.naming import name_classes, name_labels
from titans_seq.exceptions import ConfigError

BUNDLE_KIND = "titans-dna-classifier"
"""What ``config.json`` of a saved classifier says it is."""

Chances = npt.NDArray[np.float64]


class TitansDNAClassifier(ClassifierMixin, TitansDNAEstimator):
    """Tell DNA sequences apart by class, with a Titans network.

    Sequences may be strings, Biopython ``Seq`` or ``SeqRecord``, or records of
    :func:`~titans_seq.dna.read_fasta`, of any lengths, with any IUPAC letters in either case;
    labels may be words, numbers or booleans. A table of 0 and 1 with a column for each label
    (a frame's column names are kept) lets a sequence have several labels, or none.

    Parameters
    ----------
    variant
        How memory and attention are joined: ``mac``, ``mag``, ``mal``, ``lmm``, or
        ``attention`` (no memory).
    dim
        Width of a token.
    layers
        Blocks of the backbone.
    tokens
        What the backbone reads: ``motif`` (motif detectors, a token for each 6 bases),
        ``base`` (a token a base), or ``2-mer`` to ``6-mer`` (a token for every k bases).
    init
        Folder of a model that :func:`~titans_seq.dna.pretrain` wrote, to begin from; None:
        random weights.
    reverse_complement
        ``auto``: what held-out rows say, ``average`` or ``none``; ``none`` without such rows.
        ``none``: the strand matters. ``augment``: half of the sequences of each epoch are
        read from the other strand. ``average``: that, and predictions are the mean over both
        strands. ``equivariant``: the network itself reads both strands with one set of
        weights and joins what it found, in training too. With the last two a sequence and its
        reverse complement get the same answer.
    max_epochs
        Passes over the training sequences, at most. None: as many as make 1,500 batches or
        12 million letters, whichever is less, but 4 at least and 60 at most.
    batch_size
        Sequences of a batch; long ones come in smaller batches.
    learning_rate
        Peak step of AdamW.
    weight_decay
        Decay of AdamW.
    dropout
        Share of features that is dropped in training.
    class_weight
        What each class counts: None (all rows alike), ``balanced``, or a dict by label.
    early_stopping
        Stop when the held-out loss no longer falls; False runs every epoch. Either way the
        held-out rows, if there are any, choose the best epoch and calibrate.
    validation_fraction
        Share of each class that is held out to choose the best epoch, to weigh the readers
        and to calibrate; 0, or fewer than 20 rows of it, holds out nothing.
    n_iter_no_change
        Epochs without a better held-out loss before training stops.
    tol
        How much lower the held-out loss must be to count as better.
    warm_start
        ``fit`` goes on from where the last one ended.
    threshold
        Least probability of a label that is given; sequences without one are
        ``unclassified``. None: the likeliest label whatever its probability (with several
        labels a sequence: those of at least 0.5).
    min_length
        Sequences with fewer letters are not learnt from, and are ``unclassified``.
    unclassified
        What ``predict`` calls those; for labels that are numbers, give a number.
    random_state
        Seed of everything random; an int gives the same classifier each time.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    verbose
        1 shows a progress bar, if standard error is a terminal.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted; with several labels a sequence, their names by column.
    network_ : TitansDNANetwork
        What was trained; it stays on the CPU between calls.
    history_ : dict
        Losses and times of the last training, see :class:`titans_seq.training.History`.
    loss_curve_ : list of float
        Training loss of every epoch, earlier trainings that it went on from included.
    calibration_ : dict
        ``loss`` and ``ece`` (expected calibration error) of the joint answer on ``rows``
        held-out rows, none judged by weights that saw it, and the ``temperature``; empty if
        none were held out.
    motifs_ : list of str
        Words that weigh most, the heaviest first, N for any base; what motif detectors began as.
    n_iter_ : int
        Epochs that were begun.
    """

    _kind = BUNDLE_KIND

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
            Sequences, one an item; a label for each, or a table of 0 and 1.
        sample_weight
            What each sequence counts in the loss, at least 0; None: all alike.

        Raises
        ------
        DataError
            If a sequence is no DNA, or labels do not fit.
        ConfigError
            If a setting is outside its range.
        DivergedError
            If the loss became non-finite.
        """
        return self._fit(X, y, sample_weight, partial=False, classes=None)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Pass once over sequences ``X``, at a steady rate, going on from the last training.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes
            Every label that will ever come; needed in the first call.

        Raises
        ------
        DataError
            As :meth:`fit` does, or if ``classes`` are missing or not those of before.
        """
        return self._fit(X, y, sample_weight, partial=True, classes=classes)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, partial: bool, classes: Any) -> Self:
        rows = encode_all(X)
        known = self._known_classes(classes) if partial else None
        target = read_target(y, len(rows), known)
        weights = row_weights(target, self._class_weight(partial), sample_weight)
        kept = self._long_enough(rows)
        self._learn(
            [row for row, keep in zip(rows, kept, strict=True) if keep],
            target._replace(values=target.values[kept]),
            weights[kept],
            partial=partial,
        )
        self.classes_ = target.names
        return self

    def _known_classes(self, classes: Any) -> npt.NDArray[Any] | None:
        """Return the classes of a partial training, from the first call or this one."""
        before = getattr(self, "classes_", None)
        return before if classes is None and before is not None else check_classes(classes, before)

    def _class_weight(self, partial: bool) -> Any:
        """Return the weights of the classes; part of the rows cannot tell what is balanced."""
        if partial and self.class_weight == "balanced":
            raise ConfigError("class_weight='balanced': partial_fit needs a dict by label, or None")
        return self.class_weight

    def predict_proba(self, X: Any) -> Chances:
        """Return the probability of each class (columns, as in ``classes_``) for each sequence.

        Rows add up to 1; with several labels a sequence each column stands by itself.

        Raises
        ------
        DataError
            If a sequence is no DNA.
        """
        return self._chances(X)[0]

    def decision_function(self, X: Any) -> Chances:
        """Return log-odds: of the second of two classes, else a column a class or label."""
        answer = self._answers(X)[0].numpy()
        if self.network_.config.task == "classes" and len(self.classes_) == 2:
            return np.asarray(answer[:, 1] - answer[:, 0])
        return np.asarray(answer)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the label of each sequence, as ``fit`` was given it, or ``unclassified``.

        With several labels a sequence: a table of 0 and 1, as ``fit`` was given it.
        """
        chances, lengths = self._chances(X)
        return self.decide(chances, lengths)

    def decide(self, chances: Chances, lengths: Sequence[int] | None = None) -> npt.NDArray[Any]:
        """Return the labels that probabilities come to, as :meth:`predict` does.

        Parameters
        ----------
        chances
            As of :meth:`predict_proba`.
        lengths
            Letters of each sequence; None: all are long enough.
        """
        short = np.asarray(self.min_length if lengths is None else lengths) < self.min_length
        short = np.broadcast_to(short, (len(chances),))
        if self.network_.config.task == "labels":
            return name_labels(chances, short, self.threshold)
        return name_classes(
            chances, self.classes_, short, threshold=self.threshold, unclassified=self.unclassified
        )

    def _chances(self, X: Any) -> tuple[Chances, list[int]]:
        """Return probabilities, and the letters of each sequence."""
        answer, rows = self._answers(X)
        return probabilities(answer, self.network_.config.task), [len(row) for row in rows]

    def _outputs(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str}

    def _outputs_text(self) -> str:
        what = "Classes" if self.network_.config.task == "classes" else "Labels"
        return f"{what}: {', '.join(map(str, self.classes_.tolist()))}."

    def _restore(self, outputs: dict[str, Any]) -> None:
        self.classes_ = np.array(outputs["classes"], dtype=np.dtype(outputs["dtype"]))

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that a sequence may have several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
