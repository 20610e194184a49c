"""Encode letters of DNA as numbers: one byte per letter, of which four bits are used.

A code has one bit for each base that a letter may stand for (A 1, C 2, G 4, T 8), so the
ambiguous letters of IUPAC need no special cases: ``R`` (A or G) is 5, ``N`` is 15, and 0 is the
padding of a batch. Lower case equals upper case and ``U`` equals ``T``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from titans_seq.exceptions import DataError

Codes = npt.NDArray[np.uint8]

PAD = 0
"""Code of the padding behind a short sequence in a batch."""

MARK = 16
"""Code of ``>``, which separates several sequences encoded at once."""

BLANKS = b" \t\n\r\v\f"
"""White space, which is ignored between letters."""

BASES = "ACGT"
"""The four bases, in the order of the bits of a code."""

IUPAC_BASES = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
    "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
"""IUPAC letters, and the bases that each may stand for."""

LETTERS = "".join(IUPAC_BASES)
"""All accepted letters, in upper case; ``U`` is read as ``T``."""

_PROTEIN_ONLY = frozenset("EFILPQXZJO*")
_CODE_OF = {
    letter: sum(1 << BASES.index(base) for base in bases) for letter, bases in IUPAC_BASES.items()
}
_LETTER_OF = {code: letter for letter, code in _CODE_OF.items()}


def _encoding_table() -> Codes:
    """Return the code of every byte; 0 if the byte is not a letter of DNA."""
    table = np.zeros(256, dtype=np.uint8)
    for letter, code in {**_CODE_OF, "U": _CODE_OF["T"]}.items():
        table[ord(letter)] = table[ord(letter.lower())] = code
    return table


def _complement_table() -> Codes:
    """Return the code of the complement: the four bits in reverse order (A-T, C-G)."""
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
    """Return the codes of a sequence's letters.

    Parameters
    ----------
    sequence
        IUPAC letters in either case, without gaps or spaces.
    where
        Name of the sequence in error messages, such as file and record.

    Raises
    ------
    DataError
        If the sequence is empty or contains a letter outside IUPAC; the message names the first
        such letter and its position, counted from 1.
    """
    if not sequence:
        raise DataError(f"{where}: the sequence is empty; it needs at least one letter")
    raw = np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)
    codes: Codes = _ENCODING[raw]
    if not codes.all():
        at = int(np.argmin(codes != PAD))
        raise DataError(
            f"{where}: letter {sequence[at]!r} at position {at + 1} of {len(sequence)} "
            f"{invalid_letter(sequence[at])}"
        )
    return codes


def encode_text(text: bytes) -> bytes:
    """Return the codes of the letters of a text without blanks and line ends.

    A byte that is not a letter of DNA becomes 0 (``PAD``), and ``>`` becomes ``MARK``; the caller
    must look for them.
    """
    # Line ends first: translate is twice as fast if it has nothing to delete.
    codes = text.replace(b"\n", b"").translate(_BYTES)
    return text.translate(_BYTES, BLANKS) if PAD in codes else codes


def decode(codes: Codes) -> str:
    """Return the letters of codes, in upper case; padding becomes ``.``."""
    return _DECODING[codes].tobytes().decode("ascii")


def reverse_complement(codes: Codes) -> Codes:
    """Return the reverse complement; ambiguous letters stay ambiguous (R becomes Y)."""
    reverse_strand: Codes = _COMPLEMENT[codes[::-1]]
    return reverse_strand


def reverse_complement_text(sequence: str) -> str:
    """Return the reverse complement of a sequence's letters, in upper case.

    Raises
    ------
    DataError
        If the sequence is empty or contains a letter outside IUPAC.
    """
    return decode(reverse_complement(encode(sequence)))


def invalid_letter(letter: str) -> str:
    """Return the end of an error message about a letter outside IUPAC."""
    message = f"is not one of {LETTERS}"
    if letter in "-.":
        return f"{message}; remove gaps from the sequence, or write N where the base is unknown"
    if letter.upper() in _PROTEIN_ONLY:
        return f"{message}; is this protein? Only DNA and RNA can be read"
    return f"{message}; write N where the base is unknown"
