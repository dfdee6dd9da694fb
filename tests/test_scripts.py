"""The set-up scripts: what they say and do where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the scripts look for libraries on Linux alone")


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder whose commands come before the system's: no library is known, and apt-get only writes down its work."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    _stub(folder, "ldconfig", "exit 0")
    _stub(folder, "apt-get", f'echo "$@" >> {tmp_path}/apt-get.log')
    return folder


def _stub(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    path.chmod(0o755)


def _run(
    script: str, *arguments: object, stubs: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    path = f"{stubs}:{os.environ['PATH']}" if stubs else os.environ["PATH"]
    return subprocess.run(
        [ROOT / "scripts" / script, *map(str, arguments)],
        env={**os.environ, "PATH": path, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_missing_libraries_are_named_where_they_may_not_be_installed(stubs: Path, tmp_path: Path) -> None:
    _stub(stubs, "id", "echo 1000")
    done = _run("system-libraries.sh", stubs=stubs)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for package in ("libgl1", "libegl1", "libxcb-cursor0", "libxkbcommon-x11-0", "libdbus-1-3", "sudo apt-get install"):
        assert package in done.stderr
    assert not (tmp_path / "apt-get.log").exists()


def test_missing_libraries_are_installed_where_they_may(stubs: Path, tmp_path: Path) -> None:
    _stub(stubs, "id", "echo 0")
    done = _run("system-libraries.sh", stubs=stubs)
    assert done.returncode == 0, done.stderr
    update, install = (tmp_path / "apt-get.log").read_text("utf-8").splitlines()
    assert update.startswith("update")
    assert install.startswith("install -y")
    assert {"libgl1", "libegl1", "libxcb-cursor0"} < set(install.split())


def test_what_is_there_is_left_alone(stubs: Path, tmp_path: Path) -> None:
    libraries = (
        "libGL.so.1 libEGL.so.1 libOpenGL.so.0 libGLX.so.0 libxkbcommon-x11.so.0 libxcb-cursor.so.0 libxcb-icccm.so.4 "
        "libxcb-image.so.0 libxcb-keysyms.so.1 libxcb-randr.so.0 libxcb-render-util.so.0 libxcb-shape.so.0 "
        "libxcb-xinerama.so.0 libxcb-xkb.so.1 libdbus-1.so.3 libfontconfig.so.1 libglib-2.0.so.0"
    )
    _stub(stubs, "ldconfig", f'for each in {libraries}; do echo "\t$each (libc6,x86-64) => /lib/$each"; done')
    for command in ("xvfb-run", "xauth"):
        _stub(stubs, command, "exit 0")
    _stub(stubs, "id", "echo 1000")
    done = _run("system-libraries.sh", stubs=stubs)
    # The drivers are looked for as files, which no stub can put in their place.
    assert not done.stderr or "libgl1-mesa-dri" in done.stderr.split("got none of: ")[1].split(" (")[0].split()
    assert not (tmp_path / "apt-get.log").exists()


def test_python_that_is_too_old_or_absent_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python2"
    _stub(tmp_path, "python2", 'if [ "$1" = --version ]; then echo Python 2.7.18; else exit 1; fi')
    for python in (str(old), str(tmp_path / "nowhere")):
        done = _run("environment.sh", tmp_path / "env", "constraints/constraints-py311.txt", PYTHON=python)
        assert done.returncode == 1
        assert "expected Python 3.11 to 3.13" in done.stderr
        assert not (tmp_path / "env").exists()


def test_constraints_pin_every_dependency() -> None:
    """Every requirement of the project is pinned, so that two installations are the same."""
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lines = (ROOT / "constraints" / "constraints-py311.txt").read_text("utf-8").splitlines()
    pins = {
        canonicalize_name(pin.name): pin
        for pin in (Requirement(line) for line in lines if line and not line.startswith("#"))
    }
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for group in project["project"]["optional-dependencies"].values():
        wanted += group
    for requirement in map(Requirement, wanted):
        if requirement.name == "napari-metastasis":
            continue
        (pinned,) = pins[canonicalize_name(requirement.name)].specifier
        assert pinned.operator == "=="
        assert requirement.specifier.contains(pinned.version), requirement


def test_the_tests_of_a_room_are_named() -> None:
    for room, tests in (("lesions", "tests/lesions"), ("storage", "tests/test_storage.py")):
        done = _run("room-tests.sh", room)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{tests}\n", "")
    done = _run("room-tests.sh", "attic")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "expected a room with tests in tests/, got attic" in done.stderr


def test_the_rooms_that_changed_are_found(tmp_path: Path) -> None:
    """In a repository of their own: a branch with a commit, a file that was edited and one that is new."""
    script, package = tmp_path / "scripts" / "room-tests.sh", tmp_path / "src" / "napari_metastasis"
    for folder in (script.parent, package / "attic", tmp_path / "tests" / "attic", tmp_path / "tests" / "cellar"):
        folder.mkdir(parents=True)
    script.write_text((ROOT / "scripts" / "room-tests.sh").read_text("utf-8"), "utf-8")
    for path in (package / "roof.py", package / "attic" / "beam.py", tmp_path / "tests" / "test_roof.py"):
        path.touch()

    def changed() -> list[str]:
        done = subprocess.run(["bash", script], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split()

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, timeout=60, capture_output=True)

    git("init", "--initial-branch", "main")
    git("add", "--all")
    git("commit", "--message", "all")
    assert changed() == []
    git("checkout", "-b", "branch")
    (package / "roof.py").write_text("changed", "utf-8")
    git("commit", "--all", "--message", "roof")
    assert changed() == ["tests/test_roof.py"]
    (package / "attic" / "beam.py").write_text("changed", "utf-8")
    (tmp_path / "tests" / "cellar" / "test_wine.py").touch()
    assert changed() == ["tests/attic", "tests/cellar", "tests/test_roof.py"]
