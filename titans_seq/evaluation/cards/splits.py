"""Where train ends and test begins, by rows in time order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from titans_seq.exceptions import ConfigError, DataError


class Borders(NamedTuple):
    """Row numbers of one series; each part goes up to, and not including, its end."""

    train_end: int
    """The train part begins at row 0; scaling uses these rows alone."""

    validation_end: int
    """The validation part follows the train part; it may be empty."""

    test_end: int
    """The test part follows the validation part; rows after it are not used."""

    @property
    def test_start(self) -> int:
        """First row of the test part."""
        return self.validation_end

    def rows(self, part: str, look_back: int = 0) -> slice:
        """Return the rows of ``train``, ``validation`` or ``test``.

        Validation and test begin ``look_back`` rows early, so that their first target row is the
        first row of the part and the number of scored windows is the same for every look-back.
        """
        starts = {"train": 0, "validation": self.train_end, "test": self.validation_end}
        ends = {"train": self.train_end, "validation": self.validation_end, "test": self.test_end}
        if part not in starts:
            raise ConfigError(f"no part {part!r}: choose one of {', '.join(starts)}")
        return slice(max(0, starts[part] - look_back), ends[part])


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Lengths of the three parts, all as rows (``int``) or all as shares (``float``).

    Rows are counted from the start, and what is left over is not used (the ETT sets: 8,640,
    2,880 and 2,880 of 17,420). Shares add up to 1: train is the first ``int(train * rows)`` rows,
    test the last ``int(test * rows)``, and validation what lies between.
    """

    train: float
    validation: float
    test: float

    def __post_init__(self) -> None:
        """Refuse parts that cannot be.

        Raises
        ------
        ConfigError
            If a part is negative, train or test is empty, or shares do not add up to 1.
        """
        parts = (self.train, self.validation, self.test)
        text = ", ".join(f"{part:.10g}" for part in parts)
        if min(parts) < 0 or self.train == 0 or self.test == 0:
            raise ConfigError(f"split {text}: train and test above 0, validation 0 or more")
        if self.in_rows:
            if any(part != int(part) for part in parts):
                raise ConfigError(f"split {text}: either all rows or all shares of 1")
        elif abs(sum(parts) - 1) > 1e-6:
            raise ConfigError(f"split {text}: shares add up to {sum(parts):.10g}, not to 1")

    @property
    def in_rows(self) -> bool:
        """Whether the parts are rows, not shares."""
        return max(self.train, self.validation, self.test) > 1

    @classmethod
    def parse(cls, text: str) -> Split:
        """Return the split of ``"8640,2880,2880"``, ``"0.7,0.1,0.2"`` or the like.

        Raises
        ------
        ConfigError
            If these are not three numbers, or cannot be a split.
        """
        try:
            train, validation, test = (float(part) for part in text.split(","))
        except ValueError:
            raise ConfigError(
                f"split {text!r}: write train,validation,test as rows (8640,2880,2880) "
                "or shares (0.7,0.1,0.2)"
            ) from None
        return cls(train=train, validation=validation, test=test)

    def __str__(self) -> str:
        """Return what :meth:`parse` reads."""
        return f"{self.train:.10g},{self.validation:.10g},{self.test:.10g}"

    def borders(self, rows: int) -> Borders:
        """Return the borders of a series of that many rows.

        Raises
        ------
        DataError
            If the series is too short for the split.
        """
        if self.in_rows:
            train, validation = int(self.train), int(self.train + self.validation)
            found = Borders(train, validation, validation + int(self.test))
        else:
            # The small number keeps int(0.7 * 10) at 7, whatever the rounding of 0.7.
            test = int(self.test * rows + 1e-9)
            found = Borders(int(self.train * rows + 1e-9), rows - test, rows)
        if found.test_end > rows or found.train_end < 1 or found.test_start >= found.test_end:
            raise DataError(f"{rows} rows are too few for the split {self}")
        return found
