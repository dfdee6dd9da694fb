"""Runs work off the GUI thread, and turns the core's generators into Qt signals."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject, QTimer, Signal

from napari_metastasis._napari.priority import give_way
from napari_metastasis._napari.words import for_window
from napari_metastasis.errors import MetastasisError

__all__ = ["OneWorker", "ShouldStop", "Work", "Worker", "Workers", "explain", "tell"]

ShouldStop = Callable[[], bool]
#: A function or generator function that returns, and may yield, what it finds; its argument tells it to stop.
Work = Callable[[ShouldStop], Any]

#: What a worker yields reaches the window at most this often: faster is not seen, and costs frames.
_REFRESH_MS = 150
#: How often a worker is looked at; short, so that short work does not feel long.
_POLL_MS = 20


class Worker(QObject):
    """Runs work in a thread of its own and reports on the GUI thread.

    A timer of the GUI thread fetches the results; the thread itself emits nothing, so that no signal can reach an
    object that is gone.

    Parameters
    ----------
    work
        What to run.
    name
        Of the thread, for debuggers.
    parent
        Qt parent.
    urgent
        Whether it is short and a person waits for it; other work runs at a lower priority.
    """

    #: A tuple of everything yielded since the last time.
    yielded = Signal(object)
    #: What the work returned; also after it was asked to stop.
    succeeded = Signal(object)
    #: The exception that ended it.
    failed = Signal(object)
    #: Always last, whatever the end was.
    ended = Signal()

    def __init__(self, work: Work, *, name: str, parent: QObject | None = None, urgent: bool = False) -> None:
        super().__init__(parent)
        self._work = work
        self._stop = threading.Event()
        self._fresh: deque[Any] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=None if urgent else give_way)
        self._future: Future[Any] | None = None
        self._polls = 0
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._poll)

    def start(self) -> Future[Any]:
        """Start, once, and return what will hold the result: for other threads, which hear no signals."""
        self._future = self._pool.submit(self._run)
        self._pool.shutdown(wait=False)
        self._timer.start()
        return self._future

    def _run(self) -> Any:
        found = self._work(self._stop.is_set)
        while isinstance(found, Generator):
            try:
                self._fresh.append(next(found))
            except StopIteration as end:
                return end.value
        return found

    @property
    def stopping(self) -> bool:
        """Return whether the work was asked to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the work to end soon. It still reports."""
        self._stop.set()

    def abandon(self) -> None:
        """Ask the work to end, and report nothing more."""
        self._stop.set()
        self.let_go()

    def let_go(self) -> None:
        """Report nothing more; the work goes on to its end."""
        self._timer.stop()

    def wait(self, seconds: float | None) -> bool:
        """Wait for the thread, at most so long; return whether it ended in time."""
        if self._future is None:
            return True
        try:
            self._future.exception(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def _poll(self) -> None:
        assert self._future is not None
        done = self._future.done()
        self._polls += 1
        if self._fresh and (done or self._polls * _POLL_MS >= _REFRESH_MS):
            self._polls = 0
            fresh = [self._fresh.popleft() for _ in range(len(self._fresh))]
            self.yielded.emit(tuple(fresh))
        if not done or not self._timer.isActive():
            return
        self._timer.stop()
        error = self._future.exception()
        if error is None:
            self.succeeded.emit(self._future.result())
        else:
            self.failed.emit(error)
        self.ended.emit()


class Workers(QObject):
    """The workers that are at work for one thing, to be ended together.

    Parameters
    ----------
    parent
        Qt parent.
    """

    #: The exception that ended one of them.
    failed = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.running: list[Worker] = []

    def make(self, work: Work, show: Callable[[Any], None], *, name: str, urgent: bool = False) -> Worker:
        """Return a worker, to be started, whose result is shown; see :class:`Worker`."""
        worker = Worker(work, name=name, parent=self, urgent=urgent)
        worker.succeeded.connect(show)
        worker.failed.connect(self.failed)
        worker.ended.connect(lambda: self.running.remove(worker))
        self.running.append(worker)
        return worker

    def run(
        self,
        work: Work,
        show: Callable[[Any], None],
        *,
        name: str,
        urgent: bool = False,
        end: Callable[[], None] | None = None,
    ) -> Future[Any]:
        """Start a worker, and return what will hold its result.

        Parameters
        ----------
        work, name, urgent
            As :class:`Worker` takes them.
        show
            Takes the result, on the GUI thread.
        end
            Called at its end, whatever that is.
        """
        worker = self.make(work, show, name=name, urgent=urgent)
        if end is not None:
            worker.ended.connect(end)
        return worker.start()


class OneWorker(QObject):
    """At most one worker, for work of which only the latest counts.

    Parameters
    ----------
    name
        Of its thread, for debuggers.
    parent
        Qt parent.
    """

    #: The exception that ended one.
    failed = Signal(object)
    #: One ended, whatever its end was, and another may begin.
    ended = Signal()

    def __init__(self, name: str, parent: QObject) -> None:
        super().__init__(parent)
        self._name = name
        self._worker: Worker | None = None

    @property
    def running(self) -> bool:
        """Return whether one is at work."""
        return self._worker is not None

    def run(self, work: Work, show: Callable[[Any], None], *, urgent: bool = False) -> None:
        """Start one, whose result is shown; none may be at work. See :class:`Worker`."""
        assert self._worker is None, "one at a time"
        worker = Worker(work, name=self._name, parent=self, urgent=urgent)
        worker.succeeded.connect(show)
        worker.failed.connect(self.failed)
        worker.ended.connect(self._on_ended)
        self._worker = worker
        worker.start()

    def stop(self) -> Worker | None:
        """Forget the one that is at work, and return it."""
        worker, self._worker = self._worker, None
        return worker

    def _on_ended(self) -> None:
        self._worker = None
        self.ended.emit()


def explain(error: BaseException) -> str:
    """Return one line for a person: what happened, and what to do in the window."""
    if isinstance(error, MetastasisError):
        return error.for_window or for_window(str(error))
    if isinstance(error, MemoryError):
        return "There is not enough memory left. Close other programs, or scan a smaller region."
    last = " ".join(traceback.format_exception_only(error)[-1].split())
    return f"Something unexpected happened ({last}). The notification holds the details to report."


def tell(error: BaseException) -> str:
    """Return a failure's one line, for the panel; a defect of the program is shown as a napari notification as well."""
    if not isinstance(error, MetastasisError | MemoryError):
        # With the traceback behind a button: whoever reports the defect needs it.
        notification_manager.receive_error(type(error), error, error.__traceback__)
    return explain(error)
