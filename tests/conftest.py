"""Fixtures that every room's tests share, and two promises: no test leaves anything behind, none is skipped unseen."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, and no clock: a busy machine is no failure.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

#: Only Linux can be without a screen and still run everything else.
HAS_SCREEN = sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave windows out where there is no screen: Qt would end the whole run."""
    if not HAS_SCREEN:
        for item in items:
            if item.get_closest_marker("gui"):
                item.add_marker(pytest.mark.skip(reason="no screen; 'make test' brings a virtual one"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is skipped although what it needs is there: a check that never runs proves nothing."""
    report = yield
    uses_shared = item.get_closest_marker("shared") or "shared_data" in getattr(item, "fixturenames", ())
    needs_met = [
        name
        for name, needed, met in (
            ("the shared data folder", uses_shared, SHARED_DATA.is_dir()),
            ("a screen", item.get_closest_marker("gui"), HAS_SCREEN),
        )
        if needed and met
    ]
    if report.skipped and needs_met and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although {' and '.join(needs_met)} is there: {report.longrepr}"
    return report
