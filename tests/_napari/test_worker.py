"""Work beside the window."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from napari.utils.notifications import notification_manager

from napari_metastasis._napari.priority import niceness_left
from napari_metastasis._napari.worker import Worker, explain, tell
from napari_metastasis.errors import RegionError, StorageError

pytestmark = pytest.mark.gui


def test_everything_arrives_on_the_gui_thread_and_in_order(qtbot) -> None:
    def work(_):
        yield from range(1000)
        return threading.current_thread().name

    worker = Worker(work, name="counting")
    got, threads = [], set()
    worker.yielded.connect(lambda items: (got.extend(items), threads.add(threading.current_thread())))
    with qtbot.waitSignals([worker.succeeded, worker.ended], order="strict") as caught:
        worker.start()
    assert got == list(range(1000))
    assert threads == {threading.main_thread()}
    assert caught.all_signals_and_args[0].args[0].startswith("counting")
    assert worker.wait(0)


def test_failure_is_handed_over(qtbot) -> None:
    def work(_):
        yield 1
        raise RegionError("expected a region on the slide,\n got none; choose one")

    worker = Worker(work, name="failing")
    with qtbot.waitSignal(worker.failed) as caught:
        worker.start()
    assert explain(caught.args[0]) == "There is no region on the slide. Choose one."
    assert "report" in explain(KeyError("x"))


def test_only_a_defect_of_the_program_is_a_notification_with_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[BaseException] = []
    monkeypatch.setattr(notification_manager, "receive_error", lambda _, error, __: got.append(error))
    for error in (RegionError("expected a region, got none; choose one"), MemoryError()):
        assert tell(error) == explain(error)
    assert got == []
    defect = KeyError("x")
    assert tell(defect) == explain(defect)
    assert got == [defect]


def test_stop_and_abandon(qtbot) -> None:
    def work(should_stop):
        yield from ()
        while not should_stop():
            threading.Event().wait(0.005)
        return "stopped"

    worker = Worker(work, name="waiting")
    with qtbot.waitSignal(worker.succeeded) as caught:
        worker.start()
        worker.stop()
    assert caught.args == ["stopped"]
    silent = Worker(work, name="waiting")
    silent.start()
    heard = []
    silent.ended.connect(lambda: heard.append(True))
    silent.abandon()
    assert silent.wait(10)
    qtbot.wait(100)
    assert not heard


def test_remedies_name_what_the_panel_has() -> None:
    error = StorageError("expected to write /slides/a, got no permission; choose another folder with --output")
    assert explain(error).endswith("Choose another folder under Advanced › Folder.")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
@pytest.mark.parametrize("urgent", [False, True])
def test_a_process_gives_way_once_whoever_starts_it(qtbot, urgent: bool) -> None:
    def work(_):
        code = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
        command = ["nice", "-n", str(niceness_left()), sys.executable, "-c", code]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    worker = Worker(work, name="starting", urgent=urgent)
    with qtbot.waitSignal(worker.succeeded) as caught:
        worker.start()
    assert caught.args[0] == min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + 5)
