"""The suite's own promises: no test is skipped where what it needs is there, and every process has a screen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from screens import can_open_screens

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent

_SUITE = """
import pytest

@pytest.mark.shared
def test_marked():
    pytest.skip("for no good reason")

def test_that_takes_the_folder(shared_data):
    pytest.skip("for no good reason")

def test_of_something_else():
    pytest.skip("for a good reason")
"""

_WINDOWS = """
import os
from pathlib import Path

import pytest

@pytest.mark.gui
@pytest.mark.parametrize("number", range(6))
def test_window(number, request):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    (request.config.rootpath / f"screen-of-{worker}").write_text(os.environ["DISPLAY"])
    if number == 5:
        pytest.skip("for no good reason")
"""

ONE_PROCESS, TWO_PROCESSES = ("-p", "no:cacheprovider"), ("-p", "no:cacheprovider", "-p", "xdist", "-n", "2")


@pytest.fixture
def run_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run tests of their own under the suite's ``conftest.py``, without other plugins, which take seconds to load."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(tests: str, *options: str) -> pytest.RunResult:
        folder = pytester.mkdir("project") / "tests"
        folder.mkdir()
        (folder / "conftest.py").write_text((HERE / "conftest.py").read_text("utf-8"), "utf-8")
        (folder / "test_suite.py").write_text(tests, "utf-8")
        settings = f"[pytest]\npythonpath = {HERE / 'helpers'}\nmarkers =\n  shared\n  gui\n"
        (folder.parent / "pytest.ini").write_text(settings, "utf-8")
        return pytester.runpytest_subprocess(*options, str(folder))

    return run


@pytest.mark.parametrize("processes", [ONE_PROCESS, TWO_PROCESSES], ids=["alone", "two"])
@pytest.mark.parametrize(("is_there", "failed"), [(True, 2), (False, 0)])
def test_skip_of_shared_test_fails_where_the_data_is_there(
    pytester: pytest.Pytester, run_suite, is_there: bool, failed: int, processes: tuple[str, ...]
) -> None:
    if is_there:
        (pytester.path / "shared" / "data").mkdir(parents=True)
    result = run_suite(_SUITE, *processes)
    result.assert_outcomes(failed=failed, skipped=3 - failed)


@pytest.mark.skipif(not can_open_screens(), reason="needs Xvfb")
@pytest.mark.parametrize("processes", [ONE_PROCESS, TWO_PROCESSES], ids=["alone", "two"])
def test_every_process_has_a_screen_of_its_own(
    pytester: pytest.Pytester, run_suite, monkeypatch: pytest.MonkeyPatch, processes: tuple[str, ...]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    # The window's test that is skipped although there is a screen fails.
    run_suite(_WINDOWS, *processes).assert_outcomes(passed=5, failed=1)
    screens = [path.read_text("utf-8") for path in (pytester.path / "project").glob("screen-of-*")]
    assert len(set(screens)) == len(screens) == (2 if processes is TWO_PROCESSES else 1)
    for screen in screens:
        assert not os.path.exists(f"/tmp/.X11-unix/X{screen[1:]}"), "its server goes on"


def test_windows_are_left_out_where_there_is_no_screen(run_suite, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    run_suite(_WINDOWS, *ONE_PROCESS).assert_outcomes(skipped=6)


def test_networks_run_in_one_thread() -> None:
    import torch

    assert torch.get_num_threads() == 1
