"""Runs commands of the program in forked processes, which share what takes seconds to load, and kills some of them.

    python forked.py PLAN

PLAN is a file of JSON: a list of ``[arguments, kill]``, run one after the other. Where ``kill`` is a number, the
command is killed after this share of the time that the first one took, as ``kill -9`` kills. For each command a line
says how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


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
                run(arguments)
            except SystemExit as ended:
                os._exit(int(ended.code or 0))
            os._exit(70)
        if kill is not None:
            while time.monotonic() - began < kill * whole and os.waitpid(child, os.WNOHANG)[0] == 0:
                time.sleep(0.005)
            try:
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
            except (ProcessLookupError, ChildProcessError):
                status = 0
        else:
            _, status = os.waitpid(child, 0)
        whole = whole or time.monotonic() - began
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
