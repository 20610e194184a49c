"""Every error this package raises on purpose, with the exit code of each.

::

    TitansSeqError                    1   failed
    ├── ConfigError (ValueError)      3   bad recipe, configuration or setting
    │   └── BundleError               3   a model folder that is not one, or is damaged
    ├── DataError (ValueError)        4   bad data
    ├── MissingExtraError (ImportError)  5   a package of an optional extra is not installed
    ├── DeviceError (RuntimeError)    5   a device that is not there
    ├── MissingDataError (FileNotFoundError)  5   a data set that must be fetched first
    └── DivergedError (ArithmeticError)  6   training became non-finite

Each derives also from the builtin that a caller would expect, so ``except ValueError``
goes on working. A message names the file, record, row or field, what was wrong, and what
would be right.
"""

from __future__ import annotations

from typing import ClassVar


class TitansSeqError(Exception):
    """Base of every error raised on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(TitansSeqError, ValueError):
    """A setting, configuration or recipe that cannot be used."""

    exit_code = 3


class BundleError(ConfigError):
    """A model folder that is not one, or is damaged."""


class DataError(TitansSeqError, ValueError):
    """Input data that cannot be used."""

    exit_code = 4


class MissingExtraError(TitansSeqError, ImportError):
    """A package of an optional extra is not installed.

    Parameters
    ----------
    module
        Name of the module that could not be imported.
    extra
        Extra of titans-seq that brings it.
    """

    exit_code = 5

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(f"{module} is not installed: pip install 'titans-seq[{extra}]'")
        self.module = module
        self.extra = extra


class DeviceError(TitansSeqError, RuntimeError):
    """A device that was asked for and is not there."""

    exit_code = 5


class MissingDataError(TitansSeqError, FileNotFoundError):
    """A data set that must be fetched, or put in place, first."""

    exit_code = 5


class DivergedError(TitansSeqError, ArithmeticError):
    """Training became non-finite; the last good weights were kept."""

    exit_code = 6
