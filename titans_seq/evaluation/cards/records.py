"""Data set cards as frozen records that validate themselves."""

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
    """One file of a data set, and how it is verified."""

    path: str
    """Path relative to the data folder, the cache or, for embedded sets, the folder of cards. If it
    does not end in ``.gz``, a compressed file of the same name with ``.gz`` is accepted too."""

    rows: int | None = None
    """Rows of a table without its header, or records of a FASTA file."""

    sha256: str | None = None
    """Digest of the content of the file at ``path``, before compression under another name."""

    git_blob: str | None = None
    """Git's id of the content, for a file whose sha256 is not published."""

    bytes: int | None = None
    """Size of the content."""

    url: str | None = None
    """Address of the file, or of the archive that contains it."""

    member: str | None = None
    """Name of the file in the archive at ``url`` (zip or tar)."""

    also: tuple[str, ...] = ()
    """Other usual paths in the data folder."""

    obtain: str | None = None
    """Instructions for getting it by hand if there is no ``url``."""

    check: str | None = None
    """How to verify a file without a digest."""

    made_from: str | None = None
    """Name of the raw file on the card that it is derived from."""

    made_by: str | None = None
    """Function that derives it, see :mod:`titans_seq.evaluation.data.derive`."""

    def __post_init__(self) -> None:
        """Refuse unsafe paths, malformed digests, and files that cannot be verified."""
        for name in (self.path, self.member, *self.also):
            if name is not None and not is_inside(name):
                raise ConfigError(f"path must be relative, with / and without .., got {name!r}")
        for digest, length in ((self.sha256, 64), (self.git_blob, 40)):
            if digest is not None and not re.fullmatch(f"[0-9a-f]{{{length}}}", digest):
                raise ConfigError(f"digest must be {length} hexadecimal digits, got {digest!r}")
        if not (self.sha256 or self.git_blob or self.check):
            raise ConfigError(f"{self.path}: give sha256, git_blob, or check (how to verify it)")
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ConfigError(f"url must begin with https:// or http://, got {self.url!r}")
        if self.url is not None and not (self.sha256 or self.git_blob):
            raise ConfigError(f"{self.path}: a file with a url needs sha256 or git_blob")
        if (self.made_from is None) != (self.made_by is None):
            raise ConfigError(f"{self.path}: made_from and made_by must be given together")


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Roles of the columns of a table of time series."""

    time: str
    """Time stamp of the row."""

    target: str | tuple[str, ...]
    """Columns to forecast: one, several of a wide table, or ``*``, all but the time."""

    id: str | None = None
    """Name of the series of a row; None for a table of one series, or a wide one."""

    step: str | None = None
    """Step between rows as a pandas frequency, if the stamps are unreliable: times are then counted
    from the first stamp, as the published protocols do."""

    static: tuple[str, ...] = ()
    """Constant within a series."""

    past: tuple[str, ...] = ()
    """Known only for the past."""

    future: tuple[str, ...] = ()
    """Known ahead."""

    other: tuple[str, ...] = ()
    """Not used by models."""

    season: int | None = None
    """Season of the seasonal naive control, in rows; chosen on the train rows if left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Competition:
    """Tables with one series a row; the test file has the values that follow the train file."""

    horizon: int
    """Number of values of each series in the test file."""

    season: int
    """Season in values, as the competition defines it; 1 for none."""

    def __post_init__(self) -> None:
        """Refuse counts below 1."""
        if self.horizon < 1 or self.season < 1:
            raise ConfigError(
                f"horizon and season must be at least 1, got {self.horizon} and {self.season}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """A list of regions of a genome, all of one class and one part."""

    file: str
    """Name of the list among the card's files; columns region, start, end and strand."""

    genome: str
    """Name of the genome among the card's files, a FASTA file."""

    part: Literal["train", "test"]
    """Part that its rows belong to."""

    label: str
    """Class of its rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A published or measured result on the data set."""

    model: str
    """Name of the model."""

    source: str
    """Publication, or how it was measured."""

    scores: Mapping[str, Any]
    """By metric, named as in our tables: a score, or scores by horizon with ``mean``."""

    remark: str | None = None
    """Caveats of a comparison: pre-training, leaks, another protocol."""

    comparable: bool = True
    """Whether it was measured by the same protocol as our scores."""

    def __post_init__(self) -> None:
        """Refuse scores that are not numbers, and incomparable ones without a reason."""
        for name, value in self.scores.items():
            for score in value.values() if isinstance(value, dict) else (value,):
                if isinstance(score, bool) or not isinstance(score, int | float):
                    raise ConfigError(f"{name} of {self.model} must be a number, got {score!r}")
        if not (self.comparable or self.remark):
            raise ConfigError(f"{self.model} is not comparable: give the reason in remark")

    def score(self, name: str, horizon: int | None = None) -> float | None:
        """Return one score; the mean of several horizons if none is named."""
        value = self.scores.get(name)
        if isinstance(value, dict):
            value = value.get("mean" if horizon is None else str(horizon))
        return None if value is None else float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetCard:
    """Card of a data set: source, terms, files, columns, split and published results."""

    name: str
    """Name of the card, the same as that of its file."""

    task: Literal["forecasting", "classification", "language", "recall"]
    """Task of the models that are trained on it."""

    summary: str
    """One or two sentences."""

    source: str
    """Authors, and where it was taken from."""

    url: str
    """Page of the source."""

    licence: str
    """Terms of use, an SPDX identifier if there is one."""

    citation: str
    """Publication to cite."""

    split_rule: str
    """Description of the split into train and test."""

    files: dict[str, DataFile]
    """Files by their role, such as ``train`` and ``test``."""

    metric: str | None = None
    """Main score; mse or accuracy if left out."""

    remarks: tuple[str, ...] = ()
    """Caveats for the interpretation of scores."""

    built_by: str | None = None
    """Script in the repository that builds the files from the source."""

    columns: Columns | None = None
    """Roles of the columns of a table of time series."""

    split: Split | None = None
    """Split by rows, if one file contains all parts."""

    intervals: tuple[Intervals, ...] = ()
    """Lists of genome regions, instead of tables of sequences."""

    raw: dict[str, DataFile] = field(default_factory=dict)
    """Files that others are derived from; recipes do not read them."""

    competition: Competition | None = None
    """Horizon and season, if the data set is a forecasting competition."""

    own: str | None = None
    """Name of the file that the user provides, by ``input`` of a recipe."""

    results: tuple[Result, ...] = ()
    """Results to compare with."""

    @property
    def main_metric(self) -> str:
        """Main score of tables."""
        return self.metric or ("mse" if self.task == "forecasting" else "accuracy")

    @property
    def by_horizon(self) -> bool:
        """Whether tables have a column for each horizon, instead of each metric."""
        return self.task == "forecasting" and self.competition is None


def is_inside(name: str) -> bool:
    """Return whether a relative path stays inside its starting folder, on any system."""
    parts = PurePosixPath(name).parts
    unsafe = "\\" in name or ":" in name or "\0" in name
    return bool(parts) and not unsafe and not name.startswith("/") and ".." not in parts
