"""The suite's own promise: a test on real data is not skipped where the data is there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

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


@pytest.mark.parametrize(("is_there", "failed"), [(True, 2), (False, 0)])
def test_skip_of_shared_test_fails_where_the_data_is_there(
    pytester: pytest.Pytester, is_there: bool, failed: int
) -> None:
    tests = pytester.mkdir("project") / "tests"
    tests.mkdir()
    (tests / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text("utf-8"), "utf-8")
    (tests / "test_suite.py").write_text(_SUITE, "utf-8")
    if is_there:
        (pytester.path / "shared" / "data").mkdir(parents=True)
    # In a process of its own, and without the plugins of napari and Qt, which take seconds to load.
    options = ("-p", "no:cacheprovider", "-p", "no:napari", "-p", "no:pytest-qt", "-p", "no:npe2")
    result = pytester.runpytest_subprocess(*options, "--override-ini=markers=shared", str(tests))
    result.assert_outcomes(failed=failed, skipped=3 - failed)
