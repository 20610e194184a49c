"""Effects of the variants of a VCF file on predictions."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_seq.dna.alphabet import Codes, decode, encode
from titans_seq.dna.reading.records import CheckedFasta
from titans_seq.dna.reading.sources import open_text, source_name, text_lines
from titans_seq.dna.reading.spans import Span, extract_spans
from titans_seq.dna.streaming.predictions import OutputNames, letter_batches, predict_sequences
from titans_seq.exceptions import DataError

_ALLELE = re.compile("[ACGTUNRYSWKMBDHV]+", re.IGNORECASE)


class SequenceVariant(NamedTuple):
    """One ALT of a line of a VCF file."""

    chrom: str
    position: int
    """Position of REF, from 0: POS of the file less 1."""

    name: str
    ref: str
    alt: str
    line: int


class VcfVariants(NamedTuple):
    """Variants of a VCF file."""

    scored: list[SequenceVariant]
    """Variants whose alleles are sequences."""

    skipped: list[tuple[int, str]]
    """Line and ALT of the others: symbolic alleles, break-ends, ``*`` and ``.``."""


class VariantScores(NamedTuple):
    """Probabilities, or values, of the reference and of the alternative sequences."""

    ref: npt.NDArray[np.float64]
    """(variants, outputs)"""

    alt: npt.NDArray[np.float64]
    """(variants, outputs)"""


def read_vcf(path: str | os.PathLike[str]) -> VcfVariants:
    """Read the variants of a VCF file, plain or gzip; each ALT is one variant.

    Raises
    ------
    DataError
        If the file cannot be read, contains no variant, or a line is invalid; the message names
        file and line.
    """
    where = source_name(path)
    scored: list[SequenceVariant] = []
    skipped: list[tuple[int, str]] = []
    with open_text(path) as handle:
        for number, line in text_lines(handle, where):
            if line.startswith("#") or not line.strip():
                continue
            for variant in _variants(line.rstrip("\n").split("\t"), number, where):
                if _ALLELE.fullmatch(variant.alt):
                    scored.append(variant)
                else:
                    skipped.append((number, variant.alt))
    if not scored:
        raise DataError(f"{where}: no variant whose alleles are sequences, so none can be scored")
    return VcfVariants(scored, skipped)


def _variants(cells: list[str], number: int, where: str) -> Iterator[SequenceVariant]:
    """Yield the variants of one line."""
    where = f"{where}, line {number}"
    if len(cells) < 5:
        raise DataError(
            f"{where}: {len(cells)} column(s) separated by tabs; VCF needs CHROM POS ID REF ALT"
        )
    chrom, position, name, ref, alts = cells[:5]
    if not position.isdecimal() or int(position) < 1:
        raise DataError(f"{where}: POS must be a positive integer, got {position!r}")
    if not _ALLELE.fullmatch(ref):
        raise DataError(f"{where}: REF must consist of letters of DNA, got {ref!r}")
    for alt in alts.split(","):
        yield SequenceVariant(chrom, int(position) - 1, name, ref, alt.strip(), number)


def score_variants(
    estimator: Any, genome: CheckedFasta, variants: list[SequenceVariant], window: int, where: str
) -> VariantScores:
    """Predict the sequence around each variant, with the reference and the alternative allele.

    Both sequences begin at the same position, such that REF lies in the middle of the first,
    and have ``window`` letters where the record is long enough.

    Raises
    ------
    DataError
        If REF differs from the genome, is longer than the window, or the genome has no record
        of the name; the message names the line.
    """
    spans: dict[str, list[Span]] = defaultdict(list)
    for index, variant in enumerate(variants):
        if len(variant.ref) > window:
            raise DataError(
                f"{where}, line {variant.line}: REF has {len(variant.ref)} letters, more than the "
                f"window of {window}"
            )
        start = max(0, variant.position - (window - len(variant.ref)) // 2)
        # After a deletion, letters behind the window move into it.
        deleted = max(0, len(variant.ref) - len(variant.alt))
        spans[variant.chrom].append(Span(start, start + window + deleted, index))
    starts = {span.key: span.start for group in spans.values() for span in group}
    order: list[int] = []
    values: list[npt.NDArray[np.float64]] = []
    extracted = extract_spans(genome.pieces(), spans, genome.where)
    for batch in letter_batches(extracted, lambda item: len(item[1])):
        order.extend(index for index, _ in batch)
        pairs = [
            _alleles(codes, starts[index], variants[index], window, (where, genome.where))
            for index, codes in batch
        ]
        sequences = [codes for pair in pairs for codes in pair]
        values.append(predict_sequences(estimator, sequences).values)
    missing = set(range(len(variants))) - set(order)
    if missing:
        variant = variants[min(missing)]
        raise DataError(
            f"{where}, line {variant.line}: {genome.where} has no record {variant.chrom!r}"
        )
    # Reference and alternative alternate: (variants, 2, outputs), in the order of the file.
    by_variant = np.concatenate(values).reshape(len(order), 2, -1)[np.argsort(order)]
    return VariantScores(by_variant[:, 0], by_variant[:, 1])


def _alleles(
    codes: Codes, start: int, variant: SequenceVariant, window: int, names: tuple[str, str]
) -> tuple[Codes, Codes]:
    """Return the sequence around a variant with the reference and with the alternative allele."""
    begin = variant.position - start
    end = begin + len(variant.ref)
    actual = codes[begin:end]
    if not np.array_equal(actual, encode(variant.ref)):
        shown = f"{decode(actual)!r}" if len(actual) else "nothing"
        raise DataError(
            f"{names[0]}, line {variant.line}: REF is {variant.ref!r}, but {names[1]} has {shown} "
            f"at {variant.chrom}:{variant.position + 1}; is it the same assembly?"
        )
    alternative = np.concatenate([codes[:begin], encode(variant.alt), codes[end:]])
    return codes[:window], alternative[:window]


def variant_columns(
    variants: Sequence[SequenceVariant], scores: VariantScores, outputs: OutputNames
) -> dict[str, Any]:
    """Return variants and their effects as the columns of a table with one row per variant.

    ``change(name)`` is an output with the alternative allele minus that with the reference;
    ``log-odds(name)`` is the same difference of the log-odds of a probability.
    """
    columns: dict[str, Any] = {
        "chrom": [variant.chrom for variant in variants],
        "pos": [variant.position + 1 for variant in variants],
        "id": [variant.name for variant in variants],
        "ref": [variant.ref for variant in variants],
        "alt": [variant.alt for variant in variants],
    }
    for index, (name, column) in enumerate(zip(outputs.names, outputs.columns, strict=True)):
        ref, alt = scores.ref[:, index], scores.alt[:, index]
        columns[f"ref {column}"] = ref
        columns[f"alt {column}"] = alt
        columns[f"change({name})"] = alt - ref
        if outputs.are_probabilities:
            columns[f"log-odds({name})"] = _log_odds(alt) - _log_odds(ref)
    return columns


def _log_odds(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return log-odds, finite for probabilities of 0 and 1, too."""
    tiny = np.finfo(np.float64).tiny
    return np.asarray(
        np.log(np.maximum(probabilities, tiny)) - np.log(np.maximum(1 - probabilities, tiny))
    )
