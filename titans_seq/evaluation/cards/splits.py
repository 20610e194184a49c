"""Splits of time series into train, validation and test part, by rows in time order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from titans_seq.exceptions import ConfigError, DataError


class Borders(NamedTuple):
    """Borders of the parts of one series as row numbers; ends are exclusive."""

    train_end: int
    """The train part starts at row 0; scaling is fitted on it alone."""

    validation_end: int
    """The validation part follows the train part; it may be empty."""

    test_end: int
    """The test part follows the validation part; rows behind it are not used."""

    @property
    def test_start(self) -> int:
        """First row of the test part."""
        return self.validation_end

    def rows(self, part: str, look_back: int = 0) -> slice:
        """Return the rows of ``train``, ``validation`` or ``test``.

        Validation and test start ``look_back`` rows earlier, so that their first target row is the
        first row of the part, and the number of windows is the same for every look-back.
        """
        starts = {"train": 0, "validation": self.train_end, "test": self.validation_end}
        ends = {"train": self.train_end, "validation": self.validation_end, "test": self.test_end}
        if part not in starts:
            raise ConfigError(f"part must be one of {', '.join(starts)}, got {part!r}")
        return slice(max(0, starts[part] - look_back), ends[part])


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Sizes of the three parts, all as row counts or all as shares of 1.

    Row counts start at the first row, and remaining rows are not used (the ETT sets: 8,640, 2,880
    and 2,880 of 17,420). Shares add up to 1: train is the first ``int(train * rows)`` rows, test
    the last ``int(test * rows)``, and validation the rows between.
    """

    train: float
    validation: float
    test: float

    def __post_init__(self) -> None:
        """Refuse invalid sizes.

        Raises
        ------
        ConfigError
            If a part is negative, train or test is empty, or shares do not add up to 1.
        """
        parts = (self.train, self.validation, self.test)
        text = ", ".join(f"{part:.10g}" for part in parts)
        if min(parts) < 0 or self.train == 0 or self.test == 0:
            raise ConfigError(f"split {text}: train and test must be > 0, validation >= 0")
        if self.in_rows:
            if any(part != int(part) for part in parts):
                raise ConfigError(f"split {text}: sizes must be all row counts or all shares of 1")
        elif abs(sum(parts) - 1) > 1e-6:
            raise ConfigError(f"split {text}: shares must add up to 1, got {sum(parts):.10g}")

    @property
    def in_rows(self) -> bool:
        """Whether the sizes are row counts, not shares."""
        return max(self.train, self.validation, self.test) > 1

    @classmethod
    def parse(cls, text: str) -> Split:
        """Parse text such as ``"8640,2880,2880"`` or ``"0.7,0.1,0.2"``.

        Raises
        ------
        ConfigError
            If these are not three numbers, or no valid split.
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
        """Return the text that :meth:`parse` reads."""
        return f"{self.train:.10g},{self.validation:.10g},{self.test:.10g}"

    def borders(self, rows: int) -> Borders:
        """Return the borders of a series with that many rows.

        Raises
        ------
        DataError
            If the series is too short for the split.
        """
        if self.in_rows:
            train, validation = int(self.train), int(self.train + self.validation)
            borders = Borders(train, validation, validation + int(self.test))
        else:
            # The small term keeps int(0.7 * 10) at 7, however 0.7 is rounded.
            test = int(self.test * rows + 1e-9)
            borders = Borders(int(self.train * rows + 1e-9), rows - test, rows)
        empty = borders.train_end < 1 or borders.test_start >= borders.test_end
        if borders.test_end > rows or empty:
            raise DataError(f"{rows} rows are too few for the split {self}")
        return borders
