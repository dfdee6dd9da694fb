"""Output of the commands: results on standard output, everything else on standard error.

All text passes here on its way out, and what a terminal would obey, or no encoding holds, leaves as an escape.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from napari_metastasis.cli.readable import readable, readable_json
from napari_metastasis.errors import MetastasisWarning, StorageError
from napari_metastasis.stopping import Stopped, handled, stop_signals
from napari_metastasis.storage import storage_errors

__all__ = [
    "Progress",
    "note",
    "note_lines",
    "quiet_libraries",
    "say",
    "say_json",
    "say_table",
    "show_progress",
    "show_slides",
    "stop_on_interrupt",
]

#: Told (done, total), as the core's long jobs report.
Progress = Callable[[int, int], None]

_PACKAGE = __name__.partition(".")[0]
#: How a logger handles a line.
_Handle = Callable[[logging.Logger, logging.LogRecord], None]

#: Letters of a column of text that are left beside a name that is not wrapped.
_LEAST_TEXT = 6

#: Seconds between two lines of progress where standard error is a file.
_LINE_EVERY_S = 30.0
#: Seconds of what rates are counted over.
_SECONDS = {"s": 1.0, "min": 60.0}


def say(text: str) -> None:
    """Write a result to standard output, in one line: never wrapped, so that a path can be copied."""
    _write(readable(text, sys.stdout) + "\n")


def note(text: str) -> None:
    """Write one line to standard error, under the program's name."""
    # A message that quotes a library's own may hold line breaks; a failure is one line all the same.
    sys.stderr.write(f"napari-metastasis: {readable(' '.join(text.split()), sys.stderr)}\n")


def note_lines(text: str) -> None:
    """Write many lines to standard error, such as a traceback."""
    sys.stderr.writelines(f"{readable(line, sys.stderr)}\n" for line in text.split("\n"))


def say_json(values: Mapping[str, Any]) -> None:
    """Write one JSON object to standard output; whatever would be escaped in a line is, as JSON escapes it."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    _write(readable_json(text, sys.stdout) + "\n")


def _write(text: str) -> None:
    """Write to standard output at once: what is held back would be lost with a crash while the process shuts down."""
    try:
        with storage_errors("standard output"):
            sys.stdout.write(text)
            sys.stdout.flush()
    except StorageError as error:
        # What Python still holds back goes nowhere: at its end, it would complain once more.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            # Whoever read it, such as 'head', has seen enough.
            raise SystemExit(1) from None
        raise


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Write a table to standard output; columns of numbers are set flush right."""
    # Without upright lines: it fits a narrow terminal, and reads well in a file.
    table = Table(title=readable(title, sys.stdout) or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    rows = [[readable(cell, sys.stdout) for cell in row] for row in rows]
    # Made for each table, since standard output may have been redirected.
    console = Console(highlight=False, markup=False, emoji=False)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    numbers = [bool(rows) and all(_is_number(row[position]) for row in rows) for position in range(len(columns))]
    # The first column names the row: not wrapped, it can be copied. Unless that leaves no room for the numbers.
    text = [position > 0 and not is_number for position, is_number in enumerate(numbers)]
    needed = sum(3 + (min(width, _LEAST_TEXT) if one else width) for width, one in zip(widths, text, strict=True))
    whole = needed <= console.width
    for position, (column, is_number) in enumerate(zip(columns, numbers, strict=True)):
        table.add_column(
            column,
            justify="right" if is_number else "left",
            no_wrap=is_number or (position == 0 and whole),
            overflow="ellipsis" if whole else "fold",
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _write("")


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").isdigit()


@contextmanager
def show_progress(title: str, *, unit: str, scale: float = 1.0, per: Literal["s", "min"] = "s") -> Iterator[Progress]:
    """Yield a function that shows a job's progress, its rate and the time left, on standard error.

    On a terminal it is a bar that disappears at the end; elsewhere a line every half minute.

    Parameters
    ----------
    title
        What is being done.
    unit
        What the rate counts.
    scale
        Units in one step of the job.
    per
        Whether the rate is per second, or per minute where steps are slow.
    """
    title = readable(title, sys.stderr)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        yield _lines(title, f"{unit}/{per}", scale * _SECONDS[per])
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    unit, scale = f"{unit}/{per}", scale * _SECONDS[per]
    rate = TextColumn("{task.fields[rate]}")
    # A column does not ask the console whether brackets are markup.
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), TaskProgressColumn(), rate, TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, rate="")
        first: list[tuple[int, float]] = []

        def advance(done: int, total: int) -> None:
            # What an earlier scan finished took no time of this one, and what comes before the work is no part of it.
            first.append((done, time.monotonic())) if not first else None
            ((before, started),) = first
            seconds = time.monotonic() - started
            rate = f"{(done - before) * scale / seconds:,.1f} {unit}" if seconds > 0 and done > before else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield advance


def show_slides(title: str) -> AbstractContextManager[Progress]:
    """Show the progress of a job over a cohort, which counts in parts of slides."""
    from napari_metastasis.workflows.scan.batch import PARTS_OF_A_SLIDE

    return show_progress(title, unit="slides", scale=1 / PARTS_OF_A_SLIDE, per="min")


def _lines(title: str, unit: str, scale: float) -> Progress:
    started = last = 0.0
    first: int | None = None

    def advance(done: int, total: int) -> None:
        nonlocal started, last, first
        now = time.monotonic()
        if first is None:
            # To load models, and to start workers, is no part of the rate.
            first, started, last = done, now, now
        if now - last < _LINE_EVERY_S or done <= first:
            return
        last = now
        rate = (done - first) / (now - started)
        left = (total - done) / rate
        note(f"{title}: {done / total:.0%}, {rate * scale:,.1f} {unit}, {left / 60:.0f} min left")

    return advance


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether the process was asked to end; a second Ctrl-C ends it at once."""
    asked = False
    above = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal asked
        if isinstance(above, Stopped):
            above.hear(number)
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    with handled(stop_signals(), stop):
        yield lambda: asked


@contextmanager
def quiet_libraries(*, quiet: bool) -> Iterator[None]:
    """Keep other libraries' warnings and log lines off standard error, since no user can act on them.

    Warnings of this package, raised or logged, are one line each, as errors are.
    """
    # torch's C++ side reads this once, when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR" if quiet else "WARNING")
    own, notes, handle = logging.getLogger(_PACKAGE), _Notes(logging.WARNING), logging.Logger.handle
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
            # Not by logging.disable, which makes no exceptions, nor by levels and handlers, which torch and Lightning
            # set when they are imported.
            logging.Logger.handle = _only_own(handle)  # type: ignore[assignment, method-assign]
        warnings.simplefilter("always", MetastasisWarning)
        warnings.showwarning = partial(_show_warning, warnings.showwarning)
        own.addHandler(notes)
        try:
            yield
        finally:
            own.removeHandler(notes)
            logging.Logger.handle = handle  # type: ignore[method-assign]


class _Notes(logging.Handler):
    """Shows log lines as notes, without origin and traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def _only_own(handle: _Handle) -> _Handle:
    """Return a way to handle log lines that drops those of other packages."""

    def handle_own(logger: logging.Logger, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == _PACKAGE:
            handle(logger, record)

    return handle_own


def _show_warning(
    other: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any, **more: Any
) -> None:
    if issubclass(category, MetastasisWarning):
        note(str(message))
    else:
        other(message, category, *where, **more)
