"""Errors that a user can act on: what was expected, what came, what to do.

Every error of this package is a :class:`MetastasisError` and also the builtin that fits it, so that
``except ValueError`` and ``except OSError`` work as callers expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

__all__ = [
    "AnnotationError",
    "ClusterError",
    "CohortError",
    "CorruptSlideError",
    "DeviceError",
    "DeviceMemoryError",
    "DisplayError",
    "EvaluationError",
    "FluorescenceError",
    "MetastasisError",
    "MetastasisWarning",
    "MissingDependencyError",
    "MissingPixelSizeError",
    "ModelError",
    "NetworkError",
    "NotASlideError",
    "PassWarning",
    "PatchDatasetError",
    "RegionError",
    "ResolutionWarning",
    "ScanCancelledError",
    "SettingsError",
    "SlideError",
    "StagingError",
    "StainError",
    "StainWarning",
    "StorageError",
    "StorageWarning",
    "StoreInUseError",
    "TrainingError",
    "UnknownModelError",
    "WeightsError",
    "brief",
    "first_line",
    "in_one_line",
    "one_of_many",
]

#: Characters of a value that a message quotes.
_BRIEF = 80


class MetastasisError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes
    ----------
    for_window
        What a window says instead of the command line's "expected A, got B; remedy"; empty where that can be put into
        plain sentences as it is.
    """

    for_window: str = ""

    def in_window(self, text: str) -> Self:
        """Say how a window puts it, in plain sentences and without command-line options; return the error itself."""
        self.for_window = text
        return self


class SettingsError(MetastasisError, ValueError):
    """A setting lies outside its range."""


class RegionError(MetastasisError, ValueError):
    """A region is empty, or lies outside the slide."""


class SlideError(MetastasisError):
    """A slide cannot be used."""


class NotASlideError(SlideError, ValueError):
    """The file is no whole-slide image that this package reads."""


class CorruptSlideError(SlideError, OSError):
    """The file is a slide, but parts of it are missing or damaged."""


class NetworkError(SlideError, ConnectionError):
    """A slide behind a network cannot be reached, or not any more."""


class MissingPixelSizeError(SlideError, ValueError):
    """The slide does not state its pixel size, and none was supplied."""


class FluorescenceError(SlideError, ValueError):
    """The slide is a fluorescence image, on which H&E models mean nothing."""


class StainError(SlideError, ValueError):
    """Haematoxylin cannot be told from eosin: hardly anything is stained, or with one dye alone."""


class AnnotationError(MetastasisError, ValueError):
    """An annotation file cannot be read or written."""


class CohortError(MetastasisError, ValueError):
    """The slides and annotations to train or measure on do not fit together."""


class ModelError(MetastasisError, ValueError):
    """A model cannot be built or used as asked."""


class UnknownModelError(ModelError, LookupError):
    """No model has this name."""


class WeightsError(ModelError):
    """Stored weights are damaged or belong to another architecture."""


class DeviceError(MetastasisError, RuntimeError):
    """The device is absent or cannot do what was asked of it."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A piece of a scan does not fit the device's memory; a smaller one may."""


class ScanCancelledError(MetastasisError, RuntimeError):
    """A scan was stopped before its first piece; nothing is kept."""


class StorageError(MetastasisError, OSError):
    """Results cannot be written, or what was stored cannot be read back."""


class StoreInUseError(StorageError):
    """Another scan is writing the same results."""


class ClusterError(MetastasisError, RuntimeError):
    """The processes or machines that slides are to be scanned on cannot be had, or are gone."""


class PatchDatasetError(MetastasisError, ValueError):
    """A set of patches cannot be read."""


class TrainingError(MetastasisError, RuntimeError):
    """Training cannot go on."""


class EvaluationError(MetastasisError, ValueError):
    """Results cannot be scored against the reference."""


class StagingError(MetastasisError, ValueError):
    """A patient cannot be staged, or a table of stages cannot be understood."""


class DisplayError(MetastasisError, RuntimeError):
    """A window cannot open, because there is no screen."""


class MissingDependencyError(MetastasisError, ImportError):
    """An optional dependency is not installed."""


class MetastasisWarning(UserWarning):
    """Base of every warning of this package: the work goes on, but its results mean less."""


class StainWarning(MetastasisWarning):
    """A slide whose stain is far from what the model was trained on."""


class SlideWarning(MetastasisWarning):
    """A slide's file holds more than is read, or says of itself what cannot be so."""


class AnnotationWarning(MetastasisWarning):
    """An annotation file holds what is not understood beside what is."""


class ResolutionWarning(MetastasisWarning):
    """A slide is coarser than what a model was trained on."""


class StorageWarning(MetastasisWarning):
    """What a scan found is shown, but cannot be written."""


class PassWarning(MetastasisWarning):
    """A pass of a scan is left out, or made otherwise than asked for."""


def first_line(error: BaseException | str) -> str:
    """Return the first line of another library's error, for a message of our own; its kind where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Return an error for a list: one of this package as it is, any other one with its class, which says what it is."""
    if isinstance(error, MetastasisError):
        return str(error)
    kind, text = type(error).__name__, first_line(error)
    return f"unexpected {kind}" if text == kind else f"unexpected {kind}: {text}"


@contextmanager
def one_of_many(leave_out: Callable[[str], None]) -> Iterator[None]:
    """Let one slide of many fail without the others, whatever it raises.

    A stop passes, and so does a disk that takes no results: neither is the slide's own fault.

    Parameters
    ----------
    leave_out
        Told why, in one line.
    """
    try:
        yield
    except (ScanCancelledError, StorageError):
        raise
    # Readers of damaged files raise what they like: RuntimeError, MemoryError, struct.error, RecursionError.
    except Exception as error:  # noqa: BLE001
        leave_out(in_one_line(error))


def brief(value: object) -> str:
    """Return a value that somebody else wrote as one short line of printable characters, for a message of our own."""
    # Of a text no more than is shown: a cell may hold megabytes.
    text = " ".join(repr(value[: 2 * _BRIEF] if isinstance(value, str) else value).split())
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"
