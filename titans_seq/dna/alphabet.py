"""Letters of DNA as numbers, and back: one byte a letter, four bits used.

A code has one bit for each base that a letter may stand for (A 1, C 2, G 4, T 8), so the
ambiguous letters of IUPAC need no table of exceptions: ``R`` (A or G) is 5, ``N`` is 15,
and 0 is left for "no letter here", the padding of a batch. Lower case equals upper case and
``U`` equals ``T``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from titans_seq.exceptions import DataError

Codes = npt.NDArray[np.uint8]

PAD = 0
"""Code of no letter: what stands behind the end of a short sequence in a batch."""

MARK = 16
"""Code of ``>`` in a text of several sequences: what parts them."""

BLANKS = b" \t\n\r\v\f"
"""Bytes between letters that mean nothing."""

BASES = "ACGT"
"""The four bases, in the order of the bits of a code."""

MEANINGS = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
    "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
"""IUPAC letters, and the bases that each may stand for."""

LETTERS = "".join(MEANINGS)
"""Every letter that is accepted, in upper case; ``U`` is read as ``T``."""

_PROTEIN_ONLY = frozenset("EFILPQXZJO*")
_CODE_OF = {letter: sum(1 << BASES.index(b) for b in m) for letter, m in MEANINGS.items()}
_LETTER_OF = {code: letter for letter, code in _CODE_OF.items()}


def _encoding_table() -> Codes:
    """Return the code of every byte, 0 where the byte is no letter of DNA."""
    table = np.zeros(256, dtype=np.uint8)
    for letter, code in {**_CODE_OF, "U": _CODE_OF["T"]}.items():
        table[ord(letter)] = table[ord(letter.lower())] = code
    return table


def _complement_table() -> Codes:
    """Return the code of the other strand: the four bits in reverse (A-T, C-G)."""
    return np.array([int(f"{code:04b}"[::-1], 2) for code in range(16)], dtype=np.uint8)


_ENCODING = _encoding_table()
_BYTES = bytes(MARK if byte == ord(">") else code for byte, code in enumerate(_ENCODING.tolist()))
_COMPLEMENT = _complement_table()
_DECODING = np.frombuffer(
    "".join(_LETTER_OF.get(code, ".") for code in range(16)).encode("ascii"), dtype=np.uint8
)
SHARES = np.array(
    [[(code >> bit & 1) / max(code.bit_count(), 1) for bit in range(4)] for code in range(16)],
    dtype=np.float32,
)
"""Share of each base (columns ``ACGT``) in each code: ``R`` is half A and half G."""


def encode(sequence: str, where: str = "sequence") -> Codes:
    """Return the codes of a sequence's letters, one byte a letter.

    Parameters
    ----------
    sequence
        IUPAC letters in either case, without gaps or spaces.
    where
        What to call the sequence in an error: a file and a record.

    Raises
    ------
    DataError
        If the sequence is empty or holds a letter outside IUPAC; the message names the first
        such letter and its position, counted from 1.
    """
    if not sequence:
        raise DataError(f"{where}: the sequence is empty; it needs at least one letter")
    raw = np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)
    codes: Codes = _ENCODING[raw]
    if not codes.all():
        at = int(np.argmin(codes != PAD))
        place = f"{where}: letter {sequence[at]!r} at position {at + 1} of {len(sequence)}"
        raise DataError(f"{place} {is_no_letter(sequence[at])}")
    return codes


def encode_text(text: bytes) -> bytes:
    """Return the codes of the letters of a text, blanks and line ends left out.

    What is no letter of DNA becomes 0 (``PAD``), and ``>`` becomes ``MARK``; whoever calls
    looks for them.
    """
    # Line ends first: without anything to leave out, the table is read twice as fast.
    codes = text.replace(b"\n", b"").translate(_BYTES)
    return text.translate(_BYTES, BLANKS) if PAD in codes else codes


def decode(codes: Codes) -> str:
    """Return the letters of codes, in upper case; padding becomes ``.``."""
    return _DECODING[codes].tobytes().decode("ascii")


def reverse_complement(codes: Codes) -> Codes:
    """Return the other strand, read in its own direction; ambiguity is kept (R becomes Y)."""
    other: Codes = _COMPLEMENT[codes[::-1]]
    return other


def reverse_complement_text(sequence: str) -> str:
    """Return the reverse complement of a sequence's letters, in upper case.

    Raises
    ------
    DataError
        If the sequence is empty or holds a letter outside IUPAC.
    """
    return decode(reverse_complement(encode(sequence)))


def is_no_letter(letter: str) -> str:
    """Return the rest of a message that began with where a letter stands that is no DNA."""
    message = f"is not one of {LETTERS}"
    if letter in "-.":
        return f"{message}; take gaps out of the sequence, or write N where the base is unknown"
    if letter.upper() in _PROTEIN_ONLY:
        return f"{message}; is this protein? Only DNA and RNA can be read"
    return f"{message}; write N where the base is unknown"
