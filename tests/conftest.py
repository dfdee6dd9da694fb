"""Fixtures that every room's tests share, and two promises: no test leaves anything behind, none is skipped unseen."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

# One thread for each process, before anything loads OpenMP: networks this small spend their time waiting for a second
# thread, and two processes of tests keep two cores busy.
os.environ["OMP_NUM_THREADS"] = "1"
# Where there is no graphics card, windows are drawn by the processor: in the thread that waits for it.
os.environ["LP_NUM_THREADS"] = "0"

import pytest
from hypothesis import settings
from screens import VirtualScreen, can_open_screens

# The same examples in every run, and no clock: a busy machine is no failure.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

SCREENS = pytest.StashKey[list[VirtualScreen]]()


def has_screen() -> bool:
    """Say whether windows can open; only Linux can be without a screen and still run everything else."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def pytest_configure(config: pytest.Config) -> None:
    """Give this process a screen if it has none, or the one that the controller of pytest-xdist opened for it."""
    config.stash[SCREENS] = []
    given = getattr(config, "workerinput", {}).get("display")
    controls_others = config.getoption("dist", "no") != "no"
    if not given and not controls_others and not has_screen() and can_open_screens():
        given = _open_screen(config)
    if given:
        os.environ["DISPLAY"] = given
        os.environ.pop("WAYLAND_DISPLAY", None)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Open a screen for a worker of pytest-xdist."""
    if can_open_screens():
        node.workerinput["display"] = _open_screen(node.config)


def _open_screen(config: pytest.Config) -> str:
    screen = VirtualScreen.start()
    config.stash[SCREENS].append(screen)
    return screen.display


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the screens that were opened for the run."""
    for screen in config.stash.get(SCREENS, []):
        screen.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real slides and patches beside the checkout; tests skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the program remembers of this machine and its models, kept apart from what the user's own program keeps."""
    folder = tmp_path_factory.mktemp("user-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("user-data")))
        yield folder


def pytest_collection_finish() -> None:
    """Take what was imported out of the garbage collection that napari asks for after every window."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave windows out where there is no screen: Qt would end the whole run."""
    if not has_screen():
        for item in items:
            if item.get_closest_marker("gui"):
                item.add_marker(pytest.mark.skip(reason="no screen; install Xvfb for a virtual one"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is skipped although what it needs is there: a check that never runs proves nothing."""
    report = yield
    uses_shared = item.get_closest_marker("shared") or "shared_data" in getattr(item, "fixturenames", ())
    needs_met = [
        name
        for name, needed, met in (
            ("the shared data folder", uses_shared, SHARED_DATA.is_dir()),
            ("a screen", item.get_closest_marker("gui"), has_screen()),
        )
        if needed and met
    ]
    if report.skipped and needs_met and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although {' and '.join(needs_met)} is there: {report.longrepr}"
    return report
