"""``evaluate`` again, after it was killed or the disk was full at any moment: what an undisturbed run leaves."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from cli.conftest import Answer, Run
from napari_metastasis.cli import main


@pytest.fixture
def folder(detections: Path) -> Path:
    """A tumour slide and a normal slide, each with its mask."""
    (detections / "b_mask.png").write_bytes(imagecodecs.png_encode(np.zeros((60, 70), np.uint8)))
    return detections


def command(folder: Path, output: Path) -> list[object]:
    return ["evaluate", "--detections", folder, "--truth", folder, "--output", output, "--json"]


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.fixture
def undisturbed(here: Run, folder: Path, tmp_path: Path) -> tuple[Answer, dict[str, bytes]]:
    answer = here(*command(folder, tmp_path / "undisturbed"))
    assert answer.status == 0
    assert answer.err == ""
    return answer, files(tmp_path / "undisturbed")


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_disk_that_is_full_at_any_write_is_no_obstacle_afterwards(
    here: Run, folder: Path, tmp_path: Path, undisturbed: tuple[Answer, dict[str, bytes]], call: str
) -> None:
    output, whole, failed = tmp_path / "out", getattr(os, call), 0
    for number in range(20):
        count = 0

        def full(path: Any, *rest: Any, until: int = number, **more: Any) -> Any:
            nonlocal count
            if call != "open" or str(path).startswith(str(output)):
                count += 1
                if count > until:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return whole(path, *rest, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, full)
            answer = here(*command(folder, output))
        if answer.status == 0:
            break
        answer.fails_with("a full disk; free some space")
        failed += 1
    assert failed >= 2
    again = here(*command(folder, output))
    assert (again.status, again.out, files(output)) == (0, *said_and_written(undisturbed))
    assert again.err == f"napari-metastasis: the same report lies in {output} already; nothing was written\n"


def said_and_written(undisturbed: tuple[Answer, dict[str, bytes]]) -> tuple[str, dict[str, bytes]]:
    answer, written = undisturbed
    return answer.out, written


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
@pytest.mark.parametrize("moment", ["fsync 1", "replace 1", "replace 2", "after replace 1"])
def test_a_process_that_was_killed_at_any_moment_is_no_obstacle(
    here: Run, folder: Path, tmp_path: Path, undisturbed: tuple[Answer, dict[str, bytes]], moment: str
) -> None:
    output = tmp_path / "out"
    *after, call, number = moment.split()

    def die() -> None:
        whole, count = getattr(os, call), 0

        def dying(*arguments: Any) -> None:
            nonlocal count
            count += 1
            if count == int(number) and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            whole(*arguments)
            if count == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(os, call, dying)
        main([str(argument) for argument in command(folder, output)])

    killed = multiprocessing.get_context("fork").Process(target=die)
    killed.start()
    killed.join(240)
    assert killed.exitcode == -signal.SIGKILL
    assert any(output.iterdir())
    again = here(*command(folder, output))
    assert (again.status, again.err) == (0, "")
    # Nor is anything of it left behind.
    assert (again.out, files(output)) == said_and_written(undisturbed)
