"""What a retraining is at, in a file of its run folder: whoever looks on needs no pipe to it, and may come later."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_metastasis.errors import TrainingError
from napari_metastasis.partials import LOCK_HELD, lock, lock_within
from napari_metastasis.plain_json import parse_json
from napari_metastasis.storage import storage_errors

__all__ = ["CANCEL", "PROGRESS", "STOP", "ProgressBar", "RunLog", "RunState", "is_at_work", "read_run_log"]

#: Files of a run folder: what it is at; one that asks it to end and to keep what was learnt; and one that asks it to
#: end.
PROGRESS, STOP, CANCEL = "progress.jsonl", "stop", "cancel"
#: Locked while a run is at work: the system takes it back when its process ends, whatever ends it.
_LOCK = ".run.lock"
_BETWEEN_S = 0.5
#: Whoever looks whether a run is at work holds the lock for a moment.
_WAIT_S = 5.0

#: Shows a step, by its title and unit, and yields what is called with (done, total).
ProgressBar = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]


class RunLog:
    """Writes what a run is at, and asks whether it is to end.

    Parameters
    ----------
    folder
        The run folder, which is there.
    show
        Shows each step to whoever began the run.
    should_stop
        Whether they ask it to end.
    deadline
        By ``time.monotonic``.

    Raises
    ------
    TrainingError
        If another process is at work on the run.
    StorageError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, show: ProgressBar, should_stop: Callable[[], bool], deadline: float) -> None:
        self._path, self._show = folder / PROGRESS, show
        self._stop, self._cancel = folder / STOP, folder / CANCEL
        self._asked, self.deadline = should_stop, deadline
        with storage_errors(self._stop):
            self._lock: int | None = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not lock_within(self._lock, _WAIT_S):
                    raise TrainingError(
                        f"expected to be the only retraining in {folder}, but another one is at work there; wait until "
                        "it ends, or choose another --output"
                    )
                # Of an earlier start.
                self._stop.unlink(missing_ok=True)
                self._cancel.unlink(missing_ok=True)
            except BaseException:
                self.close()
                raise
        self.tell(begun=True)

    def close(self) -> None:
        """Let others work on the run; a second call does nothing."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    @property
    def is_cancelled(self) -> bool:
        """Return whether nobody wants what it has learnt."""
        return self._cancel.exists()

    def should_stop(self) -> bool:
        """Return whether somebody asked it to end."""
        return self._asked() or self._stop.exists() or self.is_cancelled

    def is_late(self) -> bool:
        """Return whether it is to end: asked for, or for want of time."""
        return self.should_stop() or time.monotonic() >= self.deadline

    def tell(self, **values: Any) -> None:
        """Add a line."""
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": round(time.time(), 2), **values}) + "\n")

    @contextmanager
    def step(self, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        """Show a step, and write how far it is, not too often."""
        told = 0.0

        with self._show(title, unit) as shown:

            def progress(done: int, total: int) -> None:
                nonlocal told
                shown(done, total)
                if done == total or time.monotonic() - told >= _BETWEEN_S:
                    told = time.monotonic()
                    self.tell(step=title, done=done, total=total, left_s=round(max(0.0, self.deadline - told), 1))

            yield progress


def is_at_work(folder: Path) -> bool:
    """Return whether a process is at work on a run; on a disk that knows no locks, no."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        lock(descriptor)
    except OSError as error:
        return error.errno in LOCK_HELD
    finally:
        os.close(descriptor)
    return False


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run folder says that its run is at.

    Attributes
    ----------
    step
        The step that it said last; empty before the first.
    done, total
        How far it is.
    left_s
        Seconds of its budget that were left then.
    at
        When it said so, in seconds since 1970.
    epochs
        Figures of each epoch so far.
    ended
        Weights of the new model; ``None`` while there are none.
    failed
        Why it ended without any; empty where it did not.
    """

    step: str = ""
    done: int = 0
    total: int = 0
    left_s: float = 0.0
    at: float = 0.0
    epochs: tuple[Mapping[str, float], ...] = field(default=())
    ended: Path | None = None
    failed: str = ""


def read_run_log(folder: Path) -> RunState:
    """Return what the last start of a run says that it is at; a line that is being written is not read yet.

    Raises
    ------
    StorageError
        If the file cannot be read.
    """
    path = folder / PROGRESS
    if not path.exists():
        return RunState()
    with storage_errors(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    state = RunState()
    epochs: list[Mapping[str, float]] = []
    for line in text.splitlines():
        try:
            told = parse_json(line.encode())
        except ValueError:
            continue
        if not isinstance(told, dict) or not isinstance(told.get("at"), int | float):
            continue
        if told.get("begun"):
            # Epochs go on where they stopped, all else anew.
            state = RunState(at=told["at"])
        elif isinstance(told.get("epoch"), int):
            epochs = [one for one in epochs if one["epoch"] != told["epoch"]] + [
                {name: value for name, value in told.items() if name != "at"}
            ]
        elif isinstance(told.get("ended"), str):
            state = RunState(at=told["at"], ended=folder / told["ended"])
        elif isinstance(told.get("failed"), str):
            state = RunState(at=told["at"], failed=told["failed"])
        elif isinstance(told.get("step"), str) and {"done", "total", "left_s"} <= told.keys():
            state = RunState(told["step"], told["done"], told["total"], told["left_s"], told["at"])
    return RunState(
        state.step, state.done, state.total, state.left_s, state.at, tuple(epochs), state.ended, state.failed
    )
