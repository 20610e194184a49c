"""Errors of this package, and their exit codes.

::

    TitansSeqError                    1   failed
    ├── ConfigError (ValueError)      3   bad recipe, configuration or setting
    │   └── BundleError               3   a damaged model folder, or none
    ├── DataError (ValueError)        4   bad data
    ├── MissingExtraError (ImportError)  5   a package of an optional extra is not installed
    ├── DeviceError (RuntimeError)    5   a device that is not available
    ├── MissingDataError (FileNotFoundError)  5   a data set that must be fetched first
    └── DivergedError (ArithmeticError)  6   training became non-finite

Each also derives from the builtin that callers expect, so ``except ValueError`` works. A message
names the file, record, row or field, what was wrong, and what is expected.
"""

from __future__ import annotations

from typing import ClassVar


class TitansSeqError(Exception):
    """Base of every error of this package."""

    exit_code: ClassVar[int] = 1


class ConfigError(TitansSeqError, ValueError):
    """A setting, configuration or recipe that cannot be used."""

    exit_code = 3


class BundleError(ConfigError):
    """A damaged model folder, or a folder that is not one."""


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
        Extra of titans-seq that installs it.
    """

    exit_code = 5

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(f"{module} is not installed: pip install 'titans-seq[{extra}]'")
        self.module = module
        self.extra = extra


class DeviceError(TitansSeqError, RuntimeError):
    """A device that is not available."""

    exit_code = 5


class MissingDataError(TitansSeqError, FileNotFoundError):
    """A data set that must be fetched, or put in place, first."""

    exit_code = 5


class DivergedError(TitansSeqError, ArithmeticError):
    """Training became non-finite; the last good weights were kept."""

    exit_code = 6
