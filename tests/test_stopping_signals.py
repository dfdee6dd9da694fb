"""Signals that end a command: which are heard, when, and what comes of them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from napari_metastasis.stopping import Stopped, held_back, let_through, stop_signals, stoppable, taken_as_interrupt

ALL = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


def act_and_wait(act) -> None:
    """Do something, and give a signal that is sent again the time to arrive."""
    act()
    time.sleep(5)


@pytest.mark.parametrize("number", ALL)
def test_each_signal_interrupts_and_is_known(number) -> None:
    before = signal.getsignal(number)
    with stoppable("") as stopped, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert stopped.status == 128 + number
    assert signal.getsignal(number) is before


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGHUP")
def test_a_closing_terminal_is_ignored_where_it_was_said_to_be() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable("") as stopped:
            signal.raise_signal(signal.SIGHUP)
        assert stopped.number == 0
        assert signal.SIGHUP not in stop_signals()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_in_a_callback_is_not_forgotten() -> None:
    class Callback:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with stoppable(""), pytest.raises(KeyboardInterrupt):
        act_and_wait(Callback)


def test_an_interrupt_waits_for_an_imports_end(tmp_path, monkeypatch) -> None:
    (tmp_path / "interrupted_module.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(0.1)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with stoppable(""), pytest.raises(KeyboardInterrupt):
        act_and_wait(lambda: importlib.import_module("interrupted_module"))
    assert sys.modules["interrupted_module"].whole


def test_a_second_signal_during_an_import_ends_the_process(tmp_path) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGTERM)\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(9)\n"
    )
    code = "from napari_metastasis.stopping import stoppable\nwith stoppable('gone\\n'): import slow_module"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "gone\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM from another process")
def test_another_signal_is_ctrl_c_to_a_library_that_knows_no_other() -> None:
    heard = []
    with stoppable("") as stopped:
        with taken_as_interrupt():
            before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
            os.kill(os.getpid(), signal.SIGTERM)
            signal.signal(signal.SIGINT, before)
        assert heard == [signal.SIGINT]
        assert stopped.number == signal.SIGTERM


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_leaves_it_to_the_one_that_forked_it() -> None:
    stopped = Stopped("said\n")
    stopped._process = -1
    stopped(signal.SIGINT, None)
    assert stopped.number == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs signal masks")
def test_signals_are_held_back_and_let_through() -> None:
    def send() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.number == 0
        let_through()

    with stoppable("") as stopped, pytest.raises(KeyboardInterrupt), held_back():
        act_and_wait(send)
    assert stopped.number == signal.SIGTERM
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


#: Interrupts a process where it begins to import a module.
_WHERE = """
import os, signal, sys
class Interrupt:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(Interrupt)
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Interrupt)
from napari_metastasis.cli import main
sys.argv = ["napari-metastasis", "models", "list"]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT from another process")
@pytest.mark.parametrize(
    ("module", "name", "status"),
    [
        ("napari_metastasis.cli.app", "SIGINT", 130),
        ("typer", "SIGINT", 130),
        ("numpy", "SIGINT", 130),
        ("napari_metastasis.models", "SIGINT", 130),
        ("torch", "SIGINT", 130),
        ("torch._C", "SIGTERM", 143),
    ],
)
def test_a_program_that_is_stopped_while_it_loads_says_one_line(module, name, status) -> None:
    code = textwrap.dedent(_WHERE).format(module=module, signal=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "napari-metastasis: stopped\n")
