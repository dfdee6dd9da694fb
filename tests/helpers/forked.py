"""Runs commands of the program in forked processes, which share what takes seconds to load, and kills some of them.

    python forked.py PLAN

PLAN is a file of JSON: a list of ``[arguments, kill]``, run one after the other. Where ``kill`` is a number, the
command is killed after this share of the time that the first one took; where it is a path, as soon as that is there;
each time as ``kill -9`` kills, with all that the command began. For each command a line says how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def run_forked(folder: Path, plan: Sequence[tuple[Sequence[str], float | Path | None]]) -> list[int]:
    """Run a plan's commands in ``folder``, and return how each ended: its status, or less than 0 if a signal did it."""
    path = folder / "plan.json"
    path.write_text(json.dumps([(list(arguments), kill) for arguments, kill in plan], default=str), "utf-8")
    command = [sys.executable, __file__, path]
    ran = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    ended = [json.loads(line)["status"] for line in ran.stdout.splitlines() if line.startswith('{"status"')]
    assert len(ended) == len(plan), ran.stderr
    return ended


def main() -> None:
    """Run the commands of a plan."""
    import napari_metastasis.cli.app
    import napari_metastasis.training.train
    import napari_metastasis.workflows.retrain.run  # noqa: F401
    from napari_metastasis.cli import main as run

    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    whole = 0.0
    for arguments, kill in plan:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                _lead_a_group(0)
                run(arguments)
            except SystemExit as ended:
                os._exit(int(ended.code or 0))
            os._exit(70)
        _lead_a_group(child)
        status = _end(child, kill, began, whole)
        whole = whole or time.monotonic() - began
        sys.stdout.write(json.dumps({"status": status}) + "\n")
        sys.stdout.flush()


def _lead_a_group(process: int) -> None:
    """Let a process be killed with all that it begins; both sides ask for it, since either may come first."""
    with suppress(OSError):
        os.setpgid(process, process)


def _end(child: int, kill: float | str | None, began: float, whole: float) -> int:
    """Wait for a command, or kill it, and return how it ended."""
    if kill is not None:
        while not (os.path.exists(kill) if isinstance(kill, str) else time.monotonic() - began >= kill * whole):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
