"""What a card says, as frozen records that check themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from titans_seq.evaluation.cards.splits import Split
from titans_seq.exceptions import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One file of a data set, and how to be sure that it is the one."""

    path: str
    """Where it lies, relative to the data folder, the cache or, for embedded sets, the cards.
    Where this does not end in ``.gz``, a file of the same name with ``.gz`` will do."""

    rows: int | None = None
    """Rows of a table without its header, or records of a FASTA file."""

    sha256: str | None = None
    """Digest of the file at ``path``: of its content, where it lies compressed under another
    name."""

    git_blob: str | None = None
    """Git's id of the content, for a file whose sha256 nobody has published."""

    bytes: int | None = None
    """Length of that content."""

    url: str | None = None
    """Where it can be fetched, or the archive that holds it."""

    member: str | None = None
    """Name of the file within the archive at ``url`` (zip or tar)."""

    also: tuple[str, ...] = ()
    """Other places within the data folder where people keep it."""

    obtain: str | None = None
    """What must be done by hand where there is no ``url``."""

    check: str | None = None
    """How to be sure of a file that has no digest here."""

    made_from: str | None = None
    """Name, among the card's raw files, of what it is derived from."""

    made_by: str | None = None
    """What derives it, see :mod:`titans_seq.evaluation.data.derive`."""

    def __post_init__(self) -> None:
        """Refuse paths that lead elsewhere, digests that are none, and files nobody can check."""
        for name in (self.path, self.member, *self.also):
            if name is not None and not is_inside(name):
                raise ConfigError(f"{name!r} must be a relative path with / and without ..")
        for digest, length in ((self.sha256, 64), (self.git_blob, 40)):
            if digest is not None and not re.fullmatch(f"[0-9a-f]{{{length}}}", digest):
                raise ConfigError(f"digest {digest!r} is not {length} hexadecimal digits")
        if not (self.sha256 or self.git_blob or self.check):
            raise ConfigError(f"{self.path}: give sha256 or git_blob, or say in check what to do")
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ConfigError(f"url {self.url!r} must begin with https://")
        if self.url is not None and not (self.sha256 or self.git_blob):
            raise ConfigError(f"{self.path}: what is fetched needs sha256 or git_blob")
        if (self.made_from is None) != (self.made_by is None):
            raise ConfigError(f"{self.path}: made_from and made_by belong together")


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What the columns of a table of time series mean."""

    time: str
    """Time stamp of the row."""

    target: str | tuple[str, ...]
    """What is to be forecast: one column, several of a wide table, or ``*``, all but the time."""

    id: str | None = None
    """Name of the series a row belongs to; none in a table of one series, or a wide one."""

    step: str | None = None
    """Time from row to row, in pandas' words, where stamps are not to be trusted: rows are then
    counted from the first stamp, as the published protocols do."""

    static: tuple[str, ...] = ()
    """Constant within a series."""

    past: tuple[str, ...] = ()
    """Known only afterwards."""

    future: tuple[str, ...] = ()
    """Known ahead."""

    other: tuple[str, ...] = ()
    """For reference; not given to a model."""

    season: int | None = None
    """Rows of a season, for the seasonal naive control; chosen in the train rows if left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Competition:
    """Tables with a row a series, its values in columns; the test file holds what comes next."""

    horizon: int
    """Values of each series in the test file."""

    season: int
    """Values of a season, as the competition counts it; 1 where it counts none."""

    def __post_init__(self) -> None:
        """Refuse counts below 1."""
        if self.horizon < 1 or self.season < 1:
            raise ConfigError(f"horizon {self.horizon}, season {self.season}: at least 1 each")


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """A list of places in a genome, all of one class and one part."""

    file: str
    """Name of the list among the card's files; columns region, start, end and strand."""

    genome: str
    """Name of the genome among the card's files, a FASTA file."""

    part: Literal["train", "test"]
    """Which part its rows belong to."""

    label: str
    """Their class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What somebody reached on the data set."""

    model: str
    """What was scored."""

    source: str
    """Where it is published, or how it was measured."""

    scores: Mapping[str, Any]
    """By name, as our own tables call it: a figure, or figures by horizon, with ``mean``."""

    remark: str | None = None
    """What one must know to compare: pre-trained or not, leaks, another protocol."""

    comparable: bool = True
    """Whether it was made by the rules that our own scores are made by."""

    def __post_init__(self) -> None:
        """Refuse what is no figure, and an incomparable one without a reason."""
        for name, value in self.scores.items():
            for figure in value.values() if isinstance(value, dict) else (value,):
                if isinstance(figure, bool) or not isinstance(figure, int | float):
                    raise ConfigError(f"{name} of {self.model} is {figure!r}, not a number")
        if not (self.comparable or self.remark):
            raise ConfigError(f"{self.model} is not comparable: say in remark why")

    def score(self, name: str, horizon: int | None = None) -> float | None:
        """Return one figure; of many horizons without one named, their mean."""
        value = self.scores.get(name)
        if isinstance(value, dict):
            value = value.get("mean" if horizon is None else str(horizon))
        return None if value is None else float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetCard:
    """Everything that must be known of a data set before it is used."""

    name: str
    """The card's own name, that of its file."""

    task: Literal["forecasting", "classification", "language", "recall"]
    """What is learnt from it."""

    summary: str
    """One or two sentences."""

    source: str
    """Who made it, and where it was taken from."""

    url: str
    """Page of that source."""

    licence: str
    """Terms of use, an SPDX name where there is one."""

    citation: str
    """What to cite."""

    split_rule: str
    """How train and test are told apart, in words."""

    files: dict[str, DataFile]
    """Files by what they are for, such as ``train`` and ``test``."""

    metric: str | None = None
    """Figure that tables put first; left out, mse or accuracy."""

    remarks: tuple[str, ...] = ()
    """What one must know before believing a score on it."""

    built_by: str | None = None
    """Script of the repository that makes the files from the source."""

    columns: Columns | None = None
    """Roles of the columns of a table of time series."""

    split: Split | None = None
    """Borders by rows, where one file holds all parts."""

    intervals: tuple[Intervals, ...] = ()
    """Lists of places that sequences are cut from, instead of tables of sequences."""

    raw: dict[str, DataFile] = field(default_factory=dict)
    """Files that others are derived from; a recipe does not read them."""

    competition: Competition | None = None
    """How the files of a forecasting competition are laid out."""

    own: str | None = None
    """Name of the file that every user brings: a recipe's ``input`` says where it is."""

    results: tuple[Result, ...] = ()
    """Figures to compare with."""

    @property
    def main_metric(self) -> str:
        """Figure that tables put first."""
        return self.metric or ("mse" if self.task == "forecasting" else "accuracy")

    @property
    def by_horizon(self) -> bool:
        """Whether tables have a column a horizon, instead of one a figure."""
        return self.task == "forecasting" and self.competition is None


def is_inside(name: str) -> bool:
    """Tell whether a relative path stays in the folder that it starts from, on any system."""
    parts = PurePosixPath(name).parts
    strange = "\\" in name or ":" in name or "\0" in name
    return bool(parts) and not strange and not name.startswith("/") and ".." not in parts
