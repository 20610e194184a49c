"""What variants do to predictions: VCF and genome in, the change of each probability out."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from titans_seq.dna.alphabet import Codes, decode, encode
from titans_seq.dna.reading.checked import CheckedFasta
from titans_seq.dna.reading.sources import open_text, source_name, text_lines
from titans_seq.dna.reading.spans import Span, cut
from titans_seq.dna.streaming.answers import Outputs, Values, ask
from titans_seq.dna.streaming.intervals import batches
from titans_seq.exceptions import DataError

_LETTERS = re.compile("[ACGTUNRYSWKMBDHV]+", re.IGNORECASE)


class Variant(NamedTuple):
    """One change of a genome: a line of a VCF file, one for each ALT."""

    chrom: str
    position: int
    """Letters of the record before REF; POS of the file less 1."""

    name: str
    ref: str
    alt: str
    line: int


class Variants(NamedTuple):
    """What a VCF file holds."""

    scored: list[Variant]
    """Variants that are letters against letters."""

    left_out: list[tuple[int, str]]
    """Line and ALT of what is not: symbols, break-ends, ``*`` and ``.``."""


class VariantScores(NamedTuple):
    """Probabilities, or values, with the genome's letters and with the variant's."""

    ref: Values
    """(variants, outputs)"""

    alt: Values
    """(variants, outputs)"""


def read_vcf(path: str | os.PathLike[str]) -> Variants:
    """Read the variants of a VCF file, plain or gzip; each ALT counts as one.

    Raises
    ------
    DataError
        If the file cannot be read, holds no variant, or a line is not one; the message names
        file and line.
    """
    where = source_name(path)
    scored: list[Variant] = []
    left_out: list[tuple[int, str]] = []
    with open_text(path) as handle:
        for number, line in text_lines(handle, where):
            if line.startswith("#") or not line.strip():
                continue
            for variant in _variants(line.rstrip("\n").split("\t"), number, where):
                if _LETTERS.fullmatch(variant.alt):
                    scored.append(variant)
                else:
                    left_out.append((number, variant.alt))
    if not scored:
        raise DataError(f"{where}: no variant of letters against letters; there is none to score")
    return Variants(scored, left_out)


def _variants(cells: list[str], number: int, where: str) -> Iterator[Variant]:
    """Yield the variants of one line."""
    place = f"{where}, line {number}"
    if len(cells) < 5:
        raise DataError(
            f"{place}: {len(cells)} column(s) parted by tabs; VCF needs CHROM POS ID REF ALT"
        )
    chrom, position, name, ref, alts = cells[:5]
    if not position.isdecimal() or int(position) < 1:
        raise DataError(f"{place}: POS {position!r} must be a whole number of at least 1")
    if not _LETTERS.fullmatch(ref):
        raise DataError(f"{place}: REF {ref!r} must be letters of DNA")
    for alt in alts.split(","):
        yield Variant(chrom, int(position) - 1, name, ref, alt.strip(), number)


def score_variants(
    estimator: Any, genome: CheckedFasta, variants: list[Variant], window: int, where: str
) -> VariantScores:
    """Predict the genome around each variant, without it and with it.

    Both sequences have ``window`` letters, where the record has as many, and begin at the same
    place, so that REF stands in the middle of the first.

    Raises
    ------
    DataError
        If REF is not what stands in the genome, is longer than the window, or the genome has no
        record of the name; the message names the line.
    """
    spans: dict[str, list[Span]] = defaultdict(list)
    for index, one in enumerate(variants):
        if len(one.ref) > window:
            raise DataError(
                f"{where}, line {one.line}: REF has {len(one.ref)} letters, more than the window "
                f"of {window}"
            )
        start = max(0, one.position - (window - len(one.ref)) // 2)
        more = max(0, len(one.ref) - len(one.alt))
        spans[one.chrom].append(Span(start, start + window + more, index))
    starts = {span.key: span.start for group in spans.values() for span in group}
    order: list[int] = []
    answers: list[Values] = []
    for batch in batches(cut(genome.pieces(), spans, genome.where)):
        order.extend(index for index, _ in batch)
        pairs = [
            _both(codes, starts[index], variants[index], window, (where, genome.where))
            for index, codes in batch
        ]
        rows = [codes for pair in pairs for codes in pair]
        answers.append(ask(estimator, rows).values)
    missing = set(range(len(variants))) - set(order)
    if missing:
        one = variants[min(missing)]
        raise DataError(f"{where}, line {one.line}: {genome.where} has no record {one.chrom!r}")
    chances = np.concatenate(answers).reshape(len(order), 2, -1)[np.argsort(order)]
    return VariantScores(chances[:, 0], chances[:, 1])


def _both(
    codes: Codes, start: int, variant: Variant, window: int, names: tuple[str, str]
) -> tuple[Codes, Codes]:
    """Return the genome around a variant without it and with it."""
    at = variant.position - start
    behind = at + len(variant.ref)
    found = codes[at:behind]
    if not np.array_equal(found, encode(variant.ref)):
        here = f"{decode(found)!r}" if len(found) else "nothing"
        raise DataError(
            f"{names[0]}, line {variant.line}: REF is {variant.ref!r}, but {names[1]} has {here} "
            f"at {variant.chrom}:{variant.position + 1}; is it the same assembly?"
        )
    changed = np.concatenate([codes[:at], encode(variant.alt), codes[behind:]])
    return codes[:window], changed[:window]


def variant_columns(
    variants: Sequence[Variant], scores: VariantScores, outputs: Outputs
) -> dict[str, Any]:
    """Return variants and what they change as columns of a table, a row a variant.

    ``change(name)`` is what an output is with the variant less what it is without it, and of a
    probability ``log-odds(name)`` the same of the logarithm of its odds.
    """
    columns: dict[str, Any] = {
        "chrom": [one.chrom for one in variants],
        "pos": [one.position + 1 for one in variants],
        "id": [one.name for one in variants],
        "ref": [one.ref for one in variants],
        "alt": [one.alt for one in variants],
    }
    for index, (name, column) in enumerate(zip(outputs.names, outputs.columns, strict=True)):
        ref, alt = scores.ref[:, index], scores.alt[:, index]
        columns[f"ref {column}"] = ref
        columns[f"alt {column}"] = alt
        columns[f"change({name})"] = alt - ref
        if outputs.labelled:
            columns[f"log-odds({name})"] = _log_odds(alt) - _log_odds(ref)
    return columns


def _log_odds(chances: Values) -> Values:
    """Return the logarithm of odds, finite for certainty too."""
    least = np.finfo(np.float64).tiny
    odds: Values = np.log(np.maximum(chances, least)) - np.log(np.maximum(1 - chances, least))
    return odds
